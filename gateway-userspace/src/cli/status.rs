//! `gateway status` and `gateway reload`.

use std::fmt::Write;

use serde_json::Value;

use super::{CallError, Control, Output};

pub(super) fn status(control: &Control, out: Output) -> Result<(), CallError> {
    out.print(&control.get("/v1/status")?, flat);
    Ok(())
}

pub(super) fn reload(control: &Control, out: Output) -> Result<(), CallError> {
    out.print(&control.post("/v1/reload", &Value::Null)?, |value| {
        let mut text = "reloaded\n".to_owned();
        lines(&mut text, "", value);
        text
    });
    Ok(())
}

/// A value as lines.
pub(super) fn flat(value: &Value) -> String {
    let mut text = String::new();
    lines(&mut text, "", value);
    text
}

/// One line a leaf: `kernel.mode: enforce`.
fn lines(text: &mut String, prefix: &str, value: &Value) {
    match value {
        Value::Object(map) => {
            for (name, inner) in map {
                let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                lines(text, &path, inner);
            }
        }
        Value::Array(list) => {
            for (i, inner) in list.iter().enumerate() {
                lines(text, &format!("{prefix}.{i}"), inner);
            }
        }
        Value::Null => {}
        Value::String(s) => {
            let _ = writeln!(text, "{prefix}: {s}");
        }
        other => {
            let _ = writeln!(text, "{prefix}: {other}");
        }
    }
}
