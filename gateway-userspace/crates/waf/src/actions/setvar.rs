//! `setvar`: sets, adds to, takes from and removes variables of TX and of persistent collections.

use super::{ActionContext, ActionError, collection::list_of};
use crate::{
    collections::Change as StoreChange,
    compile::{
        Ruleset,
        rule::Operand,
        settled::{Fixed, Known},
        template::{Segment, Template},
    },
    engine::core::Core,
    operators::parse_integer,
    variables::{
        arena::Span,
        fold::NO_NAME,
        store::{List, Value},
        tx::VALUE_MAX_BYTES,
    },
};

/// A `setvar`.
#[derive(Debug)]
pub(crate) struct SetVar {
    target: Target,
    change: Change,
}

#[derive(Debug)]
enum Target {
    /// A TX key known at load.
    Tx(u32),
    /// A TX key with macros in it.
    TxNamed(Template),
    Collection(List, Template),
}

#[derive(Debug)]
enum Change {
    SetNumber(i64),
    Set(Template),
    Add(Operand),
    Subtract(Operand),
    Remove,
}

/// `tx.a=b`, `tx.a=+1`, `tx.a=-%{tx.b}`, `!tx.a`, `tx.a`.
pub(super) fn parse(text: &str, cx: &mut ActionContext<'_>) -> Result<SetVar, ActionError> {
    let (removed, text) = match text.trim_start().strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, text.trim_start()),
    };
    let (target, value) = match text.split_once('=') {
        Some((target, value)) => (target, Some(value)),
        None => (text, None),
    };
    let help = "write setvar:'tx.name=value'";
    let Some((collection, name)) = target.split_once('.').filter(|(_, name)| !name.trim().is_empty()) else {
        return Err(ActionError::new(format!("{target} names no variable of a collection"), help));
    };
    let name = name.trim();
    let target = if collection.trim().eq_ignore_ascii_case("tx") {
        let template = cx.template(name);
        match template.literal() {
            Some(literal) => Target::Tx(cx.symbols.tx_key(literal)),
            None => Target::TxNamed(template),
        }
    } else {
        match list_of(collection.trim()) {
            Some((list, _)) => Target::Collection(list, cx.template(name)),
            None => {
                let message = format!("{collection} is no collection that can be set");
                return Err(ActionError::new(message, "TX, GLOBAL, IP, RESOURCE, SESSION and USER can"));
            }
        }
    };
    let change = match value {
        _ if removed => Change::Remove,
        None => Change::SetNumber(1),
        Some(value) => match value.as_bytes().first() {
            Some(b'+') => Change::Add(operand(&value[1..], cx)),
            Some(b'-') => Change::Subtract(operand(&value[1..], cx)),
            _ => match value.parse::<i64>() {
                Ok(number) if number.to_string() == value => Change::SetNumber(number),
                _ => Change::Set(cx.template(value)),
            },
        },
    };
    Ok(SetVar { target, change })
}

/// A number, a TX variable or a text that becomes one.
fn operand(text: &str, cx: &mut ActionContext<'_>) -> Operand {
    let template = cx.template(text.trim());
    match (template.literal(), template.only_tx()) {
        (Some(literal), _) => Operand::Number(parse_integer(literal)),
        (_, Some(key)) => Operand::Tx(key),
        _ => Operand::Template(template),
    }
}

impl SetVar {
    /// Whether what it does is known at load, where TX is; `can_expand` says it of a text with macros.
    pub(crate) fn can_settle(&self, can_expand: &mut dyn FnMut(&Template) -> bool) -> bool {
        matches!(self.target, Target::Tx(_))
            && match &self.change {
                Change::SetNumber(_) | Change::Remove => true,
                Change::Set(template) => can_expand(template),
                Change::Add(operand) | Change::Subtract(operand) => !matches!(operand, Operand::Template(_)),
            }
    }

    /// Does it to TX as it is known at load.
    pub(crate) fn settle(&self, known: &mut Known) {
        let Target::Tx(key) = self.target else { return };
        let value = match &self.change {
            Change::Remove => return known.set(key, None),
            Change::SetNumber(number) => Fixed::Number(*number),
            Change::Add(operand) => {
                let now = known.number(key).unwrap_or(0);
                Fixed::Number(now.saturating_add(known.operand(operand).unwrap_or(0)))
            }
            Change::Subtract(operand) => {
                let now = known.number(key).unwrap_or(0);
                Fixed::Number(now.saturating_sub(known.operand(operand).unwrap_or(0)))
            }
            Change::Set(template) => match template.only_tx() {
                Some(other) => known.get(other).unwrap_or(Fixed::Text { from: 0, to: 0 }),
                None => known.expand(template),
            },
        };
        known.set(key, Some(value));
    }

    /// Whether it may change the TX variable of that key and name.
    pub(crate) fn may_change(&self, key: u32, name: &[u8]) -> bool {
        match &self.target {
            Target::Tx(own) => *own == key,
            // The text before the first macro has to be how the name begins.
            Target::TxNamed(template) => match template.segments.first() {
                Some(Segment::Text(text)) => {
                    name.get(..text.len()).is_some_and(|head| head.eq_ignore_ascii_case(text))
                }
                _ => true,
            },
            Target::Collection(..) => false,
        }
    }
}

impl Core {
    pub(super) fn set_var(&mut self, set: &SetVar, rules: &Ruleset) {
        match &set.target {
            Target::Tx(key) => self.change_tx(*key, &set.change, rules),
            Target::TxNamed(template) => {
                self.expand(template, rules);
                let name = std::mem::take(&mut self.expanded);
                let key = self.tx.key(&rules.symbols.tx, &mut self.arena, &name);
                self.expanded = name;
                if let Some(key) = key {
                    self.change_tx(key, &set.change, rules);
                }
            }
            Target::Collection(list, name) => self.change_collection(*list, name, &set.change, rules),
        }
    }

    fn change_tx(&mut self, key: u32, change: &Change, rules: &Ruleset) {
        let value = match change {
            Change::Remove => return self.tx.remove(key),
            Change::SetNumber(number) => Value::Int(*number),
            Change::Add(operand) => {
                let now = self.tx.number(&self.arena, key).unwrap_or(0);
                Value::Int(now.saturating_add(self.operand(operand, rules)))
            }
            Change::Subtract(operand) => {
                let now = self.tx.number(&self.arena, key).unwrap_or(0);
                Value::Int(now.saturating_sub(self.operand(operand, rules)))
            }
            Change::Set(template) => match template.only_tx() {
                Some(other) => self.tx.get(other).unwrap_or(Value::Bytes(Span::EMPTY)),
                None => {
                    let span = self.expand_to_data(template, rules);
                    Value::Bytes(span.part(0, VALUE_MAX_BYTES))
                }
            },
        };
        self.tx.set(key, value);
    }

    fn change_collection(&mut self, list: List, name: &Template, change: &Change, rules: &Ruleset) {
        let name = self.expand_lower_to_data(name, rules);
        let known = self.store.find(&self.arena, list, self.arena.get(name));
        let number = |core: &Self| known.map_or(0, |s| parse_integer(core.arena.get(s)));
        let (stored, value) = match change {
            Change::Remove => {
                let name = self.arena.get(name);
                self.store.remove(&self.arena, list, name);
                self.write_through(list, name, StoreChange::Remove);
                return;
            }
            Change::Set(template) => {
                let value = self.expand_to_data(template, rules).part(0, VALUE_MAX_BYTES);
                (None, value)
            }
            Change::SetNumber(number) => (None, self.arena.number(*number)),
            Change::Add(operand) => {
                let delta = self.operand(operand, rules);
                (Some(delta), self.arena_number_of(number(self).saturating_add(delta)))
            }
            Change::Subtract(operand) => {
                let delta = self.operand(operand, rules).saturating_neg();
                (Some(delta), self.arena_number_of(number(self).saturating_add(delta)))
            }
        };
        let change = match stored {
            Some(delta) => StoreChange::Add(delta),
            None => StoreChange::Set(self.arena.get(value)),
        };
        let newer = self.write_through(list, self.arena.get(name), change);
        let value = match newer {
            Some(bytes) => self.arena.data(&bytes),
            None => value,
        };
        self.put_named(list, name, value, rules);
    }

    fn arena_number_of(&mut self, number: i64) -> Span {
        self.arena.number(number)
    }

    /// Sets a named value of a list with the number of its name.
    pub(super) fn put_named(&mut self, list: List, name: Span, value: Span, rules: &Ruleset) {
        let id = rules.symbols.names.find(self.arena.get(name)).unwrap_or(NO_NAME);
        if self.store.find(&self.arena, list, self.arena.get(name)).is_some() {
            self.store.put(&self.arena, list, name, value);
        } else {
            self.store.push(list, name, id, value);
        }
    }
}
