//! Requests through two transactions, one with the screen in front of the operators and one without: shared by the fuzz target
//! `transactions` and the engine's own test of the same property.

use std::sync::Arc;

use gateway_waf::source::MemorySource;
use gateway_waf::{CompileOptions, Connection, Entry, Ruleset, Services, Transaction};

/// One of each kind of rule that the screen treats differently.
pub const RULES: &str = include_str!("../rules/transactions.conf");

/// Rule id, variable, value.
pub type Matches = Vec<(u64, Vec<u8>, Vec<u8>)>;

/// Two transactions that differ in the screen alone. They are reused, so that what they remember of earlier requests is at
/// work too.
pub struct Pair {
    screened: Transaction,
    plain: Transaction,
}

impl Pair {
    /// Under the rules of `entries`.
    pub fn new(files: &MemorySource, entries: &[Entry<'_>]) -> Self {
        let transaction = |prefilter| {
            let options = CompileOptions { prefilter, ..CompileOptions::default() };
            let (ruleset, _) = Ruleset::compile(files, entries, &options).expect("the rules compile");
            Transaction::new(Arc::new(ruleset), Services::default())
        };
        Self { screened: transaction(true), plain: transaction(false) }
    }

    /// Under [`RULES`].
    pub fn small() -> Self {
        Self::new(&MemorySource::new(), &[Entry::Text { name: "transactions.conf", text: RULES }])
    }

    /// What matches; both ways must agree.
    pub fn run(&mut self, uri: &[u8], headers: &[(&[u8], &[u8])], body: &[u8]) -> Matches {
        let with = matches(&mut self.screened, uri, headers, body);
        let without = matches(&mut self.plain, uri, headers, body);
        assert_eq!(
            with,
            without,
            "{} {:?} {}",
            uri.escape_ascii(),
            headers
                .iter()
                .map(|(n, v)| format!("{}: {}", n.escape_ascii(), v.escape_ascii()))
                .collect::<Vec<_>>(),
            body.escape_ascii()
        );
        with
    }
}

fn matches(tx: &mut Transaction, uri: &[u8], headers: &[(&[u8], &[u8])], body: &[u8]) -> Matches {
    tx.begin(&Connection {
        client: ([192, 0, 2, 7], 40_001).into(),
        server: ([192, 0, 2, 1], 443).into(),
        unix_nanos: 1_795_228_799_000_000_000,
        utc_offset_seconds: 0,
        unique_id: "traffic",
        web_app_id: "",
    });
    tx.request_line(b"POST", uri, b"HTTP/1.1");
    for (name, value) in headers {
        tx.request_header(name, value);
    }
    tx.request_headers();
    if tx.wants_request_body() {
        let _ = tx.write_request_body(body);
    }
    tx.request_body();
    tx.response_line(200, b"HTTP/1.1", b"OK");
    tx.response_header(b"Content-Type", b"text/plain");
    tx.response_headers();
    if tx.wants_response_body() {
        let _ = tx.write_response_body(body);
    }
    tx.response_body();
    tx.logging(1_795_228_799_000_000_001);
    tx.matches().iter().map(|m| (m.rule.id, m.variable().to_vec(), m.value().to_vec())).collect()
}
