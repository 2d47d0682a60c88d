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
    assert!(compile(LEVELS, true).levels[0].len() == 1, "the levels are masks");
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

/// Rules that begin with a comparison of one of two variables; some only skip.
const SUMS: &str = "
SecRule TX:LEVEL \"@lt 1\" id:20,phase:1,pass,nolog,skipAfter:ONE
SecRule ARGS:say \"@rx a\" id:21,phase:1,pass
SecMarker ONE
SecRule TX:DEEP \"@lt 2\" id:22,phase:1,pass,nolog,skipAfter:TWO
SecRule TX:LEVEL \"@ge 2\" id:31,phase:1,pass
SecRule TX:DEEP \"@ge 3\" id:32,phase:1,pass
SecMarker TWO
SecRule TX:LEVEL \"!@ge 2\" id:33,phase:1,pass
SecRule TX:DEEP \"@ge 2\" id:34,phase:1,pass,chain
SecRule ARGS:say \"@rx b\"
SecRule TX:OTHER \"@ge 1\" id:35,phase:1,pass
SecRule ARGS:say \"@rx .\" id:36,phase:1,pass
";

#[test]
fn levels_of_two_variables() {
    let crossing = SUMS
        .replace("SecMarker ONE\n", "")
        .replace("SecRule TX:LEVEL \"@ge 2\"", "SecMarker ONE\nSecRule TX:LEVEL \"@ge 2\"");
    assert_eq!(compile(SUMS, true).levels[0].len(), 2, "both variables have masks");
    assert_eq!(compile(&crossing, true).levels[0].len(), 1, "one passes the other's gate by");
    let at = |level: u8, deep: u8, rules: &str| {
        format!("SecAction id:2,phase:1,pass,nolog,setvar:tx.level={level},setvar:tx.deep={deep}\n{rules}")
    };
    let removing = |id: u8| {
        at(1, 1, SUMS).replace("id:21,phase:1,pass", &format!("id:21,phase:1,pass,ctl:ruleRemoveById={id}"))
    };
    check(&[
        (SUMS.to_owned(), SAY, &["21", "36"]),
        (at(0, 0, SUMS), SAY, &["33", "36"]),
        (at(1, 1, SUMS), SAY, &["21", "33", "36"]),
        (at(2, 1, SUMS), SAY, &["21", "36"]),
        (at(1, 2, SUMS), SAY, &["21", "33", "34", "36"]),
        (at(2, 3, SUMS), SAY, &["21", "31", "32", "34", "36"]),
        (at(0, 3, SUMS), SAY, &["32", "33", "34", "36"]),
        // What is taken away when both have left their masks.
        (removing(22), SAY, &["21", "33", "36"]),
        (removing(33), SAY, &["21", "36"]),
        (
            at(2, 1, &SUMS.replace("id:31,phase:1,pass", "id:31,phase:1,pass,ctl:ruleRemoveById=34")),
            SAY,
            &["21", "36"],
        ),
        (
            at(3, 3, &SUMS.replace("id:31,phase:1,pass", "id:31,phase:1,pass,ctl:ruleRemoveById=34")),
            SAY,
            &["21", "31", "32", "36"],
        ),
        // The first leap ends behind the second gate, so that its rules run.
        (at(0, 1, &crossing), SAY, &["33", "36"]),
        (at(0, 3, &crossing), SAY, &["32", "33", "34", "36"]),
        (at(1, 1, &crossing), SAY, &["21", "33", "36"]),
        (at(2, 2, &crossing), SAY, &["21", "31", "34", "36"]),
    ]);
}

/// MATCHED_VAR is of the last match, but a rule that does nothing but skip by a comparison leaves it alone. ModSecurity v3 would name
/// that rule's variable, up to the next rule that does not match: there it is empty.
#[test]
fn what_only_skips_leaves_the_matched_variable() {
    let say = "SecAction \"id:9,phase:1,pass,msg:'%{MATCHED_VAR_NAME}=%{MATCHED_VAR}'\"";
    let first = "SecAction id:1,phase:1,pass,nolog,setvar:tx.level=1\nSecRule ARGS:say \"@rx b\" id:2,phase:1,pass,nolog";
    let skips = "SecRule TX:level \"@lt 2\" \"id:3,phase:1,pass,nolog,skipAfter:END\"";
    let no_match = "SecRule ARGS:say \"@rx z\" id:4,phase:1,pass";
    check(&[
        (format!("{first}\n{say}"), SAY, &["9 ARGS:say=abc"]),
        (format!("{first}\n{no_match}\n{say}"), SAY, &["9 ARGS:say=abc"]),
        (format!("{first}\n{skips}\nSecMarker END\n{say}"), SAY, &["9 ARGS:say=abc"]),
        // With anything else to do it counts.
        (
            format!("{first}\n{}\nSecMarker END\n{say}", skips.replace("nolog,", "nolog,setvar:tx.x=1,")),
            SAY,
            &["9 TX:level=1"],
        ),
    ]);
}
