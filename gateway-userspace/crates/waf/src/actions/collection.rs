//! Persistent collections: `initcol`, `setsid`, `setuid`, `setrsc`, `expirevar`, `deprecatevar`.

use super::{ActionContext, ActionError};
use crate::{
    collections::{Change, CollectionId, CollectionKind},
    compile::{Ruleset, template::Template},
    engine::core::Core,
    operators::parse_integer,
    variables::{Variable, store::List},
};

#[derive(Debug)]
pub(crate) enum CollectionAction {
    /// Opens a record.
    Open {
        list: List,
        kind: CollectionKind,
        key: Template,
        also: Option<Variable>,
    },
    Expire {
        list: List,
        name: Template,
        seconds: Template,
    },
    Deprecate {
        list: List,
        name: Template,
        amount: u64,
        period: u64,
    },
}

/// The list and kind of a persistent collection's name.
pub(crate) fn list_of(name: &str) -> Option<(List, CollectionKind)> {
    const NAMES: [(&str, List, CollectionKind); 5] = [
        ("global", List::Global, CollectionKind::Global),
        ("ip", List::Ip, CollectionKind::Ip),
        ("resource", List::Resource, CollectionKind::Resource),
        ("session", List::Session, CollectionKind::Session),
        ("user", List::User, CollectionKind::User),
    ];
    NAMES.iter().find(|n| n.0.eq_ignore_ascii_case(name)).map(|n| (n.1, n.2))
}

pub(super) fn parse(
    name: &str,
    value: &str,
    cx: &mut ActionContext<'_>,
) -> Result<Option<CollectionAction>, ActionError> {
    let open = |list, kind, also, cx: &mut ActionContext<'_>| {
        if value.is_empty() {
            return Err(ActionError::new(
                format!("{name} needs a key"),
                "write the key, like %{REMOTE_ADDR}",
            ));
        }
        Ok(Some(CollectionAction::Open { list, kind, key: cx.template(value), also }))
    };
    match name {
        "setsid" => open(List::Session, CollectionKind::Session, Some(Variable::Sessionid), cx),
        "setuid" => open(List::User, CollectionKind::User, Some(Variable::Userid), cx),
        "setrsc" => open(List::Resource, CollectionKind::Resource, None, cx),
        "initcol" => {
            let help = "write initcol:ip=%{REMOTE_ADDR}; GLOBAL, IP, RESOURCE, SESSION and USER are there";
            let found = value.split_once('=').and_then(|(name, key)| Some((list_of(name.trim())?, key)));
            match found {
                Some(((list, kind), key)) if !key.is_empty() => {
                    let key = cx.template(key);
                    Ok(Some(CollectionAction::Open { list, kind, key, also: None }))
                }
                _ => Err(ActionError::new(format!("{value} opens no collection"), help)),
            }
        }
        "expirevar" => {
            let (target, seconds) = value.split_once('=').unwrap_or((value, ""));
            let Some((list, name)) = target_of(target, "expirevar", cx)? else { return Ok(None) };
            if seconds.is_empty() {
                return Err(ActionError::new("expirevar needs seconds", "write expirevar:ip.name=3600"));
            }
            Ok(Some(CollectionAction::Expire { list, name, seconds: cx.template(seconds) }))
        }
        _ => {
            let (target, rate) = value.split_once('=').unwrap_or((value, ""));
            let Some((list, name)) = target_of(target, "deprecatevar", cx)? else { return Ok(None) };
            let rate = rate
                .split_once('/')
                .and_then(|(a, p)| Some((a.trim().parse().ok()?, p.trim().parse().ok()?)));
            let Some((amount, period)) = rate.filter(|(_, p): &(u64, u64)| *p > 0) else {
                let help = "write deprecatevar:session.score=60/300";
                return Err(ActionError::new("deprecatevar needs an amount and seconds", help));
            };
            Ok(Some(CollectionAction::Deprecate { list, name, amount, period }))
        }
    }
}

fn target_of(
    text: &str,
    action: &str,
    cx: &mut ActionContext<'_>,
) -> Result<Option<(List, Template)>, ActionError> {
    let Some((collection, name)) = text.trim().split_once('.') else {
        return Err(ActionError::new(format!("{text} names no variable of a collection"), "write ip.name"));
    };
    if collection.eq_ignore_ascii_case("tx") {
        cx.notices.push(format!("{action} has no effect on TX, which ends with its transaction"));
        return Ok(None);
    }
    match list_of(collection) {
        Some((list, _)) => Ok(Some((list, cx.template(name)))),
        None => {
            let message = format!("{collection} is no persistent collection");
            Err(ActionError::new(message, "GLOBAL, IP, RESOURCE, SESSION and USER are"))
        }
    }
}

impl Core {
    pub(super) fn collection_action(&mut self, action: &CollectionAction, rules: &Ruleset) {
        match action {
            CollectionAction::Open { list, kind, key, also } => {
                let key = self.expand_to_data(key, rules);
                if let Some(variable) = also {
                    self.store.set_bytes(*variable, key);
                }
                self.open_collection(*list, *kind, key, rules);
            }
            CollectionAction::Expire { list, name, seconds } => {
                let name = self.expand_lower_to_data(name, rules);
                self.expand(seconds, rules);
                let seconds = parse_integer(&self.expanded);
                let seconds = u64::try_from(seconds).unwrap_or(0);
                self.write_through(*list, self.arena.get(name), Change::ExpireAfter(seconds));
            }
            CollectionAction::Deprecate { list, name, amount, period } => {
                let name = self.expand_lower_to_data(name, rules);
                let change = Change::Deprecate { amount: *amount, period: *period };
                if let Some(value) = self.write_through(*list, self.arena.get(name), change) {
                    let value = self.arena.data(&value);
                    self.put_named(*list, name, value, rules);
                }
            }
        }
    }

    fn open_collection(
        &mut self,
        list: List,
        kind: CollectionKind,
        key: crate::variables::arena::Span,
        rules: &Ruleset,
    ) {
        // As in ModSecurity, a collection that is open stays what it is.
        if self.opened[kind as usize].is_some() || key.is_empty() {
            return;
        }
        self.opened[kind as usize] = Some(key);
        let Some(store) = self.services.store.clone() else { return };
        let Self { arena, store: variables, web_app, unix_nanos, .. } = self;
        let web_app = arena.get(*web_app).to_vec();
        let key = arena.get(key).to_vec();
        let id = CollectionId { kind, web_app: &web_app, key: &key };
        store.open(id, rules.settings.collection_timeout, *unix_nanos, &mut |name, value| {
            let name_id = rules.symbols.names.find(name).unwrap_or(crate::variables::fold::NO_NAME);
            let (name, value) = (arena.data(name), arena.data(value));
            variables.push(list, name, name_id, value);
        });
    }

    /// Passes a change on to the store, if the collection is open; what the store makes of it.
    pub(super) fn write_through(&self, list: List, name: &[u8], change: Change<'_>) -> Option<Vec<u8>> {
        let kind = match list {
            List::Global => CollectionKind::Global,
            List::Ip => CollectionKind::Ip,
            List::Resource => CollectionKind::Resource,
            List::Session => CollectionKind::Session,
            _ => CollectionKind::User,
        };
        let store = self.services.store.as_ref()?;
        let key = self.opened[kind as usize]?;
        let id = CollectionId { kind, web_app: self.arena.get(self.web_app), key: self.arena.get(key) };
        let mut newer = None;
        store.change(id, name, change, self.unix_nanos, &mut |value| newer = Some(value.to_vec()));
        newer
    }
}
