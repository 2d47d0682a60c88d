//! The part of Go's text/template with sprig that test data uses.
//!
//! go-ftw renders `data` and, where that fails, sends the text as written; payloads such as `{{7*7}}` count on it.
//! Supported are literals, pipelines, trim markers, comments and the string functions below; all else is a failure in
//! that sense.

/// Longest text that a template may make, 16 MiB: longer is sent as written.
const MAX_OUTPUT: usize = 16 << 20;

/// `text` with its templates rendered, or unchanged where they cannot be.
pub fn expand(text: &str) -> String {
    render(text).unwrap_or_else(|| text.to_owned())
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(String),
    Number(i64),
}

impl Value {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        }
    }
}

fn render(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut trim_next = false;
    while let Some(open) = rest.find("{{") {
        let mut before = &rest[..open];
        let mut inside = &rest[open + 2..];
        let close = inside.find("}}")?;
        rest = &inside[close + 2..];
        inside = &inside[..close];
        if trim_next {
            before = before.trim_start_matches([' ', '\t', '\r', '\n']);
        }
        if let Some(stripped) = inside.strip_prefix('-').filter(|s| s.starts_with([' ', '\t', '\r', '\n'])) {
            before = before.trim_end_matches([' ', '\t', '\r', '\n']);
            inside = stripped;
        }
        trim_next = inside.ends_with(" -");
        let inside = inside.strip_suffix(" -").unwrap_or(inside).trim();
        out.push_str(before);
        if !(inside.starts_with("/*") && inside.ends_with("*/")) {
            out.push_str(&pipeline(inside)?.into_text());
        }
        if out.len() > MAX_OUTPUT {
            return None;
        }
    }
    out.push_str(if trim_next { rest.trim_start_matches([' ', '\t', '\r', '\n']) } else { rest });
    Some(out)
}

/// `a | f x | g`: each result is the last argument of the next.
fn pipeline(source: &str) -> Option<Value> {
    let mut piped = None;
    for command in split_commands(&tokens(source)?)? {
        piped = Some(evaluate(&command, piped)?);
    }
    piped
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Value(Value),
    Pipe,
    Open,
    Close,
}

fn tokens(source: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut chars = source.chars().peekable();
    while let Some(&c) = chars.peek() {
        match c {
            ' ' | '\t' | '\r' | '\n' => {
                chars.next();
            }
            '|' | '(' | ')' => {
                chars.next();
                tokens.push(match c {
                    '|' => Token::Pipe,
                    '(' => Token::Open,
                    _ => Token::Close,
                });
            }
            '"' | '`' => tokens.push(Token::Value(Value::Text(quoted(&mut chars)?))),
            _ => {
                let mut word = String::new();
                while let Some(&c) = chars.peek() {
                    if !(c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '+') {
                        break;
                    }
                    word.push(c);
                    chars.next();
                }
                // Anything else (fields, variables, operators) is beyond this subset.
                if word.is_empty()
                    || chars.peek().is_some_and(|c| !matches!(c, ' ' | '\t' | '\n' | '\r' | '|' | '(' | ')'))
                {
                    return None;
                }
                tokens.push(
                    word.parse().map_or(Token::Word(word), |number| Token::Value(Value::Number(number))),
                );
            }
        }
    }
    Some(tokens)
}

fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let quote = chars.next()?;
    let mut text = String::new();
    loop {
        match chars.next()? {
            c if c == quote => return Some(text),
            '\n' if quote == '"' => return None,
            '\\' if quote == '"' => text.push(match chars.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'x' => hex(chars, 2)?,
                'u' => hex(chars, 4)?,
                c @ ('\\' | '"') => c,
                _ => return None,
            }),
            c => text.push(c),
        }
    }
}

fn hex(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, digits: usize) -> Option<char> {
    let code: String = chars.by_ref().take(digits).collect();
    char::from_u32(u32::from_str_radix(&code, 16).ok()?)
}

fn split_commands(tokens: &[Token]) -> Option<Vec<Vec<Token>>> {
    let mut commands = vec![Vec::new()];
    let mut depth = 0i32;
    for token in tokens {
        match token {
            Token::Open => depth += 1,
            Token::Close => depth -= 1,
            Token::Pipe if depth == 0 => {
                commands.push(Vec::new());
                continue;
            }
            _ => {}
        }
        commands.last_mut()?.push(token.clone());
    }
    (depth == 0 && commands.iter().all(|c| !c.is_empty())).then_some(commands)
}

fn evaluate(command: &[Token], piped: Option<Value>) -> Option<Value> {
    let (name, rest) = match command.split_first()? {
        (Token::Word(name), rest) => (Some(name.as_str()), rest),
        _ => (None, command),
    };
    let mut arguments = arguments(rest)?;
    arguments.extend(piped);
    match (name, arguments.len()) {
        (Some(name), _) => call(name, &arguments),
        (None, 1) => arguments.pop(),
        (None, _) => None,
    }
}

fn arguments(tokens: &[Token]) -> Option<Vec<Value>> {
    let mut arguments = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        match &tokens[index] {
            Token::Value(value) => arguments.push(value.clone()),
            Token::Open => {
                let mut depth = 1;
                let start = index + 1;
                while depth > 0 {
                    index += 1;
                    match tokens.get(index)? {
                        Token::Open => depth += 1,
                        Token::Close => depth -= 1,
                        _ => {}
                    }
                }
                let mut piped = None;
                for command in split_commands(&tokens[start..index])? {
                    piped = Some(evaluate(&command, piped)?);
                }
                arguments.push(piped?);
            }
            _ => return None,
        }
        index += 1;
    }
    Some(arguments)
}

fn call(name: &str, arguments: &[Value]) -> Option<Value> {
    use Value::{Number, Text};
    Some(match (name, arguments) {
        ("repeat", [Number(count), Text(text)]) => {
            let count = usize::try_from(*count).unwrap_or(0);
            if text.len().saturating_mul(count) > MAX_OUTPUT {
                return None;
            }
            Text(text.repeat(count))
        }
        ("upper", [Text(text)]) => Text(text.to_uppercase()),
        ("lower", [Text(text)]) => Text(text.to_lowercase()),
        ("trim", [Text(text)]) => Text(text.trim().to_owned()),
        ("quote", [Text(text)]) => Text(format!("{text:?}")),
        ("nospace", [Text(text)]) => Text(text.chars().filter(|c| !c.is_whitespace()).collect()),
        ("replace", [Text(old), Text(new), Text(text)]) => Text(text.replace(old.as_str(), new)),
        ("trunc", [Number(length), Text(text)]) => {
            Text(text.get(..usize::try_from(*length).ok()?.min(text.len()))?.to_owned())
        }
        ("len", [Text(text)]) => Number(i64::try_from(text.len()).ok()?),
        ("b64enc", [Text(text)]) => {
            use base64::Engine as _;
            Text(base64::engine::general_purpose::STANDARD.encode(text))
        }
        ("add", numbers) => Number(fold(numbers, i64::checked_add)?),
        ("mul", numbers) => Number(fold(numbers, i64::checked_mul)?),
        ("sub", [Number(a), Number(b)]) => Number(a.checked_sub(*b)?),
        ("print" | "cat", values) if values.iter().all(|v| matches!(v, Text(_))) => {
            let parts: Vec<String> = values.iter().cloned().map(Value::into_text).collect();
            Text(parts.join(if name == "cat" { " " } else { "" }))
        }
        _ => return None,
    })
}

fn fold(values: &[Value], operation: fn(i64, i64) -> Option<i64>) -> Option<i64> {
    let mut numbers = values.iter().map(|value| match value {
        Value::Number(number) => Some(*number),
        Value::Text(_) => None,
    });
    let first = numbers.next()??;
    numbers.try_fold(first, |total, number| operation(total, number?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_rendered_or_left_alone() {
        let rows = [
            ("a{{ repeat 3 \"xy\" }}b", "axyxyxyb"),
            ("{{ \"1\" | repeat 4 }}", "1111"),
            ("{{ (repeat 2 \"a\") | upper }}", "AA"),
            ("{{ repeat (add 1 2) `q` }}", "qqq"),
            ("x {{- \"y\" -}} z", "xyz"),
            ("a{{/* note */}}b", "ab"),
            ("{{7*7}}", "{{7*7}}"),
            ("{{constructor.constructor('alert(1)')()}}", "{{constructor.constructor('alert(1)')()}}"),
            ("{{ repeat", "{{ repeat"),
            ("{{ repeat 2 \"a\" }}{{.x}}", "{{ repeat 2 \"a\" }}{{.x}}"),
            ("{{ repeat 999999999 \"a\" }}", "{{ repeat 999999999 \"a\" }}"),
            ("no template", "no template"),
        ];
        for (source, expected) in rows {
            assert_eq!(expand(source), expected, "{source}");
        }
    }
}
