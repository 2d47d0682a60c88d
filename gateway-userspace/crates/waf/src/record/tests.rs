use std::sync::Arc;

use super::audit::{Record, RecordContext};
use crate::source::MemorySource;
use crate::{CompileOptions, Connection, Entry, Ruleset, Services, Transaction};

const RULES: &str = r#"
SecRuleEngine On
SecRequestBodyAccess On
SecAuditEngine RelevantOnly
SecAction "id:1,phase:1,pass,nolog,sanitiseArg:password,sanitiseRequestHeader:Authorization"
SecRule ARGS "@contains attack" "id:2,phase:2,deny,status:403,log,auditlog,msg:'An attack',\
    logdata:'%{MATCHED_VAR}',severity:CRITICAL,tag:'t/1'"
"#;

fn transaction(parts: &str) -> Transaction {
    let text = format!("{RULES}SecAuditLogParts {parts}\n");
    let entries = [Entry::Text { name: "test.conf", text: &text }];
    let compiled = Ruleset::compile(&MemorySource::new(), &entries, &CompileOptions::default());
    let (ruleset, _) = compiled.unwrap_or_else(|diagnostics| panic!("{diagnostics:?}"));
    let mut tx = Transaction::new(Arc::new(ruleset), Services::default());
    tx.begin(&Connection {
        client: ([192, 0, 2, 7], 40_001).into(),
        server: ([192, 0, 2, 1], 443).into(),
        unix_nanos: 1_795_228_799_000_000_000,
        utc_offset_seconds: 0,
        unique_id: "unique-1",
        web_app_id: "",
    });
    tx.request_line(b"POST", b"/login?password=hunter2&x=1", b"HTTP/1.1");
    tx.request_header(b"Host", b"example.org");
    tx.request_header(b"Authorization", b"Bearer token");
    tx.request_header(b"Content-Type", b"application/x-www-form-urlencoded");
    tx.request_headers();
    let _ = tx.write_request_body(b"password=hunter2&note=attack+hunter2");
    tx.request_body();
    tx.logging(1_795_228_799_500_000_000);
    tx
}

fn record(parts: &str) -> Record {
    let mut tx = transaction(parts);
    assert!(tx.is_for_audit());
    let context = RecordContext {
        unix_nanos: 1_795_228_799_000_000_000,
        utc_offset_seconds: 0,
        producer: "gateway/test",
        status: 403,
    };
    Record::new(&mut tx, &context)
}

#[test]
fn json_has_the_shape_of_version_3() {
    let json = serde_json::to_value(record("ABCHZ")).expect("serialises");
    let rows = [
        ("/transaction/client_ip", "192.0.2.7"),
        ("/transaction/time_stamp", "Sat Nov 21 02:39:59 2026"),
        ("/transaction/unique_id", "unique-1"),
        ("/transaction/request/method", "POST"),
        ("/transaction/request/http_version", "1.1"),
        ("/transaction/request/uri", "/login?password=*******&x=1"),
        ("/transaction/request/headers/Host", "example.org"),
        ("/transaction/request/headers/Authorization", "************"),
        ("/transaction/request/body", "password=*******&note=attack+*******"),
        ("/transaction/messages/0/message", "An attack"),
        ("/transaction/messages/0/details/ruleId", "2"),
        ("/transaction/messages/0/details/data", "attack *******"),
        ("/transaction/messages/0/details/severity", "2"),
        ("/transaction/messages/0/details/tags/0", "t/1"),
        ("/transaction/producer/secrules_engine", "Enabled"),
    ];
    for (pointer, expected) in rows {
        assert_eq!(json.pointer(pointer).and_then(|v| v.as_str()), Some(expected), "{pointer}");
    }
    assert_eq!(
        json.pointer("/transaction/response/http_code").and_then(serde_json::Value::as_u64),
        Some(403)
    );
    assert!(json.pointer("/transaction/response/headers").is_none(), "part F was not asked for");
}

#[test]
fn native_has_the_parts_asked_for() {
    let text = record("ABCFHIJKZ").native("b0");
    for part in ["A", "B", "C", "F", "H", "I", "J", "K", "Z"] {
        assert_eq!(text.matches(&format!("--b0-{part}--\n")).count(), 1, "{part}: {text}");
    }
    let line = "[21/Nov/2026:02:39:59 +0000] unique-1 192.0.2.7 40001 192.0.2.1 443\n";
    for expected in [line, "POST /login?password=*******&x=1 HTTP/1.1\nHost: example.org\n", "[id \"2\"]"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains("hunter2") && !text.contains("Bearer"), "{text}");
    assert!(!record("AZ").native("b0").contains("--b0-B--"));
}

#[test]
fn lines_hide_what_is_to_be_hidden() {
    let got = super::lines(&mut transaction("ABZ"), 403, 10);
    let [line] = &*got else { panic!("{got:?}") };
    let begins = "[client 192.0.2.7] ModSecurity: Access denied with code 403 (phase 2). ";
    assert!(line.starts_with(begins), "{line}");
    assert!(line.contains("[data \"attack *******\"]") && !line.contains("hunter2"), "{line}");
    assert!(super::lines(&mut transaction("ABZ"), 403, 0).is_empty());
}

#[test]
fn a_record_of_its_own_has_a_path_that_leads_nowhere_else() {
    let mut record = record("ABZ");
    assert_eq!(record.path(), "20261121/20261121-0239/20261121-023959-unique-1");
    let line = record.index_line("/x/y", 7);
    let expected = "192.0.2.1 192.0.2.7 - - [21/Nov/2026:02:39:59 +0000] \"POST /login?password=*******&x=1 HTTP/1.1\" \
        403 7 \"-\" \"-\" unique-1 \"-\" /x/y 0 7";
    assert_eq!(line, expected);
    record.transaction.unique_id = b"../../etc/x".as_slice().into();
    assert_eq!(record.path(), "20261121/20261121-0239/20261121-023959-______etc_x");
}
