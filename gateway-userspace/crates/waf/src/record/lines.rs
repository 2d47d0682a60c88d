//! The error-log lines of a transaction.

use super::audit::masked;
use super::error_log::{self, LineContext};
use super::mask::Mask;
use crate::{MatchedRule, Transaction, Variable};

/// One line for each rule that matched and logs, the first `most` of them, with what `sanitise*` actions name hidden.
/// `status` is what the client got. Call it after the logging phase.
pub fn lines(transaction: &mut Transaction, status: u16, most: usize) -> Vec<String> {
    let mut matched: Vec<MatchedRule> =
        transaction.matches().iter().filter(|m| m.log).take(most).cloned().collect();
    if matched.is_empty() {
        return Vec::new();
    }
    let mut one = |variable| transaction.values(variable).pop().map(|v| v.value).unwrap_or_default();
    let [client, server, host, id, mut uri] = [
        Variable::RemoteAddr,
        Variable::ServerAddr,
        Variable::ServerName,
        Variable::UniqueId,
        Variable::RequestUriRaw,
    ]
    .map(&mut one);
    if !transaction.sanitised().is_empty() {
        let mut values = |variable| transaction.values(variable);
        let arguments = values(Variable::Args);
        let request_headers = values(Variable::RequestHeaders);
        let response_headers = values(Variable::ResponseHeaders);
        let mask = Mask::new(transaction.sanitised(), &arguments, &request_headers, &response_headers);
        matched = matched.iter().map(|m| masked(m, &mask)).collect();
        uri = mask.uri(&uri).as_slice().into();
    }
    let hostname = if host.is_empty() { server } else { host }.to_string();
    let context = LineContext {
        client: &client.to_string(),
        hostname: &hostname,
        uri: uri.split(|byte| *byte == b'?').next().unwrap_or_default(),
        unique_id: &id.to_string(),
        status,
    };
    matched.iter().map(|m| error_log::line(m, &context)).collect()
}
