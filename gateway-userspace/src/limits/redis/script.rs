//! The script that counts in Redis: its arguments and its answer.

use redis::{Cmd, Script, Value};

use crate::limits::policy::{Limit, RateLimit};
use crate::limits::window::{Algorithm, Nanos};

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
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(self.script.get_hash()).arg(1).arg(&arguments.key).arg(&arguments.values);
        cmd
    }

    /// The command that runs and loads it: for a server that has lost it.
    pub(super) fn by_text(arguments: &Arguments) -> Cmd {
        let mut cmd = redis::cmd("EVAL");
        cmd.arg(include_str!("limits.lua")).arg(1).arg(&arguments.key).arg(&arguments.values);
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
    values: Vec<String>,
}

impl Arguments {
    fn new(prefix: &str, key: &str, action: &str) -> Self {
        // The braces make the client's part alone decide on a Cluster's slot.
        Self { key: format!("{prefix}:{{{key}}}"), values: vec![action.to_owned()] }
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

    /// The key's own text.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Takes one unit of a limit that is nobody's.
    pub(super) fn probe(prefix: &str) -> Self {
        let mut arguments = Self::new(prefix, "probe", "take");
        let numbers: [u64; ARGUMENTS] = [0, 3, 1_000_000, 1_000_000, 1_000_000, 1, 1, 1, 0];
        arguments.values.extend(numbers.iter().map(ToString::to_string));
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
        let lease = lease_length(rule.window());
        let (code, window, burst) = match rule.algorithm() {
            // A leased unit may be spent until its lease ends: counted for as much longer as that.
            Algorithm::SlidingWindow => (1, rule.window() + lease, rule.quota()),
            Algorithm::WeightedCounters => (2, rule.window() + lease, rule.quota()),
            // ... and what comes back in that time cannot be had at once.
            Algorithm::Gcra => {
                let in_lease = u128::from(lease) * u128::from(rule.quota()) / u128::from(rule.window()) + 1;
                let in_lease = u32::try_from(in_lease).unwrap_or(u32::MAX);
                (3, rule.window(), rule.capacity().saturating_sub(in_lease).max(1))
            }
        };
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
        self.values.extend(numbers.iter().map(ToString::to_string));
    }
}

/// How long units taken from Redis may be spent: a 128th of the window, 15 ms to 2 s. It depends on the window
/// alone, so that all nodes count alike.
pub(super) fn lease_length(window: Nanos) -> Nanos {
    (window / 128).clamp(15_000_000, 2_000_000_000)
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
