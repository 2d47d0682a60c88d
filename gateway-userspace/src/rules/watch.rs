//! Whether rule files changed since they were read.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// How often the files of the set in force are looked at.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// What files looked like at one moment: path, time of change, size; a missing file has neither.
pub type Stamp = Vec<(PathBuf, Option<(SystemTime, u64)>)>;

/// Looks at `files` now. Two different stamps mean that something changed.
pub fn stamp(files: &[PathBuf]) -> Stamp {
    let look = |f: &PathBuf| std::fs::metadata(f).ok().and_then(|m| Some((m.modified().ok()?, m.len())));
    files.iter().map(|f| (f.clone(), look(f))).collect()
}
