//! The screen at the start of a phase: which of its rules match some value.
//!
//! Each value goes once through the transformations that rules ask for and through the screen, and the candidates that
//! it leaves are asked about this very form. So the phase then looks only at rules that match something, and at those
//! that cannot be screened.

use super::core::Core;
use crate::{
    bytes::ByteMask,
    compile::{
        Ruleset,
        pipeline::PipelineId,
        rule::{Check, Rule},
    },
    operators::EvalContext,
    prefilter::{
        memo::{Memo, Places},
        plan::{PhasePlan, Plan, leaves_alone, value_comes_again},
        screen::Asked,
        seen::Seen,
    },
    transformations::Transformation,
    variables::arena::{Buffer, SCRATCH_KEEP_BYTES, Span},
};

/// Slots of the memory of routes; one taken by another key is written over.
const ROUTE_SLOTS: usize = 512;
/// Values longer than this are taken through one pipeline at a time, so that their forms need not be held together.
const LONG_BYTES: usize = 256 << 10;

/// What screening needs and leaves behind. All of it is kept as memory for the next phase.
pub(crate) struct Screening {
    memo: Memo,
    seen: Seen,
    routes: Vec<RouteSlot>,
    places: Places,
    /// The rules of the phase to look at, by their place.
    possible: Vec<u64>,
    /// The same before levels took some away.
    before_levels: Vec<u64>,
    /// The rules that match the value at hand.
    found: Vec<u64>,
    /// What the value at hand becomes, and the rules that look at it so.
    forms: Vec<(Span, Vec<u64>)>,
    forms_used: usize,
    /// What the value at hand became on the way through the last pipeline.
    trail: Vec<(PipelineId, Span)>,
    candidates: Vec<u64>,
    is_on: bool,
    /// For each phase, the rules that were looked at once: those behind a paranoia level that is not in force never are, and
    /// screening for them would be for nothing. A rule not reached yet counts as possible.
    reached: [Vec<u64>; 5],
    phase: usize,
}

/// For a question and a byte mask: the rules that see the value as it is, and the routes that may change it.
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
            memo: Memo::default(),
            seen: Seen::default(),
            routes: vec![RouteSlot::default(); ROUTE_SLOTS],
            places: Places::new(ROUTE_SLOTS),
            possible: Vec::new(),
            before_levels: Vec::new(),
            found: Vec::new(),
            forms: Vec::new(),
            forms_used: 0,
            trail: Vec::new(),
            candidates: Vec::new(),
            is_on: false,
            reached: Default::default(),
            phase: 0,
        }
    }
}

impl Core {
    /// Screens the values that the rules of a phase look at.
    pub(crate) fn screen_phase(&mut self, phase: u8, rules: &Ruleset) {
        let Some(mut screening) = self.screening.take() else { return };
        let plan = rules.plans.get(phase as usize - 1).and_then(Option::as_ref);
        screening.is_on = plan.is_some();
        screening.phase = phase as usize - 1;
        if let Some(plan) = plan {
            self.screen_all(plan, &mut screening, rules);
        }
        self.screening = Some(screening);
    }

    /// The first place of the phase from `from` on whose rule is to be looked at.
    #[inline]
    pub(crate) fn next_place(&self, from: usize) -> Option<usize> {
        self.screening.as_ref().map_or(Some(from), |screening| screening.next(from))
    }

    /// Leaves, from a place on, only the places of the mask; false where nothing is screened. The first one of a phase notes what there was.
    pub(crate) fn keep_level(&mut self, mask: &[u64], from: usize, is_first: bool) -> bool {
        match &mut self.screening {
            Some(screening) if screening.is_on => {
                if is_first {
                    screening.before_levels.clone_from(&screening.possible);
                }
                for (word, possible) in screening.possible.iter_mut().enumerate().skip(from / 64) {
                    *possible &= mask.get(word).copied().unwrap_or(0) | !from_place(word, from);
                }
                true
            }
            _ => false,
        }
    }

    /// From a place on, takes back what [`keep_level`](Self::keep_level) took away.
    pub(crate) fn forget_levels(&mut self, from: usize) {
        if let Some(Screening { possible, before_levels, .. }) = self.screening.as_deref_mut() {
            for (word, (possible, before)) in possible.iter_mut().zip(before_levels).enumerate() {
                *possible |= *before & from_place(word, from);
            }
        }
    }

    /// Notes that the rule at a place of the phase is looked at.
    #[inline]
    pub(crate) fn reach(&mut self, place: usize) {
        if let Some(screening) = &mut self.screening {
            screening.reach(place);
        }
    }

    /// For another rule set.
    pub(crate) fn forget_screening(&mut self) {
        if let Some(screening) = &mut self.screening {
            screening.forget();
            screening.reached.iter_mut().for_each(Vec::clear);
        }
    }

    fn screen_all(&mut self, phase: &PhasePlan, screening: &mut Screening, rules: &Ruleset) {
        screening.possible.clear();
        screening.possible.extend_from_slice(&phase.unscreened);
        let reached = &mut screening.reached[screening.phase];
        reached.resize(phase.unscreened.len(), 0);
        screening.possible.iter_mut().zip(reached).for_each(|(word, reached)| *word |= !*reached);
        for (variable, plan) in &phase.scalars {
            let value = self.scalar(*variable);
            let value = self.value_bytes(value);
            if value_comes_again(*variable) {
                self.screen_known(value, plan, phase, screening, rules);
            } else {
                self.screen_value(value, plan, phase, screening, rules);
            }
        }
        for list in &phase.lists {
            for at in 0..self.store.list(list.list).len() {
                let pair = self.store.list(list.list)[at];
                let Some(plan) = list.plan(pair.name_id) else { continue };
                let value = if list.by_name { pair.name } else { pair.value };
                if list.comes_again {
                    self.screen_known(value, plan, phase, screening, rules);
                } else {
                    self.screen_value(value, plan, phase, screening, rules);
                }
            }
        }
    }

    /// Screens a value that may have come before.
    fn screen_known(
        &mut self,
        value: Span,
        plan: &Plan,
        phase: &PhasePlan,
        screening: &mut Screening,
        rules: &Ruleset,
    ) {
        let seed = rules.symbols.names.seed();
        let place = match screening.seen.find(plan.question.id, self.arena.get(value), seed) {
            Ok(found) => {
                screening.possible.iter_mut().zip(found).for_each(|(word, found)| *word |= found);
                return;
            }
            Err(place) => place,
        };
        self.screen_value(value, plan, phase, screening, rules);
        if let Some(place) = place {
            screening.seen.keep(&place, self.arena.get(value), &screening.found);
        }
    }

    /// Screens a value: the rules that match it are added to the possible ones, and are in `found`.
    fn screen_value(
        &mut self,
        value: Span,
        plan: &Plan,
        phase: &PhasePlan,
        screening: &mut Screening,
        rules: &Ruleset,
    ) {
        let words = phase.screen.words();
        screening.found.clear();
        screening.found.resize(words, 0);
        let bytes = self.arena.get(value);
        let mask = ByteMask::of(bytes);
        let length = bytes.len();
        let slot = screening.slot(plan, mask, words, rules);
        screening.forms_used = 0;
        screening.trail.clear();
        screening.add_direct(value, slot);
        let is_long = length > LONG_BYTES;
        if is_long {
            self.screen_forms((value, mask), plan, phase, screening, rules);
        }
        for at in 0..screening.routes[slot].changing.len() {
            let route = &plan.routes[screening.routes[slot].changing[at] as usize];
            if length < route.shortest {
                continue;
            }
            let path = rules.pipelines.path(route.pipeline);
            let result = self.transform_masked(value, mask, path, &mut screening.trail);
            let same = (0..screening.forms_used).find(|form| {
                let known = screening.forms[*form].0;
                known == result || self.arena.get(known) == self.arena.get(result)
            });
            screening.add_form(same, result, &route.rules);
            if is_long {
                self.screen_forms((value, mask), plan, phase, screening, rules);
                self.bound_scratch();
                screening.trail.clear();
            }
        }
        self.screen_forms((value, mask), plan, phase, screening, rules);
        self.bound_scratch();
        screening.possible.iter_mut().zip(&screening.found).for_each(|(word, found)| *word |= found);
    }

    fn bound_scratch(&mut self) {
        if self.arena.len(Buffer::Scratch) > SCRATCH_KEEP_BYTES {
            self.empty_scratch();
        }
    }

    /// Screens the forms gathered and forgets them.
    fn screen_forms(
        &mut self,
        (value, mask): (Span, ByteMask),
        plan: &Plan,
        phase: &PhasePlan,
        screening: &mut Screening,
        rules: &Ruleset,
    ) {
        for form in 0..screening.forms_used {
            let (span, wanted) = &screening.forms[form];
            let span = *span;
            let bytes = self.arena.get(span);
            screening.candidates.clear();
            screening.candidates.resize(phase.screen.words(), 0);
            let mask = if span == value { mask } else { ByteMask::of(bytes) };
            // The screen takes lower-casing for no change, the operators do not.
            let is_folded = span == value && mask.intersects(ByteMask::UPPER);
            phase.screen.candidates(
                bytes,
                mask,
                &Asked { question: &plan.question, among: &screening.reached[screening.phase], wanted },
                &mut screening.memo,
                &mut screening.candidates,
            );
            let reached = &screening.reached[screening.phase];
            let masks = screening.candidates.iter().zip(wanted).zip(reached);
            for (word, (found, ((candidates, wanted), reached))) in
                screening.found.iter_mut().zip(masks).enumerate()
            {
                let mut left = candidates & wanted & reached & !*found;
                while left != 0 {
                    let place = word * 64 + left.trailing_zeros() as usize;
                    if let Some(rule) =
                        phase.order.get(place).and_then(|number| rules.rules.get(*number as usize))
                        && self.matches(rule, value, span, is_folded, rules)
                    {
                        *found |= 1 << (place % 64);
                    }
                    left &= left - 1;
                }
            }
        }
        screening.forms_used = 0;
    }

    /// Whether the rule matches a form of the value; a search given up counts, so that the rule gets to say it.
    fn matches(&mut self, rule: &Rule, value: Span, form: Span, is_folded: bool, rules: &Ruleset) -> bool {
        let Check::Operator { operator, .. } = &rule.check else { return true };
        let lowers = |(_, transformation): &(_, Transformation)| *transformation == Transformation::Lowercase;
        let form = match is_folded && rules.pipelines.path(rule.pipeline).iter().any(lowers) {
            // One of several forms is lower case; the rule knows which.
            true if rule.multi_match => return true,
            true => self.transform(value, rule.pipeline, rules),
            false => form,
        };
        let mut context = EvalContext::default();
        (operator.evaluate(self.arena.get(form), &mut context) != rule.negated)
            || context.pattern_limit_exceeded
    }
}

/// The bits of a word that are for places from one on.
fn from_place(word: usize, from: usize) -> u64 {
    match from.checked_sub(word * 64) {
        None => u64::MAX,
        Some(bit) => u32::try_from(bit).ok().and_then(|bit| u64::MAX.checked_shl(bit)).unwrap_or(0),
    }
}

impl Screening {
    fn forget(&mut self) {
        self.memo.clear();
        self.seen.clear();
        self.routes.iter_mut().for_each(|slot| slot.known = false);
    }

    #[inline]
    fn reach(&mut self, place: usize) {
        if !self.is_on {
            return;
        }
        if let Some(word) = self.reached[self.phase].get_mut(place / 64)
            && *word >> (place % 64) & 1 == 0
        {
            *word |= 1 << (place % 64);
            // What was found before does not know this rule.
            self.forget();
        }
    }

    #[inline]
    fn next(&self, from: usize) -> Option<usize> {
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

    fn add_direct(&mut self, span: Span, slot: usize) {
        let direct = std::mem::take(&mut self.routes[slot].direct);
        if direct.iter().any(|word| *word != 0) {
            self.add_form(None, span, &direct);
        }
        self.routes[slot].direct = direct;
    }

    /// Adds rules to a form known, or a form.
    fn add_form(&mut self, known: Option<usize>, span: Span, rules: &[u64]) {
        let Some(at) = known else {
            if self.forms.len() == self.forms_used {
                self.forms.push((span, Vec::new()));
            }
            let form = &mut self.forms[self.forms_used];
            form.0 = span;
            form.1.clear();
            form.1.extend_from_slice(rules);
            self.forms_used += 1;
            return;
        };
        self.forms[at].1.iter_mut().zip(rules).for_each(|(word, other)| *word |= other);
    }

    /// Which routes a value of that mask has to take.
    fn slot(&mut self, plan: &Plan, mask: ByteMask, words: usize, rules: &Ruleset) -> usize {
        // Letters count as a whole here: every letter may be there where one is.
        let letters = if mask.intersects(ByteMask::LETTERS) { ByteMask::LETTERS } else { ByteMask::EMPTY };
        let coarse = mask | letters;
        let key = (plan.question.id, coarse.0);
        let routes = &self.routes;
        let (at, is_known) = self.places.find(key, |at| routes[at].known && routes[at].key == key);
        if is_known {
            return at;
        }
        let slot = &mut self.routes[at];
        slot.known = true;
        slot.key = key;
        slot.direct.clear();
        slot.direct.resize(words, 0);
        slot.changing.clear();
        let reached = &self.reached[self.phase];
        for (number, route) in plan.routes.iter().enumerate() {
            if route.rules.iter().zip(reached).all(|(rules, reached)| rules & reached == 0) {
                continue;
            }
            if leaves_alone(rules.pipelines.path(route.pipeline), coarse) {
                slot.direct.iter_mut().zip(&route.rules).for_each(|(word, other)| *word |= other);
            } else {
                slot.changing.push(number as u32);
            }
        }
        at
    }
}
