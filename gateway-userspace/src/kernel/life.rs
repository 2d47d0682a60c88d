//! The life of the kernel side: opened, adopted or carried over, attached, given up, removed.
//!
//! Nothing is half done: where opening or attaching fails, what an earlier daemon left in force stays in force.

use std::{
    fs,
    path::Path,
    sync::{Mutex, atomic::Ordering::Relaxed},
};

use gateway_common::SCHEMA;

use super::{
    Attachment, InterfaceConfig, Kernel, KernelConfig, KernelError, Mode, Modes, Part, State,
    attach::Links,
    carry::{self, Carried},
    feeds::Feeds,
    guard::Guard,
    load::{Loaded, Shape},
    sys,
};

impl Kernel {
    /// Loads the programs and their maps, adopting the pinned state of an earlier daemon of the same layout and size. From
    /// maps of another layout or size the bans, and the feed set where it can be read, are copied into new ones.
    /// Nothing is attached that was not before, and what is attached goes on with the old maps until
    /// [`take_over`](Self::take_over).
    ///
    /// # Errors
    /// [`KernelError`], each with what to do about it; what was there before is as it was.
    pub fn open(config: &KernelConfig) -> Result<Self, KernelError> {
        let shape = Shape::new(config)?;
        let root = config.pin_root.clone();
        prepare_root(&root)?;
        let lock = sys::lock_folder(&root)
            .map_err(|error| KernelError::from_io(format!("locking {}", root.display()), error))?
            .ok_or_else(|| KernelError::InUse { path: root.clone() })?;
        let folder = root.join(shape.folder());
        let adopted = folder.exists() && carry::schema(&folder) == SCHEMA;
        if !adopted && folder.exists() {
            // A daemon died while it filled these: nothing judges by them.
            remove_tree(&folder)?;
        }
        let (loaded, feeds, carried) = match fill(config, &folder, &shape, adopted) {
            Ok(filled) => filled,
            Err(error) => {
                if !adopted && folder.exists() {
                    remove_tree(&folder)?;
                }
                return Err(error);
            }
        };
        let kernel = Self {
            links: Links::new(&root)?,
            state: Mutex::new(State {
                loaded,
                guard: Guard::new([]),
                allowed: Vec::new(),
                classes: Vec::new(),
                cookie_ports: Vec::new(),
                cookies: None,
            }),
            feeds: Mutex::new(feeds),
            folder,
            root,
            config: config.clone(),
            carried,
            lock: Mutex::new(Some(lock)),
        };
        if !adopted {
            kernel.set_modes(Modes::all(Mode::Enforce));
            let feeds = kernel.carried.as_ref().is_some_and(|carried| carried.feeds > 0);
            kernel.state().configure(Part::Feeds, feeds);
        }
        kernel.set_allowlist(&[], &[])?;
        Ok(kernel)
    }

    /// Puts the programs on interfaces: on all of them or, where one fails, on none, and those that had another program
    /// of ours have it again. An interface that has our link already gets the program swapped in place, unless another
    /// mode is asked for.
    ///
    /// # Errors
    /// For the first interface that fails.
    pub fn attach(&self, interfaces: &[InterfaceConfig]) -> Result<Vec<Attachment>, KernelError> {
        let mut state = self.state();
        let mut undo = Vec::new();
        let mut done = Vec::new();
        for config in interfaces {
            match self.links.attach(&mut state.loaded, config, &mut undo) {
                Ok(attachment) => done.push(attachment),
                Err(error) => {
                    let before = state.loaded.programs_before(&self.root, &self.folder);
                    undo.into_iter().rev().for_each(|undo| undo.carry_out(&before));
                    return Err(error);
                }
            }
        }
        Ok(done)
    }

    /// As [`attach`](Self::attach), and then takes the program off every interface that is not among these and removes
    /// the maps of earlier generations: from here on only this daemon's maps count. Also returns the pins of the links
    /// that were removed.
    ///
    /// # Errors
    /// As [`attach`](Self::attach): then the earlier generation stays, and this one is removed unless it was adopted.
    pub fn take_over(
        &self,
        interfaces: &[InterfaceConfig],
    ) -> Result<(Vec<Attachment>, Vec<String>), KernelError> {
        let attached = match self.attach(interfaces) {
            Ok(attached) => attached,
            Err(error) => {
                if self.carried.is_some() {
                    remove_tree(&self.folder)?;
                }
                return Err(error);
            }
        };
        let detached = self.links.detach_others(interfaces)?;
        self.state().loaded.pin_programs(&self.folder)?;
        for old in carry::others(&self.root, &self.folder) {
            remove_tree(&old)?;
        }
        Ok((attached, detached))
    }

    /// Takes the program off the interfaces that had none before this daemon: the start failed further on.
    pub fn give_up(&self) {
        self.links.remove_new();
    }

    /// Takes the program off an interface. True when it was on it.
    ///
    /// # Errors
    /// When the pinned link cannot be removed.
    pub fn detach(&self, interface: &str) -> Result<bool, KernelError> {
        self.links.detach(interface)
    }

    /// Takes the program off every interface; how many there were. Bans stay in the maps.
    ///
    /// # Errors
    /// When a pinned link cannot be removed.
    pub fn detach_all(&self) -> Result<usize, KernelError> {
        self.links.detach_all()
    }

    /// Detaches everywhere and removes every pin: nothing is left behind.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn uninstall(self) -> Result<(), KernelError> {
        self.links.detach_all()?;
        remove_tree(&self.root)
    }
}

/// Maps and programs of a generation; a new one with what stood in the newest before it.
fn fill(
    config: &KernelConfig,
    folder: &Path,
    shape: &Shape,
    adopted: bool,
) -> Result<(Loaded, Feeds, Option<Carried>), KernelError> {
    let mut loaded = Loaded::new(folder, shape, adopted, config.object.as_deref())?;
    let mut feeds =
        loaded.feeds.take().ok_or_else(|| KernelError::Load { message: "no feed maps".into() })?;
    let mut carried = None;
    if !adopted {
        // One that is not complete holds nothing that was ever in force.
        let old = carry::others(&config.pin_root, folder).into_iter().find(|old| carry::schema(old) != 0);
        if let Some(old) = old {
            carried = Some(carry::over(&old, &loaded, &mut feeds)?);
        }
        loaded.complete();
    }
    debug_assert_eq!(loaded.control[0].schema.load(Relaxed), SCHEMA);
    Ok((loaded, feeds, carried))
}

/// Makes the folder of pins on a BPF file system, mounting /sys/fs/bpf where it is not mounted.
///
/// # Errors
/// When it cannot be mounted or made; with what to do.
pub fn prepare_root(root: &Path) -> Result<(), KernelError> {
    let standard = Path::new("/sys/fs/bpf");
    let failed =
        |what: &str, path: &Path, error| KernelError::from_io(format!("{what} {}", path.display()), error);
    if root.starts_with(standard) {
        let mounted = sys::is_bpffs(standard).map_err(|error| failed("looking at", standard, error))?;
        if !mounted {
            sys::mount_bpffs(standard)
                .map_err(|error| failed("mounting a BPF file system on", standard, error))?;
        }
    }
    let existing = root.ancestors().find(|path| path.exists()).unwrap_or(standard);
    if !sys::is_bpffs(existing).map_err(|error| failed("looking at", existing, error))? {
        return Err(KernelError::NotBpffs { path: root.to_owned() });
    }
    fs::create_dir_all(root).map_err(|error| failed("making", root, error))
}

/// Removes a folder of pins and everything in it.
pub(super) fn remove_tree(path: &Path) -> Result<(), KernelError> {
    fs::remove_dir_all(path)
        .map_err(|error| KernelError::from_io(format!("removing {}", path.display()), error))
}
