use std::path::Path;

use crate::config::Config;

/// What `text` is refused with, a line a problem; empty when it is taken.
fn refusal(text: &str) -> String {
    Config::parse(Path::new("g.toml"), text).err().map(|e| e.to_string()).unwrap_or_default()
}

#[test]
fn says_where_and_what_to_do() {
    let upstream = "[[upstreams]]\nname = \"a\"\nservers = [\"127.0.0.1:1\"]\n";
    for (text, expected) in [
        ("[[listeners]]\nname = \"x\"\n", "g.toml:2:8: listener `x` has no `address`"),
        ("[[listeners]]\naddress = \"8080\"\n", "g.toml:2:11: `address` must be an IP address and port"),
        (
            "[[listeners]]\naddress = \"0.0.0.0:1\"\n[[listeners]]\naddress = \"0.0.0.0:1\"\n",
            "g.toml:4:11: another listener is at 0.0.0.0:1 already.",
        ),
        (
            "[[listeners]]\naddress = \"0.0.0.0:1\"\nproxy_protocol = \"maybe\"\n",
            "g.toml:3:18: unknown variant `maybe`, expected `off` or `required`",
        ),
        (
            "[[listeners]]\naddress = \"0.0.0.0:1\"\ntls = true\nredirect_to_https = 443\n",
            "g.toml:4:21: `redirect_to_https` is a port from 1, on a listener without `tls`",
        ),
        ("[tls]\ncertificates = [{ certificate = \"a.pem\" }]\n", "g.toml:2:17: a certificate needs"),
        (
            "[tls]\nhandshake_timeout = \"1ms\"\n",
            "g.toml:2:21: `handshake_timeout` must be from 100ms to 60s",
        ),
        ("[client]\ntrusted_proxies = [\"10.0.0.1/8\"]\n", "g.toml:2:19: `10.0.0.1/8` has host bits set"),
        (
            "[http]\nmax_headers = 2\n",
            "g.toml:2:15: `max_headers` must be from 8 to 1024; the default is 128.",
        ),
        ("[http]\nmethods = [\"TRACE\"]\n", "g.toml:2:11: `methods` holds 1 to 64 method names in capitals"),
        ("[http]\nhosts = [\"a b\"]\n", "g.toml:2:9: `a b` is not a host"),
        ("[[upstreams]]\nname = \"x\"\n", "g.toml:2:8: upstream `x` has no `servers`"),
        ("[[upstreams]]\nservers = [\"nine\"]\n", "g.toml:2:12: a server's address is host:port"),
        ("[[upstreams]]\nservers = []\n", "g.toml:2:11: `servers` holds 1 to 256 servers."),
        ("[[routes]]\nupstream = \"b\"\n", "g.toml:2:12: there is no upstream `b`"),
        (&format!("{upstream}[[routes]]\nname = \"r\"\n"), "g.toml:5:8: route `r` has no `upstream`"),
        (
            &format!("{upstream}[[routes]]\nupstream = \"a\"\npath = \"/a\"\npath_regex = \"b\"\n"),
            "g.toml:7:14: a route has one of",
        ),
        (
            &format!("{upstream}[[routes]]\nupstream = \"a\"\npath_regex = \"(\"\n"),
            "g.toml:6:14: `path_regex` is not a regular expression",
        ),
        (
            &format!("{upstream}[[routes]]\nupstream = \"a\"\nreplace_prefix = \"/x\"\n"),
            "g.toml:6:18: `replace_prefix` starts with",
        ),
        (
            &format!(
                "{upstream}[[routes]]\nupstream = \"a\"\nrequest_headers = {{ set = {{ \"a b\" = \"1\" }} }}\n"
            ),
            "g.toml:6:19: `a b` is not a header name.",
        ),
        (
            &format!("{upstream}[[routes]]\nupstream = \"a\"\nrequest_headers = {{ remove = [\"Host\"] }}\n"),
            "g.toml:6:19: `host` is the gateway's own to write",
        ),
        (
            &format!(
                "{upstream}[[routes]]\nupstream = \"a\"\nrequest_headers = {{ set = {{ X-Forwarded-For = \"1\" }} }}\n"
            ),
            "g.toml:6:19: `x-forwarded-for` is the gateway's own to write",
        ),
        (
            &format!(
                "{upstream}[[routes]]\nupstream = \"a\"\nresponse_headers = {{ remove = [\"Content-Length\"] }}\n"
            ),
            "g.toml:6:20: `content-length` is the gateway's own to write",
        ),
        (
            &format!(
                "{upstream}[[routes]]\nupstream = \"a\"\nresponse_headers = {{ set = {{ x-a = \"a\\nb\" }} }}\n"
            ),
            "g.toml:6:20: a value has at most 4096 bytes",
        ),
    ] {
        let got = refusal(text);
        assert!(got.starts_with(expected), "{text}\n got: {got}\nwant: {expected}");
    }
}

#[test]
fn one_upstream_needs_no_route() {
    let config = Config::parse(
        Path::new("g.toml"),
        "[[upstreams]]\nname = \"a\"\nservers = [\"127.0.0.1:1\", { address = \"[::1]:2\", weight = 3 }]\n",
    )
    .expect("taken");
    assert_eq!(config.edge.routes.len(), 1);
    assert_eq!(config.edge.upstreams[0].servers[1].weight, 3);
    assert_eq!(config.edge.listeners.len(), 2);
}
