//! The string operators: `@beginsWith`, `@contains`, `@containsWord`, `@endsWith`, `@streq`, `@strmatch`, `@within`.
//! All compare bytes, in the case given. An empty argument is contained everywhere.

use memchr::memmem;

/// `@contains`, `@strmatch`, and `@within` the other way round.
pub(super) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    let Some(last) = haystack.len().checked_sub(needle.len()) else { return false };
    if haystack.len() > SMALL_HAYSTACK || needle.len() > SMALL_NEEDLE {
        return memmem::find(haystack, needle).is_some();
    }
    // Setting up a searcher would mostly take longer than looking for one rare byte.
    let Some((at, rare)) = needle.iter().enumerate().max_by_key(|(_, byte)| RARITY[usize::from(**byte)])
    else {
        return true;
    };
    let mut from = 0;
    for _ in 0..FEW {
        let Some(found) = memchr::memchr(*rare, &haystack[from + at..=last + at]) else { return false };
        from += found;
        if haystack[from..].starts_with(needle) {
            return true;
        }
        from += 1;
        if from > last {
            return false;
        }
    }
    memmem::find(&haystack[from..], needle).is_some()
}

/// Values and texts up to these lengths are searched without a searcher.
const SMALL_HAYSTACK: usize = 1024;
const SMALL_NEEDLE: usize = 64;
/// After so many places that have only the rare byte, a searcher is worth it.
const FEW: usize = 8;

/// How seldom a list of methods, versions, endings or header names has a byte, roughly.
const RARITY: [u8; 256] = {
    let mut table = [30; 256];
    let by_frequency = b" /.-_etaoinshrdlcupmTHPEAOSR01:;|,=";
    let mut at = 0;
    while at < by_frequency.len() {
        table[by_frequency[at] as usize] = at as u8 / 2;
        at += 1;
    }
    table
};

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
    use super::{contains, contains_word};

    #[test]
    fn texts() {
        let list = ".a/ .b/ .c/ .d/ .e/ .f/ .g/ .h/ .i/ .jj/";
        for (value, text, expected) in [
            (list, ".a/", true),
            (list, ".f/", true),
            (list, ".g/", true),
            (list, ".jj/", true),
            (list, ".j/", false),
            (list, ".k/", false),
            (list, "", true),
            ("", ".", false),
            ("aaaaaaaaab", "aab", true),
            ("aaaaaaaaab", "aaaaaaaaabb", false),
        ] {
            assert_eq!(contains(value.as_bytes(), text.as_bytes()), expected, "{text} in {value}");
        }
    }

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
