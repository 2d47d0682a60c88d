//! Levels: which rules of a phase a level lets through, as masks made at load.
//!
//! CRS puts the rules of each paranoia level behind a rule that compares one TX variable with a number and skips them
//! (`TX:DETECTION_PARANOIA_LEVEL "@lt 2"`, `skipAfter`), several in every file, and sums scores up with rules that begin with such
//! a comparison. Where nothing in a phase changes the variable any more, all those comparisons come out by its value: for
//! each range of values there is a mask of the places that are left, and the phase takes one of them instead of asking gate by gate.

use super::{
    gate::{Compare, Gate},
    rule::Rule,
};
use crate::{
    actions::Action,
    prefilter::condition::{Bits, insert},
    variables::fold::Names,
};

/// Fewer gates are asked one by one.
const GATES_MIN: usize = 2;
/// Most variables of a phase; the gates of further ones are asked one by one.
const LEVELS_MAX: usize = 8;
/// More numbers than this are no levels.
const NUMBERS_MAX: usize = 32;

/// The masks of one phase for one TX variable.
#[derive(Debug)]
pub(crate) struct Levels {
    /// The variable.
    pub key: u32,
    /// What it is compared with, in order.
    numbers: Box<[i64]>,
    /// Below the first number, at it, between it and the next, and so on; the last is for no value.
    masks: Box<[Bits]>,
}

/// A gate of the variable.
#[derive(Clone, Copy)]
struct Place {
    gate: usize,
    /// For a rule that only skips: where to. The rules between are its region.
    to: Option<usize>,
    compare: Compare,
}

impl Levels {
    /// The levels of a phase; `settled` is what a beginning covers. Marks the gates that the masks stand for.
    pub(crate) fn find(
        order: &[u32],
        rules: &[Rule],
        gates: &mut [Gate],
        settled: Option<(usize, u32)>,
        names: &Names,
    ) -> Vec<Self> {
        let mut keys: Vec<u32> = gates.iter().filter_map(|gate| Some(level_gate(gate)?.key())).collect();
        keys.sort_unstable();
        let mut found: Vec<Self> = Vec::new();
        for same in keys.chunk_by(|a, b| a == b).filter(|same| same.len() >= GATES_MIN) {
            if found.len() < LEVELS_MAX
                && let Some(levels) =
                    Self::of(same[0], found.len() as u8, (order, rules), gates, settled, names)
            {
                found.push(levels);
            }
        }
        found
    }

    fn of(
        key: u32,
        index: u8,
        (order, rules): (&[u32], &[Rule]),
        gates: &mut [Gate],
        settled: Option<(usize, u32)>,
        names: &Names,
    ) -> Option<Self> {
        let changed = last_change(key, names.get(key)?, order, rules).map_or(0, |place| place + 1);
        let from = changed.max(settled.map_or(0, |(_, to)| to as usize));
        let places: Vec<Place> = gates
            .iter()
            .enumerate()
            .skip(from)
            .filter_map(|(gate, g)| {
                let compare = *level_gate(g).filter(|compare| compare.key() == key)?;
                Some(Place { gate, to: compare.skip_to.map(|to| to as usize), compare })
            })
            .collect();
        let mut numbers: Vec<i64> = places.iter().filter_map(|p| p.compare.number()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        if places.len() < GATES_MIN
            || numbers.len() > NUMBERS_MAX
            || is_landed_in(&places, order, rules, settled)
        {
            return None;
        }
        let values = (0..=numbers.len() * 2).map(|class| Some(value_of(class, &numbers))).chain([None]);
        let masks = values.map(|value| mask(value, order.len(), &places)).collect();
        for place in &places {
            if let Some(Gate::Compare(compare)) = gates.get_mut(place.gate) {
                compare.level = Some(index);
            }
        }
        Some(Self { key, numbers: numbers.into(), masks })
    }

    /// The places that are left where the variable has this value.
    pub(crate) fn mask(&self, value: Option<i64>) -> &[u64] {
        let class = match value {
            None => self.masks.len() - 1,
            Some(value) => match self.numbers.binary_search(&value) {
                Ok(at) => at * 2 + 1,
                Err(at) => at * 2,
            },
        };
        &self.masks[class]
    }
}

/// The comparison of a gate with a number.
fn level_gate(gate: &Gate) -> Option<&Compare> {
    match gate {
        Gate::Compare(compare) if compare.number().is_some() => Some(compare),
        _ => None,
    }
}

/// A value of the class: between numbers, or one of them. Where there is none between, no value comes to the class.
fn value_of(class: usize, numbers: &[i64]) -> i64 {
    match (class % 2, class / 2) {
        (1, at) => numbers[at],
        (_, 0) => numbers[0].saturating_sub(1),
        (_, at) => numbers[at - 1].saturating_add(1),
    }
}

/// The place of the last rule that may change the variable.
fn last_change(key: u32, name: &[u8], order: &[u32], rules: &[Rule]) -> Option<usize> {
    let changes = |rule: &Rule| {
        rule.on_match.iter().any(|action| matches!(action, Action::SetVar(set) if set.may_change(key, name)))
    };
    order.iter().rposition(|number| {
        let mut next = Some(*number);
        while let Some(rule) = next.and_then(|n| rules.get(n as usize)) {
            if changes(rule) {
                return true;
            }
            next = rule.next;
        }
        false
    })
}

/// Whether a leap from before a region ends inside it: then its gate is not asked for the rest of it.
fn is_landed_in(places: &[Place], order: &[u32], rules: &[Rule], settled: Option<(usize, u32)>) -> bool {
    let leaps = order.iter().enumerate().filter_map(|(place, number)| {
        let outcome = &rules.get(*number as usize)?.outcome;
        match (outcome.skip_to, outcome.skip) {
            (Some(to), _) => Some((place, to as usize)),
            (None, 0) => None,
            (None, skip) => Some((place, place + 1 + skip as usize)),
        }
    });
    let mut leaps = leaps.chain(settled.map(|(at, to)| (at, to as usize)));
    leaps
        .any(|(at, to)| places.iter().any(|p| at < p.gate && p.gate < to && p.to.is_some_and(|end| to < end)))
}

/// The places that are left: no gate that only skips, nothing in a region that is skipped, no rule whose comparison fails.
fn mask(value: Option<i64>, order_len: usize, places: &[Place]) -> Bits {
    let mut mask: Bits = vec![0; order_len.div_ceil(64)].into();
    let mut at = 0;
    while at < order_len {
        let place = places.binary_search_by_key(&at, |place| place.gate).ok().map(|known| &places[known]);
        let holds = place.is_none_or(|place| place.compare.holds_for(value));
        let to = place.and_then(|place| place.to);
        if holds && to.is_none() {
            insert(&mut mask, at as u32);
        }
        at = to.filter(|_| holds).map_or(at + 1, |to| to.max(at + 1));
    }
    mask
}
