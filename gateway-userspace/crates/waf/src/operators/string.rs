//! `@contains` and `@within`: plain substrings.

use memchr::memmem;

pub(super) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    memmem::find(haystack, needle).is_some()
}
