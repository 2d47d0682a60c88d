//! setvar, capture, ctl, macros, records.

use super::{check, compile, message, run};
use crate::{Disruption, Services, Severity, Transaction};

const GET: &str = "GET /a?x=1&y=Abc HTTP/1.1\nHost: h\nUser-Agent: ua\n\n";

#[test]
fn setvar() {
    let row = |set: &str, test: &str, expected: &str| {
        let rules = format!("SecAction \"id:1,phase:1,nolog,pass,{set}\"\nSecRule {test} id:2,phase:1");
        check(&[(&rules, GET, expected)]);
    };
    let yes = "2; pass";
    row("setvar:tx.a=5", "TX:a \"@eq 5\"", yes);
    row("setvar:tx.a=5,setvar:tx.A=+3", "TX:a \"@eq 8\"", yes);
    row("setvar:tx.a=5,setvar:tx.a=-7", "TX:a \"@eq -2\"", yes);
    row("setvar:tx.a=+1", "TX:a \"@eq 1\"", yes);
    row("setvar:tx.a", "TX:a \"@eq 1\"", yes);
    row("setvar:tx.a=5,setvar:!tx.a", "&TX:a \"@eq 0\"", yes);
    row("setvar:tx.a=5,setvar:tx.b=%{tx.a}", "TX:b \"@streq 5\"", yes);
    row("setvar:tx.a=5,setvar:'tx.b=+%{tx.a}'", "TX:b \"@eq 5\"", yes);
    row("setvar:'tx.a=x y'", "TX:a \"@streq x y\"", yes);
    row("setvar:tx.a=007", "TX:a \"@streq 007\"", yes);
    row("setvar:'tx.k_%{ARGS.x}=v'", "TX:k_1 \"@streq v\"", yes);
    row("setvar:'tx.k_%{ARGS.x}=v',setvar:tx.k_2=w", "&TX:/^k_/ \"@eq 2\"", yes);
    row("setvar:tx.a=%{tx.none}", "TX:a \"@streq \"", yes);
    row("setvar:tx.a=9223372036854775807,setvar:tx.a=+1", "TX:a \"@eq 9223372036854775807\"", yes);
    row("setenv:E=%{ARGS.x}", "ENV:e \"@eq 1\"", yes);
}

#[test]
fn capture() {
    check(&[
        (
            "SecRule ARGS:y \"@rx (A)(b)(z)?\" \"id:1,phase:2,capture,nolog,pass\"\nSecRule TX:2 \"@streq b\" id:2,phase:2
             SecRule &TX:3 \"@eq 0\" id:3,phase:2\nSecRule TX:0 \"@streq Ab\" id:4,phase:2",
            GET,
            "2 3 4; pass",
        ),
        ("SecRule ARGS:y \"@rx (A)\" \"id:1,phase:2,nolog,pass\"\nSecRule &TX:0 \"@eq 1\" id:2,phase:2", GET, "; pass"),
        // A later capture with fewer groups leaves none of the earlier ones.
        (
            "SecRule ARGS:y \"@rx (A)(b)\" \"id:1,phase:2,capture,nolog,pass\"
             SecRule ARGS:y \"@rx c\" \"id:2,phase:2,capture,nolog,pass\"\nSecRule &TX:1 \"@eq 0\" id:3,phase:2",
            GET,
            "3; pass",
        ),
        // Nor does one by an operator that captures nothing.
        (
            "SecRule ARGS:y \"@rx (A)(b)\" \"id:1,phase:2,capture,nolog,pass\"
             SecRule ARGS:y \"@contains c\" \"id:2,phase:2,capture,nolog,pass\"\nSecRule &TX:0 \"@eq 0\" id:3,phase:2",
            GET,
            "3; pass",
        ),
        (
            "SecRule ARGS:y \"@rx (a)\" \"id:1,phase:2,t:lowercase,capture,nolog,pass,setvar:tx.c=%{tx.1}\"
             SecRule TX:c \"@streq a\" id:2,phase:2",
            GET,
            "2; pass",
        ),
    ]);
}

#[test]
fn ctl() {
    let deny = "SecRule ARGS:x \"@eq 1\" \"id:10,phase:2,deny,tag:'t/a',msg:'found (it)'\"";
    let with = |ctl: &str, expected: &str| {
        let rules = format!("SecAction \"id:1,phase:1,nolog,pass,ctl:{ctl}\"\n{deny}");
        check(&[(&rules, GET, expected)]);
    };
    with("ruleEngine=Off", "; pass");
    with("ruleEngine=DetectionOnly", "10; pass");
    with("ruleRemoveById=10", "; pass");
    with("ruleRemoveById=5-15", "; pass");
    with("ruleRemoveById=11", "10; deny 403 by 10");
    with("ruleRemoveByTag=t/a", "; pass");
    with("ruleRemoveByTag=t/", "10; deny 403 by 10");
    with("ruleRemoveByTag=^t/.*", "; pass");
    with("ruleRemoveByMsg=found (it)", "; pass");
    with("ruleRemoveTargetById=10;ARGS:x", "; pass");
    with("ruleRemoveTargetById=10;ARGS:/^X$/", "; pass");
    with("ruleRemoveTargetById=10;ARGS", "; pass");
    with("ruleRemoveTargetById=10;ARGS:y", "10; deny 403 by 10");
    with("ruleRemoveTargetByTag=t/a;ARGS:x", "; pass");
    with("ruleRemoveTargetByMsg=found (it);ARGS:x", "; pass");
    // Links of a chain are reached as well.
    check(&[(
        "SecAction \"id:1,phase:1,nolog,pass,ctl:ruleRemoveTargetById=10;ARGS:x\"
         SecRule REQUEST_METHOD \"@streq GET\" \"id:10,phase:2,deny,chain\"\nSecRule ARGS \"@eq 1\"",
        GET,
        "; pass",
    )]);
    // Counts know removals as well.
    check(&[(
        "SecAction \"id:1,phase:1,nolog,pass,ctl:ruleRemoveTargetById=10;REQUEST_HEADERS:host\"
         SecRule &REQUEST_HEADERS:Host \"@eq 0\" \"id:10,phase:2,pass\"\nSecRule &REQUEST_HEADERS:Host \"!@eq 1\" id:11,phase:2
         SecRule &REQUEST_HEADERS \"@eq 2\" id:12,phase:2",
        GET,
        "10 12; pass",
    )]);
    // A removal in the middle of a phase holds from the next rule on.
    check(&[(
        "SecAction id:1,phase:2\nSecAction \"id:2,phase:2,ctl:ruleRemoveById=1-3\"\nSecAction id:3,phase:2",
        GET,
        "1 2; pass",
    )]);
    let body = "POST / HTTP/1.1\nContent-Type: text/plain\n\na=b";
    check(&[
        (
            "SecAction id:1,phase:1,nolog,ctl:forceRequestBodyVariable=On\nSecRule REQUEST_BODY \"@streq a=b\" id:2",
            body,
            "2; pass",
        ),
        (
            "SecAction id:1,phase:1,nolog,ctl:requestBodyProcessor=URLENCODED\nSecRule ARGS_POST:a \"@streq b\" id:2",
            body,
            "2; pass",
        ),
        (
            "SecAction id:1,phase:1,nolog,ctl:requestBodyAccess=Off\nSecRule REQUEST_BODY \"@rx .\" id:2",
            body,
            "; pass",
        ),
        (
            "SecAction id:1,phase:1,nolog,ctl:requestBodyLimit=2\nSecAction id:2,phase:2",
            body,
            "; deny 413 by 0",
        ),
    ]);
}

#[test]
fn macros() {
    for (template, expected) in [
        ("%{REQUEST_METHOD} %{request_headers.user-agent}", "GET ua"),
        ("%{ARGS.Y}|%{ARGS:x}|%{ARGS.none}", "Abc|1|"),
        ("%{rule.id}", "1"),
        ("%{MATCHED_VAR_NAME}=%{MATCHED_VAR}", "ARGS:y=abc"),
        ("%{TX.0}", "ab"),
        ("%{nonsense} %{", "%{nonsense} %{"),
        ("100%", "100%"),
        ("%{REMOTE_ADDR}:%{SERVER_PORT}", "192.0.2.1:80"),
        ("%{HIGHEST_SEVERITY}", "2"),
    ] {
        let rules = format!(
            "SecRule ARGS:y \"@rx ab\" \"id:1,phase:2,t:lowercase,capture,severity:CRITICAL,msg:'{template}'\""
        );
        assert_eq!(message(&rules, GET), expected, "{template}");
    }
}

#[test]
fn records() {
    let rules = "SecRule ARGS \"@rx (?i)a|1\" \"id:7,phase:2,deny,t:lowercase,msg:'m',logdata:'d %{MATCHED_VAR}',\
                 tag:'one',tag:'two',severity:'ERROR',ver:'v/1',rev:'2',maturity:3,accuracy:4\"";
    let mut transaction = Transaction::new(compile(rules), Services::default());
    run(&mut transaction, GET);
    let [matched] = transaction.matches() else { panic!("{:?}", transaction.matches()) };
    let info = &matched.rule;
    assert_eq!((info.id, info.phase, info.line, info.file.as_str()), (7, 2, 4, "t.conf"));
    assert_eq!(
        (info.severity, info.ver.as_deref(), info.rev.as_deref()),
        (Some(Severity::Error), Some("v/1"), Some("2"))
    );
    assert_eq!((info.maturity, info.accuracy), (Some(3), Some(4)));
    assert_eq!(matched.tags(), ["one", "two"]);
    assert_eq!((matched.message.to_string(), matched.data.to_string()), ("m".to_owned(), "d abc".to_owned()));
    let values: Vec<String> = matched.values.iter().map(|v| format!("{}={}", v.variable, v.value)).collect();
    assert_eq!(values, ["ARGS:x=1", "ARGS:y=abc"]);
    assert_eq!((matched.action, matched.interrupted), (Disruption::Deny, true));
    let json = serde_json::to_value(matched).unwrap_or_default();
    assert_eq!(
        (json["id"].as_u64(), json["severity"].as_str(), json["action"].as_str()),
        (Some(7), Some("ERROR"), Some("deny"))
    );
}

#[test]
fn sanitise() {
    let rules = "SecAction \"id:1,phase:1,nolog,sanitiseArg:pw,sanitiseRequestHeader:Authorization\"
                 SecRule ARGS:y \"@rx b\" \"id:2,phase:2,sanitiseMatched\"\nSecRule ARGS:y \"@rx .\" \"id:3,phase:2,sanitiseMatchedBytes:1/2\"";
    let mut transaction = Transaction::new(compile(rules), Services::default());
    run(&mut transaction, GET);
    let shown: Vec<String> = transaction.sanitised().iter().map(|s| format!("{s:?}")).collect();
    assert_eq!(
        shown,
        [
            "Argument(\"pw\")",
            "RequestHeader(\"Authorization\")",
            "Argument(\"y\")",
            "Bytes { value: \"Abc\", keep_first: 1, keep_last: 2 }"
        ]
    );
}

#[test]
fn audit() {
    let wanted = |rules: &str, exchange: &str| {
        let mut transaction = Transaction::new(compile(rules), Services::default());
        run(&mut transaction, exchange);
        transaction.is_for_audit()
    };
    let missing = "GET / HTTP/1.1\n\n\n>>>\nHTTP/1.1 404 Not\n\n";
    assert!(!wanted("SecAction id:1,phase:1", GET));
    assert!(wanted("SecAuditEngine On", GET));
    assert!(wanted("SecAuditEngine RelevantOnly\nSecAction id:1,phase:1", GET));
    assert!(wanted("SecAuditEngine RelevantOnly\nSecAction id:1,phase:1,nolog,auditlog", GET));
    assert!(!wanted("SecAuditEngine RelevantOnly\nSecAction id:1,phase:1,noauditlog", GET));
    assert!(!wanted("SecAuditEngine RelevantOnly\nSecAction id:1,phase:1,nolog", GET));
    assert!(!wanted("SecAuditEngine RelevantOnly\nSecAuditLogRelevantStatus ^5", missing));
    assert!(wanted("SecAuditEngine RelevantOnly\nSecAuditLogRelevantStatus ^(?:5|4)", missing));
    assert!(!wanted("SecAuditEngine On\nSecAction id:1,phase:1,ctl:auditEngine=Off", GET));
}
