//! What a transaction's variables hold.

use super::{
    Variable,
    arena::{Arena, Span},
    fold::NO_NAME,
};

/// A value: bytes, or a number that need not be written out before somebody reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Bytes(Span),
    Int(i64),
}

/// A named value of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub name: Span,
    pub value: Span,
    /// The number of the name among those that rules mention; [`NO_NAME`] if none does.
    pub name_id: u32,
}

/// The name of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ItemName {
    /// A single value has none.
    None,
    Span(Span),
    /// A TX key.
    Tx(u32),
}

/// A value as a rule looks at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    pub variable: Variable,
    pub name: ItemName,
    pub value: Value,
    /// A count (`&`).
    pub is_count: bool,
}

/// The lists that hold named values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum List {
    ArgsGet,
    ArgsPost,
    RequestHeaders,
    RequestCookies,
    ResponseHeaders,
    Files,
    FilesSizes,
    FilesTmpNames,
    FilesTmpContent,
    MultipartFilename,
    MultipartName,
    MultipartPartHeaders,
    Env,
    Geo,
    Rule,
    Xml,
    Global,
    Ip,
    Resource,
    Session,
    User,
}

const LISTS: usize = 21;

/// Most values of one list; further ones are not kept.
pub(crate) const LIST_MAX: usize = 65_536;

/// What a collection shows of its lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Values(&'static [List]),
    Names(&'static [List]),
    Tx,
    MatchedVars,
    MatchedVarsNames,
    /// A single value.
    Scalar,
}

/// Where a variable's values are.
pub(crate) fn view(variable: Variable) -> View {
    use List as L;
    use Variable as V;
    match variable {
        V::Args => View::Values(&[L::ArgsGet, L::ArgsPost]),
        V::ArgsNames => View::Names(&[L::ArgsGet, L::ArgsPost]),
        V::ArgsGet => View::Values(&[L::ArgsGet]),
        V::ArgsGetNames => View::Names(&[L::ArgsGet]),
        V::ArgsPost => View::Values(&[L::ArgsPost]),
        V::ArgsPostNames => View::Names(&[L::ArgsPost]),
        V::RequestHeaders => View::Values(&[L::RequestHeaders]),
        V::RequestHeadersNames => View::Names(&[L::RequestHeaders]),
        V::RequestCookies => View::Values(&[L::RequestCookies]),
        V::RequestCookiesNames => View::Names(&[L::RequestCookies]),
        V::ResponseHeaders => View::Values(&[L::ResponseHeaders]),
        V::ResponseHeadersNames => View::Names(&[L::ResponseHeaders]),
        V::Files => View::Values(&[L::Files]),
        V::FilesNames => View::Names(&[L::Files]),
        V::FilesSizes => View::Values(&[L::FilesSizes]),
        V::FilesTmpnames => View::Values(&[L::FilesTmpNames]),
        V::FilesTmpContent => View::Values(&[L::FilesTmpContent]),
        V::MultipartFilename => View::Values(&[L::MultipartFilename]),
        V::MultipartName => View::Values(&[L::MultipartName]),
        V::MultipartPartHeaders => View::Values(&[L::MultipartPartHeaders]),
        V::Env => View::Values(&[L::Env]),
        V::Geo => View::Values(&[L::Geo]),
        V::Rule => View::Values(&[L::Rule]),
        V::Xml => View::Values(&[L::Xml]),
        V::Global => View::Values(&[L::Global]),
        V::Ip => View::Values(&[L::Ip]),
        V::Resource => View::Values(&[L::Resource]),
        V::Session => View::Values(&[L::Session]),
        V::User => View::Values(&[L::User]),
        V::Tx => View::Tx,
        V::MatchedVars => View::MatchedVars,
        V::MatchedVarsNames => View::MatchedVarsNames,
        _ => View::Scalar,
    }
}

/// Lists and single values.
#[derive(Debug)]
pub(crate) struct Store {
    lists: [Vec<Pair>; LISTS],
    scalars: [Option<Value>; super::SCALARS],
}

impl Default for Store {
    fn default() -> Self {
        Self { lists: Default::default(), scalars: [None; super::SCALARS] }
    }
}

impl Store {
    pub(crate) fn clear(&mut self) {
        for list in &mut self.lists {
            list.clear();
            list.shrink_to(4096);
        }
        self.scalars = [None; super::SCALARS];
    }

    pub(crate) fn list(&self, list: List) -> &[Pair] {
        &self.lists[list as usize]
    }

    pub(crate) fn clear_list(&mut self, list: List) {
        self.lists[list as usize].clear();
    }

    pub(crate) fn push(&mut self, list: List, name: Span, name_id: u32, value: Span) -> bool {
        let list = &mut self.lists[list as usize];
        if list.len() >= LIST_MAX {
            return false;
        }
        list.push(Pair { name, value, name_id });
        true
    }

    /// Sets the value of a name, in any case; adds it when it is not there.
    pub(crate) fn put(&mut self, arena: &Arena, list: List, name: Span, value: Span) {
        let wanted = arena.get(name);
        let found =
            self.lists[list as usize].iter_mut().find(|p| arena.get(p.name).eq_ignore_ascii_case(wanted));
        match found {
            Some(pair) => pair.value = value,
            None => {
                self.push(list, name, NO_NAME, value);
            }
        }
    }

    pub(crate) fn remove(&mut self, arena: &Arena, list: List, name: &[u8]) {
        self.lists[list as usize].retain(|p| !arena.get(p.name).eq_ignore_ascii_case(name));
    }

    pub(crate) fn find(&self, arena: &Arena, list: List, name: &[u8]) -> Option<Span> {
        self.lists[list as usize]
            .iter()
            .find(|p| arena.get(p.name).eq_ignore_ascii_case(name))
            .map(|p| p.value)
    }

    #[inline]
    pub(crate) fn scalar(&self, variable: Variable) -> Option<Value> {
        self.scalars.get(variable as usize).copied().flatten()
    }

    pub(crate) fn set(&mut self, variable: Variable, value: Value) {
        if let Some(slot) = self.scalars.get_mut(variable as usize) {
            *slot = Some(value);
        }
    }

    pub(crate) fn set_bytes(&mut self, variable: Variable, span: Span) {
        self.set(variable, Value::Bytes(span));
    }

    pub(crate) fn set_int(&mut self, variable: Variable, number: i64) {
        self.set(variable, Value::Int(number));
    }
}
