//! `ctl`: changes how the rest of the transaction is inspected.

use super::{ActionContext, ActionError};
use crate::{
    compile::{Ruleset, rule::Exclusion},
    engine::core::{Core, Processor},
    lang::{
        ast::{AuditMode, EngineMode, RuleQuery, XmlArguments},
        audit_mode, engine_mode, id_range, parse_targets, xml_arguments,
    },
};

/// A `ctl` action.
#[derive(Debug)]
pub(crate) enum Ctl {
    AuditEngine(AuditMode),
    /// The letters to log, to add or to take away.
    AuditLogParts {
        parts: Box<str>,
        change: PartsChange,
    },
    RuleEngine(EngineMode),
    RequestBodyAccess(bool),
    ResponseBodyAccess(bool),
    RequestBodyLimit(u64),
    ResponseBodyLimit(u64),
    ForceRequestBodyVariable(bool),
    RequestBodyProcessor(Processor),
    ParseXmlIntoArgs(XmlArguments),
    /// Index into the rule set's removals.
    RemoveRules(u32),
    /// Index into the rule set's target removals.
    RemoveTarget(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartsChange {
    Set,
    Add,
    Remove,
}

/// `name=value`; none for one without effect, a notice says so.
pub(super) fn parse(text: &str, cx: &mut ActionContext<'_>) -> Result<Option<Ctl>, ActionError> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let (name, value) = (name.trim(), value.trim());
    let wrong = |expected: &'static str| {
        ActionError::new(format!("ctl:{name} takes {expected}, not \"{value}\""), "")
    };
    let on_off = || match value.to_ascii_lowercase().as_str() {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(wrong("On or Off")),
    };
    let number = || value.parse().map_err(|_| wrong("a whole number"));
    Ok(Some(match name.to_ascii_lowercase().as_str() {
        "auditengine" => Ctl::AuditEngine(audit_mode(value).ok_or_else(|| wrong("On, Off or RelevantOnly"))?),
        "auditlogparts" => parts(value).ok_or_else(|| wrong("parts, like +E"))?,
        "ruleengine" => Ctl::RuleEngine(engine_mode(value).ok_or_else(|| wrong("On, Off or DetectionOnly"))?),
        "requestbodyaccess" => Ctl::RequestBodyAccess(on_off()?),
        "responsebodyaccess" => Ctl::ResponseBodyAccess(on_off()?),
        "requestbodylimit" => Ctl::RequestBodyLimit(number()?),
        "responsebodylimit" => Ctl::ResponseBodyLimit(number()?),
        "forcerequestbodyvariable" => Ctl::ForceRequestBodyVariable(on_off()?),
        "requestbodyprocessor" => {
            let processor =
                Processor::from_name(value).ok_or_else(|| wrong("URLENCODED, MULTIPART, JSON or XML"))?;
            Ctl::RequestBodyProcessor(processor)
        }
        "parsexmlintoargs" => {
            Ctl::ParseXmlIntoArgs(xml_arguments(value).ok_or_else(|| wrong("On, Off or OnlyArgs"))?)
        }
        "ruleremovebyid" => remove(ids(value).ok_or_else(|| wrong("ids"))?, cx),
        "ruleremovebytag" if !value.is_empty() => remove(RuleQuery::Tag(value.to_owned()), cx),
        "ruleremovebymsg" if !value.is_empty() => remove(RuleQuery::Message(value.to_owned()), cx),
        "ruleremovetargetbyid" => remove_target(value, ids, cx)?,
        "ruleremovetargetbytag" => remove_target(value, |v| Some(RuleQuery::Tag(v.to_owned())), cx)?,
        "ruleremovetargetbymsg" => remove_target(value, |v| Some(RuleQuery::Message(v.to_owned())), cx)?,
        "debugloglevel"
        | "hashengine"
        | "hashenforcement"
        | "forceresponsebodyvariable"
        | "responsebodyprocessor" => {
            cx.notices.push(format!("ctl:{name} has no effect here"));
            return Ok(None);
        }
        _ => {
            return Err(ActionError::new(
                format!("there is no ctl:{name}"),
                "see the manual's list under ctl",
            ));
        }
    }))
}

fn parts(value: &str) -> Option<Ctl> {
    let (change, letters) = match value.as_bytes().first()? {
        b'+' => (PartsChange::Add, &value[1..]),
        b'-' => (PartsChange::Remove, &value[1..]),
        _ => (PartsChange::Set, value),
    };
    let valid = !letters.is_empty() && letters.bytes().all(|b| b.is_ascii_uppercase());
    valid.then(|| Ctl::AuditLogParts { parts: letters.into(), change })
}

fn ids(value: &str) -> Option<RuleQuery> {
    let pieces = value.split([' ', ',']).filter(|p| !p.is_empty());
    let ranges: Vec<_> = pieces.map(id_range).collect::<Option<_>>()?;
    (!ranges.is_empty()).then_some(RuleQuery::Ids(ranges))
}

fn remove(query: RuleQuery, cx: &mut ActionContext<'_>) -> Ctl {
    cx.removals.push((query, cx.position));
    Ctl::RemoveRules(cx.removals.len() as u32 - 1)
}

fn remove_target(
    value: &str,
    query: impl Fn(&str) -> Option<RuleQuery>,
    cx: &mut ActionContext<'_>,
) -> Result<Ctl, ActionError> {
    let help = "write ctl:ruleRemoveTargetById=942100;ARGS:password";
    let wrong = |message: String| ActionError::new(message, help);
    let (rules, target) = value.split_once(';').ok_or_else(|| wrong(format!("{value} has no target")))?;
    let query = query(rules.trim()).ok_or_else(|| wrong(format!("{rules} is no id")))?;
    let targets = parse_targets(target.trim(), cx.position).map_err(wrong)?;
    let [target] = &*targets else { return Err(wrong("one target at a time".to_owned())) };
    let selector = crate::compile::selector(target, cx.symbols).map_err(wrong)?;
    cx.target_removals.push((query, Exclusion { variable: target.variable, selector }, cx.position));
    Ok(Ctl::RemoveTarget(cx.target_removals.len() as u32 - 1))
}

impl Core {
    pub(super) fn control(&mut self, ctl: &Ctl, rules: &Ruleset) {
        match ctl {
            Ctl::AuditEngine(mode) => self.audit_engine = *mode,
            Ctl::AuditLogParts { parts, change } => self.change_audit_parts(parts, *change),
            Ctl::RuleEngine(mode) => self.engine = *mode,
            Ctl::RequestBodyAccess(on) => self.request_body_access = *on,
            Ctl::ResponseBodyAccess(on) => self.response_body_access = *on,
            Ctl::RequestBodyLimit(limit) => self.request_body_limit = *limit,
            Ctl::ResponseBodyLimit(limit) => self.response_body_limit = *limit,
            Ctl::ForceRequestBodyVariable(on) => self.force_request_body = *on,
            Ctl::RequestBodyProcessor(processor) => self.set_processor(*processor),
            Ctl::ParseXmlIntoArgs(into) => self.xml_arguments = *into,
            Ctl::RemoveRules(index) => {
                if let Some(removal) = rules.removals.get(*index as usize) {
                    self.removed.add_all(removal);
                    self.any_removed = true;
                }
            }
            Ctl::RemoveTarget(index) => {
                if !self.target_removals.contains(index) {
                    self.target_removals.push(*index);
                    let removal = rules.target_removals.get(*index as usize);
                    if let Some(removal) = removal {
                        self.removal_variables |= 1 << removal.exclusion.variable as u8;
                    }
                }
            }
        }
    }

    fn change_audit_parts(&mut self, parts: &str, change: PartsChange) {
        match change {
            PartsChange::Set => parts.clone_into(&mut self.audit_parts),
            PartsChange::Add => {
                for letter in parts.chars().filter(|l| !self.audit_parts.contains(*l)).collect::<Vec<_>>() {
                    self.audit_parts.push(letter);
                }
            }
            PartsChange::Remove => self.audit_parts.retain(|l| !parts.contains(l)),
        }
    }
}
