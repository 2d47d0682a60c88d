//! Rule and data files from the disk, within bounds.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use gateway_waf::source::{FileSource, SourceError};

/// Largest rule or data file, in bytes.
pub const MAX_FILE_BYTES: usize = 32 << 20;
/// Most files in one rule set.
pub const MAX_FILES: usize = 4096;

/// Reads files, and remembers which, so that they can be watched.
#[derive(Debug, Default)]
pub struct DiskSource {
    read: RefCell<BTreeSet<PathBuf>>,
    before: Option<Before>,
}

/// A text that globs give before a file of some name, as if it lay there.
#[derive(Debug)]
struct Before {
    file: &'static str,
    name: &'static str,
    text: String,
}

impl DiskSource {
    /// Has a text, by the name `name`, stand before the file that is called `file`, wherever a glob finds it.
    #[must_use]
    pub fn with_before(mut self, file: &'static str, name: &'static str, text: String) -> Self {
        self.before = Some(Before { file, name, text });
        self
    }

    /// The files read so far, and the folders in which globs looked.
    pub fn into_files(self) -> Vec<PathBuf> {
        self.read.into_inner().into_iter().collect()
    }
}

fn unreadable(path: &Path, e: &std::io::Error) -> SourceError {
    let path = path.display().to_string();
    match e.kind() {
        std::io::ErrorKind::NotFound => SourceError::NotFound { path },
        _ => SourceError::Unreadable { path, reason: e.to_string() },
    }
}

impl FileSource for DiskSource {
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceError> {
        let file = Path::new(path);
        if let Some(before) = self.before.as_ref().filter(|before| before.name == path) {
            return Ok(before.text.clone().into_bytes());
        }
        if self.read.borrow().len() >= MAX_FILES {
            let reason = format!("a rule set reads at most {MAX_FILES} files");
            return Err(SourceError::Unreadable { path: path.to_owned(), reason });
        }
        let mut bytes = Vec::new();
        std::fs::File::open(file)
            .and_then(|f| f.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes))
            .map_err(|e| unreadable(file, &e))?;
        if bytes.len() > MAX_FILE_BYTES {
            return Err(SourceError::TooLong { path: path.to_owned(), limit: MAX_FILE_BYTES });
        }
        self.read.borrow_mut().insert(file.to_owned());
        Ok(bytes)
    }

    fn glob(&self, pattern: &str) -> Result<Vec<String>, SourceError> {
        let bad = |reason: String| SourceError::Unreadable { path: pattern.to_owned(), reason };
        let options = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        let mut found = Vec::new();
        for entry in glob::glob_with(pattern, options).map_err(|e| bad(e.to_string()))? {
            let path = entry.map_err(|e| unreadable(e.path(), e.error()))?;
            let text = path.to_str().ok_or_else(|| bad(format!("{} is not UTF-8", path.display())))?;
            found.push(text.to_owned());
            if found.len() > MAX_FILES {
                return Err(bad(format!("more than {MAX_FILES} files match")));
            }
        }
        found.sort();
        if !found.is_empty() || pattern.contains('*') {
            // Its time changes when a file comes or goes.
            let folder = Path::new(pattern).parent().unwrap_or(Path::new("."));
            if folder.is_dir() {
                self.read.borrow_mut().insert(folder.to_owned());
            }
        }
        if let Some(before) = &self.before
            && let Some(at) = found.iter().position(|path| Path::new(path).ends_with(before.file))
        {
            found.insert(at, before.name.to_owned());
        }
        Ok(found)
    }
}
