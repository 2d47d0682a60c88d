//! The settings: every directive of the ModSecurity v3 reference manual that is no rule, with what becomes of it.

use super::ast::{AuditFormat, AuditMode, EngineMode, LimitAction, Setting, XmlArguments};

/// What becomes of a directive.
pub(super) enum Known {
    /// A setting: parses the argument, or says what is expected.
    Setting(fn(&[&str]) -> Result<Setting, &'static str>),
    /// Accepted without effect; says why.
    NoEffect(&'static str),
    /// Refused; says why.
    Refused(&'static str),
}

use Known::{NoEffect, Refused, Setting as Set};
use Setting as S;

const HOST: &str =
    "no effect here: the log and its files belong to the program that embeds the engine; set it there";
const APACHE: &str =
    "no effect here: it steers ModSecurity v2 inside of Apache, and version 3 ignores it as well";

/// The directive of that name (in any case).
pub(super) fn find(name: &str) -> Option<&'static Known> {
    TABLE.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, known)| known)
}

/// Names that a misspelt one may have meant.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

const TABLE: &[(&str, Known)] = &[
    ("SecRuleEngine", Set(|a| engine(a).map(S::RuleEngine))),
    ("SecRequestBodyAccess", Set(|a| on_off(a).map(S::RequestBodyAccess))),
    ("SecResponseBodyAccess", Set(|a| on_off(a).map(S::ResponseBodyAccess))),
    ("SecRequestBodyLimit", Set(|a| number(a).map(S::RequestBodyLimit))),
    ("SecRequestBodyNoFilesLimit", Set(|a| number(a).map(S::RequestBodyNoFilesLimit))),
    ("SecRequestBodyLimitAction", Set(|a| limit_action(a).map(S::RequestBodyLimitAction))),
    ("SecRequestBodyJsonDepthLimit", Set(|a| number(a).map(S::RequestBodyJsonDepthLimit))),
    ("SecResponseBodyLimit", Set(|a| number(a).map(S::ResponseBodyLimit))),
    ("SecResponseBodyLimitAction", Set(|a| limit_action(a).map(S::ResponseBodyLimitAction))),
    ("SecResponseBodyMimeType", Set(|a| words(a).map(S::ResponseBodyMimeType))),
    ("SecResponseBodyMimeTypesClear", Set(|_| Ok(S::ResponseBodyMimeTypesClear))),
    ("SecArgumentsLimit", Set(|a| number(a).map(S::ArgumentsLimit))),
    ("SecArgumentSeparator", Set(|a| byte(a).map(S::ArgumentSeparator))),
    ("SecCookieV0Separator", Set(|a| byte(a).map(S::CookieSeparator))),
    ("SecCollectionTimeout", Set(|a| number(a).map(S::CollectionTimeout))),
    ("SecComponentSignature", Set(|a| text(a).map(S::ComponentSignature))),
    ("SecServerSignature", Set(|a| text(a).map(S::ServerSignature))),
    ("SecSensorId", Set(|a| text(a).map(S::SensorId))),
    ("SecWebAppId", Set(|a| text(a).map(S::WebAppId))),
    ("SecUploadFileLimit", Set(|a| number(a).map(S::UploadFileLimit))),
    ("SecParseXmlIntoArgs", Set(|a| xml(a).map(S::ParseXmlIntoArgs))),
    ("SecAuditEngine", Set(|a| audit(a).map(S::AuditEngine))),
    ("SecAuditLog", Set(|a| text(a).map(S::AuditLog))),
    ("SecAuditLog2", Set(|a| text(a).map(S::AuditLog2))),
    ("SecAuditLogParts", Set(|a| text(a).map(S::AuditLogParts))),
    ("SecAuditLogRelevantStatus", Set(|a| text(a).map(S::AuditLogRelevantStatus))),
    ("SecAuditLogFormat", Set(|a| audit_format(a).map(S::AuditLogFormat))),
    ("SecAuditLogType", Set(|a| text(a).map(S::AuditLogType))),
    ("SecAuditLogStorageDir", Set(|a| text(a).map(S::AuditLogStorageDir))),
    ("SecAuditLogDir", Set(|a| text(a).map(S::AuditLogStorageDir))),
    (
        "SecCookieFormat",
        NoEffect(
            "no effect here: version 0 cookies are read, as all browsers send them; version 1 is not in use",
        ),
    ),
    ("SecAuditLogDirMode", NoEffect(HOST)),
    ("SecAuditLogFileMode", NoEffect(HOST)),
    ("SecAuditLogPrefix", NoEffect(HOST)),
    ("SecDebugLog", NoEffect(HOST)),
    ("SecDebugLogLevel", NoEffect(HOST)),
    (
        "SecDataDir",
        NoEffect("no effect here: persistent collections live in the store of the embedding program"),
    ),
    ("SecTmpDir", NoEffect("no effect here: bodies stay in memory, up to SecRequestBodyLimit")),
    ("SecUploadDir", NoEffect("no effect here: uploaded files are inspected in memory and not kept")),
    ("SecUploadKeepFiles", NoEffect("no effect here: uploaded files are inspected in memory and not kept")),
    (
        "SecTmpSaveUploadedFiles",
        NoEffect("no effect here: uploaded files are inspected in memory and not kept"),
    ),
    (
        "SecRequestBodyInMemoryLimit",
        NoEffect("no effect here: bodies stay in memory, up to SecRequestBodyLimit"),
    ),
    ("SecUploadFileMode", NoEffect("no effect here: uploaded files are inspected in memory and not kept")),
    (
        "SecGeoLookupDb",
        NoEffect("no effect here: the embedding program gives the geographic database; set it there"),
    ),
    ("SecUnicodeMapFile", NoEffect("no effect here: the mapping of code page 20127 is built in")),
    ("SecUnicodeCodePage", NoEffect("no effect here: the mapping of code page 20127 is built in")),
    ("SecUnicodeMap", NoEffect("no effect here: the mapping of code page 20127 is built in")),
    (
        "SecPcreMatchLimit",
        NoEffect(
            "no effect here: patterns are matched in linear time, those with back references under a limit of their own",
        ),
    ),
    (
        "SecPcreMatchLimitRecursion",
        NoEffect(
            "no effect here: patterns are matched in linear time, those with back references under a limit of their own",
        ),
    ),
    ("SecXmlExternalEntity", NoEffect("no effect here: external entities are never read")),
    ("SecCacheTransformations", NoEffect("no effect here: transformed values are always computed once")),
    ("SecChrootDir", NoEffect(APACHE)),
    (
        "SecConnEngine",
        NoEffect("no effect here: connections are limited by the gateway's own limits; set them there"),
    ),
    (
        "SecConnReadStateLimit",
        NoEffect("no effect here: connections are limited by the gateway's own limits; set them there"),
    ),
    (
        "SecConnWriteStateLimit",
        NoEffect("no effect here: connections are limited by the gateway's own limits; set them there"),
    ),
    (
        "SecReadStateLimit",
        NoEffect("no effect here: connections are limited by the gateway's own limits; set them there"),
    ),
    (
        "SecWriteStateLimit",
        NoEffect("no effect here: connections are limited by the gateway's own limits; set them there"),
    ),
    ("SecStatusEngine", NoEffect("no effect here: nothing is reported to anybody")),
    ("SecInterceptOnError", NoEffect(APACHE)),
    ("SecRulePerfTime", NoEffect("no effect here: `gateway rules profile` measures rules")),
    (
        "SecRuleInheritance",
        NoEffect("no effect here: a rule set is one context, there is nothing to inherit from"),
    ),
    ("SecDisableBackendCompression", NoEffect(APACHE)),
    (
        "SecStreamInBodyInspection",
        NoEffect("no effect here: bodies are buffered to their limit; STREAM_INPUT_BODY is REQUEST_BODY"),
    ),
    (
        "SecStreamOutBodyInspection",
        NoEffect("no effect here: bodies are buffered to their limit; STREAM_OUTPUT_BODY is RESPONSE_BODY"),
    ),
    ("SecHashEngine", NoEffect("no effect here: links are not signed; version 3 does not either")),
    ("SecHashKey", NoEffect("no effect here: links are not signed; version 3 does not either")),
    ("SecHashParam", NoEffect("no effect here: links are not signed; version 3 does not either")),
    ("SecHashMethodRx", NoEffect("no effect here: links are not signed; version 3 does not either")),
    ("SecHashMethodPm", NoEffect("no effect here: links are not signed; version 3 does not either")),
    ("SecContentInjection", NoEffect("no effect here: responses are not changed; version 3 does not either")),
    ("SecPdfProtect", NoEffect(APACHE)),
    ("SecPdfProtectMethod", NoEffect(APACHE)),
    ("SecPdfProtectSecret", NoEffect(APACHE)),
    ("SecPdfProtectTimeout", NoEffect(APACHE)),
    ("SecPdfProtectTokenName", NoEffect(APACHE)),
    ("SecHttpBlKey", NoEffect("no effect here: block lists are asked through the embedding program")),
    (
        "SecGsbLookupDb",
        Refused(
            "the Google Safe Browsing database has not existed in this form since 2016; take the directive away",
        ),
    ),
    ("SecGuardianLog", Refused("programs are never run from rules; take the directive away")),
    ("SecRemoteRules", Refused("rules are never fetched at start; download them and use Include")),
    ("SecRemoteRulesFailAction", NoEffect("no effect here: rules are never fetched at start")),
    ("SecRuleScript", Refused("Lua scripts are never run; write the check as rules")),
    (
        "SecIgnoreRuleCompilationErrors",
        Refused("a rule set with errors does not load; correct or remove the rules that it names"),
    ),
];

fn first<'a>(arguments: &[&'a str]) -> &'a str {
    arguments.first().copied().unwrap_or("")
}

fn on_off(arguments: &[&str]) -> Result<bool, &'static str> {
    one_of(arguments, &[("on", true), ("off", false)], "On or Off")
}

fn one_of<T: Copy>(
    arguments: &[&str],
    table: &[(&str, T)],
    expected: &'static str,
) -> Result<T, &'static str> {
    let given = first(arguments);
    table.iter().find(|(name, _)| name.eq_ignore_ascii_case(given)).map(|(_, v)| *v).ok_or(expected)
}

fn engine(arguments: &[&str]) -> Result<EngineMode, &'static str> {
    let table =
        [("on", EngineMode::On), ("off", EngineMode::Off), ("detectiononly", EngineMode::DetectionOnly)];
    one_of(arguments, &table, "On, Off or DetectionOnly")
}

/// The value of `SecRuleEngine` or `ctl:ruleEngine`.
pub(crate) fn engine_mode(text: &str) -> Option<EngineMode> {
    engine(&[text]).ok()
}

/// The value of `SecAuditEngine` or `ctl:auditEngine`.
pub(crate) fn audit_mode(text: &str) -> Option<AuditMode> {
    audit(&[text]).ok()
}

/// The value of `SecParseXmlIntoArgs` or `ctl:parseXmlIntoArgs`.
pub(crate) fn xml_arguments(text: &str) -> Option<XmlArguments> {
    xml(&[text]).ok()
}

fn xml(arguments: &[&str]) -> Result<XmlArguments, &'static str> {
    let table = [("on", XmlArguments::On), ("off", XmlArguments::Off), ("onlyargs", XmlArguments::OnlyArgs)];
    one_of(arguments, &table, "On, Off or OnlyArgs")
}

fn audit(arguments: &[&str]) -> Result<AuditMode, &'static str> {
    let table = [("on", AuditMode::On), ("off", AuditMode::Off), ("relevantonly", AuditMode::RelevantOnly)];
    one_of(arguments, &table, "On, Off or RelevantOnly")
}

fn audit_format(arguments: &[&str]) -> Result<AuditFormat, &'static str> {
    one_of(arguments, &[("native", AuditFormat::Native), ("json", AuditFormat::Json)], "Native or JSON")
}

fn limit_action(arguments: &[&str]) -> Result<LimitAction, &'static str> {
    let table = [("reject", LimitAction::Reject), ("processpartial", LimitAction::ProcessPartial)];
    one_of(arguments, &table, "Reject or ProcessPartial")
}

fn number(arguments: &[&str]) -> Result<u64, &'static str> {
    first(arguments).parse().map_err(|_| "a whole number")
}

fn byte(arguments: &[&str]) -> Result<u8, &'static str> {
    match first(arguments).as_bytes() {
        [one] => Ok(*one),
        _ => Err("one ASCII character"),
    }
}

fn text(arguments: &[&str]) -> Result<String, &'static str> {
    if arguments.is_empty() { Err("a value") } else { Ok(arguments.join(" ")) }
}

fn words(arguments: &[&str]) -> Result<Vec<String>, &'static str> {
    if arguments.is_empty() {
        return Err("MIME types");
    }
    Ok(arguments.iter().flat_map(|a| a.split_ascii_whitespace()).map(str::to_ascii_lowercase).collect())
}
