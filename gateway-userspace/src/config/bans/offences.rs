//! `[bans.offences]`: what of a request's end counts as an offence.

use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use crate::config::Problems;

/// Most routes, statuses or paths in one list.
pub const MAX_LISTED: usize = 256;
/// Longest honeypot path, in bytes.
pub const MAX_PATH: usize = 256;

/// As written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawOffences {
    authentication_routes: Option<Spanned<Vec<String>>>,
    authentication_statuses: Option<Spanned<Vec<u16>>>,
    not_found_statuses: Option<Spanned<Vec<u16>>>,
    honeypots: Option<Spanned<Vec<String>>>,
}

/// What of a request's end counts as an offence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offences {
    /// Routes whose refused credentials count; `*` is every route. Default none: many applications answer 401 to
    /// whoever is not logged in yet.
    pub authentication_routes: Vec<Arc<str>>,
    /// Statuses of the server that say so; default 401 and 403.
    pub authentication_statuses: Vec<u16>,
    /// Statuses of the server that say that nothing is there; default 404 and 410. A request that no route takes counts too.
    pub not_found_statuses: Vec<u16>,
    /// Paths that only scanners ask for, compared after normalisation; one that ends in `*` is a beginning.
    pub honeypots: Vec<Arc<str>>,
}

/// What no site serves and no browser asks for: secrets that people leave lying around.
const HONEYPOTS: [&str; 8] = [
    "/.env",
    "/.env.*",
    "/.git/config",
    "/.git/HEAD",
    "/.aws/*",
    "/.ssh/*",
    "/.htpasswd",
    "/vendor/phpunit/*",
];

impl Default for Offences {
    fn default() -> Self {
        Self {
            authentication_routes: Vec::new(),
            authentication_statuses: vec![401, 403],
            not_found_statuses: vec![404, 410],
            honeypots: HONEYPOTS.map(Arc::from).into(),
        }
    }
}

impl Offences {
    /// Whether a normalised path is one that only scanners ask for.
    pub fn is_honeypot(&self, path: &[u8]) -> bool {
        self.honeypots.iter().any(|trap| match trap.strip_suffix('*') {
            Some(beginning) => path.starts_with(beginning.as_bytes()),
            None => path == trap.as_bytes(),
        })
    }

    /// Whether refused credentials on this route count.
    pub fn counts_authentication(&self, route: &str) -> bool {
        self.authentication_routes.iter().any(|listed| **listed == *route || **listed == *"*")
    }
}

pub(super) fn check(raw: RawOffences, problems: &mut Problems<'_>) -> Offences {
    let default = Offences::default();
    Offences {
        authentication_routes: raw.authentication_routes.map_or_else(Vec::new, |list| {
            bounded(&list, "authentication_routes", problems);
            list.into_inner().into_iter().map(Arc::from).collect()
        }),
        authentication_statuses: statuses(
            raw.authentication_statuses,
            "authentication_statuses",
            default.authentication_statuses,
            problems,
        ),
        not_found_statuses: statuses(
            raw.not_found_statuses,
            "not_found_statuses",
            default.not_found_statuses,
            problems,
        ),
        honeypots: raw.honeypots.map_or(default.honeypots, |list| {
            bounded(&list, "honeypots", problems);
            for path in list.get_ref() {
                if !path.starts_with('/') || path == "/*" || path == "/" || path.len() > MAX_PATH {
                    problems.at(
                        list.span(),
                        format!("`{path}`: a honeypot is a path from `/` on, such as /.env or /backup/*, of at most {MAX_PATH} bytes, and not everything."),
                    );
                }
            }
            list.into_inner().into_iter().map(Arc::from).collect()
        }),
    }
}

fn bounded<T>(list: &Spanned<Vec<T>>, name: &str, problems: &mut Problems<'_>) {
    if list.get_ref().len() > MAX_LISTED {
        problems.at(list.span(), format!("`{name}` has at most {MAX_LISTED} entries."));
    }
}

fn statuses(
    written: Option<Spanned<Vec<u16>>>,
    name: &str,
    default: Vec<u16>,
    problems: &mut Problems<'_>,
) -> Vec<u16> {
    let Some(list) = written else { return default };
    bounded(&list, name, problems);
    if list.get_ref().iter().any(|status| !(400..600).contains(status)) {
        problems.at(list.span(), format!("`{name}` are statuses from 400 to 599."));
    }
    list.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn honeypots_are_whole_paths_or_beginnings() {
        let offences = Offences::default();
        for (path, expected) in [
            ("/.env", true),
            ("/.env.local", true),
            ("/.environment", false),
            ("/app/.env", false),
            ("/.git/HEAD", true),
            ("/.git/HEADs", false),
            ("/.aws/credentials", true),
            ("/", false),
            ("/index.html", false),
        ] {
            assert_eq!(offences.is_honeypot(path.as_bytes()), expected, "{path}");
        }
    }
}
