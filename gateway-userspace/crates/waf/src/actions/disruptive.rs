//! `allow`, `deny`, `drop`, `pass`, `redirect`: what becomes of the transaction.

use super::{ActionContext, ActionError};
use crate::{
    compile::template::Template,
    engine::{matched::Disruption, verdict::AllowScope},
};

/// The disruptive action of a rule, `block` resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Disruptive {
    #[default]
    Pass,
    Allow(AllowScope),
    Deny,
    Drop,
    Redirect(Template),
}

impl Disruptive {
    pub(crate) fn record(&self) -> Disruption {
        match self {
            Self::Pass => Disruption::Pass,
            Self::Allow(_) => Disruption::Allow,
            Self::Deny => Disruption::Deny,
            Self::Drop => Disruption::Drop,
            Self::Redirect(_) => Disruption::Redirect,
        }
    }
}

/// Whether an action is a disruptive one, `block` and the refused included.
pub(crate) fn is_disruptive(name: &str) -> bool {
    matches!(name, "allow" | "block" | "deny" | "drop" | "pass" | "proxy" | "redirect")
}

/// Reads one; none for `block`, which stands for what the default actions say.
pub(crate) fn parse(
    name: &str,
    value: Option<&str>,
    cx: &mut ActionContext<'_>,
) -> Result<Option<Disruptive>, ActionError> {
    Ok(Some(match (name, value) {
        ("block", _) => return Ok(None),
        ("pass", _) => Disruptive::Pass,
        ("deny", _) => Disruptive::Deny,
        ("drop", _) => Disruptive::Drop,
        ("allow", None | Some("")) => Disruptive::Allow(AllowScope::Transaction),
        ("allow", Some(scope)) if scope.eq_ignore_ascii_case("phase") => Disruptive::Allow(AllowScope::Phase),
        ("allow", Some(scope)) if scope.eq_ignore_ascii_case("request") => {
            Disruptive::Allow(AllowScope::Request)
        }
        ("allow", Some(scope)) => {
            return Err(ActionError::new(
                format!("allow takes phase or request, not {scope}"),
                "or nothing at all",
            ));
        }
        ("redirect", Some(location)) if !location.is_empty() => Disruptive::Redirect(cx.template(location)),
        ("redirect", _) => {
            return Err(ActionError::new("redirect needs a location", "write redirect:https://.."));
        }
        ("proxy", _) => {
            let help = "route the request in the gateway's configuration, or use redirect";
            return Err(ActionError::new("proxy is refused: rules do not choose the origin", help));
        }
        _ => return Err(ActionError::new(format!("there is no disruptive action {name}"), "")),
    }))
}
