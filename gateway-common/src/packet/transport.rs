//! TCP (RFC 9293), UDP (RFC 768), ICMP (RFC 792, RFC 4443).

use super::Source;
use crate::reason::Reason;

/// TCP flag.
pub const FIN: u8 = 1;
/// TCP flag.
pub const SYN: u8 = 2;
/// TCP flag.
pub const RST: u8 = 4;
/// TCP flag.
pub const ACK: u8 = 16;

/// What is needed of a transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Flags.
        flags: u8,
    },
    /// UDP.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// ICMP of either family.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// Another protocol: nothing is read.
    Other,
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;

impl Transport {
    /// True for a TCP segment that asks for a new connection.
    #[inline(always)]
    pub const fn is_new_connection(&self) -> bool {
        matches!(*self, Self::Tcp { flags, .. } if flags & (SYN | ACK | RST | FIN) == SYN)
    }

    /// Source port, destination port (ICMP: type and code) and TCP flags, zero where there are none.
    #[inline(always)]
    pub const fn ports(&self) -> (u16, u16, u8) {
        match *self {
            Self::Tcp { source, destination, flags } => (source, destination, flags),
            Self::Udp { source, destination } => (source, destination, 0),
            Self::Icmp { kind, code } => (0, (kind as u16) << 8 | code as u16, 0),
            Self::Other => (0, 0, 0),
        }
    }
}

/// Parses the header of `protocol` at `offset`.
///
/// # Errors
/// [`Reason::Truncated`] or [`Reason::Transport`].
#[inline(always)]
pub fn transport<S: Source + ?Sized>(packet: &S, protocol: u8, offset: u32) -> Result<Transport, Reason> {
    match protocol {
        TCP => {
            let Some(tcp) = packet.window::<20>(offset) else { return Err(Reason::Truncated) };
            if tcp.u8(12) >> 4 < 5 {
                return Err(Reason::Transport);
            }
            Ok(Transport::Tcp { source: tcp.u16(0), destination: tcp.u16(2), flags: tcp.u8(13) })
        }
        UDP => {
            let Some(udp) = packet.window::<8>(offset) else { return Err(Reason::Truncated) };
            if udp.u16(4) < 8 {
                return Err(Reason::Transport);
            }
            Ok(Transport::Udp { source: udp.u16(0), destination: udp.u16(2) })
        }
        ICMP | ICMP6 => {
            let Some(icmp) = packet.window::<8>(offset) else { return Err(Reason::Truncated) };
            Ok(Transport::Icmp { kind: icmp.u8(0), code: icmp.u8(1) })
        }
        _ => Ok(Transport::Other),
    }
}
