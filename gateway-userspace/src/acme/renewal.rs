//! When to order: at once where there is no certificate, else when the authority suggests (ARI,
//! RFC 9773), else when a third of the certificate's life is left.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use instant_acme::{Account, CertificateIdentifier};
use rustls::pki_types::CertificateDer;

use super::order::{account, obtain};
use super::store::Store;
use super::{AcmeError, Challenges, Changed, LONGEST_PAUSE, Settings};

/// Longest sleep between looks at a certificate; a laptop's lid or a moved clock is noticed by then.
const LONGEST_SLEEP: Duration = Duration::from_hours(6);

/// Keeps every certificate of `settings` fresh. Never ends; drop the future to stop it. An attempt that
/// fails is logged and repeated after a pause that doubles; the old certificate stays until then.
pub async fn run(settings: Settings, challenges: Arc<Challenges>, changed: Changed) {
    let mut pause = settings.retry;
    loop {
        match round(&settings, &challenges, &changed).await {
            Ok(next) => {
                pause = settings.retry;
                tokio::time::sleep(next.min(LONGEST_SLEEP)).await;
            }
            Err(e) => {
                tracing::warn!(directory = settings.directory, pause_s = pause.as_secs(), "ACME: {e}");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Looks at every certificate and renews what is due; the time until the next look.
async fn round(
    settings: &Settings,
    challenges: &Challenges,
    changed: &Changed,
) -> Result<Duration, AcmeError> {
    let store = Store::open(&settings.folder)?;
    let account = account(settings, &store).await?;
    let mut next = LONGEST_SLEEP;
    let mut failure = None;
    for names in &settings.certificates {
        let Some(first) = names.first() else { continue };
        let old = store.certificate(first);
        let (wait, replaces) = match &old {
            None => (Duration::ZERO, None),
            Some(certificate) => until_due(&account, certificate).await,
        };
        if !wait.is_zero() {
            next = next.min(wait);
            continue;
        }
        match obtain(&account, names, settings, &store, challenges, replaces).await {
            Ok(()) => {
                tracing::info!(certificate = first, renewed = old.is_some(), "ACME certificate obtained");
                changed(first);
                // When it is due by its dates; not at once, whatever they say.
                let fresh = store.certificate(first).as_ref().and_then(until_third_left);
                next = fresh.filter(|wait| !wait.is_zero()).map_or(next, |wait| next.min(wait));
            }
            // One name's fault must not keep the others from renewal.
            Err(e) => {
                if e.is_account_lost() {
                    store.forget_account()?;
                }
                failure = Some(e);
            }
        }
    }
    failure.map_or(Ok(next), Err)
}

/// The time until a certificate is due, and how the authority knows it where that suggests times: others don't take
/// an order that says what it replaces.
async fn until_due(
    account: &Account,
    certificate: &CertificateDer<'_>,
) -> (Duration, Option<CertificateIdentifier<'static>>) {
    let now = SystemTime::now();
    if let Ok(id) = CertificateIdentifier::try_from(certificate)
        && let Ok((info, check_again)) = account.renewal_info(&id).await
    {
        // The window's start spreads well enough here: windows differ by certificate.
        let start = u64::try_from(info.suggested_window.start.unix_timestamp()).unwrap_or(0);
        let due = (UNIX_EPOCH + Duration::from_secs(start)).duration_since(now).unwrap_or_default();
        let wait = if due.is_zero() { due } else { due.min(check_again.max(Duration::from_mins(1))) };
        return (wait, Some(id));
    }
    (until_third_left(certificate).unwrap_or_default(), None)
}

/// Time until a third of a certificate's life is left; none when it can't be read.
fn until_third_left(certificate: &CertificateDer<'_>) -> Option<Duration> {
    let (from, to) = validity(certificate)?;
    Some(third_left(from, to, SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()))
}

/// Time from `now` until a third of the life from `from` to `to` is left; all since the epoch.
fn third_left(from: Duration, to: Duration, now: Duration) -> Duration {
    to.saturating_sub(to.saturating_sub(from) / 3).saturating_sub(now)
}

fn validity(certificate: &CertificateDer<'_>) -> Option<(Duration, Duration)> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let seconds = |at: i64| u64::try_from(at).ok().map(Duration::from_secs);
    let validity = parsed.validity();
    Some((seconds(validity.not_before.timestamp())?, seconds(validity.not_after.timestamp())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_when_a_third_is_left() {
        let days = |d: u64| Duration::from_hours(24 * d);
        for (now, expected) in [(0, 60), (59, 1), (60, 0), (89, 0), (200, 0)] {
            assert_eq!(third_left(days(0), days(90), days(now)), days(expected), "day {now}");
        }
    }
}
