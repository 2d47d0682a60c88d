//! What the loader says, and exclusions at load.

use super::{check, show, try_compile};
use crate::Level;

const GET: &str = "GET /?x=1 HTTP/1.1\nHost: h\n\n";

/// Everything said about these directives, one line each, without the file's name.
fn said(rules: &str) -> String {
    let diagnostics = match try_compile(rules) {
        Ok((_, said)) | Err(said) => said,
    };
    show(&diagnostics).replace("t.conf:", "")
}

#[test]
fn diagnostics_have_places_and_help() {
    let rows = [
        ("SecRule ARGZ x id:1", "4:9: error: rule 1: there is no variable ARGZ; did you mean ARGS?"),
        ("SecRule ARGS x", "4:1: error: the rule has no id; add id:.. with a number of its own"),
        ("SecRule ARGS \"@foo x\" id:1", "4:15: error: rule 1: there is no operator @foo"),
        ("SecRule ARGS \"@rx (\" id:1", "4:15: error: rule 1: "),
        ("SecRule ARGS x id:1,phase:9", "4:21: error: rule 1: there is no such phase"),
        ("SecRule ARGS x id:1,t:foo", "4:21: error: rule 1: there is no transformation foo"),
        ("SecRule ARGS x id:1,foo", "4:21: error: rule 1: there is no action foo"),
        ("SecRule ARGS x \"id:1,\\\n  severity:BAD\"", "5:3: error: rule 1: there is no severity BAD"),
        ("SecAction id:1\nSecAction id:1", "5:1: error: rule 1: there are two rules with the id 1"),
        ("SecRule ARGS x id:1,chain", "4:1: error: rule 1: the chain ends without a last rule"),
        ("SecRulee ARGS x", "4:1: error: there is no directive SecRulee; did you mean SecRule?"),
        ("SecRule ARGS \"x", "4:14: error: this quote is never closed"),
        ("SecRuleEngine Maybe", "4:15: error: SecRuleEngine takes On, Off or DetectionOnly, not \"Maybe\""),
        ("SecAction id:1,exec:/bin/x", "4:16: error: rule 1: exec is refused"),
        ("SecAction id:1,proxy:http://x", "4:16: error: rule 1: proxy is refused"),
        ("SecRuleScript x.lua", "4:1: error: SecRuleScript is refused"),
        ("SecRule FILES \"@inspectFile x\" id:1", "4:16: error: rule 1: "),
        ("SecPcreMatchLimit 1", "4:1: notice: SecPcreMatchLimit has no effect here"),
        ("SecRuleRemoveById 77", "4:1: warning: no rule has the id 77"),
        ("SecAction id:1,ctl:ruleRemoveByTag=x", "4:16: warning: no rule has the tag x"),
        ("SecAction id:1,skipAfter:X", "4:16: warning: rule 1: there is no marker X after this rule"),
        ("SecAction id:1,setvar:foo.x=1", "4:16: error: rule 1: foo is no collection that can be set"),
        ("SecAction \"id:1,msg:'%{FOO}'\"", "4:1: warning: rule 1: %{FOO} names no variable"),
        ("Include missing.conf", "4:9: error: missing.conf: no such file"),
        ("IncludeOptional missing.conf", ""),
        ("SecRule REQUEST_METHOD:x y id:1", "4:9: error: rule 1: REQUEST_METHOD is a single value"),
        ("SecRule ARGS:/(/ y id:1", "4:9: error: rule 1: "),
        ("SecRuleUpdateTargetById 5 \"!ARGS\"", "4:1: warning: no rule has the id 5"),
    ];
    for (rules, expected) in rows {
        let got = said(rules);
        assert!(
            got.starts_with(expected) && got.is_empty() == expected.is_empty(),
            "{rules}\n got {got}\nwant {expected}"
        );
    }
}

#[test]
fn all_errors_are_said_at_once() {
    let Err(diagnostics) = try_compile("SecRule ARGZ x id:1\nFoo\nSecRule ARGS \"@rx (\" id:2") else {
        panic!()
    };
    assert_eq!(diagnostics.iter().filter(|d| d.level == Level::Error).count(), 3);
}

/// What becomes of every directive of the ModSecurity v3 reference manual: nothing is silently ignored.
#[test]
fn every_directive_of_the_manual_has_its_answer() {
    let implemented = "SecArgumentsLimit 5|SecArgumentSeparator ;|SecAuditEngine RelevantOnly|SecAuditLog /a|SecAuditLog2 /b|\
        SecAuditLogDir /c|SecAuditLogFormat JSON|SecAuditLogParts ABZ|SecAuditLogRelevantStatus ^5|SecAuditLogStorageDir /d|\
        SecAuditLogType Serial|SecCollectionTimeout 60|SecComponentSignature x/1|SecCookieV0Separator ;|SecParseXmlIntoArgs On|\
        SecRequestBodyAccess Off|SecRequestBodyJsonDepthLimit 9|SecRequestBodyLimit 9|SecRequestBodyLimitAction ProcessPartial|\
        SecRequestBodyNoFilesLimit 9|SecResponseBodyAccess Off|SecResponseBodyLimit 9|SecResponseBodyLimitAction Reject|\
        SecResponseBodyMimeType text/a text/b|SecResponseBodyMimeTypesClear|SecRuleEngine DetectionOnly|SecSensorId s|\
        SecServerSignature s|SecUploadFileLimit 3|SecWebAppId w|SecMarker M|SecAction id:1|SecRule ARGS x id:1|\
        SecDefaultAction phase:1,pass|IncludeOptional none.conf";
    let without_effect = "SecAuditLogDirMode SecAuditLogFileMode SecAuditLogPrefix SecCacheTransformations SecChrootDir SecConnEngine \
        SecConnReadStateLimit SecConnWriteStateLimit SecContentInjection SecCookieFormat SecDataDir SecDebugLog SecDebugLogLevel \
        SecDisableBackendCompression SecGeoLookupDb SecHashEngine SecHashKey SecHashMethodPm SecHashMethodRx SecHashParam \
        SecHttpBlKey SecInterceptOnError SecPcreMatchLimit SecPcreMatchLimitRecursion SecPdfProtect SecPdfProtectMethod \
        SecPdfProtectSecret SecPdfProtectTimeout SecPdfProtectTokenName SecReadStateLimit SecRemoteRulesFailAction \
        SecRequestBodyInMemoryLimit SecRuleInheritance SecRulePerfTime SecStatusEngine SecStreamInBodyInspection \
        SecStreamOutBodyInspection SecTmpDir SecTmpSaveUploadedFiles SecUnicodeCodePage SecUnicodeMap SecUnicodeMapFile \
        SecUploadDir SecUploadFileMode SecUploadKeepFiles SecWriteStateLimit SecXmlExternalEntity";
    let refused = "SecGsbLookupDb SecGuardianLog SecIgnoreRuleCompilationErrors SecRemoteRules SecRuleScript";
    for directive in implemented.split('|') {
        assert_eq!(said(directive.trim_start()), "", "{directive}");
    }
    // Those that change other rules say so when there is none.
    for directive in ["ById 7", "ByTag t", "ByMsg m"].map(|rest| format!("SecRuleRemove{rest}")) {
        assert!(said(&directive).starts_with("4:1: warning: no rule has the "), "{directive}");
    }
    for directive in
        ["TargetById 7", "TargetByTag t", "TargetByMsg m"].map(|rest| format!("SecRuleUpdate{rest} !ARGS"))
    {
        assert!(said(&directive).starts_with("4:1: warning: no rule has the "), "{directive}");
    }
    assert!(said("SecRuleUpdateActionById 7 pass").starts_with("4:1: warning: no rule 7:0 to update"));
    for name in without_effect.split_ascii_whitespace() {
        let said = said(&format!("{name} x"));
        assert!(said.starts_with(&format!("4:1: notice: {name} has no effect here: ")), "{name}: {said}");
    }
    for name in refused.split_ascii_whitespace() {
        let said = said(&format!("{name} x"));
        assert!(said.starts_with(&format!("4:1: error: {name} is refused: ")), "{name}: {said}");
    }
}

#[test]
fn exclusions_at_load() {
    let rule = "SecRule ARGS \"@eq 1\" \"id:10,phase:2,deny,tag:'a/b',msg:'found (it)'\"\n";
    let with = |directive: &str, expected: &str| check(&[(&format!("{rule}{directive}"), GET, expected)]);
    let hit = "10; deny 403 by 10";
    with("SecRuleRemoveById 10", "; pass");
    with("SecRuleRemoveById 1 2-20", "; pass");
    with("SecRuleRemoveById \"1,5-10\"", "; pass");
    with("SecRuleRemoveByTag a/b", "; pass");
    with("SecRuleRemoveByTag a/", hit);
    with("SecRuleRemoveByMsg \"found (it)\"", "; pass");
    with("SecRuleUpdateTargetById 10 \"!ARGS:x\"", "; pass");
    with("SecRuleUpdateTargetById 9-11 \"!ARGS:/^X/\"", "; pass");
    with("SecRuleUpdateTargetById 10 \"!ARGS:y\"", hit);
    with("SecRuleUpdateTargetById 10 REQUEST_METHOD ARGS", "; pass");
    with("SecRuleUpdateTargetByTag a/b \"!ARGS:x\"", "; pass");
    with("SecRuleUpdateTargetByMsg \"found (it)\" \"!ARGS:x\"", "; pass");
    with("SecRuleUpdateActionById 10 pass", "10; pass");
    with("SecRuleUpdateActionById 10 \"deny,status:404,nolog\"", "; deny 404 by 10");
    with("SecRuleUpdateActionById 10 t:length", hit);
    with("SecRuleUpdateActionById 10 skipAfter:X,pass\nSecAction id:11,phase:2\nSecMarker X", "10; pass");
    let chain =
        "SecRule ARGS \"@eq 1\" \"id:10,phase:2,pass,chain\"\nSecRule ARGS:x \"@rx 1\" \"setvar:tx.a=1\"\n";
    let rules = format!("{chain}SecRuleUpdateActionById 10:1 t:sha1\n");
    check(&[(&rules, GET, "; pass")]);
}

#[test]
fn includes() {
    use crate::{CompileOptions, Entry, Ruleset, source::MemorySource};
    let files = MemorySource::new()
        .with("etc/main.conf", "SecRuleEngine On\nInclude rules/*.conf\nIncludeOptional none/*.conf")
        .with("etc/rules/a.conf", "SecAction id:1,phase:1")
        .with("etc/rules/b.conf", "SecRule ARGS \"@pmFromFile words.data\" id:2,phase:1")
        .with("etc/rules/words.data", "attack")
        .with("loop.conf", "Include loop.conf");
    let (rules, said) = Ruleset::compile(&files, &[Entry::File("etc/main.conf")], &CompileOptions::default())
        .unwrap_or_else(|d| panic!("{}", show(&d)));
    assert_eq!(
        rules.rules().map(|r| (r.id, r.file.clone())).collect::<Vec<_>>(),
        [(1, "etc/rules/a.conf".to_owned()), (2, "etc/rules/b.conf".to_owned())]
    );
    assert!(said.is_empty(), "{}", show(&said));
    let looped = Ruleset::compile(&files, &[Entry::File("loop.conf")], &CompileOptions::default());
    assert!(looped.is_err_and(|d| show(&d).contains("includes nest deeper")));
}

/// Whatever stands in a rule file, the loader answers: cut and twisted text, from a fixed sequence of numbers.
#[test]
fn twisted_rule_files_do_no_harm() {
    let text = "SecRule ARGS|!ARGS:/a|b/|&TX:x|XML:/* \"!@rx (?i)a\\\"b\" \\\n  \"id:1,phase:2,t:none,msg:'it\\'s %{TX.a}',\
                setvar:'tx.a=+%{tx.b}',ctl:ruleRemoveTargetById=1;ARGS:x,chain\"\nSecRule ARGS:'x' \"@eq %{tx.y}\" \"t:length\"\n\
                SecMarker \"M\"\nSecRuleUpdateTargetById 1-5:2 \"!ARGS:é\"\nSecDefaultAction \"phase:2,pass\"\n";
    let twists: &[&str] =
        &["", "'", "\"", "\\", "\n", "|", ",", ":", "/", "%{", "}", "!", "=", "é", "\u{0}", " "];
    let mut state = 1_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..1000 {
        let mut twisted: Vec<char> = text.chars().collect();
        for _ in 0..=next(4) {
            let at = next(twisted.len());
            let until = (at + next(3)).min(twisted.len());
            twisted.splice(at..until, twists[next(twists.len())].chars());
        }
        twisted.truncate(twisted.len() - next(twisted.len() / 4));
        let twisted: String = twisted.into_iter().collect();
        if let Ok((rules, _)) = try_compile(&twisted) {
            let mut transaction =
                crate::Transaction::new(std::sync::Arc::new(rules), crate::Services::default());
            super::run(&mut transaction, GET);
        }
    }
}
