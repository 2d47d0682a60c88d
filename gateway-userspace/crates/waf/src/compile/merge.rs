//! A rule's actions over the default ones.

use std::sync::Arc;

use super::{
    draft::{Chain, Finding},
    rule::Outcome,
    template::Template,
};
use crate::{
    actions::{self, Action, ActionContext, Disruptive, is_disruptive},
    engine::matched::{RuleInfo, Severity},
    lang::ast::ActionDecl,
    transformations::Transformation,
};

/// What a rule's actions come to.
#[derive(Default)]
pub(super) struct Merged {
    pub transformations: Vec<Transformation>,
    pub multi_match: bool,
    pub capture: bool,
    pub on_match: Vec<Action>,
    pub outcome: Outcome,
    pub info: RuleInfo,
}

/// The actions of one link of a chain.
pub(super) fn merge(
    chain: &Chain,
    link: usize,
    cx: &mut ActionContext<'_>,
    findings: &mut Vec<Finding>,
) -> Merged {
    let mut merged = Merged::default();
    let mut block = Disruptive::Pass;
    for action in chain.defaults.iter() {
        cx.position = action.position;
        if is_disruptive(&action.name) {
            if let Ok(Some(disruptive)) = parse_disruptive(action, cx, chain.id, findings) {
                block = disruptive.clone();
                merged.outcome.disruptive = disruptive;
            }
        } else if !matches!(action.name.as_str(), "phase" | "id" | "chain") {
            one(action, &mut merged, cx, chain.id, findings);
        }
    }
    let Some(own) = chain.links.get(link) else { return merged };
    let mut first_disruptive = None;
    for action in &own.actions {
        cx.position = action.position;
        if !is_disruptive(&action.name) {
            one(action, &mut merged, cx, chain.id, findings);
            continue;
        }
        if let Some(other) = first_disruptive.replace(action.name.clone())
            && other != action.name
        {
            let message =
                format!("{} after {other}: a rule has one disruptive action, the last counts", action.name);
            findings.push(Finding::warning(
                action.position,
                Some(chain.id),
                message,
                "take one of them away",
            ));
        }
        if let Ok(disruptive) = parse_disruptive(action, cx, chain.id, findings) {
            merged.outcome.disruptive = disruptive.unwrap_or_else(|| block.clone());
        }
    }
    let has_macro = |t: &Template| t.literal().is_none();
    let tags: Vec<Template> = merged.info.tags.clone().iter().map(|t| cx.template(t)).collect();
    if tags.iter().any(has_macro) {
        merged.outcome.tags = tags.into();
    }
    for name in cx.unknown_macros.drain(..) {
        let message = format!("%{{{name}}} names no variable and stays as it is written");
        findings.push(Finding::warning(own.position, Some(chain.id), message, "check its spelling"));
    }
    for notice in cx.notices.drain(..) {
        findings.push(Finding::warning(own.position, Some(chain.id), notice, ""));
    }
    merged
}

fn parse_disruptive(
    action: &ActionDecl,
    cx: &mut ActionContext<'_>,
    id: u64,
    findings: &mut Vec<Finding>,
) -> Result<Option<Disruptive>, ()> {
    actions::parse_disruptive(&action.name, action.value.as_deref(), cx).map_err(|error| {
        findings.push(Finding::error(action.position, Some(id), error.message, error.help));
    })
}

/// One non-disruptive action.
fn one(
    action: &ActionDecl,
    merged: &mut Merged,
    cx: &mut ActionContext<'_>,
    id: u64,
    findings: &mut Vec<Finding>,
) {
    let value = action.value.as_deref().unwrap_or("");
    let text = || Some(value.to_owned());
    let mut wrong = |message: String, help: &'static str| {
        findings.push(Finding::error(action.position, Some(id), message, help));
    };
    let small = |value: &str| value.trim().parse::<u8>().ok().filter(|n| (1..=9).contains(n));
    match action.name.as_str() {
        "id" | "phase" | "chain" | "skipafter" => {}
        "t" => match Transformation::from_name(value.trim()) {
            Some(transformation) => merged.transformations.push(transformation),
            None if value.trim().eq_ignore_ascii_case("none") => merged.transformations.clear(),
            None => wrong(format!("there is no transformation {value}"), "see the manual's list"),
        },
        "log" => (merged.outcome.log, merged.outcome.audit) = (true, true),
        "nolog" => (merged.outcome.log, merged.outcome.audit) = (false, false),
        "auditlog" => merged.outcome.audit = true,
        "noauditlog" => merged.outcome.audit = false,
        "capture" => merged.capture = true,
        "multimatch" => merged.multi_match = true,
        "msg" => {
            value.clone_into(&mut merged.info.msg);
            merged.outcome.message = cx.template(value);
        }
        "logdata" => {
            value.clone_into(&mut merged.info.logdata);
            merged.outcome.data = cx.template(value);
        }
        "tag" => merged.info.tags.push(value.to_owned()),
        "ver" => merged.info.ver = text(),
        "rev" => merged.info.rev = text(),
        "severity" => match Severity::from_name(value.trim()) {
            Some(severity) => merged.info.severity = Some(severity),
            None => wrong(format!("there is no severity {value}"), "EMERGENCY to DEBUG, or 0 to 7"),
        },
        "maturity" => match small(value) {
            Some(n) => merged.info.maturity = Some(n),
            None => wrong(format!("maturity is 1 to 9, not {value}"), ""),
        },
        "accuracy" => match small(value) {
            Some(n) => merged.info.accuracy = Some(n),
            None => wrong(format!("accuracy is 1 to 9, not {value}"), ""),
        },
        "status" => match value.trim().parse() {
            Ok(status @ 100..=599) => merged.outcome.status = status,
            _ => wrong(format!("{value} is no HTTP status"), "100 to 599"),
        },
        "skip" => match value.trim().parse() {
            Ok(n) => merged.outcome.skip = n,
            Err(_) => wrong(format!("skip takes a number of rules, not {value}"), ""),
        },
        name => match actions::parse(name, value, cx) {
            Ok(Some(action)) => merged.on_match.push(action),
            Ok(None) => {}
            Err(Some(error)) => wrong(error.message, error.help),
            Err(None) => wrong(format!("there is no action {name}"), "see the manual's list of actions"),
        },
    }
}

impl Merged {
    /// What the rule says about itself.
    pub(super) fn take_info(&mut self, chain: &Chain, file: &str, operator: (&str, &str)) -> Arc<RuleInfo> {
        let mut info = std::mem::take(&mut self.info);
        info.id = chain.id;
        info.phase = chain.phase;
        file.clone_into(&mut info.file);
        info.line = chain.links[0].position.line;
        operator.0.clone_into(&mut info.operator);
        operator.1.clone_into(&mut info.argument);
        info.transformations = self.transformations.iter().map(|t| t.name()).collect();
        Arc::new(info)
    }
}
