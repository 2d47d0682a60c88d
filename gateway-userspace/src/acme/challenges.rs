//! What the authority asks for while it validates a name.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use rustls::sign::CertifiedKey;

/// Most proofs waiting at once, of each kind; a further one is not kept and its order fails.
pub const MAX_PENDING: usize = 128;

/// The ALPN protocol of a validation over TLS (RFC 8737 section 6.2).
pub const TLS_ALPN_PROTOCOL: &[u8] = b"acme-tls/1";

/// Proofs by token and by name. Empty but for the seconds of a validation, so a look-up is one
/// uncontended read lock of an empty map.
#[derive(Debug, Default)]
pub struct Challenges {
    tokens: RwLock<HashMap<String, String>>,
    certificates: RwLock<HashMap<String, Arc<CertifiedKey>>>,
}

impl Challenges {
    /// The body for `/.well-known/acme-challenge/TOKEN`.
    pub fn http_01(&self, token: &str) -> Option<String> {
        self.tokens.read().ok()?.get(token).cloned()
    }

    /// The certificate for a handshake that offers `acme-tls/1` alone and names `name`.
    pub fn tls_alpn_01(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.certificates.read().ok()?.get(name).cloned()
    }

    pub(super) fn put_token(&self, token: &str, body: &str) {
        if let Ok(mut tokens) = self.tokens.write()
            && tokens.len() < MAX_PENDING
        {
            tokens.insert(token.to_owned(), body.to_owned());
        }
    }

    pub(super) fn put_certificate(&self, name: &str, certificate: CertifiedKey) {
        if let Ok(mut certificates) = self.certificates.write()
            && certificates.len() < MAX_PENDING
        {
            certificates.insert(name.to_owned(), Arc::new(certificate));
        }
    }

    pub(super) fn clear(&self) {
        // A poisoned lock means a panic elsewhere; there is nothing left to clear for.
        let _ = self.tokens.write().map(|mut tokens| tokens.clear());
        let _ = self.certificates.write().map(|mut certificates| certificates.clear());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_and_cleared() {
        let challenges = Challenges::default();
        for i in 0..MAX_PENDING + 5 {
            challenges.put_token(&format!("t{i}"), "proof");
        }
        assert_eq!(challenges.http_01("t0").as_deref(), Some("proof"));
        assert_eq!(challenges.http_01(&format!("t{MAX_PENDING}")), None);
        challenges.clear();
        assert_eq!(challenges.http_01("t0"), None);
    }
}
