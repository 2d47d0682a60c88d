//! Texts with macros: `Matched %{MATCHED_VAR} within %{tx.x}`.

use super::symbols::Symbols;
use crate::variables::Variable;

/// A text whose macros are resolved to what they read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Template {
    pub segments: Box<[Segment]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Text(Box<[u8]>),
    /// A TX variable.
    Tx(u32),
    /// A single value, or the first of a collection.
    Variable(Variable),
    /// A named value of a collection.
    Named(Variable, Box<[u8]>),
}

impl Template {
    /// Resolves a text; `unknown` gets the name of each macro that names no variable (it stays as it is written).
    pub(crate) fn new(text: &str, symbols: &mut Symbols, unknown: &mut dyn FnMut(&str)) -> Self {
        let mut segments = Vec::new();
        let mut plain = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("%{") {
            plain.extend_from_slice(&rest.as_bytes()[..start]);
            let Some(length) = rest[start..].find('}') else {
                rest = &rest[start..];
                break;
            };
            let name = &rest[start + 2..start + length];
            match segment(name, symbols) {
                Some(segment) => {
                    if !plain.is_empty() {
                        segments.push(Segment::Text(std::mem::take(&mut plain).into()));
                    }
                    segments.push(segment);
                }
                None => {
                    unknown(name);
                    plain.extend_from_slice(&rest.as_bytes()[start..=start + length]);
                }
            }
            rest = &rest[start + length + 1..];
        }
        plain.extend_from_slice(rest.as_bytes());
        if !plain.is_empty() {
            segments.push(Segment::Text(plain.into()));
        }
        Self { segments: segments.into() }
    }

    /// The text when it has no macro.
    pub(crate) fn literal(&self) -> Option<&[u8]> {
        match &*self.segments {
            [] => Some(b""),
            [Segment::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The TX key when it is one TX macro and nothing else.
    pub(crate) fn only_tx(&self) -> Option<u32> {
        match &*self.segments {
            [Segment::Tx(key)] => Some(*key),
            _ => None,
        }
    }
}

/// `TX.name`, `ARGS.name`, `ARGS:name`, `REMOTE_ADDR`.
fn segment(name: &str, symbols: &mut Symbols) -> Option<Segment> {
    let name = name.trim();
    let (variable, key) = match name.find(['.', ':']) {
        Some(at) => (&name[..at], Some(&name[at + 1..])),
        None => (name, None),
    };
    let variable = Variable::from_name(variable)?;
    Some(match key {
        Some(key) if variable == Variable::Tx => Segment::Tx(symbols.tx_key(key.as_bytes())),
        Some(key) if variable.is_collection() => Segment::Named(variable, key.as_bytes().into()),
        _ => Segment::Variable(variable),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments() {
        let mut symbols = Symbols::new(0);
        let x = symbols.tx_key(b"x");
        let text = |t: &str| Segment::Text(t.as_bytes().into());
        let rows = [
            ("", vec![], ""),
            ("plain", vec![text("plain")], ""),
            ("a %{tx.X}!", vec![text("a "), Segment::Tx(x), text("!")], ""),
            ("%{remote_addr}", vec![Segment::Variable(Variable::RemoteAddr)], ""),
            ("%{ARGS.a.b}", vec![Segment::Named(Variable::Args, b"a.b"[..].into())], ""),
            ("%{nothing} %{", vec![text("%{nothing} %{")], "nothing"),
            ("100%", vec![text("100%")], ""),
        ];
        for (input, expected, unknown) in rows {
            let mut said = String::new();
            let template = Template::new(input, &mut symbols, &mut |n| said.push_str(n));
            assert_eq!((&*template.segments, said.as_str()), (&*expected, unknown), "{input}");
        }
    }
}
