//! An action list: `id:1,phase:2,msg:'a, b',setvar:'tx.x=+1'`.

/// An action as written, with its offset.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RawAction {
    pub offset: usize,
    pub name: String,
    pub value: Option<String>,
}

/// Splits a list at the commas outside of single quotes. `Err` is the offset of a quote that nothing closes.
pub(super) fn parse(text: &str) -> Result<Vec<RawAction>, usize> {
    let bytes = text.as_bytes();
    let mut actions = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at].is_ascii_whitespace() || bytes[at] == b',' {
            at += 1;
            continue;
        }
        let offset = at;
        let name_end =
            bytes[at..].iter().position(|b| matches!(b, b':' | b',')).map_or(bytes.len(), |n| at + n);
        let name = text[at..name_end].trim().to_ascii_lowercase();
        at = name_end;
        let mut value = None;
        if bytes.get(at) == Some(&b':') {
            let (parsed, end) = parse_value(text, at + 1)?;
            value = Some(parsed);
            at = end;
        }
        actions.push(RawAction { offset, name, value });
    }
    Ok(actions)
}

/// A value from `from` on and where it ends.
fn parse_value(text: &str, from: usize) -> Result<(String, usize), usize> {
    let bytes = text.as_bytes();
    let mut at = from;
    let mut quote_opened = None;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            b'\'' if quote_opened.is_some() && ends_value(bytes, at + 1) => quote_opened = None,
            b'\'' if quote_opened.is_none() && opens_value(bytes, from, at) => quote_opened = Some(at),
            b',' if quote_opened.is_none() => break,
            _ => {}
        }
        at += 1;
    }
    let at = at.min(bytes.len());
    if let Some(offset) = quote_opened {
        return Err(offset);
    }
    let raw = text[from..at].trim();
    let value = match raw.strip_prefix('\'').and_then(|r| r.strip_suffix('\'')) {
        Some(inner) => inner.replace("\\'", "'"),
        None => match raw.split_once("='") {
            // ctl:name='value' and the like.
            Some((head, tail)) if tail.ends_with('\'') => format!("{head}={}", &tail[..tail.len() - 1]),
            _ => raw.to_owned(),
        },
    };
    Ok((value, at))
}

/// A quote opens a value at its start, or after an equals sign.
fn opens_value(bytes: &[u8], from: usize, at: usize) -> bool {
    bytes[from..at].iter().all(u8::is_ascii_whitespace) || bytes.get(at.wrapping_sub(1)) == Some(&b'=')
}

/// A quote closes where a comma or the end follows.
fn ends_value(bytes: &[u8], after: usize) -> bool {
    let rest = bytes.get(after..).unwrap_or_default();
    matches!(rest.iter().find(|b| !b.is_ascii_whitespace()), None | Some(b','))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        match parse(text) {
            Ok(actions) => {
                let show = |a: RawAction| a.name + &a.value.map_or(String::new(), |v| format!("={v}"));
                actions.into_iter().map(show).collect::<Vec<_>>().join(";")
            }
            Err(offset) => format!("open at {offset}"),
        }
    }

    #[test]
    fn lists() {
        let rows = [
            ("id:1,phase:2,pass", "id=1;phase=2;pass"),
            ("id:1,   T:none,  t:lowercase ", "id=1;t=none;t=lowercase"),
            ("msg:'a, b',log", "msg=a, b;log"),
            ("msg:'it\\'s',log", "msg=it's;log"),
            ("msg:'it's so',log", "msg=it's so;log"),
            ("setvar:'tx.a=+%{tx.b}',chain", "setvar=tx.a=+%{tx.b};chain"),
            ("setvar:tx.a='x,y',chain", "setvar=tx.a=x,y;chain"),
            ("setvar:!tx.a", "setvar=!tx.a"),
            ("logdata:'%{A}: %{B}'", "logdata=%{A}: %{B}"),
            ("ctl:ruleRemoveTargetById=1;ARGS:a,pass", "ctl=ruleRemoveTargetById=1;ARGS:a;pass"),
            ("msg:'x", "open at 4"),
            ("", ""),
            (",,log,", "log"),
        ];
        for (text, expected) in rows {
            assert_eq!(show(text), expected, "{text}");
        }
    }
}
