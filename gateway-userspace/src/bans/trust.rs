//! How far a client is trusted, and why: its history, its fingerprint, its behaviour against its
//! own past. Pure.
//!
//! Trust never bans by itself: it makes buckets a half smaller or twice as large, and every
//! decision records how it stood.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::slots::{Rank, Slots};
use super::traffic::{LONG_MS, Requests, SHORT_MS, client_network};
use super::{Offence, OffenceKind};
use crate::client::IpNetwork;

/// Most clients whose offences are remembered; of a few looked at, the one that offended longest ago leaves.
pub const MAX_CLIENTS: usize = 50_000;
/// Most offences that are remembered of one client: the last ones.
pub const MAX_OFFENCES: usize = 16;
/// Most fingerprints that are remembered of one client: the last ones.
pub const MAX_FINGERPRINTS: usize = 4;

/// An offence, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// The kind.
    pub kind: OffenceKind,
    /// How many of them at once.
    pub count: u32,
    /// WAF rules that matched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<u64>,
    /// The limit's, route's or listener's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Arc<str>>,
    /// The request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Arc<str>>,
}

/// What is remembered of one client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The last offences, the oldest first; at most [`MAX_OFFENCES`].
    pub offences: VecDeque<Noted>,
    /// All offences since the client is remembered.
    pub counts: BTreeMap<OffenceKind, u64>,
    /// TLS fingerprints that offended; at most [`MAX_FINGERPRINTS`].
    pub fingerprints: Vec<Arc<str>>,
    /// The last offence, in Unix milliseconds.
    pub last_ms: u64,
}

impl Rank for Record {
    fn rank(&self) -> u64 {
        self.last_ms
    }
}

/// Offenders of late, bounded.
#[derive(Debug)]
pub struct Memory {
    clients: Slots<IpNetwork, Record>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { clients: Slots::new(MAX_CLIENTS) }
    }
}

impl Memory {
    /// Remembers an offence; the client's record with it in.
    pub fn note(&mut self, offence: &Offence, count: u32) -> &Record {
        let record = self.clients.entry(&client_network(offence.client.addr()), Record::default);
        record.last_ms = record.last_ms.max(offence.at_ms);
        *record.counts.entry(offence.kind).or_default() += u64::from(count);
        if let Some(ja4) = &offence.ja4
            && !record.fingerprints.contains(ja4)
        {
            if record.fingerprints.len() == MAX_FINGERPRINTS {
                record.fingerprints.remove(0);
            }
            record.fingerprints.push(ja4.clone());
        }
        if record.offences.len() == MAX_OFFENCES {
            record.offences.pop_front();
        }
        record.offences.push_back(Noted {
            at_ms: offence.at_ms,
            kind: offence.kind,
            count,
            rules: offence.rules.clone(),
            subject: offence.subject.clone(),
            request: offence.request_id.clone(),
        });
        record
    }

    /// What is remembered of an address.
    pub fn of(&self, addr: IpAddr) -> Option<&Record> {
        self.clients.get(&client_network(addr))
    }

    /// Forgets a network's clients, or with none given those whose last offence is before `oldest_ms`.
    pub fn forget(&mut self, network: Option<&IpNetwork>, oldest_ms: u64) -> usize {
        let before = self.clients.len();
        self.clients.retain(|client, record| match network {
            Some(network) => !network.overlaps(client),
            None => record.last_ms >= oldest_ms,
        });
        before - self.clients.len()
    }

    /// Every client that is remembered.
    pub fn iter(&self) -> impl Iterator<Item = (&IpNetwork, &Record)> {
        self.clients.iter()
    }
}

/// A client's standing, from 0 (none) to 100 (full); 50 is a stranger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// 0 to 100.
    pub score: u8,
    /// What it is made of: points and why.
    pub parts: Vec<(i32, Arc<str>)>,
}

impl Trust {
    /// Weighs what is known.
    pub fn of(record: Option<&Record>, requests: Requests, earlier_bans: u32) -> Self {
        let mut parts: Vec<(i32, Arc<str>)> = Vec::new();
        let mut part = |points: i32, why: String| {
            if points != 0 {
                parts.push((points, why.into()));
            }
        };
        let offences: u64 = record.map_or(0, |r| r.counts.values().sum());
        let clean = requests.long - offences as f64;
        if clean >= 100.0 {
            // 100 clean requests are worth 10, ten thousand 20.
            part(((clean.log10() * 5.0) as i32).min(30), format!("{clean:.0} clean requests of late"));
        }
        if earlier_bans > 0 {
            part(-(earlier_bans.min(4) as i32 * 10), format!("banned {earlier_bans} times before"));
        }
        let kinds = record.map_or(0, |r| r.counts.len());
        if kinds > 1 {
            part(-((kinds as i32 - 1) * 5), format!("{kinds} kinds of offences"));
        }
        let prints = record.map_or(0, |r| r.fingerprints.len());
        if prints > 1 {
            part(-((prints as i32 - 1) * 5), format!("offended with {prints} TLS fingerprints"));
        }
        // A steady client's two counts relate as their half-lives do.
        let usual = requests.long * (SHORT_MS / LONG_MS);
        if requests.short > 100.0 && requests.long > 2.0 * requests.short && requests.short > usual * 10.0 {
            let times = requests.short / usual;
            part(-10, format!("asks for {times:.0} times as much as it used to"));
        }
        let sum: i32 = parts.iter().map(|(points, _)| points).sum();
        Self { score: (50 + sum).clamp(0, 100) as u8, parts }
    }

    /// How much of a bucket the client is given, in per cent: 50 with little trust, 200 with much.
    pub fn patience(&self) -> u32 {
        match self.score {
            0..=29 => 50,
            30..=69 => 100,
            70.. => 200,
        }
    }
}

impl std::fmt::Display for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of 100", self.score)?;
        let mut separator = ": ";
        for (points, why) in &self.parts {
            let mut signed = String::new();
            write!(signed, "{points:+}")?;
            write!(f, "{separator}{signed} {why}")?;
            separator = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_is_explained() {
        let mut record = Record::default();
        record.counts.insert(OffenceKind::Waf, 5);
        let mut shifty = record.clone();
        shifty.counts.insert(OffenceKind::NotFound, 5);
        shifty.fingerprints = vec!["a".into(), "b".into(), "c".into()];
        let requests = |short, long| Requests { short, long };
        let check = |record: Option<&Record>, requests, bans, text: &str, patience| {
            let trust = Trust::of(record, requests, bans);
            assert_eq!((trust.to_string().as_str(), trust.patience()), (text, patience));
        };
        check(None, requests(0.0, 0.0), 0, "50 of 100", 100);
        check(Some(&record), requests(5.0, 5.0), 0, "50 of 100", 100);
        check(Some(&record), requests(10.0, 20_005.0), 0, "71 of 100: +21 20000 clean requests of late", 200);
        check(Some(&record), requests(5.0, 5.0), 3, "20 of 100: -30 banned 3 times before", 50);
        check(
            Some(&shifty),
            requests(9.0, 9.0),
            0,
            "35 of 100: -5 2 kinds of offences, -10 offended with 3 TLS fingerprints",
            100,
        );
        check(
            None,
            requests(1000.0, 3000.0),
            0,
            "57 of 100: +17 3000 clean requests of late, -10 asks for 20 times as much as it used to",
            100,
        );
    }

    #[test]
    fn memory_is_bounded_and_forgets() {
        let mut memory = Memory::default();
        let client = crate::client::ClientId::direct("192.0.2.1".parse().expect("address"));
        for at_ms in 0..100 {
            memory.note(
                &Offence {
                    at_ms,
                    client,
                    kind: OffenceKind::Waf,
                    weight: 5,
                    rules: vec![1],
                    subject: None,
                    request_id: None,
                    ja4: Some(at_ms.to_string().into()),
                },
                2,
            );
        }
        let record = memory.of(client.addr()).expect("record");
        assert_eq!((record.offences.len(), record.fingerprints.len()), (MAX_OFFENCES, MAX_FINGERPRINTS));
        assert_eq!(record.counts.get(&OffenceKind::Waf), Some(&200));
        assert_eq!(memory.forget(None, 99), 0);
        assert_eq!(memory.forget(None, 100), 1);
        assert_eq!(memory.of(client.addr()), None);
    }
}
