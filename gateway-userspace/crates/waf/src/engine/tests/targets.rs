//! Variables, selectors, exclusions, counts, transformations.

use super::check;

const GET: &str = "GET /dir/base.php?x=1&Y=Two+2&x=3&z HTTP/1.1\nHost: Example.com:8080\nX-A: 1\nx-a: 2\nX-B: 3\nCookie: a=1; b=%41\n\n";
const POST: &str =
    "POST /p?q=1 HTTP/1.1\nContent-Type: application/x-www-form-urlencoded\nContent-Length: 9\n\na=1&b=%42";

/// Whether one rule with these targets and operator matches.
fn matches(rows: &[(&str, &str, &str, bool)]) {
    for (targets, operator, exchange, expected) in rows {
        let rules = format!("SecRule {targets} \"{operator}\" id:1,phase:2");
        check(&[(&rules, exchange, if *expected { "1; pass" } else { "; pass" })]);
    }
}

#[test]
fn request_variables() {
    matches(&[
        ("REQUEST_METHOD", "@streq GET", GET, true),
        ("REQUEST_PROTOCOL", "@streq HTTP/1.1", GET, true),
        ("REQUEST_LINE", "@beginsWith GET /dir/base.php?x=1", GET, true),
        ("REQUEST_URI", "@streq /dir/base.php?x=1&Y=Two+2&x=3&z", GET, true),
        ("REQUEST_FILENAME", "@streq /dir/base.php", GET, true),
        ("REQUEST_BASENAME", "@streq base.php", GET, true),
        ("QUERY_STRING", "@streq x=1&Y=Two+2&x=3&z", GET, true),
        ("SERVER_NAME", "@streq Example.com", GET, true),
        ("REMOTE_ADDR", "@streq 192.0.2.1", GET, true),
        ("REMOTE_PORT", "@eq 1234", GET, true),
        ("SERVER_ADDR", "@ipMatch 198.51.100.0/24", GET, true),
        ("SERVER_PORT", "@eq 80", GET, true),
        ("UNIQUE_ID", "@streq unique", GET, true),
        ("ARGS_COMBINED_SIZE", "@eq 11", GET, true),
        ("REQUEST_URI", "@streq /p", "GET http://h:1/p HTTP/1.1\n\n", true),
        ("REQUEST_URI_RAW", "@streq http://h:1/p", "GET http://h:1/p HTTP/1.1\n\n", true),
        ("REQUEST_FILENAME", "@streq /a b?c", "GET /a%20b%3fc?d%20e HTTP/1.1\n\n", true),
        ("REQUEST_URI", "@streq /a b?c?d e%", "GET /a%20b%3fc?d%20e% HTTP/1.1\n\n", true),
        ("REQUEST_BASENAME", "@streq c", "GET /a/b%2fc HTTP/1.1\n\n", true),
        ("TIME", "@streq 02:39:59", GET, true),
        ("TIME_YEAR", "@eq 2026", GET, true),
        ("TIME_MON", "@eq 10", GET, true),
        ("TIME_WDAY", "@eq 6", GET, true),
        ("TIME_EPOCH", "@eq 1795228799", GET, true),
        ("FULL_REQUEST", "@contains X-B: 3", GET, true),
        ("REQBODY_PROCESSOR", "@streq URLENCODED", POST, true),
        ("REQUEST_BODY", "@streq a=1&b=%42", POST, true),
        ("REQUEST_BODY_LENGTH", "@eq 9", POST, true),
        ("REQUEST_BODY", "@rx .", "POST / HTTP/1.1\nContent-Type: text/plain\n\nabc", false),
        ("RULE:id", "@eq 1", GET, true),
    ]);
}

#[test]
fn collections_and_selectors() {
    matches(&[
        ("ARGS:x", "@streq 3", GET, true),
        ("ARGS:X", "@streq 3", GET, true),
        ("ARGS:y", "@streq Two 2", GET, true),
        ("ARGS_NAMES", "@streq Y", GET, true),
        ("ARGS:z", "@streq ", GET, true),
        ("&ARGS", "@eq 4", GET, true),
        ("&ARGS:x", "@eq 2", GET, true),
        ("&ARGS:none", "@eq 0", GET, true),
        ("ARGS:none", "!@rx x", GET, false),
        ("ARGS:/^[xy]$/", "@streq Two 2", GET, true),
        ("ARGS:/^Z/", "@rx x", GET, false),
        ("ARGS|!ARGS:x", "@rx ^[13]$", GET, false),
        ("ARGS|!ARGS:/^./", "@rx .", GET, false),
        ("&ARGS|!ARGS:x", "@eq 2", GET, true),
        ("ARGS_GET", "@streq 1", POST, true),
        ("ARGS_POST:b", "@streq B", POST, true),
        ("ARGS_POST", "@streq 1", GET, false),
        ("ARGS", "@streq B", POST, true),
        ("ARGS_POST_NAMES", "@streq a", POST, true),
        ("REQUEST_HEADERS:x-a", "@streq 2", GET, true),
        ("&REQUEST_HEADERS:X-A", "@eq 2", GET, true),
        ("REQUEST_HEADERS_NAMES", "@streq X-B", GET, true),
        ("REQUEST_HEADERS|!REQUEST_HEADERS:x-b", "@streq 3", GET, false),
        ("REQUEST_COOKIES:a", "@eq 1", GET, true),
        ("REQUEST_COOKIES_NAMES", "@streq b", GET, true),
        ("TX:/./", "@rx .", GET, false),
        ("ENV", "@rx .", GET, false),
    ]);
}

#[test]
fn transformations_and_multi_match() {
    check(&[
        ("SecRule ARGS:y \"@streq two 2\" id:1,phase:2,t:lowercase", GET, "1; pass"),
        ("SecRule ARGS:y \"@streq two2\" id:1,phase:2,t:lowercase,t:removeWhitespace", GET, "1; pass"),
        ("SecRule ARGS:y \"@streq two 2\" id:1,phase:2,t:lowercase,t:none", GET, "; pass"),
        ("SecRule ARGS:y \"@eq 5\" id:1,phase:2,t:length", GET, "1; pass"),
        // multiMatch asks about each form that the value takes, and counts each match.
        (
            "SecRule ARGS:y \"@rx ^T|^t|two2\" \"id:1,phase:2,pass,nolog,multiMatch,t:lowercase,t:removeWhitespace,setvar:tx.n=+1\"
             SecRule TX:n \"@eq 3\" id:2,phase:2",
            GET,
            "2; pass",
        ),
        (
            "SecRule ARGS:x \"@rx .\" \"id:1,phase:2,pass,nolog,multiMatch,t:lowercase,setvar:tx.n=+1\"
             SecRule TX:n \"@eq 2\" id:2,phase:2",
            GET,
            "2; pass",
        ),
        // A chain link over what matched sees it transformed.
        (
            "SecRule ARGS:y \"@rx two\" \"id:1,phase:2,t:lowercase,chain\"\nSecRule MATCHED_VAR \"@streq two 2\"",
            GET,
            "1; pass",
        ),
        (
            "SecRule ARGS:y \"@rx two\" \"id:1,phase:2,t:lowercase,chain\"\nSecRule MATCHED_VARS_NAMES \"@streq ARGS:Y\"",
            GET,
            "1; pass",
        ),
    ]);
}
