//! xdp-filter's own objects, as Debian's xdp-tools has them: loaded by bpftool and pinned, each with one denied address.
//!
//! The objects ask libbpf to pin their maps by name below `/sys/fs/bpf`. The maps are filled there and unpinned at once: the
//! programs hold them, and the next object has maps of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Names in the report, and the objects: that which only denies listed addresses, and that with every feature.
const OBJECTS: [(&str, &str); 2] =
    [("xdp-filter", "xdpfilt_dny_ip.o"), ("xdp-filter with all features", "xdpfilt_dny_all.o")];
/// The maps that the objects have libbpf pin.
const MAPS: [&str; 5] = ["filter_ipv4", "filter_ipv6", "filter_ports", "filter_ethernet", "xdp_stats_map"];
const ROOT: &str = "/sys/fs/bpf";

/// A program of xdp-filter, pinned; gone with its maps when dropped.
pub struct Peer {
    /// Its name in the report.
    pub name: &'static str,
    /// Where it is pinned.
    pub pin: PathBuf,
    folder: PathBuf,
}

impl Peer {
    /// Loads every object.
    ///
    /// # Errors
    /// Without root, bpftool or xdp-tools; when something of those names is pinned already.
    pub fn load_all() -> Result<Vec<Self>> {
        // Debian keeps them in a folder of the machine's own kind.
        let libraries = format!("/usr/lib/{}-linux-gnu/bpf", std::env::consts::ARCH);
        OBJECTS.iter().map(|(name, object)| Self::load(name, &Path::new(&libraries).join(object))).collect()
    }

    fn load(name: &'static str, object: &Path) -> Result<Self> {
        ensure!(
            object.exists(),
            "{} is missing: install xdp-tools (`cargo xtask setup`), or measure with --alone",
            object.display()
        );
        for map in MAPS {
            let pin = Path::new(ROOT).join(map);
            ensure!(
                !pin.exists(),
                "{} is there already: unload what pinned it, or measure with --alone",
                pin.display()
            );
        }
        let number = std::process::id();
        let folder = Path::new(ROOT).join(format!("xdp-filter-bench-{number}"));
        std::fs::create_dir_all(&folder).with_context(|| {
            format!("{}: is the BPF file system mounted, and is this root?", folder.display())
        })?;
        let file = object.file_stem().context("an object's name")?;
        let peer = Self { name, pin: folder.join(file), folder };
        let loaded = bpftool(&[
            "prog",
            "load",
            &object.display().to_string(),
            &peer.pin.display().to_string(),
            "type",
            "xdp",
        ])
        .and_then(|()| deny());
        for map in MAPS {
            let _absent = std::fs::remove_file(Path::new(ROOT).join(map));
        }
        loaded?;
        Ok(peer)
    }
}

/// Denies the address of the case "denied v4".
fn deny() -> Result<()> {
    // Any bit set denies.
    let values = values_for_every_cpu()?;
    let map = format!("{ROOT}/filter_ipv4");
    let mut update = vec!["map", "update", "pinned", &map, "key", "198", "51", "100", "1", "value"];
    update.extend(values.iter().map(String::as_str));
    bpftool(&update)
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.pin) {
            eprintln!("{} is left behind: {error}", self.pin.display());
        }
        // The last one takes the folder with it.
        let _others = std::fs::remove_dir(&self.folder);
    }
}

/// A value of a per-CPU map for bpftool: eight bytes for each possible CPU.
fn values_for_every_cpu() -> Result<Vec<String>> {
    let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = possible.trim().rsplit([',', '-']).next().and_then(|n| n.parse::<usize>().ok());
    let cpus = last.context("reading the possible CPUs")? + 1;
    Ok((0..cpus).flat_map(|_| ["63", "0", "0", "0", "0", "0", "0", "0"]).map(str::to_owned).collect())
}

fn bpftool(arguments: &[&str]) -> Result<()> {
    let output = Command::new("bpftool").args(arguments).output().context("running bpftool")?;
    ensure!(
        output.status.success(),
        "bpftool {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
