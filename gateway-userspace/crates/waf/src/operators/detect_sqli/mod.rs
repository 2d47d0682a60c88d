//! `@detectSQLi`: libinjection's tokens and fingerprints, behind a screen.

mod screen;

#[cfg(test)]
mod tests;

use libinjectionrs::{SqliFlags, SqliState};

/// Whether the value looks like an SQL injection.
pub(super) fn is_sqli(value: &[u8]) -> bool {
    !screen::is_harmless(value) && SqliState::new(value, SqliFlags::FLAG_NONE).detect()
}

/// libinjection's fingerprint of a value that looks like an SQL injection.
pub(super) fn fingerprint(value: &[u8]) -> Option<String> {
    if screen::is_harmless(value) {
        return None;
    }
    let mut state = SqliState::new(value, SqliFlags::FLAG_NONE);
    state.detect().then(|| state.fingerprint_string())
}
