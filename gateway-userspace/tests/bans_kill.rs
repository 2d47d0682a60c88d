//! kill -9 at random moments under a stream of decisions: nothing decided is lost, and the kernel
//! agrees with the ledger after the restart.
//!
//! The test runs itself as the child. The kernel is a file that is appended to with one write a
//! batch: like pinned maps it outlives the process, and holds what was written before the kill.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gateway::bans::{
    Action, AddBan, BanChange, BanReason, Change, Ending, Handle, KernelBan, KernelError, KernelWriter,
    ListBans, Offence, OffenceKind, Parts, RemoveBan, Shortcut, start,
};
use gateway::client::{ClientId, IpNetwork};
use gateway::config::Config;
use tokio::sync::broadcast::error::RecvError;

const ROUNDS: u64 = 100;
/// Rounds that go on with the same files.
const SAME_FILES: u64 = 10;
const FOLDER: &str = "GATEWAY_TEST_BANS_KILL";

struct FileKernel {
    file: File,
    bans: Arc<Mutex<BTreeMap<IpNetwork, u64>>>,
}

impl FileKernel {
    fn open(path: &Path) -> Self {
        let mut bans = BTreeMap::new();
        let text = std::fs::read_to_string(path).unwrap_or_default();
        for line in text.lines() {
            let (network, until) = line.split_once(' ').expect("a whole line");
            let network = network.parse().expect("network");
            match until.parse().expect("time") {
                0 => bans.remove(&network),
                until => bans.insert(network, until),
            };
        }
        let file = OpenOptions::new().create(true).append(true).open(path).expect("the kernel's file");
        Self { file, bans: Arc::new(Mutex::new(bans)) }
    }
}

impl KernelWriter for FileKernel {
    fn apply(&mut self, batch: &[BanChange]) -> Result<(), KernelError> {
        let mut lines = String::new();
        let mut bans = self.bans.lock().expect("lock");
        for change in batch {
            match change {
                BanChange::Add { network, until_unix_ms, .. } => {
                    bans.insert(*network, *until_unix_ms);
                    writeln!(lines, "{network} {until_unix_ms}").expect("a string");
                }
                BanChange::Remove { network } => {
                    bans.remove(network);
                    writeln!(lines, "{network} 0").expect("a string");
                }
            }
        }
        self.file.write_all(lines.as_bytes()).map_err(|e| KernelError(e.to_string()))
    }

    fn list(&mut self) -> Result<Vec<KernelBan>, KernelError> {
        let bans = self.bans.lock().expect("lock");
        Ok(bans
            .iter()
            .map(|(n, until)| KernelBan { network: *n, until_unix_ms: *until, reason: BanReason::Local })
            .collect())
    }

    fn shortcut(&self) -> Option<Box<dyn Shortcut>> {
        Some(Box::new(Self { file: self.file.try_clone().ok()?, bans: Arc::clone(&self.bans) }))
    }
}

impl Shortcut for FileKernel {
    fn try_ban(&mut self, bans: &[BanChange]) {
        self.apply(bans).expect("written");
    }
}

fn start_in(folder: &Path) -> (Handle, Arc<Mutex<BTreeMap<IpNetwork, u64>>>) {
    let text = "[bans]\ndefault_scenarios = false\n\
        [bans.neighbours]\nenabled = false\n\
        [[bans.scenarios]]\nname = \"first\"\nkinds = [\"waf\"]\ncapacity = 0\nleak = \"1s\"\naction = \"kernel-ban\"\nlength = \"1h\"";
    let config = Config::parse(&folder.join("gateway.toml"), text).expect("configuration");
    let kernel = FileKernel::open(&folder.join("kernel"));
    let bans = kernel.bans.clone();
    let database = Some(folder.join("bans.redb"));
    let parts = Parts { kernel: Some(Box::new(kernel)), database, ..Parts::default() };
    (start(&config.bans, parts).expect("start"), bans)
}

/// Decides as fast as it can and tells each decision once it is known to others, until it is killed.
async fn child(folder: PathBuf, round: u32) {
    let (handle, _) = start_in(&folder);
    let mut changes = handle.listen();
    tokio::spawn(async move {
        loop {
            let batch = match changes.recv().await {
                Ok(batch) => batch,
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            };
            let mut lines = String::new();
            for change in &*batch {
                let word = if matches!(change, Change::Began(_)) { "began" } else { "ended" };
                writeln!(lines, "{word} {}", change.decision().id).expect("a string");
            }
            std::io::stdout().write_all(lines.as_bytes()).expect("the parent reads");
        }
    });
    // 11.0.0.0/8 and on: 65,536 addresses a round.
    for number in 0..65_536u32 {
        let addr = std::net::Ipv4Addr::from((11 << 24) + round * 65_536 + number);
        if number % 3 == 0 {
            handle.offend(Offence {
                at_ms: u64::MAX,
                client: ClientId::direct(addr.into()),
                kind: OffenceKind::Waf,
                weight: 1,
                rules: vec![],
                subject: None,
                request_id: None,
                ja4: None,
            });
            continue;
        }
        let scope = addr.to_string().parse().expect("scope");
        let order =
            AddBan { scope, action: None, for_ms: Some(3_600_000), until_ms: None, reason: String::new() };
        let added = handle.add(order).await.expect("added");
        if number % 5 == 0 {
            handle.remove(RemoveBan::Id(added.id)).await.expect("removed");
        }
    }
}

/// Runs a child, kills it `after` its first decision, and takes what it told into `held`.
fn kill_one(folder: &Path, round: u64, after: Duration, held: &mut BTreeSet<String>) {
    let mut process = Command::new(std::env::current_exe().expect("own path"))
        .env(FOLDER, folder)
        .arg(round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("child");
    let mut lines = BufReader::new(process.stdout.take().expect("stdout")).lines();
    let first = lines.next().expect("a first decision").expect("line");
    let told = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<String>>());
    std::thread::sleep(after);
    process.kill().expect("kill -9");
    process.wait().expect("end");
    for line in std::iter::once(first).chain(told.join().expect("lines")) {
        match line.split_once(' ') {
            Some(("began", id)) if id.len() == 32 => drop(held.insert(id.to_owned())),
            Some(("ended", id)) if id.len() == 32 => drop(held.remove(id)),
            // The kill may have cut the last line.
            _ => {}
        }
    }
}

/// Restarts on what is left; ledger, told decisions and kernel must agree.
async fn check(folder: &Path, round: u64, told: &mut BTreeSet<String>) -> usize {
    let (handle, kernel) = start_in(folder);
    let mut decisions = Vec::new();
    let mut page = ListBans::default();
    loop {
        let listing = handle.list(page.clone()).await.expect("list");
        page.after = listing.decisions.last().map(|d| d.id);
        decisions.extend(listing.decisions);
        if !listing.more {
            break;
        }
    }
    let ids: BTreeSet<String> = decisions.iter().map(|d| d.id.to_string()).collect();
    let missing: Vec<String> = told.difference(&ids).cloned().collect();
    for id in missing {
        // Taken back, and killed before that was told: then it is among the ended ones.
        let shown = handle.show(id.parse().expect("id")).await.expect("show");
        let how = shown.and_then(|(_, ended)| ended).map(|e| e.how);
        assert_eq!(how, Some(Ending::Removed), "round {round}: decision {id} is lost");
        told.remove(&id);
    }
    let expected: BTreeSet<IpNetwork> = decisions
        .iter()
        .filter(|d| d.action == Action::KernelBan)
        .filter_map(|d| d.scope.network())
        .collect();
    let started = Instant::now();
    loop {
        let in_kernel: BTreeSet<IpNetwork> = kernel.lock().expect("lock").keys().copied().collect();
        if in_kernel == expected {
            break;
        }
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "round {round}: the kernel holds {}, the ledger {}",
            in_kernel.len(),
            expected.len()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    handle.stop().await;
    decisions.len()
}

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    if let Some(folder) = std::env::var_os(FOLDER) {
        let round = std::env::args().nth(1).and_then(|a| a.parse().ok()).expect("a round");
        return runtime.block_on(child(folder.into(), round));
    }
    let folder = std::env::temp_dir().join(format!("gateway-bans-kill-{}", std::process::id()));
    let (mut told, mut all_told, mut held) = (BTreeSet::new(), 0, 0);
    let mut random = 0x9E37_79B9_7F4A_7C15_u64 ^ u64::from(std::process::id());
    for round in 0..ROUNDS {
        if round % SAME_FILES == 0 {
            all_told += told.len();
            told.clear();
            drop(std::fs::remove_dir_all(&folder));
            std::fs::create_dir_all(&folder).expect("folder");
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        kill_one(&folder, round, Duration::from_micros((random >> 33) % 60_000), &mut told);
        held = runtime.block_on(check(&folder, round, &mut told));
    }
    std::fs::remove_dir_all(&folder).expect("removed");
    all_told += told.len();
    println!(
        "bans_kill: {ROUNDS} kills, {all_told} decisions told, {held} held at last, none lost, kernel and ledger agree"
    );
}
