//! What a client's certificate says of its owner.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Name};

use super::tls::TlsError;

/// Longest subject or issuer that is told on, in bytes; what is longer is cut.
pub const MAX_NAME_BYTES: usize = 1024;
/// Most alternative names that are told on.
pub const MAX_ALTERNATIVES: usize = 64;
/// Authorities whose judgement of one certificate is remembered with its connection.
const MAX_JUDGED: usize = 16;

/// A client's certificate that was verified, as text.
#[derive(Debug)]
pub struct ClientCertificate {
    /// SHA-256 of the certificate, in hexadecimal.
    pub sha256: Box<str>,
    /// The subject as RFC 4514 writes it, bytes outside ASCII as `\XX`.
    pub subject: Box<str>,
    /// The issuer, likewise.
    pub issuer: Box<str>,
    /// Alternative names such as `DNS:a.example,email:a@example.com,IP:192.0.2.1`.
    pub alternatives: Box<str>,
    chain: Vec<CertificateDer<'static>>,
    judged: Mutex<Vec<([u8; 32], bool)>>,
}

impl ClientCertificate {
    /// Reads the first certificate of a chain that was verified; `None` without one.
    pub(super) fn read(chain: &[CertificateDer<'_>]) -> Option<Arc<Self>> {
        let first = chain.first()?;
        let parsed = X509Certificate::from_der(first).ok().map(|(_, parsed)| parsed);
        let text = |name: Option<&X509Name<'_>>| name.map(distinguished).unwrap_or_default().into();
        Some(Arc::new(Self {
            sha256: hex(digest(&SHA256, first).as_ref()).into(),
            subject: text(parsed.as_ref().map(|c| c.subject())),
            issuer: text(parsed.as_ref().map(|c| c.issuer())),
            alternatives: parsed.as_ref().map(alternatives).unwrap_or_default().into(),
            chain: chain.iter().map(|c| c.clone().into_owned()).collect(),
            judged: Mutex::default(),
        }))
    }

    /// Whether `authority` vouches for it too. Asked once for each connection, then remembered.
    pub fn is_vouched_for_by(&self, authority: &ClientAuthority) -> bool {
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, good)) = judged.iter().find(|(id, _)| *id == authority.id) {
            return *good;
        }
        let good = self.chain.split_first().is_some_and(|(first, rest)| {
            authority.verifier.verify_client_cert(first, rest, UnixTime::now()).is_ok()
        });
        if judged.len() < MAX_JUDGED {
            judged.push((authority.id, good));
        }
        good
    }
}

/// Those who may have signed clients' certificates.
#[derive(Debug)]
pub struct ClientAuthority {
    /// Names what is in the file: the same after a reload that changed nothing.
    pub(super) id: [u8; 32],
    pub(super) roots: Arc<RootCertStore>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientAuthority {
    /// Reads a PEM file of certificates.
    ///
    /// # Errors
    /// When it can't be read or holds none.
    pub fn load(file: &Path, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let fail = |reason: String| TlsError::ClientCa { file: file.to_owned(), reason };
        let mut roots = RootCertStore::empty();
        let mut all = Vec::new();
        let unreadable = |e: rustls::pki_types::pem::Error| match std::fs::metadata(file) {
            Err(e) => fail(e.to_string()),
            Ok(_) => fail(e.to_string()),
        };
        for certificate in CertificateDer::pem_file_iter(file).map_err(unreadable)? {
            let certificate = certificate.map_err(unreadable)?;
            all.extend_from_slice(&certificate);
            roots.add(certificate).map_err(|e| fail(e.to_string()))?;
        }
        let id = digest(&SHA256, &all).as_ref().try_into().map_err(|_| fail("it can't be hashed".into()))?;
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider))
            .build()
            .map_err(|e| fail(e.to_string()))?;
        Ok(Self { id, roots, verifier })
    }
}

/// A name as RFC 4514 writes it: the most specific part first.
fn distinguished(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let mut out = String::new();
    for part in parts.into_iter().rev() {
        for (i, attribute) in part.iter().enumerate() {
            if !out.is_empty() {
                out.push(if i == 0 { ',' } else { '+' });
            }
            match oid2abbrev(attribute.attr_type(), oid_registry()) {
                Ok(short) => out.push_str(short),
                Err(_) => out.push_str(&attribute.attr_type().to_id_string()),
            }
            out.push('=');
            match attribute.as_str() {
                Ok(text) => escape(&mut out, text, |at, b| {
                    matches!(b, b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' | b'=')
                        || (at == 0 && matches!(b, b' ' | b'#'))
                        || (at + 1 == text.len() && b == b' ')
                }),
                Err(_) => {
                    out.push('#');
                    out.push_str(&hex(attribute.attr_value().data));
                }
            }
        }
    }
    cut(out, MAX_NAME_BYTES)
}

fn alternatives(certificate: &X509Certificate<'_>) -> String {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return String::new() };
    let mut out = String::new();
    for name in extension.value.general_names.iter().take(MAX_ALTERNATIVES) {
        let address;
        let (kind, text) = match name {
            GeneralName::DNSName(name) => ("DNS", *name),
            GeneralName::RFC822Name(name) => ("email", *name),
            GeneralName::URI(uri) => ("URI", *uri),
            GeneralName::IPAddress(bytes) => {
                let Some(parsed) = ip(bytes) else { continue };
                address = parsed.to_string();
                ("IP", address.as_str())
            }
            _ => continue,
        };
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(kind);
        out.push(':');
        escape(&mut out, text, |_, b| matches!(b, b',' | b'\\'));
    }
    cut(out, 4 * MAX_NAME_BYTES)
}

/// Appends `text` so that it stays within its place in a list and is ASCII: what is not plain becomes `\XX`.
fn escape(out: &mut String, text: &str, is_special: impl Fn(usize, u8) -> bool) {
    for (at, byte) in text.bytes().enumerate() {
        if is_special(at, byte) && byte.is_ascii_graphic() {
            out.push('\\');
            out.push(char::from(byte));
        } else if (byte.is_ascii_graphic() || byte == b' ') && !is_special(at, byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "\\{byte:02X}");
        }
    }
}

fn ip(bytes: &[u8]) -> Option<std::net::IpAddr> {
    <[u8; 4]>::try_from(bytes).map(Into::into).or_else(|_| <[u8; 16]>::try_from(bytes).map(Into::into)).ok()
}

fn cut(mut text: String, max: usize) -> String {
    // All of it is ASCII: any place is between two characters.
    text.truncate(max);
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn check(parts: &[(DnType, &str)], alternatives: Vec<SanType>, subject: &str, names: &str) {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.subject_alt_names = alternatives;
        let key = KeyPair::generate().expect("key");
        let made = params.self_signed(&key).expect("certificate");
        let read = ClientCertificate::read(&[made.der().clone()]).expect("one");
        assert_eq!((&*read.subject, &*read.alternatives), (subject, names));
        assert_eq!(read.sha256.len(), 64);
    }

    #[test]
    fn names_are_written_so_that_they_stay_apart() {
        let dns = |n: &str| SanType::DnsName(n.try_into().expect("name"));
        let uri = |n: &str| SanType::URI(n.try_into().expect("name"));
        use DnType::{CommonName, CountryName, OrganizationName};
        check(
            &[(CountryName, "DE"), (OrganizationName, "Acme, Inc."), (CommonName, "alice")],
            vec![dns("a.test"), SanType::IpAddress([192, 0, 2, 1].into())],
            "CN=alice,O=Acme\\, Inc.,C=DE",
            "DNS:a.test,IP:192.0.2.1",
        );
        check(&[(CommonName, "#1 é ")], vec![], "CN=\\#1 \\C3\\A9\\20", "");
        check(&[(CommonName, "a\r\nb")], vec![uri("x:a,DNS:b")], "CN=a\\0D\\0Ab", "URI:x:a\\,DNS:b");
        check(&[], vec![], "", "");
        let long = "x".repeat(3000);
        check(&[(CommonName, &long)], vec![], &format!("CN={}", "x".repeat(MAX_NAME_BYTES - 3)), "");
    }
}
