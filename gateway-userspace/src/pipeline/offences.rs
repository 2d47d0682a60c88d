//! What of a request's end is an offence: what was refused, what the server said, what was asked for.

use super::{Pipeline, trace, trace::Trace};
use crate::bans::{Offence, OffenceKind};
use crate::client::ClientId;
use crate::config::bans::Offences as Counted;
use crate::inspect::WafDenial;
use crate::respond::Denial;
use std::net::IpAddr;
use std::sync::Arc;

/// The kind of offence that a refusal tells of, if it is one.
pub(super) fn of_denial(denial: &Denial) -> Option<OffenceKind> {
    match denial {
        Denial::Waf(WafDenial::Deny { .. } | WafDenial::Drop { .. } | WafDenial::Redirect { .. }) => {
            Some(OffenceKind::Waf)
        }
        Denial::Limited { .. } => Some(OffenceKind::Limit),
        Denial::NoRoute => Some(OffenceKind::NotFound),
        denial if denial.is_protocol_fault() => Some(OffenceKind::Protocol),
        denial if denial.is_slow() => Some(OffenceKind::Slow),
        _ => None,
    }
}

/// The kind of offence that a server's answer tells of, if it is one.
pub(super) fn of_answer(counted: &Counted, route: Option<&str>, status: u16) -> Option<OffenceKind> {
    if counted.not_found_statuses.contains(&status) {
        return Some(OffenceKind::NotFound);
    }
    let refused = counted.authentication_statuses.contains(&status);
    (refused && route.is_some_and(|route| counted.counts_authentication(route)))
        .then_some(OffenceKind::Authentication)
}

impl Pipeline {
    /// An offence of a connection: a TLS handshake or a PROXY header that failed, a violation of the protocol before
    /// there was a request. `listener` is its subject.
    pub fn connection_offended(&self, kind: OffenceKind, peer: IpAddr, listener: &Arc<str>) {
        self.offend(kind, 1, |offence| {
            offence.client = ClientId::direct(peer);
            offence.subject = Some(Arc::clone(listener));
        });
    }

    /// Tells how a request offended, where it did: by its refusal, or else by what the server answered; and beside
    /// either by its path.
    pub(super) fn judge(&self, trace: &Trace, denial: Option<&Denial>) {
        if !self.offences.is_on() || matches!(denial, Some(Denial::Banned { .. } | Denial::Challenged { .. }))
        {
            return;
        }
        let by_server = trace.server.is_some() && denial.is_none();
        let kind = denial.and_then(of_denial).or_else(|| {
            let status = trace.status.filter(|_| by_server)?;
            of_answer(&self.counted.load(), trace.route.as_deref(), status.as_u16())
        });
        let trapped = trace.is_honeypot.then_some(OffenceKind::Honeypot);
        // Where a trap has nothing behind it, that is no second offence.
        let kind = kind.filter(|kind| trapped.is_none() || *kind != OffenceKind::NotFound);
        for kind in kind.into_iter().chain(trapped) {
            let weight = if kind == OffenceKind::Waf { trace.findings.score.max(1) } else { 1 };
            self.offend(kind, u32::try_from(weight).unwrap_or(u32::MAX), |offence| {
                offence.client = trace.client;
                offence.rules.clone_from(&trace.findings.rules);
                offence.subject.clone_from(&trace.route);
                offence.request_id = Some(trace.request_id().into());
                offence.ja4 = trace.peer.tls.as_ref().and_then(|t| t.ja4.clone());
            });
        }
    }

    fn offend(&self, kind: OffenceKind, weight: u32, fill: impl FnOnce(&mut Offence)) {
        if self.offences.is_on() {
            let mut offence = Offence {
                at_ms: trace::unix_ns() / 1_000_000,
                client: ClientId::direct([0, 0, 0, 0].into()),
                kind,
                weight,
                rules: Vec::new(),
                subject: None,
                request_id: None,
                ja4: None,
            };
            fill(&mut offence);
            self.offences.tell(offence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_offences() {
        let counted = Counted { authentication_routes: vec!["login".into()], ..Counted::default() };
        let check = |route: Option<&str>, status, expected| {
            assert_eq!(of_answer(&counted, route, status), expected, "{route:?} {status}");
        };
        check(Some("login"), 401, Some(OffenceKind::Authentication));
        check(Some("login"), 403, Some(OffenceKind::Authentication));
        check(Some("login"), 404, Some(OffenceKind::NotFound));
        check(Some("login"), 200, None);
        check(Some("login"), 500, None);
        check(Some("shop"), 401, None);
        check(Some("shop"), 410, Some(OffenceKind::NotFound));
        check(None, 401, None);
        let everywhere = Counted { authentication_routes: vec!["*".into()], ..Counted::default() };
        assert_eq!(of_answer(&everywhere, Some("shop"), 401), Some(OffenceKind::Authentication));
    }
}
