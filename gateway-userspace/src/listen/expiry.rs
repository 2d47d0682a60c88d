//! When certificates and staples end, told in time.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;

use super::CertificateStatus;

const DAY: i64 = 86_400;
/// Days before the end at which an operator is told, the closest first.
const TOLD_AT: [i64; 3] = [0, 7, 30];

/// What an operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The certificate's file; none for the self-signed one.
    pub file: Option<PathBuf>,
    /// Its names.
    pub names: Vec<String>,
    /// Whole days that are left; negative past the end.
    pub days: i64,
    /// Whether it is about the staple.
    pub is_staple: bool,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_staple { "the OCSP staple of the certificate" } else { "the certificate" };
        match &self.file {
            Some(file) => write!(f, "{what} {}", file.display())?,
            None => write!(f, "the self-signed certificate")?,
        }
        write!(f, " ({})", self.names.join(", "))?;
        match self.days {
            ..0 => f.write_str(" has expired")?,
            0 => f.write_str(" ends within a day")?,
            days => write!(f, " ends in {days} days")?,
        }
        f.write_str(if self.is_staple { ": fetch a new one" } else { ": renew it" })
    }
}

/// Remembers what was told, so that each thing is told once.
#[derive(Debug, Default)]
pub struct Expiry {
    told: HashSet<(Option<PathBuf>, i64, i64)>,
}

impl Expiry {
    /// What to tell of these certificates at `now` (seconds since 1970) that was not told before: at 30, 7 and 0 days,
    /// and an outdated staple.
    pub fn look(&mut self, certificates: &[CertificateStatus], now: i64) -> Vec<Warning> {
        // What is no longer loaded is forgotten, which bounds the memory by the certificates.
        self.told.retain(|(file, end, _)| {
            certificates
                .iter()
                .any(|c| c.file == *file && (c.not_after == Some(*end) || c.staple_until == Some(*end)))
        });
        let mut warnings = Vec::new();
        for certificate in certificates.iter().filter(|c| c.file.is_some()) {
            if let Some(end) = certificate.not_after {
                let left = end - now;
                let reached = TOLD_AT.iter().find(|days| left <= *days * DAY);
                if let Some(reached) = reached
                    && self.told.insert((certificate.file.clone(), end, *reached))
                {
                    warnings.push(warning(certificate, left, false));
                }
            }
            if let Some(end) = certificate.staple_until
                && end <= now
                && self.told.insert((certificate.file.clone(), end, -1))
            {
                warnings.push(warning(certificate, end - now, true));
            }
        }
        warnings
    }
}

fn warning(certificate: &CertificateStatus, left: i64, is_staple: bool) -> Warning {
    Warning {
        file: certificate.file.clone(),
        names: certificate.names.clone(),
        days: left.div_euclid(DAY),
        is_staple,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(file: &str, not_after: i64, staple_until: Option<i64>) -> CertificateStatus {
        CertificateStatus {
            file: Some(file.into()),
            names: vec!["a.test".to_owned()],
            not_after: Some(not_after),
            staple_until,
        }
    }

    #[test]
    fn each_threshold_once() {
        let mut expiry = Expiry::default();
        let end = 1_000 * DAY;
        let loaded = [certificate("a.pem", end, None), certificate("b.pem", end + 365 * DAY, None)];
        let mut told = Vec::new();
        for hour in 0..(45 * 24) {
            let now = end - 40 * DAY + hour * 3600;
            told.extend(expiry.look(&loaded, now).into_iter().map(|w| (w.days, hour / 24)));
        }
        assert_eq!(told, [(30, 10), (7, 33), (0, 40)]);
        // A renewed one is watched anew, and the old one is forgotten.
        let renewed = [certificate("a.pem", end + 20 * DAY, None)];
        assert_eq!(expiry.look(&renewed, end).len(), 1);
        assert_eq!(expiry.told.len(), 1);
    }

    #[test]
    fn an_outdated_staple_is_told_once() {
        let mut expiry = Expiry::default();
        let loaded = [certificate("a.pem", 1_000 * DAY, Some(50))];
        assert_eq!(expiry.look(&loaded, 49), []);
        let warnings = expiry.look(&loaded, 50);
        assert!(
            warnings[0].to_string().contains("OCSP staple of the certificate a.pem (a.test) ends"),
            "{warnings:?}"
        );
        assert_eq!(expiry.look(&loaded, 60), []);
    }
}
