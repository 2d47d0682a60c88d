//! Clearances: the proof that a client has passed the challenge that a limit sent it to.
//!
//! The challenge itself (a captcha, a login, proof of work) is a service of the operator's. It shares a secret with the
//! gateway and sets a cookie, `v1.EXPIRES.NONCE.SIGNATURE`:
//! - EXPIRES: when it ends, in seconds since the Unix epoch, at most [`MAX_LIFE_S`] ahead;
//! - NONCE: 1 to 64 letters, digits, `-` and `_`, different each time;
//! - SIGNATURE: HMAC-SHA256 with the secret over `v1.EXPIRES.NONCE.ADDRESS`, in hexadecimal digits, where ADDRESS is the client's IPv4
//!   address, or its IPv6 network such as `2001:db8::/64`.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::hmac;
use http::Method;

use super::request::LimitRequest;
use crate::client::IpNetwork;
use crate::config::limits::Challenge;

/// Longest life of a clearance, in seconds: a day.
pub const MAX_LIFE_S: u64 = 24 * 3600;
/// Longest nonce, in bytes.
const MAX_NONCE: usize = 64;
/// Largest secret file, in bytes.
const MAX_SECRET: u64 = 4096;
/// Shortest secret, in bytes.
const MIN_SECRET: usize = 16;

/// Where clients over a limit are sent, and who has been there.
pub struct Clearances {
    location: Arc<str>,
    /// The path of a location on this gateway: it is not counted, or nobody over the limit could come there.
    own_path: Option<String>,
    cookie: String,
    key: hmac::Key,
}

/// Why a secret is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the challenge's secret {file}: {reason}. Write 16 to 4096 random bytes there, readable for the gateway"
)]
pub struct ClearanceError {
    file: PathBuf,
    reason: String,
}

impl Clearances {
    /// Reads the secret that a configuration names.
    ///
    /// # Errors
    /// When it cannot be read, or is too short or too long.
    pub fn read(challenge: &Challenge) -> Result<Self, ClearanceError> {
        let fail = |reason: String| ClearanceError { file: challenge.secret_file.clone(), reason };
        let secret = secret(&challenge.secret_file).map_err(fail)?;
        let path = challenge.location.split(['?', '#']).next().unwrap_or_default();
        Ok(Self {
            location: challenge.location.as_str().into(),
            own_path: path.starts_with('/').then(|| path.to_owned()),
            cookie: challenge.cookie.clone(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
        })
    }

    /// The value of a cookie that clears this address until `expires_s`.
    pub fn issue(&self, addr: IpAddr, nonce: &str, expires_s: u64) -> String {
        let mut text = format!("v1.{expires_s}.{nonce}.");
        let tag = hmac::sign(&self.key, signed(&text, addr).as_bytes());
        for byte in tag.as_ref() {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// The name of the cookie.
    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    /// Whether the request asks for the challenge itself.
    pub(super) fn is_challenge(&self, request: &LimitRequest<'_>) -> bool {
        let below = |own: &String| request.path.strip_prefix(own.as_str());
        let rest = self.own_path.as_ref().and_then(below);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The nonce of the request's clearance, if it has a valid one.
    pub(super) fn of<'r>(&self, request: &LimitRequest<'r>) -> Option<&'r str> {
        let value = std::str::from_utf8(request.cookie(&self.cookie)?).ok()?;
        let (text, signature) = value.rsplit_once('.')?;
        let mut parts = text.split('.');
        let (version, expires, nonce) = (parts.next()?, parts.next()?, parts.next()?);
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let nonce_fits = (1..=MAX_NONCE).contains(&nonce.len()) && nonce.bytes().all(is_plain);
        let now_s = request.now / super::slot::SECOND;
        let expires: u64 = expires.parse().ok()?;
        let in_time = expires > now_s && expires - now_s <= MAX_LIFE_S;
        if version != "v1" || parts.next().is_some() || !nonce_fits || !in_time {
            return None;
        }
        let mut tag = [0_u8; 32];
        if signature.len() != 2 * tag.len() || !signature.is_ascii() {
            return None;
        }
        for (byte, digits) in tag.iter_mut().zip(signature.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        let signed = signed(&value[..=text.len()], request.client.addr());
        hmac::verify(&self.key, signed.as_bytes(), &tag).ok().map(|()| nonce)
    }

    /// Where the request's client is to go. A request that shows a page comes back from there to where it was.
    pub(super) fn location(&self, request: &LimitRequest<'_>) -> Arc<str> {
        let is_page = *request.method == Method::GET && request.path.starts_with('/');
        if !is_page {
            return Arc::clone(&self.location);
        }
        let mut text = self.location.to_string();
        text.push_str(if text.contains('?') { "&return=" } else { "?return=" });
        // One slash: with two it would be another host.
        text.push_str("%2F");
        escape(request.path.trim_start_matches('/').as_bytes(), &mut text);
        if let Some(query) = request.query.filter(|query| !query.is_empty()) {
            text.push_str("%3F");
            escape(query.as_bytes(), &mut text);
        }
        text.into()
    }
}

fn signed(begin: &str, addr: IpAddr) -> String {
    match addr {
        IpAddr::V4(addr) => format!("{begin}{addr}"),
        IpAddr::V6(_) => format!("{begin}{}", IpNetwork::containing(addr, 64)),
    }
}

/// Percent-encodes all but the unreserved characters (RFC 3986, section 2.3).
fn escape(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(*byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

fn secret(file: &Path) -> Result<Vec<u8>, String> {
    let size = std::fs::metadata(file).map_err(|e| e.to_string())?.len();
    if size > MAX_SECRET {
        return Err(format!("it has {size} bytes"));
    }
    let bytes = std::fs::read(file).map_err(|e| e.to_string())?;
    let bytes = bytes.trim_ascii_end();
    if bytes.len() < MIN_SECRET {
        return Err(format!("it has {} bytes", bytes.len()));
    }
    Ok(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Asked, SECOND, START};
    use super::*;

    fn clearances(location: &str) -> Clearances {
        Clearances {
            location: location.into(),
            own_path: location.starts_with('/').then(|| location.to_owned()),
            cookie: "c".into(),
            key: hmac::Key::new(hmac::HMAC_SHA256, b"a secret of some length"),
        }
    }

    #[test]
    fn a_clearance_is_one_clients_for_its_time() {
        let it = clearances("/challenge");
        let (now, addr) = (START / SECOND, "192.0.2.1".parse().expect("address"));
        let good = it.issue(addr, "n-1", now + 60);
        let six = it.issue("2001:db8::1".parse().expect("address"), "n-1", now + 60);
        let other_digit =
            format!("{}{}", &good[..good.len() - 1], if good.ends_with('0') { '1' } else { '0' });
        for (from, cookie, expected) in [
            ("192.0.2.1", good.clone(), Some("n-1")),
            ("192.0.2.2", good.clone(), None),
            ("2001:db8::2", six.clone(), Some("n-1")),
            ("2001:db8:0:1::2", six, None),
            ("192.0.2.1", it.issue(addr, "n-1", now), None),
            ("192.0.2.1", it.issue(addr, "n-1", now + MAX_LIFE_S), Some("n-1")),
            ("192.0.2.1", it.issue(addr, "n-1", now + MAX_LIFE_S + 1), None),
            ("192.0.2.1", it.issue(addr, "", now + 60), None),
            ("192.0.2.1", it.issue(addr, &"n".repeat(65), now + 60), None),
            ("192.0.2.1", it.issue(addr, "a.b", now + 60), None),
            ("192.0.2.1", other_digit, None),
            ("192.0.2.1", good.replace("v1", "v2"), None),
            ("192.0.2.1", good[..good.len() - 2].to_owned(), None),
            ("192.0.2.1", "v1".into(), None),
        ] {
            let asked = Asked::from(from).header("cookie", &format!("a=b; c={cookie}"));
            assert_eq!(asked.with(|r| it.of(r).map(str::to_owned)).as_deref(), expected, "{from} {cookie}");
        }
    }

    #[test]
    fn where_it_leads_and_back() {
        let to = |location: &str, asked: Asked| asked.with(|r| clearances(location).location(r).to_string());
        let page = || Asked::from("192.0.2.1").path("/a b/c", "q=1&r=/");
        assert_eq!(to("/challenge", page()), "/challenge?return=%2Fa%20b%2Fc%3Fq%3D1%26r%3D%2F");
        assert_eq!(
            to("https://x.example/?k=1", page().path("//evil.example/", "")),
            "https://x.example/?k=1&return=%2Fevil.example%2F"
        );
        assert_eq!(to("/challenge", page().method(Method::POST)), "/challenge");
        let own = |path: &str| {
            Asked::from("192.0.2.1").path(path, "").with(|r| clearances("/challenge").is_challenge(r))
        };
        assert_eq!(
            ["/challenge", "/challenge/a.js", "/challenges", "/"].map(own),
            [true, true, false, false]
        );
    }
}
