//! Selectors: names to numbers, patterns compiled, simple patterns to what they come down to.

use std::sync::Arc;

use super::{rule::Selector, symbols::Symbols};
use crate::{
    lang::ast::{SelectorDecl, TargetDecl},
    operators::pattern::Pattern,
    variables::Variable,
};

/// The selector of a target; the error says what is wrong with its pattern.
pub(crate) fn selector(target: &TargetDecl, symbols: &mut Symbols) -> Result<Selector, String> {
    Ok(match &target.selector {
        SelectorDecl::All => Selector::All,
        SelectorDecl::Name(name) if target.variable == Variable::Tx => {
            Selector::Tx(symbols.tx_key(name.as_bytes()))
        }
        SelectorDecl::Name(xpath) if target.variable == Variable::Xml => {
            Selector::XPath(symbols.xpath(xpath)?)
        }
        SelectorDecl::Name(name) => Selector::Name(symbols.name(name.as_bytes()), name.as_bytes().into()),
        SelectorDecl::Pattern(pattern) => match plain_prefix(pattern) {
            Some(prefix) => Selector::Prefix(prefix.into()),
            None => {
                let mut pattern =
                    Pattern::new(format!("(?i){pattern}").as_bytes()).map_err(|e| e.to_string())?;
                pattern.forget_syntax();
                Selector::Pattern(Arc::new(pattern))
            }
        },
    })
}

/// The literal of `^literal`.
fn plain_prefix(pattern: &str) -> Option<&[u8]> {
    let literal = pattern.strip_prefix('^')?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b':' | b'/');
    literal.bytes().all(plain).then_some(literal.as_bytes())
}
