//! The part of XPath 1.0 that rules use: `/*`, `//@*`, `/a/b`, `//b`, `/a//b/@c`, `//text()`.

use super::XmlDocument;

/// Most steps of a path.
const MAX_STEPS: usize = 32;

/// A compiled path.
///
/// Steps are names or `*`, after `/` (child) or `//` (any depth); the last may be `@name`, `@*` or `text()`. A name without a prefix matches
/// the local name in any namespace; one with a prefix matches the name as written in the document. Predicates, functions and other
/// axes are not supported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XPath {
    steps: Vec<Step>,
    end: End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    at_any_depth: bool,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Any,
    Name(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// All texts in the elements that the steps lead to.
    Elements,
    /// The texts of those elements themselves, or at any depth below.
    Texts { at_any_depth: bool },
    /// Their attributes, or those at any depth below.
    Attributes { at_any_depth: bool, test: Test },
}

/// Why a path does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "XPath {path:?}: {reason}; supported are steps of names and *, after / or //, with @name, @* or text() at the end"
)]
pub struct XPathError {
    /// The path as written.
    pub path: String,
    /// What is not supported.
    pub reason: &'static str,
}

impl XPath {
    /// Compiles a path.
    ///
    /// # Errors
    /// [`XPathError`] says what is not supported.
    pub fn new(path: &str) -> Result<Self, XPathError> {
        let error = |reason| XPathError { path: path.to_owned(), reason };
        let mut rest = path;
        let mut compiled = Self { steps: Vec::new(), end: End::Elements };
        if !rest.starts_with('/') {
            return Err(error("it has to begin with /"));
        }
        while let Some(after) = rest.strip_prefix('/') {
            if compiled.end != End::Elements {
                return Err(error("nothing can follow an attribute or text()"));
            }
            let (at_any_depth, after) = match after.strip_prefix('/') {
                Some(after) => (true, after),
                None => (false, after),
            };
            let length = after.find('/').unwrap_or(after.len());
            let (step, tail) = after.split_at(length);
            rest = tail;
            if step == "text()" {
                compiled.end = End::Texts { at_any_depth };
            } else if let Some(name) = step.strip_prefix('@') {
                let test = Test::new(name).ok_or(error("an attribute's name is malformed"))?;
                compiled.end = End::Attributes { at_any_depth, test };
            } else {
                let test = Test::new(step).ok_or(error("a step is neither a name nor *"))?;
                compiled.steps.push(Step { at_any_depth, test });
            }
        }
        if compiled.steps.len() > MAX_STEPS {
            return Err(error("it has more than 32 steps"));
        }
        Ok(compiled)
    }

    /// One pass over the elements: for each, the set of step counts that lead exactly to it, as bits.
    pub(super) fn select(&self, document: &XmlDocument, sink: &mut dyn FnMut(&str)) {
        let done = 1_u64 << self.steps.len();
        let anywhere: u64 =
            self.steps.iter().enumerate().filter(|(_, step)| step.at_any_depth).map(|(at, _)| 1 << at).sum();
        // Before the root element no step has been taken.
        let mut reached: Vec<Reached> = Vec::with_capacity(document.elements.len());
        let before = Reached { exactly: 1, above: 1 };
        for element in &document.elements {
            let parent = element.parent.and_then(|parent| reached.get(parent).copied()).unwrap_or(before);
            let candidates = parent.exactly | parent.above & anywhere;
            let name = &document.store[element.name.clone()];
            let exactly = self.steps.iter().enumerate().fold(0, |bits, (at, step)| {
                if candidates >> at & 1 == 1 && step.test.matches(name) { bits | 2 << at } else { bits }
            });
            reached.push(Reached { exactly, above: parent.above | exactly });
        }
        let is_in = |element: usize, at_any_depth: bool| {
            reached
                .get(element)
                .is_some_and(|it| (if at_any_depth { it.above } else { it.exactly }) & done != 0)
        };
        match &self.end {
            End::Attributes { at_any_depth, test } => {
                for attribute in &document.attributes {
                    if is_in(attribute.element, *at_any_depth)
                        && test.matches(&document.store[attribute.name.clone()])
                    {
                        sink(&document.store[attribute.value.clone()]);
                    }
                }
            }
            end => {
                let at_any_depth = *end != End::Texts { at_any_depth: false };
                for text in &document.texts {
                    if is_in(text.element, at_any_depth) {
                        sink(&document.store[text.value.clone()]);
                    }
                }
            }
        }
    }
}

/// Which counts of steps lead to an element.
#[derive(Clone, Copy)]
struct Reached {
    /// Exactly to it.
    exactly: u64,
    /// To it or to an element above.
    above: u64,
}

impl Test {
    fn new(name: &str) -> Option<Self> {
        if name == "*" {
            return Some(Self::Any);
        }
        let is_name = !name.is_empty()
            && name.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.' | ':'))
            && !name.contains("::")
            && !name.starts_with(|letter: char| letter.is_ascii_digit() || letter == '-');
        is_name.then(|| Self::Name(name.to_owned()))
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Name(wanted) if wanted.contains(':') => wanted == name,
            Self::Name(wanted) => name.rsplit(':').next() == Some(wanted.as_str()),
        }
    }
}
