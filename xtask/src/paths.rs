//! Where things are: the workspace, cargo's target folder and what xtask keeps in it.

use std::path::{Path, PathBuf};

/// The folders and files that xtask reads and writes.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The workspace root.
    pub root: PathBuf,
    /// Cargo's target folder: `CARGO_TARGET_DIR`, else `target/`.
    pub target: PathBuf,
}

impl Paths {
    /// Finds both from the environment that cargo gives to `cargo xtask`.
    pub fn find() -> Self {
        // Asked when it runs: a binary from a shared target folder may have been built in another checkout.
        let own = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&own).parent().map_or_else(PathBuf::new, Path::to_path_buf);
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(folder) if Path::new(&folder).is_absolute() => PathBuf::from(folder),
            Some(folder) => root.join(folder),
            None => root.join("target"),
        };
        Self { root, target }
    }

    /// Tools installed for this workspace alone (`cargo install --root`).
    pub fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// An installed tool.
    pub fn tool(&self, name: &str) -> PathBuf {
        self.tools().join("bin").join(name)
    }

    /// Cargo's target folder for the eBPF crate: another compiler, so never the same folder.
    pub fn ebpf_target(&self) -> PathBuf {
        self.target.join("ebpf-build")
    }

    /// The compiled eBPF object, where `gateway-userspace/build.rs` looks for it.
    pub fn ebpf_object(&self) -> PathBuf {
        self.target.join("bpf").join("gateway.o")
    }
}
