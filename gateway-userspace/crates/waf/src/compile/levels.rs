//! Levels: which rules of a phase a level lets through, as masks made at load.
//!
//! CRS puts the rules of each paranoia level behind a rule that compares one TX variable with a number and skips them
//! (`TX:DETECTION_PARANOIA_LEVEL "@lt 2"`, `skipAfter`), several in every file. Where nothing in a phase changes the
//! variable any more, all those comparisons come out by its value: for each range of values there is a mask of the
//! places that are left, and the phase takes one of them instead of asking gate by gate.

use super::{
    gate::{Compare, Gate},
    rule::Rule,
};
use crate::{
    actions::Action,
    prefilter::screen::{Bits, insert},
    variables::fold::Names,
};

/// Fewer gates are asked one by one.
const GATES_MIN: usize = 2;
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

/// A rule that skips, and where to: the rules between are a region.
#[derive(Clone, Copy)]
struct Region {
    gate: usize,
    to: usize,
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
    ) -> Option<Self> {
        let mut keys: Vec<u32> = gates.iter().filter_map(|gate| Some(region_of(gate)?.0)).collect();
        keys.sort_unstable();
        let key = keys
            .chunk_by(|a, b| a == b)
            .filter(|same| same.len() >= GATES_MIN)
            .max_by_key(|same| same.len())
            .and_then(|same| same.first().copied())?;
        let changed = last_change(key, names.get(key)?, order, rules).map_or(0, |place| place + 1);
        let from = changed.max(settled.map_or(0, |(_, to)| to as usize));
        let regions: Vec<Region> = gates
            .iter()
            .enumerate()
            .skip(from)
            .filter_map(|(gate, g)| {
                let (of, to, compare) = region_of(g)?;
                (of == key).then_some(Region { gate, to: to as usize, compare })
            })
            .collect();
        let mut numbers: Vec<i64> = regions.iter().filter_map(|r| r.compare.number()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        if regions.len() < GATES_MIN
            || numbers.len() > NUMBERS_MAX
            || is_landed_in(&regions, order, rules, settled)
        {
            return None;
        }
        let values = (0..=numbers.len() * 2).map(|class| Some(value_of(class, &numbers))).chain([None]);
        let masks = values.map(|value| mask(value, order.len(), &regions)).collect();
        for region in &regions {
            if let Some(Gate::Compare(compare)) = gates.get_mut(region.gate) {
                compare.is_level = true;
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

/// The key, the end of the region and the comparison of a gate that only skips, by a number.
fn region_of(gate: &Gate) -> Option<(u32, u32, Compare)> {
    let Gate::Compare(compare) = gate else { return None };
    compare.number()?;
    Some((compare.key(), compare.skip_to?, *compare))
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
fn is_landed_in(regions: &[Region], order: &[u32], rules: &[Rule], settled: Option<(usize, u32)>) -> bool {
    let leaps = order.iter().enumerate().filter_map(|(place, number)| {
        let outcome = &rules.get(*number as usize)?.outcome;
        match (outcome.skip_to, outcome.skip) {
            (Some(to), _) => Some((place, to as usize)),
            (None, 0) => None,
            (None, skip) => Some((place, place + 1 + skip as usize)),
        }
    });
    let mut leaps = leaps.chain(settled.map(|(at, to)| (at, to as usize)));
    leaps.any(|(place, to)| regions.iter().any(|r| place < r.gate && r.gate < to && to < r.to))
}

/// The places that are left: neither a gate of the regions nor in a region that is skipped.
fn mask(value: Option<i64>, places: usize, regions: &[Region]) -> Bits {
    let mut mask: Bits = vec![0; places.div_ceil(64)].into();
    let mut place = 0;
    while place < places {
        match regions.iter().find(|region| region.gate == place) {
            Some(region) if region.compare.holds_for(value) => place = region.to.max(place + 1),
            Some(_) => place += 1,
            None => {
                insert(&mut mask, place as u32);
                place += 1;
            }
        }
    }
    mask
}
