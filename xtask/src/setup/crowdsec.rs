//! CrowdSec for the tests, unpacked and not installed: its package registers the machine with a service on the
//! internet while it is installed, and fails where there is none.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::paths::Paths;
use crate::{process, ui};

/// Where the programs are once they are unpacked.
pub fn programs(paths: &Paths) -> PathBuf {
    paths.target.join("crowdsec/usr/bin")
}

/// Makes sure that `crowdsec` and `cscli` are on `PATH` or in [`programs`].
pub fn ensure(paths: &Paths) -> Result<()> {
    let unpacked = programs(paths);
    if ["crowdsec", "cscli"].iter().all(|p| process::which(p).is_some() || unpacked.join(p).exists()) {
        ui::already("crowdsec", "there");
        return Ok(());
    }
    if process::which("apt-get").is_none() || process::which("dpkg-deb").is_none() {
        bail!(
            "missing: crowdsec and cscli. Install what your distribution calls the package, then run this again."
        );
    }
    ui::step("crowdsec", || {
        let folder = paths.target.join("crowdsec");
        std::fs::create_dir_all(&folder).context("making the folder for crowdsec")?;
        process::quiet(
            "apt-get download crowdsec",
            Command::new("apt-get").args(["-q", "download", "crowdsec"]).current_dir(&folder),
        )?;
        let package = std::fs::read_dir(&folder)?
            .filter_map(|entry| entry.ok().map(|e| e.path()))
            .find(|path| path.extension().is_some_and(|e| e == "deb"))
            .context("apt-get downloaded no package")?;
        process::quiet("dpkg-deb", Command::new("dpkg-deb").arg("-x").arg(&package).arg(&folder))?;
        std::fs::remove_file(&package)?;
        Ok(unpacked.display().to_string())
    })
}
