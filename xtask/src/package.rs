//! `cargo xtask package`: the daemon as a Debian package and as an archive, both from the `dist` profile.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::paths::Paths;
use crate::{build, process, ui};

/// Files of the package: where they are in the workspace, where they go, and their mode.
const FILES: [(&str, &str, &str); 6] = [
    ("packaging/gateway.service", "usr/lib/systemd/system/gateway.service", "0644"),
    ("packaging/gateway.toml", "etc/gateway/gateway.toml", "0644"),
    ("packaging/gateway.sysusers", "usr/lib/sysusers.d/gateway.conf", "0644"),
    ("LICENSE-MIT", "usr/share/doc/gateway/LICENSE-MIT", "0644"),
    ("LICENSE-APACHE", "usr/share/doc/gateway/LICENSE-APACHE", "0644"),
    ("docs/operations.md", "usr/share/doc/gateway/operations.md", "0644"),
];

/// Arguments of `cargo xtask package`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The cargo profile of the packaged daemon
    #[arg(long, default_value = "dist")]
    profile: String,
}

/// Runs the verb.
pub fn run(args: &Args, paths: &Paths) -> Result<()> {
    ui::heading("Packaging");
    build::ebpf(paths)?;
    let daemon = build::daemon(paths, &args.profile)?;
    let version = version(paths)?;
    let folder = paths.target.join("package");
    let root = folder.join("root");
    tree(paths, &daemon, &root)?;
    archive(&folder, &root, &version)?;
    if process::which("dpkg-deb").is_none() {
        ui::note("no dpkg-deb on this system: only the archive was made");
        return Ok(());
    }
    debian(paths, &folder, &root, &version)
}

/// Lays out the files as they will be installed.
fn tree(paths: &Paths, daemon: &Path, root: &Path) -> Result<()> {
    let _ = std::fs::remove_dir_all(root);
    install(daemon, &root.join("usr/bin/gateway"), "0755")?;
    process::run(Command::new("strip").arg(root.join("usr/bin/gateway")))?;
    for (from, to, mode) in FILES {
        install(&paths.root.join(from), &root.join(to), mode)?;
    }
    Ok(())
}

fn archive(folder: &Path, root: &Path, version: &str) -> Result<()> {
    let file = folder.join(format!("gateway-{version}-x86_64-linux.tar.gz"));
    ui::step("archive", || {
        process::run(
            Command::new("tar")
                .args(["--owner=0", "--group=0", "--sort=name", "--mtime=@0", "-czf"])
                .arg(&file)
                .arg("-C")
                .arg(root)
                .arg("."),
        )?;
        Ok(file.display().to_string())
    })
}

fn debian(paths: &Paths, folder: &Path, root: &Path, version: &str) -> Result<()> {
    let file = folder.join(format!("gateway_{version}_amd64.deb"));
    ui::step("Debian package", || {
        let control = root.join("DEBIAN");
        for name in ["postinst", "prerm"] {
            install(&paths.root.join("packaging/debian").join(name), &control.join(name), "0755")?;
        }
        std::fs::write(control.join("conffiles"), "/etc/gateway/gateway.toml\n")?;
        let template = std::fs::read_to_string(paths.root.join("packaging/debian/control"))?;
        std::fs::write(control.join("control"), template.replace("@VERSION@", version))?;
        process::capture(
            Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(root).arg(&file),
        )?;
        std::fs::remove_dir_all(&control)?;
        Ok::<_, anyhow::Error>(file.display().to_string())
    })
}

fn install(from: &Path, to: &Path, mode: &str) -> Result<()> {
    process::run(Command::new("install").args(["-D", "-m", mode]).arg(from).arg(to))
        .with_context(|| format!("cannot put {} into the package", from.display()))
}

fn version(paths: &Paths) -> Result<String> {
    let mut command = build::host_cargo(paths);
    let text =
        process::capture(command.args(["metadata", "--no-deps", "--format-version", "1", "--locked"]))?;
    let metadata: Value = serde_json::from_str(&text)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let Some(version) = packages.iter().find(|one| one["name"] == "gateway-userspace") else {
        bail!("cargo metadata has no gateway-userspace");
    };
    version["version"].as_str().map(str::to_owned).context("gateway-userspace has no version")
}
