//! The policy trie: allowlist and limit classes, each prefix with what it inherits.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed};

use gateway_common::{
    address::Wide,
    policy::{ALLOW, POLICY_CAPACITY, Policy},
};

use super::{
    error::KernelError,
    guard::guard_bits,
    load::{Loaded, PolicyKey, PolicyPod, load_error},
    near::runs_v4,
    target::Target,
};

/// What each prefix says once it has inherited from those around it: allowed if any of them is, the class of the
/// longest that names one.
fn resolve(allow: &[Target], classes: &[(Target, u32)]) -> BTreeMap<Target, Policy> {
    let mut own: BTreeMap<Target, (u32, Option<u32>)> = BTreeMap::new();
    for target in allow {
        own.entry(*target).or_default().0 = ALLOW;
    }
    for (target, class) in classes {
        own.entry(*target).or_default().1 = Some(*class);
    }
    // In order of address, then length, a prefix comes after all that cover it.
    let mut around: Vec<(Target, Policy)> = Vec::new();
    let mut resolved = BTreeMap::new();
    for (target, (flags, class)) in own {
        while around.last().is_some_and(|(outer, _)| !outer.covers(&target)) {
            around.pop();
        }
        let inherited = around.last().map_or(Policy { flags: 0, class: 0 }, |(_, policy)| *policy);
        let policy = Policy { flags: inherited.flags | flags, class: class.unwrap_or(inherited.class) };
        around.push((target, policy));
        resolved.insert(target, policy);
    }
    resolved
}

impl Loaded {
    /// Writes the trie: guard bits for old and new together, new prefixes, then what is no longer wanted goes.
    pub(super) fn write_policy(
        &mut self,
        allow: &[Target],
        classes: &[(Target, u32)],
    ) -> Result<(), KernelError> {
        let wanted = resolve(allow, classes);
        if wanted.len() > POLICY_CAPACITY as usize {
            return Err(KernelError::OutOfBounds {
                what: "the number of prefixes in allowlist, protected sources and limits",
                value: wanted.len() as u64,
                bounds: format!("at most {POLICY_CAPACITY}"),
            });
        }
        let present: Vec<PolicyKey> =
            self.policy.keys().collect::<Result<_, _>>().map_err(|error| load_error(&error))?;
        let bits = guard_bits(wanted.keys());
        self.policy4 = wanted.keys().filter_map(runs_v4).collect();
        self.mark_policy_near();
        for (cell, bits) in self.guard.iter().zip(&bits) {
            cell.store(bits | cell.load(Relaxed), Relaxed);
        }
        for key in present {
            if !wanted.contains_key(&target(&key)) {
                self.policy.remove(&key).map_err(|error| load_error(&error))?;
            }
        }
        for (target, policy) in &wanted {
            self.policy.insert(&key(target), PolicyPod(*policy), 0).map_err(|error| load_error(&error))?;
        }
        for (cell, bits) in self.guard.iter().zip(&bits) {
            cell.store(*bits, Relaxed);
        }
        self.rebuild_near();
        Ok(())
    }
}

fn key(target: &Target) -> PolicyKey {
    let Wide { high, low } = target.wide();
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high.to_be_bytes());
    bytes[8..].copy_from_slice(&low.to_be_bytes());
    PolicyKey::new(target.wide_length(), bytes)
}

fn target(key: &PolicyKey) -> Target {
    let bits = u128::from_be_bytes(key.data());
    Target::of(Wide { high: (bits >> 64) as u64, low: bits as u64 }, key.prefix_len() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_inherit() {
        let target = |text: &str| text.parse::<Target>().unwrap();
        let resolved = resolve(
            &[target("10.0.0.0/8"), target("192.0.2.0/24")],
            &[(target("10.1.0.0/16"), 1), (target("0.0.0.0/0"), 2), (target("10.1.2.3"), 3)],
        );
        for (text, flags, class) in [
            ("0.0.0.0/0", 0, 2),
            ("10.0.0.0/8", ALLOW, 2),
            ("10.1.0.0/16", ALLOW, 1),
            ("10.1.2.3", ALLOW, 3),
            ("192.0.2.0/24", ALLOW, 2),
        ] {
            assert_eq!(resolved[&target(text)], Policy { flags, class }, "{text}");
        }
        assert_eq!(resolved.len(), 5);
    }
}
