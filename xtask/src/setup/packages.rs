//! Debian and Ubuntu packages: what is missing, and how to get it.
//!
//! Packages are asked for by the program or file they bring, so that another way of installing the same thing counts
//! too, and so that nothing is asked of dpkg on systems without it.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::{process, ui};

/// What a set of packages is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Compiling the daemon (aws-lc's C code) and the eBPF linker.
    Build,
    /// The end-to-end tests: namespaces and real clients.
    Test,
    /// The real clients of `clients`.
    Clients,
    /// The virtual machine of `vm-test`.
    Vm,
}

/// A package and how to see that it is not needed.
#[derive(Debug, Clone, Copy)]
pub struct Package {
    /// Its name in Debian 12, Debian 13 and Ubuntu 22.04 and later.
    pub name: &'static str,
    /// What it brings.
    pub probe: Probe,
}

/// How to see that what a package brings is there.
#[derive(Debug, Clone, Copy)]
pub enum Probe {
    /// A program on `PATH` (or in the sbin folders).
    Program(&'static str),
    /// A file.
    File(&'static str),
}

impl Group {
    /// The packages of this group.
    pub fn packages(self) -> &'static [Package] {
        match self {
            Self::Build => &[
                Package { name: "gcc", probe: Probe::Program("cc") },
                Package { name: "g++", probe: Probe::Program("c++") },
                Package { name: "make", probe: Probe::Program("make") },
                Package { name: "ca-certificates", probe: Probe::File("/etc/ssl/certs/ca-certificates.crt") },
            ],
            Self::Test => &[
                Package { name: "iproute2", probe: Probe::Program("ip") },
                Package { name: "iputils-ping", probe: Probe::Program("ping") },
                Package { name: "util-linux", probe: Probe::Program("nsenter") },
                Package { name: "procps", probe: Probe::Program("sysctl") },
                Package { name: "curl", probe: Probe::Program("curl") },
                Package { name: "openssl", probe: Probe::Program("openssl") },
                Package { name: "python3", probe: Probe::Program("python3") },
                Package { name: "redis-server", probe: Probe::Program("redis-server") },
                Package { name: "redis-sentinel", probe: Probe::Program("redis-sentinel") },
                Package { name: "faketime", probe: Probe::Program("faketime") },
                Package { name: "redis-tools", probe: Probe::Program("redis-cli") },
                Package { name: "pebble", probe: Probe::Program("pebble") },
                Package { name: "minisign", probe: Probe::Program("minisign") },
                Package {
                    name: "modsecurity-crs",
                    probe: Probe::File("/usr/share/modsecurity-crs/owasp-crs.load"),
                },
                Package { name: "fail2ban", probe: Probe::Program("fail2ban-server") },
                Package { name: "libsqlite3-0", probe: Probe::File("/usr/share/doc/libsqlite3-0") },
                Package { name: "tcpdump", probe: Probe::Program("tcpdump") },
                Package { name: "bpftool", probe: Probe::Program("bpftool") },
                Package { name: "xdp-tools", probe: Probe::Program("xdp-filter") },
                Package { name: "ethtool", probe: Probe::Program("ethtool") },
                Package { name: "systemd", probe: Probe::Program("systemd-analyze") },
            ],
            Self::Clients => &[
                Package { name: "curl", probe: Probe::Program("curl") },
                Package { name: "openssl", probe: Probe::Program("openssl") },
                Package { name: "nghttp2-client", probe: Probe::Program("h2load") },
                Package { name: "wrk", probe: Probe::Program("wrk") },
                Package { name: "chromium", probe: Probe::Program("chromium") },
                Package { name: "slowhttptest", probe: Probe::Program("slowhttptest") },
                Package { name: "testssl.sh", probe: Probe::Program("testssl") },
            ],
            Self::Vm => &[
                Package { name: "qemu-system-x86", probe: Probe::Program("qemu-system-x86_64") },
                Package { name: "busybox-static", probe: Probe::File("/bin/busybox") },
                Package { name: "cpio", probe: Probe::Program("cpio") },
            ],
        }
    }
}

/// Installs what is missing of `groups`, or says what to install.
pub fn ensure(groups: &[Group]) -> Result<()> {
    let all: Vec<Package> = groups.iter().flat_map(|group| group.packages()).copied().collect();
    let missing = missing(&all);
    let names: Vec<&str> = all.iter().map(|package| package.name).collect();
    if missing.is_empty() {
        ui::already("packages", &names.join(" "));
        return Ok(());
    }
    ui::step("packages", || install(&missing).map(|()| format!("installed {}", missing.join(" "))))
}

/// Installs packages by name with apt, as root on Debian or Ubuntu; elsewhere an error says what to install.
pub fn install(names: &[&str]) -> Result<()> {
    let list = names.join(" ");
    if process::which("apt-get").is_none() {
        bail!(
            "missing: {list} (Debian's names). Install what your distribution calls them, then run this again."
        );
    }
    if !process::is_root() {
        bail!("missing: {list}. Run `sudo apt-get install --no-install-recommends {list}`, then this again.");
    }
    if !lists_are_there() {
        process::quiet("apt-get update", apt().arg("update"))?;
    }
    let attempt = |names: &[&str]| {
        let mut command = apt();
        command.args(["install", "-y", "--no-install-recommends"]).args(names);
        process::quiet(&format!("apt-get install {list}"), &mut command)
    };
    // Stale lists name versions that the mirror no longer has: refresh once, then it counts.
    if available(names) && attempt(names).is_ok() {
        return Ok(());
    }
    process::quiet("apt-get update", apt().arg("update"))?;
    attempt(names)
}

/// Whether apt knows a candidate for every name.
pub fn available(names: &[&str]) -> bool {
    names.iter().all(|name| {
        process::capture(Command::new("apt-cache").args(["policy", name]))
            .is_ok_and(|text| has_candidate(&text))
    })
}

/// Downloads fresh package lists when this machine has none.
pub fn refresh_if_empty() -> Result<()> {
    if process::is_root() && process::which("apt-get").is_some() && !lists_are_there() {
        process::quiet("apt-get update", apt().arg("update"))?;
    }
    Ok(())
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("-q").env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    command
}

fn missing(packages: &[Package]) -> Vec<&'static str> {
    packages.iter().filter(|package| !present(package.probe)).map(|package| package.name).collect()
}

fn present(probe: Probe) -> bool {
    match probe {
        Probe::File(path) => Path::new(path).exists(),
        Probe::Program(name) => {
            process::which(name).is_some()
                || ["/usr/sbin", "/sbin"].iter().any(|folder| Path::new(folder).join(name).exists())
        }
    }
}

fn lists_are_there() -> bool {
    std::fs::read_dir("/var/lib/apt/lists").is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
    })
}

fn has_candidate(policy: &str) -> bool {
    policy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Candidate:"))
        .any(|version| version.trim() != "(none)" && !version.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidate_is_a_version() {
        for (text, expected) in [
            ("redis:\n  Installed: (none)\n  Candidate: 5:7.0.15-1\n", true),
            ("redis:\n  Installed: (none)\n  Candidate: (none)\n", false),
            ("", false),
        ] {
            assert_eq!(has_candidate(text), expected, "{text:?}");
        }
    }

    #[test]
    fn presence_is_seen_by_what_a_package_brings() {
        for (probe, expected) in [
            (Probe::Program("sh"), true),
            (Probe::Program("no-such-program-here"), false),
            (Probe::File("/proc/self/status"), true),
            (Probe::File("/no/such/file"), false),
        ] {
            assert_eq!(present(probe), expected, "{probe:?}");
        }
    }
}
