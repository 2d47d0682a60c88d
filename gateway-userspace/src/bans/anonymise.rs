//! Addresses taken out of log files: each becomes its network (/24, /48). Pure: lines in, lines out.
//!
//! Every address of a line goes, wherever it stands: client, proxy, `X-Forwarded-For`, a URL. What looks like an address
//! and is none (a version of four small numbers) loses its last number, which does no harm.

use std::net::{IpAddr, SocketAddr};

use super::dryrun::rfc3339_ms;
use crate::client::anonymous;

/// Longest text of an address with a port.
const MAX_ADDRESS: usize = 52;

/// Writes a line with every address in it reduced to its network; how many there were.
pub fn anonymise_line(line: &[u8], out: &mut Vec<u8>) -> usize {
    let belongs = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.');
    let (mut rest, mut count) = (line, 0);
    while !rest.is_empty() {
        let run = rest.iter().take_while(|b| belongs(b)).count();
        if run == 0 {
            let other = rest.iter().take_while(|b| !belongs(b)).count();
            out.extend_from_slice(&rest[..other]);
            rest = &rest[other..];
            continue;
        }
        let (word, after) = rest.split_at(run);
        match reduced(word) {
            Some((text, used)) => {
                out.extend_from_slice(text.as_bytes());
                out.extend_from_slice(&word[used..]);
                count += 1;
            }
            None => out.extend_from_slice(word),
        }
        rest = after;
    }
    count
}

/// The network's address for the address that a word begins with, and how many bytes of the word that was.
fn reduced(word: &[u8]) -> Option<(String, usize)> {
    if word.len() > MAX_ADDRESS || word.len() < 2 {
        return None;
    }
    // An address at the end of a sentence, or before a colon.
    [0, 1].into_iter().find_map(|cut| {
        let used = word.len().checked_sub(cut)?;
        if cut == 1 && !matches!(word.last(), Some(b'.' | b':')) {
            return None;
        }
        let text = std::str::from_utf8(word.get(..used)?).ok()?;
        if let Ok(addr) = text.parse::<IpAddr>() {
            return Some((anonymous(addr).addr().to_string(), used));
        }
        let socket = text.parse::<SocketAddr>().ok()?;
        Some((format!("{}:{}", anonymous(socket.ip()).addr(), socket.port()), used))
    })
}

/// When a line of an access log was written, in Unix milliseconds: this gateway's JSON, or the combined format.
pub fn line_time(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok()?;
    if let Some(rest) = text.strip_prefix("{\"time\":\"") {
        return rfc3339_ms(rest.split('"').next()?);
    }
    // 21/Nov/2026:04:31:34 +0100
    let inside = text.split_once('[')?.1.split_once(']')?.0;
    let (local, offset) = inside.split_once(' ')?;
    let mut parts = local.splitn(4, ['/', ':']);
    let (day, month, year, time) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let at = rfc3339_ms(&format!("{year}-{month:02}-{day}T{time}Z"))?;
    let minutes: u64 = offset.get(1..3)?.parse::<u64>().ok()? * 60 + offset.get(3..5)?.parse::<u64>().ok()?;
    match offset.as_bytes().first()? {
        b'+' => Some(at.saturating_sub(minutes * 60_000)),
        b'-' => Some(at + minutes * 60_000),
        _ => None,
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_line_goes() {
        let check = |line: &str, expected: &str, count: usize| {
            let mut out = Vec::new();
            assert_eq!(anonymise_line(line.as_bytes(), &mut out), count, "{line}");
            assert_eq!(String::from_utf8_lossy(&out), expected);
        };
        check(
            r#"{"time":"2026-11-21T04:31:34.123Z","client":"192.0.2.66","proxy":"2001:db8:1:2::3","status":404}"#,
            r#"{"time":"2026-11-21T04:31:34.123Z","client":"192.0.2.0","proxy":"2001:db8:1::","status":404}"#,
            2,
        );
        check(
            r#"192.0.2.66 - - [21/Nov/2026:04:31:34 +0000] "GET /?ip=198.51.100.7 HTTP/1.1" 200 12 "-" "Firefox/140.0""#,
            r#"192.0.2.0 - - [21/Nov/2026:04:31:34 +0000] "GET /?ip=198.51.100.0 HTTP/1.1" 200 12 "-" "Firefox/140.0""#,
            2,
        );
        check("from 192.0.2.66:4711, to ::1.", "from 192.0.2.0:4711, to ::.", 2);
        check("::ffff:192.0.2.66 [2001:db8::5]:443", "192.0.2.0 [2001:db8::]:443", 2);
        check("cafe: 12:30:45 dead.beef", "cafe: 12:30:45 dead.beef", 0);
        check("", "", 0);
    }

    #[test]
    fn times_of_lines() {
        for (line, expected) in [
            (r#"{"time":"1970-01-01T00:00:01Z","client":"::1"}"#, Some(1000)),
            (r#"::1 - - [01/Jan/1970:00:00:02 +0000] "GET /""#, Some(2000)),
            (r#"::1 - - [01/Jan/1970:01:00:03 +0100] "GET /""#, Some(3000)),
            (r#"::1 - - [01/Foo/1970:01:00:03 +0100] "GET /""#, None),
            ("nothing", None),
        ] {
            assert_eq!(line_time(line.as_bytes()), expected, "{line}");
        }
    }
}
