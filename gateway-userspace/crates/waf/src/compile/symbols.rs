//! Names to numbers, at load.

use crate::variables::fold::Names;

/// What rules mention by name.
#[derive(Clone, Debug)]
pub(crate) struct Symbols {
    /// Keys of TX; the first ten are the captures 0 to 9.
    pub tx: Names,
    /// Names of headers, arguments, cookies that selectors mention.
    pub names: Names,
    /// XPath expressions.
    pub xpaths: Vec<String>,
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

    pub(crate) fn name(&mut self, name: &[u8]) -> u32 {
        self.names.intern(name)
    }

    pub(crate) fn xpath(&mut self, expression: &str) -> u32 {
        match self.xpaths.iter().position(|x| x == expression) {
            Some(at) => at as u32,
            None => {
                self.xpaths.push(expression.to_owned());
                self.xpaths.len() as u32 - 1
            }
        }
    }
}
