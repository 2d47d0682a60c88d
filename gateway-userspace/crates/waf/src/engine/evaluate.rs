//! Asking a rule about its values.

use super::{cache::step, core::Core};
use crate::{
    bytes::ByteMask,
    compile::{
        Ruleset,
        pipeline::PipelineId,
        rule::{Check, Operand, Rule, Target},
    },
    operators::{Comparison, EvalContext, MAX_CAPTURES, Operator, parse_integer},
    transformations::{Outcome, Transformation},
    variables::{
        Variable,
        arena::{Buffer, SCRATCH_KEEP_BYTES, Span},
        store::{Item, ItemName, LIST_MAX, List, Value},
    },
};

/// What MATCHED_VAR keeps of a value when the memory for transformed values is emptied, bytes.
const MATCHED_KEEP_BYTES: usize = 65_536;

impl Core {
    /// Asks a chain. Actions run for each value that matches, even if a later link does not.
    pub(crate) fn evaluate_chain(&mut self, starter: u32, rules: &Ruleset) -> bool {
        self.current = starter;
        self.matched.clear();
        if self.arena.len(Buffer::Scratch) > SCRATCH_KEEP_BYTES {
            self.empty_scratch();
        }
        let mut number = starter;
        loop {
            let Some(rule) = rules.rules.get(number as usize) else { return false };
            if !self.evaluate_rule(rule, number, rules) {
                return false;
            }
            match rule.next {
                Some(next) => number = next,
                None => return true,
            }
        }
    }

    /// Empties the memory for transformed values; MATCHED_VAR is the one that outlives a rule.
    pub(crate) fn empty_scratch(&mut self) {
        if let Some(item) = &mut self.matched_last
            && let Value::Bytes(span) = item.value
        {
            item.value = Value::Bytes(self.arena.keep(span.part(0, MATCHED_KEEP_BYTES)));
        }
        self.arena.empty_scratch();
        self.cache.clear();
    }

    /// Asks one rule; whether any of its values matches.
    fn evaluate_rule(&mut self, rule: &Rule, number: u32, rules: &Ruleset) -> bool {
        match &rule.check {
            Check::Always => {
                self.run_actions(&rule.on_match, rules);
                true
            }
            Check::Number { comparison, operand } => {
                match rule.single_tx().filter(|_| !self.has_removals_of(Variable::Tx)) {
                    Some(target) => self.evaluate_single(rule, target, *comparison, operand, rules),
                    None => {
                        let operand = self.operand(operand, rules);
                        self.evaluate_items(rule, number, rules, |core, item| {
                            core.compare(rule, item, *comparison, operand, rules)
                        })
                    }
                }
            }
            Check::Operator { operator, argument } => {
                let mut is_ready = false;
                self.evaluate_items(rule, number, rules, |core, item| {
                    if let Some(template) = argument
                        && !is_ready
                    {
                        core.expand(template, rules);
                        std::mem::swap(&mut core.expanded, &mut core.argument);
                    }
                    let matched = core.ask(rule, item, operator, argument.is_some(), rules);
                    // What a match sets may change what the argument expands to.
                    is_ready = !matched;
                    matched
                })
            }
        }
    }

    fn evaluate_items(
        &mut self,
        rule: &Rule,
        number: u32,
        rules: &Ruleset,
        mut ask: impl FnMut(&mut Self, Item) -> bool,
    ) -> bool {
        let from = self.items.len();
        self.select(rule, number, rules);
        let to = self.items.len();
        let mut matched = false;
        for index in from..to {
            let item = self.items[index];
            matched |= ask(self, item);
        }
        self.items.truncate(from);
        matched
    }

    /// A TX variable, or how many there are of one, against a number: the most frequent kind of rule.
    fn evaluate_single(
        &mut self,
        rule: &Rule,
        (target, key): (&Target, u32),
        comparison: Comparison,
        operand: &Operand,
        rules: &Ruleset,
    ) -> bool {
        let number = match (target.count, self.tx.number(&self.arena, key)) {
            (true, found) => i64::from(found.is_some()),
            (false, Some(number)) => number,
            (false, None) => return false,
        };
        if comparison.holds(number, self.operand(operand, rules)) == rule.negated {
            return false;
        }
        let value = if target.count { Some(Value::Int(number)) } else { self.tx.get(key) };
        let value = value.unwrap_or(Value::Int(number));
        let item = Item { variable: Variable::Tx, name: ItemName::Tx(key), value, is_count: target.count };
        self.captures.clear();
        self.on_match(rule, item, Span::EMPTY, rules);
        true
    }

    fn compare(
        &mut self,
        rule: &Rule,
        item: Item,
        comparison: Comparison,
        operand: i64,
        rules: &Ruleset,
    ) -> bool {
        let (number, value) = match item.value {
            Value::Int(number) if rule.pipeline == 0 => (number, item.value),
            value => {
                let span = self.value_bytes(value);
                let span = self.transform(span, rule.pipeline, rules);
                (parse_integer(self.arena.get(span)), Value::Bytes(span))
            }
        };
        let matched = comparison.holds(number, operand) != rule.negated;
        if matched {
            self.captures.clear();
            self.on_match(rule, Item { value, ..item }, Span::EMPTY, rules);
        }
        matched
    }

    /// Asks the operator about a value in the rule's pipeline; with multiMatch about each form it takes on the way.
    fn ask(
        &mut self,
        rule: &Rule,
        item: Item,
        operator: &Operator,
        has_argument: bool,
        rules: &Ruleset,
    ) -> bool {
        let span = self.value_bytes(item.value);
        if !rule.multi_match {
            let span = self.transform(span, rule.pipeline, rules);
            return self.ask_one(rule, item, span, operator, has_argument, rules);
        }
        let mut matched = self.ask_one(rule, item, span, operator, has_argument, rules);
        let mut last = span;
        for (node, _) in rules.pipelines.path(rule.pipeline) {
            let next = self.transform(span, *node, rules);
            if next != last && self.arena.get(next) != self.arena.get(last) {
                matched |= self.ask_one(rule, item, next, operator, has_argument, rules);
                last = next;
            }
        }
        matched
    }

    fn ask_one(
        &mut self,
        rule: &Rule,
        item: Item,
        value: Span,
        operator: &Operator,
        has_argument: bool,
        rules: &Ruleset,
    ) -> bool {
        if rule.capture {
            // Operators that capture nothing leave nothing of others.
            self.captures.clear();
        }
        let mut context = EvalContext {
            argument: has_argument.then_some(self.argument.as_slice()),
            capture: rule.capture.then_some(&mut self.captures),
            geo: self.services.geo.as_deref(),
            rbl: self.services.rbl.as_deref(),
            geo_record: None,
            pattern_limit_exceeded: false,
        };
        let matched = operator.evaluate(self.arena.get(value), &mut context) != rule.negated;
        let geo_record = context.geo_record.take();
        if context.pattern_limit_exceeded {
            self.store.set_int(Variable::MscPcreLimitsExceeded, 1);
        }
        if let Some(record) = geo_record {
            self.set_geo(&record, rules);
        }
        if matched {
            if rule.capture && rule.negated {
                self.captures.clear();
            }
            self.on_match(rule, Item { value: Value::Bytes(value), ..item }, value, rules);
        }
        matched
    }

    /// What happens for each value that matches.
    fn on_match(&mut self, rule: &Rule, item: Item, input: Span, rules: &Ruleset) {
        if rule.capture {
            self.keep_captures(input);
        }
        self.matched_last = Some(item);
        if self.matched.len() < LIST_MAX {
            self.matched.push(item);
        }
        self.run_actions(&rule.on_match, rules);
    }

    /// TX:0 to TX:9 become what the operator captured.
    fn keep_captures(&mut self, input: Span) {
        let captures = std::mem::take(&mut self.captures);
        for index in 0..MAX_CAPTURES {
            let span = match captures.range(index) {
                Some(range) => {
                    let part = input.part(range.start, range.end);
                    Some(self.arena.keep(part))
                }
                None => captures.get(index, &[]).map(|own| self.arena.data(own)),
            };
            match span {
                Some(span) => self.tx.set(index as u32, Value::Bytes(span)),
                None => self.tx.remove(index as u32),
            }
        }
        self.captures = captures;
    }

    /// What a value becomes in a pipeline.
    pub(crate) fn transform(&mut self, value: Span, pipeline: PipelineId, rules: &Ruleset) -> Span {
        if pipeline == 0 {
            return value;
        }
        if let Some(known) = self.cache.get(value, pipeline) {
            return known;
        }
        let mut current = value;
        for (_, transformation) in rules.pipelines.path(pipeline) {
            current = self.transform_once(current, *transformation);
        }
        self.cache.put(value, pipeline, current);
        current
    }

    /// What a value becomes by one transformation: pipelines that come to the same value share what follows.
    fn transform_once(&mut self, value: Span, transformation: Transformation) -> Span {
        let step = step(transformation);
        if let Some(known) = self.cache.get(value, step) {
            return known;
        }
        self.transformed.clear();
        let result = match transformation.apply(self.arena.get(value), &mut self.transformed) {
            Outcome::Changed => self.arena.push(Buffer::Scratch, &self.transformed),
            Outcome::Unchanged => value,
        };
        self.cache.put(value, step, result);
        result
    }

    /// The same for a value whose mask is known: what cannot change it is not even looked up. `trail` has what the value became on the
    /// way through another pipeline, and gets it for this one; what they share is not gone again.
    pub(crate) fn transform_masked(
        &mut self,
        value: Span,
        mask: ByteMask,
        path: &[(PipelineId, Transformation)],
        trail: &mut Vec<(PipelineId, Span)>,
    ) -> Span {
        let shared = path.iter().zip(&*trail).take_while(|((node, _), (known, _))| node == known).count();
        trail.truncate(shared);
        let mut current = trail.last().map_or(value, |(_, span)| *span);
        for (node, transformation) in &path[shared..] {
            if current != value || !transformation.is_noop_for(mask) {
                current = self.transform_once(current, *transformation);
            }
            trail.push((*node, current));
        }
        current
    }

    fn set_geo(&mut self, record: &crate::operators::GeoRecord, rules: &Ruleset) {
        self.store.clear_list(List::Geo);
        let degrees = |d: Option<f64>| d.map_or(String::new(), |d| d.to_string());
        let fields = [
            ("COUNTRY_CODE", record.country_code.clone()),
            ("COUNTRY_CODE3", record.country_code3.clone()),
            ("COUNTRY_NAME", record.country_name.clone()),
            ("COUNTRY_CONTINENT", record.country_continent.clone()),
            ("REGION", record.region.clone()),
            ("CITY", record.city.clone()),
            ("POSTAL_CODE", record.postal_code.clone()),
            ("LATITUDE", degrees(record.latitude)),
            ("LONGITUDE", degrees(record.longitude)),
        ];
        for (name, value) in fields.iter().filter(|(_, v)| !v.is_empty()) {
            let (name, value) = (self.arena.data(name.as_bytes()), self.arena.data(value.as_bytes()));
            self.push_named(List::Geo, name, value, rules);
        }
    }
}
