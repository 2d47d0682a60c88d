//! What rule files say, with where they say it.

use crate::variables::Variable;

/// A place in the rule files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Index into [`Document::files`].
    pub file: u32,
    /// From 1.
    pub line: u32,
    /// In bytes, from 1.
    pub column: u32,
}

/// All directives in the order they take effect, includes put in place.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// Names of the files, as [`Position::file`] counts them.
    pub files: Vec<String>,
    /// The directives.
    pub directives: Vec<Directive>,
}

/// A directive and its place.
#[derive(Clone, Debug)]
pub struct Directive {
    /// Where its name stands.
    pub position: Position,
    /// What it says.
    pub kind: DirectiveKind,
}

/// What a directive says.
#[derive(Clone, Debug)]
pub enum DirectiveKind {
    /// `SecRule`.
    Rule(RuleDecl),
    /// `SecAction`.
    Action(Vec<ActionDecl>),
    /// `SecMarker`.
    Marker(String),
    /// `SecDefaultAction`.
    DefaultAction(Vec<ActionDecl>),
    /// `SecRuleRemoveById`, `ByTag`, `ByMsg`.
    Remove(RuleQuery),
    /// `SecRuleUpdateTargetById`, `ByTag`, `ByMsg`.
    UpdateTarget {
        /// Which rules.
        rules: RuleQuery,
        /// Targets to add or, with `!`, to exclude.
        targets: Vec<TargetDecl>,
        /// Those to take out when the additions replace something (third parameter).
        replaced: Vec<TargetDecl>,
    },
    /// `SecRuleUpdateActionById`.
    UpdateAction {
        /// The rule.
        id: u64,
        /// Which link of its chain: 0 is the starter.
        link: usize,
        /// The new actions.
        actions: Vec<ActionDecl>,
    },
    /// A setting of the engine.
    Set(Setting),
}

/// Rules picked by what they carry.
#[derive(Clone, Debug)]
pub enum RuleQuery {
    /// Inclusive ranges of ids.
    Ids(Vec<(u64, u64)>),
    /// A tag: equal to it, or found by it as a pattern when it has the characters of one.
    Tag(String),
    /// A message: likewise.
    Message(String),
}

/// A `SecRule`.
#[derive(Clone, Debug)]
pub struct RuleDecl {
    /// What it looks at.
    pub targets: Vec<TargetDecl>,
    /// How.
    pub operator: OperatorDecl,
    /// What then.
    pub actions: Vec<ActionDecl>,
}

/// One of a rule's targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetDecl {
    /// Where it stands.
    pub position: Position,
    /// `!`: left out.
    pub negated: bool,
    /// `&`: how many there are.
    pub count: bool,
    /// The variable.
    pub variable: Variable,
    /// Which of a collection.
    pub selector: SelectorDecl,
}

/// Which values of a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectorDecl {
    /// All.
    All,
    /// Those of a name, in any case (for XML: an XPath expression).
    Name(String),
    /// Those whose name a pattern finds, in any case.
    Pattern(String),
}

/// A rule's operator.
#[derive(Clone, Debug)]
pub struct OperatorDecl {
    /// Where it stands.
    pub position: Position,
    /// `!`.
    pub negated: bool,
    /// Without `@`; `rx` where none is named.
    pub name: String,
    /// As it stands.
    pub argument: String,
}

/// An action: `name:value`.
#[derive(Clone, Debug)]
pub struct ActionDecl {
    /// Where it stands.
    pub position: Position,
    /// In lower case.
    pub name: String,
    /// Unquoted; none without a colon.
    pub value: Option<String>,
}

/// `On`, `Off`, `DetectionOnly`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[allow(missing_docs)]
pub enum EngineMode {
    On,
    DetectionOnly,
    #[default]
    Off,
}

/// `On`, `Off`, `RelevantOnly`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[allow(missing_docs)]
pub enum AuditMode {
    On,
    RelevantOnly,
    #[default]
    Off,
}

/// What happens to a body over its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub enum LimitAction {
    /// 413 for a request, 500 for a response.
    #[default]
    Reject,
    /// What came before the limit is inspected, the rest passes.
    ProcessPartial,
}

/// `SecParseXmlIntoArgs`: whether the texts of an XML body become arguments, `xml.root.child`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub enum XmlArguments {
    /// They don't.
    #[default]
    Off,
    /// They do, and XML has them as well.
    On,
    /// They do, and XML stays empty.
    OnlyArgs,
}

/// `Native` or `JSON`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[allow(missing_docs)]
pub enum AuditFormat {
    #[default]
    Native,
    Json,
}

/// A setting directive, checked. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Setting {
    RuleEngine(EngineMode),
    RequestBodyAccess(bool),
    ResponseBodyAccess(bool),
    RequestBodyLimit(u64),
    RequestBodyNoFilesLimit(u64),
    RequestBodyLimitAction(LimitAction),
    RequestBodyJsonDepthLimit(u64),
    ResponseBodyLimit(u64),
    ResponseBodyLimitAction(LimitAction),
    ResponseBodyMimeType(Vec<String>),
    ResponseBodyMimeTypesClear,
    ParseXmlIntoArgs(XmlArguments),
    ArgumentsLimit(u64),
    ArgumentSeparator(u8),
    CookieSeparator(u8),
    CollectionTimeout(u64),
    ComponentSignature(String),
    ServerSignature(String),
    SensorId(String),
    WebAppId(String),
    UploadFileLimit(u64),
    AuditEngine(AuditMode),
    AuditLog(String),
    AuditLog2(String),
    AuditLogParts(String),
    AuditLogRelevantStatus(String),
    AuditLogFormat(AuditFormat),
    AuditLogType(String),
    AuditLogStorageDir(String),
}
