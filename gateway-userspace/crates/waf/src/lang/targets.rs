//! A rule's list of targets: `ARGS|!ARGS:password|&REQUEST_HEADERS:/^x-/`.

use super::ast::{Position, SelectorDecl, TargetDecl};
use crate::variables::Variable;

/// What is wrong at an offset.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TargetError {
    pub offset: usize,
    pub message: String,
    pub help: String,
}

/// Parses a list separated by `|` (or `,`, as exclusions are written as well). Good ones are given even when others are bad.
pub(super) fn parse(text: &str) -> (Vec<(usize, TargetDecl)>, Vec<TargetError>) {
    let mut targets = Vec::new();
    let mut errors = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let lead = rest.len() - rest.trim_start().len();
        at += lead;
        let rest = &text[at..];
        let length = one_length(rest);
        let one = &rest[..length];
        if one.trim().is_empty() {
            if length < rest.len() || !rest.is_empty() {
                errors.push(error(at, "an empty target", "take the extra | away"));
            }
        } else {
            match parse_one(one) {
                Ok(target) => targets.push((at, target)),
                Err((offset, message, help)) => {
                    errors.push(TargetError { offset: at + offset, message, help });
                }
            }
        }
        at += length + 1;
    }
    if targets.is_empty() && errors.is_empty() {
        errors.push(error(0, "no target", "name a variable, like ARGS"));
    }
    (targets, errors)
}

fn error(offset: usize, message: &str, help: &str) -> TargetError {
    TargetError { offset, message: message.to_owned(), help: help.to_owned() }
}

/// The length of the first target: up to a separator outside of quotes and of patterns.
fn one_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let end = bytes.iter().position(|b| matches!(b, b'|' | b',')).unwrap_or(bytes.len());
    let Some(colon) = bytes[..end].iter().position(|b| *b == b':') else { return end };
    let variable = text[..colon].trim_start_matches(['!', '&']).trim();
    let selector = &bytes[colon + 1..];
    let is_xpath = variable.eq_ignore_ascii_case("XML");
    let closing = match selector.first() {
        Some(b'\'') => selector.iter().skip(1).position(|b| *b == b'\'').map(|n| n + 1),
        Some(b'/') if !is_xpath => pattern_end(selector),
        Some(_) | None => None,
    };
    match closing {
        Some(closing) => {
            let after = colon + 1 + closing + 1;
            bytes[after..].iter().position(|b| matches!(b, b'|' | b',')).map_or(bytes.len(), |n| after + n)
        }
        None if is_xpath => bytes.iter().position(|b| *b == b'|').unwrap_or(bytes.len()),
        None => end,
    }
}

/// Where `/pattern/` ends: at a slash without a backslash before it and with a separator or nothing after it.
fn pattern_end(selector: &[u8]) -> Option<usize> {
    let mut at = 1;
    while at < selector.len() {
        match selector[at] {
            b'\\' => at += 1,
            b'/' if matches!(selector.get(at + 1), None | Some(b'|' | b',' | b'\'' | b' ')) => {
                return Some(at);
            }
            _ => {}
        }
        at += 1;
    }
    None
}

fn parse_one(text: &str) -> Result<TargetDecl, (usize, String, String)> {
    let text = text.trim_end();
    let body = text.trim_start_matches(['!', '&', ' ']);
    let marks = &text[..text.len() - body.len()];
    let (negated, count) = (marks.contains('!'), marks.contains('&'));
    let (name, selector) = match body.split_once(':') {
        Some((name, selector)) => (name, Some(selector)),
        None => (body, None),
    };
    let at = marks.len();
    let Some(variable) = Variable::from_name(name.trim()) else {
        let help = match Variable::similar(name) {
            Some(near) => format!("did you mean {near}?"),
            None => "see the list of variables in the manual".to_owned(),
        };
        return Err((at, format!("there is no variable {name}"), help));
    };
    let selector = match selector {
        None | Some("") => SelectorDecl::All,
        Some(selector) => parse_selector(variable, selector),
    };
    if selector != SelectorDecl::All && !variable.is_collection() {
        let help = format!("write {name} alone");
        return Err((at, format!("{name} is a single value and takes no selector"), help));
    }
    Ok(TargetDecl { position: Position::default(), negated, count, variable, selector })
}

fn parse_selector(variable: Variable, text: &str) -> SelectorDecl {
    let unquoted = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')).unwrap_or(text);
    if variable == Variable::Xml {
        return SelectorDecl::Name(unquoted.to_owned());
    }
    match unquoted.strip_prefix('/').and_then(|t| t.strip_suffix('/')) {
        Some(pattern) if !pattern.is_empty() => SelectorDecl::Pattern(pattern.to_owned()),
        _ => SelectorDecl::Name(unquoted.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        let (targets, errors) = parse(text);
        let mut out: Vec<String> = targets
            .iter()
            .map(|(_, t)| {
                let marks = format!("{}{}", if t.negated { "!" } else { "" }, if t.count { "&" } else { "" });
                match &t.selector {
                    SelectorDecl::All => format!("{marks}{}", t.variable.name()),
                    SelectorDecl::Name(n) => format!("{marks}{} = {n}", t.variable.name()),
                    SelectorDecl::Pattern(p) => format!("{marks}{} ~ {p}", t.variable.name()),
                }
            })
            .collect();
        out.extend(errors.iter().map(|e| format!("{}: {}", e.offset, e.message)));
        out.join("; ")
    }

    #[test]
    fn lists() {
        let rows = [
            ("ARGS", "ARGS"),
            ("args|!ARGS:a.b|&TX:x", "ARGS; !ARGS = a.b; &TX = x"),
            ("XML:/*|XML://@*", "XML = /*; XML = //@*"),
            ("TX:/^a|b/|ARGS", "TX ~ ^a|b; ARGS"),
            ("!ARGS_NAMES:/^[\\w]+\\[[\\w\\-]*?\\]$/|ARGS", "!ARGS_NAMES ~ ^[\\w]+\\[[\\w\\-]*?\\]$; ARGS"),
            ("REQUEST_COOKIES:/\\x22?\\x24Version/", "REQUEST_COOKIES ~ \\x22?\\x24Version"),
            ("ARGS:'/a|b/'|ARGS:'x|y'", "ARGS ~ a|b; ARGS = x|y"),
            ("ARGS:/a", "ARGS = /a"),
            ("ARGS:a,ARGS:b", "ARGS = a; ARGS = b"),
            ("ARGZ|ARGS", "ARGS; 0: there is no variable ARGZ"),
            ("ARGS||ARGS", "ARGS; ARGS; 5: an empty target"),
            ("REQUEST_METHOD:x", "0: REQUEST_METHOD is a single value and takes no selector"),
            ("", "0: no target"),
        ];
        for (text, expected) in rows {
            assert_eq!(show(text), expected, "{text}");
        }
    }
}
