//! aioquic, the HTTP/3 client of the tests, in an environment of its own below the target folder.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::paths::Paths;
use crate::{process, ui};

/// What is installed; the file that lists it is kept beside the environment.
const PACKAGES: [&str; 9] = [
    "aioquic==1.2.0",
    "attrs==26.1.0",
    "certifi==2026.10.18",
    "cffi==2.1.1",
    "cryptography==50.0.2",
    "pycparser==3.12",
    "pylsqpack==0.3.24",
    "pyOpenSSL==26.4.0",
    "service-identity==26.1.0",
];

/// Makes sure that `target/python/bin/python` has the packages.
pub fn ensure(paths: &Paths) -> Result<()> {
    let folder = paths.target.join("python");
    let python: PathBuf = folder.join("bin/python");
    let (list, text) = (folder.join("packages.txt"), PACKAGES.join("\n"));
    if python.exists() && std::fs::read_to_string(&list).is_ok_and(|there| there == text) {
        ui::already("aioquic", "there");
        return Ok(());
    }
    ui::step("aioquic", || {
        process::quiet("python3 -m venv", Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary", ":all:"]);
        process::quiet("pip install aioquic", install.args(PACKAGES))?;
        std::fs::write(&list, text)?;
        Ok(folder.display().to_string())
    })
}
