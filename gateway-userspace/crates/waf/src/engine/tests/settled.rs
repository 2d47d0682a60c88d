//! What is worked out at load says the same as the rules themselves.

use std::sync::Arc;

use super::{run, show};
use crate::{CompileOptions, Entry, Ruleset, Services, Transaction, source::MemorySource};

/// Defaults as CRS has them; rule 90 says what they came to.
const DEFAULTS: &str = "
SecAction id:10,phase:1,pass,nolog,setvar:tx.version=4280,setvar:tx.name=a_b
SecRule &TX:version \"@eq 0\" id:11,phase:1,deny,status:500
SecRule &TX:level \"@eq 0\" id:12,phase:1,pass,nolog,setvar:tx.level=1
SecRule &TX:deep \"@eq 0\" id:13,phase:1,pass,nolog,setvar:'tx.deep=%{TX.level}'
SecRule &TX:sum \"@eq 0\" id:14,phase:1,pass,nolog,setvar:tx.sum=+3,setvar:'tx.sum=+%{tx.level}',setvar:tx.sum=-1
SecRule TX:name \"@eq 0\" id:15,phase:1,pass,nolog,setvar:'!tx.gone',setvar:'tx.text=<%{tx.name}|%{tx.version}>'
SecRule TX:level \"@ge 5\" id:16,phase:1,pass,nolog,setvar:tx.high=1
SecRule TX:sampling \"@lt 100\" id:17,phase:1,pass,nolog,skipAfter:AFTER
SecRule TX:level \"@lt 9\" id:18,phase:1,pass,nolog,skipAfter:AFTER
SecAction id:19,phase:1,pass,nolog,setvar:tx.skipped=1
SecMarker AFTER
SecRule ARGS:say \"@rx .\" \"id:90,phase:1,pass,msg:'%{tx.version} %{tx.level} %{tx.deep} %{tx.sum} %{tx.text} %{tx.high}%{tx.skipped}%{tx.gone}'\"
";

/// Rules behind levels; the letters tell which ran.
const LEVELS: &str = "
SecRule TX:LEVEL \"@lt 1\" id:20,phase:1,pass,nolog,skipAfter:ONE
SecRule ARGS:say \"@rx a\" id:21,phase:1,pass
SecRule TX:LEVEL \"@lt 2\" id:22,phase:1,pass,nolog,skipAfter:ONE
SecRule ARGS:say \"@rx b\" id:23,phase:1,pass
SecRule TX:LEVEL \"!@ge 3\" id:24,phase:1,pass,nolog,skipAfter:ONE
SecRule ARGS:say \"@rx c\" id:25,phase:1,pass
SecMarker ONE
SecRule TX:LEVEL \"@lt 2\" id:30,phase:1,pass,nolog,skipAfter:TWO
SecRule ARGS:say \"@rx b\" id:31,phase:1,pass
SecMarker TWO
SecRule ARGS:say \"@rx .\" id:32,phase:1,pass
";

fn compile(rules: &str, prefilter: bool) -> Ruleset {
    let text = format!("SecRuleEngine On\n{rules}");
    let options = CompileOptions { prefilter, ..CompileOptions::default() };
    match Ruleset::compile(&MemorySource::new(), &[Entry::Text { name: "t.conf", text: &text }], &options) {
        Ok((ruleset, _)) => ruleset,
        Err(diagnostics) => panic!("{rules}\n{}", show(&diagnostics)),
    }
}

/// What a request matches, with the messages, worked out at load and rule by rule.
fn both(rules: &str, request: &str) -> [Vec<String>; 2] {
    [true, false].map(|prefilter| {
        let mut transaction = Transaction::new(Arc::new(compile(rules, prefilter)), Services::default());
        // The second time every rule was looked at before.
        run(&mut transaction, request);
        run(&mut transaction, request);
        let said = |m: &crate::MatchedRule| format!("{} {}", m.rule.id, m.message).trim().to_owned();
        transaction.matches().iter().map(said).collect()
    })
}

fn check(rows: &[(String, &str, &[&str])]) {
    for (rules, request, expected) in rows {
        let [settled, naive] = both(rules, request);
        assert_eq!(settled, naive, "{request}\n{rules}");
        assert_eq!(settled, *expected, "{request}\n{rules}");
    }
}

const SAY: &str = "GET /?say=abc HTTP/1.1\nHost: h\n\n";

#[test]
fn defaults() {
    let ruleset = compile(DEFAULTS, true);
    let settled = ruleset.settled.expect("the defaults are settled");
    assert_eq!(settled.to, 10, "they lead to the rule behind the marker");
    let with = |first: &str| format!("{first}\n{DEFAULTS}");
    check(&[
        (DEFAULTS.to_owned(), SAY, &["90 4280 1 1 3 <a_b|4280>"]),
        // A request that finds a variable set, or removed rules, runs them one by one.
        (
            with("SecRule ARGS:say \"@rx .\" id:1,phase:1,pass,nolog,setvar:tx.level=5"),
            SAY,
            &["90 4280 5 5 7 <a_b|4280> 1"],
        ),
        (
            with("SecRule ARGS:say \"@rx .\" id:1,phase:1,pass,nolog,ctl:ruleRemoveById=14"),
            SAY,
            &["90 4280 1 1  <a_b|4280>"],
        ),
        (
            with(
                "SecRule ARGS:say \"@rx .\" \"id:1,phase:1,pass,nolog,setvar:'tx.%{ARGS.say}=1',setvar:tx.sampling=5\"",
            ),
            SAY,
            &["90 4280 1 1 3 <a_b|4280>"],
        ),
        (with("SecRule ARGS:say \"@rx .\" id:1,phase:1,allow,nolog"), SAY, &[]),
        // What matched last is what the rules would leave behind.
        (
            format!(
                "{DEFAULTS}\nSecAction \"id:91,phase:1,pass,log,msg:'%{{MATCHED_VAR_NAME}}=%{{MATCHED_VAR}}'\""
            ),
            "GET / HTTP/1.1\nHost: h\n\n",
            &["91 TX:name=a_b"],
        ),
    ]);
}

#[test]
fn levels() {
    assert!(compile(LEVELS, true).levels[0].is_some(), "the levels are masks");
    let at = |level: &str| {
        format!("SecRule &TX:level \"@eq 0\" id:2,phase:1,pass,nolog,setvar:tx.level={level}\n{LEVELS}")
    };
    let with = |level: &str, first: &str| format!("{first}\n{}", at(level));
    let leap = |how: &str| {
        let rule = format!("SecRule ARGS:say \"@rx .\" id:3,phase:1,pass,nolog,{how}");
        at("1").replace("SecRule TX:LEVEL \"@lt 1\"", &format!("{rule}\nSecRule TX:LEVEL \"@lt 1\""))
    };
    let inside = |rule: &str| {
        at("3")
            .replace("SecRule ARGS:say \"@rx b\" id:23", &format!("{rule}\nSecRule ARGS:say \"@rx b\" id:23"))
    };
    check(&[
        // No value at all: no comparison holds.
        (LEVELS.to_owned(), SAY, &["21", "23", "25", "31", "32"]),
        (at("0"), SAY, &["32"]),
        (at("1"), SAY, &["21", "32"]),
        (at("2"), SAY, &["21", "23", "31", "32"]),
        (at("3"), SAY, &["21", "23", "25", "31", "32"]),
        (at("77"), SAY, &["21", "23", "25", "31", "32"]),
        (at("-9"), SAY, &["32"]),
        // A gate taken away lets everything behind it run, whenever that is said.
        (
            with("1", "SecRule ARGS:say \"@rx .\" id:1,phase:1,pass,nolog,ctl:ruleRemoveById=22"),
            SAY,
            &["21", "23", "32"],
        ),
        (
            at("1").replace("id:21,phase:1,pass", "id:21,phase:1,pass,ctl:ruleRemoveById=22"),
            SAY,
            &["21", "23", "32"],
        ),
        (
            at("1").replace("id:21,phase:1,pass", "id:21,phase:1,pass,ctl:ruleRemoveById=30"),
            SAY,
            &["21", "31", "32"],
        ),
        (
            at("1").replace("id:21,phase:1,pass", "\"id:21,phase:1,pass,ctl:ruleRemoveTargetById=30;TX\""),
            SAY,
            &["21", "31", "32"],
        ),
        // The level changes in the middle: what comes before goes by the old one.
        (
            inside("SecRule ARGS:say \"@rx .\" id:26,phase:1,pass,nolog,setvar:tx.level=1"),
            SAY,
            &["21", "23", "32"],
        ),
        (
            inside("SecRule ARGS:say \"@rx .\" \"id:26,phase:1,pass,nolog,setvar:'tx.%{ARGS.to}=1'\""),
            "GET /?say=abc&to=level HTTP/1.1\nHost: h\n\n",
            &["21", "23", "32"],
        ),
        // A leap into a region passes its gate by.
        (leap("skipAfter:22"), SAY, &["23", "32"]),
        (leap("skip:3"), SAY, &["23", "32"]),
    ]);
}
