//! The routes' policies as rules: ordinary SecLang that the compiler resolves once, guarded by a number that the
//! inspection sets. A request of a route without a policy pays one comparison, any other one more for each policy.

use std::fmt::Write as _;

use gateway_waf::Diagnostic;

use crate::config::policy::{Excluded, POLICY_KEY, Place, Policy};

/// Stands for the file of the exclusions.
pub(super) const EXCLUSIONS: &str = "[[routes]] waf_exclude";
/// Stands for the file of the levels and thresholds.
pub(super) const LEVELS: &str = "[[routes]] waf_paranoia_level";
/// Ids of the exclusions' rules begin here.
const FIRST_EXCLUSION: usize = 5_210_000;
/// Ids of the levels' rules; they may stand twice in a set, so the second time they count from the next thousand.
const FIRST_LEVEL: usize = 5_300_000;

/// Rules that come before all others: what routes leave out. With each line's place in the configuration.
pub(super) struct Exclusions {
    pub(super) text: String,
    places: Vec<Option<Place>>,
}

impl Exclusions {
    pub(super) fn new(policies: &[Policy]) -> Self {
        let mut out = Self { text: String::new(), places: Vec::new() };
        let mut id = FIRST_EXCLUSION;
        let mut next = || {
            id += 1;
            id
        };
        out.line(
            None,
            &format!(
                "SecRule &TX:{POLICY_KEY} \"@eq 0\" \"id:{},phase:1,pass,nolog,noauditlog,t:none,skipAfter:END-{POLICY_KEY}\"",
                next()
            ),
        );
        for (n, policy) in policies.iter().enumerate().filter(|(_, p)| !p.exclude.is_empty()) {
            let number = n + 1;
            out.line(
                None,
                &format!(
                    "SecRule TX:{POLICY_KEY} \"!@eq {number}\" \"id:{},phase:1,pass,nolog,noauditlog,t:none,skipAfter:END-{POLICY_KEY}-{number}\"",
                    next()
                ),
            );
            for exclusion in &policy.exclude {
                let (by, rules) = match &exclusion.rules {
                    Excluded::Ids(ids) => ("Id", ids.split(',').collect::<Vec<_>>()),
                    Excluded::Tag(tag) => ("Tag", vec![tag.as_str()]),
                };
                let actions: Vec<String> = rules
                    .iter()
                    .map(|rules| match &exclusion.target {
                        None => format!("ctl:ruleRemoveBy{by}={rules}"),
                        Some(target) => format!("ctl:ruleRemoveTargetBy{by}={rules};{target}"),
                    })
                    .collect();
                let action = format!(
                    "SecAction \"id:{},phase:1,pass,nolog,noauditlog,t:none,{}\"",
                    next(),
                    actions.join(",")
                );
                out.line(Some(&exclusion.place), &action);
            }
            out.line(None, &format!("SecMarker END-{POLICY_KEY}-{number}"));
        }
        out.line(None, &format!("SecMarker END-{POLICY_KEY}"));
        out
    }

    fn line(&mut self, place: Option<&Place>, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
        self.places.push(place.cloned());
    }

    /// A finding in this text, as one in the configuration.
    pub(super) fn locate(&self, diagnostic: &mut Diagnostic) {
        let place = (diagnostic.line as usize).checked_sub(1).and_then(|at| self.places.get(at)?.as_ref());
        if diagnostic.file == EXCLUSIONS
            && let Some(place) = place
        {
            diagnostic.file = place.file.to_string();
            (diagnostic.line, diagnostic.column) = (place.line, place.column);
            diagnostic.rule_id = None;
        }
    }
}

/// Rules that set levels and thresholds. They stand before CRS's own initialisation, where nothing of crs-setup.conf
/// comes after them any more; in a set that has none, first of all. `copy` tells one standing from the other.
pub(super) fn levels(policies: &[Policy], copy: usize) -> String {
    let mut text = String::new();
    for (n, policy) in policies.iter().enumerate() {
        let mut set = String::new();
        if let Some(level) = policy.paranoia_level {
            // The names of CRS 4, then those of CRS 3.
            for name in [
                "blocking_paranoia_level",
                "detection_paranoia_level",
                "paranoia_level",
                "executing_paranoia_level",
            ] {
                let _ = write!(set, ",setvar:tx.{name}={level}");
            }
        }
        if let Some(threshold) = policy.inbound_threshold {
            let _ = write!(set, ",setvar:tx.inbound_anomaly_score_threshold={threshold}");
        }
        if !set.is_empty() {
            let (number, id) = (n + 1, FIRST_LEVEL + copy * 1000 + n);
            let _ = writeln!(
                text,
                "SecRule TX:{POLICY_KEY} \"@eq {number}\" \"id:{id},phase:1,pass,nolog,noauditlog,t:none{set}\""
            );
        }
    }
    text
}
