use super::*;
use crate::testing::Random;

fn parsed(input: &[u8], limits: &JsonLimits) -> (Vec<(String, String)>, Result<(), JsonError>) {
    let mut got = Vec::new();
    let result = parse(input, limits, &mut |name, value| {
        got.push((String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned()));
    });
    (got, result)
}

fn check(input: &str, limits: &JsonLimits, expected: &[(&str, &str)]) {
    let (got, result) = parsed(input.as_bytes(), limits);
    assert_eq!(result, Ok(()), "{input}");
    let expected: Vec<_> =
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(got, expected, "{input}");
}

#[test]
fn values_by_name() {
    let plain = JsonLimits::default();
    check(r#"{"a":"b"}"#, &plain, &[("json.a", "b")]);
    check(
        r#" { "a" : [ 1 , -2.5e+3, true, false, null ] } "#,
        &plain,
        &[
            ("json.a.0", "1"),
            ("json.a.1", "-2.5e+3"),
            ("json.a.2", "true"),
            ("json.a.3", "false"),
            ("json.a.4", ""),
        ],
    );
    check(
        r#"{"a":{"b":[[1],{"c":2}]},"d":3}"#,
        &plain,
        &[("json.a.b.0.0", "1"), ("json.a.b.1.c", "2"), ("json.d", "3")],
    );
    check(r#"{"a":1,"a":2}"#, &plain, &[("json.a", "1"), ("json.a", "2")]);
    check(r#"["x"]"#, &plain, &[("json.0", "x")]);
    check(r#""x""#, &plain, &[("json", "x")]);
    check("0", &plain, &[("json", "0")]);
    check("{}", &plain, &[]);
    check(r#"{"a":[],"b":{}}"#, &plain, &[]);
    check(r#"{"":"x"}"#, &plain, &[("json.", "x")]);
    check(
        r#"["\"\\\/\b\f\n\r\t\u0041\u00e9\ud83d\ude00\ud83dx"]"#,
        &plain,
        &[("json.0", "\"\\/\u{8}\u{c}\n\r\tAé😀\u{fffd}x")],
    );
    check(r#"{"\u0061b":"é"}"#, &plain, &[("json.ab", "é")]);
}

#[test]
fn array_names_and_lengths() {
    let v3 = JsonLimits { naming: ArrayNaming::V3, ..JsonLimits::default() };
    check(r#"{"a":[1,[2]]}"#, &v3, &[("json.a.array_0", "1"), ("json.a.array_1.array_0", "2")]);
    let lengths = JsonLimits { array_lengths: true, ..JsonLimits::default() };
    check(r#"{"a":[1,[]]}"#, &lengths, &[("json.a.0", "1"), ("json.a.1", "0"), ("json.a", "2")]);
    let many = format!("[{}7]", "1,".repeat(123));
    let (got, _) = parsed(many.as_bytes(), &lengths);
    assert_eq!(got.last(), Some(&("json".to_owned(), "124".to_owned())));
    assert_eq!(got.get(123), Some(&("json.123".to_owned(), "7".to_owned())));
}

#[test]
fn what_is_not_json() {
    for (input, offset) in [
        ("", 0),
        ("{", 1),
        ("[1", 2),
        ("[1,]", 3),
        ("[,1]", 1),
        ("[1 2]", 3),
        (r#"{"a"}"#, 4),
        (r#"{"a":}"#, 5),
        (r#"{"a":1,}"#, 7),
        ("{a:1}", 1),
        ("{'a':1}", 1),
        ("[1}", 2),
        ("1 2", 2),
        ("01", 0),
        ("1.", 0),
        ("1e", 0),
        ("-", 0),
        ("+1", 0),
        ("tru", 0),
        ("\"a", 2),
        ("\"a\nb\"", 2),
        (r#""\x""#, 2),
        (r#""\u12g4""#, 3),
        ("[1]]", 3),
        ("// x\n1", 0),
    ] {
        match parsed(input.as_bytes(), &JsonLimits::default()).1 {
            Err(JsonError::Malformed { offset: got, .. }) => assert_eq!(got, offset, "{input}"),
            other => panic!("{input}: {other:?}"),
        }
    }
}

#[test]
fn limits_hold() {
    let limits = JsonLimits { depth: 3, entries: 2, name_bytes: 12, ..JsonLimits::default() };
    assert_eq!(parsed(b"[[[1]]]", &limits).1, Ok(()));
    assert_eq!(parsed(b"[[[[1]]]]", &limits).1, Err(JsonError::TooDeep { limit: 3 }));
    assert_eq!(parsed(b"[1,2]", &limits).1, Ok(()));
    let (got, result) = parsed(b"[1,2,3]", &limits);
    assert_eq!((got.len(), result), (2, Err(JsonError::TooMany { limit: 2 })));
    assert_eq!(parsed(br#"{"1234567":1}"#, &limits).1, Ok(()));
    assert_eq!(parsed(br#"{"12345678":1}"#, &limits).1, Err(JsonError::NameTooLong { limit: 12 }));
    let deep = [b"[".repeat(1_000_000), b"]".repeat(1_000_000)].concat();
    assert_eq!(parsed(&deep, &JsonLimits::default()).1, Err(JsonError::TooDeep { limit: 512 }));
}

/// serde_json is the oracle: both take it, or both refuse it.
#[test]
fn random_texts_agree_with_another_parser() {
    const PIECES: &[&[u8]] = &[
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b"\"a\"",
        b"\"\\n\"",
        b"\"\\u0041\"",
        b"\"\\ud83d\\ude00\"",
        b"1",
        b"-0",
        b"2.5",
        b"2e-1",
        b"true",
        b"false",
        b"null",
        b" ",
        b"\"",
        b"\\",
        b"01",
        b"[]",
        b"{\"k\":1}",
    ];
    let mut random = Random::new(5);
    let mut taken = 0;
    for _ in 0..60_000 {
        let value = random.value(PIECES, 24);
        let ours = parsed(&value, &JsonLimits::default()).1.is_ok();
        let theirs = serde_json::from_slice::<serde_json::Value>(&value).is_ok();
        taken += usize::from(ours);
        assert_eq!(ours, theirs, "{}", value.escape_ascii());
    }
    assert!(taken > 1000, "{taken}");
}
