//! Files to directives.

use super::{
    actions,
    ast::{
        ActionDecl, Directive, DirectiveKind, Document, OperatorDecl, Position, RuleDecl, RuleQuery,
        TargetDecl,
    },
    diagnostic::{Diagnostic, Level},
    directives::{self, Known},
    lines::{LogicalLine, logical_lines},
    targets,
    words::{self, Quoting, Word},
};
use crate::{compile::Entry, source::FileSource};

/// How deep includes may nest; a deeper one is an error.
pub const INCLUDE_DEPTH_MAX: usize = 16;
/// Most files that one rule set may have; a further one is an error.
pub const INCLUDED_FILES_MAX: usize = 10_000;

/// Reads and parses `entries` in order, with all diagnostics. What is wrong is left out of the document.
pub fn parse(files: &dyn FileSource, entries: &[Entry<'_>]) -> (Document, Vec<Diagnostic>) {
    let mut parser = Parser { files, document: Document::default(), diagnostics: Vec::new() };
    for entry in entries {
        match entry {
            Entry::Text { name, text } => parser.text(name, text, 0),
            Entry::File(pattern) => {
                let at = parser.begin_file(pattern);
                parser.include(pattern, at, false, 0);
            }
        }
    }
    (parser.document, parser.diagnostics)
}

struct Parser<'a> {
    files: &'a dyn FileSource,
    document: Document,
    diagnostics: Vec<Diagnostic>,
}

/// A directive's line while it is parsed.
struct Line<'a> {
    source: &'a LogicalLine,
    file: u32,
    depth: usize,
    words: &'a [Word],
    rule_id: Option<u64>,
}

impl Line<'_> {
    fn at(&self, offset: usize) -> Position {
        self.source.position(self.file, offset)
    }

    fn start(&self) -> Position {
        self.at(self.words.first().map_or(0, |w| w.offset))
    }

    fn arguments(&self) -> &[Word] {
        self.words.get(1..).unwrap_or_default()
    }
}

impl Parser<'_> {
    fn begin_file(&mut self, name: &str) -> Position {
        self.document.files.push(name.to_owned());
        Position { file: self.document.files.len() as u32 - 1, line: 1, column: 1 }
    }

    fn say(&mut self, level: Level, at: Position, rule_id: Option<u64>, message: String, help: &str) {
        let file = self.document.files.get(at.file as usize).cloned().unwrap_or_default();
        self.diagnostics.push(Diagnostic {
            level,
            file,
            line: at.line,
            column: at.column,
            rule_id,
            message,
            help: help.to_owned(),
        });
    }

    fn error(&mut self, line: &Line<'_>, offset: usize, message: impl Into<String>, help: &str) {
        self.say(Level::Error, line.at(offset), line.rule_id, message.into(), help);
    }

    fn text(&mut self, name: &str, text: &str, depth: usize) {
        let file = self.begin_file(name).file;
        let quoting = Quoting::of(text);
        for line in logical_lines(text) {
            match words::split(&line.text, quoting) {
                Ok(words) => {
                    let rule_id = None;
                    self.directive(&mut Line { source: &line, file, depth, words: &words, rule_id });
                }
                Err(offset) => {
                    let help = "close it on the same line, or end each line but the last with a backslash";
                    let at = line.position(file, offset);
                    self.say(Level::Error, at, None, "this quote is never closed".to_owned(), help);
                }
            }
        }
    }

    fn include(&mut self, pattern: &str, at: Position, optional: bool, depth: usize) {
        if depth >= INCLUDE_DEPTH_MAX {
            let message = format!("includes nest deeper than {INCLUDE_DEPTH_MAX}");
            return self.say(Level::Error, at, None, message, "does a file include itself?");
        }
        let is_glob = pattern.contains(['*', '?', '[']);
        let paths = if is_glob { self.files.glob(pattern) } else { Ok(vec![pattern.to_owned()]) };
        let paths = match paths {
            Ok(paths) => paths,
            Err(_) if optional => return,
            Err(error) => return self.say(Level::Error, at, None, error.to_string(), "check the path"),
        };
        if paths.is_empty() && !optional {
            let message = format!("no file matches {pattern}");
            self.say(Level::Warning, at, None, message, "use IncludeOptional where that is meant");
        }
        for path in paths {
            if self.document.files.len() >= INCLUDED_FILES_MAX {
                let message = format!("more than {INCLUDED_FILES_MAX} files");
                return self.say(Level::Error, at, None, message, "does a file include itself?");
            }
            match self.files.read(&path) {
                Ok(bytes) => {
                    let text = String::from_utf8_lossy(&bytes);
                    if matches!(text, std::borrow::Cow::Owned(_)) {
                        let message = format!("{path} is not UTF-8; the bytes that are not are replaced");
                        self.say(Level::Warning, at, None, message, "write them as \\xHH");
                    }
                    self.text(&path, &text, depth + 1);
                }
                Err(_) if optional => {}
                Err(error) => self.say(Level::Error, at, None, error.to_string(), "check the path"),
            }
        }
    }

    fn directive(&mut self, line: &mut Line<'_>) {
        let Some(name) = line.words.first() else { return };
        let kind = match name.text.to_ascii_lowercase().as_str() {
            "include" => return self.include_line(line, false),
            "includeoptional" => return self.include_line(line, true),
            "secrule" => self.rule(line),
            "secaction" => self.action_list(line, 0).map(DirectiveKind::Action),
            "secdefaultaction" => self.action_list(line, 0).map(DirectiveKind::DefaultAction),
            "secmarker" => self.argument(line, 0, "a name").map(|w| DirectiveKind::Marker(w.text)),
            "secruleremovebyid" => self.ids(line, line.arguments()).map(DirectiveKind::Remove),
            "secruleremovebytag" => {
                self.argument(line, 0, "a tag").map(|w| DirectiveKind::Remove(RuleQuery::Tag(w.text)))
            }
            "secruleremovebymsg" => {
                self.argument(line, 0, "a message").map(|w| DirectiveKind::Remove(RuleQuery::Message(w.text)))
            }
            "secruleupdatetargetbyid" => {
                let rules = self.ids(line, &line.arguments()[..line.arguments().len().min(1)]);
                self.update_target(line, rules)
            }
            "secruleupdatetargetbytag" => {
                let rules = self.argument(line, 0, "a tag").map(|w| RuleQuery::Tag(w.text));
                self.update_target(line, rules)
            }
            "secruleupdatetargetbymsg" => {
                let rules = self.argument(line, 0, "a message").map(|w| RuleQuery::Message(w.text));
                self.update_target(line, rules)
            }
            "secruleupdateactionbyid" => self.update_action(line),
            _ => self.setting(line, &name.text),
        };
        if let Some(kind) = kind {
            self.document.directives.push(Directive { position: line.start(), kind });
        }
    }

    fn include_line(&mut self, line: &Line<'_>, optional: bool) {
        let Some(word) = self.argument(line, 0, "a path") else { return };
        let current = self.document.files.get(line.file as usize).cloned().unwrap_or_default();
        let path = match current.rsplit_once('/') {
            Some((folder, _)) if !word.text.starts_with('/') => format!("{folder}/{}", word.text),
            _ => word.text,
        };
        self.include(&path, line.at(word.offset), optional, line.depth);
    }

    fn argument(&mut self, line: &Line<'_>, index: usize, what: &str) -> Option<Word> {
        let word = line.arguments().get(index).cloned();
        if word.is_none() {
            let name = line.words.first().map_or("", |w| w.text.as_str());
            let message = format!("{name} needs {what}");
            self.error(line, line.source.text.len(), message, "");
        }
        word
    }

    fn too_many(&mut self, line: &Line<'_>, most: usize) {
        if let Some(extra) = line.arguments().get(most) {
            let message = format!("there is something after the last argument: {}", extra.text);
            self.error(line, extra.offset, message, "is a quote missing before it?");
        }
    }

    fn setting(&mut self, line: &Line<'_>, name: &str) -> Option<DirectiveKind> {
        let arguments: Vec<&str> = line.arguments().iter().map(|w| w.text.as_str()).collect();
        match directives::find(name) {
            Some(Known::Setting(parse)) => match parse(&arguments) {
                Ok(setting) => return Some(DirectiveKind::Set(setting)),
                Err(expected) => {
                    let offset = line.arguments().first().map_or(line.source.text.len(), |w| w.offset);
                    let message = format!("{name} takes {expected}, not \"{}\"", arguments.join(" "));
                    self.error(line, offset, message, "");
                }
            },
            Some(Known::NoEffect(why)) => {
                self.say(Level::Notice, line.start(), None, format!("{name} has {why}"), "");
            }
            Some(Known::Refused(why)) => {
                self.say(Level::Error, line.start(), None, format!("{name} is refused: {why}"), "");
            }
            None => {
                let known = directives::names().chain(RULE_DIRECTIVES.iter().copied());
                let help = match crate::variables::nearest(name, known) {
                    Some(near) => format!("did you mean {near}?"),
                    None => "see the manual's list of directives".to_owned(),
                };
                self.say(Level::Error, line.start(), None, format!("there is no directive {name}"), &help);
            }
        }
        None
    }

    fn ids(&mut self, line: &Line<'_>, words: &[Word]) -> Option<RuleQuery> {
        let mut ranges = Vec::new();
        for word in words {
            for piece in word.text.split([' ', ',', '\t']).filter(|p| !p.is_empty()) {
                match id_range(piece) {
                    Some(range) => ranges.push(range),
                    None => {
                        let message = format!("{piece} is neither an id nor a range of ids");
                        self.error(line, word.offset, message, "write 1000 or 1000-1999");
                    }
                }
            }
        }
        if ranges.is_empty() {
            self.argument(line, 0, "ids");
            return None;
        }
        Some(RuleQuery::Ids(ranges))
    }

    fn update_target(&mut self, line: &Line<'_>, rules: Option<RuleQuery>) -> Option<DirectiveKind> {
        let word = self.argument(line, 1, "targets")?;
        let targets = self.targets(line, &word);
        let replaced = match line.arguments().get(2).cloned() {
            Some(word) => self.targets(line, &word),
            None => Vec::new(),
        };
        self.too_many(line, 3);
        Some(DirectiveKind::UpdateTarget { rules: rules?, targets, replaced })
    }

    fn update_action(&mut self, line: &Line<'_>) -> Option<DirectiveKind> {
        let word = self.argument(line, 0, "an id")?;
        let (id, link) = word.text.split_once(':').unwrap_or((&word.text, "0"));
        let (Ok(id), Ok(link)) = (id.parse(), link.parse()) else {
            let message = format!("{} is no id", word.text);
            self.error(line, word.offset, message, "write 1000, or 1000:1 for the first link of its chain");
            return None;
        };
        let actions = self.action_list(line, 1)?;
        Some(DirectiveKind::UpdateAction { id, link, actions })
    }

    fn rule(&mut self, line: &mut Line<'_>) -> Option<DirectiveKind> {
        let target_word = self.argument(line, 0, "targets")?;
        let operator_word = self.argument(line, 1, "an operator")?;
        let actions = match line.arguments().get(2) {
            Some(_) => self.action_list(line, 2)?,
            None => Vec::new(),
        };
        line.rule_id = actions.iter().find(|a| a.name == "id").and_then(|a| a.value.as_deref()?.parse().ok());
        let targets = self.targets(line, &target_word);
        if targets.iter().all(|t| t.negated) && !targets.is_empty() {
            self.error(
                line,
                target_word.offset,
                "every target is an exclusion",
                "name what the rule looks at",
            );
        }
        let operator = operator(&operator_word, line.at(operator_word.offset));
        (!targets.is_empty()).then_some(DirectiveKind::Rule(RuleDecl { targets, operator, actions }))
    }

    fn targets(&mut self, line: &Line<'_>, word: &Word) -> Vec<TargetDecl> {
        let (found, errors) = targets::parse(&word.text);
        for error in errors {
            self.error(line, word.offset + error.offset, error.message, &error.help);
        }
        let place = |(offset, target): (usize, TargetDecl)| TargetDecl {
            position: line.at(word.offset + offset),
            ..target
        };
        found.into_iter().map(place).collect()
    }

    fn action_list(&mut self, line: &Line<'_>, index: usize) -> Option<Vec<ActionDecl>> {
        let word = self.argument(line, index, "a list of actions")?;
        self.too_many(line, index + 1);
        match actions::parse(&word.text) {
            Ok(raw) => Some(
                raw.into_iter()
                    .map(|a| ActionDecl {
                        position: line.at(word.offset + a.offset),
                        name: a.name,
                        value: a.value,
                    })
                    .collect(),
            ),
            Err(offset) => {
                let help = "close it before the comma that ends the action";
                self.error(line, word.offset + offset, "this quote is never closed", help);
                None
            }
        }
    }
}

const RULE_DIRECTIVES: &[&str] = &[
    "Include",
    "IncludeOptional",
    "SecRule",
    "SecAction",
    "SecDefaultAction",
    "SecMarker",
    "SecRuleRemoveById",
    "SecRuleRemoveByTag",
    "SecRuleRemoveByMsg",
    "SecRuleUpdateTargetById",
    "SecRuleUpdateTargetByTag",
    "SecRuleUpdateTargetByMsg",
    "SecRuleUpdateActionById",
];

/// `1000` or `1000-1999`.
pub(crate) fn id_range(text: &str) -> Option<(u64, u64)> {
    match text.split_once('-') {
        Some((low, high)) => {
            let (low, high) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
            (low <= high).then_some((low, high))
        }
        None => text.trim().parse().ok().map(|id| (id, id)),
    }
}

/// `@name argument`, `!@name argument`, or a pattern for `@rx`.
fn operator(word: &Word, position: Position) -> OperatorDecl {
    let text = word.text.trim_start();
    let (negated, rest) = match text.strip_prefix('!') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, text),
    };
    match rest.strip_prefix('@') {
        Some(rest) => {
            let (name, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            let argument = argument.trim_start().to_owned();
            OperatorDecl { position, negated, name: name.to_owned(), argument }
        }
        None => OperatorDecl { position, negated, name: "rx".to_owned(), argument: rest.to_owned() },
    }
}

/// The targets of a `ctl` action.
pub(crate) fn parse_targets(text: &str, position: Position) -> Result<Vec<TargetDecl>, String> {
    let (found, errors) = targets::parse(text);
    match errors.into_iter().next() {
        Some(error) => Err(error.message),
        None => Ok(found.into_iter().map(|(_, t)| TargetDecl { position, ..t }).collect()),
    }
}
