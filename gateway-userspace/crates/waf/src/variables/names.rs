//! Finding what a misspelt name meant.

/// The nearest of `known` that is at most a third of the name away.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_ascii_lowercase();
    if name.len() > 64 {
        return None;
    }
    known
        .map(|k| (distance(name.as_bytes(), k.to_ascii_lowercase().as_bytes()), k))
        .min_by_key(|(d, _)| *d)
        .filter(|(d, _)| *d <= (name.len() / 3).max(1))
        .map(|(_, k)| k)
}

/// Levenshtein's.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (above + 1).min(row[j] + 1).min(diagonal + usize::from(x != y));
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names() {
        let known = ["ARGS", "REQUEST_HEADERS", "REQUEST_BODY"];
        for (name, expected) in [
            ("ARG", Some("ARGS")),
            ("request_header", Some("REQUEST_HEADERS")),
            ("REQUESTBODY", Some("REQUEST_BODY")),
            ("WHATEVER", None),
        ] {
            assert_eq!(nearest(name, known.iter().copied()), expected, "{name}");
        }
    }
}
