//! `[[bans.feeds]]` and `[bans.geo]`: lists of networks, and databases of countries and systems.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::terms::Action;
use crate::config::{Base, Problems, Size, Span};

/// Most feeds.
pub const MAX_FEEDS: usize = 64;
/// Most networks that a feed may be allowed.
pub const MAX_ENTRIES: usize = 2_000_000;

/// As written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawFeed {
    name: Spanned<String>,
    #[serde(default)]
    file: Option<Spanned<String>>,
    #[serde(default)]
    url: Option<Spanned<String>>,
    #[serde(default)]
    sha256_url: Option<Spanned<String>>,
    #[serde(default)]
    sha256: Option<Spanned<String>>,
    #[serde(default)]
    minisign_key: Option<Spanned<String>>,
    #[serde(default)]
    signature: Option<Spanned<String>>,
    #[serde(default)]
    format: Format,
    #[serde(default)]
    column: Option<Spanned<usize>>,
    #[serde(default)]
    action: Option<Spanned<Action>>,
    #[serde(default)]
    interval: Option<Spanned<Span>>,
    #[serde(default)]
    max_bytes: Option<Spanned<Size>>,
    #[serde(default)]
    max_entries: Option<Spanned<usize>>,
}

/// How a list is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// An address or a network a line; `#` and `;` begin comments. Also what `.netset` files are.
    #[default]
    Plain,
    /// The same.
    Netset,
    /// Spamhaus DROP as JSON: an object with `cidr` a line.
    DropJson,
    /// Comma-separated values; `column` tells which holds the network.
    Csv,
}

/// Where a list comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file, read again when it changes.
    File(PathBuf),
    /// An address of the web, `https://` or `http://` of this host.
    Url(Arc<str>),
}

/// A signature of minisign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The public key, in base64, as `minisign -G` prints it.
    pub key: Arc<str>,
    /// Where the signature is; default the list's own place with `.minisig` after it.
    pub signature: Source,
}

/// A list of networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    /// 1 to 64 letters, digits, `-`, `_` or `.`; unique.
    pub name: Arc<str>,
    /// Exactly one of `file` and `url`.
    pub source: Source,
    /// Where the SHA-256 of the list is, in hexadecimal, first on its line; default none.
    pub sha256_url: Option<Arc<str>>,
    /// The SHA-256 that the list must have, 64 hexadecimal digits, in lower case; default any.
    pub sha256: Option<Arc<str>>,
    /// Whose signature the list must have; default nobody's.
    pub signed: Option<Signed>,
    /// Default `plain`.
    pub format: Format,
    /// Of `csv`: the column with the network, from 1; default 1.
    pub column: usize,
    /// `kernel-ban` (default), `l7-deny` or `observe`.
    pub action: Action,
    /// How often it is looked for anew; default 1 h, 10 s to 7 d.
    pub interval: Duration,
    /// Largest list that is read; default 32 MiB, at most 256 MiB.
    pub max_bytes: u64,
    /// Most networks; default 1,000,000, at most [`MAX_ENTRIES`]. A longer list is refused whole.
    pub max_entries: usize,
}

/// `[bans.geo]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawGeo {
    country: Option<String>,
    asn: Option<String>,
}

/// Databases in MaxMind's format, read again when they change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Geo {
    /// Countries; default none.
    pub country: Option<PathBuf>,
    /// Autonomous systems; default none.
    pub asn: Option<PathBuf>,
}

pub(super) fn check_geo(raw: RawGeo, base: &Base) -> Geo {
    Geo { country: raw.country.map(|p| base.path(&p)), asn: raw.asn.map(|p| base.path(&p)) }
}

pub(super) fn check(raw: Vec<RawFeed>, base: &Base, problems: &mut Problems<'_>) -> Vec<Feed> {
    let mut feeds: Vec<Feed> = Vec::new();
    for one in raw {
        let span = one.name.span();
        let Some(feed) = check_one(one, base, problems) else { continue };
        if feeds.len() == MAX_FEEDS {
            problems.at(span, format!("at most {MAX_FEEDS} feeds."));
            break;
        }
        if feeds.iter().any(|f| f.name == feed.name) {
            problems.at(span, format!("feed `{}` is written twice; rename one.", feed.name));
        }
        feeds.push(feed);
    }
    feeds
}

fn check_one(raw: RawFeed, base: &Base, problems: &mut Problems<'_>) -> Option<Feed> {
    let name_span = raw.name.span();
    if !super::is_name(raw.name.get_ref()) {
        problems.at(raw.name.span(), "a feed's name has 1 to 64 letters, digits, `-`, `_` or `.`.");
    }
    let source = match (raw.file, raw.url) {
        (Some(file), None) => Source::File(base.path(file.get_ref())),
        (None, Some(url)) => Source::Url(web_address(&url, problems)),
        _ => {
            problems.at(name_span, "a feed has either `file` or `url`.");
            return None;
        }
    };
    let sha256 = raw.sha256.map(|sum| {
        let text = sum.get_ref().to_ascii_lowercase();
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            problems.at(sum.span(), "`sha256` has 64 hexadecimal digits, as `sha256sum FILE` prints them.");
        }
        Arc::from(text)
    });
    let signed = signed(raw.minisign_key, raw.signature, &source, base, problems);
    let sha256_url = raw.sha256_url.map(|url| web_address(&url, problems));
    if let Some(action) = &raw.action
        && *action.get_ref() == Action::Challenge
    {
        problems.at(action.span(), "a feed's action is `kernel-ban`, `l7-deny` or `observe`.");
    }
    let max_bytes = raw.max_bytes.map_or(32 << 20, |size| {
        if !(1..=256 << 20).contains(&size.get_ref().0) {
            problems.at(size.span(), "`max_bytes` is at most 256MiB.");
        }
        size.get_ref().0
    });
    Some(Feed {
        name: raw.name.into_inner().into(),
        source,
        sha256_url,
        sha256,
        signed,
        format: raw.format,
        column: super::within(raw.column, 1, 1..=1000, "column", problems),
        action: raw.action.map_or(Action::KernelBan, Spanned::into_inner),
        interval: super::lasting(
            raw.interval,
            Duration::from_hours(1),
            Duration::from_secs(10)..=Duration::from_hours(24 * 7),
            "`interval` is from 10s to 7d; many lists ask for an hour at least.",
            problems,
        ),
        max_bytes,
        max_entries: super::within(raw.max_entries, 1_000_000, 1..=MAX_ENTRIES, "max_entries", problems),
    })
}

fn signed(
    key: Option<Spanned<String>>,
    signature: Option<Spanned<String>>,
    list: &Source,
    base: &Base,
    problems: &mut Problems<'_>,
) -> Option<Signed> {
    let Some(key) = key else {
        if let Some(signature) = signature {
            problems.at(
                signature.span(),
                "a `signature` is checked with a `minisign_key`: name the key as well.",
            );
        }
        return None;
    };
    // A key: the two letters of its algorithm, eight bytes of its number, 32 of itself; in base64 without a rest.
    if key.get_ref().len() != 56 || !key.get_ref().starts_with("RW") {
        problems.at(
            key.span(),
            "`minisign_key` is the public key that `minisign -G` prints: 56 characters that begin with RW.",
        );
    }
    let signature = match (signature, list) {
        (Some(at), Source::Url(_)) => Source::Url(web_address(&at, problems)),
        (Some(at), Source::File(_)) => Source::File(base.path(at.get_ref())),
        (None, Source::Url(url)) => Source::Url(format!("{url}.minisig").into()),
        (None, Source::File(path)) => {
            let mut name = path.as_os_str().to_owned();
            name.push(".minisig");
            Source::File(name.into())
        }
    };
    Some(Signed { key: key.into_inner().into(), signature })
}

fn web_address(url: &Spanned<String>, problems: &mut Problems<'_>) -> Arc<str> {
    let text = url.get_ref().as_str();
    let local =
        ["http://127.", "http://localhost", "http://[::1]"].iter().any(|start| text.starts_with(start));
    if !text.starts_with("https://") && !local {
        problems.at(
            url.span(),
            "a list that bans people comes over https:// (http:// only from this host): else anyone on the way could write it.",
        );
    }
    text.into()
}
