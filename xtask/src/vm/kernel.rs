//! Debian's kernel, unpacked from its package and not installed.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::paths::Paths;
use crate::setup::packages;
use crate::{process, ui};

/// The package that depends on the newest kernel of the release: 6.1 in Debian 12.
const META: &str = "linux-image-amd64";

/// An unpacked kernel.
#[derive(Debug)]
pub struct Kernel {
    /// Its release, as `uname -r` says it.
    pub release: String,
    /// The bootable image.
    pub image: PathBuf,
    /// The folder of its modules.
    pub modules: PathBuf,
}

/// Finds the unpacked kernel, or downloads and unpacks it.
pub fn ensure(paths: &Paths) -> Result<Kernel> {
    let root = paths.target.join("vm").join("kernel");
    if let Some(kernel) = find(&root) {
        ui::already("kernel", &kernel.release);
        return Ok(kernel);
    }
    ui::step("kernel", || {
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(&root)?;
        packages::refresh_if_empty()?;
        let package = real_package()?;
        process::quiet(
            "apt-get download",
            Command::new("apt-get").current_dir(&root).args(["-q", "download", &package]),
        )?;
        let file = std::fs::read_dir(&root)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|end| end == "deb"))
            .with_context(|| format!("apt-get left no package in {}", root.display()))?;
        process::quiet("dpkg -x", Command::new("dpkg").arg("-x").arg(&file).arg(&root))?;
        std::fs::remove_file(&file)?;
        Ok::<_, anyhow::Error>(package)
    })?;
    find(&root).with_context(|| format!("the package has no kernel with modules below {}", root.display()))
}

/// The package that the meta package stands for.
fn real_package() -> Result<String> {
    if process::which("apt-cache").is_none() {
        bail!("the kernel comes from a Debian package: run vm-test on Debian");
    }
    let depends = process::capture(Command::new("apt-cache").args(["depends", META]))?;
    depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .map(str::to_owned)
        .with_context(|| {
            format!("apt knows no {META}: run vm-test on Debian, with its package lists up to date")
        })
}

fn find(root: &std::path::Path) -> Option<Kernel> {
    let boot = std::fs::read_dir(root.join("boot")).ok()?;
    boot.flatten().find_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let release = name.strip_prefix("vmlinuz-")?.to_owned();
        let modules = ["lib/modules", "usr/lib/modules"]
            .iter()
            .map(|folder| root.join(folder).join(&release))
            .find(|folder| folder.exists())?;
        Some(Kernel { image: entry.path(), modules, release })
    })
}
