//! Numbers of TLS handshakes, as Prometheus reads them.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::{AlertDescription, CipherSuite, Error, HandshakeKind, ProtocolVersion};

/// Suites that can be agreed on, with their names as RFC 8446 and RFC 5289 give them.
const SUITES: [(CipherSuite, &str); 9] = [
    (CipherSuite::TLS13_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256"),
    (CipherSuite::TLS13_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384"),
    (CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, "TLS_CHACHA20_POLY1305_SHA256"),
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDHE-ECDSA-AES256-GCM-SHA384"),
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-ECDSA-CHACHA20-POLY1305"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "ECDHE-RSA-AES128-GCM-SHA256"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "ECDHE-RSA-AES256-GCM-SHA384"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-RSA-CHACHA20-POLY1305"),
];

/// Why a connection got no further than its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It took longer than `handshake_timeout`.
    Timeout,
    /// The client went away; health checks of load balancers do.
    Gone,
    /// What came is not TLS, or broken.
    Malformed,
    /// No version, suite, group or protocol is common to both sides.
    Incompatible,
    /// A certificate is required, and none came.
    NoCertificate,
    /// The client's certificate is not good.
    BadCertificate,
    /// The client refuses ours: it said so by an alert.
    RefusedByClient,
    /// No PROXY header, a bad one, or one from somebody who may not send it.
    Proxy,
}

const FAILURES: [(Failure, &str); 8] = [
    (Failure::Timeout, "timeout"),
    (Failure::Gone, "client_gone"),
    (Failure::Malformed, "malformed"),
    (Failure::Incompatible, "incompatible"),
    (Failure::NoCertificate, "no_client_certificate"),
    (Failure::BadCertificate, "bad_client_certificate"),
    (Failure::RefusedByClient, "refused_by_client"),
    (Failure::Proxy, "proxy_header"),
];

impl Failure {
    /// What an error of a handshake stands for.
    pub(super) fn of(error: &io::Error) -> Self {
        match error.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
            None => Self::Gone,
            Some(Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(Error::InvalidCertificate(_)) => Self::BadCertificate,
            Some(
                Error::PeerIncompatible(_)
                | Error::NoApplicationProtocol
                | Error::AlertReceived(AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure),
            ) => Self::Incompatible,
            Some(Error::AlertReceived(_)) => Self::RefusedByClient,
            Some(_) => Self::Malformed,
        }
    }

    /// Whether it speaks against the client: an honest one may go away, or have an old list of suites.
    pub fn is_offence(self) -> bool {
        matches!(self, Self::Timeout | Self::Malformed | Self::BadCertificate | Self::Proxy)
    }
}

/// Counts handshakes of all listeners.
#[derive(Debug, Default)]
pub struct TlsNumbers {
    /// By suite; full, and resumed. The last row is for a suite that the table doesn't know.
    done: [[AtomicU64; 2]; SUITES.len() + 1],
    /// TLS 1.2 and 1.3.
    versions: [AtomicU64; 2],
    /// Full handshakes with a hello of the client's too many: it guessed another group.
    retried: AtomicU64,
    /// Clients that showed a good certificate.
    certificates: AtomicU64,
    failed: [AtomicU64; FAILURES.len()],
}

impl TlsNumbers {
    pub(super) fn done(
        &self,
        version: Option<ProtocolVersion>,
        suite: Option<CipherSuite>,
        kind: Option<HandshakeKind>,
        has_certificate: bool,
    ) {
        let row = SUITES.iter().position(|(known, _)| Some(*known) == suite).unwrap_or(SUITES.len());
        let is_resumed = kind == Some(HandshakeKind::Resumed);
        count(&self.done[row][usize::from(is_resumed)]);
        count(&self.versions[usize::from(version != Some(ProtocolVersion::TLSv1_2))]);
        if kind == Some(HandshakeKind::FullWithHelloRetryRequest) {
            count(&self.retried);
        }
        if has_certificate {
            count(&self.certificates);
        }
    }

    /// Counts a connection that failed.
    pub fn failed(&self, failure: Failure) {
        count(&self.failed[failure as usize]);
    }

    /// Writes the numbers.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn write(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let name = "gateway_tls_handshakes_total";
        writeln!(out, "# HELP {name} TLS handshakes done, by suite.\n# TYPE {name} counter")?;
        let suites = SUITES.iter().map(|(_, suite)| *suite).chain(["other"]);
        for (suite, row) in suites.zip(&self.done) {
            for (resumed, number) in row.iter().enumerate() {
                let n = get(number);
                if n > 0 {
                    writeln!(out, "{name}{{cipher=\"{suite}\",resumed=\"{}\"}} {n}", resumed == 1)?;
                }
            }
        }
        let name = "gateway_tls_versions_total";
        writeln!(out, "# HELP {name} TLS handshakes done, by version.\n# TYPE {name} counter")?;
        for (version, number) in ["TLSv1.2", "TLSv1.3"].iter().zip(&self.versions) {
            writeln!(out, "{name}{{version=\"{version}\"}} {}", get(number))?;
        }
        let name = "gateway_tls_handshakes_failed_total";
        writeln!(out, "# HELP {name} Connections whose handshake failed, by reason.\n# TYPE {name} counter")?;
        for ((_, reason), number) in FAILURES.iter().zip(&self.failed) {
            writeln!(out, "{name}{{reason=\"{reason}\"}} {}", get(number))?;
        }
        for (name, help, number) in [
            (
                "gateway_tls_hello_retries_total",
                "Handshakes with a second hello of the client.",
                &self.retried,
            ),
            (
                "gateway_tls_client_certificates_total",
                "Handshakes with a good client certificate.",
                &self.certificates,
            ),
        ] {
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {}", get(number))?;
        }
        Ok(())
    }
}

fn count(number: &AtomicU64) {
    number.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_by_reason() {
        let tls = |e: Error| io::Error::new(io::ErrorKind::InvalidData, e);
        for (error, expected, is_offence) in [
            (io::ErrorKind::UnexpectedEof.into(), Failure::Gone, false),
            (tls(Error::NoCertificatesPresented), Failure::NoCertificate, false),
            (tls(rustls::CertificateError::UnknownIssuer.into()), Failure::BadCertificate, true),
            (tls(Error::NoApplicationProtocol), Failure::Incompatible, false),
            (tls(Error::AlertReceived(AlertDescription::UnknownCA)), Failure::RefusedByClient, false),
            (tls(rustls::InvalidMessage::InvalidContentType.into()), Failure::Malformed, true),
        ] {
            let failure = Failure::of(&error);
            assert_eq!((failure, failure.is_offence()), (expected, is_offence), "{error}");
        }
        for (at, (failure, _)) in FAILURES.iter().enumerate() {
            assert_eq!(*failure as usize, at);
        }
    }

    #[test]
    fn written() {
        let numbers = TlsNumbers::default();
        let suite = Some(CipherSuite::TLS13_AES_128_GCM_SHA256);
        numbers.done(Some(ProtocolVersion::TLSv1_3), suite, Some(HandshakeKind::Resumed), true);
        numbers.failed(Failure::Timeout);
        let mut out = String::new();
        numbers.write(&mut out).expect("written");
        for line in [
            "gateway_tls_handshakes_total{cipher=\"TLS_AES_128_GCM_SHA256\",resumed=\"true\"} 1",
            "gateway_tls_versions_total{version=\"TLSv1.3\"} 1",
            "gateway_tls_handshakes_failed_total{reason=\"timeout\"} 1",
            "gateway_tls_client_certificates_total 1",
        ] {
            assert!(out.lines().any(|l| l == line), "{line} in:\n{out}");
        }
    }
}
