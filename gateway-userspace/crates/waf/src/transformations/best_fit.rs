//! What Windows' code page 20127 (US-ASCII) makes of code points that it does not have: the nearest letter or sign.
//!
//! Applications on that platform turn `%u2019` into an apostrophe on the way to a database. ModSecurity takes the table from
//! SecUnicodeMapFile; its recommended configuration names this one.

/// The ASCII byte nearest to a code point, full-width forms (U+FF01 to U+FF5E) among them; none for most.
pub(super) fn nearest_ascii(point: u16) -> Option<u8> {
    if let 0xFF01..=0xFF5E = point {
        return u8::try_from(point - 0xFF00 + 0x20).ok();
    }
    let after = RUNS.partition_point(|(start, _)| *start <= point);
    let (start, letters) = RUNS.get(after.checked_sub(1)?)?;
    letters.get(usize::from(point - start)).copied()
}

/// Runs of neighbouring code points: the first, and what each becomes.
const RUNS: &[(u16, &[u8])] = &[
    (0x00A0, b" !c"),
    (0x00A4, b"$Y|"),
    (0x00A9, b"Ca<"),
    (0x00AD, b"-R"),
    (0x00B2, b"23"),
    (0x00B7, b".,1o>"),
    (0x00C0, b"AAAAAAACEEEEIIIIDNOOOOO"),
    (0x00D8, b"OUUUUY"),
    (0x00E0, b"aaaaaaaceeeeiiii"),
    (0x00F1, b"nooooo"),
    (0x00F8, b"ouuuuy"),
    (0x00FF, b"yAaAaAaCcCcCcCcDdDdEeEeEeEeEeGgGgGgGgHhHhIiIiIiIiIi"),
    (0x0134, b"JjKk"),
    (0x0139, b"LlLlLl"),
    (0x0141, b"LlNnNnNn"),
    (0x014C, b"OoOoOoOoRrRrRrSsSsSsSsTtTtTtUuUuUuUuUuUuWwYyYZ"),
    (0x017B, b"ZzZz"),
    (0x0180, b"b"),
    (0x0189, b"D"),
    (0x0191, b"Ff"),
    (0x0197, b"I"),
    (0x019A, b"l"),
    (0x019F, b"OOo"),
    (0x01AB, b"t"),
    (0x01AE, b"TUu"),
    (0x01B6, b"z"),
    (0x01CD, b"AaIiOoUuUuUuUuUu"),
    (0x01DE, b"Aa"),
    (0x01E4, b"GgGgKkOoOo"),
    (0x01F0, b"j"),
    (0x0261, b"g"),
    (0x02B9, b"'\""),
    (0x02BC, b"'"),
    (0x02C4, b"^"),
    (0x02C6, b"^"),
    (0x02C8, b"'"),
    (0x02CB, b"`"),
    (0x02CD, b"_"),
    (0x02DC, b"~"),
    (0x0300, b"`"),
    (0x0302, b"^~"),
    (0x030E, b"\""),
    (0x0331, b"__"),
    (0x2000, b"       "),
    (0x2010, b"--"),
    (0x2013, b"--"),
    (0x2018, b"'',"),
    (0x201C, b"\"\"\""),
    (0x2022, b"."),
    (0x2026, b"."),
    (0x2032, b"'"),
    (0x2035, b"`"),
    (0x2039, b"<>"),
    (0x2122, b"T"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_letters() {
        assert!(RUNS.is_sorted_by_key(|(start, _)| *start));
        for (point, expected) in [
            ('é', Some(b'e')),
            ('Ž', Some(b'Z')),
            ('’', Some(b'\'')),
            ('“', Some(b'"')),
            ('‹', Some(b'<')),
            ('＜', Some(b'<')),
            ('？', Some(b'?')),
            ('A', None),
            ('€', None),
            ('я', None),
        ] {
            assert_eq!(nearest_ascii(point as u16), expected, "{point}");
        }
        assert_eq!(nearest_ascii(0), None);
        assert_eq!(nearest_ascii(u16::MAX), None);
    }
}
