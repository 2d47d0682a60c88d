//! Which route takes a request.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, Method};
use regex::bytes::Regex;

use crate::config::edge::{PathMatch, Route};

/// Routes ready to be matched: by host, then by path.
#[derive(Debug, Default)]
pub(super) struct Router {
    routes: Vec<Compiled>,
    /// Indexes in `routes`, the most specific path first.
    exact: HashMap<String, Vec<usize>>,
    wildcard: HashMap<String, Vec<usize>>,
    any: Vec<usize>,
}

#[derive(Debug)]
struct Compiled {
    route: Arc<Route>,
    methods: Option<Vec<Method>>,
    regex: Option<Regex>,
}

/// Why no route takes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoRoute {
    /// No route has the host and the path.
    Path,
    /// A route has them, but not the method; the methods it has.
    Method(Arc<str>),
}

impl Router {
    /// Compiles checked routes. A regular expression that doesn't compile matches nothing: the
    /// configuration's check has refused it before.
    pub(super) fn new(routes: &[Route]) -> Self {
        let mut router = Self::default();
        for route in routes {
            let regex = match &route.path {
                PathMatch::Regex(text) => Regex::new(&format!("^(?:{text})$")).ok(),
                PathMatch::Exact(_) | PathMatch::Prefix(_) => None,
            };
            let methods =
                route.methods.as_ref().map(|list| list.iter().filter_map(|m| m.parse().ok()).collect());
            let index = router.routes.len();
            if route.hosts.is_empty() {
                router.any.push(index);
            }
            for host in &route.hosts {
                match host.strip_prefix("*.") {
                    Some(parent) => router.wildcard.entry(parent.to_owned()).or_default().push(index),
                    None => router.exact.entry(host.clone()).or_default().push(index),
                }
            }
            router.routes.push(Compiled { route: Arc::new(route.clone()), methods, regex });
        }
        let Self { routes, exact, wildcard, any } = &mut router;
        for list in exact.values_mut().chain(wildcard.values_mut()).chain([any]) {
            // A stable sort: among equals the first written comes first.
            list.sort_by_key(|i| routes.get(*i).map(|c| rank(&c.route.path)));
        }
        router
    }

    /// The route of a request: by exact host, then wildcard (the longest first), then any host; there by exact
    /// path, then the longest prefix, then regular expressions in their order.
    pub(super) fn find(
        &self,
        host: &str,
        path: &[u8],
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<&Arc<Route>, NoRoute> {
        let mut allow: Option<&Compiled> = None;
        let lists = self.exact.get(host).into_iter().chain(self.wildcards(host)).chain([&self.any]);
        for list in lists {
            for compiled in list.iter().filter_map(|i| self.routes.get(*i)) {
                if !compiled.takes_path(path) || !compiled.takes_headers(headers) {
                    continue;
                }
                if compiled.methods.as_ref().is_none_or(|m| m.contains(method)) {
                    return Ok(&compiled.route);
                }
                allow = allow.or(Some(compiled));
            }
        }
        Err(match allow.and_then(|c| c.route.methods.as_ref()) {
            Some(methods) => NoRoute::Method(methods.join(", ").into()),
            None => NoRoute::Path,
        })
    }

    fn wildcards<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a Vec<usize>> {
        let parents = host.match_indices('.').map(|(at, _)| &host[at + 1..]);
        parents.filter_map(|parent| self.wildcard.get(parent)).take(if self.wildcard.is_empty() {
            0
        } else {
            128
        })
    }
}

impl Compiled {
    fn takes_headers(&self, headers: &HeaderMap) -> bool {
        self.route.headers.iter().all(|wanted| {
            let mut values = headers.get_all(&wanted.name).iter();
            match &wanted.value {
                None => values.next().is_some(),
                Some(value) => values.any(|v| v.as_bytes() == value.as_bytes()),
            }
        })
    }

    fn takes_path(&self, path: &[u8]) -> bool {
        match &self.route.path {
            PathMatch::Exact(exact) => exact.as_bytes() == path,
            PathMatch::Prefix(prefix) => below(prefix.as_bytes(), path).is_some(),
            PathMatch::Regex(_) => self.regex.as_ref().is_some_and(|r| r.is_match(path)),
        }
    }
}

/// What of `path` follows `prefix`, when the prefix ends where a segment does.
pub(super) fn below<'a>(prefix: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with(b"/") || prefix.ends_with(b"/")).then_some(rest)
}

/// Smaller is asked first.
fn rank(path: &PathMatch) -> (u8, std::cmp::Reverse<usize>) {
    use std::cmp::Reverse;
    match path {
        PathMatch::Exact(_) => (0, Reverse(0)),
        PathMatch::Prefix(prefix) => (1, Reverse(prefix.len())),
        PathMatch::Regex(_) => (2, Reverse(0)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn router() -> Router {
        let mut text = "[[upstreams]]\nname = \"u\"\nservers = [\"127.0.0.1:1\"]\n".to_owned();
        for (name, rest) in [
            ("any", ""),
            ("api", "path_prefix = \"/api\""),
            ("deep", "path_prefix = \"/api/v1/\""),
            ("exact", "path = \"/api/v1/x\""),
            ("posts", "path_prefix = \"/post\"\nmethods = [\"POST\", \"PUT\"]"),
            ("regex", "path_regex = \"/item/[0-9]+\""),
            ("never", "path_regex = \"/item/7\""),
            ("host", "hosts = [\"h.test\"]\npath_prefix = \"/only\""),
            ("wild", "hosts = [\"*.w.test\"]"),
            ("closer", "hosts = [\"*.c.w.test\"]"),
        ] {
            text += &format!("[[routes]]\nname = \"{name}\"\nupstream = \"u\"\n{rest}\n");
        }
        let config = Config::parse(Path::new("g.toml"), &text).expect("taken");
        let mut routes = config.edge.routes;
        // Without the one that takes everything, refusals can be seen.
        let any = routes.remove(0);
        assert_eq!(&*any.name, "any");
        Router::new(&routes)
    }

    #[test]
    fn the_most_specific_route() {
        let router = router();
        for (host, path, method, expected) in [
            ("x", "/api", Method::GET, Ok("api")),
            ("x", "/api/", Method::GET, Ok("api")),
            ("x", "/apix", Method::GET, Err(NoRoute::Path)),
            ("x", "/api/v1/y", Method::GET, Ok("deep")),
            ("x", "/api/v1/x", Method::GET, Ok("exact")),
            ("x", "/post/1", Method::PUT, Ok("posts")),
            ("x", "/post/1", Method::GET, Err(NoRoute::Method("POST, PUT".into()))),
            ("x", "/item/7", Method::GET, Ok("regex")),
            ("x", "/item/7/x", Method::GET, Err(NoRoute::Path)),
            ("h.test", "/only/x", Method::GET, Ok("host")),
            ("h.test", "/api", Method::GET, Ok("api")),
            ("x", "/only/x", Method::GET, Err(NoRoute::Path)),
            ("a.w.test", "/x", Method::GET, Ok("wild")),
            ("a.b.w.test", "/x", Method::GET, Ok("wild")),
            ("a.c.w.test", "/x", Method::GET, Ok("closer")),
            ("w.test", "/x", Method::GET, Err(NoRoute::Path)),
        ] {
            let got =
                router.find(host, path.as_bytes(), &method, &HeaderMap::new()).map(|r| r.name.to_string());
            assert_eq!(got, expected.map(str::to_owned), "{method} {host} {path}");
        }
    }

    #[test]
    fn fields_choose() {
        let text = "[[upstreams]]\nname = \"u\"\nservers = [\"127.0.0.1:1\"]\n[[routes]]\nname = \"beta\"\nupstream = \"u\"\n\
                    headers = [{ name = \"X-Version\", value = \"2\" }, { name = \"x-any\" }]\n\
                    [[routes]]\nname = \"rest\"\nupstream = \"u\"\n";
        let config = Config::parse(Path::new("g.toml"), text).expect("taken");
        let router = Router::new(&config.edge.routes);
        for (fields, expected) in [
            (&[("x-version", "2"), ("x-any", "")][..], "beta"),
            (&[("x-version", "1"), ("x-version", "2"), ("x-any", "1")], "beta"),
            (&[("x-version", "2")], "rest"),
            (&[("x-version", "22"), ("x-any", "")], "rest"),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, value.parse().expect("value"));
            }
            let got = router.find("x", b"/", &Method::GET, &headers).map(|r| r.name.to_string());
            assert_eq!(got, Ok(expected.to_owned()), "{fields:?}");
        }
    }
}
