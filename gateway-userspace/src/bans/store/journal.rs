//! The journal: one line a change, `CRC32 JSON`, appended without a sync.
//!
//! A line that was cut or damaged ends what is read of its file: what follows was written later and
//! could contradict it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Op;

/// Largest journal that is read at the start, in bytes; more would be a file of something else.
const MAX_JOURNAL_BYTES: u64 = 4 << 30;

/// The journal that is written now.
#[derive(Debug)]
pub(super) struct Journal {
    database: PathBuf,
    number: u64,
    file: File,
    empty: bool,
}

fn name(database: &Path, number: u64) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(format!(".journal.{number:012}"));
    name.into()
}

impl Journal {
    pub(super) fn create(database: &Path, number: u64) -> io::Result<Self> {
        let file =
            OpenOptions::new().create_new(true).append(true).mode(0o600).open(name(database, number))?;
        Ok(Self { database: database.to_owned(), number, file, empty: true })
    }

    /// Appends lines of changes with one write.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.empty = false;
        self.file.write_all(lines)
    }

    /// Beside which database the next journal belongs, and its number.
    pub(super) fn next(&self) -> (PathBuf, u64) {
        (self.database.clone(), self.number + 1)
    }

    /// Where it is.
    pub(super) fn path(&self) -> PathBuf {
        name(&self.database, self.number)
    }

    /// At a clean end nothing is left over.
    pub(super) fn delete_if_empty(&mut self) {
        if self.empty {
            drop(std::fs::remove_file(self.path()));
        }
    }
}

/// What journals of an earlier process hold.
#[derive(Debug)]
pub(super) struct Leftover {
    pub(super) ops: Vec<Op>,
    pub(super) files: Vec<PathBuf>,
    /// The number for the next journal.
    pub(super) next: u64,
}

/// Reads every journal beside `database`, in order.
pub(super) fn replay(database: &Path) -> io::Result<Leftover> {
    let folder = database.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let prefix = format!("{}.journal.", database.file_name().unwrap_or_default().to_string_lossy());
    let mut numbers: Vec<u64> = std::fs::read_dir(folder)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix(&prefix)?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let mut left = Leftover { ops: Vec::new(), files: Vec::new(), next: 0 };
    for number in numbers {
        let path = name(database, number);
        let mut bytes = Vec::new();
        File::open(&path)?.take(MAX_JOURNAL_BYTES).read_to_end(&mut bytes)?;
        left.ops.extend(parse(&bytes));
        left.files.push(path);
        left.next = number + 1;
    }
    Ok(left)
}

fn parse(bytes: &[u8]) -> impl Iterator<Item = Op> {
    bytes.split_inclusive(|b| *b == b'\n').map_while(|line| {
        let line = line.strip_suffix(b"\n")?;
        let (crc, json) = (line.get(..8)?, line.get(9..)?);
        let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?, 16).ok()?;
        (crc32fast::hash(json) == crc).then(|| serde_json::from_slice(json).ok())?
    })
}
