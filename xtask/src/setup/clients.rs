//! The Python clients of `cargo xtask clients`, in an environment of their own below the target folder.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::packages::{self, Group};
use crate::paths::Paths;
use crate::{process, ui};

/// The Python that has the packages of `tests/clients/requirements.txt`.
pub fn python(paths: &Paths) -> PathBuf {
    paths.target.join("clients/venv/bin/python")
}

/// Makes sure that the real clients are there.
pub fn ensure(paths: &Paths) -> Result<()> {
    packages::ensure(&[Group::Clients])?;
    let wanted = paths.root.join("tests/clients/requirements.txt");
    let text = std::fs::read_to_string(&wanted).with_context(|| format!("reading {}", wanted.display()))?;
    // What was installed is kept beside the environment: the same text means that there is nothing to do.
    let installed = paths.target.join("clients/requirements.txt");
    if python(paths).exists() && std::fs::read_to_string(&installed).is_ok_and(|t| t == text) {
        ui::already("Python clients", "there");
        return Ok(());
    }
    ui::step("Python clients", || {
        let folder = paths.target.join("clients/venv");
        process::quiet(
            "python3 -m venv",
            Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder),
        )?;
        process::quiet(
            "pip install",
            Command::new(python(paths))
                .args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary", ":all:"])
                .arg("-r")
                .arg(&wanted),
        )?;
        std::fs::write(&installed, text)?;
        Ok(folder.display().to_string())
    })
}
