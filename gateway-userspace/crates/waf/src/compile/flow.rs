//! The order of rules: which run in a phase, and where `skipAfter` leads.

use std::collections::HashMap;

use super::draft::{Drafts, Finding, Ordered};

/// The starters of each phase and, for each starter that skips, where its phase goes on.
pub(super) struct Flow {
    pub phases: [Vec<u32>; 5],
    pub skip_to: HashMap<u32, u32>,
}

/// Lays out the phases. `numbers` gives each chain's starter; removed chains have none.
pub(super) fn lay_out(drafts: &Drafts, numbers: &[Option<u32>], findings: &mut Vec<Finding>) -> Flow {
    let mut phases: [Vec<u32>; 5] = Default::default();
    // Name of a marker (or id of a rule) to: place in the order, and each phase's length there.
    let mut places: HashMap<String, Vec<(usize, [u32; 5])>> = HashMap::new();
    for (place, ordered) in drafts.order.iter().enumerate() {
        let name = match ordered {
            Ordered::Marker(name) => name.clone(),
            Ordered::Chain(index) => {
                let chain = &drafts.chains[*index];
                if let Some(number) = numbers[*index] {
                    phases[chain.phase as usize - 1].push(number);
                }
                chain.id.to_string()
            }
        };
        let lengths = std::array::from_fn(|p| phases[p].len() as u32);
        places.entry(name).or_default().push((place, lengths));
    }
    let mut skip_to = HashMap::new();
    for (place, ordered) in drafts.order.iter().enumerate() {
        let Ordered::Chain(index) = ordered else { continue };
        let chain = &drafts.chains[*index];
        let (Some(number), Some(action)) =
            (numbers[*index], chain.links[0].actions.iter().rev().find(|a| a.name == "skipafter"))
        else {
            continue;
        };
        let name = action.value.as_deref().unwrap_or("");
        let after = places.get(name).and_then(|p| p.iter().find(|(at, _)| *at > place));
        let phase = chain.phase as usize - 1;
        let to = match after {
            Some((_, lengths)) => lengths[phase],
            None => {
                let message = format!("there is no marker {name} after this rule");
                let help = "without one, the rest of the phase is skipped; add a SecMarker";
                findings.push(Finding::warning(action.position, Some(chain.id), message, help));
                phases[phase].len() as u32
            }
        };
        skip_to.insert(number, to);
    }
    Flow { phases, skip_to }
}
