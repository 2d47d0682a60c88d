//! A rule, compiled.

use std::sync::Arc;

use super::{pipeline::PipelineId, template::Template};
use crate::{
    actions::{Action, Disruptive},
    engine::matched::RuleInfo,
    operators::{
        Comparison, Operator,
        pattern::{Pattern, Search},
    },
    variables::Variable,
};

/// One `SecRule`, `SecAction` or link of a chain.
#[derive(Debug)]
pub(crate) struct Rule {
    /// Of the starter, for a link.
    pub info: Arc<RuleInfo>,
    /// The number of the chain's starter: its own for a starter.
    pub starter: u32,
    /// The next link.
    pub next: Option<u32>,
    pub targets: Box<[Target]>,
    pub exclusions: Box<[Exclusion]>,
    pub check: Check,
    pub negated: bool,
    pub pipeline: PipelineId,
    pub multi_match: bool,
    pub capture: bool,
    /// Run once for each value that matches, at once.
    pub on_match: Box<[Action]>,
    /// The rest matters for starters only.
    pub outcome: Outcome,
}

impl Rule {
    /// The one target of a rule that looks at one TX variable as it is, or at how many there are of it, and its key.
    pub(crate) fn single_tx(&self) -> Option<(&Target, u32)> {
        match &*self.targets {
            [target @ Target { variable: Variable::Tx, selector: Selector::Tx(key), .. }]
                if self.pipeline == 0 && self.exclusions.is_empty() =>
            {
                Some((target, *key))
            }
            _ => None,
        }
    }

    /// Whether nothing comes of a match but its actions and a leap: no chain, no record, no end.
    pub(crate) fn is_quiet(&self) -> bool {
        let Outcome { disruptive, log, audit, .. } = &self.outcome;
        self.next.is_none()
            && !self.capture
            && self.info.severity.is_none()
            && (*disruptive == Disruptive::Pass && !log && !audit)
    }
}

/// What a chain does when all of it matched.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub disruptive: Disruptive,
    pub status: u16,
    /// Rules to leap over in the phase.
    pub skip: u32,
    /// Where in its phase to go on.
    pub skip_to: Option<u32>,
    pub log: bool,
    pub audit: bool,
    pub message: Template,
    pub data: Template,
    /// The tags, when one of them has a macro.
    pub tags: Box<[Template]>,
}

impl Default for Outcome {
    fn default() -> Self {
        Self {
            disruptive: Disruptive::Pass,
            status: 403,
            skip: 0,
            skip_to: None,
            log: true,
            audit: true,
            message: Template::default(),
            data: Template::default(),
            tags: Box::default(),
        }
    }
}

/// What a rule asks of a value.
#[derive(Debug)]
pub(crate) enum Check {
    /// Matches, and looks at nothing (`SecAction`).
    Always,
    /// Compares numbers.
    Number { comparison: Comparison, operand: Operand },
    /// Anything else. The template is the operator's argument where that has macros.
    Operator { operator: Box<Operator>, argument: Option<Template> },
}

/// A number to compare with or to add.
#[derive(Clone, Debug)]
pub(crate) enum Operand {
    Number(i64),
    Tx(u32),
    Template(Template),
}

/// What a rule looks at.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub variable: Variable,
    pub count: bool,
    pub selector: Selector,
    /// For a pattern or prefix of TX: the keys known at load that it selects.
    pub fixed_keys: Box<[u32]>,
}

/// What a rule does not look at, though a target says so.
#[derive(Clone, Debug)]
pub(crate) struct Exclusion {
    pub variable: Variable,
    pub selector: Selector,
}

/// Which values of a collection.
#[derive(Clone, Debug)]
pub(crate) enum Selector {
    All,
    /// Of a name: its number among the names that rules mention, and the name.
    Name(u32, Box<[u8]>),
    /// A TX key.
    Tx(u32),
    /// An XPath expression's number.
    XPath(u32),
    /// Names that begin so, in any case.
    Prefix(Box<[u8]>),
    /// Names that a pattern finds.
    Pattern(Arc<Pattern>),
}

impl Selector {
    /// Whether it selects a value of this name; TX keys and XPath expressions have no names here.
    pub(crate) fn selects_name(&self, name: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Name(_, wanted) => name.eq_ignore_ascii_case(wanted),
            Self::Prefix(prefix) => {
                name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
            }
            Self::Pattern(pattern) => pattern.search(name) == Search::Found,
            Self::Tx(_) | Self::XPath(_) => false,
        }
    }
}

/// Rules by number, one bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RuleSetBits {
    words: Vec<u64>,
}

impl RuleSetBits {
    pub(crate) fn clear(&mut self, rules: usize) {
        self.words.clear();
        self.words.resize(rules.div_ceil(64), 0);
    }

    pub(crate) fn insert(&mut self, rule: u32) {
        let at = rule as usize / 64;
        if at >= self.words.len() {
            self.words.resize(at + 1, 0);
        }
        self.words[at] |= 1 << (rule % 64);
    }

    #[inline]
    pub(crate) fn has(&self, rule: u32) -> bool {
        self.words.get(rule as usize / 64).is_some_and(|w| w >> (rule % 64) & 1 == 1)
    }

    pub(crate) fn add_all(&mut self, others: &Self) {
        if self.words.len() < others.words.len() {
            self.words.resize(others.words.len(), 0);
        }
        for (word, other) in self.words.iter_mut().zip(&others.words) {
            *word |= other;
        }
    }
}

/// A `ctl:ruleRemoveTarget*`.
#[derive(Debug)]
pub(crate) struct TargetRemoval {
    pub rules: RuleSetBits,
    pub exclusion: Exclusion,
}
