//! `[limit_challenge]`: where clients over a limit with the action `challenge` are sent.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use crate::config::{Base, Problems};

/// Longest location, in bytes.
const MAX_LOCATION: usize = 1024;
/// Longest name of a cookie, in bytes.
const MAX_COOKIE: usize = 64;

/// `[limit_challenge]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawChallenge {
    location: Option<Spanned<String>>,
    secret_file: Option<String>,
    cookie: Option<Spanned<String>>,
}

/// Where clients over a limit go, and how they show that they have been there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// A path on this gateway, or an `https://` or `http://` address; at most 1024 bytes of visible ASCII.
    pub location: String,
    /// A file with the secret that clearances are signed with.
    pub secret_file: PathBuf,
    /// The cookie that holds a clearance; default `gateway_clearance`.
    pub cookie: String,
}

pub(super) fn check(raw: RawChallenge, base: &Base, problems: &mut Problems<'_>) -> Option<Challenge> {
    let (location, secret_file) = match (raw.location, raw.secret_file) {
        (None, None) if raw.cookie.is_none() => return None,
        (Some(location), Some(file)) => (location, file),
        _ => {
            problems.whole(
                "[limit_challenge] needs `location` and `secret_file`: give both, or leave the section out.",
            );
            return None;
        }
    };
    let text = location.get_ref();
    let leads = ["/", "https://", "http://"].iter().any(|begin| text.starts_with(begin));
    let is_plain = text.bytes().all(|b| b.is_ascii_graphic()) && !text.contains('#');
    if !leads || text.starts_with("//") || text == "/" || text.len() > MAX_LOCATION || !is_plain {
        problems.at(
            location.span(),
            "`location` is a path such as /challenge, or an https:// address, without spaces or `#`.",
        );
    }
    let cookie = raw.cookie.map(|cookie| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if !(1..=MAX_COOKIE).contains(&cookie.get_ref().len()) || !cookie.get_ref().bytes().all(plain) {
            problems.at(
                cookie.span(),
                "the name of a cookie has 1 to 64 letters, digits, dashes and underscores.",
            );
        }
        cookie.into_inner()
    });
    Some(Challenge {
        location: location.into_inner(),
        secret_file: base.path(&secret_file),
        cookie: cookie.unwrap_or_else(|| "gateway_clearance".into()),
    })
}
