//! Records of rules that matched.

use std::sync::Arc;

use super::{
    core::Core,
    matched::{MatchedRule, MatchedValue, Text},
};
use crate::{
    MATCHED_VALUE_MAX_BYTES, MATCHED_VALUES_MAX,
    compile::{
        Ruleset,
        rule::{Rule, Selector, Target},
        template::Template,
    },
    variables::Variable,
};

/// Most records of one transaction; further matches take effect unrecorded.
pub(crate) const MATCHES_MAX: usize = 4096;

impl Core {
    /// Records a chain that matched; `rule` is its starter.
    pub(crate) fn record(&mut self, rule: &Rule, interrupted: bool, rules: &Ruleset) {
        let outcome = &rule.outcome;
        self.audit_wanted |= outcome.audit;
        if self.matches.len() >= MATCHES_MAX {
            return;
        }
        let message = self.text(&outcome.message, rules);
        let data = self.text(&outcome.data, rules);
        let expanded_tags = outcome.tags.iter().map(|t| self.text(t, rules)).collect();
        let values = self.matched_values(rules);
        self.matches.push(MatchedRule {
            rule: Arc::clone(&rule.info),
            message,
            data,
            expanded_tags,
            values,
            action: outcome.disruptive.record(),
            interrupted,
            log: outcome.log,
            audit: outcome.audit,
        });
    }

    /// The values that a variable has now.
    pub(crate) fn values(&mut self, variable: Variable, rules: &Ruleset) -> Vec<MatchedValue> {
        let from = self.items.len();
        let target = Target { variable, count: false, selector: Selector::All, fixed_keys: Box::default() };
        self.select_target(&target, &[], rules);
        let mut values = Vec::new();
        for item in self.items.split_off(from) {
            let mut name = Vec::new();
            self.append_name(item, rules, &mut name);
            let value = self.value_bytes(item.value);
            values.push(MatchedValue {
                variable: Text::from(name.as_slice()),
                value: Text::from(self.arena.get(value)),
            });
        }
        values
    }

    fn text(&mut self, template: &Template, rules: &Ruleset) -> Text {
        self.expand(template, rules);
        Text::from(self.expanded.as_slice())
    }

    fn matched_values(&mut self, rules: &Ruleset) -> Vec<MatchedValue> {
        let mut values = Vec::with_capacity(self.matched.len().min(MATCHED_VALUES_MAX));
        for index in 0..self.matched.len().min(MATCHED_VALUES_MAX) {
            let item = self.matched[index];
            let mut name = Vec::new();
            self.append_name(item, rules, &mut name);
            let value = self.value_bytes(item.value).part(0, MATCHED_VALUE_MAX_BYTES);
            let value = Text::from(self.arena.get(value));
            values.push(MatchedValue { variable: Text::from(name.as_slice()), value });
        }
        values
    }
}
