//! From the AST to tables: everything that can be resolved at load is.

mod build;
mod draft;
mod flow;
pub(crate) mod gate;
pub(crate) mod levels;
mod merge;
pub(crate) mod pipeline;
pub(crate) mod rule;
mod selector;
pub(crate) mod settings;
pub(crate) mod settled;
pub(crate) mod symbols;
pub(crate) mod template;

use std::sync::Arc;

use self::{
    gate::Gate,
    levels::Levels,
    pipeline::Pipelines,
    rule::{Check, Rule, RuleSetBits, Selector, TargetRemoval},
    settings::Settings,
    settled::Settled,
    symbols::Symbols,
};
pub(crate) use selector::selector;

use crate::{
    body::json::ArrayNaming,
    engine::matched::RuleInfo,
    lang::{
        self,
        diagnostic::{Diagnostic, Level},
    },
    operators::pattern::Pattern,
    prefilter::plan::PhasePlan,
    source::FileSource,
};

/// A part of the configuration, in order.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// A file or a glob, read through the [`FileSource`].
    File(&'a str),
    /// Text given directly; `name` stands for the file in diagnostics and `Include`s are relative to its folder.
    Text {
        /// Stands for the file.
        name: &'a str,
        /// The directives.
        text: &'a str,
    },
}

/// Choices that are no directives.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// Screen values for all rules at once, asking single operators only where they may match. Off is the oracle.
    pub prefilter: bool,
    /// What the elements of JSON arrays are called: `json.a.0` as CRS expects, or `json.a.array_0` as ModSecurity v3 does.
    pub json_arrays: ArrayNaming,
    /// Something that clients cannot foresee: keys the hash of names that requests bring.
    pub hash_seed: u64,
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self { prefilter: true, json_arrays: ArrayNaming::Index, hash_seed: 0 }
    }
}

/// Compiled rules, shared by transactions.
#[derive(Debug)]
pub struct Ruleset {
    /// Starters and links of chains, in order.
    pub(crate) rules: Vec<Rule>,
    /// The starters of each phase, in order.
    pub(crate) phases: [Vec<u32>; 5],
    /// What stands before each of them.
    pub(crate) gates: [Vec<Gate>; 5],
    pub(crate) pipelines: Pipelines,
    pub(crate) symbols: Symbols,
    pub(crate) settings: Settings,
    pub(crate) json_arrays: ArrayNaming,
    /// What `ctl:ruleRemoveBy*` actions remove.
    pub(crate) removals: Vec<RuleSetBits>,
    pub(crate) target_removals: Vec<TargetRemoval>,
    pub(crate) relevant_status: Option<Pattern>,
    /// Whether a rule looks into uploaded files (FILES_TMP_CONTENT).
    pub(crate) reads_uploads: bool,
    pub(crate) score_keys: [Option<u32>; 6],
    /// The screens of the phases, where the prefilter is on.
    pub(crate) plans: [Option<PhasePlan>; 5],
    /// What the defaults at the beginning come to, where the prefilter is on.
    pub(crate) settled: Option<Settled>,
    /// The levels of the phases, where the prefilter is on.
    pub(crate) levels: [Vec<Levels>; 5],
}

impl Ruleset {
    /// Reads and compiles `entries` in order. Gives the rules and whatever there is to say about them; or, if
    /// anything is an error, all diagnostics.
    pub fn compile(
        files: &dyn FileSource,
        entries: &[Entry<'_>],
        options: &CompileOptions,
    ) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let (document, mut diagnostics) = lang::parse(files, entries);
        let ruleset = build::build(&document, files, options, &mut diagnostics);
        diagnostics.sort_by_key(|d| std::cmp::Reverse(d.level));
        if diagnostics.iter().any(|d| d.level == Level::Error) {
            Err(diagnostics)
        } else {
            Ok((ruleset, diagnostics))
        }
    }

    /// Builds the automata that values have not met yet. The rules work without it; who serves traffic calls it on a
    /// thread of its own, so that the first requests don't wait for a pattern each.
    pub fn warm_up(&self) {
        for rule in &self.rules {
            if let Check::Operator { operator, .. } = &rule.check {
                operator.warm_up();
            }
            let selectors = rule.targets.iter().map(|target| &target.selector);
            for selector in selectors.chain(rule.exclusions.iter().map(|exclusion| &exclusion.selector)) {
                if let Selector::Pattern(pattern) = selector {
                    pattern.warm_up();
                }
            }
        }
        self.relevant_status.iter().for_each(Pattern::warm_up);
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the rules say about themselves, in order; chains once.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<RuleInfo>> {
        self.rules.iter().enumerate().filter(|(n, r)| *n as u32 == r.starter).map(|(_, r)| &r.info)
    }
}
