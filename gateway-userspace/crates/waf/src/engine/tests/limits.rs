//! Body and argument limits.

use super::{check, compile, run};
use crate::{Services, Transaction};

const FORM: &str = "POST / HTTP/1.1\nContent-Type: application/x-www-form-urlencoded\n\na=123456&b=attack";
const PAGE: &str = "GET / HTTP/1.1\n\n\n>>>\nHTTP/1.1 200 OK\nContent-Type: text/html\n\n0123456789";

#[test]
fn body_limits() {
    check(&[
        ("SecRequestBodyLimit 10\nSecAction id:1,phase:2", FORM, "; deny 413 by 0"),
        ("SecRequestBodyLimit 17\nSecAction id:1,phase:2", FORM, "1; pass"),
        ("SecRequestBodyNoFilesLimit 10\nSecAction id:1,phase:2", FORM, "; deny 413 by 0"),
        (
            "SecRequestBodyLimit 10\nSecRequestBodyLimitAction ProcessPartial\nSecRule ARGS:a \"@streq 123456\" id:1
             SecRule ARGS:b \"@rx attack\" id:2\nSecRule INBOUND_DATA_ERROR \"@eq 1\" id:3",
            FORM,
            "1 3; pass",
        ),
        ("SecRuleEngine DetectionOnly\nSecRequestBodyLimit 10\nSecAction id:1,phase:2", FORM, "1; pass"),
        ("SecResponseBodyLimit 5\nSecAction id:1,phase:4", PAGE, "; deny 500 by 0"),
        (
            "SecResponseBodyLimit 5\nSecResponseBodyLimitAction ProcessPartial\nSecRule RESPONSE_BODY \"@streq 01234\" id:1,phase:4
             SecRule OUTBOUND_DATA_ERROR \"@eq 1\" id:2,phase:4",
            PAGE,
            "1 2; pass",
        ),
    ]);
}

#[test]
fn arguments_are_limited() {
    let many = format!("GET /?{} HTTP/1.1\n\n", "a=1&".repeat(50));
    check(&[
        ("SecArgumentsLimit 20\nSecRule &ARGS \"@eq 20\" id:1", &many, "1; pass"),
        ("SecRule &ARGS \"@eq 50\" id:1", &many, "1; pass"),
        // What the rules do not see is never passed over in silence.
        ("SecArgumentsLimit 49\nSecRule REQBODY_ERROR \"@eq 1\" id:1", &many, "1; pass"),
        ("SecArgumentsLimit 50\nSecRule REQBODY_ERROR \"@eq 1\" id:1", &many, "; pass"),
        (
            "SecArgumentsLimit 1\nSecRule REQBODY_ERROR_MSG \"@contains SecArgumentsLimit\" id:1",
            FORM,
            "1; pass",
        ),
    ]);
}

#[test]
fn memory_is_reused_without_traces() {
    let rules = "SecRule ARGS \"@rx attack\" \"id:1,phase:2,deny,setvar:tx.seen=1,ctl:ruleRemoveById=2\"
                 SecRule &TX:seen \"@eq 1\" id:2,phase:2\nSecRule &ARGS \"@eq 0\" id:3,phase:2";
    let mut transaction = Transaction::new(compile(rules), Services::default());
    for _ in 0..3 {
        assert!(run(&mut transaction, FORM).is_blocking());
        assert!(!run(&mut transaction, "GET / HTTP/1.1\n\n").is_blocking());
        let ids: Vec<u64> = transaction.matches().iter().map(|m| m.rule.id).collect();
        assert_eq!(ids, [3]);
    }
}

#[test]
fn odd_requests_do_no_harm() {
    let rules = "SecRule REQUEST_LINE|REQUEST_URI|REQUEST_BASENAME|ARGS|REQUEST_HEADERS|FULL_REQUEST \"@rx .\" id:1,phase:1";
    let mut transaction = Transaction::new(compile(rules), Services::default());
    for line in [
        "",
        " ",
        "GET",
        "GET ",
        "GET  ",
        " / HTTP/1.1",
        "GET /",
        "GET / x HTTP/1.1",
        "\u{0}",
        "GET http:// HTTP/9",
    ] {
        run(&mut transaction, line);
        transaction.request_line(line.as_bytes(), line.as_bytes(), b"");
        transaction.request_header(b"", b"");
        transaction.request_header(b"host", b"[");
    }
}
