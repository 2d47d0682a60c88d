//! What rules do when they match: one file a family, each with how it is read and how it runs.

mod collection;
mod ctl;
mod disruptive;
mod sanitise;
mod setvar;

pub(crate) use collection::CollectionAction;
pub(crate) use ctl::Ctl;
pub(crate) use disruptive::{Disruptive, is_disruptive, parse as parse_disruptive};
pub(crate) use sanitise::SanitiseAction;
pub use sanitise::Sanitised;
pub(crate) use setvar::SetVar;

use crate::{
    compile::{rule::Exclusion, symbols::Symbols, template::Template},
    engine::core::Core,
    lang::ast::{Position, RuleQuery},
};

/// A non-disruptive action, run for each value that matches.
#[derive(Debug)]
pub(crate) enum Action {
    SetVar(SetVar),
    Ctl(Ctl),
    Collection(CollectionAction),
    Sanitise(SanitiseAction),
    /// `setenv`.
    SetEnv {
        name: Template,
        value: Template,
    },
}

/// What is wrong with an action.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ActionError {
    pub message: String,
    pub help: &'static str,
}

impl ActionError {
    pub(crate) fn new(message: impl Into<String>, help: &'static str) -> Self {
        Self { message: message.into(), help }
    }
}

/// What reading an action may use and leaves behind.
pub(crate) struct ActionContext<'a> {
    pub symbols: &'a mut Symbols,
    pub position: Position,
    /// Macros that name no variable.
    pub unknown_macros: Vec<String>,
    /// Things accepted without effect.
    pub notices: Vec<String>,
    /// Queries of `ctl` actions, resolved when all rules are known.
    pub removals: &'a mut Vec<(RuleQuery, Position)>,
    pub target_removals: &'a mut Vec<(RuleQuery, Exclusion, Position)>,
}

impl ActionContext<'_> {
    pub(crate) fn template(&mut self, text: &str) -> Template {
        let unknown = &mut self.unknown_macros;
        Template::new(text, self.symbols, &mut |name| unknown.push(name.to_owned()))
    }
}

/// Reads a non-disruptive action; `Ok(None)` for one without effect here (a notice says so), `Err(None)` for a name
/// that is none of these.
pub(crate) fn parse(
    name: &str,
    value: &str,
    cx: &mut ActionContext<'_>,
) -> Result<Option<Action>, Option<ActionError>> {
    let action = match name {
        "setvar" => Action::SetVar(setvar::parse(value, cx)?),
        "ctl" => match ctl::parse(value, cx)? {
            Some(ctl) => Action::Ctl(ctl),
            None => return Ok(None),
        },
        "initcol" | "expirevar" | "deprecatevar" | "setuid" | "setsid" | "setrsc" => {
            match collection::parse(name, value, cx)? {
                Some(action) => Action::Collection(action),
                None => return Ok(None),
            }
        }
        "sanitisearg"
        | "sanitiserequestheader"
        | "sanitiseresponseheader"
        | "sanitisematched"
        | "sanitisematchedbytes"
        | "sanitizearg"
        | "sanitizerequestheader"
        | "sanitizeresponseheader"
        | "sanitizematched"
        | "sanitizematchedbytes" => Action::Sanitise(sanitise::parse(name, value)?),
        "setenv" => {
            let (name, value) = value.split_once('=').unwrap_or((value, ""));
            Action::SetEnv { name: cx.template(name), value: cx.template(value) }
        }
        "append" | "prepend" | "pause" => {
            cx.notices
                .push(format!("{name} has no effect here: version 3 of ModSecurity ignores it as well"));
            return Ok(None);
        }
        "xmlns" => {
            cx.notices.push("xmlns has no effect here: XPath expressions go by local names".to_owned());
            return Ok(None);
        }
        "exec" => {
            let help = "take it away; react to the audit log instead";
            return Err(Some(ActionError::new(
                "exec is refused: programs and scripts are never run from rules",
                help,
            )));
        }
        _ => return Err(None),
    };
    Ok(Some(action))
}

impl Core {
    /// Runs the actions of a rule for the value that just matched.
    pub(crate) fn run_actions(&mut self, actions: &[Action], rules: &crate::compile::Ruleset) {
        for action in actions {
            match action {
                Action::SetVar(set) => self.set_var(set, rules),
                Action::Ctl(ctl) => self.control(ctl, rules),
                Action::Collection(action) => self.collection_action(action, rules),
                Action::Sanitise(sanitise) => self.sanitise(sanitise, rules),
                Action::SetEnv { name, value } => {
                    let name = self.expand_to_data(name, rules);
                    let value = self.expand_to_data(value, rules);
                    self.put_named(crate::variables::store::List::Env, name, value, rules);
                }
            }
        }
    }
}
