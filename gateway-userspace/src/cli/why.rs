//! `gateway why ADDRESS`: what every layer says of it, for people.

use std::net::IpAddr;

use serde_json::Value;

use super::ban::{decisions, listing};
use super::output::{field, table};
use super::{CallError, Control, Output};
use crate::bans::Trust;

pub(super) fn run(address: IpAddr, control: &Control, out: Output) -> Result<(), CallError> {
    out.print(&control.get(&format!("/v1/why/{address}"))?, tell);
    Ok(())
}

fn tell(v: &Value) -> String {
    let mut text = format!("{}\n", field(v, "summary"));
    let mut section = |title: &str, body: String| {
        if !body.is_empty() {
            text.push_str(&format!("\n{title}:\n{body}"));
        }
    };
    section("Decisions that cover it", decided(v, "decisions"));
    section("Decisions that ended", decided(v, "ended"));
    section(
        "Lists that it is on",
        rows(v, "feeds", &["name", "network", "action"], &["LIST", "NETWORK", "ACTION"]),
    );
    section("In the kernel", v.get("kernel").filter(|k| !k.is_null()).map_or_else(String::new, kernel));
    section(
        "Limits",
        rows(v, "limits", &["limit", "remaining", "reset_ms"], &["LIMIT", "LEFT", "MORE IN (MS)"])
            + &v.get("limits_error").map_or_else(String::new, |e| format!("{}\n", e.as_str().unwrap_or(""))),
    );
    section(
        "Buckets that it has something in",
        rows(
            v,
            "levels",
            &["scenario", "scope", "level", "capacity"],
            &["SCENARIO", "OF", "LEVEL", "CAPACITY"],
        ),
    );
    section("Offences", offences(v));
    section("Trust", v.get("trust").map_or_else(String::new, trust));
    let place = v.get("place").filter(|p| !p.is_null());
    let asn = v.get("asn").and_then(Value::as_u64);
    if place.is_some() || asn.is_some() {
        let of = |name: &str| place.map_or_else(|| "-".to_owned(), |p| field(p, name));
        let asn = asn.map_or_else(|| "-".to_owned(), |n| n.to_string());
        section("Place", format!("country {}, AS {asn} {}\n", of("country"), of("organisation")));
    }
    text
}

/// Decisions, each with the requests that led to it.
fn decided(v: &Value, name: &str) -> String {
    let all = decisions(v, name);
    if all.is_empty() {
        return String::new();
    }
    let mut text = listing(&all);
    for decision in &all {
        let Some(cause) = decision.get("cause") else { continue };
        let of = |name: &str| -> Vec<String> {
            let list = cause.get(name).and_then(Value::as_array).into_iter().flatten();
            list.map(|x| x.as_str().map_or_else(|| x.to_string(), str::to_owned)).collect()
        };
        let (requests, rules) = (of("requests"), of("rules"));
        if !requests.is_empty() {
            text.push_str(&format!("  {}: requests {}", field(decision, "scope"), requests.join(" ")));
            if !rules.is_empty() {
                text.push_str(&format!("; rules {}", rules.join(" ")));
            }
            text.push('\n');
        }
    }
    text
}

fn rows(v: &Value, name: &str, fields: &[&str], head: &[&str]) -> String {
    let list = v.get(name).and_then(Value::as_array).into_iter().flatten();
    let rows: Vec<Vec<String>> = list.map(|x| fields.iter().map(|f| field(x, f)).collect()).collect();
    if rows.is_empty() { String::new() } else { table(head, &rows) }
}

fn kernel(k: &Value) -> String {
    let verb = if k.get("dropped").and_then(Value::as_bool) == Some(true) { "dropped" } else { "let in" };
    let (bans, lists) = (field(k, "bans_are"), field(k, "lists_are"));
    let head = ["BANNED", "REASON", "DROPPED PACKETS"];
    format!("its packets are {verb} (bans: {bans}, lists: {lists})\n")
        + &rows(k, "bans", &["target", "reason", "hits"], &head)
        + &k.get("limiter").map_or_else(String::new, limiter)
}

/// What the limiter's cells hold.
fn limiter(l: &Value) -> String {
    let head = ["LIMITED", "LEFT", "OF", "WHOLE IN (MS)"];
    let cells = rows(l, "cells", &["of", "left", "burst", "whole_in_ms"], &head);
    match l.get("barred_ms").and_then(Value::as_u64) {
        Some(ms) if ms > 0 => format!("{cells}barred for {ms} ms more: it went on and on over its limits\n"),
        _ => cells,
    }
}

/// The last offences, with their requests.
fn offences(v: &Value) -> String {
    let list = v.get("record").and_then(|r| r.get("offences"));
    let list = list.and_then(Value::as_array).into_iter().flatten();
    let fields = ["kind", "count", "subject", "request", "rules"];
    let rows: Vec<Vec<String>> = list.map(|o| fields.iter().map(|f| field(o, f)).collect()).collect();
    if rows.is_empty() {
        return String::new();
    }
    table(&["KIND", "TIMES", "OF", "REQUEST", "RULES"], &rows)
}

fn trust(t: &Value) -> String {
    let trust = serde_json::from_value::<Trust>(t.clone()).ok().filter(|trust| !trust.parts.is_empty());
    trust.map_or_else(String::new, |trust| format!("{trust}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_layer_is_told() {
        let text = tell(&json!({
            "summary": "kernel-ban on 192.0.2.1 by local: scenario waf",
            "decisions": [{
                "scope": "192.0.2.1", "action": "kernel-ban", "origin": "local", "reason": "scenario waf",
                "cause": { "requests": ["r1", "r2"], "rules": [942_100] },
            }],
            "feeds": [{ "name": "drop", "network": "192.0.2.0/24", "action": "kernel-ban", "in_kernel": true }],
            "kernel": {
                "bans_are": "enforce", "lists_are": "enforce", "dropped": true,
                "bans": [{ "target": "192.0.2.1", "reason": "waf", "hits": 7 }],
                "limiter": {
                    "allowed": false, "class": 0, "barred_ms": 1500,
                    "cells": [{ "of": "packets", "left": 12, "burst": 500, "whole_in_ms": 244 }],
                },
            },
            "limits": [{ "limit": "login", "remaining": 3, "reset_ms": 900, "from_redis": false }],
            "record": { "offences": [{ "kind": "waf", "count": 1, "request": "r2" }] },
            "trust": { "score": 30, "parts": [[-20, "banned 2 times before"]] },
            "place": { "country": "NL", "asn": 64_500, "organisation": "Example" }, "asn": 64_500,
        }));
        for part in [
            "requests r1 r2; rules 942100",
            "drop  192.0.2.0/24  kernel-ban",
            "its packets are dropped",
            "192.0.2.1  waf     7",
            "packets  12    500  244",
            "barred for 1500 ms more",
            "login  3     900",
            "waf   1      -   r2",
            "30 of 100: -20 banned 2 times before",
            "country NL, AS 64500 Example",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        assert_eq!(tell(&json!({ "summary": "nothing is held against it" })), "nothing is held against it\n");
    }
}
