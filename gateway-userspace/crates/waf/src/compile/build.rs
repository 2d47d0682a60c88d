//! The compiler's main line.

use std::sync::Arc;

use super::{
    CompileOptions, Ruleset,
    draft::{self, Chain, Drafts, Finding, Link, Matcher},
    flow,
    gate::Gate,
    levels::Levels,
    merge::{Merged, merge},
    pipeline::{PIPELINES_MAX, Pipelines},
    rule::{Check, Exclusion, Operand, Rule, RuleSetBits, Target, TargetRemoval},
    selector::selector,
    settings::Settings,
    settled::Settled,
    symbols::Symbols,
    template::Template,
};
use crate::{
    actions::ActionContext,
    engine::matched::RuleInfo,
    lang::{
        ast::{DirectiveKind, Document, OperatorDecl, Position, RuleQuery, TargetDecl},
        diagnostic::{Diagnostic, Level},
    },
    operators::{CompileContext, Operator, OperatorKind, pattern::Pattern},
    prefilter::plan::PhasePlan,
    source::FileSource,
    variables::Variable,
};

/// TX keys that [`crate::Scores`] reads: the names of CRS 4, then where there are others those of CRS 3.
const SCORE_KEYS: [&[&str]; 6] = [
    &["blocking_inbound_anomaly_score", "anomaly_score"],
    &["detection_inbound_anomaly_score"],
    &["inbound_anomaly_score_threshold"],
    &["blocking_outbound_anomaly_score", "outbound_anomaly_score"],
    &["detection_outbound_anomaly_score"],
    &["outbound_anomaly_score_threshold"],
];

/// Compiles a document; what is wrong goes to `diagnostics` and is left out.
pub(super) fn build(
    document: &Document,
    files: &dyn FileSource,
    options: &CompileOptions,
    diagnostics: &mut Vec<Diagnostic>,
) -> Ruleset {
    let mut findings = Vec::new();
    let mut settings = Settings::default();
    for directive in &document.directives {
        if let DirectiveKind::Set(setting) = &directive.kind {
            settings.apply(setting);
        }
    }
    let mut drafts = draft::collect(document, &mut findings);
    draft::update(&mut drafts, document, &mut findings);
    let mut builder = Builder {
        document,
        files,
        findings,
        rules: Vec::new(),
        pipelines: Pipelines::default(),
        symbols: Symbols::new(options.hash_seed),
        removals: Vec::new(),
        target_removals: Vec::new(),
    };
    let numbers: Vec<Option<u32>> =
        drafts.chains.iter().map(|c| if c.removed { None } else { Some(builder.chain(c)) }).collect();
    let flow = flow::lay_out(&drafts, &numbers, &mut builder.findings);
    for (rule, to) in &flow.skip_to {
        builder.rules[*rule as usize].outcome.skip_to = Some(*to);
    }
    for target in builder.rules.iter_mut().flat_map(|r| &mut r.targets) {
        if target.variable == Variable::Tx {
            target.fixed_keys = builder.symbols.tx_keys_of(&target.selector);
        }
    }
    let (removals, target_removals) = builder.resolve_removals(&drafts, &numbers);
    let relevant_status =
        settings.audit_relevant_status.as_ref().and_then(|p| Pattern::new(p.as_bytes()).ok());
    if relevant_status.is_none() && settings.audit_relevant_status.is_some() {
        let message = "the pattern of SecAuditLogRelevantStatus does not compile";
        builder.findings.push(Finding::error(Position::default(), None, message, "correct it"));
    }
    diagnostics.extend(builder.findings.iter().map(|f| diagnostic(f, document)));
    let score_keys =
        SCORE_KEYS.map(|names| names.iter().find_map(|name| builder.symbols.tx.find(name.as_bytes())));
    let mut targets = builder.rules.iter().flat_map(|r| &r.targets);
    let reads_uploads = targets.any(|t| t.variable == Variable::FilesTmpContent);
    let mut next_plan = 0;
    let plans: [Option<PhasePlan>; 5] = std::array::from_fn(|phase| {
        let order = flow.phases.get(phase).filter(|_| options.prefilter)?;
        PhasePlan::new(order, &builder.rules, &builder.pipelines, &mut next_plan)
    });
    let mut gates: [Vec<Gate>; 5] = std::array::from_fn(|p| {
        flow.phases[p].iter().map(|n| Gate::new(&builder.rules[*n as usize])).collect()
    });
    let beginning =
        plans[0].as_ref().and_then(|plan| Settled::find(&flow.phases[0], &builder.rules, &gates[0], plan));
    let covered = beginning.as_ref().map(|(at, settled)| (*at, settled.to));
    let levels = std::array::from_fn(|p| {
        if plans[p].is_none() {
            return Vec::new();
        }
        let covered = covered.filter(|_| p == 0);
        Levels::find(&flow.phases[p], &builder.rules, &mut gates[p], covered, &builder.symbols.tx)
    });
    if let Some((at, _)) = &beginning {
        gates[0][*at] = Gate::Settled;
    }
    for rule in &mut builder.rules {
        if let Check::Operator { operator, .. } = &mut rule.check {
            operator.forget_syntax();
        }
    }
    Ruleset {
        gates,
        plans,
        settled: beginning.map(|(_, settled)| settled),
        levels,
        rules: builder.rules,
        phases: flow.phases,
        pipelines: builder.pipelines,
        symbols: builder.symbols,
        settings,
        json_arrays: options.json_arrays,
        removals,
        target_removals,
        relevant_status,
        reads_uploads,
        score_keys,
    }
}

fn diagnostic(finding: &Finding, document: &Document) -> Diagnostic {
    Diagnostic {
        level: if finding.is_error { Level::Error } else { Level::Warning },
        file: document.files.get(finding.position.file as usize).cloned().unwrap_or_default(),
        line: finding.position.line,
        column: finding.position.column,
        rule_id: finding.rule_id.filter(|id| *id != 0),
        message: finding.message.clone(),
        help: finding.help.to_owned(),
    }
}

struct Builder<'a> {
    document: &'a Document,
    files: &'a dyn FileSource,
    findings: Vec<Finding>,
    rules: Vec<Rule>,
    pipelines: Pipelines,
    symbols: Symbols,
    removals: Vec<(RuleQuery, Position)>,
    target_removals: Vec<(RuleQuery, Exclusion, Position)>,
}

impl Builder<'_> {
    /// Adds the rules of a chain; the number of its starter.
    fn chain(&mut self, chain: &Chain) -> u32 {
        let starter = self.rules.len() as u32;
        let mut info: Option<Arc<RuleInfo>> = None;
        let last = chain.links.len() - 1;
        for (index, link) in chain.links.iter().enumerate() {
            let mut cx = ActionContext {
                symbols: &mut self.symbols,
                position: link.position,
                unknown_macros: Vec::new(),
                notices: Vec::new(),
                removals: &mut self.removals,
                target_removals: &mut self.target_removals,
            };
            let mut merged = merge(chain, index, &mut cx, &mut self.findings);
            let info = info.get_or_insert_with(|| {
                let file = self.document.files.get(link.position.file as usize).map_or("", String::as_str);
                let operator = link.looks.as_ref().map_or(("", ""), |(_, o)| (&o.name, &o.argument));
                merged.take_info(chain, file, operator)
            });
            let next = (index < last).then_some(starter + index as u32 + 1);
            let rule = self.rule(chain, link, merged, Arc::clone(info), starter, next);
            self.rules.push(rule);
        }
        starter
    }

    fn rule(
        &mut self,
        chain: &Chain,
        link: &Link,
        merged: Merged,
        info: Arc<RuleInfo>,
        starter: u32,
        next: Option<u32>,
    ) -> Rule {
        let (mut targets, mut exclusions) = (Vec::new(), Vec::new());
        let mut check = Check::Always;
        let mut negated = false;
        if let Some((declared, operator)) = &link.looks {
            for target in declared {
                self.target(chain.id, target, &mut targets, &mut exclusions);
            }
            check = self.check(chain.id, operator).unwrap_or(Check::Always);
            negated = operator.negated;
        }
        let pipeline = self.pipelines.intern(&merged.transformations).unwrap_or_else(|| {
            let message = format!("more than {PIPELINES_MAX} different lists of transformations");
            self.findings.push(Finding::error(link.position, Some(chain.id), message, "use fewer"));
            0
        });
        Rule {
            info,
            starter,
            next,
            targets: targets.into(),
            exclusions: exclusions.into(),
            check,
            negated,
            pipeline,
            multi_match: merged.multi_match,
            capture: merged.capture,
            on_match: merged.on_match.into(),
            outcome: merged.outcome,
        }
    }

    fn target(
        &mut self,
        id: u64,
        target: &TargetDecl,
        targets: &mut Vec<Target>,
        exclusions: &mut Vec<Exclusion>,
    ) {
        match selector(target, &mut self.symbols) {
            Ok(selector) if target.negated => {
                exclusions.push(Exclusion { variable: target.variable, selector });
            }
            Ok(selector) => targets.push(Target {
                variable: target.variable,
                count: target.count,
                selector,
                fixed_keys: Box::default(),
            }),
            Err(message) => {
                let help = "correct the pattern of the selector";
                self.findings.push(Finding::error(target.position, Some(id), message, help));
            }
        }
    }

    fn check(&mut self, id: u64, declared: &OperatorDecl) -> Option<Check> {
        let file = self.document.files.get(declared.position.file as usize).map_or("", String::as_str);
        let directory = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let context = CompileContext { files: self.files, directory };
        let operator = match Operator::compile(&declared.name, &declared.argument, &context) {
            Ok(operator) => operator,
            Err(error) => {
                self.findings.push(Finding::error(declared.position, Some(id), error.to_string(), ""));
                return None;
            }
        };
        let argument = operator.argument_macro().map(str::to_owned).map(|text| {
            let mut unknown = Vec::new();
            let template = Template::new(&text, &mut self.symbols, &mut |name| unknown.push(name.to_owned()));
            for name in unknown {
                let message = format!("%{{{name}}} names no variable and stays as it is written");
                self.findings.push(Finding::warning(
                    declared.position,
                    Some(id),
                    message,
                    "check its spelling",
                ));
            }
            template
        });
        Some(match (operator.kind(), argument) {
            (OperatorKind::Numeric(comparison, Some(number)), None) => {
                Check::Number { comparison: *comparison, operand: Operand::Number(*number) }
            }
            (OperatorKind::Numeric(comparison, _), Some(template)) => {
                let operand = template.only_tx().map_or_else(|| Operand::Template(template), Operand::Tx);
                Check::Number { comparison: *comparison, operand }
            }
            (_, argument) => Check::Operator { operator: Box::new(operator), argument },
        })
    }

    /// What the `ctl` removals come to, now that all rules are known.
    fn resolve_removals(
        &mut self,
        drafts: &Drafts,
        numbers: &[Option<u32>],
    ) -> (Vec<RuleSetBits>, Vec<TargetRemoval>) {
        let mut resolve = |query: &RuleQuery, position: Position| {
            let matcher = Matcher::new(query);
            let mut bits = RuleSetBits::default();
            let mut any = false;
            for (chain, number) in drafts.chains.iter().zip(numbers) {
                if !matcher.picks(chain) {
                    continue;
                }
                any = true;
                for link in 0..chain.links.len() as u32 {
                    if let Some(number) = number {
                        bits.insert(number + link);
                    }
                }
            }
            if !any {
                let message = format!("no rule has {}", draft::describe(query));
                self.findings.push(Finding::warning(
                    position,
                    None,
                    message,
                    "check it; the action does nothing",
                ));
            }
            bits
        };
        let removals = self.removals.iter().map(|(query, position)| resolve(query, *position)).collect();
        let targets = std::mem::take(&mut self.target_removals);
        let target_removals = targets
            .into_iter()
            .map(|(query, exclusion, position)| TargetRemoval { rules: resolve(&query, position), exclusion })
            .collect();
        (removals, target_removals)
    }
}
