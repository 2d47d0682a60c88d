//! The worst that a client can send costs time and memory in proportion to its size, whatever it is made of.
//!
//! Each case runs at one size and at four times that, with the screen and without. Time is processor time of the thread, so that
//! other programs hardly count; growth by the square would be sixteenfold.

use std::sync::Arc;

use gateway_waf::source::MemorySource;
use gateway_waf::{CompileOptions, Connection, Entry, Ruleset, Services, Transaction};

const SMALL: &str = include_str!("../../../../tests/fuzz/rules/transactions.conf");

/// What older rule sets have: patterns that back-tracking matchers choke on, and two that really need back-tracking. Those have a
/// bound on their steps, not a linear cost below it, and so look at one argument alone.
const CATASTROPHIC: &str = r#"
SecRequestBodyLimit 134217728
SecRequestBodyNoFilesLimit 134217728
SecRequestBodyJsonDepthLimit 10000
SecArgumentsLimit 100000
SecRule ARGS "@rx ^(a+)+$" "id:100,phase:2,pass,log"
SecRule ARGS "@rx (?:x|x|xx)*y" "id:101,phase:2,pass,log"
SecRule ARGS:back "@rx (.*)\1z$" "id:102,phase:2,pass,log"
SecRule ARGS:back "@rx (?=(a+))a*b" "id:103,phase:2,pass,log"
SecRule ARGS "@rx (?i:(?:\bselect\b.*?){3}(?:\bfrom\b.*?){3}\bwhere\b)" "id:104,phase:2,pass,log"
SecRule ARGS "@rx \s*(?:\s*\s*)*=" "id:105,phase:2,pass,log"
SecRule ARGS|ARGS_NAMES "@pm aaaa aaab aaba" "id:106,phase:2,pass,log"
"#;

/// Most times the small size's work that four times the size may take.
const GROWTH_MAX: f64 = 10.0;
/// Times that a growth is measured before it counts: noise comes in bursts.
const ATTEMPTS: usize = 4;
/// Processor time of a measurement: several ticks of the scheduler, which count it.
const MEASURABLE_NANOS: u64 = 40_000_000;
/// Most runs of a measurement.
const RUNS_MAX: u32 = 400;
/// Most bytes allocated at a time for each byte of the request, and besides.
const MEMORY_FACTOR: u64 = 120;
const MEMORY_BASE: u64 = 16 << 20;

struct Request {
    uri: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn post(content_type: &str, body: impl Into<Vec<u8>>) -> Request {
    let headers = vec![("Host", "h".to_owned()), ("Content-Type", content_type.to_owned())];
    Request { uri: "/".to_owned(), headers, body: body.into() }
}

fn form(body: impl Into<Vec<u8>>) -> Request {
    post("application/x-www-form-urlencoded", body)
}

fn run(tx: &mut Transaction, request: &Request) {
    tx.begin(&Connection {
        client: ([192, 0, 2, 7], 40_001).into(),
        server: ([192, 0, 2, 1], 443).into(),
        unix_nanos: 1_795_228_799_000_000_000,
        utc_offset_seconds: 0,
        unique_id: "worst",
        web_app_id: "",
    });
    tx.request_line(b"POST", request.uri.as_bytes(), b"HTTP/1.1");
    for (name, value) in &request.headers {
        tx.request_header(name.as_bytes(), value.as_bytes());
    }
    tx.request_headers();
    assert!(tx.wants_request_body());
    let _ = tx.write_request_body(&request.body);
    tx.request_body();
    tx.logging(1_795_228_799_000_000_001);
}

/// Nanoseconds that this thread has been on a processor, as the scheduler last noted them: at each of its ticks at least.
fn processor_nanos() -> u64 {
    std::thread::yield_now();
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux says it");
    stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("nanoseconds first")
}

/// Processor time of a run, nanoseconds: the mean of as many as take long enough to be measured.
fn cost(tx: &mut Transaction, request: &Request) -> f64 {
    let begun = processor_nanos();
    for runs in 1..=RUNS_MAX {
        run(tx, request);
        let took = processor_nanos() - begun;
        if took >= MEASURABLE_NANOS || runs == RUNS_MAX {
            return took as f64 / f64::from(runs);
        }
    }
    0.0
}

type Make = fn(usize) -> Request;

/// Name, the small size, the request of a size.
const CASES: [(&str, usize, Make); 15] = [
    ("arguments", 600, |n| form((0..n).map(|i| format!("a{i}=v{i}&")).collect::<String>())),
    ("arguments of one name", 600, |n| form("a=x&".repeat(n))),
    ("deep JSON", 500, |n| post("application/json", format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n)))),
    ("deep arrays", 500, |n| post("application/json", format!("{}1{}", "[".repeat(n), "]".repeat(n)))),
    ("wide JSON", 500, |n| post("application/json", format!("[{}0]", "\"<a>\",".repeat(n)))),
    ("wide XML", 500, |n| post("text/xml", format!("<a>{}</a>", "<b c=\"1\">x</b>".repeat(n)))),
    ("nested encodings", 3000, |n| form(format!("a=%{}3Cscript", "25".repeat(n)))),
    ("encoded entities", 3000, |n| form(format!("a={}", "%26%23x26;%23x3c;\\u003c".repeat(n / 8)))),
    ("a value of letters", 8000, |n| form(format!("c={}!", "a".repeat(n)))),
    ("a value of blanks", 8000, |n| form(format!("a={}x", "+".repeat(n)))),
    ("a value of words", 4000, |n| form(format!("a={}", "select+from+xx+".repeat(n / 8)))),
    ("comments", 4000, |n| form(format!("a={}", "/*+*/'".repeat(n / 8)))),
    ("a long header", 8000, |n| {
        let mut request = form("a=b");
        request.headers.push(("User-Agent", "Mozilla/5.0 ('x') ".repeat(n / 16)));
        request
    }),
    ("a huge cookie", 6000, |n| {
        let mut request = form("a=b");
        request.headers.push(("Cookie", "a=<b;".repeat(n / 8)));
        request
    }),
    ("many parts", 150, |n| {
        let part = "--b\r\nContent-Disposition: form-data; name=\"a\"; filename=\"x.php\"\r\n\r\nhi\r\n";
        post("multipart/form-data; boundary=b", format!("{}--b--\r\n", part.repeat(n)))
    }),
];

fn compile(entries: &[Entry<'_>], prefilter: bool) -> Transaction {
    let options = CompileOptions { prefilter, ..CompileOptions::default() };
    let (ruleset, _) = Ruleset::compile(&MemorySource::new(), entries, &options).expect("the rules compile");
    Transaction::new(Arc::new(ruleset), Services::default())
}

fn transaction(prefilter: bool) -> Transaction {
    let entries = [
        Entry::Text { name: "transactions.conf", text: SMALL },
        Entry::Text { name: "catastrophic.conf", text: CATASTROPHIC },
    ];
    compile(&entries, prefilter)
}

#[test]
fn cost_grows_with_size() {
    for prefilter in [true, false] {
        let mut tx = transaction(prefilter);
        for (name, size, make) in CASES {
            let (small, large) = (make(size), make(size * 4));
            let growth = (0..ATTEMPTS)
                .map(|_| cost(&mut tx, &large) / cost(&mut tx, &small).max(1.0))
                .find(|growth| *growth <= GROWTH_MAX);
            assert!(
                growth.is_some(),
                "{name}, prefilter {prefilter}: over {GROWTH_MAX} times the cost for 4 times the size"
            );
        }
    }
}

#[test]
fn memory_grows_with_size() {
    for (name, size, make) in CASES {
        let request = make(size * 4);
        let bytes = request.body.len() as u64 + request.headers.iter().map(|h| h.1.len() as u64).sum::<u64>();
        let mut tx = transaction(true);
        let used = allocation_counter::measure(|| run(&mut tx, &request));
        let most = MEMORY_BASE + bytes * MEMORY_FACTOR;
        assert!(
            used.bytes_max <= most,
            "{name}: {} bytes at a time for {bytes}, at most {most}",
            used.bytes_max
        );
    }
}

/// 10,000 arguments are taken when the limit allows, and one more is not.
#[test]
fn ten_thousand_arguments() {
    let rules =
        format!("{SMALL}\nSecArgumentsLimit 10000\nSecRule &ARGS \"@eq 10000\" \"id:200,phase:2,pass,log\"");
    for (count, is_error) in [(10_000, false), (10_001, true)] {
        let mut tx = compile(&[Entry::Text { name: "limit.conf", text: &rules }], true);
        let body: String = (0..count).map(|i| format!("a{i}=&")).collect();
        let used = allocation_counter::measure(|| run(&mut tx, &form(body)));
        let ids: Vec<u64> = tx.matches().iter().map(|m| m.rule.id).collect();
        assert!(ids.contains(&200), "{count}: all up to the limit are kept");
        assert_eq!(ids.contains(&20), is_error, "{count}: REQBODY_ERROR");
        assert!(used.bytes_max <= 32 << 20, "{count}: {} bytes", used.bytes_max);
    }
}

/// A megabyte in one value, under every rule: done, and in bounded memory.
#[test]
fn a_megabyte_in_one_value() {
    let mut tx = transaction(true);
    for filler in ["a", "%3C", "'\"", "\\u0027"] {
        let request = form(format!("a={}", filler.repeat((1 << 20) / filler.len())));
        let used = allocation_counter::measure(|| run(&mut tx, &request));
        assert!(used.bytes_max <= 96 << 20, "{filler}: {} bytes", used.bytes_max);
    }
}

/// The patterns that need back-tracking give up, on a value made for it.
#[test]
fn backtracking_gives_up() {
    let rule = "SecRule MSC_PCRE_LIMITS_EXCEEDED \"@eq 1\" \"id:300,phase:2,pass,log\"";
    let rules = format!("{SMALL}\n{CATASTROPHIC}\n{rule}");
    let mut tx = compile(&[Entry::Text { name: "rules.conf", text: &rules }], true);
    for (length, gives_up) in [(20, false), (700, true)] {
        run(&mut tx, &form(format!("back={}", "a".repeat(length))));
        let has_given_up = tx.matches().iter().any(|m| m.rule.id == 300);
        assert_eq!(has_given_up, gives_up, "{length} letters");
    }
}
