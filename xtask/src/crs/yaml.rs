//! YAML as a tree of source text.
//!
//! The suites give header values, versions and data as plain scalars (`1.1`, `7`, `on`), and their own runner reads
//! all of them as text. So scalars stay the text of the file and nothing is resolved to a number or a boolean here.

use std::collections::HashMap;

use anyhow::{Context as _, Result, anyhow, bail};
use saphyr_parser::{Event, Parser};

/// Nesting beyond which a file is refused: suites use six levels.
const MAX_DEPTH: usize = 64;

/// One YAML node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Any scalar, as written after unquoting.
    Scalar(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in file order; a later duplicate key wins in [`Node::get`].
    Map(Vec<(String, Node)>),
}

impl Node {
    /// Parses the first document of `text`; none where there are only comments.
    ///
    /// # Errors
    /// Not YAML, too deep, an unknown alias, or a mapping key that is not a scalar.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new() };
        loop {
            match reader.next()? {
                Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
                Event::StreamEnd | Event::DocumentEnd => return Ok(None),
                event => return reader.node(event, 0).map(Some),
            }
        }
    }

    /// The value of `key`, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// The items of a sequence; a scalar counts as a sequence of itself, as suites write `status: 200` and `[200]`.
    pub fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            Self::Scalar(_) => std::slice::from_ref(self),
            Self::Map(_) => &[],
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Event<'a>> {
        let (event, _) = self
            .parser
            .next_event()
            .ok_or_else(|| anyhow!("the file ends in the middle"))?
            .context("not YAML")?;
        Ok(event)
    }

    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Node> {
        if depth > MAX_DEPTH {
            bail!("nested deeper than {MAX_DEPTH} levels");
        }
        let (anchor, node) = match event {
            Event::Scalar(text, _, anchor, _) => (anchor, Node::Scalar(text.into_owned())),
            Event::SequenceStart(anchor, _) => (anchor, self.list(depth)?),
            Event::MappingStart(anchor, _) => (anchor, self.map(depth)?),
            Event::Alias(anchor) => {
                return self.anchors.get(&anchor).cloned().ok_or_else(|| anyhow!("an alias names no anchor"));
            }
            other => bail!("unexpected {other:?}"),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Node> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(Node::List(items)),
                event => items.push(self.node(event, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Node> {
        let mut entries = Vec::new();
        loop {
            match self.next()? {
                Event::MappingEnd => return Ok(Node::Map(entries)),
                event => {
                    let Node::Scalar(key) = self.node(event, depth + 1)? else {
                        bail!("a mapping key is not a scalar")
                    };
                    let event = self.next()?;
                    entries.push((key, self.node(event, depth + 1)?));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_stay_text() {
        let rows = [
            ("a: 1.1", "1.1"),
            ("a: '7'", "7"),
            ("a: on", "on"),
            ("a: \"x\\x41\\n\"", "xA\n"),
            ("a: |\n  one\n  two\n", "one\ntwo\n"),
        ];
        for (source, expected) in rows {
            let node = Node::parse(source).expect(source).expect("a document");
            assert_eq!(node.get("a").and_then(Node::text), Some(expected), "{source}");
        }
    }

    #[test]
    fn aliases_repeat_their_anchor() {
        let node = Node::parse("a: &x [1, 2]\nb: *x").expect("parses").expect("a document");
        assert_eq!(node.get("a"), node.get("b"));
    }

    #[test]
    fn broken_files_are_errors() {
        for source in ["a: [1", "a: *nowhere"] {
            assert!(Node::parse(source).is_err(), "{source}");
        }
        assert_eq!(Node::parse("# nothing to see\n").ok(), Some(None));
    }
}
