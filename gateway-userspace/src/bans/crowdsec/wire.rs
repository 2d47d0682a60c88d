//! The local API's answers. Pure.

use std::sync::Arc;

use serde::Deserialize;

use super::action;
use crate::bans::scope::{canonical, country};
use crate::bans::{Action, Scope};
use crate::client::IpNetwork;

/// An answer of `/v1/decisions/stream`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct News {
    /// Decisions that are new, or all.
    pub new: Option<Vec<WireDecision>>,
    /// Decisions that ended or were deleted.
    pub deleted: Option<Vec<WireDecision>>,
}

/// A decision of the local API.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct WireDecision {
    /// Its id.
    pub id: i64,
    /// `ban`, `captcha` or another.
    #[serde(rename = "type")]
    pub kind: String,
    /// `Ip`, `Range`, `AS` or another.
    pub scope: String,
    /// The address, range or number.
    pub value: String,
    /// What is left of it, as Go writes durations.
    pub duration: String,
    /// Why.
    pub scenario: String,
    /// Who decided: `crowdsec`, `cscli`, `CAPI`, `lists`.
    pub origin: String,
}

/// A decision as it is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What is done.
    pub action: Action,
    /// Unix milliseconds.
    pub end_ms: u64,
    /// Why.
    pub reason: Arc<str>,
}

/// The decision's scope and what it means here; none where type, scope or value are not known.
pub fn entry(decision: &WireDecision, now_ms: u64) -> Option<(Scope, Entry)> {
    let scope = match decision.scope.to_ascii_lowercase().as_str() {
        "ip" => Scope::Network(canonical(IpNetwork::host(decision.value.parse().ok()?))),
        "range" => {
            let (addr, prefix) = decision.value.split_once('/')?;
            let (addr, prefix): (std::net::IpAddr, u8) = (addr.parse().ok()?, prefix.parse().ok()?);
            Scope::Network(canonical(IpNetwork::containing(addr, prefix)))
        }
        "as" => Scope::Asn(decision.value.trim_start_matches("AS").parse().ok()?),
        "country" => Scope::Country(country(&decision.value)?),
        _ => return None,
    };
    let action = action(&decision.kind, &scope)?;
    let reason = format!("{} ({})", decision.scenario, decision.origin).into();
    let end_ms = now_ms.saturating_add(go_duration_ms(&decision.duration)?);
    Some((scope, Entry { action, end_ms, reason }))
}

/// Milliseconds of a Go duration such as `3h59m57.2s` or `850.5ms`; one below zero is 0.
pub fn go_duration_ms(text: &str) -> Option<u64> {
    if text.starts_with('-') {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += number
            * match rest.get(..unit)? {
                "h" => 3_600_000.0,
                "m" => 60_000.0,
                "s" => 1000.0,
                "ms" => 1.0,
                "us" | "µs" => 0.001,
                "ns" => 0.000_001,
                _ => return None,
            };
        rest = rest.get(unit..)?;
    }
    (!text.is_empty()).then_some(total as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go() {
        for (text, expected) in [
            ("3h59m57.2s", Some(14_397_200)),
            ("167h59m59.998561s", Some(604_799_998)),
            ("850.5ms", Some(850)),
            ("12µs", Some(0)),
            ("-4m2s", Some(0)),
            ("0s", Some(0)),
            ("", None),
            ("4", None),
            ("4d", None),
            ("h", None),
        ] {
            assert_eq!(go_duration_ms(text), expected, "{text}");
        }
    }

    #[test]
    fn scopes_and_types() {
        for (kind, scope, value, expected) in [
            ("ban", "Ip", "192.0.2.1", Some(("192.0.2.1", Action::KernelBan))),
            ("ban", "Ip", "::ffff:192.0.2.1", Some(("192.0.2.1", Action::KernelBan))),
            ("ban", "Range", "192.0.2.9/24", Some(("192.0.2.0/24", Action::KernelBan))),
            ("captcha", "ip", "2001:db8::1", Some(("2001:db8::1", Action::Challenge))),
            ("ban", "AS", "64500", Some(("asn:64500", Action::L7Deny))),
            ("ban", "Country", "FR", Some(("country:FR", Action::L7Deny))),
            ("ban", "Country", "France", None),
            ("throttle", "Ip", "192.0.2.1", None),
            ("ban", "Ip", "no address", None),
        ] {
            let decision = WireDecision {
                kind: kind.into(),
                scope: scope.into(),
                value: value.into(),
                duration: "1h".into(),
                ..WireDecision::default()
            };
            let got = entry(&decision, 0).map(|(scope, entry)| (scope.to_string(), entry.action));
            assert_eq!(got, expected.map(|(s, a)| (s.to_owned(), a)), "{kind} {scope} {value}");
        }
    }
}
