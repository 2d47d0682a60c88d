//! The rules of a phase, in order, and where matches lead.

use super::{
    core::Core,
    matched::Severity,
    verdict::{AllowScope, Verdict},
};
use crate::{
    actions::Disruptive,
    compile::{
        Ruleset,
        gate::{Gate, Scalar},
        rule::Outcome,
        settled::{Fixed, Matched, Settled},
    },
    lang::ast::EngineMode,
    operators::parse_integer,
    variables::{
        Variable,
        store::{Item, ItemName, Value},
    },
};

/// The number of the logging phase.
pub(crate) const LOGGING: u8 = 5;

/// Where a rule that matched sends its phase.
enum Next {
    Rule,
    Skip(u32),
    At(u32),
    End,
}

impl Core {
    /// Runs a phase (1 to 5).
    pub(crate) fn run_phase(&mut self, phase: u8, rules: &Ruleset) -> Verdict {
        if let Some(verdict) = &self.ended
            && phase != LOGGING
        {
            return verdict.clone();
        }
        if self.engine == EngineMode::Off || self.is_allowed(phase) {
            return Verdict::Pass;
        }
        self.phase = phase;
        let order = rules.phases.get(phase as usize - 1).map_or(&[][..], |o| o);
        let gates = rules.gates.get(phase as usize - 1).map_or(&[][..], |g| g);
        let levels = rules.levels.get(phase as usize - 1).map_or(&[][..], |l| l);
        // Who watches or records everything gets to see each rule.
        let may_leap = self.observer.is_none() && !self.records_all;
        let mut levelled = 0_u8;
        let mut allowed_by = None;
        self.screen_phase(phase, rules);
        let mut at = 0;
        while let Some(place) = self.next_place(at)
            && let Some(&number) = order.get(place)
        {
            at = place + 1;
            let mut gate = gates.get(place).unwrap_or(&Gate::Open);
            if let (Gate::Settled, Some(settled)) = (gate, &rules.settled) {
                if may_leap && !self.removes_any() && self.settle(settled) {
                    at = settled.to as usize;
                    continue;
                }
                gate = &settled.first;
            }
            match gate {
                Gate::Count(gate) if !self.has_removals_of(gate.variable) && !gate.holds(&self.store) => {
                    continue;
                }
                Gate::Scalar(gate) if !self.has_removals_of(gate.variable) && !self.scalar_holds(gate) => {
                    continue;
                }
                Gate::Compare(gate) if !self.has_removals_of(Variable::Tx) => {
                    if let Some(level) = gate.level
                        && may_leap
                        && levelled >> level & 1 == 0
                        && !self.removes_any()
                        && let Some(levels) = levels.get(level as usize)
                    {
                        let value = self.tx.number(&self.arena, levels.key);
                        if self.keep_level(levels.mask(value), place, levelled == 0) {
                            levelled |= 1 << level;
                            // This very rule may be among what is left.
                            at = place;
                            continue;
                        }
                    }
                    if !gate.holds(&self.tx, &self.arena) {
                        continue;
                    }
                    if let Some(to) = gate.skip_to
                        && may_leap
                        && !(self.any_removed && self.removed.has(number))
                    {
                        at = to as usize;
                        continue;
                    }
                }
                _ => {}
            }
            self.reach(place);
            if (self.any_removed && self.removed.has(number)) || !self.observed_chain(number, rules) {
                continue;
            }
            match self.after_match(number, rules) {
                Next::Rule => {}
                Next::Skip(rules) => at += rules as usize,
                Next::At(place) => at = place as usize,
                Next::End => {
                    allowed_by = Some(number);
                    break;
                }
            }
            if self.engine == EngineMode::Off {
                break;
            }
            if levelled != 0 && self.removes_any() {
                // A gate may be among what was taken away.
                self.forget_levels(at);
                levelled = 0;
            }
        }
        self.phase_ends(allowed_by.and_then(|n| rules.rules.get(n as usize)).map_or(0, |r| r.info.id))
    }

    /// Whether a `ctl` action took rules away, or TX from some.
    #[inline]
    fn removes_any(&self) -> bool {
        self.any_removed || self.has_removals_of(Variable::Tx)
    }

    fn scalar_holds(&mut self, gate: &Scalar) -> bool {
        gate.holds(match self.scalar(gate.variable) {
            Value::Int(number) => number,
            Value::Bytes(span) => parse_integer(self.arena.get(span)),
        })
    }

    /// Takes over what the beginning comes to, if it holds for this transaction.
    fn settle(&mut self, settled: &Settled) -> bool {
        if settled.absent.iter().any(|key| self.tx.get(*key).is_some()) {
            return false;
        }
        let texts = self.arena.data(&settled.texts);
        let value = |fixed: Fixed| match fixed {
            Fixed::Number(number) => Value::Int(number),
            Fixed::Text { from, to } => Value::Bytes(texts.part(from as usize, to as usize)),
        };
        for (key, fixed) in &settled.changes {
            match fixed {
                Some(fixed) => self.tx.set(*key, value(*fixed)),
                None => self.tx.remove(*key),
            }
        }
        if let Some(Matched { key, value: fixed, is_count }) = settled.matched {
            let (variable, name) = (Variable::Tx, ItemName::Tx(key));
            self.matched_last = Some(Item { variable, name, value: value(fixed), is_count });
        }
        true
    }

    fn observed_chain(&mut self, number: u32, rules: &Ruleset) -> bool {
        let Some(mut observer) = self.observer.take() else { return self.evaluate_chain(number, rules) };
        let id = rules.rules.get(number as usize).map_or(0, |r| r.info.id);
        observer.begins(id);
        let matched = self.evaluate_chain(number, rules);
        observer.ends(id, matched);
        self.observer = Some(observer);
        matched
    }

    fn is_allowed(&self, phase: u8) -> bool {
        match self.allowed {
            Some(AllowScope::Transaction) => phase != LOGGING,
            Some(AllowScope::Request) => phase <= 2,
            Some(AllowScope::Phase) | None => false,
        }
    }

    fn phase_ends(&mut self, rule_id: u64) -> Verdict {
        if let Some(verdict) = &self.ended {
            return verdict.clone();
        }
        match self.allowed {
            Some(scope) if rule_id != 0 => {
                if scope == AllowScope::Phase {
                    self.allowed = None;
                }
                Verdict::Allow { scope, rule_id }
            }
            _ => Verdict::Pass,
        }
    }

    /// A chain matched: the record, the disruptive action, the flow.
    fn after_match(&mut self, number: u32, rules: &Ruleset) -> Next {
        let Some(rule) = rules.rules.get(number as usize) else { return Next::Rule };
        let outcome = &rule.outcome;
        self.raise_severity(rule.info.severity);
        let takes_effect = self.engine == EngineMode::On && self.phase != LOGGING;
        let interrupts = takes_effect && !matches!(outcome.disruptive, Disruptive::Pass);
        if outcome.log || outcome.audit || self.records_all {
            self.record(rule, interrupts, rules);
        }
        if interrupts {
            return self.disrupt(outcome, rule.info.id, rules);
        }
        match (outcome.skip_to, outcome.skip) {
            (Some(place), _) => Next::At(place),
            (None, 0) => Next::Rule,
            (None, rules) => Next::Skip(rules),
        }
    }

    fn raise_severity(&mut self, severity: Option<Severity>) {
        if let Some(severity) = severity
            && self.highest_severity.is_none_or(|highest| severity < highest)
        {
            self.highest_severity = Some(severity);
        }
    }

    fn disrupt(&mut self, outcome: &Outcome, rule_id: u64, rules: &Ruleset) -> Next {
        let status = outcome.status;
        self.ended = Some(match &outcome.disruptive {
            Disruptive::Pass => return Next::Rule,
            Disruptive::Allow(scope) => {
                self.allowed = Some(*scope);
                return Next::End;
            }
            Disruptive::Deny => Verdict::Deny { status, rule_id },
            Disruptive::Drop => Verdict::Drop { rule_id },
            Disruptive::Redirect(location) => {
                self.expand(location, rules);
                let safe: Vec<u8> =
                    self.expanded.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n' | 0)).collect();
                let location = String::from_utf8_lossy(&safe).into_owned();
                let status = if matches!(status, 301 | 302 | 303 | 307 | 308) { status } else { 302 };
                Verdict::Redirect { status, location, rule_id }
            }
        });
        Next::End
    }
}
