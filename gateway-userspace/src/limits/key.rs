//! From a request to the key that a limit counts by.
//!
//! A key is a sequence of bytes in which every part carries its kind and length, so that no two different
//! requests make the same one. The local table holds its keyed 128-bit hash. Redis gets it readable where it is only an
//! address, and as SHA-256 otherwise: cookies and API keys do not leave this process.

use std::fmt::Write as _;
use std::net::IpAddr;

use aws_lc_rs::digest;
use siphasher::sip128::SipHasher13;
use smallvec::SmallVec;

use super::address_hash::AddressHash;
use super::request::LimitRequest;
use super::table::Key;
use crate::client::IpNetwork;
use crate::config::limits::{Absent, KeyPart, Limit};

/// Segments of a path that are looked at; what lies deeper counts together.
const MAX_SEGMENTS: usize = 64;

/// What several limits may have in common: how they tell clients apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySpec {
    parts: Vec<KeyPart>,
    ipv4_prefix: u8,
    ipv6_prefix: u8,
    absent: Absent,
    /// Whether it is the address alone.
    is_address: bool,
}

impl KeySpec {
    pub(super) fn of(limit: &Limit) -> Self {
        let mut parts = limit.key.clone();
        parts.sort();
        Self::new(parts, limit.ipv4_prefix, limit.ipv6_prefix, limit.absent)
    }

    fn new(parts: Vec<KeyPart>, ipv4_prefix: u8, ipv6_prefix: u8, absent: Absent) -> Self {
        let is_address = parts == [KeyPart::Address];
        Self { parts, ipv4_prefix, ipv6_prefix, absent, is_address }
    }

    /// Whether the part belongs to the key.
    pub(super) fn has(&self, part: &KeyPart) -> bool {
        self.parts.contains(part)
    }

    /// What tells this from other specifications, in one line.
    pub(super) fn text(&self) -> String {
        let parts: Vec<String> = self.parts.iter().map(ToString::to_string).collect();
        format!("{}/{}/{}/{:?}", parts.join("+"), self.ipv4_prefix, self.ipv6_prefix, self.absent)
    }

    /// The hash of the request's key; `None` where the limit does not apply to it.
    #[inline]
    pub(super) fn hash(&self, request: &LimitRequest<'_>, secret: &Secret, own: &Hashing) -> Option<Key> {
        if self.is_address {
            return Some(own.addresses.network(request.client.addr(), self.ipv4_prefix, self.ipv6_prefix));
        }
        self.hash_of_parts(request, secret, own.id)
    }

    fn hash_of_parts(&self, request: &LimitRequest<'_>, secret: &Secret, id: u64) -> Option<Key> {
        // Gathered first: the hasher is at its best with one piece.
        let mut bytes: SmallVec<[u8; 128]> = SmallVec::new();
        bytes.extend_from_slice(&id.to_le_bytes());
        self.write(request, &mut |part| bytes.extend_from_slice(part))?;
        Some(Key::new(secret.hasher().hash(&bytes).as_u128()))
    }

    /// The request's key as text, the same on every node.
    pub(super) fn redis_text(&self, request: &LimitRequest<'_>) -> Option<String> {
        if self.is_address {
            return Some(format!("a:{}", self.network(request.client.addr())));
        }
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(self.text().as_bytes());
        self.write(request, &mut |bytes| context.update(bytes))?;
        let hash = context.finish();
        let mut text = String::with_capacity(34);
        text.push_str("h:");
        for byte in hash.as_ref().iter().take(16) {
            let _ = write!(text, "{byte:02x}");
        }
        Some(text)
    }

    /// The value that `exempt_values` are held against: of the first part that is not the address.
    pub(super) fn exempt_value<'r>(&self, request: &'r LimitRequest<'_>) -> Option<&'r [u8]> {
        let part = self.parts.iter().find(|part| **part != KeyPart::Address)?;
        match part {
            KeyPart::Header(name) => request.header(name),
            KeyPart::Cookie(name) => request.cookie(name),
            KeyPart::Query(name) => request.argument(name),
            KeyPart::Ja4 => request.ja4.map(str::as_bytes),
            KeyPart::Certificate => request.certificate.map(str::as_bytes),
            KeyPart::Country => request.country.as_ref().map(<[u8; 2]>::as_slice),
            KeyPart::Route => Some(request.route.as_bytes()),
            KeyPart::Host => Some(request.host.as_bytes()),
            KeyPart::Path => Some(request.path.as_bytes()),
            KeyPart::Address | KeyPart::Asn | KeyPart::Global => None,
        }
    }

    fn network(&self, addr: IpAddr) -> IpNetwork {
        let prefix = if addr.is_ipv4() { self.ipv4_prefix } else { self.ipv6_prefix };
        IpNetwork::containing(addr, prefix)
    }

    fn write(&self, request: &LimitRequest<'_>, sink: &mut dyn FnMut(&[u8])) -> Option<()> {
        let lacks = self.parts.iter().any(|part| !present(part, request));
        if lacks {
            match self.absent {
                Absent::Skip => return None,
                Absent::Shared => sink(&[ABSENT]),
                Absent::Address => {
                    sink(&[ABSENT]);
                    self.write_part(&KeyPart::Address, request, sink);
                }
            }
            return Some(());
        }
        for part in &self.parts {
            self.write_part(part, request, sink);
        }
        Some(())
    }

    fn write_part(&self, part: &KeyPart, request: &LimitRequest<'_>, sink: &mut dyn FnMut(&[u8])) {
        let mut value = |kind: u8, bytes: Option<&[u8]>| {
            let bytes = bytes.unwrap_or_default();
            let [a, b, c, d] = (bytes.len() as u32).to_le_bytes();
            sink(&[kind, a, b, c, d]);
            sink(bytes);
        };
        match part {
            KeyPart::Address => match self.network(request.client.addr()).addr() {
                IpAddr::V4(addr) => value(4, Some(&addr.octets())),
                IpAddr::V6(addr) => value(6, Some(&addr.octets())),
            },
            KeyPart::Header(name) => value(b'h', request.header(name)),
            KeyPart::Cookie(name) => value(b'c', request.cookie(name)),
            KeyPart::Query(name) => value(b'q', request.argument(name)),
            KeyPart::Ja4 => value(b'j', request.ja4.map(str::as_bytes)),
            KeyPart::Certificate => value(b's', request.certificate.map(str::as_bytes)),
            KeyPart::Country => value(b'l', request.country.as_ref().map(<[u8; 2]>::as_slice)),
            KeyPart::Asn => value(b'n', Some(&request.asn.unwrap_or_default().to_le_bytes())),
            KeyPart::Route => value(b'r', Some(request.route.as_bytes())),
            KeyPart::Host => {
                let host = request.host.as_bytes();
                if host.iter().any(u8::is_ascii_uppercase) {
                    value(b'o', Some(&host.to_ascii_lowercase()));
                } else {
                    value(b'o', Some(host));
                }
            }
            KeyPart::Global => value(b'g', None),
            KeyPart::Path => {
                for segment in segments(request.path) {
                    value(b'p', Some(segment.as_bytes()));
                }
                value(b'e', None);
            }
        }
    }
}

/// Stands before a key that replaces one with an absent part.
const ABSENT: u8 = 0;

fn present(part: &KeyPart, request: &LimitRequest<'_>) -> bool {
    match part {
        KeyPart::Header(name) => request.header(name).is_some(),
        KeyPart::Cookie(name) => request.cookie(name).is_some(),
        KeyPart::Query(name) => request.argument(name).is_some(),
        KeyPart::Ja4 => request.ja4.is_some(),
        KeyPart::Certificate => request.certificate.is_some(),
        KeyPart::Country => request.country.is_some(),
        KeyPart::Asn => request.asn.is_some(),
        KeyPart::Address | KeyPart::Path | KeyPart::Route | KeyPart::Host | KeyPart::Global => true,
    }
}

/// The segments of a path, with what looks like the name of one thing among many replaced by `*`.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    let plain = path.split('/').filter(|s| !s.is_empty()).take(MAX_SEGMENTS);
    plain.map(|segment| if is_identifier(segment.as_bytes()) { "*" } else { segment })
}

/// A number, a UUID, or at least 16 hexadecimal digits.
fn is_identifier(segment: &[u8]) -> bool {
    let uuid =
        |i: usize, b: u8| if matches!(i, 8 | 13 | 18 | 23) { b == b'-' } else { b.is_ascii_hexdigit() };
    segment.iter().all(u8::is_ascii_digit)
        || (segment.len() >= 16 && segment.iter().all(u8::is_ascii_hexdigit))
        || (segment.len() == 36 && segment.iter().enumerate().all(|(i, b)| uuid(i, *b)))
}

/// What hashes are keyed with: drawn when the process starts, never told.
#[derive(Clone, Copy)]
pub struct Secret(u64, u64);

impl Secret {
    /// A secret from 128 random bits.
    pub fn new(random: [u64; 2]) -> Self {
        Self(random[0], random[1])
    }

    fn hasher(self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }

    /// The key of who has a clearance with this nonce.
    pub(super) fn cleared(self, nonce: &str) -> Key {
        // No specification's hash begins so: theirs are of eight bytes and a kind.
        Key::new(self.hasher().hash(format!("cleared by {nonce}").as_bytes()).as_u128())
    }

    /// How the keys of a specification are hashed.
    pub(super) fn hashing(self, spec: &KeySpec) -> Hashing {
        let text = spec.text();
        Hashing {
            id: self.hash(&text) as u64,
            addresses: AddressHash::new(|n| self.hash(&format!("{text} {n}"))),
        }
    }

    /// The keyed hash of a text.
    pub(super) fn hash(self, text: &str) -> u128 {
        self.hasher().hash(text.as_bytes()).as_u128()
    }
}

/// What the keys of one specification are hashed with: other for each.
pub(super) struct Hashing {
    id: u64,
    addresses: AddressHash,
}

/// The first four bytes of the text's SHA-256: the same on every node.
pub(super) fn stable_id(text: &str) -> u32 {
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    hash.as_ref().iter().take(4).fold(0, |id, byte| id << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Asked;
    use super::*;

    fn spec(parts: &[&str], absent: Absent) -> KeySpec {
        let parts = parts.iter().map(|p| p.parse().expect("key part")).collect();
        KeySpec::new(parts, 32, 64, absent)
    }

    #[test]
    fn who_counts_together() {
        let check = |parts: &[&str], absent: Absent, a: Asked, b: Asked, together: Option<bool>| {
            let (spec, secret) = (spec(parts, absent), Secret::new([1, 2]));
            let own = secret.hashing(&spec);
            let keys =
                [&a, &b].map(|asked| asked.with(|r| (spec.hash(r, &secret, &own), spec.redis_text(r))));
            let got = match &keys {
                [(None, None), (None, None)] => None,
                [(Some(x), Some(p)), (Some(y), Some(q))] => {
                    assert_eq!(x == y, p == q, "the local and the shared key agree");
                    Some(x == y)
                }
                _ => panic!("{parts:?}: {keys:?}"),
            };
            assert_eq!(got, together, "{parts:?} {a:?} {b:?}");
        };
        let at = Asked::from;
        let (a, s, k) = (Absent::Address, Absent::Shared, Absent::Skip);
        check(&["address"], a, at("192.0.2.1"), at("192.0.2.1"), Some(true));
        check(&["address"], a, at("192.0.2.1"), at("192.0.2.2"), Some(false));
        check(&["address"], a, at("2001:db8::1"), at("2001:db8::ffff:1"), Some(true));
        check(&["address"], a, at("2001:db8::1"), at("2001:db8:0:1::1"), Some(false));
        check(&["global"], a, at("192.0.2.1"), at("2001:db8::1"), Some(true));
        let key = |ip: &str, value: &str| at(ip).header("x-key", value);
        check(&["header:x-key"], a, key("192.0.2.1", "k"), key("192.0.2.2", "k"), Some(true));
        check(&["header:x-key"], a, key("192.0.2.1", "k"), key("192.0.2.1", "l"), Some(false));
        check(&["header:x-key"], a, at("192.0.2.1"), at("192.0.2.2"), Some(false));
        check(&["header:x-key"], a, at("192.0.2.1"), key("192.0.2.1", ""), Some(true));
        check(&["header:x-key"], s, at("192.0.2.1"), at("192.0.2.2"), Some(true));
        check(&["header:x-key"], k, at("192.0.2.1"), at("192.0.2.2"), None);
        // The lengths keep `ab`+`c` from being `a`+`bc`.
        let two = |x: &str, y: &str| at("192.0.2.1").header("x-a", x).header("x-b", y);
        check(&["header:x-a", "header:x-b"], a, two("ab", "c"), two("a", "bc"), Some(false));
        let cookie = |text: &str| at("192.0.2.1").header("cookie", text);
        check(&["cookie:sid"], k, cookie("a=1; sid=x"), cookie("sid=x; b=2"), Some(true));
        check(&["cookie:sid"], k, cookie("xsid=1"), cookie("sid2=1"), None);
        check(
            &["query:q"],
            k,
            at("192.0.2.1").path("/", "q=1&r=2"),
            at("192.0.2.1").path("/", "q=1"),
            Some(true),
        );
        let path = |text: &str| at("192.0.2.1").path(text, "");
        check(&["path"], a, path("/orders/17"), path("/orders//18"), Some(true));
        check(&["path"], a, path("/orders/17"), path("/orders/17/items"), Some(false));
        check(
            &["path"],
            a,
            path("/u/0b0c2c5e-5c3e-4b52-9d5e-1f6d5a1c0a11"),
            path("/u/0123456789abcdef0123456789ABCDEF"),
            Some(true),
        );
        check(&["path"], a, path("/a/b"), path("/a/b2"), Some(false));
        check(&["host"], a, at("192.0.2.1").host("A.example"), at("192.0.2.1").host("a.EXAMPLE"), Some(true));
        check(
            &["host"],
            a,
            at("192.0.2.1").host("a.example"),
            at("192.0.2.1").host("b.example"),
            Some(false),
        );
        check(&["route"], a, at("192.0.2.1").route("r"), at("192.0.2.2").route("r"), Some(true));
        check(&["route"], a, at("192.0.2.1").route("r"), at("192.0.2.1").route("s"), Some(false));
        let tls = |ip: &str, ja4: &str, subject: &str| at(ip).tls(ja4, subject);
        check(&["ja4"], a, tls("192.0.2.1", "t13d", "CN=a"), tls("192.0.2.2", "t13d", "CN=b"), Some(true));
        check(&["ja4"], a, tls("192.0.2.1", "t13d", "CN=a"), tls("192.0.2.1", "t12d", "CN=a"), Some(false));
        check(&["ja4"], k, at("192.0.2.1"), at("192.0.2.1"), None);
        check(&["certificate"], a, tls("192.0.2.1", "x", "CN=a"), tls("192.0.2.2", "y", "CN=a"), Some(true));
        check(&["certificate"], a, tls("192.0.2.1", "x", "CN=a"), tls("192.0.2.1", "x", "CN=b"), Some(false));
        check(&["certificate"], s, at("192.0.2.1"), at("192.0.2.2"), Some(true));
        let place = |ip: &str, country: &[u8; 2], asn: u32| at(ip).place(country, asn);
        check(&["country"], a, place("192.0.2.1", b"CH", 1), place("192.0.2.2", b"CH", 2), Some(true));
        check(&["country"], a, place("192.0.2.1", b"CH", 1), place("192.0.2.1", b"NL", 1), Some(false));
        check(&["asn"], a, place("192.0.2.1", b"CH", 1), place("192.0.2.2", b"NL", 1), Some(true));
        check(&["asn"], a, place("192.0.2.1", b"CH", 1), place("192.0.2.1", b"CH", 2), Some(false));
        check(&["country", "asn"], k, at("192.0.2.2"), at("192.0.2.1"), None);
        // What several parts make together, whatever order they are written in.
        let both = |ip: &str, key: &str| at(ip).header("x-key", key);
        check(&["address", "header:x-key"], a, both("192.0.2.1", "k"), both("192.0.2.2", "k"), Some(false));
        check(&["header:x-key", "address"], a, both("192.0.2.1", "k"), both("192.0.2.1", "k"), Some(true));
    }

    #[test]
    fn keys_in_redis_do_not_tell_secrets() {
        let text = |parts: &[&str], asked: Asked| {
            asked.with(|r| spec(parts, Absent::Address).redis_text(r)).expect("applies")
        };
        assert_eq!(text(&["address"], Asked::from("192.0.2.1")), "a:192.0.2.1");
        assert_eq!(text(&["address"], Asked::from("2001:db8::1")), "a:2001:db8::/64");
        let hashed = text(&["cookie:sid"], Asked::from("192.0.2.1").header("cookie", "sid=secret"));
        assert!(hashed.starts_with("h:") && hashed.len() == 34 && !hashed.contains("secret"), "{hashed}");
    }
}
