//! What a transaction is made of.

use std::net::SocketAddr;

use super::{
    cache::TransformCache,
    context::{Connection, Observer, Services},
    matched::{MatchedRule, Severity},
    screening::Screening,
    verdict::{AllowScope, Verdict},
};
use crate::{
    actions::Sanitised,
    body::multipart::Elider,
    compile::{Ruleset, rule::RuleSetBits},
    lang::ast::{AuditMode, EngineMode, XmlArguments},
    operators::Captures,
    variables::{
        Variable,
        arena::{Arena, Span},
        fold::NO_NAME,
        store::{Item, List, Store},
        tx::Tx,
    },
};

/// Who reads the request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Processor {
    UrlEncoded,
    Multipart,
    Json,
    Xml,
}

impl Processor {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::UrlEncoded, Self::Multipart, Self::Json, Self::Xml]
            .into_iter()
            .find(|p| p.name().eq_ignore_ascii_case(name))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::UrlEncoded => "URLENCODED",
            Self::Multipart => "MULTIPART",
            Self::Json => "JSON",
            Self::Xml => "XML",
        }
    }
}

/// The state of a transaction. All of it is kept as memory for the next one.
pub(crate) struct Core {
    pub services: Services,
    pub observer: Option<Box<dyn Observer>>,
    /// Records rules with `nolog` as well.
    pub records_all: bool,
    pub arena: Arena,
    pub store: Store,
    pub tx: Tx,
    pub cache: TransformCache,
    /// Apart, so that it can be lent while the values are read.
    pub screening: Option<Box<Screening>>,
    pub captures: Captures,
    /// What a transformation writes before it goes to the arena.
    pub transformed: Vec<u8>,
    /// What a template expands to.
    pub expanded: Vec<u8>,
    /// An operator's argument, expanded.
    pub argument: Vec<u8>,
    /// Items under evaluation; rules of a chain use it as a stack.
    pub items: Vec<Item>,
    /// MATCHED_VARS: what matched since the current chain began.
    pub matched: Vec<Item>,
    /// MATCHED_VAR.
    pub matched_last: Option<Item>,
    pub matches: Vec<MatchedRule>,
    pub removed: RuleSetBits,
    pub any_removed: bool,
    /// Active removals of targets: indexes into the rule set's.
    pub target_removals: Vec<u32>,
    /// The variables they are of, a bit each.
    pub removal_variables: u128,
    pub sanitised: Vec<Sanitised>,
    pub opened: [Option<Span>; 5],
    pub web_app: Span,
    pub unix_nanos: u64,
    pub utc_offset_seconds: i32,
    pub client: Option<SocketAddr>,
    pub server: Option<SocketAddr>,

    pub engine: EngineMode,
    pub audit_engine: AuditMode,
    pub audit_parts: String,
    pub audit_wanted: bool,
    pub request_body_access: bool,
    pub response_body_access: bool,
    pub request_body_limit: u64,
    pub response_body_limit: u64,
    pub force_request_body: bool,
    pub processor: Option<Processor>,
    /// Leaves large files out of the body, where nobody asks for what is in them.
    pub elider: Option<Elider>,
    pub xml_arguments: XmlArguments,
    pub request_body_full: bool,
    pub response_body_full: bool,
    pub request_body_seen: u64,
    pub response_body_seen: u64,
    pub highest_severity: Option<Severity>,
    pub args_bytes: u64,
    pub files_bytes: u64,
    pub arguments: u64,
    pub response_status: u16,

    /// The verdict that ended the transaction.
    pub ended: Option<Verdict>,
    pub allowed: Option<AllowScope>,
    pub phase: u8,
    /// The starter of the chain under evaluation.
    pub current: u32,
}

impl Core {
    pub(crate) fn new(services: Services) -> Self {
        Self {
            services,
            observer: None,
            records_all: false,
            arena: Arena::default(),
            store: Store::default(),
            tx: Tx::default(),
            cache: TransformCache::default(),
            screening: Some(Box::default()),
            captures: Captures::new(),
            transformed: Vec::new(),
            expanded: Vec::new(),
            argument: Vec::new(),
            items: Vec::new(),
            matched: Vec::new(),
            matched_last: None,
            matches: Vec::new(),
            removed: RuleSetBits::default(),
            any_removed: false,
            target_removals: Vec::new(),
            removal_variables: 0,
            sanitised: Vec::new(),
            opened: [None; 5],
            web_app: Span::EMPTY,
            unix_nanos: 0,
            utc_offset_seconds: 0,
            client: None,
            server: None,
            engine: EngineMode::Off,
            audit_engine: AuditMode::Off,
            audit_parts: String::new(),
            audit_wanted: false,
            request_body_access: false,
            response_body_access: false,
            request_body_limit: 0,
            response_body_limit: 0,
            force_request_body: false,
            processor: None,
            elider: None,
            xml_arguments: XmlArguments::Off,
            request_body_full: false,
            response_body_full: false,
            request_body_seen: 0,
            response_body_seen: 0,
            highest_severity: None,
            args_bytes: 0,
            files_bytes: 0,
            arguments: 0,
            response_status: 0,
            ended: None,
            allowed: None,
            phase: 0,
            current: 0,
        }
    }

    pub(crate) fn begin(&mut self, connection: &Connection<'_>, rules: &Ruleset) {
        let settings = &rules.settings;
        self.arena.clear();
        self.store.clear();
        self.tx.clear(&rules.symbols.tx);
        self.cache.clear();
        self.captures.clear();
        self.items.clear();
        self.matched.clear();
        self.matched_last = None;
        self.matches.clear();
        self.removed.clear(rules.rules.len());
        self.any_removed = false;
        self.target_removals.clear();
        self.removal_variables = 0;
        self.sanitised.clear();
        self.opened = [None; 5];
        self.unix_nanos = connection.unix_nanos;
        self.utc_offset_seconds = connection.utc_offset_seconds;
        self.client = Some(connection.client);
        self.server = Some(connection.server);
        self.engine = settings.engine;
        self.audit_engine = settings.audit_engine;
        self.audit_parts.clone_from(&settings.audit_parts);
        self.audit_wanted = false;
        self.request_body_access = settings.request_body_access;
        self.response_body_access = settings.response_body_access;
        self.request_body_limit = settings.request_body_limit;
        self.response_body_limit = settings.response_body_limit;
        self.force_request_body = false;
        self.processor = None;
        self.elider = None;
        self.xml_arguments = settings.xml_arguments;
        self.request_body_full = false;
        self.response_body_full = false;
        self.request_body_seen = 0;
        self.response_body_seen = 0;
        self.highest_severity = None;
        self.args_bytes = 0;
        self.files_bytes = 0;
        self.arguments = 0;
        self.response_status = 0;
        self.ended = None;
        self.allowed = None;
        self.phase = 0;
        self.current = 0;
        let web_app = settings.web_app_id.as_deref().unwrap_or(connection.web_app_id);
        self.web_app = self.arena.data(web_app.as_bytes());
        let unique_id = self.arena.data(connection.unique_id.as_bytes());
        self.store.set_bytes(Variable::UniqueId, unique_id);
        self.store.set_bytes(Variable::Webappid, self.web_app);
    }

    /// Adds a named value to a list.
    pub(crate) fn push_named(&mut self, list: List, name: Span, value: Span, rules: &Ruleset) -> bool {
        let id = rules.symbols.names.find(self.arena.get(name)).unwrap_or(NO_NAME);
        self.store.push(list, name, id, value)
    }

    /// Whether a `ctl` action took something of a variable away from some rule.
    #[inline]
    pub(crate) fn has_removals_of(&self, variable: Variable) -> bool {
        self.removal_variables >> variable as u8 & 1 == 1
    }

    pub(crate) fn set_processor(&mut self, processor: Processor) {
        self.processor = Some(processor);
        let name = self.arena.data(processor.name().as_bytes());
        self.store.set_bytes(Variable::ReqbodyProcessor, name);
    }
}
