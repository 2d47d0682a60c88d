//! Whole transactions under a small rule set: no panic, and the screen in front of the operators changes nothing.
//!
//! The input is a request: target, header lines, an empty line, the body. The transactions are reused, so that what they
//! remember of earlier requests is at work too.
#![no_main]

use std::cell::RefCell;
use std::sync::Arc;

use gateway_waf::source::MemorySource;
use gateway_waf::{CompileOptions, Connection, Entry, Ruleset, Services, Transaction};
use libfuzzer_sys::fuzz_target;

const RULES: &str = include_str!("../rules/transactions.conf");

thread_local! {
    static PAIR: RefCell<(Transaction, Transaction)> = RefCell::new((transaction(true), transaction(false)));
}

fn transaction(prefilter: bool) -> Transaction {
    let entries = [Entry::Text { name: "transactions.conf", text: RULES }];
    let options = CompileOptions { prefilter, ..CompileOptions::default() };
    let (ruleset, _) = Ruleset::compile(&MemorySource::new(), &entries, &options).expect("the rules compile");
    Transaction::new(Arc::new(ruleset), Services::default())
}

fn matches(tx: &mut Transaction, data: &[u8]) -> Vec<(u64, Vec<u8>, Vec<u8>)> {
    tx.begin(&Connection {
        client: ([192, 0, 2, 7], 40_001).into(),
        server: ([192, 0, 2, 1], 443).into(),
        unix_nanos: 1_795_228_799_000_000_000,
        utc_offset_seconds: 0,
        unique_id: "fuzz",
        web_app_id: "",
    });
    let mut lines = data.splitn(2, |&byte| byte == b'\n');
    let uri = lines.next().unwrap_or_default();
    let mut rest = lines.next().unwrap_or_default();
    tx.request_line(b"POST", uri, b"HTTP/1.1");
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { break };
        tx.request_header(&line[..colon], &line[colon + 1..]);
    }
    tx.request_headers();
    if tx.wants_request_body() {
        let _ = tx.write_request_body(rest);
    }
    tx.request_body();
    tx.response_line(200, b"HTTP/1.1", b"OK");
    tx.response_header(b"Content-Type", b"text/plain");
    tx.response_headers();
    if tx.wants_response_body() {
        let _ = tx.write_response_body(rest);
    }
    tx.response_body();
    tx.logging(1_795_228_799_000_000_001);
    tx.matches().iter().map(|m| (m.rule.id, m.variable().to_vec(), m.value().to_vec())).collect()
}

fuzz_target!(|data: &[u8]| {
    PAIR.with_borrow_mut(|(screened, plain)| {
        assert_eq!(matches(screened, data), matches(plain, data));
    });
});
