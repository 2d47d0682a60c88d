//! ModSecurity v3's error-log line: one for each rule that matched and logs.

use std::fmt::Write as _;

use crate::{Disruption, MatchedRule, Text};

/// Longest value shown in a line, in bytes; v3 cuts there too.
const VALUE_SHOWN_MAX: usize = 100;
/// Longest operator argument shown in a line, in bytes.
const PARAMETER_SHOWN_MAX: usize = 200;

/// What a line says of the transaction.
#[derive(Clone, Copy, Debug)]
pub struct LineContext<'a> {
    /// The client's address.
    pub client: &'a str,
    /// The server's address or name.
    pub hostname: &'a str,
    /// The request target without its query.
    pub uri: &'a [u8],
    /// UNIQUE_ID.
    pub unique_id: &'a str,
    /// The status that a blocking rule answered with.
    pub status: u16,
}

/// The line for `matched`, without a line end. Bytes that would break a line or a quoted field are shown as `\xHH`,
/// so one match is always one line.
pub fn line(matched: &MatchedRule, context: &LineContext<'_>) -> String {
    let rule = &matched.rule;
    let mut out = String::with_capacity(512);
    let _ = write!(out, "[client {}] ModSecurity: {}", context.client, outcome(matched, context.status));
    out.push_str(&finding(matched));
    field(&mut out, "file", &rule.file);
    field(&mut out, "line", rule.line);
    field(&mut out, "id", rule.id);
    // ModSecurity v2 leaves it out where a rule has none, and CRS's tests want the message right behind the id.
    if let Some(rev) = &rule.rev {
        field(&mut out, "rev", rev);
    }
    field(&mut out, "msg", shown(&matched.message));
    field(&mut out, "data", shown(&matched.data));
    field(&mut out, "severity", rule.severity.map_or(0, |severity| severity as u8));
    field(&mut out, "ver", rule.ver.as_deref().unwrap_or_default());
    field(&mut out, "maturity", rule.maturity.unwrap_or(0));
    field(&mut out, "accuracy", rule.accuracy.unwrap_or(0));
    for tag in matched.tags() {
        field(&mut out, "tag", shown(&Text::from(tag.as_bytes())));
    }
    field(&mut out, "hostname", context.hostname);
    field(&mut out, "uri", shown(&Text::from(context.uri)));
    field(&mut out, "unique_id", context.unique_id);
    out
}

/// What matched what, as both logs say it.
pub(super) fn finding(matched: &MatchedRule) -> String {
    let rule = &matched.rule;
    if rule.operator.is_empty() {
        return "Unconditional match in SecAction.".to_owned();
    }
    format!(
        "Matched \"Operator `{}' with parameter `{}' against variable `{}' (Value: `{}' )",
        rule.operator,
        shown(&cut(rule.argument.as_bytes(), PARAMETER_SHOWN_MAX)),
        shown(&Text::from(matched.variable())),
        shown(&cut(matched.value(), VALUE_SHOWN_MAX)),
    )
}

fn outcome(matched: &MatchedRule, status: u16) -> String {
    let phase = matched.rule.phase;
    match (matched.interrupted, matched.action) {
        (true, Disruption::Deny) => format!("Access denied with code {status} (phase {phase}). "),
        (true, Disruption::Drop) => format!("Access denied with connection close (phase {phase}). "),
        (true, Disruption::Redirect) => {
            format!("Access denied with redirection, status {status} (phase {phase}). ")
        }
        (true, Disruption::Allow) => format!("Access allowed (phase {phase}). "),
        _ => "Warning. ".to_owned(),
    }
}

fn field(out: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = write!(out, " [{name} \"{value}\"]");
}

fn cut(bytes: &[u8], limit: usize) -> Text {
    Text::from(bytes.get(..limit).unwrap_or(bytes))
}

/// Quotes escaped as well, so that a value can't forge a field.
fn shown(text: &Text) -> String {
    text.to_string().replace('"', "\\x22")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{MatchedValue, RuleInfo, Severity};

    fn matched(value: &str, interrupted: bool) -> MatchedRule {
        MatchedRule {
            rule: Arc::new(RuleInfo {
                id: 942100,
                phase: 2,
                file: "/rules/942.conf".to_owned(),
                line: 46,
                tags: vec!["attack-sqli".to_owned()],
                severity: Some(Severity::Critical),
                operator: "DetectSQLi".to_owned(),
                ..RuleInfo::default()
            }),
            message: Text::from(&b"SQL Injection"[..]),
            data: Text::from(value.as_bytes()),
            expanded_tags: Vec::new(),
            values: vec![MatchedValue {
                variable: Text::from(&b"ARGS:a"[..]),
                value: Text::from(value.as_bytes()),
            }],
            action: Disruption::Deny,
            interrupted,
            log: true,
            audit: true,
        }
    }

    fn context() -> LineContext<'static> {
        LineContext { client: "192.0.2.1", hostname: "h", uri: b"/x", unique_id: "u1", status: 403 }
    }

    #[test]
    fn lines_have_the_form_that_tools_parse() {
        let expected = "[client 192.0.2.1] ModSecurity: Access denied with code 403 (phase 2). Matched \"Operator \
            `DetectSQLi' with parameter `' against variable `ARGS:a' (Value: `1 or 1' ) [file \"/rules/942.conf\"] \
            [line \"46\"] [id \"942100\"] [msg \"SQL Injection\"] [data \"1 or 1\"] [severity \"2\"] \
            [ver \"\"] [maturity \"0\"] [accuracy \"0\"] [tag \"attack-sqli\"] [hostname \"h\"] [uri \"/x\"] \
            [unique_id \"u1\"]";
        assert_eq!(line(&matched("1 or 1", true), &context()), expected);
        assert!(line(&matched("1 or 1", false), &context()).contains("ModSecurity: Warning. Matched"));
    }

    #[test]
    fn values_cannot_forge_lines_or_fields() {
        let text = line(&matched("a\n[id \"1\"]\u{7f}", true), &context());
        assert!(!text.contains('\n') && !text.contains("[id \"1\"]"), "{text}");
    }
}
