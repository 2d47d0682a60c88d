//! A restart without a refused connection: the new process takes the listening sockets from the old one.
//!
//! Over a Unix socket beside the control socket, mode 0600:
//!
//! | new | old |
//! |---|---|
//! | connects | sends its sockets; keeps accepting |
//! | has read its configuration: `R` | lets go of the decisions' database and the kernel's tables: `R` |
//! | serves: `D` | accepts no more, drains, ends |
//!
//! Both accept from the same queues meanwhile. When the new process breaks off, the old one serves on.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::mpsc;

use super::parts::Running;
use super::{notify, privileges};
use crate::listen::pass;

/// How long one side waits for the other's next word; reading rules takes some of it.
const PATIENCE: Duration = Duration::from_secs(60);
const SOCKETS: u8 = b'S';
const RELEASE: u8 = b'R';
const DONE: u8 = b'D';
/// Set in the environment of the process between the old one and its successor.
const BETWEEN: &str = "GATEWAY_BETWEEN";

/// Where a running gateway hands over.
pub fn path(control: &Path) -> PathBuf {
    control.with_extension("handover")
}

/// The new process's side.
pub struct TakeOver {
    stream: UnixStream,
}

impl TakeOver {
    /// Asks the gateway that runs for its sockets; `None` when none runs.
    ///
    /// # Errors
    /// When it doesn't give them.
    pub fn begin(control: &Path) -> io::Result<Option<(Self, Vec<TcpListener>)>> {
        let stream = match UnixStream::connect(path(control)) {
            Ok(stream) => stream,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        let (mark, sockets) = pass::receive(&stream)?;
        if mark != SOCKETS {
            return Err(io::Error::other("it speaks another protocol"));
        }
        Ok(Some((Self { stream }, pass::listening(sockets))))
    }

    /// Has the old process let go of what only one may hold. From here on it can only serve what it has.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub fn release(&self) -> io::Result<()> {
        pass::send(&self.stream, RELEASE, &[])?;
        match pass::receive(&self.stream)? {
            (RELEASE, _) => Ok(()),
            _ => Err(io::Error::other("it speaks another protocol")),
        }
    }

    /// Tells the old process that this one serves.
    pub fn done(self) {
        // One that has gone meanwhile needs no telling.
        let _ = pass::send(&self.stream, DONE, &[]);
    }
}

/// Waits for a new process, and tells `done` once one has taken over.
pub async fn offer(
    listener: UnixListener,
    running: Arc<Running>,
    control: Option<TcpListener>,
    done: mpsc::Sender<()>,
) {
    let control = control.map(Arc::new);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(stream) = stream.into_std() else { continue };
        // One at a time: two new processes can't both take over.
        match hand_over(stream, &running, control.as_ref()).await {
            Ok(pid) => {
                tracing::info!(pid, "another process has taken over");
                notify::main_process(pid);
                let _ = done.send(()).await;
                return;
            }
            Err(e) if running.has_released() => tracing::error!(
                "a hand-over broke off after this process let go of its decisions ({e}): it serves on, but bans and \
                 the kernel side need a restart"
            ),
            Err(e) => tracing::warn!("a hand-over broke off, this process serves on: {e}"),
        }
    }
}

async fn hand_over(
    stream: UnixStream,
    running: &Arc<Running>,
    control: Option<&Arc<TcpListener>>,
) -> io::Result<u32> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (pid, user) = pass::peer(&stream)?;
    if user != 0 && user != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other(format!("user {user} may not take over")));
    }
    tracing::info!(pid, "handing the listening sockets over");
    let (first, sockets) = (running.listening(), control.cloned());
    let (stream, asked) = wait(stream, move |stream| {
        let all: Vec<_> = first.iter().chain(&sockets).map(|s| s.as_fd()).collect();
        pass::send(stream, SOCKETS, &all)?;
        pass::receive(stream)
    })
    .await?;
    if asked != RELEASE {
        return Err(io::Error::other("it speaks another protocol"));
    }
    running.release().await;
    let (_, said) = wait(stream, |stream| {
        pass::send(stream, RELEASE, &[])?;
        pass::receive(stream)
    })
    .await?;
    if said == DONE { Ok(pid) } else { Err(io::Error::other("it speaks another protocol")) }
}

/// Blocking work on the stream, off the runtime.
async fn wait(
    stream: UnixStream,
    work: impl FnOnce(&UnixStream) -> io::Result<(u8, Vec<std::os::fd::OwnedFd>)> + Send + 'static,
) -> io::Result<(UnixStream, u8)> {
    let done = tokio::task::spawn_blocking(move || work(&stream).map(|(mark, _)| (stream, mark))).await;
    done.unwrap_or_else(|e| Err(io::Error::other(e)))
}

/// Starts the program anew with the same arguments, to take over from this process.
pub fn start_successor() {
    let Some(mut command) = again() else {
        tracing::error!("the program's own path is not known: start `gateway run --take-over` by hand");
        return;
    };
    command.env(BETWEEN, "1");
    for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID"] {
        command.env_remove(name);
    }
    let program = command.get_program().to_os_string();
    let program = program.display();
    match privileges::while_inheritable(|| command.spawn()).and_then(|mut child| child.wait()) {
        Ok(status) if status.success() => tracing::info!(%program, "a new process was started to take over"),
        Ok(status) => tracing::error!(%status, "{program} didn't start, this process serves on"),
        Err(e) => tracing::error!("{program} can't be started: {e}"),
    }
}

/// In the process between the old one and its successor: starts the latter, and is done then (`true`). So the successor
/// is no child of the old process but of the service manager, which waits for the end of its own children only: any
/// other main process it kills right after it has told it to stop.
///
/// # Errors
/// When the successor can't be started.
pub fn detach() -> io::Result<bool> {
    if std::env::var_os(BETWEEN).is_none() {
        return Ok(false);
    }
    let mut command = again().ok_or_else(|| io::Error::other("the program's own path is not known"))?;
    command.env_remove(BETWEEN).spawn()?;
    Ok(true)
}

/// The program with the arguments of this process, taking over.
fn again() -> Option<Command> {
    let mut arguments = std::env::args_os();
    let first = arguments.next().map(PathBuf::from);
    // By the path it was started with: after an upgrade the new file is there.
    let program = first.filter(|p| p.components().count() > 1).or_else(|| std::env::current_exe().ok())?;
    let mut command = Command::new(program);
    command.args(arguments.filter(|a| a != "--take-over")).arg("--take-over");
    Some(command)
}
