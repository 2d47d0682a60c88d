use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_waf::source::MemorySource;
use gateway_waf::{CompileOptions, Connection, Entry, Ruleset, Services, Transaction};

use super::*;

const RULES: &str = "SecRuleEngine On\nSecAuditLogParts ABHZ\n\
    SecRule ARGS \"@contains evil\" \"id:1,phase:2,deny,status:403,log,auditlog,msg:'An attack',severity:CRITICAL\"\n\
    SecRule ARGS \"@contains quiet\" \"id:2,phase:2,pass,nolog,noauditlog\"\n";

fn transaction(more: &str, uri: &str, status: u16) -> Transaction {
    let text = format!("{RULES}{more}\n");
    let entries = [Entry::Text { name: "test.conf", text: &text }];
    let (ruleset, _) = Ruleset::compile(&MemorySource::new(), &entries, &CompileOptions::default())
        .unwrap_or_else(|d| panic!("{d:?}"));
    let mut tx = Transaction::new(Arc::new(ruleset), Services::default());
    tx.begin(&Connection {
        client: ([192, 0, 2, 7], 40_001).into(),
        server: ([192, 0, 2, 1], 443).into(),
        unix_nanos: 1_795_228_799_000_000_000,
        utc_offset_seconds: 0,
        unique_id: "id/1",
        web_app_id: "",
    });
    tx.request_line(b"GET", uri.as_bytes(), b"HTTP/1.1");
    tx.request_header(b"Host", b"example.org");
    tx.request_headers();
    tx.request_body();
    tx.response_line(status, b"HTTP/1.1", b"");
    tx.logging(1_795_228_799_000_000_000);
    tx
}

fn ended(status: u16) -> Ended {
    Ended { began_unix_nanos: 1_795_228_799_000_000_000, ended_unix_nanos: 1_795_228_799_100_000_000, status }
}

/// A folder that goes away.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gateway-audit-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What the file holds once the writer is done with these transactions.
fn written(folder: &Folder, transactions: Vec<(Transaction, u16)>) -> String {
    let path = folder.0.join("audit.log");
    let (log, writer) = start(Target { log: Some(path.clone()), lines_a_second: 0 }).expect("started");
    for (mut tx, status) in transactions {
        log.take(&mut tx, ended(status));
    }
    drop(writer);
    let mode = std::fs::metadata(&path).expect("file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::read_to_string(path).expect("text")
}

#[test]
fn what_is_written_is_what_the_engine_is_set_to() {
    let folder = Folder::new("engine");
    for (name, settings, uri, status, records) in [
        ("off", "SecAuditEngine Off", "/?a=evil", 403, 0),
        ("default", "", "/?a=evil", 403, 0),
        ("on", "SecAuditEngine On", "/?a=fine", 200, 1),
        ("relevant: a match", "SecAuditEngine RelevantOnly", "/?a=evil", 403, 1),
        ("relevant: none", "SecAuditEngine RelevantOnly", "/?a=fine", 200, 0),
        ("relevant: noauditlog", "SecAuditEngine RelevantOnly", "/?a=quiet", 200, 0),
        ("relevant: status", "SecAuditEngine RelevantOnly\nSecAuditLogRelevantStatus ^5", "/?a=fine", 502, 1),
        (
            "relevant: other status",
            "SecAuditEngine RelevantOnly\nSecAuditLogRelevantStatus ^5",
            "/?a=fine",
            404,
            0,
        ),
    ] {
        let tx = transaction(&format!("{settings}\nSecAuditLogFormat JSON"), uri, status);
        let text = written(&folder, vec![(tx, status)]);
        assert_eq!(text.lines().count(), records, "{name}: {text}");
        for line in text.lines() {
            let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(record["transaction"]["response"]["http_code"], status, "{name}");
        }
        std::fs::remove_file(folder.0.join("audit.log")).expect("removed");
    }
}

#[test]
fn native_records_are_apart_by_a_boundary_that_nobody_foresees() {
    let folder = Folder::new("native");
    let text = written(&folder, vec![(transaction("SecAuditEngine On", "/?a=evil", 403), 403)]);
    let boundary = text.strip_prefix("--").and_then(|t| t.split_once("-A--\n")).expect("part A").0;
    assert_eq!(boundary.len(), 8, "{text}");
    for part in ["A", "B", "H", "Z"] {
        assert!(text.contains(&format!("--{boundary}-{part}--\n")), "{part}: {text}");
    }
    assert!(text.contains("[id \"1\"]"), "{text}");
}

#[test]
fn a_record_may_have_a_file_of_its_own() {
    let folder = Folder::new("own");
    let settings = format!(
        "SecAuditEngine On\nSecAuditLogType Concurrent\nSecAuditLogStorageDir {}\nSecAuditLogFormat JSON",
        folder.0.display()
    );
    let index = written(&folder, vec![(transaction(&settings, "/?a=evil", 403), 403)]);
    let own = folder.0.join("20261121/20261121-0239/20261121-023959-id_1");
    assert!(index.contains(&own.display().to_string()), "{index}");
    let record: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&own).expect("file")).expect("JSON");
    assert_eq!(record["transaction"]["unique_id"], "id/1");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&own), mode(own.parent().expect("folder"))), (0o600, 0o700));
}

#[test]
fn rotation_and_another_target_open_the_file_anew() {
    let folder = Folder::new("rotation");
    let (first, moved, other) = (folder.0.join("a.log"), folder.0.join("a.log.1"), folder.0.join("b.log"));
    let (log, writer) = start(Target { log: Some(first.clone()), lines_a_second: 0 }).expect("started");
    let mut tx = transaction("SecAuditEngine On\nSecAuditLogFormat JSON", "/?a=evil", 403);
    let lines = |path: &Path, wanted: usize| {
        let started = Instant::now();
        loop {
            let count = std::fs::read_to_string(path).unwrap_or_default().lines().count();
            if count >= wanted || started.elapsed() > Duration::from_secs(20) {
                return count;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    log.take(&mut tx, ended(403));
    assert_eq!(lines(&first, 1), 1);
    std::fs::rename(&first, &moved).expect("moved");
    log.reopen();
    while !first.exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    log.take(&mut tx, ended(403));
    assert_eq!((lines(&first, 1), lines(&moved, 1)), (1, 1));
    log.set(Target { log: Some(other.clone()), lines_a_second: 0 });
    while !other.exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    log.take(&mut tx, ended(403));
    drop(writer);
    assert_eq!((lines(&first, 1), lines(&other, 1)), (1, 1));
    assert!(start(Target { log: Some(folder.0.join("none/x.log")), lines_a_second: 0 }).is_err());
}

#[test]
fn a_full_queue_drops_and_counts() {
    let (queue, items) = std::sync::mpsc::sync_channel(2);
    let log = AuditLog {
        queue,
        queued_bytes: AtomicU64::new(0),
        target: Mutex::default(),
        has_file: AtomicBool::new(true),
        has_lines: AtomicBool::new(true),
        reopen: AtomicBool::new(false),
        closing: AtomicBool::new(false),
        records: AtomicU64::new(0),
        lines: AtomicU64::new(0),
        dropped: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    };
    let mut tx = transaction("SecAuditEngine On", "/?a=evil", 403);
    for dropped in [0, 2, 4] {
        log.take(&mut tx, ended(403));
        assert_eq!(log.dropped(), dropped);
        assert!(log.queued_bytes.load(Relaxed) > 0);
    }
    assert_eq!(items.try_iter().count(), 2);
    log.queued_bytes.store(MAX_QUEUED_BYTES, Relaxed);
    log.take(&mut tx, ended(403));
    assert_eq!((log.dropped(), items.try_iter().count()), (6, 0));
}
