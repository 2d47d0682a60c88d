//! `@pm` and `@pmFromFile`: many phrases at once, without regard to ASCII case, in one pass (Aho-Corasick).

use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, MatchKind};

use super::{CompileContext, OperatorError};

/// Most phrases of one operator.
pub const MAX_PHRASES: usize = 500_000;

/// Most bytes of the phrases of one operator together.
pub const MAX_PHRASES_BYTES: usize = 64 << 20;

/// A set of phrases. The automaton is built when a value first meets it: most sets are screened and seldom asked.
#[derive(Debug)]
pub struct Phrases {
    phrases: Vec<Vec<u8>>,
    /// None inside: it could not be built, which the bounds rule out.
    automaton: OnceLock<Option<AhoCorasick>>,
}

impl Phrases {
    /// A set of phrases; empty ones are left out.
    ///
    /// # Errors
    /// [`OperatorError::Argument`] without any phrase, [`OperatorError::TooMany`] beyond [`MAX_PHRASES`] or [`MAX_PHRASES_BYTES`].
    pub fn new(name: &'static str, mut phrases: Vec<Vec<u8>>) -> Result<Self, OperatorError> {
        phrases.retain(|phrase| !phrase.is_empty());
        if phrases.is_empty() {
            return Err(OperatorError::Argument {
                name,
                reason: "there is no phrase to look for".to_owned(),
            });
        }
        if phrases.len() > MAX_PHRASES {
            return Err(OperatorError::TooMany { name, what: "phrases", limit: MAX_PHRASES });
        }
        // Far below what the automaton can number, so that building it cannot fail.
        if phrases.iter().map(Vec::len).sum::<usize>() > MAX_PHRASES_BYTES {
            return Err(OperatorError::TooMany { name, what: "bytes of phrases", limit: MAX_PHRASES_BYTES });
        }
        Ok(Self { phrases, automaton: OnceLock::new() })
    }

    /// The phrases, as written.
    pub fn phrases(&self) -> &[Vec<u8>] {
        &self.phrases
    }

    /// Whether a phrase occurs.
    pub fn is_match(&self, value: &[u8]) -> bool {
        self.automaton().is_some_and(|automaton| automaton.is_match(value))
    }

    /// Where the occurrence that ends first is.
    pub fn find(&self, value: &[u8]) -> Option<std::ops::Range<usize>> {
        self.automaton()?.find(value).map(|found| found.range())
    }

    /// Builds the automaton if it is not yet.
    pub fn warm_up(&self) {
        self.automaton();
    }

    fn automaton(&self) -> Option<&AhoCorasick> {
        let build = || {
            let mut builder = AhoCorasick::builder();
            builder.ascii_case_insensitive(true).match_kind(MatchKind::Standard).build(&self.phrases).ok()
        };
        self.automaton.get_or_init(build).as_ref()
    }
}

/// The phrases of a `@pm` argument: separated by spaces; `|41 42|` writes bytes in hexadecimal, as in Snort.
pub(super) fn phrases_of_argument(argument: &str) -> Result<Vec<Vec<u8>>, OperatorError> {
    let mut phrases = vec![Vec::new()];
    let mut parts = argument.split('|');
    let mut in_hex = false;
    // A single bar, or bars that enclose no hexadecimal digits, are literal text.
    let bars = argument.bytes().filter(|&byte| byte == b'|').count();
    let is_hex = |part: &str| {
        let digits: Vec<u8> = part.bytes().filter(|byte| *byte != b' ').collect();
        !digits.is_empty() && digits.len().is_multiple_of(2) && digits.iter().all(u8::is_ascii_hexdigit)
    };
    if bars < 2 || !argument.split('|').skip(1).step_by(2).all(is_hex) {
        return Ok(argument.split_ascii_whitespace().map(|phrase| phrase.as_bytes().to_vec()).collect());
    }
    if !bars.is_multiple_of(2) {
        return Err(OperatorError::Argument {
            name: "pm",
            reason: "a hexadecimal part, |..|, is not closed".to_owned(),
        });
    }
    for part in parts.by_ref() {
        if in_hex {
            let digits: Vec<u8> = part
                .bytes()
                .filter_map(|digit| char::from(digit).to_digit(16))
                .map(|digit| digit as u8)
                .collect();
            if let Some(phrase) = phrases.last_mut() {
                phrase.extend(digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low));
            }
        } else {
            for byte in part.bytes() {
                if byte == b' ' {
                    phrases.push(Vec::new());
                } else if let Some(phrase) = phrases.last_mut() {
                    phrase.push(byte);
                }
            }
        }
        in_hex = !in_hex;
    }
    Ok(phrases)
}

/// The phrases of the files that a `@pmFromFile` argument names, separated by spaces: one a line, as it stands but for the line's
/// end; empty lines and those that begin with `#` are left out.
pub(super) fn phrases_of_files(
    name: &'static str,
    argument: &str,
    context: &CompileContext<'_>,
) -> Result<Vec<Vec<u8>>, OperatorError> {
    let mut phrases = Vec::new();
    for path in file_names(name, argument)? {
        let content = context.files.read(&context.resolve(path))?;
        for line in content.split(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.starts_with(b"#") && !line.trim_ascii().is_empty() {
                phrases.push(line.to_vec());
            }
        }
    }
    Ok(phrases)
}

/// The files that an argument names. Addresses of the web are refused: the engine fetches nothing.
pub(super) fn file_names<'a>(name: &'static str, argument: &'a str) -> Result<Vec<&'a str>, OperatorError> {
    let names: Vec<&str> = argument.split_ascii_whitespace().collect();
    if names.is_empty() {
        return Err(OperatorError::Argument { name, reason: "there is no file name".to_owned() });
    }
    if let Some(address) =
        names.iter().find(|path| path.starts_with("http://") || path.starts_with("https://"))
    {
        let reason = format!("{address}: rules fetch nothing; download the list and name the file");
        return Err(OperatorError::Argument { name, reason });
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::MemorySource;

    #[test]
    fn arguments() {
        for (argument, expected) in [
            ("a b  c", Ok(vec!["a", "b", "c"])),
            ("a|41 42|b c", Ok(vec!["aABb", "c"])),
            ("|20|", Ok(vec![" "])),
            ("a|b", Ok(vec!["a|b"])),
            ("a || b", Ok(vec!["a", "||", "b"])),
            ("|41|x|42|", Ok(vec!["AxB"])),
        ] {
            let got = phrases_of_argument(argument).map(|mut phrases| {
                phrases.retain(|phrase| !phrase.is_empty());
                phrases.iter().map(|phrase| String::from_utf8_lossy(phrase).into_owned()).collect::<Vec<_>>()
            });
            let expected: Result<Vec<String>, OperatorError> =
                expected.map(|phrases: Vec<&str>| phrases.into_iter().map(str::to_owned).collect());
            assert_eq!(got, expected, "{argument}");
        }
    }

    #[test]
    fn files() {
        let files =
            MemorySource::new().with("rules/a.data", "# note\r\nOne\r\n two\n\n").with("/b.data", "three");
        let context = CompileContext { files: &files, directory: "rules" };
        let phrases = phrases_of_files("pmFromFile", "a.data /b.data", &context);
        assert_eq!(phrases, Ok(vec![b"One".to_vec(), b" two".to_vec(), b"three".to_vec()]));
        assert!(matches!(phrases_of_files("pmFromFile", "c.data", &context), Err(OperatorError::File(_))));
        assert!(matches!(
            phrases_of_files("pmFromFile", "https://example.com/list", &context),
            Err(OperatorError::Argument { .. })
        ));
    }

    #[test]
    fn phrases_are_found_in_any_case() {
        let phrases = Phrases::new("pm", vec![b"WebShell".to_vec(), b"shell".to_vec()]).expect("compiles");
        assert_eq!(phrases.find(b"a wEBSHELL"), Some(2..10));
        assert_eq!(phrases.find(b"shel"), None);
        assert!(Phrases::new("pm", vec![Vec::new()]).is_err());
    }
}
