use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::*;
use crate::bans::task::{IDLE, TICK};
use crate::bans::{
    Action, BanChange, BanReason, DecisionId, KernelBan, KernelError, KernelWriter, ManualClock,
};
use crate::config::Config;
use crate::config::bans::{Bans, OffenceKind};

const NOW: u64 = 1_700_000_000_000;

#[derive(Clone, Default)]
struct FakeKernel {
    bans: Arc<Mutex<BTreeMap<IpNetwork, (u64, Instant)>>>,
}

impl KernelWriter for FakeKernel {
    fn apply(&mut self, batch: &[BanChange]) -> Result<(), KernelError> {
        let mut bans = self.bans.lock().expect("lock");
        for change in batch {
            match change {
                BanChange::Add { network, until_unix_ms, .. } => {
                    bans.insert(*network, (*until_unix_ms, Instant::now()));
                }
                BanChange::Remove { network } => {
                    bans.remove(network);
                }
            }
        }
        Ok(())
    }

    fn list(&mut self) -> Result<Vec<KernelBan>, KernelError> {
        let bans = self.bans.lock().expect("lock");
        Ok(bans
            .iter()
            .map(|(n, (until, _))| KernelBan { network: *n, until_unix_ms: *until, reason: BanReason::Local })
            .collect())
    }
}

impl FakeKernel {
    async fn until(&self, what: &str, done: impl Fn(&BTreeMap<IpNetwork, (u64, Instant)>) -> bool) {
        let start = Instant::now();
        while !done(&self.bans.lock().expect("lock")) {
            assert!(start.elapsed() < Duration::from_secs(10), "{what}: not within 10 s");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn config(text: &str) -> Bans {
    Config::parse(std::path::Path::new("t.toml"), text).expect("configuration").bans
}

fn parts(kernel: &FakeKernel, clock: &Arc<ManualClock>) -> Parts {
    let clock: Arc<dyn Clock> = clock.clone();
    Parts {
        spared: Spared { trusted_proxies: vec!["10.0.0.0/8".parse().expect("network")], ..Spared::default() },
        kernel: Some(Box::new(kernel.clone())),
        clock,
        ..Parts::default()
    }
}

fn offence(addr: &str) -> Offence {
    Offence {
        at_ms: NOW,
        client: ClientId::direct(addr.parse().expect("address")),
        kind: OffenceKind::Waf,
        weight: 5,
        rules: vec![942100],
        subject: None,
        request_id: Some("req-1".into()),
        ja4: None,
    }
}

fn ban(scope: &str, for_ms: Option<u64>) -> AddBan {
    AddBan {
        scope: scope.parse().expect("scope"),
        action: None,
        for_ms,
        until_ms: None,
        reason: "test".into(),
    }
}

#[tokio::test]
async fn offences_ban_in_kernel_and_layer_7_until_their_time() {
    let (kernel, clock) = (FakeKernel::default(), Arc::new(ManualClock::at(NOW)));
    let handle = start(&config(""), parts(&kernel, &clock)).expect("start");
    let attacker = ClientId::direct("192.0.2.66".parse().expect("address"));
    assert_eq!(handle.denied(&attacker, Traits::default()), None);
    for _ in 0..5 {
        handle.seen(&attacker);
        handle.offend(offence("192.0.2.66"));
    }
    kernel.until("banned", |bans| bans.len() == 1).await;
    let decision = handle.denied(&attacker, Traits::default()).expect("denied");
    assert_eq!(decision.cause.rules, [942100]);
    let why = handle.why(attacker.addr()).await.expect("why");
    assert!(why.summary.contains("scenario waf: 5 waf offences"), "{}", why.summary);
    assert_eq!(why.record.expect("record").offences.len(), 5);
    clock.advance(10 * 60_000);
    assert_eq!(handle.denied(&attacker, Traits::default()), None, "layer 7 knows the end by itself");
    kernel.until("lapsed", BTreeMap::is_empty).await;
    let why = handle.why(attacker.addr()).await.expect("why");
    assert_eq!((why.decisions.len(), why.ended.len()), (0, 1));
}

#[tokio::test]
async fn the_task_looks_around_often_only_while_there_is_something_to_end() {
    let (kernel, clock) = (FakeKernel::default(), Arc::new(ManualClock::at(NOW)));
    let mut config = config("");
    config.scenarios.clear();
    let handle = start(&config, parts(&kernel, &clock)).expect("start");
    let pause = || async { handle.ask(|task| task.pause()).await.expect("pause") };
    assert_eq!(pause().await, IDLE);
    // Counts of a flood may wait beside an offence: the next tick takes them.
    handle.offend(offence("192.0.2.66"));
    let start = Instant::now();
    while handle.ask(|task| task.engine.counts().offences).await.expect("counts") == 0
        || pause().await == TICK
    {
        assert!(start.elapsed() < IDLE, "an offence keeps it awake");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    handle.add(ban("192.0.2.1", Some(60_000))).await.expect("ban");
    assert_eq!(pause().await, TICK);
    kernel.until("banned", |bans| bans.len() == 1).await;
    clock.advance(60_000);
    kernel.until("lapsed", BTreeMap::is_empty).await;
    assert_eq!(pause().await, IDLE);
}

#[tokio::test]
async fn operators_add_list_show_remove_allow() {
    let (kernel, clock) = (FakeKernel::default(), Arc::new(ManualClock::at(NOW)));
    let handle = start(&config(""), parts(&kernel, &clock)).expect("start");
    let host = handle.add(ban("192.0.2.1", Some(60_000))).await.expect("ban");
    let net = handle.add(ban("192.0.2.0/24", None)).await.expect("ban");
    let ja4 = handle.add(ban("ja4:t13d", None)).await.expect("ban");
    assert_eq!((host.end_ms, net.end_ms, ja4.action), (Some(NOW + 60_000), None, Action::L7Deny));
    for (scope, sentence) in [
        ("10.1.1.1", "belongs to the trusted proxies"),
        ("0.0.0.0/0", "is every address"),
        ("192.0.0.0/8", "wider than /20"),
    ] {
        let error = handle.add(ban(scope, None)).await.expect_err(scope).to_string();
        assert!(error.contains(sentence), "{error}");
    }
    kernel.until("two networks", |bans| bans.len() == 2).await;
    let listing = handle.list(ListBans { limit: Some(2), ..ListBans::default() }).await.expect("list");
    assert_eq!((listing.decisions.len(), listing.more, listing.held), (2, true, 3));
    let rest = ListBans { after: Some(listing.decisions[1].id), ..ListBans::default() };
    assert_eq!(handle.list(rest).await.expect("list").decisions.len(), 1);
    let removed = handle.remove(RemoveBan::Scope(host.scope.clone())).await.expect("removed");
    assert_eq!(removed.still_covered_by.first().map(|d| d.id), Some(net.id));
    let (_, ended) = handle.show(host.id).await.expect("show").expect("known");
    assert!(ended.is_some());
    assert!(handle.show(DecisionId::new(0, 0, 0)).await.expect("show").is_none());
    let again = handle.remove(RemoveBan::Scope(host.scope.clone())).await.expect_err("gone").to_string();
    assert!(again.contains("no decision holds on 192.0.2.1"), "{again}");
    let allowed: IpNetwork = "192.0.2.7".parse().expect("network");
    handle.allow(allowed).await.expect("allowed");
    kernel.until("the network with the allowed host is released", BTreeMap::is_empty).await;
    assert!(handle.allow(allowed).await.is_err() && handle.disallow(allowed).await.is_ok());
    assert!(handle.allow("::/0".parse().expect("network")).await.is_err());
}

#[tokio::test]
async fn what_one_exports_another_imports() {
    let clock = Arc::new(ManualClock::at(NOW));
    let kernel = FakeKernel::default();
    let one = start(&config(""), parts(&kernel, &clock)).expect("start");
    for host in 1..=3 {
        one.add(ban(&format!("192.0.2.{host}"), Some(host * 1000))).await.expect("ban");
    }
    let exported = one.list(ListBans::default()).await.expect("list").decisions;
    let json = serde_json::to_string(&exported).expect("json");
    clock.advance(1000);
    let two = start(&config(""), parts(&FakeKernel::default(), &clock)).expect("start");
    let report = two.import(serde_json::from_str(&json).expect("decisions")).await.expect("import");
    assert_eq!((report.added, report.refused.len()), (2, 1));
    let mut text = String::new();
    two.metrics(&mut text).expect("metrics");
    assert!(text.contains("gateway_bans_held 2\n"), "{text}");
}

#[tokio::test]
async fn an_address_is_exported_and_erased_on_disk_too() {
    let folder = std::env::temp_dir().join(format!("gateway-privacy-{}", std::process::id()));
    let config = config("");
    let clock = Arc::new(ManualClock::at(NOW));
    let open = || {
        let database = Some(folder.join("bans.redb"));
        start(&config, Parts { database, ..parts(&FakeKernel::default(), &clock) }).expect("start")
    };
    let handle = open();
    let network: IpNetwork = "192.0.2.66".parse().expect("network");
    for _ in 0..5 {
        handle.offend(offence("192.0.2.66"));
    }
    handle.add(ban("192.0.2.0/24", None)).await.expect("ban");
    while handle.list(ListBans::default()).await.expect("list").held < 2 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    handle.remove(RemoveBan::Scope("192.0.2.66".parse().expect("scope"))).await.expect("removed");
    let export = handle.privacy_export(network).await.expect("export");
    assert_eq!((export.decisions.len(), export.ended.len(), export.clients.len()), (1, 1, 1));
    let erased = handle.privacy_erase(network).await.expect("erased");
    assert_eq!((erased.ended, erased.clients, erased.kept), (1, 1, 1));
    handle.stop().await;
    let handle = open();
    let export = handle.privacy_export(network).await.expect("export");
    assert_eq!((export.decisions.len(), export.ended.len(), export.clients.len()), (1, 0, 0));
    handle.stop().await;
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offence_reaches_the_kernel_at_once() {
    let (kernel, clock) = (FakeKernel::default(), Arc::new(ManualClock::at(NOW)));
    let first_bans = "[bans]\ndefault_scenarios = false\n[bans.neighbours]\nenabled = false\n\
        [[bans.scenarios]]\nname = \"x\"\nkinds = [\"waf\"]\ncapacity = 0\nleak = \"1s\"\naction = \"kernel-ban\"";
    let handle = start(&config(first_bans), parts(&kernel, &clock)).expect("start");
    let mut micros = Vec::new();
    for i in 0..400u32 {
        let addr = std::net::Ipv4Addr::from(0xC612_0000 + i).to_string();
        let network: IpNetwork = addr.parse().expect("network");
        let start = Instant::now();
        handle.offend(offence(&addr));
        kernel.until("banned", |bans| bans.contains_key(&network)).await;
        let written = kernel.bans.lock().expect("lock")[&network].1;
        micros.push(written.duration_since(start).as_micros());
    }
    micros.sort_unstable();
    let at = |percent: usize| micros[micros.len() * percent / 100];
    println!("offence to kernel write: p50 {} us, p99 {} us", at(50), at(99));
    // The goal is 1 ms; a busy test machine is given ten times that.
    assert!(at(50) < 10_000, "p50 {} us", at(50));
}
