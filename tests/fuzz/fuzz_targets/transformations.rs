//! Chains of transformations: no panic, silence means no change, and the byte mask never screens off a change.
#![no_main]

use gateway_waf::bytes::ByteMask;
use gateway_waf::transformations::{Outcome, Transformation};
use libfuzzer_sys::fuzz_target;

/// Longest value that a chain goes on with; the encoders make values grow.
const MAX_VALUE: usize = 4096;

fuzz_target!(|data: &[u8]| {
    let [chain, value @ ..] = data else {
        return;
    };
    let all: Vec<_> = Transformation::all().collect();
    let mut value = value.to_vec();
    let mut out = Vec::new();
    for step in 0..all.len() {
        let transformation = all[(step * (usize::from(*chain) | 1) + usize::from(*chain)) % all.len()];
        out.clear();
        let mask = ByteMask::of(&value);
        match transformation.apply(&value, &mut out) {
            Outcome::Unchanged => assert!(out.is_empty(), "{transformation:?}"),
            Outcome::Changed => {
                assert!(!transformation.is_noop_for(mask), "{transformation:?} of {}", value.escape_ascii());
                out.truncate(MAX_VALUE);
                std::mem::swap(&mut value, &mut out);
            }
        }
    }
});
