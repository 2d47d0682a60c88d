//! Interfaces: links pinned by name, native mode if the driver has it, else generic, the reason kept.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{error::KernelError, load::Loaded, netlink, sys};

/// How to attach to an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachMode {
    /// Native if possible, else generic.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// In the stack, after the driver: works everywhere, slower.
    Generic,
}

/// One interface to protect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceConfig {
    /// Its name.
    pub name: String,
    /// How to attach.
    pub mode: AttachMode,
}

/// An interface with the program on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attachment {
    /// Interface.
    pub interface: String,
    /// Its index.
    pub index: u32,
    /// Mode in force: native or generic; auto when the kernel does not tell.
    pub mode: AttachMode,
    /// Why this mode, in words.
    pub reason: String,
}

/// The folder of pinned links. It carries no version: links outlive a change of layout.
pub struct Links {
    folder: PathBuf,
    /// Why an interface has the mode it has, by its index; of those that this daemon attached to.
    reasons: Mutex<BTreeMap<u32, String>>,
    /// Pins that this daemon made on interfaces that had none.
    new: Mutex<Vec<PathBuf>>,
}

/// How to take back one attachment.
pub enum Undo {
    /// There was none before.
    Remove(PathBuf),
    /// There was one, with another program.
    PutBack(OwnedFd),
}

impl Undo {
    /// Takes it back; `before` are the programs that may have been in force.
    pub fn carry_out(self, before: &[OwnedFd]) {
        match self {
            Self::Remove(path) => {
                let _gone = remove(&path);
            }
            // Where none of them goes back on, the new program stays: it holds the same bans.
            Self::PutBack(link) => {
                let _back = before.iter().any(|old| sys::link_update(link.as_fd(), old.as_fd()).is_ok());
            }
        }
    }
}

impl Links {
    /// The links under a pin root.
    pub fn new(root: &Path) -> Result<Self, KernelError> {
        let folder = root.join("links");
        fs::create_dir_all(&folder)
            .map_err(|error| KernelError::from_io(format!("making {}", folder.display()), error))?;
        Ok(Self { folder, reasons: Mutex::default(), new: Mutex::default() })
    }

    fn path(&self, interface: &str) -> PathBuf {
        self.folder.join(sys::pin_name(interface))
    }

    /// The pinned link of an interface, unless the interface it was made for is gone.
    fn live(&self, interface: &str, index: u32) -> Option<OwnedFd> {
        let path = self.path(interface);
        let link = sys::open_pin(&path).ok()?;
        if sys::link_info(link.as_fd()).is_ok_and(|info| info.interface == index) {
            return Some(link);
        }
        // The interface went away, or came back as another: the link is dead, only its name is left.
        let _gone = fs::remove_file(path);
        None
    }

    /// Puts the program on an interface: through the link that is there, or a new one. What was done is added to `undo`.
    pub fn attach(
        &self,
        loaded: &mut Loaded,
        config: &InterfaceConfig,
        undo: &mut Vec<Undo>,
    ) -> Result<Attachment, KernelError> {
        let name = &config.name;
        let index =
            sys::interface_index(name).ok_or_else(|| KernelError::NoInterface { name: name.clone() })?;
        let attachment = match self.live(name, index) {
            None => self.put_on(loaded, config, index, Vec::new())?,
            Some(link) => {
                let mode = netlink::interface(index).ok().and_then(|now| now.mode);
                if matches!((config.mode, mode), (AttachMode::Auto, _) | (_, None))
                    || Some(config.mode) == mode
                {
                    let attachment = replace(loaded, &link, name, index, mode)?;
                    undo.push(Undo::PutBack(link));
                    self.note(&attachment);
                    return Ok(attachment);
                }
                // One interface cannot have both modes at once: between the two a few packets go unjudged.
                drop(link);
                remove(&self.path(name))?;
                let said = format!("was {}, {} is asked for", words(mode), words(Some(config.mode)));
                self.put_on(loaded, config, index, vec![said]).inspect_err(|_| {
                    let before = InterfaceConfig { name: name.clone(), mode: mode.unwrap_or_default() };
                    // The error that is told is the first one.
                    let _back = self.put_on(loaded, &before, index, Vec::new());
                })?
            }
        };
        undo.push(Undo::Remove(self.path(name)));
        self.new.lock().unwrap_or_else(PoisonError::into_inner).push(self.path(name));
        self.note(&attachment);
        Ok(attachment)
    }

    fn note(&self, attachment: &Attachment) {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        reasons.insert(attachment.index, attachment.reason.clone());
    }

    /// Why an interface has its mode, where this daemon attached to it.
    pub fn reason(&self, index: u32) -> Option<String> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner).get(&index).cloned()
    }

    /// Removes the links that this daemon made where there were none.
    pub fn remove_new(&self) {
        for path in self.new.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _gone = remove(&path);
        }
    }

    /// Puts the program on an interface that has none of ours.
    fn put_on(
        &self,
        loaded: &mut Loaded,
        config: &InterfaceConfig,
        index: u32,
        mut tried: Vec<String>,
    ) -> Result<Attachment, KernelError> {
        let name = &config.name;
        for (mode, frags) in ladder(config.mode) {
            let label = label(*mode, *frags);
            let program = match loaded.program(*frags) {
                Ok(program) => program,
                Err(error) if *frags => {
                    tried.push(format!("{label}: {error}"));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let flags = match mode {
                AttachMode::Generic => sys::XDP_FLAGS_SKB_MODE,
                AttachMode::Native | AttachMode::Auto => sys::XDP_FLAGS_DRV_MODE,
            };
            match sys::link_create(program.as_fd(), index, flags) {
                Ok(link) => {
                    let path = self.path(name);
                    sys::pin(link.as_fd(), &path).map_err(|error| {
                        KernelError::from_io(format!("pinning {}", path.display()), error)
                    })?;
                    tried.push(format!("{label}: attached"));
                    return Ok(Attachment {
                        interface: name.clone(),
                        index,
                        mode: *mode,
                        reason: tried.join("; "),
                    });
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EBUSY | libc::EEXIST) => {
                        return Err(KernelError::InterfaceBusy { name: name.clone() });
                    }
                    Some(libc::EPERM | libc::EACCES) => {
                        return Err(KernelError::from_io(format!("attaching to {name}"), error));
                    }
                    _ => tried.push(format!("{label}: {}", in_words(&error))),
                },
            }
        }
        Err(KernelError::Attach { name: name.clone(), tried: tried.join("; ") })
    }

    /// Names of the pin files of all links, with their interface index (zero: the interface is gone).
    pub fn list(&self) -> Result<Vec<(PathBuf, u32)>, KernelError> {
        let read = || -> io::Result<Vec<(PathBuf, u32)>> {
            let mut links = Vec::new();
            for entry in fs::read_dir(&self.folder)? {
                let path = entry?.path();
                let link = sys::open_pin(&path)?;
                links.push((path, sys::link_info(link.as_fd())?.interface));
            }
            Ok(links)
        };
        read().map_err(|error| KernelError::from_io(format!("reading {}", self.folder.display()), error))
    }

    /// Takes the program off an interface. True when it was on it.
    pub fn detach(&self, interface: &str) -> Result<bool, KernelError> {
        remove(&self.path(interface))
    }

    /// Takes the program off every interface that is not among these; the names of their pins.
    pub fn detach_others(&self, keep: &[InterfaceConfig]) -> Result<Vec<String>, KernelError> {
        let keep: Vec<PathBuf> = keep.iter().map(|config| self.path(&config.name)).collect();
        let mut gone = Vec::new();
        for (path, _) in self.list()? {
            if !keep.contains(&path) {
                remove(&path)?;
                gone.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
            }
        }
        Ok(gone)
    }

    /// Takes the program off every interface; how many there were.
    pub fn detach_all(&self) -> Result<usize, KernelError> {
        let links = self.list()?;
        for (path, _) in &links {
            remove(path)?;
        }
        Ok(links.len())
    }
}

/// Detaches at once, whoever else holds the link, and unpins.
fn remove(path: &Path) -> Result<bool, KernelError> {
    if let Ok(link) = sys::open_pin(path) {
        // Where it fails the interface is gone, or the kernel is older than 5.9 and detaches with the last reference.
        let _detached = sys::link_detach(link.as_fd());
    }
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(KernelError::from_io(format!("removing {}", path.display()), error)),
    }
}

/// Swaps the program behind a standing link; between two packets, so none goes unjudged. The link keeps its mode. A
/// link made for frames in several buffers takes only such a program, and the other way round.
fn replace(
    loaded: &mut Loaded,
    link: &OwnedFd,
    name: &str,
    index: u32,
    mode: Option<AttachMode>,
) -> Result<Attachment, KernelError> {
    let mut last = None;
    for frags in [false, true] {
        let Ok(program) = loaded.program(frags) else { continue };
        match sys::link_update(link.as_fd(), program.as_fd()) {
            Ok(()) => {
                return Ok(Attachment {
                    interface: name.to_owned(),
                    index,
                    mode: mode.unwrap_or_default(),
                    reason: format!(
                        "adopted from the daemon before, {}; program replaced",
                        label(mode.unwrap_or_default(), frags)
                    ),
                });
            }
            Err(error) => last = Some(error),
        }
    }
    let error = last.unwrap_or_else(|| io::Error::from_raw_os_error(libc::EINVAL));
    Err(KernelError::from_io(format!("replacing the program on {name}"), error))
}

/// Modes in the order they are tried. Frames in several buffers first: such a program takes any MTU, but needs
/// Linux 5.18, and not every driver has it.
const fn ladder(mode: AttachMode) -> &'static [(AttachMode, bool)] {
    const NATIVE: (AttachMode, bool) = (AttachMode::Native, false);
    const NATIVE_FRAGS: (AttachMode, bool) = (AttachMode::Native, true);
    const GENERIC: (AttachMode, bool) = (AttachMode::Generic, false);
    const GENERIC_FRAGS: (AttachMode, bool) = (AttachMode::Generic, true);
    match mode {
        AttachMode::Auto => &[NATIVE, NATIVE_FRAGS, GENERIC, GENERIC_FRAGS],
        AttachMode::Native => &[NATIVE, NATIVE_FRAGS],
        AttachMode::Generic => &[GENERIC, GENERIC_FRAGS],
    }
}

const fn label(mode: AttachMode, frags: bool) -> &'static str {
    match (mode, frags) {
        (AttachMode::Generic, false) => "generic",
        (AttachMode::Generic, true) => "generic, several buffers",
        (_, false) => "native",
        (_, true) => "native, several buffers",
    }
}

const fn words(mode: Option<AttachMode>) -> &'static str {
    match mode {
        Some(AttachMode::Generic) => "generic",
        Some(AttachMode::Native) => "native",
        Some(AttachMode::Auto) | None => "automatic",
    }
}

fn in_words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => "the driver has no XDP".into(),
        Some(libc::ERANGE) => "the MTU is too large for this mode".into(),
        Some(libc::EINVAL) => "refused by the driver".into(),
        _ => error.to_string(),
    }
}
