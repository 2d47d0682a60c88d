//! The script that counts in Redis: its arguments and its answer.

use redis::{Cmd, Script, Value};
use smallvec::SmallVec;

use crate::limits::policy::{Limit, RateLimit};
use crate::limits::window::{Algorithm, Nanos, Rule};

/// Values for each limit in the script's arguments.
const ARGUMENTS: usize = 9;
/// Values for each limit in its answer.
const ANSWERS: usize = 4;

/// The script, with its hash.
pub(super) struct LimitScript {
    script: Script,
}

/// What to ask of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Units without which nobody gets any.
    pub(super) need: u32,
    /// Units to take if they are to be had.
    pub(super) want: u32,
    /// Beyond `need`, at most what is free divided by this is taken.
    pub(super) divisor: u32,
}

/// What Redis said of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) units: u32,
    /// Units left in Redis.
    pub(super) left: u32,
    /// Until more (or enough) units can be had.
    pub(super) wait: Nanos,
    /// There were not enough.
    pub(super) lacked: bool,
}

/// The answer to one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// The server's clock, in microseconds.
    pub(super) now_us: u64,
    pub(super) grants: Vec<Grant>,
}

impl LimitScript {
    pub(super) fn new() -> Self {
        Self { script: Script::new(include_str!("limits.lua")) }
    }

    /// The command that runs the script by its hash, for a server that has loaded it.
    pub(super) fn by_hash(&self, arguments: &Arguments) -> Cmd {
        let mut cmd = Cmd::with_capacity(4 + arguments.values.len(), 64 + 16 * arguments.values.len());
        cmd.arg("EVALSHA").arg(self.script.get_hash());
        arguments.write(&mut cmd);
        cmd
    }

    /// The command that runs and loads it: for a server that has lost it.
    pub(super) fn by_text(arguments: &Arguments) -> Cmd {
        let mut cmd = redis::cmd("EVAL");
        cmd.arg(include_str!("limits.lua"));
        arguments.write(&mut cmd);
        cmd
    }

    /// The command that loads it.
    pub(super) fn load() -> Cmd {
        let mut cmd = redis::cmd("SCRIPT");
        cmd.arg("LOAD").arg(include_str!("limits.lua"));
        cmd
    }
}

/// The arguments of one call.
#[derive(Debug, Clone)]
pub(super) struct Arguments {
    key: String,
    action: &'static str,
    values: SmallVec<[u64; 2 * ARGUMENTS]>,
}

impl Arguments {
    fn new(prefix: &str, key: &str, action: &'static str) -> Self {
        // The braces make the client's part alone decide on a Cluster's slot.
        Self { key: format!("{prefix}:{{{key}}}"), action, values: SmallVec::new() }
    }

    /// Adds the keys and arguments to a command, number by number: nothing is written down in between.
    fn write(&self, cmd: &mut Cmd) {
        cmd.arg(1).arg(&self.key).arg(self.action);
        for number in &self.values {
            cmd.arg(*number);
        }
    }

    pub(super) fn take(prefix: &str, key: &str) -> Self {
        Self::new(prefix, key, "take")
    }

    pub(super) fn give(prefix: &str, key: &str) -> Self {
        Self::new(prefix, key, "give")
    }

    pub(super) fn show(prefix: &str, key: &str) -> Self {
        Self::new(prefix, key, "show")
    }

    /// Whether a client may send it once more when it does not know what became of it: what is taken twice is lost,
    /// what is given back twice is another's.
    pub(super) fn may_repeat(&self) -> bool {
        self.action != "give"
    }

    /// The key's own text.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Takes one unit of a limit that is nobody's.
    pub(super) fn probe(prefix: &str) -> Self {
        let mut arguments = Self::new(prefix, "probe", "take");
        let numbers: [u64; ARGUMENTS] = [0, 3, 1_000_000, 1_000_000, 1_000_000, 1, 1, 1, 0];
        arguments.values.extend_from_slice(&numbers);
        arguments
    }

    /// Adds a limit to take from, or to show.
    pub(super) fn limit(&mut self, limit: &Limit, rate: &RateLimit, wanted: Wanted) {
        self.push(limit, rate, u64::from(wanted.need), u64::from(wanted.want), wanted.divisor);
    }

    /// Adds a limit to give back to.
    pub(super) fn back(&mut self, limit: &Limit, rate: &RateLimit, units: u32, taken_us: u64) {
        self.push(limit, rate, u64::from(units), taken_us, 1);
    }

    fn push(&mut self, limit: &Limit, rate: &RateLimit, need: u64, want: u64, divisor: u32) {
        let rule = &rate.rule;
        let (code, window, burst) = counted_there(rule);
        let numbers: [u64; ARGUMENTS] = [
            u64::from(limit.id),
            code,
            window.div_ceil(1_000),
            u64::from(rule.quota()),
            u64::from(burst),
            need,
            want,
            u64::from(divisor),
            u64::from(limit.is_shadow()),
        ];
        self.values.extend_from_slice(&numbers);
    }
}

/// What Redis counts a rule by: the algorithm's code, the window, and the burst.
pub(super) fn counted_there(rule: &Rule) -> (u64, Nanos, u32) {
    let lease = lease_length(rule.window());
    match rule.algorithm() {
        // A leased unit may be spent until its lease ends: counted for as much longer as that.
        Algorithm::SlidingWindow => (1, rule.window() + lease, rule.quota()),
        Algorithm::WeightedCounters => (2, rule.window() + lease, rule.quota()),
        // ... and what comes back in that time cannot be had at once.
        Algorithm::Gcra => {
            let (window, burst) = (u128::from(rule.window()), u128::from(rule.capacity()));
            let leased = u128::from(lease) * u128::from(rule.quota());
            let in_lease = leased / window + 1;
            if burst > in_lease {
                return (3, rule.window(), u32::try_from(burst - in_lease).unwrap_or(1));
            }
            // Too small a burst for that: one unit at a time, so much further apart that one which is spent at the end
            // of its lease does not come too close to the next.
            let further = leased.saturating_sub((burst - 1) * window).div_ceil(burst);
            (3, u64::try_from(window + further).unwrap_or(u64::MAX), 1)
        }
    }
}

/// How long units taken from Redis may be spent: a 64th of the window, 10 ms to 2 s. It depends on the window
/// alone, so that all nodes count alike.
pub(super) fn lease_length(window: Nanos) -> Nanos {
    (window / 64).clamp(10_000_000, 2_000_000_000)
}

/// Reads an answer for `limits` limits; `None` for anything that is not one.
pub(super) fn answer(value: &Value, limits: usize) -> Option<Answer> {
    let Value::Array(values) = value else { return None };
    let numbers: Vec<u64> = values
        .iter()
        .map(|v| if let Value::Int(n) = v { u64::try_from(*n).ok() } else { None })
        .collect::<Option<_>>()?;
    let (now_us, rest) = (*numbers.first()?, numbers.get(2..)?);
    if rest.len() != limits * ANSWERS {
        return None;
    }
    let units = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let grants = rest.chunks_exact(ANSWERS).map(|of| Grant {
        units: units(of[0]),
        left: units(of[1]),
        wait: of[2].saturating_mul(1_000),
        lacked: of[3] == 1,
    });
    Some(Answer { now_us, grants: grants.collect() })
}
