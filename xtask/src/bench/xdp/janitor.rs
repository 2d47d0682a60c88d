//! Takes away what a bench leaves behind when it is killed: a shell that waits for the end of its input.
//!
//! Namespaces and pins outlive the process that made them, and a process that is killed outright cleans nothing. Everything
//! this bench makes carries the id of a process of its own in its name, so that the shell finds it, and nothing of others.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};

/// The first argument is the bench's process; each line names another one of its own.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
ids=$1
while read -r id; do ids="$ids $id"; done
for id in $ids; do
    # Ours as long as it is called so: the number may have gone to another process.
    case "$(cat /proc/"$id"/comm 2>/dev/null)" in xdp_bench | xdp_flood) kill -KILL "$id" ;; esac
done
for space in /run/netns/gw"$1"-*; do
    [ -e "$space" ] || continue
    for id in $(ip netns pids "${space##*/}"); do
        kill -KILL "$id"
        ids="$ids $id"
    done
    ip netns del "${space##*/}"
done
# Who was killed may be at the end of making a pin.
[ "$ids" = "$1" ] || sleep 0.2
[ ! -e /sys/fs/bpf/xdp-filter-bench-"$1" ] || for map in filter_ipv4 filter_ipv6 filter_ports filter_ethernet xdp_stats_map; do
    rm -f /sys/fs/bpf/"$map"
done
for id in $ids; do
    rm -rf /sys/fs/bpf/gateway-bench-*-"$id" /sys/fs/bpf/gateway-flood-"$id" /sys/fs/bpf/xdp-filter-bench-"$id" \
        /sys/fs/bpf/gw-test"$id"-* "${TMPDIR:-/tmp}"/gwt"$id"-*
done
"#;

/// The shell; it has nothing left to do when everything was cleaned up before this is dropped.
pub struct Janitor {
    shell: Child,
}

impl Janitor {
    /// Starts the shell, out of reach of the terminal's interrupt.
    ///
    /// # Errors
    /// Without a shell.
    pub fn start() -> Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "bench-janitor", &std::process::id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start a shell to clean up with")?;
        Ok(Self { shell })
    }

    /// Names a process to end, whose pins carry its id.
    ///
    /// # Errors
    /// When the shell is gone.
    pub fn watch(&mut self, process: u32) -> Result<()> {
        let input = self.shell.stdin.as_mut().context("the shell's input")?;
        writeln!(input, "{process}").context("the shell that cleans up is gone")
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        if let Err(error) = self.shell.wait() {
            eprintln!("cleaning up: {error}");
        }
    }
}
