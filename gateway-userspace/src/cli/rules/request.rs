//! Requests from files, judged without a gateway.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use gateway_waf::{Connection, Transaction, Verdict};
use serde::Deserialize;

use super::Failure;
use crate::config::policy::POLICY_KEY;

/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;
/// Most requests that a profile takes.
pub(super) const MAX_REQUESTS: usize = 100_000;

/// A request as a file holds it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Where it comes from.
    pub(super) name: String,
    line: Vec<u8>,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
}

/// What a profile wants of a line of the access log.
#[derive(Deserialize)]
struct Line {
    method: String,
    target: String,
    #[serde(default)]
    host: String,
    user_agent: Option<String>,
    referer: Option<String>,
}

impl Request {
    /// A whole HTTP/1.1 request: request line, fields, an empty line, the body.
    pub(super) fn read(file: &Path) -> Result<Self, Failure> {
        let bad = |reason: String| Failure::Request { file: file.to_owned(), reason };
        let bytes = bytes(file)?;
        let mut rest = bytes.as_slice();
        let line = take_line(&mut rest).to_vec();
        if line.split(|b| *b == b' ').count() < 2 {
            return Err(bad("the first line is no request line such as `GET /path HTTP/1.1`".to_owned()));
        }
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let field = take_line(&mut rest);
            if field.is_empty() {
                break;
            }
            let Some(colon) = field.iter().position(|b| *b == b':') else {
                let text = String::from_utf8_lossy(field).into_owned();
                return Err(bad(format!("`{text}` is no header field; an empty line ends the fields")));
            };
            fields.push((field[..colon].to_vec(), field[colon + 1..].trim_ascii().to_vec()));
        }
        Ok(Self { name: file.display().to_string(), line, fields, body: rest.to_vec() })
    }

    /// Those of a folder (a file each), or of an access log in JSON (a line each; bodies and most fields are not in it).
    pub(super) fn read_all(path: &Path) -> Result<Vec<Self>, Failure> {
        let bad = |reason: String| Failure::Request { file: path.to_owned(), reason };
        if path.is_dir() {
            let mut files: Vec<PathBuf> = std::fs::read_dir(path)
                .map_err(|e| bad(e.to_string()))?
                .filter_map(|entry| entry.ok().map(|e| e.path()))
                .filter(|path| path.is_file())
                .take(MAX_REQUESTS)
                .collect();
            files.sort();
            return files.iter().map(|file| Self::read(file)).collect();
        }
        let text = String::from_utf8_lossy(&bytes(path)?).into_owned();
        let mut requests = Vec::new();
        for (number, line) in
            text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()).take(MAX_REQUESTS)
        {
            let parsed: Line = serde_json::from_str(line)
                .map_err(|e| bad(format!("line {} is none of an access log in JSON: {e}", number + 1)))?;
            requests.push(Self::logged(parsed, number + 1));
        }
        Ok(requests)
    }

    fn logged(line: Line, number: usize) -> Self {
        let mut fields =
            vec![(b"Host".to_vec(), line.host.into_bytes()), (b"Accept".to_vec(), b"*/*".to_vec())];
        for (name, value) in [("User-Agent", line.user_agent), ("Referer", line.referer)] {
            fields.extend(value.map(|v| (name.as_bytes().to_vec(), v.into_bytes())));
        }
        Self {
            name: format!("line {number}: {} {}", line.method, line.target),
            line: format!("{} {} HTTP/1.1", line.method, line.target).into_bytes(),
            fields,
            body: Vec::new(),
        }
    }

    /// Takes the request through the request phases, under the policy of a route (0: none).
    pub(super) fn judge(&self, tx: &mut Transaction, client: IpAddr, policy: u32) -> Verdict {
        let unix_nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        tx.begin(&Connection {
            client: (client, 40_000).into(),
            server: ([192, 0, 2, 2], 443).into(),
            unix_nanos,
            utc_offset_seconds: 0,
            unique_id: "explain",
            web_app_id: "default",
        });
        if policy != 0 {
            tx.set_tx(POLICY_KEY, policy.to_string().as_bytes());
        }
        tx.request_line_raw(&self.line);
        for (name, value) in &self.fields {
            tx.request_header(name, value);
        }
        let mut verdict = tx.request_headers();
        if !verdict.is_blocking() {
            if tx.wants_request_body() {
                tx.write_request_body(&self.body);
            }
            verdict = tx.request_body();
        }
        tx.logging(unix_nanos);
        verdict
    }
}

fn bytes(file: &Path) -> Result<Vec<u8>, Failure> {
    let bad = |reason: String| Failure::Request { file: file.to_owned(), reason };
    let size = std::fs::metadata(file).map_err(|e| bad(e.to_string()))?.len();
    if size > MAX_BYTES {
        return Err(bad(format!("the file has {size} bytes; at most {MAX_BYTES} are read")));
    }
    std::fs::read(file).map_err(|e| bad(e.to_string()))
}

/// The bytes up to the line's end, which is LF or CRLF.
fn take_line<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
    let (line, after) = rest.split_at(end);
    *rest = after.get(1..).unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_from_files_folders_and_logs() {
        let folder = std::env::temp_dir().join(format!("gateway-explain-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("folder");
        let file = folder.join("one");
        std::fs::write(&file, "POST /x HTTP/1.1\nHost: a\r\nX-Y:  z \n\nbody\n").expect("file");
        let request = Request::read(&file).expect("request");
        assert_eq!(request.line, b"POST /x HTTP/1.1");
        assert_eq!(request.fields, [(b"Host".to_vec(), b"a".to_vec()), (b"X-Y".to_vec(), b"z".to_vec())]);
        assert_eq!(request.body, b"body\n");
        assert_eq!(Request::read_all(&folder).expect("requests"), [request]);
        let log =
            "{\"method\":\"GET\",\"target\":\"/a?b\",\"host\":\"h\",\"user_agent\":\"u\",\"status\":200}\n\n";
        std::fs::write(&file, log).expect("file");
        let requests = Request::read_all(&file).expect("requests");
        let [logged] = &*requests else { panic!("{requests:?}") };
        assert_eq!(logged.line, b"GET /a?b HTTP/1.1");
        assert_eq!(logged.fields.len(), 3);
        std::fs::write(&file, "nonsense").expect("file");
        assert!(Request::read(&file).is_err() && Request::read_all(&file).is_err());
        std::fs::remove_dir_all(&folder).expect("folder");
    }
}
