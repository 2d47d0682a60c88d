//! What nodes admit together, against an exact log of the same arrivals.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::node::Node;
use super::rows::Rows;
use super::server::Server;

const QUOTA: usize = 500;
const WINDOW: Duration = Duration::from_secs(2);
const TIME: Duration = Duration::from_secs(8);

/// How requests come.
#[derive(Debug, Clone, Copy)]
enum Arrivals {
    /// Evenly, at twice the rate that is allowed.
    Constant,
    /// At random, at one and a half times the rate.
    Poisson,
    /// A second of silence, then all at once.
    Bursty,
    /// All at the end of a window of the clock, and again at the beginning of the next.
    Adversarial,
}

impl Arrivals {
    const ALL: [Self; 4] = [Self::Constant, Self::Poisson, Self::Bursty, Self::Adversarial];

    /// Whether requests come evenly over a window.
    fn is_steady(self) -> bool {
        matches!(self, Self::Constant | Self::Poisson)
    }

    /// When all nodes' requests come, since the start.
    fn times(self) -> Vec<Duration> {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut uniform = || {
            random ^= random >> 12;
            random ^= random << 25;
            random ^= random >> 27;
            ((random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 + 1.0) / (1_u64 << 53) as f64
        };
        let rate = QUOTA as f64 / WINDOW.as_secs_f64();
        let end = TIME.as_secs_f64();
        let mut times = Vec::new();
        match self {
            Self::Constant => times.extend((0..(end * rate * 2.0) as u64).map(|i| i as f64 / (rate * 2.0))),
            Self::Poisson => {
                let mut at = 0.0;
                while at < end {
                    at -= uniform().ln() / (rate * 1.5);
                    times.push(at);
                }
            }
            Self::Bursty => {
                for burst in 0..(end as u64) {
                    times.extend((0..QUOTA).map(|i| burst as f64 + i as f64 * 0.000_1));
                }
            }
            Self::Adversarial => {
                let window = WINDOW.as_secs_f64();
                for turn in 1..(end / window) as u64 {
                    let edge = turn as f64 * window;
                    times.extend((0..QUOTA).map(|i| edge - 0.06 + i as f64 * 0.000_1));
                    times.extend((0..QUOTA).map(|i| edge + 0.01 + i as f64 * 0.000_1));
                }
            }
        }
        times.into_iter().filter(|t| *t < end).map(Duration::from_secs_f64).collect()
    }
}

/// What an exact log of the same arrivals would have admitted, and the most that were admitted in one window.
fn against_exact(arrived: &[Instant], admitted: &[Instant]) -> (usize, usize) {
    let mut log: Vec<Instant> = Vec::new();
    let mut first = 0;
    for at in arrived {
        while first < log.len() && *at - log[first] >= WINDOW {
            first += 1;
        }
        if log.len() - first < QUOTA {
            log.push(*at);
        }
    }
    let (mut first, mut most) = (0, 0);
    for (i, at) in admitted.iter().enumerate() {
        while *at - admitted[first] >= WINDOW {
            first += 1;
        }
        most = most.max(i + 1 - first);
    }
    (log.len(), most)
}

/// Lets requests come; gives when each came, and when a unit was taken for it, by the clock that decided.
async fn case(nodes: Vec<Node>, arrivals: Arrivals, client: String) -> (Vec<Instant>, Vec<Instant>) {
    // A window of the clock starts where the arrivals do, for whoever attacks its edge.
    let window = WINDOW.as_nanos() as u64;
    let lag = window - nodes[0].now() % window;
    tokio::time::sleep(Duration::from_nanos(lag)).await;
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    let count = nodes.len();
    for (turn, node) in nodes.into_iter().enumerate() {
        let times: Vec<Duration> = arrivals.times().into_iter().skip(turn).step_by(count).collect();
        let client = client.clone();
        tasks.spawn(async move {
            let (mut arrived, mut admitted) = (Vec::new(), Vec::new());
            for at in times {
                if let Some(early) = at.checked_sub(started.elapsed()) {
                    tokio::time::sleep(early).await;
                }
                arrived.push(Instant::now());
                admitted.extend(node.admitted(&client, "", Some(200)).await);
            }
            (arrived, admitted)
        });
    }
    let (mut arrived, mut admitted) = (Vec::new(), Vec::new());
    for (a, b) in tasks.join_all().await {
        arrived.extend(a);
        admitted.extend(b);
    }
    arrived.sort();
    admitted.sort();
    (arrived, admitted)
}

/// Runs `work` and tells the longest that a thread of its own was late: a gateway that is not run for longer than a lease
/// lasts (here 31 ms) lets units lapse, and admits less.
async fn while_watching<R>(work: impl Future<Output = R>) -> (R, Duration) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let watch = std::thread::spawn(move || {
        let mut worst = Duration::ZERO;
        while !stopped.load(Ordering::Relaxed) {
            let began = Instant::now();
            std::thread::sleep(Duration::from_millis(1));
            worst = worst.max(began.elapsed());
        }
        worst
    });
    let result = work.await;
    stop.store(true, Ordering::Relaxed);
    (result, watch.join().expect("the watch"))
}

pub async fn run(rows: &mut Rows) {
    let server = Server::single();
    for count in [1_u32, 2, 5, 10] {
        let text = format!(
            "[limit_store]\nredis = [\"127.0.0.1:{}\"]\nnodes = {count}\ndeadline = \"100ms\"\n\
             [[limits]]\nname = \"a\"\nquota = {QUOTA}\nwindow = \"2s\"\n",
            server.port
        );
        let nodes: Vec<Node> = (0..count).map(|_| Node::new(&text)).collect();
        for node in &nodes {
            node.until_usable(true).await;
        }
        let mut tasks = tokio::task::JoinSet::new();
        for (i, arrivals) in Arrivals::ALL.into_iter().enumerate() {
            let client = format!("192.0.{count}.{i}");
            let nodes = nodes.clone();
            tasks.spawn(async move { (i, case(nodes, arrivals, client).await) });
        }
        let (mut results, stall) = while_watching(tasks.join_all()).await;
        rows.note(format!("{count} node(s): the machine stood still for {stall:?} at most"));
        results.sort_by_key(|(i, _)| *i);
        for (i, (arrived, admitted)) in results {
            let (exact, most) = against_exact(&arrived, &admitted);
            let name = format!("{:?}, {count} node(s)", Arrivals::ALL[i]);
            rows.within(&format!("accuracy: {name}: most in a window"), most as f64, "", QUOTA as f64);
            let share = admitted.len() as f64;
            if Arrivals::ALL[i].is_steady() {
                let case = format!("accuracy: {name}: admitted");
                rows.at_least(&case, share, "", (exact as f64, "exact log"), 0.95);
            } else {
                // Bursts exactly one window apart come before what they spent the last time is forgotten:
                // decision 0033 says why that is so, and there is no goal for it.
                let ratio = share / exact as f64;
                rows.note(format!("{name}: {share} admitted of {exact} by an exact log ({ratio:.3})"));
            }
        }
    }
}
