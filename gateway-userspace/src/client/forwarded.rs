//! Who a request's client is, by what trusted proxies forwarded.
//!
//! The list of addresses grows at its right end: each proxy appends the peer it saw. So it is read
//! from the right, as long as the one who spoke is trusted; the first address that is not a trusted
//! proxy is the client, and everything left of it is hearsay.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};
use serde::Deserialize;

use super::{ClientId, IpNetwork};

/// Most hops that are walked; a longer chain of trusted proxies ends at the last one walked.
pub const MAX_HOPS: usize = 32;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The header in which trusted proxies name the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// Neither: the peer is the client.
    None,
}

/// Whom to believe.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    networks: Vec<IpNetwork>,
    header: ForwardedHeader,
}

/// Why a request's client can't be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardedError {
    /// A trusted proxy forwarded something that is not an address.
    #[error("a trusted proxy forwarded something that is not an address")]
    NotAnAddress,
}

impl Trust {
    /// Believes peers in `networks` when they speak through `header`.
    pub fn new(networks: Vec<IpNetwork>, header: ForwardedHeader) -> Self {
        Self { networks, header }
    }

    /// Where trusted peers name the client.
    pub fn header(&self) -> ForwardedHeader {
        self.header
    }

    /// Whether `addr` is a trusted proxy.
    pub fn trusts(&self, addr: IpAddr) -> bool {
        !self.networks.is_empty() && self.networks.iter().any(|n| n.contains(addr))
    }

    /// The client of a request. `socket` is the socket's peer; `relayed` is what a PROXY header said, if
    /// one was required and came.
    ///
    /// # Errors
    /// When a trusted proxy forwarded something that is not an address.
    pub fn identify(
        &self,
        socket: IpAddr,
        relayed: Option<IpAddr>,
        headers: &HeaderMap,
    ) -> Result<ClientId, ForwardedError> {
        let peer = relayed.unwrap_or(socket);
        let client = if self.trusts(peer) { self.walk(peer, headers)? } else { peer };
        if client.to_canonical() == socket.to_canonical() {
            Ok(ClientId::direct(client))
        } else {
            Ok(ClientId::behind(socket, client))
        }
    }

    fn walk(&self, peer: IpAddr, headers: &HeaderMap) -> Result<IpAddr, ForwardedError> {
        let (name, entry): (&HeaderName, fn(&str) -> Option<&str>) = match self.header {
            ForwardedHeader::XForwardedFor => (&X_FORWARDED_FOR, |entry| Some(entry)),
            ForwardedHeader::Forwarded => (&FORWARDED, forwarded_for),
            ForwardedHeader::None => return Ok(peer),
        };
        let mut client = peer;
        let mut hops = 0;
        for value in headers.get_all(name).iter().rev() {
            let text = value.to_str().map_err(|_| ForwardedError::NotAnAddress)?;
            for element in text.rsplit(',') {
                let node = entry(element.trim()).ok_or(ForwardedError::NotAnAddress)?;
                client = node_address(node).ok_or(ForwardedError::NotAnAddress)?;
                hops += 1;
                if hops == MAX_HOPS || !self.trusts(client) {
                    return Ok(client);
                }
            }
        }
        Ok(client)
    }
}

/// The `for` parameter of one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<&str> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.trim_end().eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"'))
    })
}

/// An address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn node_address(node: &str) -> Option<IpAddr> {
    if let Ok(addr) = node.parse::<IpAddr>() {
        return Some(addr.to_canonical());
    }
    if let Ok(addr) = node.parse::<SocketAddr>() {
        return Some(addr.ip().to_canonical());
    }
    let inner = node.strip_prefix('[')?.strip_suffix(']')?;
    inner.parse::<IpAddr>().ok().map(|a| a.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        header: ForwardedHeader,
        socket: &str,
        relayed: Option<&str>,
        lines: &[&str],
        expected: Result<ClientId, ForwardedError>,
    ) {
        let trusted = ["10.0.0.0/8", "2001:db8:1::/48"].map(|n| n.parse().expect("network")).to_vec();
        let mut headers = HeaderMap::new();
        for line in lines {
            let name = if header == ForwardedHeader::Forwarded { FORWARDED } else { X_FORWARDED_FOR.clone() };
            headers.append(name, line.parse().expect("value"));
        }
        let got = Trust::new(trusted, header).identify(
            socket.parse().expect("address"),
            relayed.map(|r| r.parse().expect("address")),
            &headers,
        );
        assert_eq!(got, expected, "{socket} {relayed:?} {lines:?}");
    }

    type Expected = Result<ClientId, ForwardedError>;

    fn direct(addr: &str) -> Expected {
        addr.parse().map(ClientId::direct).map_err(|_| ForwardedError::NotAnAddress)
    }

    fn behind(proxy: &str, addr: &str) -> Expected {
        let proxy = proxy.parse().map_err(|_| ForwardedError::NotAnAddress)?;
        addr.parse().map(|addr| ClientId::behind(proxy, addr)).map_err(|_| ForwardedError::NotAnAddress)
    }

    #[test]
    fn x_forwarded_for() {
        let xff = ForwardedHeader::XForwardedFor;
        check(xff, "192.0.2.1", None, &["203.0.113.9"], direct("192.0.2.1"));
        check(xff, "10.0.0.1", None, &[], direct("10.0.0.1"));
        check(xff, "10.0.0.1", None, &["203.0.113.9"], behind("10.0.0.1", "203.0.113.9"));
        check(xff, "10.0.0.1", None, &["1.2.3.4, 203.0.113.9, 10.0.0.2"], behind("10.0.0.1", "203.0.113.9"));
        check(xff, "10.0.0.1", None, &["1.2.3.4", "203.0.113.9"], behind("10.0.0.1", "203.0.113.9"));
        check(xff, "10.0.0.1", None, &["203.0.113.9:4711"], behind("10.0.0.1", "203.0.113.9"));
        check(xff, "10.0.0.1", None, &["[2001:db8::9]:1"], behind("10.0.0.1", "2001:db8::9"));
        check(xff, "10.0.0.1", None, &["::ffff:203.0.113.9"], behind("10.0.0.1", "203.0.113.9"));
        check(ForwardedHeader::None, "10.0.0.1", None, &["203.0.113.9"], direct("10.0.0.1"));
        check(xff, "10.0.0.1", None, &["unknown"], Err(ForwardedError::NotAnAddress));
        check(xff, "10.0.0.1", None, &["1.2.3.4,"], Err(ForwardedError::NotAnAddress));
        check(xff, "10.0.0.1", None, &["x, 203.0.113.9"], behind("10.0.0.1", "203.0.113.9"));
        check(xff, "192.0.2.1", Some("203.0.113.9"), &["1.1.1.1"], behind("192.0.2.1", "203.0.113.9"));
        check(xff, "192.0.2.1", Some("10.0.0.3"), &["203.0.113.7"], behind("192.0.2.1", "203.0.113.7"));
        check(ForwardedHeader::None, "10.0.0.1", None, &["203.0.113.9"], direct("10.0.0.1"));
    }

    #[test]
    fn forwarded() {
        let f = ForwardedHeader::Forwarded;
        check(f, "10.0.0.1", None, &["for=203.0.113.9;proto=https"], behind("10.0.0.1", "203.0.113.9"));
        check(
            f,
            "10.0.0.1",
            None,
            &["proto=http;For=\"[2001:db8::9]:1\""],
            behind("10.0.0.1", "2001:db8::9"),
        );
        check(
            f,
            "10.0.0.1",
            None,
            &["for=1.1.1.1, for=203.0.113.9, for=10.1.1.1"],
            behind("10.0.0.1", "203.0.113.9"),
        );
        check(f, "10.0.0.1", None, &["for=_hidden"], Err(ForwardedError::NotAnAddress));
        check(f, "10.0.0.1", None, &["proto=http"], Err(ForwardedError::NotAnAddress));
    }
}
