//! Which rules of a phase look at which values, laid out so that a value is taken through all of them at once.
//!
//! A rule is screened when everything that it looks at is settled before its phase begins and its operator does not
//! depend on other values. Then, at the start of the phase, each value goes once through the transformations that its
//! rules ask for and through the [`Screen`]; a rule that no value is a candidate for is not looked at in the phase.
//! Anything that takes rules or targets away later leaves this right: it only ever says "cannot match".

use std::collections::BTreeMap;

use super::condition::{Bits, Question, insert};
use super::screen::{Screen, Screened};
use crate::bytes::ByteMask;
use crate::compile::pipeline::{PipelineId, Pipelines};
use crate::compile::rule::{Check, Rule, Selector, Target};
use crate::operators::OperatorKind;
use crate::transformations::Transformation;
use crate::variables::Variable;
use crate::variables::fold::NO_NAME;
use crate::variables::store::{List, View, view};

/// The screening of one phase. Rules go by their place in the phase's order.
#[derive(Debug)]
pub(crate) struct PhasePlan {
    pub screen: Screen,
    /// The rules in order.
    pub order: Box<[u32]>,
    /// The places that are looked at in any case.
    pub unscreened: Bits,
    pub scalars: Vec<(Variable, Plan)>,
    pub lists: Vec<ListPlan>,
}

/// The rules that look at the values, or at the names, of a list.
#[derive(Debug)]
pub(crate) struct ListPlan {
    pub list: List,
    pub by_name: bool,
    /// Whether the same values come with many requests.
    pub comes_again: bool,
    /// For names that no rule mentions.
    other: Option<Plan>,
    /// For those that one does, by number.
    named: Vec<(u32, Plan)>,
}

impl ListPlan {
    /// The plan for a name.
    #[inline]
    pub(crate) fn plan(&self, name_id: u32) -> Option<&Plan> {
        if name_id != NO_NAME
            && let Ok(at) = self.named.binary_search_by_key(&name_id, |(id, _)| *id)
        {
            return Some(&self.named[at].1);
        }
        self.other.as_ref()
    }
}

/// What is asked about one kind of value.
#[derive(Debug)]
pub(crate) struct Plan {
    pub question: Question,
    pub routes: Vec<Route>,
}

/// The rules that look at a value in the same pipeline.
#[derive(Debug)]
pub(crate) struct Route {
    pub pipeline: PipelineId,
    pub rules: Bits,
    /// A value of fewer bytes becomes nothing that a rule of them matches.
    pub shortest: usize,
}

impl PhasePlan {
    /// The plan of a phase; none when it has no rules. `next_id` numbers the plans of a rule set.
    pub(crate) fn new(
        order: &[u32],
        rules: &[Rule],
        pipelines: &Pipelines,
        next_id: &mut u32,
    ) -> Option<Self> {
        let words = order.len().div_ceil(64);
        let mut unscreened: Bits = vec![0; words].into();
        let mut operators = vec![None; order.len()];
        let mut screened = Vec::new();
        for (place, number) in order.iter().enumerate() {
            match rules.get(*number as usize) {
                Some(rule) if can_be_screened(rule) => {
                    if let Check::Operator { operator, .. } = &rule.check {
                        operators[place] = Some(Screened { operator, negated: rule.negated });
                    }
                    screened.push((place as u32, rule));
                }
                _ => insert(&mut unscreened, place as u32),
            }
        }
        if order.is_empty() {
            return None;
        }
        let mut sources: BTreeMap<(Source, Option<u32>), Routes> = BTreeMap::new();
        name_all(&screened, &mut sources);
        for (place, rule) in &screened {
            for target in &rule.targets {
                add_target(*place, rule, target, pipelines, words, &mut sources);
            }
        }
        let mut plan = Self {
            screen: Screen::new(&operators),
            order: order.into(),
            unscreened,
            scalars: Vec::new(),
            lists: Vec::new(),
        };
        for ((source, name), routes) in sources {
            plan.add_source(source, name, routes, pipelines, next_id);
        }
        Some(plan)
    }

    /// Whether the rule at a place is looked at in any case.
    pub(crate) fn is_unscreened(&self, place: usize) -> bool {
        self.unscreened.get(place / 64).is_some_and(|word| word >> (place % 64) & 1 == 1)
    }

    fn add_source(
        &mut self,
        source: Source,
        name: Option<u32>,
        routes: Routes,
        pipelines: &Pipelines,
        next_id: &mut u32,
    ) {
        let route = |(pipeline, rules): (PipelineId, Bits)| {
            let path = pipelines.path(pipeline).iter().rev();
            let shortest = path
                .fold(self.screen.shortest_match(&rules), |length, (_, step)| step.shortest_input(length));
            Route { pipeline, rules, shortest }
        };
        let routes: Vec<Route> = routes.into_iter().map(route).collect();
        let mut wanted = vec![0; self.unscreened.len()];
        for route in &routes {
            wanted.iter_mut().zip(&route.rules).for_each(|(word, other)| *word |= other);
        }
        let plan = Plan { question: self.screen.question(*next_id, &wanted), routes };
        *next_id += 1;
        let (number, by_name) = match source {
            Source::Scalar(variable) => return self.scalars.push((variable, plan)),
            Source::List(number, by_name) => (number, by_name),
        };
        let Some(list) = LISTS.into_iter().find(|list| *list as u8 == number) else { return };
        let known = self.lists.iter_mut().find(|plan| plan.list == list && plan.by_name == by_name);
        let list_plan = match known {
            Some(known) => known,
            None => {
                self.lists.push(ListPlan {
                    list,
                    by_name,
                    comes_again: comes_again(list, by_name),
                    other: None,
                    named: Vec::new(),
                });
                let last = self.lists.len() - 1;
                &mut self.lists[last]
            }
        };
        match name {
            None => list_plan.other = Some(plan),
            Some(name) => list_plan.named.push((name, plan)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Scalar(Variable),
    /// The list's number, and whether the names are looked at.
    List(u8, bool),
}

type Routes = BTreeMap<PipelineId, Bits>;

/// The lists that no action changes while a phase runs.
const LISTS: [List; 12] = [
    List::ArgsGet,
    List::ArgsPost,
    List::RequestHeaders,
    List::RequestCookies,
    List::ResponseHeaders,
    List::Files,
    List::FilesSizes,
    List::FilesTmpContent,
    List::MultipartFilename,
    List::MultipartName,
    List::MultipartPartHeaders,
    List::Xml,
];

fn comes_again(list: List, by_name: bool) -> bool {
    by_name && matches!(list, List::ArgsGet | List::ArgsPost | List::RequestCookies)
        || matches!(list, List::RequestHeaders | List::ResponseHeaders)
}

/// Whether many requests have the same value there.
pub(crate) fn value_comes_again(variable: Variable) -> bool {
    use Variable as V;
    matches!(
        variable,
        V::RequestMethod | V::RequestProtocol | V::ResponseContentType | V::ResponseProtocol | V::StatusLine
    )
}

fn is_settled_list(list: List) -> bool {
    LISTS.contains(&list)
}

fn is_settled(variable: Variable) -> bool {
    use Variable as V;
    match view(variable) {
        View::Values(lists) | View::Names(lists) => lists.iter().all(|list| is_settled_list(*list)),
        View::Scalar => matches!(
            variable,
            V::QueryString
                | V::RequestBasename
                | V::RequestBody
                | V::RequestFilename
                | V::RequestLine
                | V::RequestMethod
                | V::RequestProtocol
                | V::RequestUri
                | V::RequestUriRaw
                | V::ResponseBody
                | V::ResponseContentType
                | V::ResponseProtocol
                | V::StatusLine
        ),
        _ => false,
    }
}

fn can_be_screened(rule: &Rule) -> bool {
    let has_plain_operator = match &rule.check {
        Check::Operator { operator, argument: None } => !matches!(
            operator.kind(),
            OperatorKind::GeoLookup | OperatorKind::Rbl | OperatorKind::UnconditionalMatch
        ),
        _ => false,
    };
    has_plain_operator
        && !rule.targets.is_empty()
        && rule.targets.iter().all(|target| !target.count && is_settled(target.variable))
}

fn sources_of(variable: Variable) -> Vec<Source> {
    match view(variable) {
        View::Values(lists) => lists.iter().map(|list| Source::List(*list as u8, false)).collect(),
        View::Names(lists) => lists.iter().map(|list| Source::List(*list as u8, true)).collect(),
        _ => vec![Source::Scalar(variable)],
    }
}

/// Makes an entry for each list, and for each name of it that a target or an exclusion mentions.
fn name_all(screened: &[(u32, &Rule)], sources: &mut BTreeMap<(Source, Option<u32>), Routes>) {
    for (_, rule) in screened {
        let targets = rule.targets.iter().map(|target| (target.variable, &target.selector));
        let exclusions = rule.exclusions.iter().map(|exclusion| (exclusion.variable, &exclusion.selector));
        for (variable, selector) in targets.chain(exclusions).filter(|(variable, _)| is_settled(*variable)) {
            for source in sources_of(variable) {
                sources.entry((source, None)).or_default();
                if let (Source::List(..), Some(name)) = (source, name_of(selector)) {
                    sources.entry((source, Some(name))).or_default();
                }
            }
        }
    }
}

fn name_of(selector: &Selector) -> Option<u32> {
    match selector {
        Selector::Name(id, _) | Selector::XPath(id) => Some(*id),
        _ => None,
    }
}

fn add_target(
    place: u32,
    rule: &Rule,
    target: &Target,
    pipelines: &Pipelines,
    words: usize,
    sources: &mut BTreeMap<(Source, Option<u32>), Routes>,
) {
    let wanted = name_of(&target.selector);
    let wanted_sources = sources_of(target.variable);
    for ((source, name), routes) in
        sources.iter_mut().filter(|((source, _), _)| wanted_sources.contains(source))
    {
        // A selector that is no plain name may pick any; a plain one picks its own.
        if wanted.is_some() && *name != wanted && matches!(source, Source::List(..)) {
            continue;
        }
        let is_excluded = rule.exclusions.iter().any(|exclusion| {
            exclusion.variable == target.variable
                && match &exclusion.selector {
                    Selector::All => true,
                    selector => name_of(selector).is_some() && name_of(selector) == *name,
                }
        });
        if is_excluded {
            continue;
        }
        let mut route = |pipeline: PipelineId| {
            insert(routes.entry(pipeline).or_insert_with(|| vec![0; words].into()), place);
        };
        route(rule.pipeline);
        if rule.multi_match {
            route(0);
            pipelines.path(rule.pipeline).iter().for_each(|(node, _)| route(*node));
        }
    }
}

/// Whether a pipeline leaves values of that mask as they are, but for the case of letters: the screen folds case.
pub(crate) fn leaves_alone(path: &[(PipelineId, Transformation)], mask: ByteMask) -> bool {
    let mut mask = mask;
    path.iter().all(|(_, transformation)| {
        if *transformation == Transformation::Lowercase {
            mask = mask & !ByteMask::UPPER;
            return true;
        }
        transformation.is_noop_for(mask)
    })
}
