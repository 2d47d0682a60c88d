//! Listening sockets from one process to the next, over a Unix socket (SCM_RIGHTS, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

/// Most sockets in one message; the kernel's own bound (SCM_MAX_FD) is 253.
pub const MAX_PASSED: usize = 128;

/// Sends descriptors in one message with the byte `mark`.
///
/// # Errors
/// When there are more than [`MAX_PASSED`], or the system refuses.
pub fn send(stream: &UnixStream, mark: u8, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    if sockets.len() > MAX_PASSED {
        return Err(io::Error::other(format!("{} sockets are more than {MAX_PASSED}", sockets.len())));
    }
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_PASSED))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::Error::other("the sockets don't fit into a message"));
    }
    rustix::net::sendmsg(stream, &[IoSlice::new(&[mark])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message: its byte and the descriptors in it, which no program started from here inherits.
///
/// # Errors
/// When the other side has closed, or the system refuses.
pub fn receive(stream: &UnixStream) -> io::Result<(u8, Vec<OwnedFd>)> {
    let mut mark = [0];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_PASSED))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let read = rustix::net::recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut mark)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if read.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            sockets.extend(passed);
        }
    }
    Ok((mark[0], sockets))
}

/// Those of `sockets` that listen; the others are closed.
pub fn listening(sockets: Vec<OwnedFd>) -> Vec<TcpListener> {
    let listens = |fd: &OwnedFd| {
        let socket = socket2::SockRef::from(fd);
        socket.is_listener().unwrap_or(false) && socket.r#type().ok() == Some(socket2::Type::STREAM)
    };
    sockets.into_iter().filter(listens).map(TcpListener::from).collect()
}

/// The process and the user at the other end.
///
/// # Errors
/// When the system doesn't say.
pub fn peer(stream: &UnixStream) -> io::Result<(u32, u32)> {
    let peer = rustix::net::sockopt::socket_peercred(stream.as_fd())?;
    Ok((peer.pid.as_raw_nonzero().get().unsigned_abs(), peer.uid.as_raw()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_socket_listens_on_in_other_hands() {
        let (here, there) = UnixStream::pair().expect("a pair");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("address");
        let connected = TcpStream::connect(address).expect("connected");
        send(&here, b'S', &[listener.as_fd(), connected.as_fd()]).expect("sent");
        drop(listener);
        let (mark, sockets) = receive(&there).expect("received");
        assert_eq!((mark, sockets.len()), (b'S', 2));
        let listeners = listening(sockets);
        assert_eq!(listeners.len(), 1, "what doesn't listen is left out");
        // Whoever waited in the queue is still there.
        let (mut accepted, _) = listeners[0].accept().expect("accepted");
        accepted.write_all(b"x").expect("written");
        let mut byte = [0];
        (&connected).read_exact(&mut byte).expect("read");
        assert_eq!(peer(&there).expect("known").0, std::process::id());
        drop(here);
        assert_eq!(receive(&there).expect_err("closed").kind(), io::ErrorKind::UnexpectedEof);
    }
}
