//! What is settled before a request comes: rules at the beginning that only compare and set TX variables.
//!
//! A rule set begins with defaults: `SecAction`s that set TX variables, and rules that set one where it is not there. What
//! they come to is worked out once, at load, on the assumption that the variables they read first are absent. A
//! transaction for which that is true takes over the outcome at once and goes on behind them; any other runs the rules.

use std::collections::BTreeMap;

use super::{
    gate::Gate,
    rule::{Check, Operand, Rule},
    template::{Segment, Template},
};
use crate::{
    actions::Action, operators::parse_integer, prefilter::plan::PhasePlan, variables::tx::VALUE_MAX_BYTES,
};

/// Fewer rules that match are not worth it.
const RULES_MIN: usize = 2;
/// Most bytes of the values of a beginning; it ends before a rule that goes beyond.
const TEXTS_MAX_BYTES: usize = 1 << 20;

/// The outcome of the rules of a phase from one place to another.
#[derive(Debug)]
pub(crate) struct Settled {
    /// The gate of the first of them, for a transaction that has to run them.
    pub first: Gate,
    /// The place to go on at.
    pub to: u32,
    /// TX keys that must have no value.
    pub absent: Box<[u32]>,
    /// What the keys that they change become; none: removed.
    pub changes: Box<[(u32, Option<Fixed>)]>,
    /// MATCHED_VAR behind them, if one matches a variable.
    pub matched: Option<Matched>,
    /// The bytes of all texts.
    pub texts: Box<[u8]>,
}

/// A value known at load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fixed {
    Number(i64),
    /// A range of the texts.
    Text {
        from: u32,
        to: u32,
    },
}

/// The TX variable that matched last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matched {
    pub key: u32,
    pub value: Fixed,
    pub is_count: bool,
}

impl Settled {
    /// The first such beginning in a phase and its place.
    pub(crate) fn find(
        order: &[u32],
        rules: &[Rule],
        gates: &[Gate],
        plan: &PhasePlan,
    ) -> Option<(usize, Self)> {
        (0..order.len()).find_map(|at| {
            rule_at(at, order, rules).filter(|rule| is_plain(rule) && reads_tx_only(rule))?;
            Some((at, Self::new(at, order, rules, *gates.get(at)?, plan)?))
        })
    }

    fn new(at: usize, order: &[u32], rules: &[Rule], first: Gate, plan: &PhasePlan) -> Option<Self> {
        let mut known = Known::default();
        let mut matches = 0;
        let mut place = at;
        while plan.is_unscreened(place)
            && let Some(rule) = rule_at(place, order, rules)
            && known.texts.len() <= TEXTS_MAX_BYTES
        {
            match known.ask(rule) {
                Answer::Unknown => break,
                Answer::No => place += 1,
                Answer::Yes(found) => {
                    matches += 1;
                    known.matched = found.or(known.matched);
                    place += 1;
                    place = rule.outcome.skip_to.map_or(place, |to| place.max(to as usize));
                }
            }
        }
        let Known { values, absent, matched, texts } = known;
        let changes =
            values.into_iter().filter(|(_, v)| v.is_changed).map(|(key, v)| (key, v.value)).collect();
        (matches >= RULES_MIN).then(|| Self {
            first,
            to: place as u32,
            absent: absent.into(),
            changes,
            matched,
            texts: texts.into(),
        })
    }
}

fn rule_at<'a>(place: usize, order: &[u32], rules: &'a [Rule]) -> Option<&'a Rule> {
    order.get(place).and_then(|number| rules.get(*number as usize))
}

/// Whether nothing but TX variables changes when the rule matches, and nothing is said about it.
fn is_plain(rule: &Rule) -> bool {
    rule.is_quiet()
        && rule.outcome.skip == 0
        && rule.on_match.iter().all(|action| matches!(action, Action::SetVar(_)))
}

fn reads_tx_only(rule: &Rule) -> bool {
    match &rule.check {
        Check::Always => true,
        Check::Number { .. } => rule.single_tx().is_some(),
        Check::Operator { .. } => false,
    }
}

/// What a rule comes to at load.
enum Answer {
    /// That depends on the request.
    Unknown,
    No,
    /// It matches, with the variable that does unless it looks at none or leaves no trace.
    Yes(Option<Matched>),
}

#[derive(Debug, Default)]
struct Held {
    value: Option<Fixed>,
    is_changed: bool,
}

/// TX while the beginning is worked out.
#[derive(Debug, Default)]
pub(crate) struct Known {
    values: BTreeMap<u32, Held>,
    absent: Vec<u32>,
    matched: Option<Matched>,
    texts: Vec<u8>,
}

impl Known {
    /// Whether the rule matches; what it sets is set.
    fn ask(&mut self, rule: &Rule) -> Answer {
        if !reads_tx_only(rule) {
            return Answer::Unknown;
        }
        let mut matched = None;
        if let Check::Number { comparison, operand } = &rule.check
            && let Some((target, key)) = rule.single_tx()
        {
            let Some(right) = self.operand(operand) else { return Answer::Unknown };
            let left = match (target.count, self.number(key)) {
                (true, found) => i64::from(found.is_some()),
                (false, Some(number)) => number,
                (false, None) => return Answer::No,
            };
            if comparison.holds(left, right) == rule.negated {
                return Answer::No;
            }
            let value = if target.count { None } else { self.get(key) };
            let value = value.unwrap_or(Fixed::Number(left));
            matched = Some(Matched { key, value, is_count: target.count });
        }
        if !is_plain(rule) {
            return Answer::Unknown;
        }
        // A rule is taken whole or not at all.
        let settles =
            |action: &Action| matches!(action, Action::SetVar(set) if set.can_settle(&mut |t| can_expand(t)));
        if !rule.on_match.iter().all(settles) {
            return Answer::Unknown;
        }
        for action in &rule.on_match {
            if let Action::SetVar(set) = action {
                set.settle(self);
            }
        }
        // One that only skips leaves no trace: it is a gate to the phase.
        let only_skips = rule.on_match.is_empty() && rule.outcome.skip_to.is_some();
        Answer::Yes(matched.filter(|_| !only_skips))
    }

    /// The value of a key; one not met before is taken to be absent.
    pub(crate) fn get(&mut self, key: u32) -> Option<Fixed> {
        let absent = &mut self.absent;
        let held = self.values.entry(key).or_insert_with(|| {
            absent.push(key);
            Held::default()
        });
        held.value
    }

    pub(crate) fn number(&mut self, key: u32) -> Option<i64> {
        self.get(key).map(|value| match value {
            Fixed::Number(number) => number,
            Fixed::Text { from, to } => parse_integer(&self.texts[from as usize..to as usize]),
        })
    }

    pub(crate) fn set(&mut self, key: u32, value: Option<Fixed>) {
        self.values.insert(key, Held { value, is_changed: true });
    }

    /// What an operand stands for; none when it needs more than TX.
    pub(crate) fn operand(&mut self, operand: &Operand) -> Option<i64> {
        match operand {
            Operand::Number(number) => Some(*number),
            Operand::Tx(key) => Some(self.number(*key).unwrap_or(0)),
            Operand::Template(_) => None,
        }
    }

    /// What a text with macros of TX alone comes to.
    pub(crate) fn expand(&mut self, template: &Template) -> Fixed {
        let mut bytes = Vec::new();
        for segment in &template.segments {
            match segment {
                Segment::Text(text) => bytes.extend_from_slice(text),
                Segment::Tx(key) => match self.get(*key) {
                    Some(Fixed::Number(number)) => bytes.extend_from_slice(number.to_string().as_bytes()),
                    Some(Fixed::Text { from, to }) => {
                        bytes.extend_from_slice(&self.texts[from as usize..to as usize]);
                    }
                    None => {}
                },
                Segment::Variable(_) | Segment::Named(..) => {}
            }
        }
        bytes.truncate(VALUE_MAX_BYTES);
        let from = self.texts.len() as u32;
        self.texts.extend_from_slice(&bytes);
        Fixed::Text { from, to: self.texts.len() as u32 }
    }
}

fn can_expand(template: &Template) -> bool {
    template.segments.iter().all(|segment| matches!(segment, Segment::Text(_) | Segment::Tx(_)))
}
