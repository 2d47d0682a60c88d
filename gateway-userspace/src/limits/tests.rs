use std::path::Path;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};

use super::testing::{Asked, SECOND};
use super::*;
use crate::config::Config;

fn limiter(text: &str) -> Limiter {
    Limiter::new(&limits(text), [1, 2])
}

fn limits(text: &str) -> crate::config::limits::Limits {
    Config::parse(Path::new("/g.toml"), text).map_or_else(|e| panic!("{e}"), |c| c.limits)
}

/// The decision as a word: `ok`, or the name of the limit that refused.
fn ask(limiter: &Limiter, asked: &Asked) -> String {
    match decide(limiter, asked) {
        Decision::Allowed(_) => "ok".into(),
        Decision::Refused(refusal) => refusal.limit.to_string(),
    }
}

fn decide(limiter: &Limiter, asked: &Asked) -> Decision {
    asked.with(|request| match limiter.check(request) {
        Check::Done(decision) => decision,
        Check::Pending(_) => panic!("nothing to wait for"),
    })
}

/// How many of `n` such requests pass.
fn passed(limiter: &Limiter, asked: &Asked, n: usize) -> usize {
    (0..n).filter(|_| ask(limiter, asked) == "ok").count()
}

const A: &str = "192.0.2.1";
const B: &str = "192.0.2.2";

#[test]
fn scopes_keys_and_exemptions() {
    let limiter = limiter(
        r#"
        [[limits]]
        name = "all"
        quota = 10
        window = "1m"
        exempt_networks = ["198.51.100.0/24"]
        [[limits]]
        name = "login"
        routes = ["login"]
        methods = ["POST"]
        quota = 3
        window = "1m"
        [[limits]]
        name = "key"
        hosts = ["*.api.example"]
        key = ["header:x-key"]
        absent = "skip"
        exempt_values = ["partner"]
        quota = 5
        window = "1m"
        "#,
    );
    let from = Asked::from;
    assert_eq!(passed(&limiter, &from(A), 20), 10);
    assert_eq!(ask(&limiter, &from(A)), "all");
    assert_eq!(passed(&limiter, &from(B).route("login").method(Method::POST), 20), 3);
    // Refused logins were taken from no other limit: all or nothing.
    assert_eq!(passed(&limiter, &from(B), 20), 7);
    assert_eq!(passed(&limiter, &from("198.51.100.7"), 50), 50);
    let keyed = |addr: &str, key: &str| from(addr).host("x.api.example").header("x-key", key);
    assert_eq!(passed(&limiter, &keyed("203.0.113.1", "k"), 3), 3);
    assert_eq!(passed(&limiter, &keyed("203.0.113.2", "k"), 9), 2);
    assert_eq!(passed(&limiter, &keyed("203.0.113.3", "partner"), 9), 9);
    assert_eq!(passed(&limiter, &from(A).at(61 * SECOND), 20), 10);
}

#[test]
fn answers_tell_how_limits_stand() {
    let limiter = limiter(
        r#"
        [[limits]]
        name = "minute"
        quota = 2
        window = "1m"
        headers = "both"
        [[limits]]
        name = "places"
        concurrency = 5
        [[limits]]
        name = "untold"
        quota = 9
        window = "1m"
        headers = "none"
        "#,
    );
    let text = |pairs: Pairs| {
        let lines: Vec<String> =
            pairs.iter().map(|(n, v)| format!("{n}: {}", v.to_str().expect("ASCII"))).collect();
        lines.join("\n")
    };
    let Decision::Allowed(permit) = decide(&limiter, &Asked::from(A)) else { panic!("allowed") };
    assert_eq!(
        text(permit.headers()),
        "ratelimit-policy: \"minute\";q=2;w=60, \"places\";q=5;qu=\"concurrent-requests\"\n\
         ratelimit: \"minute\";r=1;t=61, \"places\";r=4\n\
         x-ratelimit-limit: 2\nx-ratelimit-remaining: 1\nx-ratelimit-reset: 61"
    );
    assert_eq!(passed(&limiter, &Asked::from(A).at(5 * SECOND), 1), 1);
    let Decision::Refused(refusal) = decide(&limiter, &Asked::from(A).at(20 * SECOND)) else {
        panic!("refused")
    };
    assert_eq!(
        text(refusal.headers()),
        "ratelimit-policy: \"minute\";q=2;w=60\nratelimit: \"minute\";r=0;t=41\n\
         x-ratelimit-limit: 2\nx-ratelimit-remaining: 0\nx-ratelimit-reset: 41\nretry-after: 41"
    );
    let body = "{\"type\":\"about:blank\",\"title\":\"Too Many Requests\",\"status\":429,\"limit\":\"minute\",\
                \"retry_after\":41}";
    assert_eq!(refusal.problem(), body);
}

#[test]
fn only_failed_logins_count() {
    let limiter = limiter(
        "[[limits]]\nname = \"failures\"\nquota = 5\nwindow = \"15m\"\ncount_status = [\"401\", \"403\"]",
    );
    let none = HeaderMap::new();
    let login = |at: u64, status: u16| match decide(&limiter, &Asked::from(A).at(at * SECOND)) {
        Decision::Allowed(permit) => {
            let now = testing::START + at * SECOND + 1;
            permit.settle(&Outcome { status, headers: &none }, now);
            true
        }
        Decision::Refused(_) => false,
    };
    for at in 0..50 {
        assert!(login(at, 200), "a good login does not count");
    }
    for at in 50..55 {
        assert!(login(at, 401));
    }
    assert!(!login(56, 200), "five failed");
    assert!(login(56 + 900, 200));
    // All at once: none gets a sixth attempt while the first five are still open.
    let open: Vec<_> = (0..10)
        .filter_map(|_| match decide(&limiter, &Asked::from(B)) {
            Decision::Allowed(permit) => Some(permit),
            Decision::Refused(_) => None,
        })
        .collect();
    assert_eq!(open.len(), 5);
    drop(open);
    assert_eq!(ask(&limiter, &Asked::from(B)), "failures", "breaking off counts as failed");
}

#[test]
fn costs() {
    let limiter = limiter(
        r#"
        [[limits]]
        name = "cost"
        quota = 100
        window = "1m"
        cost_by_method = { POST = 10 }
        cost_by_status = { "404" = 20, "5xx" = 0 }
        cost_header = "X-Cost"
        "#,
    );
    let left = |method: Method, at: u64, status: u16, header: Option<&'static str>| {
        let mut headers = HeaderMap::new();
        headers
            .extend(header.map(|v| (http::HeaderName::from_static("x-cost"), HeaderValue::from_static(v))));
        let asked = Asked::from(A).method(method).at(at);
        let Decision::Allowed(permit) = decide(&limiter, &asked) else { panic!("allowed") };
        permit.settle(&Outcome { status, headers: &headers }, testing::START + at + 1);
        let Decision::Allowed(permit) = decide(&limiter, &Asked::from(A).at(at + 2).method(Method::GET))
        else {
            return 0;
        };
        let remaining = permit.standing().reports[0].remaining;
        permit.settle(&Outcome { status: 500, headers: &HeaderMap::new() }, testing::START + at + 3);
        remaining + 1
    };
    assert_eq!(left(Method::GET, 10, 200, None), 99);
    assert_eq!(left(Method::POST, 20, 200, None), 89);
    assert_eq!(left(Method::POST, 30, 404, None), 69);
    assert_eq!(left(Method::POST, 40, 503, None), 69);
    assert_eq!(left(Method::GET, 50, 200, Some("30")), 39);
    assert_eq!(left(Method::GET, 60, 200, Some("junk")), 38);
    assert_eq!(left(Method::GET, 70, 200, Some("4000000000")), 0);
}

#[test]
fn places_are_given_back() {
    let limiter = limiter("[[limits]]\nname = \"places\"\nconcurrency = 2");
    let one = decide(&limiter, &Asked::from(A));
    let two = decide(&limiter, &Asked::from(A));
    assert_eq!(ask(&limiter, &Asked::from(A)), "places");
    assert_eq!(ask(&limiter, &Asked::from(B)), "ok");
    drop(one);
    let Decision::Allowed(three) = decide(&limiter, &Asked::from(A)) else { panic!("a place is free") };
    three.settle(&Outcome { status: 200, headers: &HeaderMap::new() }, 0);
    drop(two);
    assert_eq!(passed(&limiter, &Asked::from(A), 10), 10);
}

#[test]
fn shadows_refuse_nobody() {
    let limiter = limiter("[[limits]]\nname = \"s\"\nquota = 2\nwindow = \"1m\"\nmode = \"shadow\"");
    assert_eq!(passed(&limiter, &Asked::from(A), 9), 9);
    let Decision::Allowed(permit) = decide(&limiter, &Asked::from(A)) else { panic!("allowed") };
    assert_eq!(permit.standing().shadowed().map(|name| &**name).collect::<Vec<_>>(), ["s"]);
    assert!(permit.headers().is_empty(), "a shadow is not told");
    let policy = limiter.inner.policy.get();
    assert_eq!(policy.limits[0].metrics.shadowed.get(), 8);
}

#[test]
fn who_goes_on_past_refusals_offends() {
    let text = "[[limits]]\nname = \"p\"\nquota = 1\nwindow = \"1m\"\noffence_after = 3";
    let offences = |limiter: &Limiter, asked: &Asked, n: usize| -> Vec<Persistence> {
        let refusals = (0..n).filter_map(|_| match decide(limiter, asked) {
            Decision::Refused(refusal) => refusal.offence,
            Decision::Allowed(_) => None,
        });
        refusals.collect()
    };
    let first = limiter(text);
    let seen = offences(&first, &Asked::from(A), 8);
    assert_eq!(seen.iter().map(|o| o.refusals).collect::<Vec<_>>(), [3, 6]);
    assert!(seen[0].until_reset <= Duration::from_secs(61) && seen[0].client.kernel_target().is_some());
    let behind = offences(&first, &Asked::from(B).behind("10.0.0.1"), 4);
    assert_eq!(behind[0].client.kernel_target(), None);
    let ban = limiter("[[limits]]\nname = \"p\"\nquota = 1\nwindow = \"1m\"\naction = \"ban\"");
    assert!(offences(&ban, &Asked::from(A), 2)[0].ban);
}

#[test]
fn a_reload_keeps_what_counts_the_same() {
    let one = "[[limits]]\nname = \"a\"\nquota = 5\nwindow = \"1m\"\n";
    let limiter = limiter(one);
    assert_eq!(passed(&limiter, &Asked::from(A), 3), 3);
    limiter.reload(&limits(&format!(
        "[[limits]]\nname = \"b\"\nquota = 50\nwindow = \"1m\"\n{one}mode = \"enforce\""
    )));
    assert_eq!(passed(&limiter, &Asked::from(A), 9), 2);
    limiter.reload(&limits("[[limits]]\nname = \"a\"\nquota = 6\nwindow = \"1m\"\n"));
    assert_eq!(passed(&limiter, &Asked::from(A), 9), 6, "another quota counts anew");
}

#[test]
fn who_is_over_is_challenged_and_who_has_passed_has_a_quota_of_its_own() {
    let folder = std::env::temp_dir().join(format!("gateway-clearance-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("folder");
    std::fs::write(folder.join("secret"), "a secret of some length\n").expect("written");
    let text = format!(
        "[limit_challenge]\nlocation = \"/challenge\"\nsecret_file = {:?}\n\
         [[limits]]\nname = \"c\"\nquota = 3\nwindow = \"1m\"\naction = \"challenge\"\noffence_after = 2\n\
         [[limits]]\nname = \"all\"\nquota = 12\nwindow = \"1m\"",
        folder.join("secret")
    );
    let limiter = limiter(&text);
    let page = Asked::from(A).path("/x", "y=1");
    assert_eq!(passed(&limiter, &page, 3), 3);
    let refused = |asked: &Asked| match decide(&limiter, asked) {
        Decision::Refused(refusal) => (refusal.limit.to_string(), refusal.response),
        Decision::Allowed(_) => panic!("{asked:?} passed"),
    };
    let sent = Response::Challenge("/challenge?return=%2Fx%3Fy%3D1".into());
    assert_eq!(refused(&page), ("c".to_owned(), sent));
    assert_eq!(passed(&limiter, &page.clone().path("/challenge", ""), 2), 2, "the challenge can be had");
    let clearances = limits(&text).challenge.map(|it| Clearances::read(&it).expect("readable")).expect("one");
    let cookie = |nonce: &str| {
        let value = clearances.issue(A.parse().expect("address"), nonce, testing::START / SECOND + 60);
        page.clone().header("cookie", &format!("{}={value}", clearances.cookie()))
    };
    assert_eq!(passed(&limiter, &cookie("one"), 5), 3, "as much as anybody");
    assert_eq!(
        refused(&cookie("one")),
        ("c".to_owned(), Response::TooManyRequests),
        "and no round in circles"
    );
    assert_eq!(passed(&limiter, &cookie("two"), 3), 3, "who passed again");
    assert_eq!(passed(&limiter, &cookie("three"), 3), 1, "other limits count all of it");
    assert_eq!(ask(&limiter, &cookie("three")), "all");
    std::fs::remove_dir_all(&folder).expect("removed");
    let missing =
        format!("{}", Clearances::read(&limits(&text).challenge.expect("one")).err().expect("gone"));
    assert!(missing.contains("secret"), "{missing}");
}

#[test]
fn a_full_limit_and_a_free_one_together_take_nothing() {
    // Under one lock, in several specifications, and after a shadow.
    let limiter = limiter(
        "[[limits]]\nname = \"a\"\nquota = 9\nwindow = \"1m\"\n[[limits]]\nname = \"b\"\nquota = 2\nwindow = \"1m\"\n\
         [[limits]]\nname = \"s\"\nquota = 1\nwindow = \"1m\"\nmode = \"shadow\"\n\
         [[limits]]\nname = \"h\"\nquota = 4\nwindow = \"1m\"\nkey = [\"host\"]\n\
         [[limits]]\nname = \"open\"\nconcurrency = 3\nkey = [\"host\"]",
    );
    let left = |asked: &Asked| {
        let policy = limiter.inner.policy.get();
        let of = |limit: &Limit| {
            let spec = &policy.specs[usize::from(limit.spec)];
            let key =
                asked.with(|r| spec.key.hash(r, &limiter.inner.secret, &spec.hashing)).expect("applies");
            match &limit.kind {
                policy::Kind::Rate(rate) => {
                    let slot = limiter.inner.local.get(key.salted(limit.salt)).unwrap_or_default();
                    slot.state.peek(&rate.rule, testing::START, 0).remaining
                }
                policy::Kind::Concurrency(most) => most - limiter.inner.running.now(key.salted(limit.salt)),
            }
        };
        policy.limits.iter().map(of).collect::<Vec<_>>()
    };
    let (a, b) = (Asked::from(A), Asked::from(B));
    assert_eq!((passed(&limiter, &a, 5), left(&a)), (2, vec![7, 0, 0, 2, 3]));
    assert_eq!((passed(&limiter, &b, 1), left(&b)), (1, vec![8, 1, 0, 1, 3]));
    assert_eq!(passed(&limiter, &Asked::from("192.0.2.3"), 1), 1);
    let late = Asked::from("192.0.2.4");
    assert_eq!(ask(&limiter, &late), "h");
    assert_eq!(left(&late), [9, 2, 1, 0, 3], "what the host refused was taken from nobody");
}

#[tokio::test(start_paused = true)]
async fn delays_are_bounded() {
    let text = "[[limits]]\nname = \"d\"\nquota = 10\nwindow = \"1s\"\nalgorithm = \"gcra\"\nburst = 1\n\
                action = \"delay\"\ndelay_max = \"250ms\"";
    let limiter = limiter(text);
    let started = tokio::time::Instant::now();
    let asked = Asked::from(A);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (limiter, asked) = (limiter.clone(), asked.clone());
        tasks.spawn(async move {
            let decision = limiter.decide(&asked.borrow()).await;
            (matches!(decision, Decision::Allowed(_)), started.elapsed())
        });
    }
    let mut ends = tasks.join_all().await;
    ends.sort_by_key(|(ok, at)| (!ok, *at));
    let passed = ends.iter().filter(|(ok, _)| *ok).count();
    assert_eq!(passed, 3, "one at once, two within 250 ms: {ends:?}");
    assert!(ends.iter().all(|(_, at)| *at <= Duration::from_millis(252)), "{ends:?}");
}
