//! Gates: rules that compare one TX variable with a number, as CRS's paranoia levels do by the hundred, or ask how many
//! headers of a name there are. A phase asks them from a table of their own, without touching the rule.

use super::rule::{Check, Operand, Rule, Selector, Target};
use crate::{
    operators::Comparison,
    variables::{
        Variable,
        arena::Arena,
        store::{List, Store, View, view},
        tx::Tx,
    },
};

/// What stands before a rule of a phase.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gate {
    /// Nothing: the rule is asked itself.
    Open,
    /// The rule can only match when this comparison holds.
    Compare(Compare),
    /// The rule can only match when there are so many of a list.
    Count(Count),
    /// The rule can only match when this comparison of a single value with a number holds.
    Scalar(Scalar),
    /// The rule is the first of the beginning that is settled at load.
    Settled,
}

/// How many values of a list there are, of all names or of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    pub variable: Variable,
    list: List,
    name: Option<u32>,
    comparison: Comparison,
    negated: bool,
    number: i64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Scalar {
    pub variable: Variable,
    comparison: Comparison,
    negated: bool,
    number: i64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Compare {
    key: u32,
    comparison: Comparison,
    negated: bool,
    count: bool,
    operand: Right,
    /// Where the phase goes on when it holds, for a rule that does nothing but skip.
    pub skip_to: Option<u32>,
    /// Which of the phase's levels stands for it.
    pub level: Option<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Right {
    Number(i64),
    Tx(u32),
}

impl Gate {
    /// The gate of a chain that begins with `rule`.
    pub(crate) fn new(rule: &Rule) -> Self {
        let Some((target, key)) = rule.single_tx() else {
            return Self::count(rule).or_else(|| Self::scalar(rule)).unwrap_or(Self::Open);
        };
        let Check::Number { comparison, operand } = &rule.check else { return Self::Open };
        let operand = match operand {
            Operand::Number(number) => Right::Number(*number),
            Operand::Tx(key) => Right::Tx(*key),
            Operand::Template(_) => return Self::Open,
        };
        let skip_to = rule.outcome.skip_to.filter(|_| rule.is_quiet() && rule.on_match.is_empty());
        Self::Compare(Compare {
            key,
            comparison: *comparison,
            negated: rule.negated,
            count: target.count,
            operand,
            skip_to,
            level: None,
        })
    }
}

impl Gate {
    fn scalar(rule: &Rule) -> Option<Self> {
        let [Target { variable, count: false, selector: Selector::All, .. }] = &*rule.targets else {
            return None;
        };
        let Check::Number { comparison, operand: Operand::Number(number) } = &rule.check else { return None };
        let is_plain = view(*variable) == View::Scalar && rule.pipeline == 0 && rule.exclusions.is_empty();
        is_plain.then_some(Self::Scalar(Scalar {
            variable: *variable,
            comparison: *comparison,
            negated: rule.negated,
            number: *number,
        }))
    }

    fn count(rule: &Rule) -> Option<Self> {
        let [target] = &*rule.targets else { return None };
        let View::Values([list]) = view(target.variable) else { return None };
        let name = match &target.selector {
            Selector::All => None,
            Selector::Name(id, _) => Some(*id),
            _ => return None,
        };
        // Those lists are filled when they are first asked for.
        let is_lazy = matches!(list, List::Env | List::Rule);
        let Check::Number { comparison, operand: Operand::Number(number) } = &rule.check else { return None };
        if !target.count || is_lazy || rule.pipeline != 0 || !rule.exclusions.is_empty() {
            return None;
        }
        Some(Self::Count(Count {
            variable: target.variable,
            list: *list,
            name,
            comparison: *comparison,
            negated: rule.negated,
            number: *number,
        }))
    }
}

impl Scalar {
    /// Whether the comparison holds for the value.
    #[inline]
    pub(crate) fn holds(&self, value: i64) -> bool {
        self.comparison.holds(value, self.number) != self.negated
    }
}

impl Count {
    /// Whether the comparison holds now.
    #[inline]
    pub(crate) fn holds(&self, store: &Store) -> bool {
        let values = store.list(self.list);
        let count = match self.name {
            None => values.len(),
            Some(name) => values.iter().filter(|pair| pair.name_id == name).count(),
        };
        self.comparison.holds(count as i64, self.number) != self.negated
    }
}

impl Compare {
    /// The TX key on the left.
    pub(crate) fn key(&self) -> u32 {
        self.key
    }

    /// The number on the right, where a value and no count is compared with one.
    pub(crate) fn number(&self) -> Option<i64> {
        match self.operand {
            Right::Number(number) if !self.count => Some(number),
            _ => None,
        }
    }

    /// Whether a comparison with a [`number`](Self::number) holds for a value.
    pub(crate) fn holds_for(&self, value: Option<i64>) -> bool {
        match (value, self.number()) {
            (Some(value), Some(number)) => self.comparison.holds(value, number) != self.negated,
            _ => false,
        }
    }

    /// Whether the comparison holds now.
    #[inline]
    pub(crate) fn holds(&self, tx: &Tx, arena: &Arena) -> bool {
        let left = match (self.count, tx.number(arena, self.key)) {
            (true, found) => i64::from(found.is_some()),
            (false, Some(number)) => number,
            (false, None) => return false,
        };
        let right = match self.operand {
            Right::Number(number) => number,
            Right::Tx(key) => tx.number(arena, key).unwrap_or(0),
        };
        self.comparison.holds(left, right) != self.negated
    }
}
