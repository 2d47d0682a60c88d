//! Phases, chains, skips, allow.

use super::{check, message};

const GET: &str = "GET /a?x=1&y=2 HTTP/1.1\nHost: h\n\n";

#[test]
fn phases_run_in_order_and_once() {
    check(&[
        (
            "SecAction id:5,phase:5,log,pass\nSecAction id:4,phase:4,log,pass\nSecAction id:3,phase:3,log,pass
             SecAction id:2,phase:request,log,pass\nSecAction id:1,phase:1,log,pass",
            GET,
            "1 2 3 4 5; pass",
        ),
        ("SecAction id:1,log,pass\nSecAction id:2,phase:1,log,pass", GET, "2 1; pass"),
        ("SecAction id:1,phase:1,log,deny\nSecAction id:2,phase:2,log,pass\nSecAction id:5,phase:5,log,pass", GET, "1 5; deny 403 by 1"),
        ("SecAction id:1,phase:1,nolog,deny,status:406", GET, "; deny 406 by 1"),
        ("SecRuleEngine Off\nSecAction id:1,phase:1,deny", GET, "; pass"),
        ("SecRuleEngine DetectionOnly\nSecAction id:1,phase:1,deny\nSecAction id:2,phase:1,pass", GET, "1 2; pass"),
        ("SecAction id:1,phase:5,deny", GET, "1; pass"),
    ]);
}

#[test]
fn chains() {
    let both = "SecRule ARGS:x \"@eq 1\" \"id:1,phase:2,deny,chain\"\nSecRule ARGS:y \"@eq 2\"";
    let first_only = "SecRule ARGS:x \"@eq 1\" \"id:1,phase:2,deny,chain\"\nSecRule ARGS:y \"@eq 3\"";
    check(&[
        (both, GET, "1; deny 403 by 1"),
        (first_only, GET, "; pass"),
        // Actions of the starter run at once for each value that matches, though the chain fails.
        (
            "SecRule ARGS \"@rx .\" \"id:1,phase:2,pass,nolog,setvar:tx.n=+1,chain\"\nSecRule ARGS:x \"@eq 7\"
             SecRule TX:n \"@eq 2\" \"id:2,phase:2,pass\"",
            GET,
            "2; pass",
        ),
        // MATCHED_VARS grows along the chain and starts anew with the next one.
        (
            "SecRule ARGS \"@rx .\" \"id:1,phase:2,pass,chain\"\nSecRule &MATCHED_VARS \"@eq 2\"
             SecRule &MATCHED_VARS \"@eq 0\" \"id:2,phase:2,pass\"",
            GET,
            "1 2; pass",
        ),
        // A removed starter takes its links along.
        (
            "SecAction id:9,phase:1,nolog,pass,ctl:ruleRemoveById=1\n\
             SecRule ARGS:x \"@eq 1\" \"id:1,phase:2,deny,chain\"\nSecRule ARGS:y \"@eq 2\"",
            GET,
            "; pass",
        ),
    ]);
    let late = "SecRule ARGS:x \"@rx 1\" \"id:1,phase:2,pass,msg:'%{MATCHED_VAR_NAME}=%{MATCHED_VAR}',chain\"
                SecRule ARGS:y \"@rx 2\"";
    assert_eq!(message(late, GET), "ARGS:y=2");
}

#[test]
fn skips() {
    check(&[
        (
            "SecAction id:1,phase:1,nolog,pass,skip:1\nSecAction id:2,phase:1\nSecAction id:3,phase:1",
            GET,
            "3; pass",
        ),
        (
            "SecAction id:1,phase:1,nolog,pass,skip:1\nSecAction \"id:2,phase:1,chain\"\nSecAction nolog\nSecAction id:3,phase:1",
            GET,
            "3; pass",
        ),
        (
            "SecAction id:1,phase:1,nolog,pass,skip:9\nSecAction id:2,phase:1\nSecAction id:3,phase:2",
            GET,
            "3; pass",
        ),
        (
            "SecAction id:1,phase:1,nolog,pass,skipAfter:END\nSecAction id:2,phase:1\nSecMarker END\nSecAction id:3,phase:1",
            GET,
            "3; pass",
        ),
        // Only within the phase.
        (
            "SecAction id:1,phase:1,nolog,pass,skipAfter:END\nSecAction id:2,phase:2\nSecMarker END\nSecAction id:3,phase:1",
            GET,
            "3 2; pass",
        ),
        // A marker before the rule is none.
        (
            "SecMarker END\nSecAction id:1,phase:1,nolog,pass,skipAfter:END\nSecAction id:2,phase:1\nSecAction id:3,phase:2",
            GET,
            "3; pass",
        ),
        (
            "SecAction id:1,phase:1,nolog,pass,skipAfter:2\nSecAction id:2,phase:1\nSecAction id:3,phase:1",
            GET,
            "3; pass",
        ),
        (
            "SecRuleEngine DetectionOnly\nSecAction id:1,phase:1,nolog,pass,skipAfter:END\nSecAction id:2,phase:1\nSecMarker END",
            GET,
            "; pass",
        ),
    ]);
}

#[test]
fn allow_has_three_forms() {
    let rest =
        "SecAction id:12,phase:1\nSecAction id:2,phase:2\nSecAction id:3,phase:3\nSecAction id:5,phase:5";
    for (action, expected) in
        [("allow", "1 5; pass"), ("allow:request", "1 3 5; pass"), ("allow:phase", "1 2 3 5; pass")]
    {
        let rules = format!("SecAction id:1,phase:1,{action}\n{rest}");
        check(&[(&rules, GET, expected)]);
    }
    let rules = format!("SecRuleEngine DetectionOnly\nSecAction id:1,phase:1,allow\n{rest}");
    check(&[(&rules, GET, "1 12 2 3 5; pass")]);
}

#[test]
fn disruptive_actions() {
    check(&[
        ("SecAction id:1,phase:1,drop", GET, "1; drop by 1"),
        ("SecAction id:1,phase:1,redirect:https://e/%{ARGS.x}", GET, "1; 302 to https://e/1 by 1"),
        ("SecAction id:1,phase:1,status:307,redirect:https://e/", GET, "1; 307 to https://e/ by 1"),
        ("SecAction id:1,phase:1,block", GET, "1; pass"),
        ("SecDefaultAction phase:1,log,deny,status:406\nSecAction id:1,phase:1,block", GET, "1; deny 406 by 1"),
        ("SecDefaultAction phase:1,log,deny,status:406\nSecAction id:1,phase:1", GET, "1; deny 406 by 1"),
        ("SecDefaultAction phase:1,log,deny,status:406\nSecAction id:1,phase:1,pass", GET, "1; pass"),
        ("SecDefaultAction phase:2,log,deny\nSecAction id:1,phase:1,block", GET, "1; pass"),
        ("SecAction id:1,phase:1,block\nSecDefaultAction phase:1,log,deny", GET, "1; pass"),
        ("SecDefaultAction phase:1,nolog,pass\nSecAction id:1,phase:1", GET, "; pass"),
        ("SecDefaultAction phase:1,nolog,pass\nSecAction id:1,phase:1,log", GET, "1; pass"),
        (
            "SecDefaultAction \"phase:1,log,pass,t:lowercase\"\nSecRule REQUEST_METHOD \"@streq get\" id:1,phase:1
             SecRule REQUEST_METHOD \"@streq get\" id:2,phase:1,t:none",
            GET,
            "1; pass",
        ),
    ]);
}

#[test]
fn response_phases() {
    let exchange =
        "GET / HTTP/1.1\n\n\n>>>\nHTTP/1.1 404 Not\nContent-Type: text/html; charset=x\nServer: S\n\nsecret";
    check(&[
        ("SecRule RESPONSE_STATUS \"@eq 404\" id:1,phase:3,deny", exchange, "1; deny 403 by 1"),
        ("SecRule RESPONSE_HEADERS:server \"@streq S\" id:1,phase:3", exchange, "1; pass"),
        ("SecRule RESPONSE_BODY \"@contains secret\" id:1,phase:4,deny", exchange, "1; deny 403 by 1"),
        (
            "SecResponseBodyMimeType text/xml\nSecRule RESPONSE_BODY \"@contains secret\" id:1,phase:4",
            exchange,
            "; pass",
        ),
        (
            "SecResponseBodyAccess Off\nSecRule RESPONSE_BODY \"@contains secret\" id:1,phase:4",
            exchange,
            "; pass",
        ),
        ("SecRule RESPONSE_CONTENT_TYPE \"@streq text/html\" id:1,phase:3", exchange, "1; pass"),
        ("SecRule RESPONSE_CONTENT_LENGTH \"@eq 6\" id:1,phase:4", exchange, "1; pass"),
    ]);
}
