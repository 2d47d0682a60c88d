//! Who the client is: PROXY headers of both versions, and what proxies forward. No panic; a header that is read says what it
//! says however it is written; and nobody but a trusted proxy is believed.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

#[allow(dead_code, unused_imports, reason = "the whole room is taken in for its readers")]
#[path = "../../../gateway-userspace/src/client/mod.rs"]
mod client;
use client::proxy_protocol::{self as proxy, ProxyHeader, V2_FIXED};
use client::{ForwardedHeader, IpNetwork, Trust};

const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

fuzz_target!(|data: &[u8]| {
    version_1(data);
    version_2(data);
    forwarded(data);
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(network) = text.parse::<IpNetwork>()
    {
        assert_eq!(network.to_string().parse::<IpNetwork>(), Ok(network));
        assert!(network.contains(network.addr()));
    }
});

fn version_1(line: &[u8]) {
    if let Ok(ProxyHeader::Relayed { source, destination }) = proxy::parse_v1(line) {
        let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        let (from, to) = (source.ip(), destination.ip());
        let again = format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port());
        assert_eq!(proxy::parse_v1(again.as_bytes()), Ok(ProxyHeader::Relayed { source, destination }));
    }
}

fn version_2(data: &[u8]) {
    let Some((fixed, payload)) = data.split_first_chunk::<V2_FIXED>() else { return };
    // Seldom found by chance.
    let mut fixed = *fixed;
    fixed[..12].copy_from_slice(&proxy::V2_SIGNATURE);
    let Ok(length) = proxy::v2_payload_len(&fixed) else { return };
    let payload = &payload[..length.min(payload.len())];
    if let Ok(ProxyHeader::Relayed { source, destination }) = proxy::parse_v2(&fixed, payload) {
        let octets = |address: SocketAddr| match address.ip() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let mut again = [octets(source), octets(destination)].concat();
        again.extend(source.port().to_be_bytes());
        again.extend(destination.port().to_be_bytes());
        assert!(payload.starts_with(&again));
    }
}

fn forwarded(data: &[u8]) {
    let network = |text: &str| text.parse::<IpNetwork>().expect("a network");
    let trusted = vec![network("10.0.0.0/8"), network("2001:db8::/32")];
    let fields = [
        (ForwardedHeader::XForwardedFor, HeaderName::from_static("x-forwarded-for")),
        (ForwardedHeader::Forwarded, HeaderName::from_static("forwarded")),
    ];
    for (kind, name) in fields {
        let mut headers = HeaderMap::new();
        for line in data.split(|&byte| byte == b'\n').take(8) {
            if let Ok(value) = HeaderValue::from_bytes(line) {
                headers.append(name.clone(), value);
            }
        }
        let trust = Trust::new(trusted.clone(), kind);
        let seen = trust.identify(STRANGER, None, &headers).expect("a stranger's word is not asked for");
        assert_eq!((seen.addr(), seen.kernel_target()), (STRANGER, Some(STRANGER)));
        if let Ok(seen) = trust.identify(PROXY, None, &headers) {
            assert!(
                seen.addr() == PROXY || seen.kernel_target().is_none(),
                "the kernel would ban somebody else"
            );
        }
    }
}
