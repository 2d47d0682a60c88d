//! `sanitise*`: what the audit log must not show.

use super::ActionError;
use crate::{
    compile::Ruleset,
    engine::{core::Core, matched::Text},
    variables::{Variable, store::ItemName},
};

/// Most things that one transaction's rules may hide in its records; what a further one names is shown.
pub(crate) const SANITISED_MAX: usize = 256;

/// Something that the audit log hides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sanitised {
    /// The argument of this name (any case), in the URI and in the body.
    Argument(Text),
    /// The request header of this name.
    RequestHeader(Text),
    /// The response header of this name.
    ResponseHeader(Text),
    /// These bytes wherever they stand, but for so many at the beginning and at the end.
    Bytes {
        /// The bytes that matched.
        value: Text,
        /// Left legible at the beginning.
        keep_first: usize,
        /// Left legible at the end.
        keep_last: usize,
    },
}

#[derive(Debug)]
pub(crate) enum SanitiseAction {
    Always(Sanitised),
    Matched,
    MatchedBytes { keep_first: usize, keep_last: usize },
}

pub(super) fn parse(name: &str, value: &str) -> Result<SanitiseAction, ActionError> {
    let text = Text::from(value.as_bytes());
    let name = name.replace("sanitize", "sanitise");
    let needs_name = !name.starts_with("sanitisematched");
    if needs_name && value.is_empty() {
        return Err(ActionError::new(format!("{name} needs a name"), ""));
    }
    Ok(match name.as_str() {
        "sanitisearg" => SanitiseAction::Always(Sanitised::Argument(text)),
        "sanitiserequestheader" => SanitiseAction::Always(Sanitised::RequestHeader(text)),
        "sanitiseresponseheader" => SanitiseAction::Always(Sanitised::ResponseHeader(text)),
        "sanitisematched" => SanitiseAction::Matched,
        _ => {
            let (first, last) = value.split_once('/').unwrap_or(("0", "0"));
            let (Ok(keep_first), Ok(keep_last)) = (first.trim().parse(), last.trim().parse()) else {
                return Err(ActionError::new(
                    format!("{value} is no pair of counts"),
                    "write sanitiseMatchedBytes:1/4",
                ));
            };
            SanitiseAction::MatchedBytes { keep_first, keep_last }
        }
    })
}

impl Core {
    pub(super) fn sanitise(&mut self, action: &SanitiseAction, rules: &Ruleset) {
        let what = match action {
            SanitiseAction::Always(what) => Some(what.clone()),
            SanitiseAction::Matched => self.sanitise_matched(rules),
            SanitiseAction::MatchedBytes { keep_first, keep_last } => self.matched_last.map(|item| {
                let value = self.value_bytes(item.value);
                let value = Text::from(self.arena.get(value));
                Sanitised::Bytes { value, keep_first: *keep_first, keep_last: *keep_last }
            }),
        };
        if let Some(what) = what
            && self.sanitised.len() < SANITISED_MAX
            && !self.sanitised.contains(&what)
        {
            self.sanitised.push(what);
        }
    }

    fn sanitise_matched(&mut self, rules: &Ruleset) -> Option<Sanitised> {
        let item = self.matched_last?;
        let name = match item.name {
            ItemName::Span(name) => Text::from(self.arena.get(name)),
            ItemName::Tx(key) => Text::from(self.tx.name(&rules.symbols.tx, &self.arena, key)),
            ItemName::None => Text::default(),
        };
        Some(match item.variable {
            Variable::Args | Variable::ArgsGet | Variable::ArgsPost | Variable::ArgsNames => {
                Sanitised::Argument(name)
            }
            Variable::RequestHeaders => Sanitised::RequestHeader(name),
            Variable::ResponseHeaders => Sanitised::ResponseHeader(name),
            _ => {
                let value = self.value_bytes(item.value);
                Sanitised::Bytes { value: Text::from(self.arena.get(value)), keep_first: 0, keep_last: 0 }
            }
        })
    }
}
