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

/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of ICMPv6.
pub const ICMP6: u8 = 58;

/// What is needed of a transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Source port; zero without one.
    pub source: u16,
    /// Destination port; for ICMP the type in the upper byte and the code in the lower; zero without either.
    pub destination: u16,
    /// TCP flags.
    pub flags: u8,
    /// [`Reason::Truncated`] or [`Reason::Transport`].
    pub fault: Option<Reason>,
}

const NONE: Transport = Transport { source: 0, destination: 0, flags: 0, fault: None };
const TRUNCATED: Transport = Transport { fault: Some(Reason::Truncated), ..NONE };

/// True for the flags of a TCP segment that asks for a new connection.
#[inline(always)]
pub const fn is_new_connection(flags: u8) -> bool {
    flags & (SYN | ACK | RST | FIN) == SYN
}

/// Parses the header of `protocol` at `offset`.
#[inline(always)]
pub fn transport<S: Source + ?Sized>(packet: &S, protocol: u8, offset: u32) -> Transport {
    match protocol {
        TCP => tcp(packet, offset),
        UDP => {
            let Some(udp) = packet.window::<8>(offset) else { return TRUNCATED };
            let fault = if udp.u16(4) < 8 { Some(Reason::Transport) } else { None };
            Transport { source: udp.u16(0), destination: udp.u16(2), fault, ..NONE }
        }
        ICMP | ICMP6 => {
            let Some(icmp) = packet.window::<8>(offset) else { return TRUNCATED };
            Transport { destination: icmp.u16(0), ..NONE }
        }
        _ => NONE,
    }
}

/// Parses the TCP header at `offset`.
#[inline(always)]
pub fn tcp<S: Source + ?Sized>(packet: &S, offset: u32) -> Transport {
    let Some(tcp) = packet.window::<20>(offset) else { return TRUNCATED };
    let fault = if tcp.u8(12) >> 4 < 5 { Some(Reason::Transport) } else { None };
    Transport { source: tcp.u16(0), destination: tcp.u16(2), flags: tcp.u8(13), fault }
}
