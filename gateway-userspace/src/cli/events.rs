//! `gateway xdp events`: the packets that the kernel side drops, by example.

use std::io::{self, Write};

use clap::builder::PossibleValuesParser;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::output::field;
use super::{CallError, Control, Output};
use crate::kernel::Reason;

/// How long one call waits for drops.
const WAIT_MS: u64 = 1000;

/// Which drops.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Go on with new ones until Ctrl-C.
    #[arg(short, long)]
    follow: bool,
    /// Only those dropped for this reason; may be given several times.
    #[arg(long, value_name = "REASON", value_parser = PossibleValuesParser::new(drop_reasons()))]
    reason: Vec<String>,
    /// How many of the latest.
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    count: u32,
}

/// Names of the reasons for which packets are dropped.
pub(super) fn drop_reasons() -> Vec<&'static str> {
    Reason::ALL.iter().filter(|reason| reason.is_drop()).map(|reason| reason.name()).collect()
}

pub(super) fn run(args: &Args, control: &Control, out: Output) -> Result<(), CallError> {
    let ask = |body: &Value| control.post("/v1/xdp/events", body);
    let mut page = ask(&json!({ "reasons": args.reason, "count": args.count }))?;
    if !args.follow {
        out.print(&page, |page| {
            let text: String = events(page).map(line).collect();
            if text.is_empty() {
                "nothing was sampled; `gateway xdp stats` counts every packet\n".to_owned()
            } else {
                text
            }
        });
        return Ok(());
    }
    while tell(&page, out).is_ok() {
        page = ask(&json!({ "reasons": args.reason, "after": page.get("last"), "wait_ms": WAIT_MS }))?;
    }
    // A reader that went away (`| head`) is no error.
    Ok(())
}

fn events(page: &Value) -> impl Iterator<Item = &Value> {
    page.get("events").and_then(Value::as_array).into_iter().flatten()
}

/// Writes the events of a page, a line each.
fn tell(page: &Value, out: Output) -> io::Result<()> {
    let mut to = io::stdout().lock();
    if let Some(missed) = page.get("missed").and_then(Value::as_u64).filter(|missed| *missed > 0) {
        eprintln!("gateway: {missed} samples came too fast to be told");
    }
    for event in events(page) {
        if out.json { writeln!(to, "{event}") } else { write!(to, "{}", line(event)) }?;
    }
    to.flush()
}

/// One event for people.
fn line(event: &Value) -> String {
    let number = |name: &str| event.get(name).and_then(Value::as_u64).unwrap_or_default();
    let reason = match event.get("ban_reason").and_then(Value::as_str) {
        Some(why) => format!("{} ({why})", field(event, "reason")),
        None => field(event, "reason"),
    };
    let protocol = number("protocol");
    let end = |address: &str, port: &str| match (event.get(address).and_then(Value::as_str), protocol) {
        (None, _) => "?".to_owned(),
        (Some(text), 6 | 17) if text.contains(':') => format!("[{text}]:{}", number(port)),
        (Some(text), 6 | 17) => format!("{text}:{}", number(port)),
        (Some(text), _) => text.to_owned(),
    };
    let what = match protocol {
        6 => format!("tcp {}", flags(number("tcp_flags"))),
        17 => "udp".to_owned(),
        1 | 58 => {
            let (kind, code) = (number("destination_port") >> 8, number("destination_port") & 0xff);
            format!("{} type {kind} code {code}", if protocol == 1 { "icmp" } else { "icmp6" })
        }
        other => format!("protocol {other}"),
    };
    let interface = match event.get("interface_name").and_then(Value::as_str) {
        Some(name) => name.to_owned(),
        None => format!("if{}", number("interface")),
    };
    let verdict = if event.get("dropped") == Some(&Value::Bool(true)) { "" } else { " (observed)" };
    format!(
        "{} {interface} {reason}{verdict} {} > {} {what} {} bytes\n",
        moment(number("at_ms")),
        end("source", "source_port"),
        end("destination", "destination_port"),
        number("length"),
    )
}

/// The letters that tcpdump has for TCP's flags, the one that begins a connection first.
fn flags(bits: u64) -> String {
    let names = [(2, 'S'), (1, 'F'), (4, 'R'), (8, 'P'), (16, '.'), (32, 'U'), (64, 'E'), (128, 'W')];
    let set: String = names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    if set.is_empty() { "none".to_owned() } else { set }
}

/// A moment in UTC, as RFC 3339 writes it.
fn moment(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1000).ok();
    seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok()).map_or_else(
        || format!("{ms} ms"),
        |at| {
            let (date, time) = (at.date(), at.time());
            format!("{date}T{:02}:{:02}:{:02}.{:03}Z", time.hour(), time.minute(), time.second(), ms % 1000)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let tcp = json!({
            "at_ms": 1_700_000_000_123u64, "interface": 3, "interface_name": "eth0", "reason": "ban_host",
            "ban_reason": "waf", "dropped": true, "source": "192.0.2.1", "source_port": 4000,
            "destination": "203.0.113.1", "destination_port": 443, "protocol": 6, "tcp_flags": 2, "length": 60,
        });
        let with = |changes: Value| {
            let mut event = tcp.clone();
            for (name, value) in changes.as_object().into_iter().flatten() {
                event[name] = value.clone();
            }
            line(&event)
        };
        for (changes, expected) in [
            (json!({}), "eth0 ban_host (waf) 192.0.2.1:4000 > 203.0.113.1:443 tcp S 60 bytes\n"),
            (
                json!({ "ban_reason": null, "reason": "port", "dropped": false, "protocol": 17,
                    "source": "2001:db8::1", "destination": "2001:db8::2" }),
                "eth0 port (observed) [2001:db8::1]:4000 > [2001:db8::2]:443 udp 60 bytes\n",
            ),
            (
                json!({ "ban_reason": null, "reason": "icmp_type", "protocol": 1, "destination_port": 3328,
                    "interface_name": null }),
                "if3 icmp_type 192.0.2.1 > 203.0.113.1 icmp type 13 code 0 60 bytes\n",
            ),
            (
                json!({ "ban_reason": null, "reason": "truncated", "protocol": 0, "source": null,
                    "destination": null }),
                "eth0 truncated ? > ? protocol 0 60 bytes\n",
            ),
        ] {
            assert_eq!(with(changes), format!("2023-11-14T22:13:20.123Z {expected}"));
        }
        assert_eq!((flags(0x12), flags(0)), ("S.".to_owned(), "none".to_owned()));
    }
}
