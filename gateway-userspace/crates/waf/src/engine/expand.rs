//! Macro expansion.

use super::core::Core;
use crate::{
    compile::{
        Ruleset,
        rule::Operand,
        template::{Segment, Template},
    },
    operators::parse_integer,
    variables::{
        Variable,
        arena::{Span, write_number},
        store::{Item, ItemName, Value, View, view},
    },
};

/// Longest that a template expands to, bytes; the rest is cut.
pub(crate) const EXPANDED_MAX_BYTES: usize = 1 << 20;

impl Core {
    /// Expands a template into `self.expanded`.
    pub(crate) fn expand(&mut self, template: &Template, rules: &Ruleset) {
        self.expanded.clear();
        for segment in &template.segments {
            let value = match segment {
                Segment::Text(text) => {
                    self.expanded.extend_from_slice(text);
                    continue;
                }
                Segment::Tx(key) => self.tx.get(*key),
                Segment::Variable(Variable::MatchedVarName) => {
                    self.append_matched_name(rules);
                    continue;
                }
                Segment::Variable(variable) => self.first_of(*variable),
                Segment::Named(Variable::Rule, name) => {
                    self.append_rule_field(name, rules);
                    continue;
                }
                Segment::Named(variable, name) => self.named(*variable, name),
            };
            match value {
                Some(Value::Bytes(span)) => self.expanded.extend_from_slice(self.arena.get(span)),
                Some(Value::Int(number)) => {
                    let mut digits = [0; 20];
                    let from = write_number(number, &mut digits);
                    self.expanded.extend_from_slice(&digits[from..]);
                }
                None => {}
            }
            if self.expanded.len() > EXPANDED_MAX_BYTES {
                self.expanded.truncate(EXPANDED_MAX_BYTES);
                return;
            }
        }
    }

    /// Expands a template to a value that lives as long as the transaction.
    pub(crate) fn expand_to_data(&mut self, template: &Template, rules: &Ruleset) -> Span {
        if let Some(literal) = template.literal() {
            return self.arena.data(literal);
        }
        self.expand(template, rules);
        self.arena.data(&self.expanded)
    }

    /// The same in lower case.
    pub(crate) fn expand_lower_to_data(&mut self, template: &Template, rules: &Ruleset) -> Span {
        self.expand(template, rules);
        self.expanded.make_ascii_lowercase();
        self.arena.data(&self.expanded)
    }

    /// The number that an operand stands for.
    pub(crate) fn operand(&mut self, operand: &Operand, rules: &Ruleset) -> i64 {
        match operand {
            Operand::Number(number) => *number,
            Operand::Tx(key) => self.tx.number(&self.arena, *key).unwrap_or(0),
            Operand::Template(template) => {
                self.expand(template, rules);
                parse_integer(&self.expanded)
            }
        }
    }

    /// A value's bytes, written out if it is a number.
    pub(crate) fn value_bytes(&mut self, value: Value) -> Span {
        match value {
            Value::Bytes(span) => span,
            Value::Int(number) => self.arena.number(number),
        }
    }

    /// A single value, or the first of a collection.
    fn first_of(&mut self, variable: Variable) -> Option<Value> {
        match view(variable) {
            View::Scalar => Some(self.scalar(variable)),
            View::Values(lists) => {
                lists.iter().find_map(|l| self.store.list(*l).first()).map(|p| Value::Bytes(p.value))
            }
            View::Names(lists) => {
                lists.iter().find_map(|l| self.store.list(*l).first()).map(|p| Value::Bytes(p.name))
            }
            View::Tx => self.tx.keys().find_map(|k| self.tx.get(k)),
            View::MatchedVars => self.matched.first().map(|i| i.value),
            View::MatchedVarsNames => None,
        }
    }

    /// A named value of a collection.
    pub(crate) fn named(&self, variable: Variable, name: &[u8]) -> Option<Value> {
        let find = |lists: &[_]| lists.iter().find_map(|l| self.store.find(&self.arena, *l, name));
        match view(variable) {
            View::Values(lists) => find(lists).map(Value::Bytes),
            View::Names(lists) => {
                let same =
                    |p: &&crate::variables::store::Pair| self.arena.get(p.name).eq_ignore_ascii_case(name);
                let pair = lists.iter().find_map(|l| self.store.list(*l).iter().find(same));
                pair.map(|p| Value::Bytes(p.name))
            }
            _ => None,
        }
    }

    /// Appends `VARIABLE:name` of an item.
    pub(crate) fn append_name(&self, item: Item, rules: &Ruleset, out: &mut Vec<u8>) {
        if item.is_count {
            out.push(b'&');
        }
        out.extend_from_slice(item.variable.name().as_bytes());
        match item.name {
            ItemName::None => {}
            ItemName::Span(name) => {
                out.push(b':');
                out.extend_from_slice(self.arena.get(name));
            }
            ItemName::Tx(key) => {
                out.push(b':');
                out.extend_from_slice(self.tx.name(&rules.symbols.tx, &self.arena, key));
            }
        }
    }

    fn append_matched_name(&mut self, rules: &Ruleset) {
        if let Some(item) = self.matched_last {
            let mut out = std::mem::take(&mut self.expanded);
            self.append_name(item, rules, &mut out);
            self.expanded = out;
        }
    }

    /// `%{rule.id}` and its like.
    fn append_rule_field(&mut self, name: &[u8], rules: &Ruleset) {
        let Some(rule) = rules.rules.get(self.current as usize) else { return };
        let info = &rule.info;
        let text = match name.to_ascii_lowercase().as_slice() {
            b"id" => info.id.to_string(),
            b"rev" => info.rev.clone().unwrap_or_default(),
            b"severity" => info.severity.map_or(String::new(), |s| (s as u8).to_string()),
            b"logdata" => info.logdata.clone(),
            b"msg" => info.msg.clone(),
            b"phase" => info.phase.to_string(),
            b"operator" => info.operator.clone(),
            _ => String::new(),
        };
        self.expanded.extend_from_slice(text.as_bytes());
    }
}
