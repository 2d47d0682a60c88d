//! Port policy as bitmaps of what is closed.

use std::{ops::RangeInclusive, sync::atomic::Ordering::Relaxed};

use gateway_common::ports::{COOKIES, ICMP, ICMP6, PROTOCOLS, TCP, UDP, WORDS};

use super::load::Loaded;

/// Ports, ICMP types and protocols.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet {
    /// TCP ports, for connections to this host.
    pub tcp: Vec<RangeInclusive<u16>>,
    /// UDP ports.
    pub udp: Vec<RangeInclusive<u16>>,
    /// ICMP types for IPv4.
    pub icmp: Vec<u8>,
    /// ICMP types for IPv6.
    pub icmp6: Vec<u8>,
    /// IP protocols other than TCP, UDP and ICMP.
    pub protocols: Vec<u8>,
}

/// What may be reached on this host. Lists count in order: the default, then `closed`, then `open`, then `management`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortPolicy {
    /// Everything is closed that is not open below. Replies to this host stay open: TCP is judged on the packet that
    /// opens a connection, UDP ports of the host's ephemeral range stay open, ICMP errors and neighbour discovery too.
    pub closed_by_default: bool,
    /// Closed.
    pub closed: PortSet,
    /// Open.
    pub open: PortSet,
    /// TCP ports that no policy closes.
    pub management: Vec<u16>,
}

/// ICMP types that every host needs: unreachable (path MTU), time exceeded, parameter problem (RFC 1812).
const ICMP_ERRORS: [u8; 3] = [3, 11, 12];
/// The same for IPv6, neighbour discovery and multicast listener queries with them (RFC 4890 section 4.4.1).
const ICMP6_ERRORS: [u8; 13] = [1, 2, 3, 4, 130, 131, 132, 133, 134, 135, 136, 137, 143];

impl PortPolicy {
    /// The bitmaps, a set bit for closed.
    fn words(&self, ephemeral: &RangeInclusive<u16>) -> Vec<u64> {
        let mut words = vec![if self.closed_by_default { u64::MAX } else { 0 }; COOKIES as usize];
        let mut set = |first: u32, index: u32, closed: bool| {
            let (word, bit) = ((first + index / 64) as usize, 1u64 << (index % 64));
            if closed {
                words[word] |= bit;
            } else {
                words[word] &= !bit;
            }
        };
        if self.closed_by_default {
            ephemeral.clone().for_each(|port| set(UDP, u32::from(port), false));
            ICMP_ERRORS.iter().for_each(|kind| set(ICMP, u32::from(*kind), false));
            ICMP6_ERRORS.iter().for_each(|kind| set(ICMP6, u32::from(*kind), false));
        }
        for (ports, closed) in [(&self.closed, true), (&self.open, false)] {
            ports.tcp.iter().cloned().flatten().for_each(|port| set(TCP, u32::from(port), closed));
            ports.udp.iter().cloned().flatten().for_each(|port| set(UDP, u32::from(port), closed));
            ports.icmp.iter().for_each(|kind| set(ICMP, u32::from(*kind), closed));
            ports.icmp6.iter().for_each(|kind| set(ICMP6, u32::from(*kind), closed));
            ports.protocols.iter().for_each(|protocol| set(PROTOCOLS, u32::from(*protocol), closed));
        }
        self.management.iter().for_each(|port| set(TCP, u32::from(*port), false));
        words
    }
}

impl Loaded {
    /// Writes which TCP ports get cookies under pressure.
    pub(super) fn write_cookie_ports(&self, ports: &[RangeInclusive<u16>]) {
        let mut words = vec![0u64; (WORDS - COOKIES) as usize];
        for port in ports.iter().cloned().flatten().map(usize::from) {
            words[port / 64] |= 1 << (port % 64);
        }
        for (cell, word) in self.ports[COOKIES as usize..].iter().zip(&words) {
            cell.store(*word, Relaxed);
        }
    }

    /// Writes the policy, word by word: each port has its old or its new state at any moment. True when anything is
    /// closed.
    pub(super) fn write_ports(&self, policy: &PortPolicy) -> bool {
        let words = policy.words(&ephemeral_ports());
        for (cell, word) in self.ports.iter().zip(&words) {
            cell.store(*word, Relaxed);
        }
        words.iter().any(|word| *word != 0)
    }
}

/// Ports that the host's own sockets get; the kernel's default range when it does not tell.
fn ephemeral_ports() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|number| number.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(first), Some(last)) => first..=last,
        _ => 32_768..=60_999,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_count_in_order() {
        let policy = PortPolicy {
            closed_by_default: true,
            closed: PortSet { tcp: vec![80..=90], ..PortSet::default() },
            open: PortSet { tcp: vec![85..=85, 443..=443], icmp: vec![8], ..PortSet::default() },
            management: vec![22, 80],
        };
        let words = policy.words(&(40_000..=50_000));
        let closed = |first: u32, index: u32| words[(first + index / 64) as usize] >> (index % 64) & 1 == 1;
        for (first, index, expected) in [
            (TCP, 22, false),
            (TCP, 80, false),
            (TCP, 81, true),
            (TCP, 85, false),
            (TCP, 443, false),
            (TCP, 65_535, true),
            (UDP, 39_999, true),
            (UDP, 40_000, false),
            (UDP, 50_000, false),
            (UDP, 53, true),
            (ICMP, 8, false),
            (ICMP, 3, false),
            (ICMP, 13, true),
            (ICMP6, 135, false),
            (ICMP6, 128, true),
            (PROTOCOLS, 47, true),
        ] {
            assert_eq!(closed(first, index), expected, "{first}+{index}");
        }
        assert!(PortPolicy::default().words(&(1..=2)).iter().all(|word| *word == 0));
    }
}
