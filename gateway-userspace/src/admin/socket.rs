//! The control socket's file.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers on it.
    #[error("another gateway answers on {0}: stop it first, or give this one its own [control] socket")]
    Taken(PathBuf),
    /// The file can't be made.
    #[error("the control socket {path} can't be made: {source}. Check the folder, or set [control] socket")]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Binds the control socket with mode 0600, in place of one that a dead daemon left.
///
/// With `replaces`, also in place of one that a daemon answers on: one that hands over.
///
/// # Errors
/// When another daemon answers on it, or the file can't be made.
pub fn bind_socket(path: &Path, replaces: bool) -> Result<UnixListener, SocketError> {
    let io = |source| SocketError::Io { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(io)?;
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) if replaces => {}
        Ok(_) => return Err(SocketError::Taken(path.to_owned())),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(io)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(io(e)),
    }
    // Bound under another name, then renamed: at no moment is there a socket that others may use.
    let fresh = path.with_added_extension(format!("{}", std::process::id()));
    let _ = std::fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh).map_err(io)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600)).map_err(io)?;
    std::fs::rename(&fresh, path).map_err(io)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn replaces_a_dead_socket_and_not_a_live_one() {
        let folder = std::env::temp_dir().join(format!("gateway-socket-{}", std::process::id()));
        let path = folder.join("control.sock");
        let first = bind_socket(&path, false).expect("first");
        assert_eq!(std::fs::metadata(&path).expect("file").permissions().mode() & 0o777, 0o600);
        assert!(matches!(bind_socket(&path, false), Err(SocketError::Taken(_))));
        let second = bind_socket(&path, true).expect("in its place");
        drop(first);
        drop(second);
        drop(bind_socket(&path, false).expect("again"));
        std::fs::remove_dir_all(&folder).expect("folder");
    }
}
