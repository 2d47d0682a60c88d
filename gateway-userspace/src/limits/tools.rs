//! What the command line asks: which limits there are, how a client stands, and to forget it.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Serialize;

use super::limiter::Limiter;
use super::policy::{Kind, Limit, Policy};
use super::request::LimitRequest;
use super::table::Key;
use super::window::{MARKS, Nanos};
use crate::client::ClientId;
use crate::config::limits::{Fallback, LimitMode, StoreKind};

/// One limit, as `limits list` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct LimitView {
    /// Its name.
    pub name: Arc<str>,
    /// Units in a window, or requests at a time.
    pub quota: u32,
    /// The window in milliseconds; none for a concurrency limit.
    pub window_ms: Option<u64>,
    /// `SlidingWindow`, `Gcra` or `Concurrency`.
    pub algorithm: String,
    /// Units that a mark of a sliding window stands for: how exact it is.
    pub grain: Option<u32>,
    /// What it counts by.
    pub key: Vec<String>,
    /// The routes it is bound to; none: all.
    pub routes: Vec<String>,
    /// Whether it refuses.
    pub mode: LimitMode,
    /// Where it is kept.
    pub store: Option<StoreKind>,
    /// What applies while Redis cannot be asked.
    pub fallback: Option<Fallback>,
    /// Decisions so far by outcome.
    pub decisions: Vec<(&'static str, u64)>,
}

/// How a client stands with one limit.
#[derive(Debug, Clone, Serialize)]
pub struct KeyView {
    /// The limit.
    pub limit: Arc<str>,
    /// Units left, or places free.
    pub remaining: u32,
    /// Milliseconds until more.
    pub reset_ms: u64,
    /// Whether the numbers come from Redis.
    pub from_redis: bool,
}

/// Why a tool could do nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// The text is not a part of a key.
    #[error(
        "`{0}` is not a part of a key: write such as address=192.0.2.1, header:x-key=abc, cookie:sid=1, query:q=1, \
         ja4=..., certificate=..., country=NL, asn=64500, path=/x, route=NAME or host=NAME"
    )]
    Part(String),
    /// There is no such limit.
    #[error("there is no limit `{0}`; `gateway limits list` names them all")]
    Limit(String),
    /// Redis could not be asked.
    #[error("Redis could not be asked: {0}")]
    Redis(String),
}

/// A client as the command line names it: parts of keys.
#[derive(Debug, Clone)]
pub struct Subject {
    client: ClientId,
    route: String,
    host: String,
    path: String,
    query: String,
    headers: HeaderMap,
    ja4: Option<String>,
    certificate: Option<String>,
    country: Option<String>,
    asn: Option<u32>,
}

impl Subject {
    /// Reads parts such as `address=192.0.2.1`.
    ///
    /// # Errors
    /// [`ToolError::Part`] for the first that is none.
    pub fn parse(parts: &[String]) -> Result<Self, ToolError> {
        let mut subject = Self {
            client: ClientId::direct(IpAddr::from([0, 0, 0, 0])),
            route: String::new(),
            host: String::new(),
            path: "/".into(),
            query: String::new(),
            headers: HeaderMap::new(),
            ja4: None,
            certificate: None,
            country: None,
            asn: None,
        };
        for part in parts {
            subject.add(part).ok_or_else(|| ToolError::Part(part.clone()))?;
        }
        Ok(subject)
    }

    fn add(&mut self, part: &str) -> Option<()> {
        let (name, value) = part.split_once('=')?;
        let text = Some(value.to_owned());
        match name.split_once(':') {
            Some(("header", header)) => {
                let header = HeaderName::try_from(header).ok()?;
                self.headers.insert(header, HeaderValue::try_from(value).ok()?);
            }
            Some(("cookie", cookie)) => {
                let value = HeaderValue::try_from(format!("{cookie}={value}")).ok()?;
                self.headers.append(http::header::COOKIE, value);
            }
            Some(("query", argument)) => self.query.extend(["&", argument, "=", value]),
            Some(_) => return None,
            None => match name {
                "address" => self.client = ClientId::direct(value.parse().ok()?),
                "ja4" => self.ja4 = text,
                "certificate" => self.certificate = text,
                "country" => self.country = text,
                "asn" => self.asn = Some(value.parse().ok()?),
                "path" => value.clone_into(&mut self.path),
                "route" => value.clone_into(&mut self.route),
                "host" => value.clone_into(&mut self.host),
                _ => return None,
            },
        }
        Some(())
    }

    fn request(&self, now: Nanos) -> LimitRequest<'_> {
        LimitRequest {
            client: self.client,
            route: &self.route,
            host: &self.host,
            method: &Method::GET,
            path: &self.path,
            query: Some(&self.query),
            headers: &self.headers,
            ja4: self.ja4.as_deref(),
            certificate: self.certificate.as_deref(),
            country: self.country.as_deref().and_then(|c| c.as_bytes().try_into().ok()),
            asn: self.asn,
            now,
        }
    }
}

impl Limiter {
    /// All limits that are not off.
    pub fn list(&self) -> Vec<LimitView> {
        self.inner.policy.get().limits.iter().map(LimitView::of).collect()
    }

    /// How a client stands with the limits that can be told from its parts, or with one of them. Takes nothing.
    ///
    /// # Errors
    /// As [`ToolError`] says.
    pub async fn show(
        &self,
        subject: &Subject,
        limit: Option<&str>,
        now: Nanos,
    ) -> Result<Vec<KeyView>, ToolError> {
        let policy = Arc::clone(&self.inner.policy.get());
        let mut views = Vec::new();
        for (limit, key, text) in self.matching(&policy, subject, limit, now)? {
            let shared = self.inner.shared.as_ref().filter(|_| limit.is_shared());
            views.push(match (&limit.kind, shared) {
                (Kind::Concurrency(most), _) => {
                    let remaining = most.saturating_sub(self.inner.running.now(key));
                    KeyView { limit: Arc::clone(&limit.name), remaining, reset_ms: 0, from_redis: false }
                }
                (Kind::Rate(rate), None) => {
                    let state = self.inner.local.get(key).map(|slot| slot.state).unwrap_or_default();
                    let verdict = state.peek(&rate.rule, now, 0);
                    KeyView {
                        limit: Arc::clone(&limit.name),
                        remaining: verdict.remaining,
                        reset_ms: verdict.reset.div_ceil(1_000_000),
                        from_redis: false,
                    }
                }
                (Kind::Rate(rate), Some(shared)) => {
                    let answer = shared.show(&text, &[(limit, rate)]).await.map_err(ToolError::Redis)?;
                    let (remaining, reset) = answer.first().copied().unwrap_or_default();
                    KeyView {
                        limit: Arc::clone(&limit.name),
                        remaining,
                        reset_ms: reset.div_ceil(1_000_000),
                        from_redis: true,
                    }
                }
            });
        }
        Ok(views)
    }

    /// Forgets what a client has used of the limits that can be told from its parts, or of one of them, here and
    /// in Redis (there: of all limits with the same key). Other nodes know it for as long as their leases and
    /// denials last, and their own count until it has left the window. Gives the names of the limits.
    ///
    /// # Errors
    /// As [`ToolError`] says; what is kept here is forgotten also when Redis cannot be asked.
    pub async fn reset(
        &self,
        subject: &Subject,
        limit: Option<&str>,
        now: Nanos,
    ) -> Result<Vec<Arc<str>>, ToolError> {
        let policy = Arc::clone(&self.inner.policy.get());
        let mut names = Vec::new();
        let mut failed = None;
        for (limit, key, text) in self.matching(&policy, subject, limit, now)? {
            self.inner.local.remove(key);
            if let Some(shared) = self.inner.shared.as_ref().filter(|_| limit.is_shared()) {
                failed = shared.reset(&text, &[key]).await.err().or(failed);
            }
            names.push(Arc::clone(&limit.name));
        }
        failed.map_or(Ok(names), |error| Err(ToolError::Redis(error)))
    }

    /// The limits that count the subject, with its key and that key's text in Redis.
    fn matching<'p>(
        &self,
        policy: &'p Policy,
        subject: &Subject,
        name: Option<&str>,
        now: Nanos,
    ) -> Result<Vec<(&'p Limit, Key, String)>, ToolError> {
        if let Some(name) = name.filter(|name| policy.find(name).is_none()) {
            return Err(ToolError::Limit(name.to_owned()));
        }
        let request = subject.request(now);
        let chosen = policy.limits.iter().filter(|limit| name.is_none_or(|name| *limit.name == *name));
        let found = chosen.filter_map(|limit| {
            let spec = policy.specs.get(usize::from(limit.spec))?;
            let key = spec.key.hash(&request, &self.inner.secret, &spec.hashing)?;
            Some((limit, key.salted(limit.salt), spec.key.redis_text(&request)?))
        });
        Ok(found.collect())
    }
}

impl LimitView {
    fn of(limit: &Limit) -> Self {
        let rate = match &limit.kind {
            Kind::Rate(rate) => Some(rate),
            Kind::Concurrency(_) => None,
        };
        Self {
            name: Arc::clone(&limit.name),
            quota: limit.quota(),
            window_ms: rate.map(|rate| rate.rule.window() / 1_000_000),
            algorithm: rate
                .map_or_else(|| "Concurrency".into(), |rate| format!("{:?}", rate.rule.algorithm())),
            grain: rate.map(|rate| rate.rule.quota().div_ceil(MARKS)),
            key: limit.config.key.iter().map(ToString::to_string).collect(),
            routes: limit.config.scope.routes.clone(),
            mode: limit.config.mode,
            store: rate.map(|rate| rate.store),
            fallback: rate.filter(|rate| rate.store == StoreKind::Redis).map(|rate| rate.fallback),
            decisions: limit.metrics.rows().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Asked, START};
    use super::super::{Check, Decision};
    use super::*;
    use crate::config::Config;

    fn subject(parts: &[&str]) -> Result<Subject, ToolError> {
        Subject::parse(&parts.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>())
    }

    #[tokio::test]
    async fn shows_and_forgets() {
        let text = "[[limits]]\nname = \"a\"\nquota = 5\nwindow = \"1m\"\n[[limits]]\nname = \"k\"\nquota = 9\n\
                    window = \"1m\"\nkey = [\"header:x-key\"]\nabsent = \"skip\"\n[[limits]]\nname = \"c\"\nconcurrency = 3";
        let config = Config::parse(std::path::Path::new("/g.toml"), text).expect("valid");
        let limiter = Limiter::new(&config.limits, [1, 2]);
        let mut open = Vec::new();
        for _ in 0..2 {
            Asked::from("192.0.2.1").header("x-key", "x").with(|request| match limiter.check(request) {
                Check::Done(Decision::Allowed(permit)) => open.push(permit),
                _ => panic!("allowed"),
            });
        }
        let who = subject(&["address=192.0.2.1", "header:x-key=x"]).expect("parts");
        let stand = |views: Vec<KeyView>| -> Vec<(String, u32)> {
            views.iter().map(|v| (v.limit.to_string(), v.remaining)).collect()
        };
        let seen = stand(limiter.show(&who, None, START).await.expect("local"));
        assert_eq!(seen, [("a".to_owned(), 3), ("k".to_owned(), 7), ("c".to_owned(), 1)]);
        assert_eq!(limiter.reset(&who, Some("k"), START).await.expect("local").len(), 1);
        let seen = stand(limiter.show(&who, None, START).await.expect("local"));
        assert_eq!(seen, [("a".to_owned(), 3), ("k".to_owned(), 9), ("c".to_owned(), 1)]);
        let other = subject(&["address=192.0.2.2"]).expect("parts");
        assert_eq!(
            stand(limiter.show(&other, None, START).await.expect("local")).len(),
            2,
            "without a key, no `k`"
        );
        assert_eq!(limiter.list().len(), 3);
        let unknown = limiter.show(&who, Some("x"), START).await.expect_err("no such limit");
        assert_eq!(unknown, ToolError::Limit("x".into()));
        for bad in ["address", "address=x", "header:=1", "colour=red", "asn=x"] {
            assert_eq!(subject(&[bad]).expect_err(bad), ToolError::Part(bad.into()));
        }
    }
}
