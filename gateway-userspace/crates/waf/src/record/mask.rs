//! Hides in the audit log what `sanitise*` actions name.

use crate::{MatchedValue, Sanitised};

/// Shortest value of an argument or header that is looked for outside its own place: shorter ones would be found
/// everywhere.
const VALUE_MIN_BYTES: usize = 3;

/// What is to be hidden.
#[derive(Debug, Default)]
pub(super) struct Mask {
    arguments: Vec<Vec<u8>>,
    request_headers: Vec<Vec<u8>>,
    response_headers: Vec<Vec<u8>>,
    values: Vec<Hidden>,
}

#[derive(Debug)]
struct Hidden {
    bytes: Vec<u8>,
    keep_first: usize,
    keep_last: usize,
}

impl Mask {
    /// The mask for a transaction, given its arguments and headers: their values are hidden in messages and bodies too.
    pub(super) fn new(
        sanitised: &[Sanitised],
        arguments: &[MatchedValue],
        request_headers: &[MatchedValue],
        response_headers: &[MatchedValue],
    ) -> Self {
        let mut mask = Self::default();
        for what in sanitised {
            match what {
                Sanitised::Argument(name) => {
                    mask.hide_values(name, arguments);
                    mask.arguments.push(name.to_vec());
                }
                Sanitised::RequestHeader(name) => {
                    mask.hide_values(name, request_headers);
                    mask.request_headers.push(name.to_vec());
                }
                Sanitised::ResponseHeader(name) => {
                    mask.hide_values(name, response_headers);
                    mask.response_headers.push(name.to_vec());
                }
                Sanitised::Bytes { value, keep_first, keep_last } => mask.values.push(Hidden {
                    bytes: value.to_vec(),
                    keep_first: *keep_first,
                    keep_last: *keep_last,
                }),
            }
        }
        // Longer ones first: a part of a value must not keep the whole of it from being found.
        mask.values.sort_by_key(|hidden| std::cmp::Reverse(hidden.bytes.len()));
        mask
    }

    fn hide_values(&mut self, name: &[u8], values: &[MatchedValue]) {
        let own = values.iter().filter(|value| name_of(value).eq_ignore_ascii_case(name));
        for value in own.filter(|value| value.value.len() >= VALUE_MIN_BYTES) {
            self.values.push(Hidden { bytes: value.value.to_vec(), keep_first: 0, keep_last: 0 });
        }
    }

    /// A text that may have hidden values in it.
    pub(super) fn text(&self, text: &[u8]) -> Vec<u8> {
        let mut shown = text.to_vec();
        for hidden in &self.values {
            let len = hidden.bytes.len();
            let kept = hidden.keep_first.saturating_add(hidden.keep_last);
            if len == 0 || kept >= len {
                continue;
            }
            let finder = memchr::memmem::Finder::new(&hidden.bytes);
            let places: Vec<usize> = finder.find_iter(&shown).collect();
            for at in places {
                shown[at + hidden.keep_first..at + len - hidden.keep_last].fill(b'*');
            }
        }
        shown
    }

    /// A query or a form: the values of hidden arguments as well, however they are encoded.
    pub(super) fn form(&self, text: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(text.len());
        for (index, pair) in text.split(|&byte| byte == b'&').enumerate() {
            if index > 0 {
                shown.push(b'&');
            }
            let (name, value) = match pair.iter().position(|&byte| byte == b'=') {
                Some(at) => pair.split_at(at + 1),
                None => (pair, &[][..]),
            };
            shown.extend_from_slice(name);
            if self.is_hidden_argument(name.strip_suffix(b"=").unwrap_or(name)) {
                shown.resize(shown.len() + value.len(), b'*');
            } else {
                shown.extend_from_slice(value);
            }
        }
        self.text(&shown)
    }

    /// The request target.
    pub(super) fn uri(&self, uri: &[u8]) -> Vec<u8> {
        match uri.iter().position(|&byte| byte == b'?') {
            Some(at) => {
                let mut shown = self.text(&uri[..=at]);
                shown.extend_from_slice(&self.form(&uri[at + 1..]));
                shown
            }
            None => self.text(uri),
        }
    }

    /// The value of an argument.
    pub(super) fn argument(&self, name: &[u8], value: &[u8]) -> Vec<u8> {
        self.header(&self.arguments, name, value)
    }

    /// The value of a request header.
    pub(super) fn request_header(&self, name: &[u8], value: &[u8]) -> Vec<u8> {
        self.header(&self.request_headers, name, value)
    }

    /// The value of a response header.
    pub(super) fn response_header(&self, name: &[u8], value: &[u8]) -> Vec<u8> {
        self.header(&self.response_headers, name, value)
    }

    fn header(&self, hidden: &[Vec<u8>], name: &[u8], value: &[u8]) -> Vec<u8> {
        if hidden.iter().any(|own| own.eq_ignore_ascii_case(name)) {
            vec![b'*'; value.len()]
        } else {
            self.text(value)
        }
    }

    fn is_hidden_argument(&self, raw_name: &[u8]) -> bool {
        if self.arguments.is_empty() {
            return false;
        }
        let mut decoded = Vec::new();
        let name = match crate::transformations::Transformation::UrlDecodeUni.apply(raw_name, &mut decoded) {
            crate::transformations::Outcome::Changed => decoded.as_slice(),
            crate::transformations::Outcome::Unchanged => raw_name,
        };
        self.arguments.iter().any(|hidden| hidden.eq_ignore_ascii_case(name))
    }
}

/// The name within a collection: `a` of `ARGS:a`.
pub(super) fn name_of(value: &MatchedValue) -> &[u8] {
    let full = value.variable.as_bytes();
    full.iter().position(|&byte| byte == b':').map_or(&[], |at| &full[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Text;

    fn text(text: &str) -> Text {
        Text::from(text.as_bytes())
    }

    fn mask() -> Mask {
        let arguments = [MatchedValue { variable: text("ARGS:pass"), value: text("s3cret") }];
        let headers =
            [MatchedValue { variable: text("REQUEST_HEADERS:Authorization"), value: text("Basic abc") }];
        Mask::new(
            &[
                Sanitised::Argument(text("PASS")),
                Sanitised::RequestHeader(text("authorization")),
                Sanitised::Bytes { value: text("4111222233334444"), keep_first: 1, keep_last: 4 },
            ],
            &arguments,
            &headers,
            &[],
        )
    }

    #[test]
    fn hidden_things_are_starred() {
        let mask = mask();
        let rows = [
            (mask.uri(b"/x?a=1&p%61ss=q%20r&b=2"), "/x?a=1&p%61ss=*****&b=2"),
            (mask.form(b"pass=s3cret&passport=1"), "pass=******&passport=1"),
            (mask.text(b"{\"pass\":\"s3cret\"}"), "{\"pass\":\"******\"}"),
            (mask.text(b"card 4111222233334444."), "card 4***********4444."),
            (mask.request_header(b"Authorization", b"Basic abc"), "*********"),
            (mask.request_header(b"X-Copy", b"is Basic abc"), "is *********"),
            (mask.response_header(b"Authorization", b"open"), "open"),
        ];
        for (shown, expected) in rows {
            assert_eq!(String::from_utf8_lossy(&shown), expected);
        }
    }

    #[test]
    fn no_sanitise_action_hides_nothing() {
        let mask = Mask::new(&[], &[], &[], &[]);
        assert_eq!(mask.uri(b"/x?pass=1"), b"/x?pass=1");
    }
}
