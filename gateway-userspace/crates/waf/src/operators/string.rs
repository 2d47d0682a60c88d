//! The string operators: `@beginsWith`, `@contains`, `@containsWord`, `@endsWith`, `@streq`, `@strmatch`, `@within`.
//! All compare bytes, in the case given. An empty argument is contained everywhere.

use memchr::memmem;

/// `@contains`, `@strmatch`, and `@within` the other way round.
pub(super) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    let Some((first, rest)) = needle.split_first() else { return true };
    if haystack.len() > SMALL_HAYSTACK || needle.len() > SMALL_NEEDLE {
        return memmem::find(haystack, needle).is_some();
    }
    // Setting up a searcher would take longer than looking.
    let mut tail = haystack;
    while let Some(at) = memchr::memchr(*first, tail) {
        tail = &tail[at + 1..];
        if tail.starts_with(rest) {
            return true;
        }
    }
    false
}

/// Values and texts up to these lengths are searched without a searcher; its worst case is their product.
const SMALL_HAYSTACK: usize = 512;
const SMALL_NEEDLE: usize = 64;

/// `@containsWord`: the argument stands in the value with no ASCII letter on either side. Digits and underscores do not
/// join it to a word, as in ModSecurity v3.
pub(super) fn contains_word(value: &[u8], word: &[u8]) -> bool {
    if word.is_empty() {
        return true;
    }
    let is_letter = |at: Option<usize>| at.and_then(|at| value.get(at)).is_some_and(u8::is_ascii_alphabetic);
    let finder = memmem::Finder::new(word);
    let mut from = 0;
    while let Some(offset) = value.get(from..).and_then(|rest| finder.find(rest)) {
        let start = from + offset;
        if !is_letter(start.checked_sub(1)) && !is_letter(Some(start + word.len())) {
            return true;
        }
        from = start + 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::contains_word;

    #[test]
    fn words() {
        for (value, word, expected) in [
            ("abc def", "def", true),
            ("abcdef", "def", false),
            ("abcdef def", "def", true),
            ("1def_", "def", true),
            ("xaxa a", "a", true),
            ("", "a", false),
            ("abc", "", true),
        ] {
            assert_eq!(contains_word(value.as_bytes(), word.as_bytes()), expected, "{word} in {value}");
        }
    }
}
