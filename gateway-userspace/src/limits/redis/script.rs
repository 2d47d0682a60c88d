//! The script that counts in Redis: its arguments and its answer.

use redis::{Cmd, Script, Value};
use smallvec::SmallVec;

use crate::limits::policy::{Limit, RateLimit};
use crate::limits::window::{Algorithm, Nanos, Rule, TICKS};

/// Bytes for each limit in the script's packed argument.
const ARGUMENT: usize = 50;
/// Bytes of the clock in its answer, and then for each limit.
const CLOCK: usize = 8;
const ANSWER: usize = 17;
/// Most digits of a time in milliseconds.
const DIGITS: usize = 20;

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
    pub(super) grants: SmallVec<[Grant; 2]>,
}

impl LimitScript {
    pub(super) fn new() -> Self {
        Self { script: Script::new(include_str!("limits.lua")) }
    }

    /// The command that runs the script by its hash, for a server that has loaded it.
    pub(super) fn by_hash(&self, arguments: &Arguments) -> Cmd {
        let mut cmd = Cmd::with_capacity(7, 96 + DIGITS + arguments.key.len() + arguments.packed.len());
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
    /// What of each limit, as the script unpacks it.
    packed: SmallVec<[u8; 2 * ARGUMENT]>,
    /// How long any of them may be of use, in milliseconds.
    lasts_ms: u64,
}

impl Arguments {
    fn new(prefix: &str, key: &str, action: &'static str) -> Self {
        // The braces make the client's part alone decide on a Cluster's slot.
        let key = [prefix, ":{", key, "}"].concat();
        Self { key, action, packed: SmallVec::new(), lasts_ms: 0 }
    }

    /// Adds the key and the arguments to a command.
    fn write(&self, cmd: &mut Cmd) {
        cmd.arg(1).arg(&self.key).arg(self.action).arg(&self.packed[..]).arg(self.lasts_ms);
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
        let second = 1_000_000;
        arguments.pack(
            0,
            false,
            &Counted { code: GCRA, window_us: second, burst: 1, whole: 1, lease_us: 0 },
            [1, 1, 1],
            1,
        );
        arguments
    }

    /// Adds a limit to take from, or to show.
    pub(super) fn limit(&mut self, limit: &Limit, rate: &RateLimit, wanted: Wanted) {
        self.push(limit, rate, wanted.need, u64::from(wanted.want), wanted.divisor);
    }

    /// Adds a limit to give back to.
    pub(super) fn back(&mut self, limit: &Limit, rate: &RateLimit, units: u32, taken_us: u64) {
        self.push(limit, rate, units, taken_us, 1);
    }

    fn push(&mut self, limit: &Limit, rate: &RateLimit, need: u32, want: u64, divisor: u32) {
        let counted = counted_there(&rate.rule);
        self.pack(limit.id, limit.is_shadow(), &counted, [rate.rule.quota(), need, divisor], want);
    }

    fn pack(
        &mut self,
        id: u32,
        advisory: bool,
        counted: &Counted,
        [quota, need, divisor]: [u32; 3],
        want: u64,
    ) {
        let Counted { code, window_us, burst, whole, lease_us } = *counted;
        // A log forgets a unit two of its ticks later than the window, and Redis counts expiry in whole seconds.
        self.lasts_ms =
            self.lasts_ms.max((window_us + window_us.div_ceil(TICKS) * 2).div_ceil(1_000) + 1_000);
        let out = &mut self.packed;
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&[code, u8::from(advisory)]);
        for number in [quota, burst, need, divisor, whole] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [lease_us, window_us, want] {
            // Microseconds since the epoch fit a double's 53 bits until the year 2255.
            out.extend_from_slice(&(number as f64).to_le_bytes());
        }
    }
}

/// The script's names of the algorithms.
const LOG: u8 = 1;
const GCRA: u8 = 2;

/// What Redis counts a rule by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    /// The algorithm.
    code: u8,
    /// The window, in microseconds.
    pub(super) window_us: u64,
    /// Most units at one moment.
    pub(super) burst: u32,
    /// GCRA: the most at one moment by who has taken nothing for a lease.
    whole: u32,
    /// How long units may be spent, in microseconds.
    lease_us: u64,
}

/// What Redis counts a rule by: a leased unit may be spent until its lease ends.
pub(super) fn counted_there(rule: &Rule) -> Counted {
    let lease = lease_length(rule.window());
    let counted = |code, window: Nanos, burst| Counted {
        code,
        window_us: window.div_ceil(1_000),
        burst,
        whole: rule.capacity(),
        lease_us: lease.div_ceil(1_000),
    };
    match rule.algorithm() {
        // It is counted for as much longer as that.
        Algorithm::SlidingWindow => counted(LOG, rule.window() + lease, rule.quota()),
        // What comes back in that time cannot be had at once.
        Algorithm::Gcra => {
            let (window, burst) = (u128::from(rule.window()), u128::from(rule.capacity()));
            let leased = u128::from(lease) * u128::from(rule.quota());
            let in_lease = leased / window + 1;
            if burst > in_lease {
                return counted(GCRA, rule.window(), u32::try_from(burst - in_lease).unwrap_or(1));
            }
            // Too small a burst for that: one unit at a time, so much further apart that one which is spent at the end
            // of its lease does not come too close to the next.
            let further = leased.saturating_sub((burst - 1) * window).div_ceil(burst);
            counted(GCRA, u64::try_from(window + further).unwrap_or(u64::MAX), 1)
        }
    }
}

/// How long units taken from Redis may be spent: a 128th of the window, 10 ms to 2 s. It depends on the window
/// alone, so that all nodes count alike.
pub(super) fn lease_length(window: Nanos) -> Nanos {
    (window / 128).clamp(10_000_000, 2_000_000_000)
}

/// Reads an answer for `limits` limits; `None` for anything that is not one.
pub(super) fn answer(value: &Value, limits: usize) -> Option<Answer> {
    let Value::BulkString(bytes) = value else { return None };
    let (now, rest) = bytes.split_first_chunk::<CLOCK>()?;
    if rest.len() != limits * ANSWER {
        return None;
    }
    let grants = rest.chunks_exact(ANSWER).map(|of| {
        let (units, of) = of.split_first_chunk()?;
        let (left, of) = of.split_first_chunk()?;
        let (wait, of) = of.split_first_chunk()?;
        Some(Grant {
            units: u32::from_le_bytes(*units),
            left: u32::from_le_bytes(*left),
            wait: whole(*wait).saturating_mul(1_000),
            lacked: of == [1],
        })
    });
    Some(Answer { now_us: whole(*now), grants: grants.collect::<Option<_>>()? })
}

/// A whole number that the script has packed as a double, as its language has no others.
fn whole(bytes: [u8; 8]) -> u64 {
    f64::from_le_bytes(bytes) as u64
}
