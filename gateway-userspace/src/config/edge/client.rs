//! `[client]`: whom to believe about a client's address.

use serde::Deserialize;
use toml::Spanned;

pub use crate::client::ForwardedHeader;
use crate::client::IpNetwork;
use crate::config::Problems;

/// Most entries of `trusted_proxies`.
pub const MAX_TRUSTED: usize = 4096;

/// `[client]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawClient {
    trusted_proxies: Option<Spanned<Vec<IpNetwork>>>,
    forwarded_header: ForwardedHeader,
}

/// Client identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Networks whose forwarding headers and PROXY headers are believed; default: none.
    /// At most 4,096.
    pub trusted_proxies: Vec<IpNetwork>,
    /// Default `x-forwarded-for`.
    pub forwarded_header: ForwardedHeader,
}

pub(super) fn check(raw: RawClient, problems: &mut Problems<'_>) -> Client {
    let trusted_proxies = raw.trusted_proxies.map_or_else(Vec::new, |list| {
        if list.get_ref().len() > MAX_TRUSTED {
            problems.at(list.span(), format!("`trusted_proxies` holds at most {MAX_TRUSTED} networks."));
        }
        list.into_inner()
    });
    Client { trusted_proxies, forwarded_header: raw.forwarded_header }
}
