//! Certificates, chosen by the name in the handshake, swapped whole.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{der, ocsp};
use crate::config::edge::Certificate;

/// Why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The chain's file.
    #[error("{}: {reason}. It must hold a PEM certificate and its intermediates.", file.display())]
    Chain {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The key's file.
    #[error("{}: {reason}. It must hold one unencrypted PEM private key, readable by the gateway's user.", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The key is not the certificate's.
    #[error("{}: the key is not the one of {}. Give the key that the certificate was made with.", key.display(), chain.display())]
    Mismatch {
        /// The chain's file.
        chain: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The staple's file.
    #[error("{}: {reason}. It must hold the authority's DER OCSP response for {}.", file.display(), chain.display())]
    Staple {
        /// The file.
        file: PathBuf,
        /// The chain's file.
        chain: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No certificate for development could be made.
    #[error("no self-signed certificate could be made: {0}. Configure [tls] certificates.")]
    SelfSigned(String),
}

/// A loaded certificate, for status and metrics.
#[derive(Clone, Debug, serde::Serialize)]
pub struct CertificateStatus {
    /// The chain's file; none for the self-signed one.
    pub file: Option<PathBuf>,
    /// Names it is for.
    pub names: Vec<String>,
    /// End of validity, seconds since 1970; none where it can't be read.
    pub not_after: Option<i64>,
    /// Until when its OCSP staple is good, seconds since 1970; none without one, or where it doesn't say. A staple past
    /// its time is not sent.
    pub staple_until: Option<i64>,
}

/// All certificates of the gateway. Handshakes see one whole set or the next, never a mixture.
#[derive(Debug)]
pub struct Certificates(ArcSwap<Set>);

#[derive(Debug)]
struct Set {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
    status: Vec<CertificateStatus>,
}

impl Certificates {
    /// Loads every certificate; without any, makes a self-signed one for `localhost`. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// The first certificate that can't be used.
    pub fn load(
        configured: &[Certificate],
        provider: &CryptoProvider,
        now: i64,
    ) -> Result<Self, CertificateError> {
        Ok(Self(ArcSwap::from_pointee(Set::load(configured, provider, now)?)))
    }

    /// Loads again and swaps; the old set stays when anything is wrong.
    ///
    /// # Errors
    /// As [`Certificates::load`].
    pub fn reload(
        &self,
        configured: &[Certificate],
        provider: &CryptoProvider,
        now: i64,
    ) -> Result<(), CertificateError> {
        self.0.store(Arc::new(Set::load(configured, provider, now)?));
        Ok(())
    }

    /// Takes over a set that was loaded apart.
    pub fn adopt(&self, other: Self) {
        self.0.store(other.0.into_inner());
    }

    /// What is loaded.
    pub fn status(&self) -> Vec<CertificateStatus> {
        self.0.load().status.clone()
    }

    /// Writes when each certificate and staple ends.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn metrics(&self, out: &mut dyn std::fmt::Write) -> std::fmt::Result {
        let status = self.status();
        type End = fn(&CertificateStatus) -> Option<i64>;
        let rows: [(&str, &str, End); 2] = [
            ("gateway_tls_certificate_not_after_seconds", "End of a certificate, since 1970.", |c| {
                c.not_after
            }),
            ("gateway_tls_staple_next_update_seconds", "End of an OCSP staple, since 1970.", |c| {
                c.staple_until
            }),
        ];
        for (name, help, end) in rows {
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge")?;
            for certificate in &status {
                let Some(end) = end(certificate) else { continue };
                let file =
                    certificate.file.as_ref().map_or("self-signed".into(), |f| f.display().to_string());
                let escape =
                    |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                let (file, first) =
                    (escape(&file), escape(certificate.names.first().map_or("", String::as_str)));
                writeln!(out, "{name}{{certificate=\"{file}\",name=\"{first}\"}} {end}")?;
            }
        }
        Ok(())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let set = self.0.load();
        Some(hello.server_name().map_or(&set.default, |name| set.choose(name)).clone())
    }
}

impl Set {
    fn load(
        configured: &[Certificate],
        provider: &CryptoProvider,
        now: i64,
    ) -> Result<Self, CertificateError> {
        let mut loaded = Vec::with_capacity(configured.len());
        for certificate in configured {
            let mut key = read(certificate, provider)?;
            let staple_until = staple(certificate, &mut key, now)?;
            loaded.push((Some(certificate.certificate.clone()), Arc::new(key), staple_until));
        }
        if loaded.is_empty() {
            loaded.push((None, Arc::new(self_signed(provider)?), None));
        }
        let default = loaded.first().map(|(_, key, _)| Arc::clone(key)).ok_or_else(|| {
            // Not reachable: the list was just filled.
            CertificateError::SelfSigned("there is none".to_owned())
        })?;
        let mut set = Self { exact: HashMap::new(), wildcard: HashMap::new(), default, status: Vec::new() };
        for (file, key, staple_until) in loaded {
            let end_entity = key.cert.first();
            let names: Vec<String> = end_entity
                .and_then(|c| {
                    webpki::EndEntityCert::try_from(c)
                        .ok()
                        .map(|e| e.valid_dns_names().map(str::to_ascii_lowercase).collect())
                })
                .unwrap_or_default();
            for name in &names {
                // The first certificate with a name keeps it.
                match name.strip_prefix("*.") {
                    Some(parent) => set.wildcard.entry(parent.to_owned()).or_insert_with(|| Arc::clone(&key)),
                    None => set.exact.entry(name.clone()).or_insert_with(|| Arc::clone(&key)),
                };
            }
            let not_after = end_entity.and_then(|c| der::not_after(c));
            set.status.push(CertificateStatus { file, names, not_after, staple_until });
        }
        Ok(set)
    }

    /// Exact names before wildcards (which stand for one label) before the first certificate of all.
    fn choose(&self, name: &str) -> &Arc<CertifiedKey> {
        // rustls gives the name in the case it came in.
        let lower;
        let name = if name.bytes().any(|b| b.is_ascii_uppercase()) {
            lower = name.to_ascii_lowercase();
            &lower
        } else {
            name
        };
        let wildcard = || name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
        self.exact.get(name).or_else(wildcard).unwrap_or(&self.default)
    }
}

/// Adds the staple, where there is one that is not past its time; until when it is good.
fn staple(
    certificate: &Certificate,
    key: &mut CertifiedKey,
    now: i64,
) -> Result<Option<i64>, CertificateError> {
    let (Some(file), Some(first)) = (&certificate.ocsp_file, key.cert.first()) else { return Ok(None) };
    let (bytes, staple) = ocsp::read(file, first).map_err(|reason| CertificateError::Staple {
        file: file.clone(),
        chain: certificate.certificate.clone(),
        reason,
    })?;
    if staple.next_update.is_none_or(|next| next > now) {
        key.ocsp = Some(bytes);
    }
    Ok(staple.next_update)
}

fn read(certificate: &Certificate, provider: &CryptoProvider) -> Result<CertifiedKey, CertificateError> {
    let (chain_file, key_file) = (&certificate.certificate, &certificate.key_file);
    let chain_error = |reason: String| CertificateError::Chain { file: chain_file.clone(), reason };
    let chain = CertificateDer::pem_file_iter(chain_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| chain_error(pem_reason(chain_file, &e)))?;
    if chain.is_empty() {
        return Err(chain_error("there is no certificate in it".to_owned()));
    }
    let key_error = |reason: String| CertificateError::Key { file: key_file.clone(), reason };
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|e| key_error(pem_reason(key_file, &e)))?;
    let key = provider.key_provider.load_private_key(key).map_err(|e| key_error(e.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // Unknown: the key type can't say what its public key is; the handshake would show it.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(CertificateError::Mismatch { chain: chain_file.clone(), key: key_file.clone() });
        }
        Err(e) => return Err(chain_error(e.to_string())),
    }
    Ok(certified)
}

fn pem_reason(file: &Path, error: &rustls::pki_types::pem::Error) -> String {
    match std::fs::metadata(file) {
        Err(e) => e.to_string(),
        Ok(_) => error.to_string(),
    }
}

fn self_signed(provider: &CryptoProvider) -> Result<CertifiedKey, CertificateError> {
    let fail = |e: String| CertificateError::SelfSigned(e);
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).map_err(|e| fail(e.to_string()))?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let key = provider.key_provider.load_private_key(key).map_err(|e| fail(e.to_string()))?;
    Ok(CertifiedKey::new(vec![made.cert.der().clone()], key))
}

#[cfg(test)]
mod tests;
