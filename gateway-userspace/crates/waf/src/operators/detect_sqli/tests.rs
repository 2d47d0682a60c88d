use libinjectionrs::sqli::sqli_data::SQL_KEYWORDS;

use super::*;
use crate::testing::Random;

#[test]
fn injections_have_fingerprints() {
    for (value, expected) in [
        ("1' OR '1'='1", Some("s&sos")),
        ("-1 UNION SELECT 1,2", Some("1UE1")),
        ("not.1or.0", Some("1&1")),
        ("hello world", None),
        ("", None),
    ] {
        assert_eq!(fingerprint(value.as_bytes()).as_deref(), expected, "{value}");
        assert_eq!(is_sqli(value.as_bytes()), expected.is_some(), "{value}");
    }
}

#[test]
fn what_the_screen_passes() {
    for (value, expected) in [
        ("", true),
        ("session_id_1234", true),
        ("https://example.com/a/b?c=d&e=f", true),
        ("550e8400-e29b-41d4-a716-446655440000", true),
        ("2026-11-21T03:52:00Z", true),
        ("joe.smith@example.com", true),
        ("en-US,en;q=0.9", true),
        ("hello world, how are you", true),
        ("dGhpcyBpcyBhIHRlc3Q=", true),
        ("1 or 1", false),
        ("not.1or.0", false),
        ("a'--", false),
        ("1;drop", false),
        ("a\\b", false),
    ] {
        assert_eq!(screen::is_harmless(value.as_bytes()), expected, "{value}");
    }
}

/// Values made of pieces that mean something to libinjection: whatever it finds, the screen must not pass.
fn check_soundness(random: &mut Random, pieces: &[&[u8]], turns: usize, most: usize) -> usize {
    let mut passed = 0;
    for _ in 0..turns {
        let value: Vec<u8> =
            (0..=random.below(most)).flat_map(|_| pieces[random.below(pieces.len())]).copied().collect();
        if screen::is_harmless(&value) {
            passed += 1;
            let found = SqliState::new(&value, SqliFlags::FLAG_NONE).detect();
            assert!(!found, "{}", value.escape_ascii());
        }
    }
    passed
}

#[test]
fn the_screen_is_sound_on_words_and_numbers() {
    const PIECES: &[&[u8]] = &[
        b"1",
        b"0",
        b"42",
        b"0x1f",
        b"0b1",
        b"1e5",
        b"1e",
        b"e",
        b"e5",
        b"x",
        b"b",
        b"n",
        b"q",
        b"u",
        b"or",
        b"and",
        b"not",
        b"select",
        b"union",
        b"from",
        b"null",
        b"a",
        b"_",
        b".",
        b" ",
        b" ",
        b" ",
        b"having",
        b"div",
        b"in",
        b"is",
        b"like",
        b"order",
        b"by",
        b"create",
        b"user",
        b"if",
        b"case",
        b"collate",
        b"utf8_bin",
        b"binary",
        b"sleep",
        b"d",
        b"f",
        b"fu",
        b"foo",
        b"bar",
        b",",
        b"=",
        b"+",
        b"-",
        b"/",
        b"<",
        b">",
        b":",
        b"&",
        b"|",
        b"*",
        b"%",
        b"(",
        b")",
        b";",
        b"?",
        b"@",
        b"!",
        b"~",
        b"^",
        b"#",
        b"'",
        b"\"",
        b"{",
        b"}",
        b"[",
        b"]",
        b"\xA0",
        b"\xE9",
        b"$",
        b"\\",
    ];
    let mut random = Random::new(7);
    let words = check_soundness(&mut random, &PIECES[..53], 60_000, 8);
    let all = check_soundness(&mut random, PIECES, 60_000, 8);
    let few = check_soundness(&mut random, PIECES, 60_000, 3);
    assert!(words > 10_000 && all > 2_000 && few > 10_000, "{words} {all} {few}");
}

#[test]
fn the_screen_is_sound_on_every_keyword() {
    let mut random = Random::new(17);
    let mut passed = 0;
    for keyword in SQL_KEYWORDS.iter().filter(|keyword| keyword.token_type != b'F') {
        let word = keyword.word.as_bytes();
        let pieces: &[&[u8]] =
            &[word, word, b"1", b"a", b" ", b" ", b",", b"=", b".", b"(", b")", b";", b"'", b"-", b"@"];
        passed += check_soundness(&mut random, pieces, 60, 7);
    }
    assert!(passed > 1_000, "{passed}");
}
