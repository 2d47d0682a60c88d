//! Rules as declared, grouped into chains, with the load-time updates applied.

use std::{collections::HashMap, rc::Rc};

use crate::{
    actions::is_disruptive,
    lang::ast::{
        ActionDecl, DirectiveKind, Document, OperatorDecl, Position, RuleQuery, SelectorDecl, TargetDecl,
    },
    operators::pattern::{Pattern, Search},
};

/// One rule of a chain.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub position: Position,
    /// None for `SecAction`.
    pub looks: Option<(Vec<TargetDecl>, OperatorDecl)>,
    pub actions: Vec<ActionDecl>,
}

/// A starter and its links.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub links: Vec<Link>,
    pub id: u64,
    pub phase: u8,
    /// The default actions in force where it stands.
    pub defaults: Rc<Vec<ActionDecl>>,
    pub removed: bool,
}

/// What flows in order.
pub(super) enum Ordered {
    Chain(usize),
    Marker(String),
}

#[derive(Default)]
pub(super) struct Drafts {
    pub chains: Vec<Chain>,
    pub order: Vec<Ordered>,
}

/// A finding without a file yet.
pub(super) struct Finding {
    pub position: Position,
    pub is_error: bool,
    pub rule_id: Option<u64>,
    pub message: String,
    pub help: &'static str,
}

impl Finding {
    pub(super) fn error(
        position: Position,
        rule_id: Option<u64>,
        message: impl Into<String>,
        help: &'static str,
    ) -> Self {
        Self { position, is_error: true, rule_id, message: message.into(), help }
    }

    pub(super) fn warning(
        position: Position,
        rule_id: Option<u64>,
        message: impl Into<String>,
        help: &'static str,
    ) -> Self {
        Self { position, is_error: false, rule_id, message: message.into(), help }
    }
}

/// Groups the rules of a document.
pub(super) fn collect(document: &Document, findings: &mut Vec<Finding>) -> Drafts {
    let mut drafts = Drafts::default();
    let mut defaults: [Rc<Vec<ActionDecl>>; 5] = Default::default();
    let mut seen: HashMap<u64, Position> = HashMap::new();
    let mut open: Option<Chain> = None;
    for directive in &document.directives {
        let (looks, actions) = match &directive.kind {
            DirectiveKind::Rule(rule) => (Some((rule.targets.clone(), rule.operator.clone())), &rule.actions),
            DirectiveKind::Action(actions) => (None, actions),
            DirectiveKind::Marker(name) => {
                drafts.order.push(Ordered::Marker(name.clone()));
                continue;
            }
            DirectiveKind::DefaultAction(actions) => {
                set_defaults(&mut defaults, directive.position, actions, findings);
                continue;
            }
            _ => continue,
        };
        let link = Link { position: directive.position, looks, actions: actions.clone() };
        let goes_on = actions.iter().any(|a| a.name == "chain");
        match &mut open {
            Some(chain) => {
                check_link(chain.id, actions, findings);
                chain.links.push(link);
            }
            None => open = Some(starter(link, &defaults, &mut seen, findings)),
        }
        if !goes_on && let Some(chain) = open.take() {
            drafts.order.push(Ordered::Chain(drafts.chains.len()));
            drafts.chains.push(chain);
        }
    }
    if let Some(chain) = open {
        let position = chain.links.last().map_or(Position::default(), |l| l.position);
        let help = "add the rule that it is chained to, or take chain away";
        findings.push(Finding::error(position, Some(chain.id), "the chain ends without a last rule", help));
    }
    drafts
}

fn starter(
    link: Link,
    defaults: &[Rc<Vec<ActionDecl>>; 5],
    seen: &mut HashMap<u64, Position>,
    findings: &mut Vec<Finding>,
) -> Chain {
    let value = |name: &str| {
        link.actions.iter().rev().find(|a| a.name == name).map(|a| (a.position, a.value.as_deref()))
    };
    let id = match value("id") {
        Some((position, text)) => text.and_then(|t| t.trim().parse().ok()).unwrap_or_else(|| {
            findings.push(Finding::error(position, None, "the id is no whole number", "ids are 1 and up"));
            0
        }),
        None => {
            findings.push(Finding::error(
                link.position,
                None,
                "the rule has no id",
                "add id:.. with a number of its own",
            ));
            0
        }
    };
    if id != 0 && seen.insert(id, link.position).is_some() {
        let message = format!("there are two rules with the id {id}");
        findings.push(Finding::error(link.position, Some(id), message, "give one of them another id"));
    }
    let phase = match value("phase") {
        None => 2,
        Some((position, text)) => phase_of(text.unwrap_or("")).unwrap_or_else(|| {
            let help = "phases are 1 to 5, or request, response and logging";
            findings.push(Finding::error(position, Some(id), "there is no such phase", help));
            2
        }),
    };
    let defaults = Rc::clone(&defaults[phase as usize - 1]);
    Chain { links: vec![link], id, phase, defaults, removed: false }
}

fn check_link(id: u64, actions: &[ActionDecl], findings: &mut Vec<Finding>) {
    for action in actions {
        let starters_only = is_disruptive(&action.name)
            || matches!(
                action.name.as_str(),
                "id" | "phase" | "skip" | "skipafter" | "status" | "rev" | "ver" | "severity"
            );
        // `block` and `pass` do no harm and are widespread.
        if starters_only && !matches!(action.name.as_str(), "block" | "pass") {
            let message = format!("{} has no effect in a link of a chain", action.name);
            findings.push(Finding::warning(
                action.position,
                Some(id),
                message,
                "put it into the chain's first rule",
            ));
        }
    }
}

pub(super) fn phase_of(text: &str) -> Option<u8> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" => Some(1),
        "2" | "request" => Some(2),
        "3" => Some(3),
        "4" | "response" => Some(4),
        "5" | "logging" => Some(5),
        _ => None,
    }
}

fn set_defaults(
    defaults: &mut [Rc<Vec<ActionDecl>>; 5],
    position: Position,
    actions: &[ActionDecl],
    findings: &mut Vec<Finding>,
) {
    let named = actions.iter().rev().find(|a| a.name == "phase");
    let phase = match named {
        None => Some(2),
        Some(action) => phase_of(action.value.as_deref().unwrap_or("")),
    };
    let Some(phase) = phase else {
        findings.push(Finding::error(position, None, "there is no such phase", "phases are 1 to 5"));
        return;
    };
    if !actions.iter().any(|a| is_disruptive(&a.name)) {
        let help = "add pass, deny or another one";
        findings.push(Finding::error(position, None, "the default actions have no disruptive action", help));
    }
    for action in actions {
        if matches!(
            action.name.as_str(),
            "id" | "chain" | "skip" | "skipafter" | "block" | "msg" | "ver" | "rev"
        ) {
            let message = format!("{} cannot be a default action", action.name);
            findings.push(Finding::error(action.position, None, message, "take it away"));
        }
    }
    defaults[phase as usize - 1] = Rc::new(actions.to_vec());
}

/// Applies the removals and updates of a document, wherever they stand.
pub(super) fn update(drafts: &mut Drafts, document: &Document, findings: &mut Vec<Finding>) {
    for directive in &document.directives {
        match &directive.kind {
            DirectiveKind::Remove(query) => {
                let found = picked(drafts, query, directive.position, findings);
                for index in found {
                    drafts.chains[index].removed = true;
                }
            }
            DirectiveKind::UpdateTarget { rules, targets, replaced } => {
                for index in picked(drafts, rules, directive.position, findings) {
                    update_targets(&mut drafts.chains[index], targets, replaced);
                }
            }
            DirectiveKind::UpdateAction { id, link, actions } => {
                let chain = drafts.chains.iter_mut().find(|c| c.id == *id);
                match chain.and_then(|c| c.links.get_mut(*link)) {
                    Some(link) => update_actions(&mut link.actions, actions),
                    None => findings.push(Finding::warning(
                        directive.position,
                        None,
                        format!("no rule {id}:{link} to update"),
                        "check the id",
                    )),
                }
            }
            _ => {}
        }
    }
}

fn picked(drafts: &Drafts, query: &RuleQuery, position: Position, findings: &mut Vec<Finding>) -> Vec<usize> {
    let matcher = Matcher::new(query);
    let found: Vec<usize> = (0..drafts.chains.len()).filter(|i| matcher.picks(&drafts.chains[*i])).collect();
    if found.is_empty() {
        let message = format!("no rule has {}", describe(query));
        findings.push(Finding::warning(position, None, message, "check it; nothing is changed by this line"));
    }
    found
}

pub(super) fn describe(query: &RuleQuery) -> String {
    match query {
        RuleQuery::Ids(ranges) => {
            let show = |(low, high): &(u64, u64)| {
                if low == high { low.to_string() } else { format!("{low}-{high}") }
            };
            format!("the id {}", ranges.iter().map(show).collect::<Vec<_>>().join(", "))
        }
        RuleQuery::Tag(tag) => format!("the tag {tag}"),
        RuleQuery::Message(message) => format!("the message {message}"),
    }
}

/// A query, ready to ask many rules.
pub(super) struct Matcher<'a> {
    query: &'a RuleQuery,
    pattern: Option<Pattern>,
}

impl<'a> Matcher<'a> {
    pub(super) fn new(query: &'a RuleQuery) -> Self {
        let text = match query {
            RuleQuery::Ids(_) => None,
            RuleQuery::Tag(text) | RuleQuery::Message(text) => Some(text),
        };
        let is_pattern = |t: &&String| t.contains(['*', '+', '?', '^', '$', '[', '(', '|', '\\']);
        let pattern = text.filter(is_pattern).and_then(|t| Pattern::new(t.as_bytes()).ok());
        Self { query, pattern }
    }

    pub(super) fn picks(&self, chain: &Chain) -> bool {
        let actions = &chain.links[0].actions;
        let values = |name: &str| {
            let name = name.to_owned();
            actions.iter().filter(move |a| a.name == name).filter_map(|a| a.value.as_deref())
        };
        match self.query {
            RuleQuery::Ids(ranges) => ranges.iter().any(|(low, high)| (*low..=*high).contains(&chain.id)),
            RuleQuery::Tag(tag) => values("tag").any(|v| self.is(tag, v)),
            RuleQuery::Message(message) => values("msg").any(|v| self.is(message, v)),
        }
    }

    fn is(&self, wanted: &str, text: &str) -> bool {
        wanted == text || self.pattern.as_ref().is_some_and(|p| p.search(text.as_bytes()) == Search::Found)
    }
}

fn update_targets(chain: &mut Chain, targets: &[TargetDecl], replaced: &[TargetDecl]) {
    let same = |a: &TargetDecl, b: &TargetDecl| {
        a.variable == b.variable && same_selector(&a.selector, &b.selector) && a.count == b.count
    };
    let mut first = true;
    for link in &mut chain.links {
        let Some((own, _)) = &mut link.looks else { continue };
        own.retain(|t| !replaced.iter().any(|r| same(r, t)));
        // Exclusions reach the links of a chain, additions its starter only.
        own.extend(targets.iter().filter(|t| first || t.negated).cloned());
        first = false;
    }
}

fn same_selector(a: &SelectorDecl, b: &SelectorDecl) -> bool {
    match (a, b) {
        (SelectorDecl::Name(a), SelectorDecl::Name(b)) => a.eq_ignore_ascii_case(b),
        (a, b) => a == b,
    }
}

/// Actions that a rule may have many of are added; the others take the place of what was there.
fn update_actions(actions: &mut Vec<ActionDecl>, newer: &[ActionDecl]) {
    const MANY: [&str; 9] =
        ["t", "tag", "setvar", "ctl", "setenv", "initcol", "expirevar", "deprecatevar", "sanitisearg"];
    for action in newer {
        let group = |name: &str| match name {
            _ if is_disruptive(name) => 1,
            "log" | "nolog" => 2,
            "auditlog" | "noauditlog" => 3,
            _ => 0,
        };
        let replaces = |old: &ActionDecl| match group(&action.name) {
            0 => old.name == action.name && !MANY.contains(&old.name.as_str()),
            g => group(&old.name) == g,
        };
        if matches!(action.name.as_str(), "id" | "phase" | "chain") {
            continue;
        }
        actions.retain(|old| !replaces(old));
        actions.push(action.clone());
    }
}
