//! Physical lines into logical ones: a backslash at a line's end carries on with the next.

use super::ast::Position;

/// A directive's text with the places that its pieces come from.
pub(super) struct LogicalLine {
    pub text: String,
    /// (offset in `text`, line): where each physical line begins.
    starts: Vec<(usize, u32)>,
}

impl LogicalLine {
    /// The place of an offset of `text`.
    pub fn position(&self, file: u32, offset: usize) -> Position {
        let at = self.starts.partition_point(|(start, _)| *start <= offset).saturating_sub(1);
        let (start, line) = self.starts.get(at).copied().unwrap_or((0, 1));
        Position { file, line, column: (offset - start.min(offset)) as u32 + 1 }
    }
}

/// The logical lines of a file; comments and empty lines left out. A comment ends with its own line.
pub(super) fn logical_lines(text: &str) -> Vec<LogicalLine> {
    let mut lines = Vec::new();
    let mut open: Option<LogicalLine> = None;
    for (number, raw) in text.split('\n').enumerate() {
        let number = number as u32 + 1;
        let raw = raw.strip_suffix('\r').unwrap_or(raw);
        let trimmed = raw.trim_start();
        if open.is_none() && (trimmed.is_empty() || trimmed.starts_with('#')) {
            continue;
        }
        let (piece, goes_on) = match raw.strip_suffix('\\') {
            Some(piece) => (piece, true),
            None => (raw, false),
        };
        let line = open.get_or_insert_with(|| LogicalLine { text: String::new(), starts: Vec::new() });
        line.starts.push((line.text.len(), number));
        line.text.push_str(piece);
        if !goes_on {
            lines.extend(open.take());
        }
    }
    lines.extend(open);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continuation_and_comments() {
        let rows: &[(&str, &[&str])] = &[
            ("", &[]),
            ("# a\n\n  # b\\\nX 1\n", &["X 1"]),
            ("X a,\\\n  b\nY", &["X a,  b", "Y"]),
            ("X \\\r\n1\r\nY\r\n", &["X 1", "Y"]),
            ("X \\", &["X "]),
            ("X \\\n\\\n1", &["X 1"]),
        ];
        for (text, expected) in rows {
            let lines: Vec<_> = logical_lines(text).into_iter().map(|l| l.text).collect();
            assert_eq!(lines, *expected, "{text:?}");
        }
    }

    #[test]
    fn positions() {
        let lines = logical_lines("# c\nX a,\\\n  bad");
        let at = lines[0].position(7, lines[0].text.find("bad").unwrap_or(0));
        assert_eq!(at, Position { file: 7, line: 3, column: 3 });
    }
}
