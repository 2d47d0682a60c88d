//! Where rule and data files come from.
//!
//! The engine reads no disk: `Include`, `@pmFromFile` and `@ipMatchFromFile` ask a [`FileSource`].

use std::collections::BTreeMap;

/// Files by path. The implementer bounds what it reads.
pub trait FileSource {
    /// The whole of a file.
    ///
    /// # Errors
    /// [`SourceError`] when there is no such file or it cannot be read.
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceError>;

    /// The paths that match a shell pattern (`*`, `?`, `[..]`), sorted; a path without those characters is its own match if it exists.
    ///
    /// # Errors
    /// [`SourceError`] when a directory on the way cannot be listed.
    fn glob(&self, pattern: &str) -> Result<Vec<String>, SourceError>;
}

/// Why a file could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// There is no file of that path.
    #[error("{path}: no such file")]
    NotFound {
        /// The path asked for.
        path: String,
    },
    /// The file is there but longer than the source reads.
    #[error("{path}: longer than {limit} bytes; split the file or raise the limit")]
    TooLong {
        /// The path asked for.
        path: String,
        /// The most bytes that the source reads.
        limit: usize,
    },
    /// Anything else that reading met.
    #[error("{path}: {reason}")]
    Unreadable {
        /// The path asked for.
        path: String,
        /// What the system said.
        reason: String,
    },
}

/// Files held in memory: for tests, embedded rules and fuzzing.
#[derive(Debug, Clone, Default)]
pub struct MemorySource {
    files: BTreeMap<String, Vec<u8>>,
}

impl MemorySource {
    /// A source without files.
    pub fn new() -> Self {
        Self::default()
    }

    /// The source with one file more; an earlier file of the same path is replaced.
    #[must_use]
    pub fn with(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.to_owned(), content.into());
        self
    }
}

impl FileSource for MemorySource {
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceError> {
        self.files.get(path).cloned().ok_or_else(|| SourceError::NotFound { path: path.to_owned() })
    }

    fn glob(&self, pattern: &str) -> Result<Vec<String>, SourceError> {
        Ok(self
            .files
            .keys()
            .filter(|path| glob_matches(pattern.as_bytes(), path.as_bytes()))
            .cloned()
            .collect())
    }
}

/// Shell pattern matching of a whole path: `*` and `?` do not match `/`, `[a-z]` and `[!a-z]` match one byte.
/// Each `*` remembers only the last place to retry from, so the cost is at most pattern times path.
pub fn glob_matches(pattern: &[u8], path: &[u8]) -> bool {
    let (mut at_pattern, mut at_path) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if at_pattern == pattern.len() && at_path == path.len() {
            return true;
        }
        if pattern.get(at_pattern) == Some(&b'*') {
            retry = Some((at_pattern + 1, at_path));
            at_pattern += 1;
            continue;
        }
        if let Some(&byte) = path.get(at_path)
            && let Some(width) = one_byte_matches(&pattern[at_pattern..], byte)
        {
            at_pattern += width;
            at_path += 1;
            continue;
        }
        match retry {
            Some((after_star, from)) if path.get(from).is_some_and(|&byte| byte != b'/') => {
                retry = Some((after_star, from + 1));
                at_pattern = after_star;
                at_path = from + 1;
            }
            _ => return false,
        }
    }
}

/// The length of the pattern's first element when it matches `byte`.
fn one_byte_matches(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        b'?' => (byte != b'/').then_some(1),
        b'\\' if pattern.len() > 1 => (pattern[1] == byte).then_some(2),
        b'[' => match class_end(pattern) {
            Some(end) => class_has(&pattern[1..end], byte).then_some(end + 1),
            None => (byte == b'[').then_some(1),
        },
        literal => (literal == byte).then_some(1),
    }
}

/// Where the `]` that closes a class is; one right after `[` or `[!` stands for itself.
fn class_end(pattern: &[u8]) -> Option<usize> {
    let first = if matches!(pattern.get(1), Some(b'!' | b'^')) { 2 } else { 1 };
    pattern.iter().skip(first + 1).position(|&byte| byte == b']').map(|offset| offset + first + 1)
}

fn class_has(class: &[u8], byte: u8) -> bool {
    let (negated, set) = match class {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, class),
    };
    let mut found = false;
    let mut index = 0;
    while index < set.len() {
        if index + 2 < set.len() && set[index + 1] == b'-' {
            found |= (set[index]..=set[index + 2]).contains(&byte);
            index += 3;
        } else {
            found |= set[index] == byte;
            index += 1;
        }
    }
    found != negated && byte != b'/'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_patterns() {
        let rows = [
            ("rules/*.conf", "rules/a.conf", true),
            ("rules/*.conf", "rules/a.conf.example", false),
            ("rules/*.conf", "rules/sub/a.conf", false),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("**", "ab", true),
            ("a*b*c", "axxbxxbc", true),
            ("a*b*c", "axxbxxbd", false),
            ("r?les", "rules", true),
            ("r?les", "r/les", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]x", "]x", true),
            ("[x", "[x", true),
            ("\\*x", "*x", true),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
        ];
        for (pattern, path, expected) in rows {
            assert_eq!(glob_matches(pattern.as_bytes(), path.as_bytes()), expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn memory_source_reads_and_lists() {
        let source = MemorySource::new().with("b.conf", "2").with("a.conf", "1");
        assert_eq!(source.read("a.conf"), Ok(b"1".to_vec()));
        assert_eq!(source.read("c"), Err(SourceError::NotFound { path: "c".to_owned() }));
        assert_eq!(source.glob("*.conf"), Ok(vec!["a.conf".to_owned(), "b.conf".to_owned()]));
    }
}
