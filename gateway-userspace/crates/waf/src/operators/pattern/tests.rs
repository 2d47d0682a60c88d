use super::*;

/// The match and groups of a search, `None` when there is no match.
fn groups(pattern: &str, value: &[u8]) -> Option<Vec<Option<Vec<u8>>>> {
    let pattern = Pattern::new(pattern.as_bytes()).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    let mut captures = Captures::new();
    let found = pattern.search_with_captures(value, &mut captures);
    assert_eq!(found, pattern.search(value), "{}", pattern.source());
    (found == Search::Found).then(|| {
        (0..crate::operators::MAX_CAPTURES)
            .map(|index| captures.get(index, value).map(<[u8]>::to_vec))
            .collect()
    })
}

/// `expected` is the text of the whole match.
fn check(pattern: &str, value: &[u8], expected: Option<&[u8]>) {
    let got = groups(pattern, value).map(|groups| groups[0].clone().unwrap_or_default());
    assert_eq!(got.as_deref(), expected, "{pattern} on {:?}", String::from_utf8_lossy(value));
}

/// A pattern, a value, and the text of the match.
type Row = (&'static str, &'static [u8], Option<&'static [u8]>);

/// A pattern, a value, and the groups from the whole match on.
type GroupRow = (&'static str, &'static [u8], &'static [Option<&'static str>]);

#[test]
fn elements_mean_what_they_mean_in_pcre() {
    let rows: &[Row] = &[
        // Anchors: the ends of the value, as with DOLLAR_ENDONLY.
        ("^a$", b"a", Some(b"a")),
        ("^a$", b"a\n", None),
        ("^b", b"a\nb", None),
        ("(?m)^b$", b"a\nb\nc", Some(b"b")),
        (r"a\Z", b"a\n", Some(b"a\n")),
        (r"a\z", b"a\n", None),
        (r"\Aa", b"ba", None),
        (r"\Ga", b"ba", None),
        // The dot matches every byte.
        ("a.b", b"a\nb", Some(b"a\nb")),
        ("^.$", b"\xFF", Some(b"\xFF")),
        ("(?-s)a.b", b"a\nb", None),
        (r"a\Nb", b"a\nb", None),
        // Escapes.
        (r"\x{41}\x42\x4", b"AB\x04", Some(b"AB\x04")),
        (r"\x{0041}", b"A", Some(b"A")),
        (r"\xe9", b"\xE9", Some(b"\xE9")),
        (r"\x{ff}", b"\xFF", Some(b"\xFF")),
        (r"\0\01\012", b"\x00\x01\n", Some(b"\x00\x01\n")),
        (r"\o{101}", b"A", Some(b"A")),
        (r"\e\a\f\cA", b"\x1B\x07\x0C\x01", Some(b"\x1B\x07\x0C\x01")),
        (r"\<b\>", b"<b>", Some(b"<b>")),
        (r"\/\-\'\`\%\_\ ", b"/-'`%_ ", Some(b"/-'`%_ ")),
        (r"\Qa.b*\Ec", b"a.b*c", Some(b"a.b*c")),
        (r"a\Qb", b"ab", Some(b"ab")),
        (r"\h+\H", b"x \t\xA0y", Some(b" \t\xA0y")),
        (r"\v\V", b"\x0Bx", Some(b"\x0Bx")),
        (r"a\Rb", b"a\r\nb", Some(b"a\r\nb")),
        (r"^\w+$", b"a_9", Some(b"a_9")),
        (r"\w", "é".as_bytes(), None),
        (r"\s", b"\x0B", Some(b"\x0B")),
        (r"\s", b"\xA0", None),
        (r"\bfoo\b", b"a foo b", Some(b"foo")),
        (r"\bfoo\b", b"a food b", None),
        (r"\12", b"\n", Some(b"\n")),
        // Braces that count nothing are literals.
        ("a{,3}", b"a{,3}", Some(b"a{,3}")),
        ("{a}", b"{a}", Some(b"{a}")),
        ("a{2}", b"aaa", Some(b"aa")),
        ("a{2,}b{0,1}", b"aaab", Some(b"aaab")),
        ("(?:a{2}){2}", b"aaaa", Some(b"aaaa")),
        ("a{2}{2}", b"aaaa", Some(b"aaaa")),
        ("a]b}", b"a]b}", Some(b"a]b}")),
        // Non-ASCII text is a sequence of bytes.
        ("é+", b"\xC3\xA9\xA9", Some(b"\xC3\xA9\xA9")),
        ("[é]", b"\xA9", Some(b"\xA9")),
        // Classes.
        ("[[a]+", b"[a[", Some(b"[a[")),
        ("[]a]+", b"]a", Some(b"]a")),
        ("[^]a]+", b"]b", Some(b"b")),
        ("[a&&b]+", b"a&b", Some(b"a&b")),
        ("[+--b]+", b",-b.", Some(b",-b")),
        ("[a-]+", b"a-", Some(b"a-")),
        ("[-a]+", b"a-", Some(b"a-")),
        (r"[\w-.]+", b"a-.", Some(b"a-.")),
        (r"[a\]b]+", b"a]b", Some(b"a]b")),
        (r"[\x5c\x{2f}]+", b"\\/", Some(b"\\/")),
        ("[[:alpha:]_]+", b"1ab_2", Some(b"ab_")),
        ("[[:^alpha:]]+", b"a12b", Some(b"12")),
        ("[[:alpha]+", b":[a", Some(b":[a")),
        (r"[\D]+", b"12ab", Some(b"ab")),
        (r"[^\d\s]+", b"1 ab", Some(b"ab")),
        (r"[\b]", b"\x08", Some(b"\x08")),
        (r"[\101\0]+", b"A\x00", Some(b"A\x00")),
        (r"[\Qa]\E]+", b"]a", Some(b"]a")),
        (r"[\n-\r]+", b"\n\x0B\r", Some(b"\n\x0B\r")),
        (r"(?i)[^a]", b"A", None),
        (r"(?i)[a-c]+x", b"ABCX", Some(b"ABCX")),
        (r"[\s\S]", b"\xFF", Some(b"\xFF")),
        (r"[^\s\S]", b"a", None),
        ("[ #]+", b"# ", Some(b"# ")),
        // Options and comments.
        ("(?i)ab", b"AB", Some(b"AB")),
        ("a(?i)b", b"AB", None),
        ("a(?i:b)c", b"aBc", Some(b"aBc")),
        ("a(?i:b)c", b"aBC", None),
        ("(?i)a(?-i)b", b"AB", None),
        ("(?x) a b # note\n c", b"abc", Some(b"abc")),
        ("(?x)a[ ]b\\ c", b"a b c", Some(b"a b c")),
        ("(?:(?x) a b )c d", b"abc d", Some(b"abc d")),
        ("a(?#no)b", b"ab", Some(b"ab")),
        ("(?U)a+", b"aa", Some(b"a")),
        ("a+?", b"aa", Some(b"a")),
        ("(?i)(?s)a.B", b"A\nb", Some(b"A\nb")),
        ("", b"abc", Some(b"")),
        // What needs backtracking.
        ("a++a", b"aaa", None),
        ("a++b", b"aab", Some(b"aab")),
        ("^(?:ab|a)?+b", b"ab", None),
        ("[ab]{1,2}+b", b"ab", None),
        ("(?>a+)a", b"aaa", None),
        ("foo(?=bar)", b"foobar", Some(b"foo")),
        ("foo(?!bar)", b"foobar", None),
        ("(?<=a)b", b"ab", Some(b"b")),
        ("a(?=b)*(?!c)+", b"ab", Some(b"a")),
        ("(?<!a)b", b"ab", None),
        (r"(a|b)\1", b"abb", Some(b"bb")),
        (r"(?P<q>['x])a(?P=q)", b"'a'", Some(b"'a'")),
        (r"(?<q>.)\k<q>", b"abb", Some(b"bb")),
        (r"(.)\g{-1}", b"abb", Some(b"bb")),
        (r"(a)\10", b"aa0", None),
        (r"(?i)(a)\1", b"aA", Some(b"aA")),
        (r"(?=.*\xFF)a.", b"a\xFF", Some(b"a\xFF")),
        (r"^(?!a)[\x80-\xff]", b"\x80", Some(b"\x80")),
        (r"(a)?(?(1)b|c)", b"ab", Some(b"ab")),
        (r"(?:a|b)(?=$)", b"ab", Some(b"b")),
        (r"a\Kb", b"ab", Some(b"b")),
    ];
    for (pattern, value, expected) in rows {
        check(pattern, value, *expected);
    }
}

#[test]
fn groups_keep_their_numbers() {
    let rows: &[GroupRow] = &[
        ("(a)(b?)(c)", b"ac", &[Some("ac"), Some("a"), Some(""), Some("c")]),
        ("(a)|(b)", b"b", &[Some("b"), None, Some("b")]),
        ("(?:x)(?<n>a)(?P<m>b)(?'o'c)", b"xabc", &[Some("xabc"), Some("a"), Some("b"), Some("c")]),
        (r"(a)(?=(b))\2", b"ab", &[Some("ab"), Some("a"), Some("b")]),
        (
            "(a)(b)(c)(d)(e)(f)(g)(h)(i)(j)",
            b"abcdefghij",
            &[
                Some("abcdefghij"),
                Some("a"),
                Some("b"),
                Some("c"),
                Some("d"),
                Some("e"),
                Some("f"),
                Some("g"),
                Some("h"),
                Some("i"),
            ],
        ),
    ];
    for (pattern, value, expected) in rows {
        let got = groups(pattern, value).unwrap_or_default();
        let mut expected: Vec<_> =
            expected.iter().map(|text| text.map(|text| text.as_bytes().to_vec())).collect();
        expected.resize(crate::operators::MAX_CAPTURES, None);
        assert_eq!(got, expected, "{pattern}");
    }
}

#[test]
fn which_engine_runs_a_pattern() {
    for (pattern, linear) in
        [("a+b", true), (r"\bfoo(?:a|b)*?$", true), ("a++", false), ("(?=a)", false), (r"(a)\1", false)]
    {
        assert_eq!(
            Pattern::new(pattern.as_bytes()).map(|pattern| pattern.is_linear()),
            Ok(linear),
            "{pattern}"
        );
    }
}

#[test]
fn what_is_refused_says_where() {
    let rows: &[(&str, &str)] = &[
        ("a(b", "at byte 3 of the pattern: a group is not closed"),
        ("ab)", "at byte 2 of the pattern: a parenthesis closes nothing; write \\)"),
        ("a[b", "at byte 1 of the pattern: a class is not closed"),
        ("*a", "at byte 0 of the pattern: a quantifier has nothing to repeat"),
        ("a|+", "at byte 2 of the pattern: a quantifier has nothing to repeat"),
        ("[z-a]", "at byte 2 of the pattern: a range runs backwards"),
        (r"a\1", "at byte 1 of the pattern: a back-reference to a group that is not there"),
        ("(?R)", "at byte 0 of the pattern: not supported: recursion"),
        ("(*UTF8)a", "at byte 0 of the pattern: not supported: verbs, (*..)"),
        (r"\pL", "at byte 0 of the pattern: not supported: Unicode properties; rules see bytes"),
        ("(?|a)", "at byte 0 of the pattern: not supported: branch reset, (?|..)"),
        ("[[:alfa:]]", "at byte 1 of the pattern: an unknown class name between [: and :]"),
    ];
    for (pattern, expected) in rows {
        match Pattern::new(pattern.as_bytes()) {
            Ok(compiled) => panic!("{pattern} compiles to {}", compiled.source()),
            Err(error) => assert_eq!(error.to_string(), *expected, "{pattern}"),
        }
    }
    let deep = "(".repeat(300) + &")".repeat(300);
    assert_eq!(Pattern::new(deep.as_bytes()).err(), Some(PatternError::TooDeep { limit: 200 }));
    assert!(matches!(Pattern::new(b"(?:.{1000}){1000}"), Err(PatternError::Refused { .. })));
    assert!(matches!(Pattern::new(&vec![b'a'; 300_000]), Err(PatternError::TooLong { .. })));
}

#[test]
fn backtracking_is_bounded() {
    let pattern = Pattern::new(br"^(?:(a|aa)\1?)+$").expect("compiles");
    let mut value = vec![b'a'; 5000];
    value.push(b'!');
    let started = std::time::Instant::now();
    assert_eq!(pattern.search(&value), Search::LimitExceeded);
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn all_matches_overwrite_the_captures() {
    let pattern = Pattern::new(b"([a-z])([0-9])?").expect("compiles");
    let mut captures = Captures::new();
    let value = b"a1 b";
    assert_eq!(pattern.search_all_with_captures(value, 10, &mut captures), Search::Found);
    assert_eq!(captures.get(0, value), Some(&b"b"[..]));
    assert_eq!(captures.get(2, value), Some(&b"1"[..]));
    assert_eq!(pattern.search_all_with_captures(b"123", 10, &mut captures), Search::NotFound);
    let empty = Pattern::new(b"x*").expect("compiles");
    assert_eq!(empty.search_all_with_captures(b"abc", 10, &mut captures), Search::Found);
}

#[test]
fn empty_values_and_empty_patterns() {
    check("^$", b"", Some(b""));
    check("a", b"", None);
    check("(?!a)", b"", Some(b""));
}

/// Each step may go over the whole value, so long ones get fewer; what needs few is found in them all the same.
#[test]
fn long_values_have_fewer_steps() {
    let pattern = Pattern::new(br"(?<!b)a(?=c)").expect("it compiles");
    let value = |before: usize, after: usize| [&vec![b'.'; before][..], b"ac", &vec![b'.'; after]].concat();
    for (before, after, expected) in [
        (0, 100, Search::Found),
        (0, LONG_VALUE_BYTES, Search::Found),
        (LONG_VALUE_BYTES - 2, 0, Search::Found),
        (BACKTRACK_LIMIT_LONG / 4, LONG_VALUE_BYTES, Search::Found),
        (BACKTRACK_LIMIT_LONG * 2, LONG_VALUE_BYTES, Search::LimitExceeded),
    ] {
        assert_eq!(pattern.search(&value(before, after)), expected, "after {before} bytes, before {after}");
    }
}
