//! What the kernel says of an interface: its name, its MTU, and in which mode an XDP program is on it (rtnetlink(7)).
#![allow(unsafe_code)]

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{FromRawFd, OwnedFd},
};

use super::attach::AttachMode;

const GET_LINK: u16 = 18;
const NEW_LINK: u16 = 16;
const REQUEST: u16 = 1;
const NAME: u16 = 3;
const MTU: u16 = 4;
const LINK_INFO: u16 = 18;
const INFO_KIND: u16 = 1;
const XDP: u16 = 43;
const XDP_ATTACHED: u16 = 2;
/// Bits of an attribute's type that say how it is written, not what it is.
const FLAGS: u16 = 0xc000;
/// Before the attributes: the header of the message and that of the link.
const HEADERS: usize = 32;
/// Most that the kernel answers about one interface.
const MAX_ANSWER: usize = 64 << 10;

/// An interface as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// In which mode an XDP program is on it, whosever it is; `None` without one.
    pub mode: Option<AttachMode>,
    /// One end of a virtual cable.
    pub is_veth: bool,
}

/// Asks about an interface by its index.
pub fn interface(index: u32) -> io::Result<Interface> {
    // SAFETY: no pointers are handed over.
    let socket =
        unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor.
    let mut socket = File::from(unsafe { OwnedFd::from_raw_fd(socket) });
    let mut request = Vec::with_capacity(HEADERS);
    request.extend((HEADERS as u32).to_ne_bytes());
    request.extend(GET_LINK.to_ne_bytes());
    request.extend(REQUEST.to_ne_bytes());
    request.extend([0; 12]);
    request.extend(index.to_ne_bytes());
    request.extend([0; 8]);
    socket.write_all(&request)?;
    let mut answer = vec![0; MAX_ANSWER];
    let length = socket.read(&mut answer)?;
    answer.truncate(length);
    parse(&answer)
}

fn parse(answer: &[u8]) -> io::Result<Interface> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let kind =
        answer.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes).ok_or_else(invalid)?;
    if kind != NEW_LINK {
        let code = answer.get(16..20).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes);
        return Err(io::Error::from_raw_os_error(-code.ok_or_else(invalid)?));
    }
    let mut interface = Interface::default();
    for (name, value) in attributes(answer.get(HEADERS..).ok_or_else(invalid)?) {
        match name {
            NAME => {
                let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
                interface.name = String::from_utf8_lossy(&value[..end]).into_owned();
            }
            MTU => interface.mtu = value.try_into().map_or(0, u32::from_ne_bytes),
            LINK_INFO => {
                let kind = attributes(value).find(|(name, _)| *name == INFO_KIND);
                interface.is_veth = kind.is_some_and(|(_, kind)| kind.starts_with(b"veth"));
            }
            XDP => {
                let attached = attributes(value).find(|(name, _)| *name == XDP_ATTACHED);
                interface.mode = match attached.and_then(|(_, value)| value.first()) {
                    Some(1 | 3) => Some(AttachMode::Native),
                    Some(2) => Some(AttachMode::Generic),
                    _ => None,
                };
            }
            _ => {}
        }
    }
    Ok(interface)
}

/// Type and value of each attribute; ends at the first that does not fit.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let name = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & !FLAGS;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((name, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_what_it_is() {
        let index = super::super::sys::interface_index("lo").unwrap();
        let lo = interface(index).unwrap();
        assert_eq!(lo.name, "lo");
        assert!(lo.mtu >= 1_280, "{lo:?}");
        assert_eq!(interface(0x7fff_fff0).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn broken_answers_are_errors_or_nothing() {
        for length in 0..40 {
            let answer = vec![0xff; length];
            // Whatever comes out: no panic, and no name out of nothing.
            assert!(parse(&answer).map_or(true, |interface| interface.name.is_empty()), "{length}");
        }
        let mut answer = vec![0u8; HEADERS];
        answer[4] = NEW_LINK as u8;
        answer.extend([
            9, 0, 3, 0, b'e', b't', b'h', b'0', 0, 0, 0, 0, 12, 0, 43, 0x80, 5, 0, 2, 0, 2, 0, 0, 0,
        ]);
        let parsed = parse(&answer).unwrap();
        assert_eq!((parsed.name.as_str(), parsed.mode), ("eth0", Some(AttachMode::Generic)));
        assert!(!parsed.is_veth);
        answer.extend([16, 0, 18, 0, 9, 0, 1, 0, b'v', b'e', b't', b'h', 0, 0, 0, 0]);
        assert!(parse(&answer).unwrap().is_veth);
    }
}
