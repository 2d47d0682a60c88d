//! The screen at the start of a phase: which of its rules may match.

use super::core::Core;
use crate::{
    bytes::ByteMask,
    compile::{Ruleset, pipeline::PipelineId},
    prefilter::{
        plan::{PhasePlan, Plan, leaves_alone},
        screen::Memo,
    },
    variables::{arena::Span, store::Value},
};

/// Slots of the memory of routes; one taken by another key is written over.
const ROUTE_SLOTS: usize = 512;

/// What screening needs and leaves behind. All of it is kept as memory for the next phase.
pub(crate) struct Screening {
    memos: [Memo; 5],
    routes: Vec<RouteSlot>,
    /// The rules of the phase that may match, by their place.
    possible: Vec<u64>,
    /// What the value at hand becomes, and the rules that look at it so.
    forms: Vec<(Span, Vec<u64>)>,
    forms_used: usize,
    candidates: Vec<u64>,
    is_on: bool,
}

/// For a plan and a byte mask: the rules that see the value as it is, and the routes that may change it.
#[derive(Clone, Default)]
struct RouteSlot {
    key: (u32, u64),
    known: bool,
    direct: Vec<u64>,
    changing: Vec<u32>,
}

impl Default for Screening {
    fn default() -> Self {
        Self {
            memos: Default::default(),
            routes: vec![RouteSlot::default(); ROUTE_SLOTS],
            possible: Vec::new(),
            forms: Vec::new(),
            forms_used: 0,
            candidates: Vec::new(),
            is_on: false,
        }
    }
}

impl Screening {
    /// Forgets what was learnt about another rule set.
    pub(crate) fn forget(&mut self) {
        self.memos.iter_mut().for_each(Memo::clear);
        self.routes.iter_mut().for_each(|slot| slot.known = false);
    }

    /// The first place from `from` on whose rule is to be looked at.
    #[inline]
    pub(crate) fn next(&self, from: usize) -> Option<usize> {
        if !self.is_on {
            return Some(from);
        }
        let mut word = from / 64;
        let mut bits = self.possible.get(word)? & (u64::MAX << (from % 64));
        while bits == 0 {
            word += 1;
            bits = *self.possible.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }
}

impl Core {
    /// Screens the values that the rules of a phase look at.
    pub(crate) fn screen_phase(&mut self, phase: u8, rules: &Ruleset) {
        let index = phase as usize - 1;
        let Some(plan) = rules.plans.get(index).and_then(Option::as_ref) else {
            self.screening.is_on = false;
            return;
        };
        let mut screening = std::mem::take(&mut self.screening);
        screening.is_on = true;
        screening.possible.clear();
        screening.possible.extend_from_slice(&plan.unscreened);
        for (variable, part) in &plan.scalars {
            let value = self.scalar(*variable);
            let value = self.value_bytes(value);
            self.screen_value(value, part, plan, index, &mut screening, rules);
        }
        for list in &plan.lists {
            for at in 0..self.store.list(list.list).len() {
                let pair = self.store.list(list.list)[at];
                if let Some(part) = list.plan(pair.name_id) {
                    let value = if list.by_name { pair.name } else { pair.value };
                    self.screen_value(value, part, plan, index, &mut screening, rules);
                }
            }
        }
        self.screening = screening;
    }

    fn screen_value(
        &mut self,
        value: Span,
        plan: &Plan,
        phase: &PhasePlan,
        index: usize,
        screening: &mut Screening,
        rules: &Ruleset,
    ) {
        if plan.routes.is_empty() {
            return;
        }
        let mask = ByteMask::of(self.arena.get(value));
        let slot = screening.slot(plan, mask, phase.screen.words(), rules);
        screening.forms_used = 0;
        let direct = std::mem::take(&mut screening.routes[slot].direct);
        screening.add_form(value, &direct);
        screening.routes[slot].direct = direct;
        for at in 0..screening.routes[slot].changing.len() {
            let route = &plan.routes[screening.routes[slot].changing[at] as usize];
            let result = self.transform(value, route.pipeline, rules);
            let same = (0..screening.forms_used).find(|form| {
                let known = screening.forms[*form].0;
                known == result || self.arena.get(known) == self.arena.get(result)
            });
            screening.add_form_at(same, result, &route.rules);
        }
        for form in 0..screening.forms_used {
            let (span, wanted) = &screening.forms[form];
            if wanted.iter().all(|word| *word == 0) {
                continue;
            }
            let bytes = self.arena.get(*span);
            let mask = if *span == value { mask } else { ByteMask::of(bytes) };
            screening.candidates.clear();
            screening.candidates.resize(phase.screen.words(), 0);
            phase.screen.candidates(bytes, mask, &mut screening.memos[index], &mut screening.candidates);
            let words = screening.possible.iter_mut().zip(&screening.candidates).zip(wanted);
            for ((possible, candidates), wanted) in words {
                *possible |= candidates & wanted;
            }
        }
    }
}

impl Screening {
    fn add_form(&mut self, span: Span, rules: &[u64]) {
        self.add_form_at(None, span, rules);
    }

    fn add_form_at(&mut self, known: Option<usize>, span: Span, rules: &[u64]) {
        let at = known.unwrap_or_else(|| {
            if self.forms.len() == self.forms_used {
                self.forms.push((span, Vec::new()));
            }
            let form = &mut self.forms[self.forms_used];
            form.0 = span;
            form.1.clear();
            form.1.resize(rules.len(), 0);
            self.forms_used += 1;
            self.forms_used - 1
        });
        for (word, other) in self.forms[at].1.iter_mut().zip(rules) {
            *word |= other;
        }
    }

    /// Which routes a value of that mask has to take.
    fn slot(&mut self, plan: &Plan, mask: ByteMask, words: usize, rules: &Ruleset) -> usize {
        // Letters count as a whole here: every letter may be there where one is.
        let letters = if mask.intersects(ByteMask::LETTERS) { ByteMask::LETTERS } else { ByteMask::EMPTY };
        let coarse = mask | letters;
        let key = (plan.id, coarse.0);
        let mixed = (coarse.0 ^ (plan.id as u64) << 40).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let at = (mixed >> 40) as usize % ROUTE_SLOTS;
        let slot = &mut self.routes[at];
        if slot.known && slot.key == key {
            return at;
        }
        slot.known = true;
        slot.key = key;
        slot.direct.clear();
        slot.direct.resize(words, 0);
        slot.changing.clear();
        for (number, route) in plan.routes.iter().enumerate() {
            let pipeline: PipelineId = route.pipeline;
            if leaves_alone(rules.pipelines.path(pipeline), coarse) {
                for (word, other) in slot.direct.iter_mut().zip(&route.rules) {
                    *word |= other;
                }
            } else {
                slot.changing.push(number as u32);
            }
        }
        at
    }
}
