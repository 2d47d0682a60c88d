//! Where a record lies when each has a file of its own (SecAuditLogType Concurrent), and the line that points at it.

use super::audit::Record;
use super::time;
use crate::engine::time::civil;

/// Longest part of a transaction's id in a file name, in bytes.
const ID_MAX_BYTES: usize = 128;

impl Record {
    /// The record's own path below SecAuditLogStorageDir: `20261121/20261121-0239/20261121-023959-ID`. An id comes from
    /// outside: what could lead elsewhere becomes `_`.
    pub fn path(&self) -> String {
        let t = civil(self.unix_nanos, self.utc_offset_seconds);
        let day = format!("{:04}{:02}{:02}", t.year, t.month, t.day);
        let minute = format!("{:02}{:02}", t.hour, t.minute);
        let id: String = self
            .transaction
            .unique_id
            .iter()
            .take(ID_MAX_BYTES)
            .map(|b| if b.is_ascii_alphanumeric() || *b == b'-' { *b as char } else { '_' })
            .collect();
        format!("{day}/{day}-{minute}/{day}-{minute}{:02}-{id}", t.second)
    }

    /// The line of the index (SecAuditLog) for a record that was written to `path` with `size` bytes.
    pub fn index_line(&self, path: &str, size: usize) -> String {
        let t = &self.transaction;
        let quoted = |text: &crate::Text| text.to_string().replace('"', "\\x22");
        format!(
            "{} {} - - [{}] \"{} {} HTTP/{}\" {} {size} \"-\" \"-\" {} \"-\" {path} 0 {size}",
            t.host_ip,
            t.client_ip,
            time::native_stamp(self.unix_nanos, self.utc_offset_seconds),
            quoted(&t.request.method),
            quoted(&t.request.uri),
            quoted(&t.request.http_version),
            t.response.http_code,
            t.unique_id,
        )
    }
}
