//! One table of rows for every operator.

use super::*;
use crate::source::MemorySource;

fn compile(name: &str, argument: &str) -> Result<Operator, OperatorError> {
    let files = MemorySource::new()
        .with("rules/words.data", "# comment\nfoo\nBar baz\n")
        .with("rules/nets.data", "10.0.0.0/8\n::1 # local\n");
    Operator::compile(name, argument, &CompileContext { files: &files, directory: "rules" })
}

fn check(name: &str, argument: &str, value: &[u8], expected: bool) {
    let operator = compile(name, argument).unwrap_or_else(|error| panic!("@{name} {argument}: {error}"));
    let got = operator.evaluate(value, &mut EvalContext::new());
    assert_eq!(got, expected, "@{name} {argument} on {:?}", String::from_utf8_lossy(value));
    let mut captures = Captures::new();
    let got =
        operator.evaluate(value, &mut EvalContext { capture: Some(&mut captures), ..EvalContext::new() });
    assert_eq!(got, expected, "@{name} {argument} with captures on {:?}", String::from_utf8_lossy(value));
}

#[test]
fn every_operator() {
    let rows: &[(&str, &str, &[u8], bool)] = &[
        ("beginsWith", "ab", b"abc", true),
        ("beginsWith", "b", b"abc", false),
        ("BEGINSWITH", "", b"", true),
        ("contains", "b", b"abc", true),
        ("contains", "B", b"abc", false),
        ("contains", "", b"abc", true),
        ("containsWord", "b", b"a b c", true),
        ("containsWord", "b", b"abc", false),
        ("detectSQLi", "", b"1' or '1'='1", true),
        ("detectSQLi", "", b"hello", false),
        ("detectXSS", "", b"<script>", true),
        ("detectXSS", "", b"1 < 2", false),
        ("endsWith", "c", b"abc", true),
        ("endsWith", "b", b"abc", false),
        ("eq", "5", b"5", true),
        ("eq", "5", b"+5x", true),
        ("eq", "5", b"", false),
        ("ge", "5", b"5", true),
        ("ge", "5", b"4", false),
        ("gt", "5", b"99999999999999999999999", true),
        ("gt", "5", b"5", false),
        ("ipMatch", "10.0.0.0/8,::1", b"10.1.1.1", true),
        ("ipMatch", "10.0.0.0/8,::1", b"not an address", false),
        ("ipMatchFromFile", "nets.data", b"::1", true),
        ("ipMatchF", "nets.data", b"11.0.0.1", false),
        ("le", "5", b"5", true),
        ("lt", "5", b"5", false),
        ("lt", "5", b"-1", true),
        ("noMatch", "", b"a", false),
        ("pm", "foo bar", b"a BAR b", true),
        ("pm", "foo bar", b"fo", false),
        ("pmFromFile", "words.data", b"bar BAZ", true),
        ("pmf", "words.data", b"comment", false),
        ("rx", "^a.c$", b"a\nc", true),
        ("rx", "^a.c$", b"abcd", false),
        ("rx", "", b"", true),
        ("rxGlobal", "[0-9]", b"a1", true),
        ("rxGlobal", "[0-9]", b"a", false),
        ("streq", "abc", b"abc", true),
        ("streq", "abc", b"ABC", false),
        ("strmatch", "b", b"abc", true),
        ("unconditionalMatch", "", b"", true),
        ("validateByteRange", "32-126", b"a\n", true),
        ("validateByteRange", "32-126", b"a", false),
        ("validateUrlEncoding", "", b"%zz", true),
        ("validateUrlEncoding", "", b"%41", false),
        ("validateUtf8Encoding", "", b"\xFF", true),
        ("validateUtf8Encoding", "", b"a", false),
        ("verifyCC", r"\d{16}", b"4111111111111111", true),
        ("verifyCC", r"\d{16}", b"4111111111111112", false),
        ("verifyCPF", r"\d{11}", b"01081751460", true),
        ("verifySSN", r"\d{9}", b"574578065", true),
        ("verifySVNR", r"\d{10}", b"1237010180", true),
        ("within", "GET POST", b"GET", true),
        ("within", "GET POST", b"get", false),
        ("within", "GET POST", b"", true),
        ("geoLookup", "", b"1.2.3.4", false),
        ("rbl", "bl.example.org", b"1.2.3.4", false),
    ];
    for (name, argument, value, expected) in rows {
        check(name, argument, value, *expected);
    }
}

#[test]
fn captures() {
    let rows: &[(&str, &str, &[u8], &[&str])] = &[
        ("rx", "a(b)(c)?", b"xab", &["ab", "b"]),
        ("pm", "foo BAR", b"a bar", &["bar"]),
        ("detectSQLi", "", b"1' OR '1'='1", &["s&sos"]),
        ("detectXSS", "", b"<script>", &["<script>"]),
        ("verifyCC", r"\d{16}", b"x4111111111111111", &["4111111111111111"]),
        ("rxGlobal", "[a-z]([0-9])", b"a1 b2", &["b2", "2"]),
    ];
    for (name, argument, value, expected) in rows {
        let operator = compile(name, argument).unwrap_or_else(|error| panic!("@{name} {argument}: {error}"));
        let mut captures = Captures::new();
        captures.set_owned(9, b"stale");
        assert!(
            operator.evaluate(value, &mut EvalContext { capture: Some(&mut captures), ..EvalContext::new() })
        );
        let got: Vec<_> =
            captures.iter(value).map(|(_, text)| String::from_utf8_lossy(text).into_owned()).collect();
        assert_eq!(&got, expected, "@{name} {argument}");
    }
}

#[test]
fn macros_are_expanded_by_the_engine() {
    for (name, argument, expanded, value, expected) in [
        ("streq", "%{tx.a}", "x", "x", true),
        ("beginsWith", "%{tx.a}", "x", "xy", true),
        ("contains", "%{tx.a}", "x", "axy", true),
        ("endsWith", ".%{request_headers.host}", ".h", "a.h", true),
        ("eq", "%{tx.a}", "7", "7", true),
        ("lt", "%{tx.a}", "7", "7", false),
        ("rx", "^%{tx.a}$", "^x+$", "xx", true),
        ("rx", "^%{tx.a}$", "^(", "x", false),
        ("rxGlobal", "%{tx.a}", "x", "x", true),
        ("within", "%{tx.allowed_methods}", "GET HEAD", "GET", true),
    ] {
        let operator = compile(name, argument).unwrap_or_else(|error| panic!("@{name} {argument}: {error}"));
        assert_eq!(operator.argument_macro(), Some(argument), "@{name}");
        for _ in 0..2 {
            let mut context = EvalContext { argument: Some(expanded.as_bytes()), ..EvalContext::new() };
            assert_eq!(
                operator.evaluate(value.as_bytes(), &mut context),
                expected,
                "@{name} {expanded} on {value}"
            );
        }
    }
    for (name, argument) in [("rx", "a%{2}"), ("pm", "%{tx.a}"), ("contains", "%{tx.a"), ("streq", "100%")] {
        assert_eq!(
            compile(name, argument).map(|operator| operator.argument_macro().is_some()),
            Ok(false),
            "@{name} {argument}"
        );
    }
}

#[test]
fn what_is_refused_says_why() {
    for (name, argument, expected) in [
        ("nonsense", "", "there is no operator @nonsense"),
        ("inspectFile", "x", "@inspectFile is not supported: it runs a program"),
        ("validateschema", "x", "@validateSchema is not supported: it needs a schema validator"),
        ("rx", "(", "at byte 1 of the pattern: a group is not closed"),
        ("pm", " ", "@pm: there is no phrase"),
        ("pmFromFile", "none.data", "data file rules/none.data: no such file"),
        ("ipMatch", "1.2.3", "@ipMatch: \"1.2.3\" is neither"),
        ("validateByteRange", "1-300", "@validateByteRange: \"1-300\" is neither"),
        ("verifyCC", "", "@verifyCC: it needs a pattern"),
        ("rbl", "a b", "@rbl: \"a b\" is not a DNS zone"),
    ] {
        let error = compile(name, argument).map(|_| ()).expect_err(name).to_string();
        assert!(error.starts_with(expected), "@{name} {argument}: {error}");
    }
    for name in ["fuzzyHash", "gsbLookup", "rsub", "validateDTD", "validateHash", "restpath", "validateNid"] {
        assert!(matches!(compile(name, "x"), Err(OperatorError::Unsupported { .. })), "@{name}");
    }
}

struct Known;

impl GeoLookup for Known {
    fn lookup(&self, address: IpAddr) -> Option<GeoRecord> {
        address.is_loopback().then(|| GeoRecord { country_code: "AT".to_owned(), ..GeoRecord::default() })
    }
}

impl RblLookup for Known {
    fn lookup(&self, zone: &str, address: IpAddr) -> Option<String> {
        (zone == "bl.example.org" && address.is_loopback()).then(|| "listed".to_owned())
    }
}

#[test]
fn lookups_go_through_traits() {
    let geo = compile("geoLookup", "").expect("compiles");
    let mut context = EvalContext { geo: Some(&Known), ..EvalContext::new() };
    assert!(geo.evaluate(b"127.0.0.1", &mut context));
    assert_eq!(context.geo_record.as_ref().map(|record| record.country_code.as_str()), Some("AT"));
    assert!(!geo.evaluate(b"8.8.8.8", &mut context));
    assert_eq!(context.geo_record, None);

    let rbl = compile("rbl", "bl.example.org").expect("compiles");
    let mut captures = Captures::new();
    let mut context = EvalContext { rbl: Some(&Known), capture: Some(&mut captures), ..EvalContext::new() };
    assert!(rbl.evaluate(b"::1", &mut context));
    assert!(!rbl.evaluate(b"8.8.8.8", &mut context));
    assert_eq!(captures.get(0, b""), Some(&b"listed"[..]));
}

#[test]
fn a_limit_is_reported() {
    let operator = compile("rx", r"^(?:(a|aa)\1?)+$").expect("compiles");
    let mut value = vec![b'a'; 5000];
    value.push(b'!');
    let mut context = EvalContext::new();
    assert!(!operator.evaluate(&value, &mut context));
    assert!(context.pattern_limit_exceeded);
}

#[test]
fn operators_cross_threads() {
    fn check<T: Send + Sync + std::fmt::Debug>() {}
    check::<Operator>();
}
