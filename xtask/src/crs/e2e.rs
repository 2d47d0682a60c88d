//! A daemon between this runner and a reflecting origin, over raw TCP.
//!
//! What matched is read from the daemon's own log, which has ModSecurity's line for each match: after each request a
//! marker goes the same way, which a rule of the set-up logs, and the lines before its own belong to the request. For that
//! the daemon has to run with one worker. What the HTTP layer refuses has no line; its answer says why.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use gateway_tests::Scratch;
use serde_json::Value;

use super::origin_server;
use super::setup::{Crs, ENGINE, SUITE};
use super::target::{Outcome, Target};
use crate::server::{self, Server};

/// How long a connection may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a marker may take to come up in the log.
const MARKER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the daemon may take until it listens: it compiles the rules first.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Most bytes of a response that are read.
const RESPONSE_MAX_BYTES: u64 = 8 << 20;

/// A daemon with the rules of a suite, its log, and the folder it lives in. It ends with the value.
pub struct Daemon {
    address: SocketAddr,
    log: BufReader<File>,
    count: u64,
    _server: Server,
    /// Goes last.
    _folder: Scratch,
}

impl Daemon {
    /// Starts the origin and `gateway` before it, with the rules of `crs`.
    ///
    /// # Errors
    /// Files, ports or the program are not to be had, or the daemon does not come up; its log is in the message.
    pub fn start(gateway: &Path, crs: &Crs) -> Result<Self> {
        let folder = Scratch::new()?;
        let origin = origin_server::start()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = write_setup(folder.path(), crs, address, origin)?;
        let path = folder.path().join("gateway.log");
        let command = server::gateway(gateway, &config);
        let server = Server::start("the daemon", command, &path, &[address], START_TIMEOUT)?;
        let mut log = BufReader::new(File::open(&path)?);
        log.seek(SeekFrom::End(0))?;
        Ok(Self { address, log, count: 0, _server: server, _folder: folder })
    }

    /// The lines up to the marker's.
    fn lines_before(&mut self, marker: &str) -> Result<Vec<String>> {
        let deadline = Instant::now() + MARKER_TIMEOUT;
        let mut lines = Vec::new();
        let mut line = String::new();
        loop {
            if self.log.read_line(&mut line)? == 0 || !line.ends_with('\n') {
                if Instant::now() > deadline {
                    bail!("the daemon's log has no line for {marker}");
                }
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
            if line.contains(marker) {
                return Ok(lines);
            }
            lines.push(std::mem::take(&mut line));
        }
    }
}

impl Target for Daemon {
    fn send(&mut self, raw: &[u8]) -> Result<Outcome> {
        let response = exchange(self.address, raw).unwrap_or_default();
        self.count += 1;
        let marker = format!("/crs-marker-{}-{}", std::process::id(), self.count);
        let request = format!(
            "GET {marker} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: crs\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        exchange(self.address, request.as_bytes()).context("the marker request failed")?;
        let log = self.lines_before(&marker)?.iter().filter_map(|line| log_line(line)).collect();
        let text = String::from_utf8_lossy(&response).into_owned();
        Ok(Outcome { status: status(&text), refused: refused(&text), response: text, log })
    }
}

/// ModSecurity's part of a log line, if it has one.
fn log_line(line: &str) -> Option<String> {
    let at = line.find("[client ")?;
    let own = line[at..].trim_end();
    own.contains("] ModSecurity: ").then(|| own.to_owned())
}

/// Why the gateway answered in its own name, unless the rules made it.
fn refused(response: &str) -> Option<String> {
    let body = response.split_once("\r\n\r\n")?.1;
    let error: Value = serde_json::from_str(body).ok()?;
    let code = error.pointer("/error/code")?.as_str()?;
    (code != "waf").then(|| code.to_owned())
}

fn status(response: &str) -> Option<u16> {
    response.strip_prefix("HTTP/")?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Sends the bytes and reads what comes until the response is whole, the other side closes, or time is up.
fn exchange(address: SocketAddr, raw: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    // A server that refuses early may close while the rest is being sent; its answer still counts.
    let sent = stream.write_all(raw);
    let mut response = Vec::new();
    let mut limited = (&mut stream).take(RESPONSE_MAX_BYTES);
    let mut buffer = [0; 16_384];
    loop {
        match limited.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => response.extend_from_slice(&buffer[..count]),
        }
        if is_whole(&response) {
            break;
        }
    }
    if response.is_empty() {
        sent?;
        bail!("no answer");
    }
    Ok(response)
}

/// Whether a response with a Content-Length is complete; others end with the connection.
fn is_whole(response: &[u8]) -> bool {
    let Some(head) = response.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let text = String::from_utf8_lossy(&response[..head]).to_ascii_lowercase();
    let length =
        text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    length.is_some_and(|length| response.len() >= head + 4 + length)
}

/// A rule that tells the markers from the requests of the suite.
const MARKER: &str = r#"
SecRule REQUEST_FILENAME "@beginsWith /crs-marker-" \
    "id:9100,phase:5,pass,log,noauditlog,t:none,msg:'marker',logdata:'%{REQUEST_FILENAME}'"
"#;

/// Writes what a daemon needs to run a suite: rule files and a configuration, whose path it returns. One worker: the
/// log's lines then come in the order of the requests.
fn write_setup(folder: &Path, crs: &Crs, address: SocketAddr, origin: SocketAddr) -> Result<PathBuf> {
    let write = |name: &str, text: &str| -> Result<PathBuf> {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path.canonicalize()?)
    };
    let engine = write("engine.conf", ENGINE)?;
    let suite = write("suite.conf", &format!("{SUITE}{MARKER}"))?;
    let rules = crs.rules.canonicalize()?.join("*.conf");
    let files = [&engine, &crs.setup.canonicalize()?, &suite, &rules]
        .map(|path| format!("    \"{}\",\n", path.display()));
    let configuration = format!(
        "[server]\nworkers = 1\n\n[control]\nsocket = \"{}\"\nlisten = \"off\"\n\n\
         [[listeners]]\naddress = \"{address}\"\n\n[[upstreams]]\nname = \"origin\"\n\
         servers = [\"{origin}\"]\n\n[[routes]]\nname = \"all\"\nupstream = \"origin\"\n\n[waf]\nmode = \"detect\"\n\
         log_matches = 1000000\nrules = [\n{}]\n\n[log]\naccess = \"off\"\n\n[bans]\nenabled = false\n",
        folder.join("control.sock").display(),
        files.concat(),
    );
    write("gateway.toml", &configuration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_answers_of_the_daemon() {
        let line = "2026-11-21T06:00:00Z  WARN [client 127.0.0.1] ModSecurity: Warning. x [id \"1\"]\n";
        assert_eq!(log_line(line).as_deref(), Some("[client 127.0.0.1] ModSecurity: Warning. x [id \"1\"]"));
        assert_eq!(log_line("2026-11-21T06:00:00Z  INFO serving [client x]"), None);
        let answer = |code: &str| format!("HTTP/1.1 400 x\r\n\r\n{{\"error\":{{\"code\":\"{code}\"}}}}");
        assert_eq!(refused(&answer("bare_lf")).as_deref(), Some("bare_lf"));
        assert_eq!(refused(&answer("waf")), None);
        assert_eq!(refused("HTTP/1.1 200 OK\r\n\r\nhello"), None);
    }

    #[test]
    fn responses_end_with_their_length() {
        let rows = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", false),
            ("HTTP/1.1 200 OK\r\n\r\nok", false),
            ("HTTP/1.1 200", false),
        ];
        for (response, expected) in rows {
            assert_eq!(is_whole(response.as_bytes()), expected, "{response}");
        }
        assert_eq!(status("HTTP/1.1 403 Forbidden\r\n"), Some(403));
        assert_eq!(status(""), None);
    }
}
