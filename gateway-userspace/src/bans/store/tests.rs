use std::time::Instant;

use super::*;
use crate::bans::{Action, Cause, Ending, ManualClock, Origin};

const NOW: u64 = 1_700_000_000_000;
const RETAIN: Keep = Keep { named: Duration::from_hours(24), at_all: Duration::from_hours(24) };

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gateway-store-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).expect("folder");
        Self(path)
    }

    fn database(&self) -> PathBuf {
        self.0.join("bans.redb")
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(&self.0)
            .expect("folder")
            .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn decision(number: u64) -> Arc<Decision> {
    Arc::new(Decision {
        id: DecisionId::new(NOW, 1, number),
        scope: crate::bans::Scope::Network(IpNetwork::host(std::net::Ipv4Addr::from(number as u32).into())),
        action: Action::KernelBan,
        origin: Origin::Local,
        reason: "scenario waf: 5 waf offences in 2 s".into(),
        scenario: Some("waf".into()),
        start_ms: NOW,
        end_ms: Some(NOW + 600_000),
        cause: Cause { rules: vec![942100], requests: vec!["r1".into()], ..Cause::default() },
    })
}

fn ended(number: u64) -> Op {
    Op::Ended(Arc::new(Ended { decision: decision(number), how: Ending::Expired, at_ms: NOW + number }))
}

fn encoded(ops: Vec<Op>) -> Encoded {
    Encoded::new(ops).expect("encoded")
}

fn open(folder: &Folder) -> (Arc<Store>, Loaded) {
    Store::open(&folder.database(), RETAIN, Arc::new(ManualClock::at(NOW))).expect("store")
}

#[test]
fn what_was_appended_is_loaded() {
    let folder = Folder::new("loaded");
    let (store, loaded) = open(&folder);
    assert_eq!((loaded.held.len(), loaded.replayed, loaded.before), (0, 0, Before::Unknown));
    let network: IpNetwork = "192.0.2.0/24".parse().expect("network");
    store.append((0..10).map(|i| Op::Began(decision(i))).collect());
    store.append(vec![ended(3), ended(4), Op::Allow(network)]);
    store.close();
    assert_eq!(folder.names(), ["bans.redb"], "a clean end leaves no journal");
    let (store, loaded) = open(&folder);
    assert_eq!(loaded.before, Before::Closed);
    assert_eq!((loaded.held.len(), loaded.ended.len(), loaded.allow), (8, 2, vec![network]));
    assert_eq!(loaded.held[0], decision(0));
    store.append(vec![Op::Disallow(network), Op::Erase(vec![(NOW + 3, decision(3).id)])]);
    store.close();
    let (store, loaded) = open(&folder);
    assert_eq!((loaded.ended.len(), loaded.allow.len()), (1, 0));
    let second = Store::open(&folder.database(), RETAIN, Arc::new(ManualClock::at(NOW)));
    assert!(matches!(second, Err(StoreError::InUse(_))));
    store.close();
}

#[test]
fn a_journal_is_replayed_up_to_its_damage() {
    let folder = Folder::new("journal");
    open(&folder).0.close();
    let mut journal = Journal::create(&folder.database(), 7).expect("journal");
    journal
        .append(encoded(vec![Op::Began(decision(1)), Op::Began(decision(2)), ended(1)]).lines())
        .expect("append");
    let (database, number) = journal.next();
    let next = Journal::create(&database, number).expect("the next journal");
    let torn = std::mem::replace(&mut journal, next).path();
    journal.append(encoded(vec![Op::Began(decision(3))]).lines()).expect("append");
    let mut bytes = std::fs::read(&torn).expect("journal");
    bytes.truncate(bytes.len() - 5);
    std::fs::write(&torn, &bytes).expect("journal");
    let (store, loaded) = open(&folder);
    let ids: Vec<DecisionId> = loaded.held.iter().map(|d| d.id).collect();
    assert_eq!(ids, [1, 2, 3].map(|i| decision(i).id));
    assert_eq!((loaded.replayed, loaded.before), (3, Before::Killed));
    store.close();
}

#[test]
fn a_damaged_file_is_set_aside_and_said() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 3] = [
        ("text", |bytes| *bytes = b"this is no database".to_vec()),
        ("zeros", |bytes| bytes.fill(0)),
        ("garbage", |bytes| bytes.iter_mut().enumerate().for_each(|(i, b)| *b = (i * 7) as u8)),
    ];
    for (name, damage) in damages {
        let folder = Folder::new(&format!("damaged-{name}"));
        let (store, _) = open(&folder);
        store.append(vec![Op::Began(decision(1))]);
        store.close();
        let mut bytes = std::fs::read(folder.database()).expect("database");
        damage(&mut bytes);
        std::fs::write(folder.database(), &bytes).expect("database");
        let mut journal = Journal::create(&folder.database(), 9).expect("journal");
        journal.append(encoded(vec![Op::Began(decision(2))]).lines()).expect("append");
        let (store, loaded) = open(&folder);
        let aside = loaded.set_aside.expect("set aside");
        assert_eq!(std::fs::read(&aside).expect("kept"), bytes, "{name}");
        assert_eq!(loaded.held.len(), 1, "{name}: the journal is taken in all the same");
        store.close();
    }
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let folder = Folder::new("newer");
    open(&folder).0.close();
    {
        let db = redb::Database::open(folder.database()).expect("database");
        let txn = db.begin_write().expect("transaction");
        let meta = redb::TableDefinition::<'_, &str, u64>::new("meta");
        txn.open_table(meta).expect("table").insert("schema", 99).expect("insert");
        txn.commit().expect("commit");
    }
    let refused = Store::open(&folder.database(), RETAIN, Arc::new(ManualClock::at(NOW)));
    let error = refused.expect_err("refused").to_string();
    assert!(error.contains("schema 99, this version knows 1"), "{error}");
    assert_eq!(folder.names(), ["bans.redb"]);
}

#[test]
fn old_rows_are_pruned() {
    let folder = Folder::new("pruned");
    let (mut database, _) = database::open(&folder.database(), NOW).expect("database");
    database.commit(&[encoded((0..100).map(ended).collect())]).expect("commit");
    database.prune(NOW + 40).expect("prune");
    assert_eq!(database.load().expect("load").ended.len(), 60);
}

#[test]
fn many_decisions_are_stored_fast() {
    const COUNT: u64 = 100_000;
    let folder = Folder::new("many");
    let (store, _) = open(&folder);
    let start = Instant::now();
    for chunk in 0..COUNT / 1000 {
        store.append((chunk * 1000..(chunk + 1) * 1000).map(|i| Op::Began(decision(i))).collect());
    }
    let appended = start.elapsed();
    store.close();
    println!("{COUNT} decisions: journalled in {appended:?}, committed in {:?}", start.elapsed());
    let (store, loaded) = open(&folder);
    assert_eq!(loaded.held.len() as u64, COUNT);
    store.close();
}

#[test]
fn what_ended_long_ago_has_no_address() {
    let folder = Folder::new("anonymous");
    let (mut database, _) = database::open(&folder.database(), NOW).expect("database");
    database.commit(&[encoded((0..3).map(ended).collect())]).expect("commit");
    for (before, expected) in [(0, 3), (2, 1), (2, 1), (3, 0)] {
        database.anonymise(NOW + before).expect("anonymise");
        let named =
            database.load().expect("load").ended.iter().filter(|e| e.decision.anonymous().is_some()).count();
        assert_eq!(named, expected, "before {before}");
    }
    let all = database.load().expect("load").ended;
    assert!(all.iter().all(|e| e.decision.scope.to_string().ends_with(".0/24")), "{all:?}");
}
