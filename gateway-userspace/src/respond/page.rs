//! The two forms of a refusal's body.

use http::StatusCode;

/// For programs.
pub(super) fn json(
    status: StatusCode,
    code: &str,
    message: &str,
    request_id: &str,
    limit: Option<&str>,
) -> String {
    let mut error = serde_json::json!({
        "status": status.as_u16(), "code": code, "message": message, "request_id": request_id
    });
    if let Some(limit) = limit {
        error["limit"] = limit.into();
    }
    serde_json::json!({ "error": error }).to_string()
}

/// For people.
pub(super) fn html(status: StatusCode, code: &str, message: &str, request_id: &str) -> String {
    let reason = status.canonical_reason().unwrap_or("Error");
    let number = status.as_u16();
    let id = escape(request_id);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{number} {reason}</title></head>\
         <body><h1>{reason}</h1><p>{message}</p><p><small>{number} &middot; {code} &middot; {id}</small></p>\
         </body></html>\n"
    )
}

/// A request id may come from a trusted peer: it is text, not markup.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
