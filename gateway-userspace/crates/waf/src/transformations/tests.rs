//! Rows for every transformation, and what holds for all of them on random values.

use super::*;
use crate::testing::Random;

fn transform(transformation: Transformation, input: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match transformation.apply(input, &mut out) {
        Outcome::Changed => Some(out),
        Outcome::Unchanged => {
            assert_eq!(out, b"", "{transformation:?} wrote and said Unchanged");
            None
        }
    }
}

/// `expected` none: the value stays.
fn check(name: &str, input: &[u8], expected: Option<&[u8]>) {
    let transformation = Transformation::from_name(name).unwrap_or_else(|| panic!("no {name}"));
    let got = transform(transformation, input);
    assert_eq!(
        got.as_deref().map(|text| text.escape_ascii().to_string()),
        expected.map(|text| text.escape_ascii().to_string()),
        "{name} of {}",
        input.escape_ascii()
    );
}

/// A name, a value, and what becomes of it; none where it stays.
type Row = (&'static str, &'static [u8], Option<&'static [u8]>);

#[test]
fn every_transformation() {
    let rows: &[Row] = &[
        ("base64Decode", b"VGVzdA==", Some(b"Test")),
        ("base64Decode", b"VGVz!dA==", Some(b"Tes")),
        ("base64Decode", b"", None),
        ("base64DecodeExt", b"VG.Vz dA==", Some(b"Test")),
        ("base64Encode", b"Test", Some(b"VGVzdA==")),
        ("base64Encode", b"Tes", Some(b"VGVz")),
        ("base64Encode", b"Te", Some(b"VGU=")),
        ("cmdLine", b"C^OMMAND \"/c\" DiR,;x", Some(b"command/c dir x")),
        ("cmdLine", b"a b", None),
        ("cmdLine", b"a (b", Some(b"a(b")),
        ("compressWhitespace", b"a \t\r\n b\x0Bc", Some(b"a b c")),
        ("compressWhitespace", b"a b ", None),
        ("cssDecode", br"\61\000062 c\zz\", Some(b"abczz")),
        ("cssDecode", b"\\ff1c\\00ff1C\\12345678\\\nx", Some(b"<<V78x")),
        ("cssDecode", b"a", None),
        (
            "escapeSeqDecode",
            br#"\a\b\f\n\r\t\v\?\'\"\\\x41\101\8\xg"#,
            Some(b"\x07\x08\x0C\n\r\t\x0B?'\"\\AA8xg"),
        ),
        ("escapeSeqDecode", br"a\", None),
        ("hexDecode", b"54657374", Some(b"Test")),
        ("hexDecode", b"5465737", Some(b"Tes")),
        ("hexEncode", b"Te\xFF", Some(b"5465ff")),
        ("htmlEntityDecode", b"&lt;&GT;&quot&amp;&nbsp;&#65;&#x42;&#x43&;", Some(b"<>\"&\xA0ABC&;")),
        ("htmlEntityDecode", b"&a;&#;&#x;&ltx;&", None),
        ("jsDecode", br"\u0041\x42\103\uff1c\n\q\u00g", Some(b"ABC<\nqu00g")),
        ("jsDecode", br"\777\47\", Some(b"?7'\\")),
        ("length", b"", Some(b"0")),
        ("length", b"0123456789a", Some(b"11")),
        ("lowercase", b"aBc", Some(b"abc")),
        ("lowercase", b"abc\xC4", None),
        ("md5", b"", Some(b"\xd4\x1d\x8c\xd9\x8f\x00\xb2\x04\xe9\x80\x09\x98\xec\xf8\x42\x7e")),
        ("md5", b"abc", Some(b"\x90\x01\x50\x98\x3c\xd2\x4f\xb0\xd6\x96\x3f\x7d\x28\xe1\x7f\x72")),
        (
            "md5",
            b"12345678901234567890123456789012345678901234567890123456789012345678901234567890",
            Some(b"\x57\xed\xf4\xa2\x2b\xe3\xc9\x55\xac\x49\xda\x2e\x21\x07\xb6\x7a"),
        ),
        ("normalizePath", b"/a/./b//../c", Some(b"/a/c")),
        ("normalisePath", b"../../a/../b/", Some(b"../../b/")),
        ("normalizePath", b"/../../a", Some(b"/a")),
        ("normalizePath", b"/a/b/", None),
        ("normalizePath", b"a.b/c..d", None),
        ("normalizePath", b"a/b/..", Some(b"a")),
        ("normalizePath", b"/a/..", Some(b"")),
        ("normalizePath", b"../a/../../b/.", Some(b"../../b")),
        ("normalizePathWin", br"\a\..\b", Some(b"/b")),
        ("normalisePathWin", b"a/b", None),
        ("parityEven7bit", b"ac\x80", Some(b"\xE1c\x80")),
        ("parityOdd7bit", b"ac", Some(b"a\xE3")),
        ("parityZero7bit", b"\xE1c", Some(b"ac")),
        ("parityZero7bit", b"ac", None),
        ("removeComments", b"a/*b*/c<!--d-->e--f", Some(b"ace")),
        ("removeComments", b"a<!--b*/c/*d-->e", Some(b"ace")),
        ("removeComments", b"a#b", Some(b"a")),
        ("removeComments", b"a/*b", Some(b"a ")),
        ("removeComments", b"a/b-c<d", None),
        ("removeCommentsChar", b"a/*b*/c<!--d-->e--f#g", Some(b"abcdefg")),
        ("removeNulls", b"a\0b\0", Some(b"ab")),
        ("removeWhitespace", b" a\tb\xA0", Some(b"ab")),
        ("replaceComments", b"a/*b*/c/**/d*/e/*f", Some(b"a c d*/e ")),
        ("replaceNulls", b"a\0b", Some(b"a b")),
        (
            "sha1",
            b"abc",
            Some(b"\xa9\x99\x3e\x36\x47\x06\x81\x6a\xba\x3e\x25\x71\x78\x50\xc2\x6c\x9c\xd0\xd8\x9d"),
        ),
        ("sqlHexDecode", b"a0x414243,0X44g0x4z", Some(b"aABC,Dg0x4z")),
        ("sqlHexDecode", b"0x 0y41", None),
        ("trim", b" \ta b\n", Some(b"a b")),
        ("trimLeft", b" a ", Some(b"a ")),
        ("trimRight", b" a ", Some(b" a")),
        ("trim", b"  ", Some(b"")),
        ("uppercase", b"aBc1", Some(b"ABC1")),
        ("urlDecode", b"a+%41%zz%u0041%", Some(b"a A%zz%u0041%")),
        ("urlDecode", b"%zz", None),
        ("urlDecodeUni", b"a+%41%u0042%uff1c%u00g1%", Some(b"a AB<%u00g1%")),
        ("urlDecodeUni", b"%u2019%u00e9%u0127%u1227", Some(b"'eh'")),
        ("urlEncode", b"a b*\xFF", Some(b"a+b*%ff")),
        ("utf8toUnicode", "aé€😀".as_bytes(), Some(b"a%u00e9%u20ac%u1f600")),
        ("utf8toUnicode", b"\xC0\xAE\xE0\x80\xAF\xED\xA0\x80\xFF", Some(b"%u002e%u002f%ud800\xFF")),
        ("utf8toUnicode", b"a\xFF\xC3\xE2\x82", None),
    ];
    for (name, input, expected) in rows {
        check(name, input, *expected);
    }
}

#[test]
fn every_name_finds_its_transformation() {
    for transformation in Transformation::all() {
        let name = transformation.name();
        assert_eq!(Transformation::from_name(name), Some(transformation));
        assert_eq!(Transformation::from_name(&name.to_uppercase()), Some(transformation));
    }
    assert_eq!(Transformation::all().count(), 35);
    assert_eq!(Transformation::from_name("none"), None);
    assert_eq!(Transformation::from_name("nonsense"), None);
}

/// Pieces that mean something to one transformation or another.
const PIECES: &[&[u8]] = &[
    b"a",
    b"B",
    b"0",
    b"7",
    b"x",
    b"%",
    b"%41",
    b"%u0041",
    b"%uff1c",
    b"+",
    b"\\",
    b"\\u0041",
    b"\\x41",
    b"\\101",
    b"\\61 ",
    b"&",
    b"&lt;",
    b"&#65;",
    b"&#x41",
    b";",
    b"/",
    b"*",
    b"/*",
    b"*/",
    b"--",
    b"<!--",
    b"-->",
    b"#",
    b".",
    b"..",
    b"../",
    b"./",
    b"//",
    b" ",
    b"\t",
    b"\n",
    b"\0",
    b"\x7F",
    b"\xA0",
    b"\xC2\xA0",
    b"\xC3\xA9",
    b"\xF0\x9F\x98\x80",
    b"\xFF",
    b"\"",
    b"'",
    b"^",
    b",",
    b"(",
    b"0x41",
    b"VGVzdA==",
    b"=",
    b"-",
    b"<",
    b"?",
];

/// No value is shorter than what its result asks for.
fn is_long_enough(transformation: Transformation, value: &[u8], outcome: &Outcome, out: &[u8]) {
    let length = if *outcome == Outcome::Changed { out.len() } else { value.len() };
    let needed = transformation.shortest_input(length);
    assert!(value.len() >= needed, "{transformation:?} of {} comes to {length} bytes", value.escape_ascii());
}

#[test]
fn random_values_never_contradict_the_rules_of_all() {
    let mut random = Random::new(3);
    let mut out = Vec::new();
    for _ in 0..40_000 {
        let pieces = &PIECES[..=random.below(PIECES.len())];
        let value = random.value(pieces, 40);
        let mask = ByteMask::of(&value);
        for transformation in Transformation::all() {
            out.clear();
            let outcome = transformation.apply(&value, &mut out);
            is_long_enough(transformation, &value, &outcome, &out);
            match outcome {
                Outcome::Unchanged => {
                    assert!(out.is_empty(), "{transformation:?} of {}", value.escape_ascii());
                }
                Outcome::Changed => {
                    assert!(
                        !transformation.is_noop_for(mask),
                        "{transformation:?} of {}",
                        value.escape_ascii()
                    );
                    let never_same = !matches!(
                        transformation,
                        Transformation::Length
                            | Transformation::Base64Decode
                            | Transformation::Base64DecodeExt
                    );
                    assert!(
                        !never_same || out != value,
                        "{transformation:?} says Changed of {}",
                        value.escape_ascii()
                    );
                }
            }
        }
    }
}

#[test]
fn single_bytes_and_pairs() {
    let mut out = Vec::new();
    for first in 0..=255_u8 {
        for second in 0..=255_u8 {
            let value = [first, second];
            for value in [&value[..], &value[..1]] {
                let mask = ByteMask::of(value);
                for transformation in Transformation::all() {
                    out.clear();
                    let outcome = transformation.apply(value, &mut out);
                    assert!(
                        outcome == Outcome::Unchanged || !transformation.is_noop_for(mask),
                        "{transformation:?} of {}",
                        value.escape_ascii()
                    );
                    is_long_enough(transformation, value, &outcome, &out);
                }
            }
        }
    }
}
