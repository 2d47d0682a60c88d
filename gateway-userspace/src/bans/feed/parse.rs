//! Lists of networks, from bytes. Pure.

use crate::bans::scope::canonical;
use crate::client::IpNetwork;
use crate::config::bans::Format;

/// A list of which more than one line in this many can't be read is another kind of file.
const BAD_ONE_IN: usize = 10;

/// Why a list is refused whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// Not text.
    #[error("the list is not UTF-8 text")]
    NotText,
    /// Longer than allowed.
    #[error("the list has more than {0} networks, its `max_entries`")]
    TooLong(usize),
    /// Something else than a list.
    #[error("{bad} of {lines} lines are no networks, such as `{example}`: is it another `format`?")]
    Garbage {
        /// Lines that can't be read.
        bad: usize,
        /// Lines that are no comments.
        lines: usize,
        /// One of them.
        example: String,
    },
    /// Nothing in it.
    #[error("the list is empty: the former one is kept, in case that is a mistake")]
    Empty,
}

/// A list that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// Sorted, no duplicates.
    pub networks: Vec<IpNetwork>,
    /// Lines that could not be read.
    pub bad: usize,
}

/// Reads a list.
///
/// # Errors
/// See [`ListError`]; single bad lines are counted, not refused.
pub fn parse(bytes: &[u8], format: Format, column: usize, max_entries: usize) -> Result<List, ListError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ListError::NotText)?;
    let mut networks = Vec::new();
    let (mut bad, mut lines, mut example) = (0, 0, "");
    for line in text.lines() {
        let line = line.trim();
        let field = match field(line, format, column) {
            Field::None => continue,
            Field::Bad => None,
            Field::Entry(text) => network(&text),
        };
        lines += 1;
        match field {
            Some(network) => networks.push(network),
            // The first line of a CSV file names its columns.
            None if format == Format::Csv && lines == 1 => {}
            None => {
                bad += 1;
                example = if example.is_empty() { line } else { example };
            }
        }
        if networks.len() > max_entries {
            return Err(ListError::TooLong(max_entries));
        }
    }
    if bad * BAD_ONE_IN > lines {
        let example = example.chars().take(60).collect();
        return Err(ListError::Garbage { bad, lines, example });
    }
    if networks.is_empty() {
        return Err(ListError::Empty);
    }
    networks.sort_unstable();
    networks.dedup();
    Ok(List { networks, bad })
}

/// What a line holds.
enum Field {
    /// A comment, or nothing.
    None,
    /// What should be a network.
    Entry(String),
    /// No entry where one should be.
    Bad,
}

fn field(line: &str, format: Format, column: usize) -> Field {
    let entry = |text: Option<&str>| text.map_or(Field::Bad, |t| Field::Entry(t.to_owned()));
    match format {
        Format::Plain | Format::Netset => {
            let text = line.split(['#', ';']).next().unwrap_or("").trim();
            if text.is_empty() { Field::None } else { entry(Some(text)) }
        }
        _ if line.is_empty() => Field::None,
        Format::Csv if line.starts_with('#') => Field::None,
        Format::Csv => entry(line.split(',').nth(column - 1).map(|f| f.trim().trim_matches('"'))),
        Format::DropJson => match serde_json::from_str::<serde_json::Value>(line) {
            // The last line tells of the list itself.
            Ok(object) if object.get("type").is_some_and(|t| t == "metadata") => Field::None,
            Ok(object) => entry(object.get("cidr").and_then(|c| c.as_str())),
            Err(_) => Field::Bad,
        },
    }
}

/// A network; host bits are cut off, lists have them often.
fn network(text: &str) -> Option<IpNetwork> {
    let network = match text.split_once('/') {
        None => IpNetwork::host(text.parse().ok()?),
        Some((addr, prefix)) => {
            let addr: std::net::IpAddr = addr.parse().ok()?;
            let prefix: u8 = prefix.parse().ok()?;
            (prefix <= if addr.is_ipv4() { 32 } else { 128 }).then(|| IpNetwork::containing(addr, prefix))?
        }
    };
    Some(canonical(network))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let check = |text: &str, format, column, expected: Result<&[&str], &str>| {
            let got = parse(text.as_bytes(), format, column, 3)
                .map(|l| l.networks.iter().map(ToString::to_string).collect::<Vec<_>>())
                .map_err(|e| e.to_string());
            match expected {
                Ok(networks) => assert_eq!(
                    got.as_deref(),
                    Ok(&networks.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()[..]),
                    "{text}"
                ),
                Err(part) => assert!(got.as_ref().is_err_and(|e| e.contains(part)), "{text}: {got:?}"),
            }
        };
        let sorted: &[&str] = &["192.0.2.0/24", "198.51.100.7"];
        check(
            "# a list\n198.51.100.7\n\n192.0.2.9/24 ; SBL1\n198.51.100.7/32\n",
            Format::Plain,
            1,
            Ok(sorted),
        );
        check("198.51.100.7\r\n192.0.2.0/24\r\n", Format::Netset, 1, Ok(sorted));
        check(
            "{\"cidr\":\"192.0.2.0/24\",\"sblid\":\"SBL1\"}\n{\"cidr\":\"198.51.100.7/32\"}\n{\"type\":\"metadata\",\"records\":2}\n",
            Format::DropJson,
            1,
            Ok(sorted),
        );
        check("id,ip\n1,\"198.51.100.7\"\n2,192.0.2.0/24\n", Format::Csv, 2, Ok(sorted));
        check("::ffff:192.0.2.1\n2001:db8::/32\n", Format::Plain, 1, Ok(&["192.0.2.1", "2001:db8::/32"]));
        check(
            "<html>\n<body>\n404\n",
            Format::Plain,
            1,
            Err("3 of 3 lines are no networks, such as `<html>`"),
        );
        check("{\"cidr\":7}", Format::DropJson, 1, Err("lines are no networks"));
        check("# nothing\n", Format::Plain, 1, Err("empty"));
        check("1.1.1.1\n1.1.1.2\n1.1.1.3\n1.1.1.4\n", Format::Plain, 1, Err("more than 3"));
        assert_eq!(parse(b"\xff\xfe", Format::Plain, 1, 3), Err(ListError::NotText));
    }
}
