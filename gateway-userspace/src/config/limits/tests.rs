use std::path::Path;

use super::*;
use crate::config::Config;

fn load(text: &str) -> Result<Limits, String> {
    Config::parse(Path::new("/etc/gateway/gateway.toml"), text).map(|c| c.limits).map_err(|e| e.to_string())
}

#[test]
fn a_full_limit() {
    let limits = load(
        r#"
        [limit_store]
        memory = "64MiB"
        redis = ["10.0.0.1:26379", "[2001:db8::1]:26379"]
        kind = "sentinel"
        master = "main"
        password_file = "secrets/redis"
        nodes = 3
        deadline = "3ms"
        tls = { ca_file = "ca.pem" }

        [[limits]]
        name = "login"
        routes = ["login"]
        hosts = ["*.Example.org"]
        methods = ["post"]
        quota = 5
        window = "15m"
        key = ["address", "header:X-User"]
        count_status = ["401", "4xx"]
        cost_by_status = { "4xx" = 2, "404" = 3 }
        mode = "shadow"
        action = "delay"
        delay_max = "500ms"

        [[limits]]
        name = "open-requests"
        concurrency = 20
        "#,
    )
    .expect("valid");
    let login = &limits.limits[0];
    assert_eq!(login.scope.methods, ["POST"]);
    assert_eq!(login.scope.hosts, [HostPattern::Below(".example.org".into())]);
    assert_eq!(login.key, [KeyPart::Address, KeyPart::Header("x-user".into())]);
    assert_eq!(login.action, Action::Delay(Duration::from_millis(500)));
    let Measure::Rate(rate) = &login.measure else { panic!("a rate") };
    assert_eq!(
        (rate.quota, rate.window, rate.burst, rate.store),
        (5, Duration::from_mins(15), 5, StoreKind::Redis)
    );
    assert_eq!(rate.cost.by_status.iter().map(|(_, c)| *c).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(limits.limits[1].measure, Measure::Concurrency(20));
    let redis = limits.store.redis.expect("redis");
    assert_eq!(redis.addresses[1], ("2001:db8::1".to_owned(), 26379));
    assert_eq!(redis.password_file.as_deref(), Some(Path::new("/etc/gateway/secrets/redis")));
}

#[test]
fn weighted_counters_are_a_sliding_window_and_it_is_said() {
    for (written, algorithm, notices) in [
        ("weighted-counters", Algorithm::SlidingWindow, 1),
        ("sliding-window", Algorithm::SlidingWindow, 0),
        ("gcra", Algorithm::Gcra, 0),
    ] {
        let limits =
            load(&format!("[[limits]]\nname = \"a\"\nquota = 5\nwindow = \"1m\"\nalgorithm = \"{written}\""));
        let limits = limits.expect(written);
        let Measure::Rate(rate) = &limits.limits[0].measure else { panic!("a rate") };
        assert_eq!((rate.algorithm, limits.notices.len()), (algorithm, notices), "{written}");
        assert!(limits.notices.iter().all(|text| text.contains("`a` is kept as sliding-window")));
    }
}

#[test]
fn what_is_refused() {
    let check = |text: &str, place: &str, words: &str| {
        let problem = load(text).expect_err(text);
        assert!(problem.contains(place) && problem.contains(words), "{text}\n{problem}");
    };
    let limit = |rest: &str| format!("[[limits]]\nname = \"a\"\n{rest}");
    let rate = |rest: &str| limit(&format!("quota = 10\nwindow = \"1m\"\n{rest}"));
    check("[[limits]]\nquota = 1", "", "no `name`");
    check(&limit(""), ":2:", "needs `quota` and `window`");
    check(&limit("quota = 0\nwindow = \"1m\""), ":3:", "`quota` must be 1 to");
    check(&limit("quota = 1\nwindow = \"31d\""), ":4:", "1s to 30d");
    check(&rate("burst = 5"), ":5:", "belongs to the algorithm gcra");
    check(&rate("cost = 11"), ":5:", "1 to 10");
    check(&rate("cost_by_status = { \"9xx\" = 1 }"), ":5:", "is not a status");
    check(&rate("key = []"), ":5:", "1 to 4 parts");
    check(&rate("key = [\"address\", \"address\"]"), ":5:", "stands twice");
    check(&rate("key = [\"global\", \"address\"]"), ":5:", "takes no other");
    check(&rate("key = [\"ip\"]"), ":5:", "is not a key");
    check(&rate("store = \"redis\""), ":5:", "there is no Redis");
    check(&rate("action = \"delay\""), ":2:", "needs `delay_max`");
    check(&rate("delay_max = \"1s\""), ":5:", "belongs to the action");
    check(&rate("concurrency = 3"), ":5:", "`quota` belongs to a rate");
    check(&rate("ipv6_prefix = 129"), ":5:", "1 to 128");
    check(&format!("{}\n{}", rate(""), rate("")), ":7:", "two limits");
    check("[limit_store]\nredis = [\"::1:6379\"]", ":2:", "host:port");
    check("[limit_store]\nredis = [\"a:1\"]\nkind = \"sentinel\"", ":2:", "needs `master`");
    check("[limit_store]\nkind = \"cluster\"", "", "names none");
    check("[limit_store]\nmemory = \"1KiB\"", ":2:", "1MiB to 64GiB");
    check("[limit_store]\nredis = [\"a:1\"]\ndeadline = \"2s\"", ":3:", "1ms to 1s");
    check(&rate("action = \"challenge\""), "", "add [limit_challenge]");
    let challenge = |rest: &str| format!("[limit_challenge]\n{rest}");
    check(&challenge("location = \"/c\""), "", "needs `location` and `secret_file`");
    check(&challenge("secret_file = \"s\"\nlocation = \"//evil\""), ":3:", "a path such as /challenge");
    check(&challenge("secret_file = \"s\"\nlocation = \"ftp://x/\""), ":3:", "a path such as /challenge");
    check(&challenge("secret_file = \"s\"\nlocation = \"/a b\""), ":3:", "without spaces");
    check(&challenge("secret_file = \"s\"\nlocation = \"/\""), ":3:", "a path such as /challenge");
    check(&challenge("secret_file = \"s\"\nlocation = \"/c\"\ncookie = \"a=b\""), ":4:", "letters, digits");
}

#[test]
fn patterns() {
    let host = |pattern: &str, host: &str, expected: bool| {
        let pattern = if let Some(rest) = pattern.strip_prefix('*') {
            HostPattern::Below(rest.into())
        } else {
            HostPattern::Exact(pattern.into())
        };
        assert_eq!(pattern.matches(host), expected, "{pattern:?} {host}");
    };
    host("example.org", "EXAMPLE.org", true);
    host("*.example.org", "a.b.Example.org", true);
    host("*.example.org", "example.org", false);
    host("*.example.org", "badexample.org", false);
    for (text, status, expected) in
        [("401", 401, true), ("4xx", 499, true), ("4xx", 500, false), ("500-504", 504, true)]
    {
        assert_eq!(text.parse::<StatusRange>().expect(text).contains(status), expected, "{text} {status}");
    }
    for text in ["", "40", "6xx", "504-500", "+40", "4XX"] {
        assert!(text.parse::<StatusRange>().is_err(), "{text}");
    }
}
