//! Temporary storage for what is too large to wait in memory.
//!
//! A file here has no name (`O_TMPFILE`): the kernel removes it with its last descriptor, on a kill as well. Where a file
//! system has no such files one is made and unlinked at once; what a kill between the two leaves is removed at the next
//! start. Writing happens on the runtime's blocking threads, so that a slow disk stalls one request and not a worker.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::config::waf::Spool as Settings;
use crate::telemetry::Sparse;

/// Files that a kill may have left begin so.
const PREFIX: &str = ".gateway-spool-";
/// Most leftovers that are removed at a start.
const MAX_REMOVED: usize = 100_000;

/// The storage, and what of it is in use.
#[derive(Debug)]
pub struct Spool {
    settings: ArcSwap<Settings>,
    bytes: AtomicU64,
    files: AtomicU64,
    refused: AtomicU64,
}

impl Spool {
    /// Storage as configured; removes what a killed gateway left there.
    pub fn new(settings: Settings) -> Self {
        clean(&settings.folder);
        Self {
            settings: ArcSwap::from_pointee(settings),
            bytes: AtomicU64::new(0),
            files: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Other bounds or another folder for what comes from now on.
    pub fn set(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// Bytes of a body that stay in memory.
    pub(super) fn above(&self) -> usize {
        usize::try_from(self.settings.load().above).unwrap_or(usize::MAX)
    }

    /// Bytes in storage now.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Files in storage now.
    pub fn files(&self) -> u64 {
        self.files.load(Relaxed)
    }

    /// Bodies refused because the storage was full or broken.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// A new file; none when the storage is full or broken.
    pub(super) fn file(self: &Arc<Self>) -> Option<Spooled> {
        let settings = self.settings.load_full();
        if self.files.fetch_add(1, Relaxed) >= u64::from(settings.files) {
            self.files.fetch_sub(1, Relaxed);
            self.refuse("its number of files is reached");
            return None;
        }
        // From here on dropping gives it back.
        let mut spooled = Spooled { file: None, len: 0, spool: Arc::clone(self) };
        match nameless(&settings.folder) {
            Ok(file) => {
                spooled.file = Some(tokio::fs::File::from_std(file));
                Some(spooled)
            }
            Err(e) => {
                self.refuse(&format!("{}: {e}", settings.folder.display()));
                None
            }
        }
    }

    fn refuse(&self, why: &str) {
        static SAID: Sparse = Sparse::every(Duration::from_secs(10));
        self.refused.fetch_add(1, Relaxed);
        if let Some(more) = SAID.permit() {
            tracing::error!("a body can't be spooled: {why} ({more} more since). Check [waf] spool.");
        }
    }
}

/// A file in storage.
#[derive(Debug)]
pub(super) struct Spooled {
    file: Option<tokio::fs::File>,
    len: u64,
    spool: Arc<Spool>,
}

impl Spooled {
    /// Appends a piece; false when the storage is full or broken.
    pub(super) async fn write(&mut self, piece: &[u8]) -> bool {
        use tokio::io::AsyncWriteExt as _;
        let len = piece.len() as u64;
        self.len += len;
        if self.spool.bytes.fetch_add(len, Relaxed) + len > self.spool.settings.load().bytes {
            self.spool.refuse("its bytes are in use");
            return false;
        }
        let Some(file) = &mut self.file else { return false };
        match file.write_all(piece).await {
            Ok(()) => true,
            Err(e) => {
                self.spool.refuse(&e.to_string());
                false
            }
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Goes to the beginning, to be read.
    pub(super) async fn rewind(&mut self) -> io::Result<()> {
        use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        file.flush().await?;
        file.rewind().await.map(|_| ())
    }

    /// The file, once it was rewound.
    pub(super) fn reader(&mut self) -> Option<&mut tokio::fs::File> {
        self.file.as_mut()
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        self.spool.bytes.fetch_sub(self.len, Relaxed);
        self.spool.files.fetch_sub(1, Relaxed);
    }
}

/// A file without a name, for its owner alone.
fn nameless(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match options.clone().custom_flags(libc::O_TMPFILE).open(folder) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::ENOENT)) => {
            named_once(folder, &mut options)
        }
        opened => opened,
    }
}

/// For file systems without nameless files.
fn named_once(folder: &Path, options: &mut OpenOptions) -> io::Result<File> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = format!("{PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
    let path = folder.join(name);
    let file = options.create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Removes what a kill left: files of ours that still have a name, unless their process lives.
fn clean(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten().take(MAX_REMOVED) {
        let name = entry.file_name();
        let process = name.to_str().and_then(|n| n.strip_prefix(PREFIX)?.split('-').next());
        if process.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(name: &str, bytes: u64, files: u32) -> (Arc<Spool>, std::path::PathBuf) {
        let folder = std::env::temp_dir().join(format!("gateway-spool-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("folder");
        let settings = Settings { folder: folder.clone(), above: 10, bytes, files };
        (Arc::new(Spool::new(settings)), folder)
    }

    fn names(folder: &Path) -> usize {
        std::fs::read_dir(folder).expect("folder").count()
    }

    #[tokio::test]
    async fn bounds_hold_and_nothing_has_a_name() {
        let (spool, folder) = spool("bounds", 1000, 2);
        let mut first = spool.file().expect("first");
        assert!(first.write(&[1; 900]).await);
        let mut second = spool.file().expect("second");
        assert!(!second.write(&[1; 101]).await, "the bytes of all");
        assert!(spool.file().is_none(), "the files of all");
        assert_eq!((spool.files(), spool.refused(), names(&folder)), (2, 2, 0));
        drop((first, second));
        assert_eq!((spool.files(), spool.bytes()), (0, 0));
        spool.set(Settings { folder: folder.join("none"), above: 10, bytes: 1000, files: 2 });
        assert!(spool.file().is_none(), "no such folder");
        assert_eq!(spool.files(), 0);
        std::fs::remove_dir_all(&folder).expect("folder");
    }

    #[test]
    fn a_name_lives_for_a_moment_and_leftovers_are_removed() {
        let (_, folder) = spool("names", 1000, 2);
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        let file = named_once(&folder, &mut options).expect("file");
        assert_eq!(names(&folder), 0);
        drop(file);
        // A process id that can't be: larger than the kernel's largest.
        std::fs::write(folder.join(format!("{PREFIX}4294967295-0")), "left").expect("file");
        std::fs::write(folder.join(format!("{PREFIX}{}-0", std::process::id())), "in use").expect("file");
        std::fs::write(folder.join("other"), "not ours").expect("file");
        clean(&folder);
        assert_eq!(names(&folder), 2);
        std::fs::remove_dir_all(&folder).expect("folder");
    }
}
