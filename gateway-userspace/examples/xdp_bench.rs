//! Measures the XDP program in the kernel and prints one JSON object; `cargo xtask bench xdp` runs it and makes the
//! table. Arguments: `--peer NAME=PIN` names another, pinned, XDP program that takes its turns (there may be several);
//! `--against OBJECT` has another compiled object, with the same maps, take its turns in every case beside the one built in,
//! and `--object OBJECT` measures that one in place of it; `--only WORD` keeps the cases with that word in their names; `--rounds N` and `--repeat N` set the turns of each case and the runs of a turn.
//!
//! All programs take turns within one process, so that a noisy machine disturbs each alike; a ratio is the median of
//! the ratios of single rounds.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use gateway::kernel::{
    BanChange, BanReason, Expiry, FloodLimits, Kernel, KernelConfig, Mode, Modes, Part, PortPolicy, PortSet,
    Rate, Reason, SourceLimits, Target, TestProgram,
};
use serde_json::json;

/// What to measure, and how often.
struct Plan {
    peers: Vec<(String, PathBuf)>,
    object: Option<PathBuf>,
    against: Option<PathBuf>,
    only: String,
    /// Turns of each case.
    rounds: usize,
    /// Runs of a turn.
    repeat: u32,
}

impl Plan {
    fn from_arguments() -> Result<Self> {
        let mut plan = Self {
            peers: Vec::new(),
            object: None,
            against: None,
            only: String::new(),
            rounds: 15,
            repeat: 400_000,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{name} wants a value"))?;
            match name.as_str() {
                "--peer" => {
                    let (name, pin) = value.split_once('=').context("--peer wants NAME=PIN")?;
                    plan.peers.push((name.to_owned(), pin.into()));
                }
                "--object" => plan.object = Some(value.into()),
                "--against" => plan.against = Some(value.into()),
                "--only" => plan.only = value,
                "--rounds" => plan.rounds = value.parse()?,
                "--repeat" => plan.repeat = value.parse()?,
                other => {
                    bail!("{other}: there are --peer, --object, --against, --only, --rounds and --repeat")
                }
            }
        }
        ensure!(plan.rounds > 0 && plan.repeat > 0, "nothing would be measured");
        Ok(plan)
    }

    fn wants(&self, name: &str) -> bool {
        BASES.contains(&name) || name.contains(&self.only)
    }
}

/// Marks the cases of the other object.
const AGAINST: &str = " (against)";
/// What the ratios are to.
const BASES: [&str; 2] = ["empty program", "random source generator"];
/// Bans of each family.
const BANS: u32 = 1_000_000;
/// Prefixes of the feed, beside a million hosts.
const FEED_PREFIXES: u32 = 50_000;

/// Swaps of the feed beside packets.
const SWAPS: u32 = 5;

/// A kernel side in a folder of its own, gone when dropped.
struct Side {
    kernel: Kernel,
    root: PathBuf,
}

impl Side {
    fn new(name: &str, object: Option<&PathBuf>) -> Result<Self> {
        let root = PathBuf::from(format!("/sys/fs/bpf/gateway-bench-{name}-{}", std::process::id()));
        let config =
            KernelConfig { pin_root: root.clone(), object: object.cloned(), ..KernelConfig::default() };
        let kernel = Kernel::open(&config).context("the XDP bench needs root")?;
        Ok(Self { kernel, root })
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if let Err(error) = gateway::kernel::uninstall(&self.root) {
            eprintln!("{} is left behind: {error}", self.root.display());
        }
    }
}

/// One thing to measure: which side, in which modes, with which program and packet.
struct Case<'a> {
    name: &'static str,
    side: &'a Side,
    modes: Modes,
    program: TestProgram,
    packet: Vec<u8>,
}

fn main() -> Result<()> {
    let plan = Plan::from_arguments()?;
    let mut figures = BTreeMap::new();
    let (empty, full) = sides("", plan.object.as_ref(), &mut figures)?;
    let against = match &plan.against {
        Some(object) => Some(sides("against-", Some(object), &mut BTreeMap::new())?),
        None => None,
    };
    for (map, bytes) in full.kernel.status()?.memory {
        figures.insert(format!("memory_{map}"), bytes as f64);
    }
    if let Some(count) = full.kernel.verified_instructions() {
        figures.insert("verified_instructions".into(), f64::from(count));
    }
    let mut all = vec![("", cases(&empty, &full)?)];
    if let Some((empty, full)) = &against {
        all.push((AGAINST, cases(empty, full)?));
    }
    let mut rounds: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for round in 0..=plan.rounds {
        for number in 0..all[0].1.len() {
            for (whose, cases) in &all {
                let case = &cases[number];
                if !plan.wants(case.name) {
                    continue;
                }
                case.side.kernel.set_modes(case.modes);
                let run = case.side.kernel.test_run_of(case.program, &case.packet, plan.repeat)?;
                // The first round warms up.
                if round > 0 {
                    let each = rounds.entry(format!("{}{whose}", case.name)).or_default();
                    each.push(run.each.as_nanos() as f64);
                }
            }
        }
        for (name, pin) in &plan.peers {
            for (kind, source) in [("clean v4", "192.0.2.1"), ("denied v4", "198.51.100.1")] {
                let run = gateway::kernel::test_run_pinned(pin, &tcp(source.parse()?), plan.repeat)?;
                if round > 0 {
                    let each = rounds.entry(format!("{name}, {kind}")).or_default();
                    each.push(run.each.as_nanos() as f64);
                }
            }
        }
    }
    let base = rounds.get(BASES[0]).context("the baseline")?.clone();
    let generator = rounds.get(BASES[1]).context("the generator")?.clone();
    let mut rows = Vec::new();
    for (name, each) in &rounds {
        let mut ratios: Vec<f64> = each
            .iter()
            .zip(&base)
            .zip(&generator)
            .map(|((ns, base), generator)| {
                let own = if name.starts_with("flood") { ns - generator + base } else { *ns };
                own / base
            })
            .collect();
        let least = each.iter().copied().fold(f64::INFINITY, f64::min);
        let ns = median(&mut each.clone());
        rows.push(json!({"case": name, "ns": ns, "min_ns": least, "ratio": median(&mut ratios)}));
    }
    println!("{}", json!({"cases": rows, "figures": figures}));
    Ok(())
}

/// A side without bans and feeds, and one with as many as there is room for.
fn sides(name: &str, object: Option<&PathBuf>, figures: &mut BTreeMap<String, f64>) -> Result<(Side, Side)> {
    let empty = Side::new(&format!("{name}empty"), object)?;
    let full = Side::new(&format!("{name}full"), object)?;
    load_bans(&full.kernel, figures)?;
    load_feed(&full.kernel, figures)?;
    configure(&full.kernel)?;
    // The limit is for the case that is over it.
    empty.kernel.set_limits(&low(), &[])?;
    Ok((empty, full))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn cases<'a>(empty: &'a Side, full: &'a Side) -> Result<Vec<Case<'a>>> {
    let all = Modes::all(Mode::Enforce);
    let bans = [Part::Feeds, Part::Ports, Part::Limits, Part::Flood]
        .into_iter()
        .fold(all, |m, p| m.with(p, Mode::Off));
    let limits = bans.with(Part::Limits, Mode::Enforce);
    let packet = |text: &str| -> Result<Vec<u8>> { Ok(tcp(text.parse()?)) };
    let (clean4, clean6) = ("192.0.2.1", "2001:db8:ffff::1");
    let mut cases = Vec::new();
    let mut add = |name, side, modes, program, packet| {
        cases.push(Case { name, side, modes, program, packet });
    };
    use TestProgram::{Drop, Empty, Flood, Gateway, RandomSource};
    add("empty program", empty, all, Empty, packet(clean4)?);
    add("bare drop", empty, all, Drop, packet(clean4)?);
    add("random source generator", empty, all, RandomSource, packet(clean4)?);
    add("clean v4, empty maps", empty, bans, Gateway, packet(clean4)?);
    add("clean v6, empty maps", empty, bans, Gateway, packet(clean6)?);
    add("over the limit", empty, all, Gateway, packet(clean4)?);
    add("clean v4, 1M+1M bans", full, bans, Gateway, packet(clean4)?);
    add("clean v6, 1M+1M bans", full, bans, Gateway, packet(clean6)?);
    add("clean v4, bans and limits", full, limits, Gateway, packet(clean4)?);
    add("clean v6, bans and limits", full, limits, Gateway, packet(clean6)?);
    add("clean v4, all checks", full, all, Gateway, packet(clean4)?);
    add("clean v6, all checks", full, all, Gateway, packet(clean6)?);
    add("clean v4 SYN, all checks", full, all, Gateway, syn(clean4.parse()?));
    add("banned v4", full, all, Gateway, tcp(banned4(77).into()));
    add("banned v6", full, all, Gateway, tcp(banned6(77).into()));
    add("banned v4 prefix", full, all, Gateway, packet("198.18.5.5")?);
    add("banned v6 prefix", full, all, Gateway, packet("2001:2::5")?);
    add("feed v4", full, all, Gateway, tcp(feed4(77).into()));
    add("over the limit of an override", full, all, Gateway, packet("198.51.100.99")?);
    add("clean v4 beside an override", full, all, Gateway, packet("198.51.100.1")?);
    add("flood of random sources, empty maps", empty, bans, Flood, packet(clean4)?);
    add("flood of random sources, bans", full, bans, Flood, packet(clean4)?);
    let feeds = bans.with(Part::Feeds, Mode::Enforce);
    add("flood of random sources, bans and feeds", full, feeds, Flood, packet(clean4)?);
    add("flood of random sources, bans and limits", full, limits, Flood, packet(clean4)?);
    let sketch = limits.with(Part::Flood, Mode::Enforce);
    add("flood of random sources, bans, limits and sketch", full, sketch, Flood, packet(clean4)?);
    add("flood of random sources, all checks", full, all, Flood, packet(clean4)?);
    Ok(cases)
}

/// Spread over the address space as real lists are, and never the same twice.
fn banned4(i: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits((20 << 24) + i.wrapping_mul(0x9e37_79b1) % (100 << 24))
}

fn banned6(i: u32) -> Ipv6Addr {
    let spread = u128::from(i.wrapping_mul(0x9e37_79b1));
    Ipv6Addr::from_bits((0x2400 << 112) | (spread << 80) | u128::from(i))
}

fn feed4(i: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits((130 << 24) + i.wrapping_mul(0x85eb_ca6b) % (60 << 24))
}

fn load_bans(kernel: &Kernel, figures: &mut BTreeMap<String, f64>) -> Result<()> {
    let until = Expiry::In(Duration::from_secs(86_400));
    let changes = |target: &dyn Fn(u32) -> IpAddr| -> Vec<BanChange> {
        (0..BANS)
            .map(|i| BanChange::Ban { target: target(i).into(), until, reason: BanReason::Waf })
            .collect()
    };
    let batches = [("v4", changes(&|i| banned4(i).into())), ("v6", changes(&|i| banned6(i).into()))];
    for (family, batch) in &batches {
        let started = Instant::now();
        let applied = kernel.apply(batch);
        figures.insert(format!("load_1m_{family}_ms"), started.elapsed().as_secs_f64() * 1e3);
        ensure!(applied.refused.is_empty(), "bans refused: {:?}", applied.refused);
    }
    for text in ["198.18.0.0/15", "2001:2::/48"] {
        kernel.ban(text.parse()?, Expiry::Never, BanReason::Manual)?;
    }
    let started = Instant::now();
    kernel.sweep();
    figures.insert("sweep_2m_ms".into(), started.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

fn load_feed(kernel: &Kernel, figures: &mut BTreeMap<String, f64>) -> Result<()> {
    let hosts = (0..BANS).map(|i| Target::from(IpAddr::from(feed4(i))));
    let prefixes = (0..FEED_PREFIXES).map(|i| {
        let base = Ipv4Addr::from_bits((200 << 24) + (i.wrapping_mul(0x9e37) % (1 << 16)) * 0x800);
        Target::prefix(base.into(), 17 + (i % 8) as u8)
    });
    let prefixes = prefixes.collect::<Result<Vec<_>, _>>()?;
    let set: Vec<Target> = hosts.chain(prefixes).collect();
    let started = Instant::now();
    let load = kernel.set_feed(set.iter().copied())?;
    figures.insert("feed_swap_ms".into(), started.elapsed().as_secs_f64() * 1e3);
    figures.insert("feed_entries".into(), (load.hosts + load.prefixes + load.wide) as f64);
    swap_beside_packets(kernel, &set, figures)
}

/// Swaps the same set in again and again while packets of its members are judged: one that passes was judged by a set half
/// loaded.
fn swap_beside_packets(kernel: &Kernel, set: &[Target], figures: &mut BTreeMap<String, f64>) -> Result<()> {
    let done = AtomicBool::new(false);
    let dropped = kernel.stats().packets(Reason::Feed);
    let (judged, slowest) = std::thread::scope(|scope| -> Result<(u64, f64)> {
        let packets = scope.spawn(|| -> Result<u64> {
            let mut judged = 0;
            let mut member = 0u32;
            while !done.load(Relaxed) {
                member = (member + 7919) % BANS;
                kernel.test_run(&tcp(feed4(member).into()), 64)?;
                judged += 64;
            }
            Ok(judged)
        });
        let mut slowest: f64 = 0.0;
        let swapped = (0..SWAPS).try_for_each(|_| {
            let started = Instant::now();
            kernel.set_feed(set.iter().copied())?;
            slowest = slowest.max(started.elapsed().as_secs_f64() * 1e3);
            anyhow::Ok(())
        });
        done.store(true, Relaxed);
        let judged = packets.join().map_err(|_| anyhow::anyhow!("the packets panicked"))??;
        swapped?;
        Ok((judged, slowest))
    })?;
    let dropped = kernel.stats().packets(Reason::Feed) - dropped;
    figures.insert("feed_swaps_beside".into(), f64::from(SWAPS));
    figures.insert("feed_swap_beside_packets_ms".into(), slowest);
    figures.insert("packets_beside".into(), judged as f64);
    figures.insert("passed_during_swaps".into(), judged.saturating_sub(dropped) as f64);
    Ok(())
}

fn configure(kernel: &Kernel) -> Result<()> {
    let rate = |per_second, burst| Some(Rate { per_second, burst });
    let high = SourceLimits {
        packets: rate(100_000_000, 100_000_000),
        bytes: rate(100_000_000_000, 10_000_000_000),
        connections: rate(100_000_000, 100_000_000),
        bar: None,
    };
    let low = low();
    kernel.set_limits(&high, &[("198.51.100.99".parse()?, low)])?;
    kernel.set_flood(&FloodLimits {
        heavy: Some(10_000),
        connections: rate(1_000_000_000, 1_000_000_000),
        ..FloodLimits::default()
    })?;
    kernel.set_ports(&PortPolicy {
        closed_by_default: true,
        open: PortSet { tcp: vec![80..=80, 443..=443], ..PortSet::default() },
        management: vec![22],
        ..PortPolicy::default()
    });
    Ok(())
}

/// What every source of the benches sends more of.
fn low() -> SourceLimits {
    SourceLimits { packets: Some(Rate { per_second: 10, burst: 10 }), ..SourceLimits::default() }
}

/// A SYN to port 443, untagged.
fn syn(source: IpAddr) -> Vec<u8> {
    let mut frame = tcp(source);
    let flags = frame.len() - 7;
    frame[flags] = 2;
    frame
}

/// A segment of a connection to port 443, untagged.
fn tcp(source: IpAddr) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    match source {
        IpAddr::V4(source) => {
            frame.extend([8, 0, 0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0]);
            frame.extend(source.octets());
            frame.extend([203, 0, 113, 1]);
        }
        IpAddr::V6(source) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
            frame.extend(source.octets());
            frame.extend(Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 1).octets());
        }
    }
    frame.extend([0x9c, 0x40, 1, 0xbb, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}
