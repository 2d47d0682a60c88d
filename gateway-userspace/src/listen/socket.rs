//! Listening sockets: handed over by systemd, or bound here.
//!
//! Each worker accepts from the same socket (a duplicate of its descriptor) rather than from one of
//! its own by SO_REUSEPORT: a queue of its own would reset the connections waiting in it when the
//! socket closes in a restart, and would hide that another program has the port.
#![allow(unsafe_code)]

use std::net::{SocketAddr, TcpListener};
use std::os::fd::FromRawFd;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::edge::Listener;

/// Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn.
pub const BACKLOG: i32 = 4096;
/// Most sockets taken from systemd.
pub const MAX_HANDED_OVER: i32 = 256;
const FIRST_HANDED_OVER: i32 = 3;

/// A configured listener with its socket.
#[derive(Debug)]
pub struct Bound {
    /// What is configured.
    pub listener: Listener,
    /// The address it has, the port chosen by the kernel where 0 was asked for.
    pub local: SocketAddr,
    /// Non-blocking.
    pub socket: Arc<TcpListener>,
}

/// A listener without a socket.
#[derive(Debug, thiserror::Error)]
#[error("listener `{name}` can't listen on {address}: {source}. {remedy}")]
pub struct BindError {
    /// The listener.
    pub name: Arc<str>,
    /// Where.
    pub address: SocketAddr,
    /// What the kernel said.
    pub source: std::io::Error,
    remedy: &'static str,
}

/// Takes the sockets that systemd hands over (`LISTEN_FDS`, sd_listen_fds(3)). Call it once, at start,
/// before threads: the variables are this process's own business and are left as they are.
pub fn adopt() -> Vec<TcpListener> {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<i32>().ok());
    let ours = number("LISTEN_PID").is_some_and(|pid| u32::try_from(pid) == Ok(std::process::id()));
    let count = if ours { number("LISTEN_FDS").unwrap_or(0).clamp(0, MAX_HANDED_OVER) } else { 0 };
    (FIRST_HANDED_OVER..FIRST_HANDED_OVER + count)
        .filter_map(|fd| {
            // SAFETY: sd_listen_fds(3): with LISTEN_PID naming this process, these descriptors are open and
            // nobody else's; this function is called once.
            let socket = unsafe { Socket::from_raw_fd(fd) };
            let listening =
                socket.is_listener().unwrap_or(false) && socket.r#type().ok() == Some(Type::STREAM);
            if !listening {
                tracing::warn!(
                    fd,
                    "a socket handed over by the service manager doesn't listen; it is closed"
                );
                return None;
            }
            let _ = socket.set_cloexec(true);
            Some(TcpListener::from(socket))
        })
        .collect()
}

/// Gives each listener its socket: a handed-over one with its address, or a new one.
///
/// # Errors
/// The first listener that can't listen, with what to do.
pub fn bind(listeners: &[Listener], handed_over: Vec<TcpListener>) -> Result<Vec<Bound>, BindError> {
    let mut handed_over = handed_over;
    let mut bound = Vec::with_capacity(listeners.len());
    for listener in listeners {
        let at = handed_over.iter().position(|s| s.local_addr().is_ok_and(|a| a == listener.address));
        let socket = match at {
            Some(at) => Ok(handed_over.swap_remove(at)),
            None => open(listener.address),
        };
        let ready = socket.and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok((socket.local_addr()?, socket))
        });
        let (local, socket) = ready.map_err(|source| BindError {
            name: listener.name.clone(),
            address: listener.address,
            remedy: remedy(&source),
            source,
        })?;
        bound.push(Bound { listener: listener.clone(), local, socket: Arc::new(socket) });
    }
    for socket in handed_over {
        tracing::warn!(
            address = ?socket.local_addr(),
            "a socket handed over by the service manager matches no listener; it is closed"
        );
    }
    Ok(bound)
}

fn open(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // Only for addresses in TIME_WAIT: two listeners on one port are still refused.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "Another program listens there: stop it (`ss -ltnp` names it) or change `address`."
        }
        std::io::ErrorKind::PermissionDenied => {
            "Ports below 1024 need CAP_NET_BIND_SERVICE or systemd socket activation."
        }
        std::io::ErrorKind::AddrNotAvailable => {
            "No interface has that address: `ip address` lists them; 0.0.0.0 is all."
        }
        _ => "Check `address` in [[listeners]].",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::edge::ProxyProtocol;

    fn listener(address: SocketAddr) -> Listener {
        Listener {
            name: "t".into(),
            address,
            tls: false,
            proxy_protocol: ProxyProtocol::Off,
            max_connections: 1,
            redirect_to_https: None,
            clients: crate::config::edge::ClientCertificates::default(),
            http3: false,
        }
    }

    #[test]
    fn a_port_in_use_is_named() {
        let first = bind(&[listener(([127, 0, 0, 1], 0).into())], Vec::new()).expect("a free port");
        let taken = first[0].local;
        let error = bind(&[listener(taken)], Vec::new()).expect_err("in use").to_string();
        assert!(error.starts_with(&format!("listener `t` can't listen on {taken}: ")), "{error}");
        assert!(error.contains("stop it"), "{error}");
    }

    #[test]
    fn a_handed_over_socket_is_used() {
        let handed = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = handed.local_addr().expect("address");
        let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let bound = bind(&[listener(address)], vec![other, handed]).expect("taken over");
        assert_eq!(bound[0].local, address);
    }
}
