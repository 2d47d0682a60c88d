//! A server that runs beside this program: the daemon, or a peer that it is measured against.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How often it is looked whether a server listens, or has ended.
const LOOK: Duration = Duration::from_millis(20);
/// How long a server may take to end before it is killed.
const END: Duration = Duration::from_secs(5);
/// Lines of a log that a sentence about its server carries.
const TAIL_LINES: usize = 20;

/// A running server and its log. It ends with the value.
#[derive(Debug)]
pub struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts the server with its output in `log`, and waits until each of `addresses` takes connections.
    ///
    /// # Errors
    /// It can't be started, ends, or does not listen `within` this time; the end of its log is in the message.
    pub fn start(
        name: &str,
        mut command: Command,
        log: &Path,
        addresses: &[SocketAddr],
        within: Duration,
    ) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let mut server = Self { child, log: log.to_owned() };
        let until = Instant::now() + within;
        for address in addresses {
            while TcpStream::connect(address).is_err() {
                let why = match server.child.try_wait()? {
                    Some(status) => format!("ended ({status}) instead of listening on {address}"),
                    None if Instant::now() > until => {
                        format!("does not listen on {address} after {} s", within.as_secs())
                    }
                    None => {
                        std::thread::sleep(LOOK);
                        continue;
                    }
                };
                bail!("{name} {why}; its log says:\n{}", server.log_tail());
            }
        }
        Ok(server)
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The end of the log.
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for Server {
    /// Asks it to end, so that its children do too, and kills it if it does not.
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let until = Instant::now() + END;
        while Instant::now() < until {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(LOOK);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command that runs the daemon with a configuration file.
pub fn gateway(program: &Path, config: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["run", "--config"]).arg(config);
    command
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn start(script: &str, address: SocketAddr, within: Duration) -> Result<Server> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let folder = gateway_tests::Scratch::new()?;
        Server::start("the shell", command, &folder.path().join("log"), &[address], within)
    }

    #[test]
    fn a_server_is_awaited_and_ends_with_its_value() {
        // The port is held here; the child only has to live.
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap();
        let server = start("exec sleep 1000", address, Duration::from_secs(20)).unwrap();
        let process = PathBuf::from(format!("/proc/{}", server.id()));
        assert!(process.exists());
        drop(server);
        assert!(!process.exists());
    }

    #[test]
    fn what_does_not_listen_is_told_with_its_log() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap();
        drop(port);
        for (script, within, said) in [
            ("echo no such key >&2; exit 3", 20_000, "ended (exit status: 3)"),
            ("echo no such key; exec sleep 1000", 300, "does not listen"),
        ] {
            let error = start(script, address, Duration::from_millis(within)).unwrap_err().to_string();
            for part in ["the shell ", said, "127.0.0.1", "no such key"] {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
    }
}
