//! From a rule's targets to the values that it looks at.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr},
};

use super::{core::Core, time::civil};
use crate::{
    compile::{
        Ruleset,
        rule::{Exclusion, Rule, Selector, Target},
    },
    variables::{
        Variable,
        arena::{Arena, Buffer},
        store::{Item, ItemName, List, Pair, Value, View, view},
        tx::CAPTURES,
    },
};

impl Core {
    /// Appends the items of a rule's targets to `self.items`.
    pub(crate) fn select(&mut self, rule: &Rule, number: u32, rules: &Ruleset) {
        for target in &rule.targets {
            let from = self.items.len();
            self.select_target(target, &rule.exclusions, rules);
            if !self.target_removals.is_empty() {
                self.exclude(from, target.variable, number, rules);
            }
            if target.count {
                let count = self.items.len() - from;
                self.items.truncate(from);
                let name = match &target.selector {
                    Selector::Tx(key) => ItemName::Tx(*key),
                    _ => ItemName::None,
                };
                let value = Value::Int(count as i64);
                self.items.push(Item { variable: target.variable, name, value, is_count: true });
            }
        }
    }

    pub(crate) fn select_target(&mut self, target: &Target, exclusions: &[Exclusion], rules: &Ruleset) {
        let variable = target.variable;
        let from = self.items.len();
        match view(variable) {
            View::Scalar => {
                let value = self.scalar(variable);
                self.items.push(Item { variable, name: ItemName::None, value, is_count: false });
            }
            View::Values(lists) => {
                for list in lists {
                    self.select_list(target, *list, false, exclusions, rules);
                }
                return;
            }
            View::Names(lists) => {
                for list in lists {
                    self.select_list(target, *list, true, exclusions, rules);
                }
                return;
            }
            View::Tx => self.select_tx(target, rules),
            View::MatchedVars => {
                for index in 0..self.matched.len() {
                    let item = self.matched[index];
                    if self.item_is(&target.selector, item, rules) {
                        self.items.push(item);
                    }
                }
            }
            View::MatchedVarsNames => self.select_matched_names(target, rules),
        }
        for exclusion in exclusions {
            self.drop_excluded(from, variable, exclusion, rules);
        }
    }

    fn select_list(
        &mut self,
        target: &Target,
        list: List,
        by_name: bool,
        exclusions: &[Exclusion],
        rules: &Ruleset,
    ) {
        let variable = target.variable;
        if list == List::Rule {
            return self.select_rule_fields(target, rules);
        }
        if list == List::Env && self.store.list(list).is_empty() {
            self.load_environment(rules);
        }
        let Self { arena, store, items, .. } = self;
        let is_excluded = |pair: &Pair| {
            exclusions.iter().any(|e| e.variable == variable && pair_is(&e.selector, pair, arena))
        };
        for pair in store.list(list) {
            if pair_is(&target.selector, pair, arena) && !is_excluded(pair) {
                let value = Value::Bytes(if by_name { pair.name } else { pair.value });
                items.push(Item { variable, name: ItemName::Span(pair.name), value, is_count: false });
            }
        }
    }

    fn select_tx(&mut self, target: &Target, rules: &Ruleset) {
        let variable = Variable::Tx;
        if let Selector::Tx(key) = target.selector {
            if let Some(value) = self.tx.get(key) {
                self.items.push(Item { variable, name: ItemName::Tx(key), value, is_count: false });
            }
            return;
        }
        let Self { arena, tx, items, .. } = self;
        let mut add = |key: u32, is_checked: bool| {
            if let Some(value) = tx.get(key)
                && (is_checked || target.selector.selects_name(tx.name(&rules.symbols.tx, arena, key)))
            {
                items.push(Item { variable, name: ItemName::Tx(key), value, is_count: false });
            }
        };
        if matches!(target.selector, Selector::All) {
            tx.keys().for_each(|key| add(key, true));
            return;
        }
        (0..CAPTURES).for_each(|key| add(key, false));
        target.fixed_keys.iter().for_each(|key| add(*key, true));
        tx.dynamic_keys().for_each(|key| add(key, false));
    }

    fn select_matched_names(&mut self, target: &Target, rules: &Ruleset) {
        for index in 0..self.matched.len() {
            let item = self.matched[index];
            if !self.item_is(&target.selector, item, rules) {
                continue;
            }
            let mut name = std::mem::take(&mut self.expanded);
            name.clear();
            self.append_name(item, rules, &mut name);
            let span = self.arena.data(&name);
            self.expanded = name;
            let (variable, name) = (Variable::MatchedVarsNames, ItemName::Span(span));
            self.items.push(Item { variable, name, value: Value::Bytes(span), is_count: false });
        }
    }

    fn select_rule_fields(&mut self, target: &Target, rules: &Ruleset) {
        use crate::compile::template::{Segment, Template};
        const FIELDS: [&str; 7] = ["id", "rev", "severity", "logdata", "msg", "phase", "operator"];
        for field in FIELDS {
            if !target.selector.selects_name(field.as_bytes()) {
                continue;
            }
            let segment = Segment::Named(Variable::Rule, field.as_bytes().into());
            let value = self.expand_to_data(&Template { segments: [segment].into() }, rules);
            let name = ItemName::Span(self.arena.data(field.as_bytes()));
            let (variable, value) = (Variable::Rule, Value::Bytes(value));
            self.items.push(Item { variable, name, value, is_count: false });
        }
    }

    fn load_environment(&mut self, rules: &Ruleset) {
        let environment = std::sync::Arc::clone(&self.services.environment);
        for (name, value) in environment.iter() {
            let (name, value) = (self.arena.data(name.as_bytes()), self.arena.data(value.as_bytes()));
            self.push_named(List::Env, name, value, rules);
        }
    }

    /// Drops the items from `from` on that `ctl` actions exclude.
    fn exclude(&mut self, from: usize, variable: Variable, number: u32, rules: &Ruleset) {
        for index in 0..self.target_removals.len() {
            let removal = &rules.target_removals[self.target_removals[index] as usize];
            if removal.rules.has(number) {
                self.drop_excluded(from, variable, &removal.exclusion, rules);
            }
        }
    }

    fn drop_excluded(&mut self, from: usize, variable: Variable, exclusion: &Exclusion, rules: &Ruleset) {
        if exclusion.variable != variable {
            return;
        }
        let mut kept = from;
        for index in from..self.items.len() {
            let item = self.items[index];
            if !self.item_is(&exclusion.selector, item, rules) {
                self.items[kept] = item;
                kept += 1;
            }
        }
        self.items.truncate(kept);
    }

    fn item_is(&self, selector: &Selector, item: Item, rules: &Ruleset) -> bool {
        match item.name {
            _ if matches!(selector, Selector::All) => true,
            ItemName::None => false,
            ItemName::Tx(key) => match selector {
                Selector::Tx(wanted) => key == *wanted,
                _ => selector.selects_name(self.tx.name(&rules.symbols.tx, &self.arena, key)),
            },
            ItemName::Span(span) => match selector {
                Selector::XPath(id) => {
                    let expression = rules.symbols.xpaths.get(*id as usize);
                    expression.is_some_and(|x| x.0.as_bytes() == self.arena.get(span))
                }
                _ => selector.selects_name(self.arena.get(span)),
            },
        }
    }

    /// A single value; those that follow from others are made when they are asked for.
    pub(crate) fn scalar(&mut self, variable: Variable) -> Value {
        if let Some(value) = self.store.scalar(variable) {
            return value;
        }
        use Variable as V;
        let number = |n: i64| Value::Int(n);
        let now = || civil(self.unix_nanos, self.utc_offset_seconds);
        let value = match variable {
            V::MatchedVar => {
                return self
                    .matched_last
                    .map_or(Value::Bytes(crate::variables::arena::Span::EMPTY), |i| i.value);
            }
            V::ArgsCombinedSize => return number(self.args_bytes as i64),
            V::FilesCombinedSize => return number(self.files_bytes as i64),
            V::HighestSeverity => return number(self.highest_severity.map_or(255, |s| s as i64)),
            V::TimeEpoch => number((self.unix_nanos / 1_000_000_000) as i64),
            V::TimeDay => number(now().day),
            V::TimeHour => number(now().hour),
            V::TimeMin => number(now().minute),
            // As in ModSecurity, months are 0 to 11 here.
            V::TimeMon => number(now().month - 1),
            V::TimeSec => number(now().second),
            V::TimeWday => number(now().weekday),
            V::TimeYear => number(now().year),
            V::Time => {
                let now = now();
                let text = format!("{:02}:{:02}:{:02}", now.hour, now.minute, now.second);
                Value::Bytes(self.arena.data(text.as_bytes()))
            }
            V::RemoteAddr | V::RemoteHost | V::UseragentIp => self.address(true),
            V::ServerAddr => self.address(false),
            V::RemotePort => number(self.client.map_or(0, |a| i64::from(a.port()))),
            V::ServerPort => number(self.server.map_or(0, |a| i64::from(a.port()))),
            V::FullRequest => self.full_request(),
            V::FullRequestLength => match self.full_request() {
                Value::Bytes(span) => number(span.len() as i64),
                Value::Int(n) => number(n),
            },
            V::ModsecBuild => number(30_000_000),
            V::Duration
            | V::InboundDataError
            | V::OutboundDataError
            | V::ReqbodyError
            | V::ReqbodyProcessorError
            | V::UrlencodedError
            | V::MscPcreLimitsExceeded
            | V::RequestBodyLength
            | V::ResponseContentLength
            | V::MultipartBoundaryQuoted
            | V::MultipartBoundaryWhitespace
            | V::MultipartCrlfLfLines
            | V::MultipartDataAfter
            | V::MultipartDataBefore
            | V::MultipartFileLimitExceeded
            | V::MultipartHeaderFolding
            | V::MultipartInvalidHeaderFolding
            | V::MultipartInvalidPart
            | V::MultipartInvalidQuoting
            | V::MultipartLfLine
            | V::MultipartMissingSemicolon
            | V::MultipartStrictError
            | V::MultipartUnmatchedBoundary => return number(0),
            _ => return Value::Bytes(crate::variables::arena::Span::EMPTY),
        };
        self.store.set(variable, value);
        value
    }

    fn address(&mut self, client: bool) -> Value {
        let address = if client { self.client } else { self.server };
        self.transformed.clear();
        match address.map(|address| address.ip().to_canonical()) {
            Some(IpAddr::V4(address)) => write_ipv4(address, &mut self.transformed),
            // Writing to memory does not fail.
            Some(IpAddr::V6(address)) => drop(write!(self.transformed, "{address}")),
            None => {}
        }
        Value::Bytes(self.arena.push(Buffer::Data, &self.transformed))
    }

    /// Request line, headers and body as one text.
    fn full_request(&mut self) -> Value {
        let mut text = Vec::new();
        if let Some(Value::Bytes(line)) = self.store.scalar(Variable::RequestLine) {
            text.extend_from_slice(self.arena.get(line));
        }
        text.extend_from_slice(b"\n");
        for pair in self.store.list(List::RequestHeaders) {
            text.extend_from_slice(self.arena.get(pair.name));
            text.extend_from_slice(b": ");
            text.extend_from_slice(self.arena.get(pair.value));
            text.extend_from_slice(b"\n");
        }
        text.extend_from_slice(b"\n\n");
        text.extend_from_slice(self.arena.get(self.arena.whole(Buffer::RequestBody)));
        Value::Bytes(self.arena.data(&text))
    }
}

/// In a tenth of the steps that formatting takes: nearly every request asks for it.
fn write_ipv4(address: Ipv4Addr, out: &mut Vec<u8>) {
    for (place, octet) in address.octets().into_iter().enumerate() {
        if place > 0 {
            out.push(b'.');
        }
        if octet >= 100 {
            out.push(b'0' + octet / 100);
        }
        if octet >= 10 {
            out.push(b'0' + octet / 10 % 10);
        }
        out.push(b'0' + octet % 10);
    }
}

#[inline]
fn pair_is(selector: &Selector, pair: &Pair, arena: &Arena) -> bool {
    match selector {
        Selector::All => true,
        Selector::Name(id, _) | Selector::XPath(id) => pair.name_id == *id,
        Selector::Tx(_) => false,
        Selector::Prefix(_) | Selector::Pattern(_) => selector.selects_name(arena.get(pair.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_four_octets() {
        for address in
            [[0, 0, 0, 0], [192, 0, 2, 10], [9, 99, 100, 255], [10, 109, 200, 1]].map(Ipv4Addr::from)
        {
            let mut text = Vec::new();
            write_ipv4(address, &mut text);
            assert_eq!(text, address.to_string().as_bytes());
        }
    }
}
