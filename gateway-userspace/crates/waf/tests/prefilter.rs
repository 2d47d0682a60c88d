//! The screen in front of the operators changes nothing: the same rules match the same values with it and without.
//!
//! The rules are those of the fuzz target `transactions`, one of each kind that the screen treats differently. The same
//! transactions go through one reused memory on each side, so that what is remembered of earlier values is at work.

use std::collections::BTreeSet;

#[path = "../../../../tests/fuzz/shared/traffic.rs"]
mod traffic;
use traffic::Pair;

/// Target, headers, body.
type Seed = (&'static str, &'static [(&'static str, &'static str)], &'static str);

const SEEDS: [Seed; 12] = [
    ("/", &[("Host", "h")], ""),
    ("/index.html?a=1&b=two", &[("Host", "h"), ("User-Agent", "Mozilla/5.0 (X11; Linux)")], ""),
    ("/?a=x&a=%3Cscript%3E", &[("Host", "h"), ("Cookie", "s=<script x>; t=1")], ""),
    ("/\u{e9}?a=%zz", &[("X-Forbidden", "1")], "ctl"),
    ("/?q=1+or+1%3D1--", &[("Host", "h"), ("User-Agent", "1' or '1'='1")], ""),
    ("/?a=UN/**/ION%20SEL/**/ECT", &[("Host", "h")], ""),
    ("/a.PHP?f=x.Php&g=./y//z.php", &[("Host", "h"), ("X-Run", "; c'U\"r\\L -o")], ""),
    (
        "/form",
        &[("Host", "h"), ("Content-Type", "application/x-www-form-urlencoded")],
        "a=deadbeef&b=x&c=&d=aaab",
    ),
    (
        "/json",
        &[("Host", "h"), ("Content-Type", "application/json")],
        "{\"a\":[1,\"<img onerror=x>\"],\"b\":{\"c\":\"L2V0Yy8=\"}}",
    ),
    ("/xml", &[("Host", "h"), ("Content-Type", "text/xml")], "<a b=\"union\"><c>select sleep(1)</c></a>"),
    ("/txt", &[("Host", "h")], "You have an error in your SQL syntax near ORA-12345"),
    (
        "/up",
        &[("Host", "h"), ("Content-Type", "multipart/form-data; boundary=b")],
        "--b\r\nContent-Disposition: form-data; name=\"a\"; filename=\"x.php\"\r\n\r\nhi\r\n--b--\r\n",
    ),
];

const PIECES: [&str; 22] = [
    "<", "script", ">", "'", "\"", "\\", "%00", "%27", "+", " ", "=", "&", "union", "select", "/*x*/",
    "..%2f", "/etc/", "curl", ";", "onload=", "\u{e9}", "A",
];

struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    /// A few pieces put in, or bytes taken out.
    fn mutate(&mut self, text: &mut Vec<u8>) {
        for _ in 0..self.below(4) {
            let at = self.below(text.len() + 1);
            if self.below(3) == 0 && at < text.len() {
                text.remove(at);
            } else {
                let piece = PIECES[self.below(PIECES.len())];
                text.splice(at..at, piece.bytes());
            }
        }
    }
}

#[test]
fn the_same_rules_match_with_and_without() {
    let mut pair = Pair::small();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut seen = BTreeSet::new();
    for round in 0..4000 {
        let (uri, headers, body) = SEEDS[round % SEEDS.len()];
        let (mut uri, mut body) = (uri.as_bytes().to_vec(), body.as_bytes().to_vec());
        let mut headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
        if round >= SEEDS.len() {
            numbers.mutate(&mut uri);
            numbers.mutate(&mut body);
            headers.iter_mut().for_each(|(_, value)| numbers.mutate(value));
        }
        let headers: Vec<_> = headers.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        let found = pair.run(&uri, &headers, &body);
        seen.extend(found.into_iter().map(|(id, ..)| id));
    }
    assert!(seen.len() >= 20, "the requests match too few rules to tell: {seen:?}");
}

/// Values so long, and so often of the same kind, that each kind gets its own search: it begins after 32 KiB of a kind.
#[test]
fn the_same_rules_match_in_long_values() {
    const TEXTS: [&str; 3] = [
        "it+was+late,+and+the+river+rose.+",
        "YWJjZGVmZ2hpamtsbW5v",
        "%3Cb%3E+Select+a+uni-on+of+1%3D1;+'x'+/bin+",
    ];
    const FORM: [(&[u8], &[u8]); 2] =
        [(b"Host", b"h"), (b"Content-Type", b"application/x-www-form-urlencoded")];
    let mut pair = Pair::small();
    let mut numbers = Numbers(0x1bad_5eed_0dd5_ba11);
    let mut seen = BTreeSet::new();
    for round in 0..400 {
        let text = TEXTS[round % TEXTS.len()];
        let mut value = text.as_bytes().repeat(1 + (300 + numbers.below(4000)) / text.len());
        if round % 2 == 1 {
            numbers.mutate(&mut value);
        }
        let found = if round % 5 == 4 {
            value.retain(u8::is_ascii_graphic);
            pair.run(b"/", &[(b"Host", b"h"), (b"User-Agent", &value)], b"")
        } else {
            pair.run(b"/form", &FORM, &[b"text=", &value[..]].concat())
        };
        seen.extend(found.into_iter().map(|(id, ..)| id));
    }
    assert!(seen.len() >= 6, "the requests match too few rules to tell: {seen:?}");
}
