//! Bodies through their processors.

use std::sync::{Arc, Mutex, PoisonError};

use super::{check, compile, run};
use crate::{Observer, Services, Transaction};

const MULTIPART: &str = "POST / HTTP/1.1\nContent-Type: multipart/form-data; boundary=b\n\n--b\r\nContent-Disposition: form-data; \
    name=\"f\"\r\n\r\nfield\r\n--b\r\nContent-Disposition: form-data; name=\"up\"; filename=\"a.php\"\r\nContent-Type: x/y\r\n\r\n\
    0123456789\r\n--b--\r\n";

#[test]
fn multipart() {
    let rows = [
        ("ARGS_POST:f \"@streq field\"", true),
        ("ARGS:up \"@rx .\"", false),
        ("FILES:up \"@streq a.php\"", true),
        ("FILES_NAMES \"@streq up\"", true),
        ("FILES_SIZES:up \"@eq 10\"", true),
        ("FILES_COMBINED_SIZE \"@eq 10\"", true),
        ("FILES_TMP_CONTENT:up \"@streq 0123456789\"", true),
        ("&MULTIPART_PART_HEADERS:up \"@eq 2\"", true),
        ("MULTIPART_PART_HEADERS:up \"@streq Content-Type: x/y\"", true),
        ("MULTIPART_NAME \"@streq up\"", true),
        ("MULTIPART_FILENAME \"@streq a.php\"", true),
        ("MULTIPART_STRICT_ERROR \"@eq 0\"", true),
        ("REQBODY_ERROR \"@eq 0\"", true),
        ("REQBODY_PROCESSOR \"@streq MULTIPART\"", true),
        ("REQUEST_BODY \"@rx .\"", false),
    ];
    for (test, expected) in rows {
        let rules = format!("SecRule {test} id:1,phase:2");
        check(&[(&rules, MULTIPART, if expected { "1; pass" } else { "; pass" })]);
    }
    let length = MULTIPART.split_once("\n\n").map_or(0, |(_, body)| body.len());
    let limits = |name: &str, limit: usize| format!("{name} {limit}\nSecAction id:1,phase:2");
    let broken = MULTIPART.replace("--b--", "");
    check(&[
        ("SecRule REQBODY_ERROR|MULTIPART_STRICT_ERROR \"@eq 1\" id:1", &broken, "1; pass"),
        // What is in files does not count for the limit without files.
        (&limits("SecRequestBodyNoFilesLimit", length - 10), MULTIPART, "1; pass"),
        (&limits("SecRequestBodyNoFilesLimit", length - 11), MULTIPART, "; deny 413 by 0"),
        (&limits("SecRequestBodyLimit", length - 1), MULTIPART, "; deny 413 by 0"),
    ]);
}

#[test]
fn xml_as_arguments() {
    let xml = "POST / HTTP/1.1\nContent-Type: text/xml\n\n<n:a k=\"v\">t<b>u</b><b>w</b></n:a>";
    let with = |directive: &str, ctl: &str, test: &str| {
        format!(
            "{directive}\nSecAction id:9,phase:1,nolog,ctl:requestBodyProcessor=XML{ctl}\nSecRule {test} id:1"
        )
    };
    let rows = [
        ("", "", "&ARGS \"@eq 0\""),
        ("SecParseXmlIntoArgs On", "", "ARGS:xml.a.b \"@streq w\""),
        ("SecParseXmlIntoArgs On", "", "ARGS_NAMES \"@streq xml.a\""),
        ("SecParseXmlIntoArgs On", "", "XML:/* \"@streq u\""),
        ("SecParseXmlIntoArgs On", "", "&ARGS_POST \"@eq 3\""),
        ("SecParseXmlIntoArgs OnlyArgs", "", "&XML:/* \"@eq 0\""),
        ("SecParseXmlIntoArgs OnlyArgs", "", "ARGS \"@streq t\""),
        ("SecParseXmlIntoArgs On", ",ctl:parseXmlIntoArgs=Off", "&ARGS \"@eq 0\""),
        ("", ",ctl:parseXmlIntoArgs=OnlyArgs", "ARGS:xml.a \"@streq t\""),
    ];
    for (directive, ctl, test) in rows {
        check(&[(&with(directive, ctl, test), xml, "1; pass")]);
    }
}

#[test]
fn elements_of_json_arrays_have_either_name() {
    use crate::{
        CompileOptions, Entry, Ruleset, Services, Transaction, body::json::ArrayNaming, source::MemorySource,
    };
    let text = "SecRuleEngine On\nSecRequestBodyAccess On\nSecAction id:9,phase:1,nolog,ctl:requestBodyProcessor=JSON\n\
                SecRule ARGS:json.a.0 \"@eq 7\" id:1,phase:2\nSecRule ARGS:json.a.array_0 \"@eq 7\" id:2,phase:2";
    for (json_arrays, expected) in [(ArrayNaming::Index, 1), (ArrayNaming::V3, 2)] {
        let options = CompileOptions { json_arrays, ..CompileOptions::default() };
        let entries = [Entry::Text { name: "t.conf", text }];
        let Ok((rules, _)) = Ruleset::compile(&MemorySource::new(), &entries, &options) else { panic!() };
        let mut transaction = Transaction::new(Arc::new(rules), Services::default());
        run(&mut transaction, "POST / HTTP/1.1\nContent-Type: application/json\n\n{\"a\":[7]}");
        let ids: Vec<u64> = transaction.matches().iter().map(|m| m.rule.id).collect();
        assert_eq!(ids, [expected]);
    }
}

#[test]
fn json_and_xml() {
    let json = "POST / HTTP/1.1\nContent-Type: application/json\n\n{\"a\":[1,{\"b\":\"x\"}],\"c\":true}";
    let with_json = |test: &str| {
        format!("SecAction id:9,phase:1,nolog,ctl:requestBodyProcessor=JSON\nSecRule {test} id:1")
    };
    check(&[
        (&with_json("ARGS:json.a.0 \"@eq 1\""), json, "1; pass"),
        (&with_json("ARGS:json.a.1.b \"@streq x\""), json, "1; pass"),
        (&with_json("ARGS_NAMES \"@streq json.c\""), json, "1; pass"),
        (&with_json("REQBODY_ERROR \"@eq 1\""), &json.replace("true}", "true"), "1; pass"),
    ]);
    let xml = "POST / HTTP/1.1\nContent-Type: text/xml\n\n<a k=\"v\">t<b>u</b></a>";
    let with_xml = |test: &str| {
        format!("SecAction id:9,phase:1,nolog,ctl:requestBodyProcessor=XML\nSecRule {test} id:1")
    };
    check(&[
        (&with_xml("XML:/* \"@rx u\""), xml, "1; pass"),
        (&with_xml("XML://@* \"@streq v\""), xml, "1; pass"),
        (&with_xml("XML:/*|!XML:/* \"@rx .\""), xml, "; pass"),
        (&with_xml("REQBODY_ERROR \"@eq 1\""), &xml.replace("</a>", ""), "1; pass"),
    ]);
}

/// A rule's id, and whether it matched once that is known.
type Seen = (u64, Option<bool>);

#[derive(Clone, Default)]
struct Watch(Arc<Mutex<Vec<Seen>>>);

impl Watch {
    fn push(&self, seen: Seen) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }
}

impl Observer for Watch {
    fn begins(&mut self, rule_id: u64) {
        self.push((rule_id, None));
    }
    fn ends(&mut self, rule_id: u64, matched: bool) {
        self.push((rule_id, Some(matched)));
    }
}

#[test]
fn tools_see_more() {
    let rules =
        "SecAction id:1,phase:1,nolog,pass\nSecRule REQUEST_METHOD \"@within PUT\" id:2,phase:1,nolog,pass";
    let mut transaction = Transaction::new(compile(rules), Services::default());
    let watch = Watch::default();
    transaction.observe(Some(Box::new(watch.clone())));
    transaction.record_all(true);
    run(&mut transaction, "GET / HTTP/1.1\n\n");
    let recorded: Vec<_> = transaction.matches().iter().map(|m| (m.rule.id, m.log)).collect();
    assert_eq!(recorded, [(1, false)]);
    let seen = watch.0.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(seen[..2], [(1, None), (1, Some(true))]);
}
