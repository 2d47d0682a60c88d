//! The Python environment of the tests: clients of HTTP/3, WebSocket and gRPC, below the target folder.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::packages;
use crate::paths::Paths;
use crate::{process, ui};

/// The Python that has the packages of `tests/clients/requirements.txt`. The gateway's own tests look for it here, too.
pub fn python(paths: &Paths) -> PathBuf {
    paths.target.join("python/bin/python")
}

/// Makes sure that it has them.
pub fn ensure(paths: &Paths) -> Result<()> {
    let wanted = paths.root.join("tests/clients/requirements.txt");
    let text = std::fs::read_to_string(&wanted).with_context(|| format!("reading {}", wanted.display()))?;
    let (folder, python) = (paths.target.join("python"), python(paths));
    // What was installed is kept beside it: the same text means that there is nothing to do.
    let installed = folder.join("requirements.txt");
    if python.exists() && std::fs::read_to_string(&installed).is_ok_and(|there| there == text) {
        ui::already("Python packages", "there");
        return Ok(());
    }
    ui::step("Python packages", || {
        // Debian has them in a package of their own.
        if process::capture(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_err() {
            packages::install(&["python3-venv"])?;
        }
        process::quiet(
            "python3 -m venv",
            Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder),
        )?;
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary", ":all:"]);
        process::quiet("pip install", install.arg("-r").arg(&wanted))?;
        std::fs::write(&installed, text)?;
        Ok(folder.display().to_string())
    })
}
