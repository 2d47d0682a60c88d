use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, Version};

use super::*;
use crate::client::ClientId;
use crate::config::log::{AccessTarget, Format, Log};

fn record<'a>(method: &'a Method, agent: &'a HeaderValue, rules: &'a [u64]) -> Record<'a> {
    let addr: IpAddr = "192.0.2.1".parse().expect("address");
    Record {
        unix_ms: 1_795_228_384_005,
        took: Duration::from_micros(1234),
        request_id: "abc",
        peer: addr,
        client: ClientId::behind("10.0.0.1".parse().expect("address"), addr),
        listener: "l",
        route: Some("r"),
        method: Some(method),
        target: b"/a?b=\"\n",
        host: "h",
        version: Version::HTTP_11,
        user_agent: Some(agent),
        referer: None,
        status: StatusCode::FORBIDDEN,
        sent: 42,
        complete: false,
        server: None,
        server_took: None,
        denied: Some("waf"),
        limit: None,
        shadowed: &[],
        score: 5,
        rules,
        tls: Some("TLSv1.3"),
        ja4: None,
        country: Some(*b"FR"),
        asn: Some(64_500),
    }
}

fn log(target: AccessTarget, access_format: AccessFormat) -> Log {
    Log { level: tracing::Level::INFO, format: Format::Text, access: target, access_format }
}

#[test]
fn lines() {
    let agent = HeaderValue::from_static("x\"y");
    let mut out = Vec::new();
    record(&Method::GET, &agent, &[942_100]).write_json(&mut out);
    assert_eq!(
        String::from_utf8_lossy(&out),
        "{\"time\":\"2026-11-21T02:33:04.005Z\",\"request_id\":\"abc\",\"client\":\"192.0.2.1\",\
         \"proxy\":\"10.0.0.1\",\"listener\":\"l\",\"route\":\"r\",\"method\":\"GET\",\"host\":\"h\",\
         \"target\":\"/a?b=\\\"\\u000a\",\"protocol\":\"HTTP/1.1\",\"status\":403,\"sent\":42,\"ms\":1.234,\
         \"complete\":false,\"denied\":\"waf\",\"score\":5,\"rules\":[942100],\"tls\":\"TLSv1.3\",\
         \"country\":\"FR\",\"asn\":64500,\"user_agent\":\"x\\\"y\"}\n"
    );
    assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok());
    out.clear();
    let shadowed = ["a".into(), "b-2".into()];
    let limited = record(&Method::GET, &agent, &[]);
    Record { denied: Some("rate_limited"), limit: Some("l"), shadowed: &shadowed, score: 0, ..limited }
        .write_json(&mut out);
    let line = String::from_utf8_lossy(&out);
    assert!(
        line.contains("\"denied\":\"rate_limited\",\"limit\":\"l\",\"shadowed\":[\"a\", \"b-2\"],"),
        "{line}"
    );
    assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok());
    out.clear();
    record(&Method::GET, &agent, &[]).write_combined(&mut out);
    assert_eq!(
        String::from_utf8_lossy(&out),
        "192.0.2.1 - - [21/Nov/2026:02:33:04 +0000] \"GET /a?b=\\x22\\x0a HTTP/1.1\" 403 42 \"-\" \"x\\x22y\"\n"
    );
}

#[test]
fn the_file_gets_every_line_and_is_reopened() {
    let path = std::env::temp_dir().join(format!("gateway-access-{}.log", std::process::id()));
    let moved = path.with_extension("old");
    let (access, writer) =
        start(&log(AccessTarget::File(path.clone()), AccessFormat::Json), 2).expect("started");
    let agent = HeaderValue::from_static("a");
    for n in 0..100 {
        access.record(n, &record(&Method::GET, &agent, &[]));
    }
    std::thread::sleep(FLUSH_INTERVAL * 3);
    std::fs::rename(&path, &moved).expect("moved");
    access.reopen();
    std::thread::sleep(FLUSH_INTERVAL * 3);
    access.record(0, &record(&Method::GET, &agent, &[]));
    drop(writer);
    let lines = |path: &PathBuf| std::fs::read_to_string(path).expect("readable").lines().count();
    assert_eq!((lines(&moved), lines(&path), access.dropped()), (100, 1, 0));
    let _ = (std::fs::remove_file(&path), std::fs::remove_file(&moved));
}

#[test]
fn a_full_buffer_drops_and_counts() {
    let access = AccessLog {
        shards: [Mutex::new(vec![0; MAX_BUFFERED])].into(),
        format: AccessFormat::Json,
        path: None,
        is_on: true,
        written: AtomicU64::new(0),
        dropped: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        reopen: AtomicBool::new(false),
        closing: AtomicBool::new(false),
    };
    access.record(0, &record(&Method::GET, &HeaderValue::from_static("a"), &[]));
    assert_eq!(access.dropped(), 1);
    assert_eq!(access.shards[0].lock().expect("lock").len(), MAX_BUFFERED);
}
