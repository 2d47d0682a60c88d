//! XML bodies: the element tree with its texts and attribute values, flattened.
//!
//! No DTD (a document type declaration is an error) and so no entities but the five of XML itself and character references: nothing is
//! expanded, fetched or included. Comments and processing instructions are left out; the texts on both sides of one, and CDATA
//! sections, are one text, as applications see it. Texts of whitespace alone are left out.

mod path;

#[cfg(test)]
mod tests;

use std::ops::Range;

use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

pub use path::{XPath, XPathError};

/// Bounds of parsing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct XmlLimits {
    /// Most elements within each other.
    pub depth: usize,
    /// Most elements, texts and attributes, each.
    pub entries: usize,
}

impl Default for XmlLimits {
    fn default() -> Self {
        Self { depth: 256, entries: 50_000 }
    }
}

/// Why a body is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// The text is not well-formed XML.
    #[error("XML: at byte {offset}: {reason}")]
    Malformed {
        /// Where, about.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A document type declaration: refused, whatever it says.
    #[error("XML: at byte {offset}: a document type declaration is not accepted")]
    DocumentType {
        /// Where.
        offset: u64,
    },
    /// The body is neither UTF-8 nor declared to be Latin-1 or ASCII.
    #[error("XML: the body is not UTF-8")]
    Encoding,
    /// Elements nest too deep.
    #[error("XML: nested deeper than {limit} levels")]
    TooDeep {
        /// The most levels.
        limit: usize,
    },
    /// There are too many elements, texts or attributes.
    #[error("XML: more than {limit} elements, texts or attributes")]
    TooMany {
        /// The most of each.
        limit: usize,
    },
}

/// A parsed document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct XmlDocument {
    /// All names and values, one after the other.
    store: String,
    elements: Vec<Element>,
    texts: Vec<Text>,
    attributes: Vec<Attribute>,
}

/// In document order; parents come before their children.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Element {
    name: Range<usize>,
    parent: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Text {
    element: usize,
    value: Range<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Attribute {
    element: usize,
    name: Range<usize>,
    value: Range<usize>,
}

impl XmlDocument {
    /// The texts, in the order in which they begin.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(|text| &self.store[text.value.clone()])
    }

    /// The attributes with their values, in order. Names have the prefix that they were written with.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attributes.iter().map(|it| (&self.store[it.name.clone()], &self.store[it.value.clone()]))
    }

    /// Hands each text to `sink` under a name of its elements, `xml.root.child`, local names only; a name of more than
    /// `name_bytes` bytes is cut. In order; at most depth times texts.
    pub fn arguments(&self, name_bytes: usize, sink: &mut dyn FnMut(&str, &str)) {
        let mut above = Vec::new();
        let mut name = String::new();
        for text in &self.texts {
            above.clear();
            let mut at = Some(text.element);
            while let Some(element) = at.and_then(|number| self.elements.get(number)) {
                above.push(element);
                at = element.parent;
            }
            name.clear();
            name.push_str("xml");
            for element in above.iter().rev() {
                let own = &self.store[element.name.clone()];
                name.push('.');
                name.push_str(own.rsplit_once(':').map_or(own, |(_, local)| local));
                if name.len() > name_bytes {
                    let end = (0..=name_bytes).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
                    name.truncate(end);
                    break;
                }
            }
            sink(&name, &self.store[text.value.clone()]);
        }
    }

    /// Hands what a path selects to `sink`, in order, each text or attribute value at most once. An element stands for all texts in it,
    /// one by one. Linear in the document.
    pub fn select(&self, path: &XPath, sink: &mut dyn FnMut(&str)) {
        path.select(self, sink);
    }
}

/// Parses a whole body.
///
/// # Errors
/// [`XmlError`] at the first thing that is not well-formed or beyond a limit.
pub fn parse(input: &[u8], limits: &XmlLimits) -> Result<XmlDocument, XmlError> {
    match std::str::from_utf8(input) {
        Ok(text) => Builder::new(limits).run(text),
        Err(_) if declares_latin1(input) => {
            let text: String = input.iter().map(|&byte| char::from(byte)).collect();
            Builder::new(limits).run(&text)
        }
        Err(_) => Err(XmlError::Encoding),
    }
}

/// Whether the XML declaration names an encoding of one byte a character whose lower half is ASCII.
fn declares_latin1(input: &[u8]) -> bool {
    let head = &input[..input.len().min(200)];
    let declaration = &head[..memchr::memmem::find(head, b"?>").unwrap_or(0)];
    let lower = declaration.to_ascii_lowercase();
    [&b"iso-8859-1"[..], b"windows-1252", b"us-ascii", b"latin1"]
        .iter()
        .any(|name| memchr::memmem::find(&lower, name).is_some())
}

/// An element that is not closed yet.
struct Open {
    element: usize,
    /// Its text so far, in pieces: child elements do not end it, so that `un<b/>ion` is one text.
    text: String,
}

struct Builder<'a> {
    limits: &'a XmlLimits,
    document: XmlDocument,
    open: Vec<Open>,
    has_root: bool,
}

impl<'a> Builder<'a> {
    fn new(limits: &'a XmlLimits) -> Self {
        Self { limits, document: XmlDocument::default(), open: Vec::new(), has_root: false }
    }

    fn run(mut self, text: &str) -> Result<XmlDocument, XmlError> {
        let mut reader = Reader::from_str(text.strip_prefix('\u{FEFF}').unwrap_or(text));
        loop {
            let offset = reader.buffer_position();
            let event =
                reader.read_event().map_err(|error| malformed(reader.error_position(), error.to_string()))?;
            match event {
                Event::Start(tag) => self.start(&tag, offset)?,
                Event::Empty(tag) => {
                    self.start(&tag, offset)?;
                    self.end()?;
                }
                Event::End(_) => self.end()?,
                Event::Text(text) => self.text(&text.xml10_content(), offset)?,
                Event::CData(text) if !self.open.is_empty() => self.text(&text.xml10_content(), offset)?,
                Event::CData(_) => {
                    return Err(malformed(offset, "text outside of the root element".to_owned()));
                }
                Event::GeneralRef(reference) => self.reference(&reference, offset)?,
                Event::DocType(_) => return Err(XmlError::DocumentType { offset }),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
                Event::Eof => break,
            }
        }
        if !self.open.is_empty() {
            return Err(malformed(reader.buffer_position(), "an element is not closed".to_owned()));
        }
        if !self.has_root {
            return Err(malformed(0, "there is no element".to_owned()));
        }
        Ok(self.document)
    }

    fn start(&mut self, tag: &BytesStart<'_>, offset: u64) -> Result<(), XmlError> {
        if self.open.is_empty() && self.has_root {
            return Err(malformed(offset, "a second root element".to_owned()));
        }
        if self.open.len() == self.limits.depth {
            return Err(XmlError::TooDeep { limit: self.limits.depth });
        }
        self.has_root = true;
        let name = self.store(tag.name().as_ref());
        let parent = self.open.last().map(|open| open.element);
        let element = self.document.elements.len();
        self.bounded(element)?;
        self.document.elements.push(Element { name, parent });
        // Checking for duplicates would cost the square of their number.
        for attribute in tag.attributes().with_checks(false) {
            let attribute = attribute.map_err(|error| malformed(offset, error.to_string()))?;
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|error| malformed(offset, error.to_string()))?;
            self.bounded(self.document.attributes.len())?;
            let name = self.store(attribute.key.as_ref());
            let value = self.store(&value);
            self.document.attributes.push(Attribute { element, name, value });
        }
        self.open.push(Open { element, text: String::new() });
        Ok(())
    }

    fn end(&mut self) -> Result<(), XmlError> {
        if let Some(open) = self.open.pop()
            && !open.text.trim_ascii().is_empty()
        {
            self.bounded(self.document.texts.len())?;
            let value = self.store(&open.text);
            self.document.texts.push(Text { element: open.element, value });
        }
        Ok(())
    }

    fn text(&mut self, text: &str, offset: u64) -> Result<(), XmlError> {
        match self.open.last_mut() {
            Some(open) => open.text.push_str(text),
            None if text.trim_ascii().is_empty() => {}
            None => return Err(malformed(offset, "text outside of the root element".to_owned())),
        }
        Ok(())
    }

    fn reference(&mut self, reference: &BytesRef<'_>, offset: u64) -> Result<(), XmlError> {
        let letter = match reference.resolve_char_ref() {
            Ok(Some(letter)) => letter,
            Ok(None) => match reference.xml10_content().as_ref() {
                "lt" => '<',
                "gt" => '>',
                "amp" => '&',
                "quot" => '"',
                "apos" => '\'',
                _ => return Err(malformed(offset, "an entity that XML does not define".to_owned())),
            },
            Err(error) => return Err(malformed(offset, error.to_string())),
        };
        self.text(letter.encode_utf8(&mut [0; 4]), offset)
    }

    fn store(&mut self, text: &str) -> Range<usize> {
        let start = self.document.store.len();
        self.document.store.push_str(text);
        start..self.document.store.len()
    }

    fn bounded(&self, count: usize) -> Result<(), XmlError> {
        if count < self.limits.entries {
            Ok(())
        } else {
            Err(XmlError::TooMany { limit: self.limits.entries })
        }
    }
}

fn malformed(offset: u64, reason: String) -> XmlError {
    XmlError::Malformed { offset, reason }
}
