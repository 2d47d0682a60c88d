//! Names to numbers, at load.

use super::rule::Selector;
use crate::{
    body::xml::XPath,
    variables::{fold::Names, tx::CAPTURES},
};

/// What rules mention by name.
#[derive(Clone, Debug)]
pub(crate) struct Symbols {
    /// Keys of TX; the first ten are the captures 0 to 9.
    pub tx: Names,
    /// Names of headers, arguments, cookies that selectors mention.
    pub names: Names,
    /// XPath expressions.
    pub xpaths: Vec<(String, XPath)>,
}

impl Symbols {
    pub(crate) fn new(seed: u64) -> Self {
        let mut tx = Names::new(seed);
        for digit in b'0'..=b'9' {
            tx.intern(&[digit]);
        }
        Self { tx, names: Names::new(seed), xpaths: Vec::new() }
    }

    pub(crate) fn tx_key(&mut self, name: &[u8]) -> u32 {
        self.tx.intern(name)
    }

    /// The TX keys that a selector of patterns selects, but the captures.
    pub(crate) fn tx_keys_of(&self, selector: &Selector) -> Box<[u32]> {
        let by_name = matches!(selector, Selector::Prefix(_) | Selector::Pattern(_));
        let keys =
            self.tx.iter().filter(|(key, name)| by_name && *key >= CAPTURES && selector.selects_name(name));
        keys.map(|(key, _)| key).collect()
    }

    pub(crate) fn name(&mut self, name: &[u8]) -> u32 {
        self.names.intern(name)
    }

    /// The number of an expression; the error says what is wrong with it.
    pub(crate) fn xpath(&mut self, expression: &str) -> Result<u32, String> {
        if let Some(at) = self.xpaths.iter().position(|x| x.0 == expression) {
            return Ok(at as u32);
        }
        let path = XPath::new(expression).map_err(|e| e.to_string())?;
        self.xpaths.push((expression.to_owned(), path));
        Ok(self.xpaths.len() as u32 - 1)
    }
}
