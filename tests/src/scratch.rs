//! Folders and names that no other test has.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A short name that is unique on this machine while this process runs.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// A temporary folder that goes away with the value.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes an empty folder.
    pub fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(unique("gwt"));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file in the folder and returns its path.
    pub fn write(&self, name: &str, content: &str) -> Result<PathBuf> {
        let file = self.path.join(name);
        std::fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed is left to the next cleaning of /tmp.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
