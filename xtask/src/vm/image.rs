//! The initial RAM disk: busybox, the daemon, the test programs, what they call, and the libraries of all of these.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::kernel::Kernel;
use super::{END, Program};
use crate::process;

/// What the tests call, beside what is busybox's.
const PROGRAMS: [&str; 10] =
    ["ip", "nsenter", "curl", "ping", "mount", "redis-server", "redis-cli", "tcpdump", "bpftool", "ethtool"];
/// Kernel modules that the tests need, each after those it needs: cables, and VLAN interfaces.
const MODULES: [&str; 6] = [
    "drivers/net/veth.ko",
    "net/llc/llc.ko",
    "net/802/stp.ko",
    "net/802/garp.ko",
    "net/802/mrp.ko",
    "net/8021q/8021q.ko",
];

/// Builds the image in `folder` and returns its path.
pub fn build(folder: &Path, kernel: &Kernel, daemon: &Path, programs: &[Program]) -> Result<PathBuf> {
    let root = folder.join("root");
    let _ = std::fs::remove_dir_all(&root);
    for name in ["bin", "dev", "proc", "sys", "tmp", "run", "etc", "tests", "modules"] {
        std::fs::create_dir_all(root.join(name))
            .with_context(|| format!("cannot make {}", root.join(name).display()))?;
    }
    copy(&busybox()?, &root.join("bin/busybox"))?;
    let mut binaries = vec![daemon.to_owned()];
    install(daemon, &root.join("bin/gateway"))?;
    for program in programs {
        install(&program.file, &root.join("tests").join(&program.name))?;
        binaries.push(program.file.clone());
    }
    for name in PROGRAMS {
        let file = find(name)?;
        copy(&file, &root.join("bin").join(name))?;
        binaries.push(file);
    }
    for library in libraries(&binaries)? {
        copy(&library, &root.join(library.strip_prefix("/").unwrap_or(&library)))?;
    }
    for module in MODULES {
        module_into(&kernel.modules.join("kernel").join(module), &root.join("modules"))?;
    }
    // tcpdump becomes the second of them before it reads a file.
    let users = "root:x:0:0:root:/:/bin/sh\ntcpdump:x:101:101::/tmp:/bin/false\n";
    std::fs::write(root.join("etc/passwd"), users)?;
    std::fs::write(root.join("etc/group"), "root:x:0:\ntcpdump:x:101:\n")?;
    let init = root.join("init");
    std::fs::write(&init, script(programs))?;
    process::run(Command::new("chmod").arg("0755").arg(&init))?;
    pack(&root, folder)
}

/// What runs as process 1.
fn script(programs: &[Program]) -> String {
    let mut text = String::from(
        "#!/bin/busybox sh\n\
         export PATH=/bin:/bin/applets\n\
         /bin/busybox mkdir -p /bin/applets\n\
         /bin/busybox --install -s /bin/applets\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sys /sys\n\
         mount -t devtmpfs dev /dev\n\
         mount -t tmpfs run /run\n\
         mount -t tmpfs tmp /tmp\n\
         mount -t bpf bpf /sys/fs/bpf\n\
         mkdir -p /dev/shm\n\
         ip link set lo up\n\
         cd /modules\n\
         for module in MODULES; do [ ! -e $module ] || insmod $module; done\n\
         cd /\n\
         export GATEWAY_BIN=/bin/gateway RUST_BACKTRACE=0\n",
    );
    let modules: Vec<&str> = MODULES.iter().map(|module| file_name(module)).collect();
    text = text.replace("MODULES", &modules.join(" "));
    for program in programs {
        let _ = writeln!(
            text,
            "echo VM-TEST-BEGIN {name}\n/tests/{name} {arguments} --test-threads=1 --nocapture\necho VM-TEST-STATUS {name} $?",
            name = program.name,
            arguments = program.arguments
        );
    }
    let _ = writeln!(text, "echo {END}\npoweroff -f");
    text
}

/// What stands after the last slash.
fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn pack(root: &Path, folder: &Path) -> Result<PathBuf> {
    let image = folder.join("initrd.gz");
    let line = format!(
        "set -e; cd '{}'; find . | cpio --quiet -o -H newc | gzip -1 > '{}'",
        root.display(),
        image.display()
    );
    process::run(Command::new("sh").args(["-c", &line]))?;
    Ok(image)
}

fn busybox() -> Result<PathBuf> {
    let file = find("busybox")?;
    // ldd fails on a static program, which is what an initial RAM disk wants.
    if process::capture(Command::new("ldd").arg(&file)).is_ok_and(|text| text.contains("=>")) {
        bail!("{} is not static: install busybox-static", file.display());
    }
    Ok(file)
}

fn find(name: &str) -> Result<PathBuf> {
    process::which(name)
        .or_else(|| {
            ["/usr/sbin", "/sbin"]
                .iter()
                .map(|folder| Path::new(folder).join(name))
                .find(|file| file.exists())
        })
        .with_context(|| format!("{name} is not installed: `cargo xtask setup` installs it"))
}

/// The shared libraries of all these programs, and their loader.
fn libraries(programs: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let mut all = BTreeSet::new();
    for program in programs {
        let text = process::capture(Command::new("ldd").arg(program))?;
        all.extend(library_paths(&text));
    }
    // glibc opens these by name at run time: names of users and hosts.
    all.extend(
        ["/lib/x86_64-linux-gnu/libnss_files.so.2"]
            .map(PathBuf::from)
            .into_iter()
            .filter(|file| file.exists()),
    );
    Ok(all)
}

/// The absolute paths in ldd's output.
fn library_paths(text: &str) -> Vec<PathBuf> {
    text.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect()
}

/// Copies a program without its debug information: it has to fit into memory.
fn install(from: &Path, to: &Path) -> Result<()> {
    if process::which("strip").is_some() {
        return process::run(Command::new("strip").arg("-o").arg(to).arg(from));
    }
    copy(from, to)
}

/// Copies a module, decompressed where the distribution compresses them.
fn module_into(file: &Path, folder: &Path) -> Result<()> {
    let name = file.file_name().context("a module without a name")?;
    if file.exists() {
        return copy(file, &folder.join(name));
    }
    let packed = PathBuf::from(format!("{}.xz", file.display()));
    if !packed.exists() {
        // Built into the kernel, or the test that needs it says so.
        return Ok(());
    }
    copy(&packed, &folder.join(name).with_extension("ko.xz"))?;
    process::run(Command::new("xz").arg("-d").arg(folder.join(name).with_extension("ko.xz")))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)?;
    }
    // A library may be there already under the same path.
    std::fs::copy(from, to)
        .map(|_| ())
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_ldd() {
        let text = "\tlinux-vdso.so.1 (0x0)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x1)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x2)\n\tlibx.so => not found\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(library_paths(text), expected);
    }

    #[test]
    fn the_script_runs_every_program_and_ends() {
        let program = Program { name: "kernel".to_owned(), file: PathBuf::new(), arguments: "kernel::" };
        let text = script(&[program]);
        for line in [
            "/tests/kernel kernel:: --test-threads=1 --nocapture",
            "for module in veth.ko llc.ko stp.ko garp.ko mrp.ko 8021q.ko; do",
            "echo VM-TEST-STATUS kernel $?",
            "poweroff -f",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }
}
