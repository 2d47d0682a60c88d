//! Clients: a raw HTTP/1.1 connection that shows exactly what happened to it, and curl.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::command::text;
use crate::netns::Netns;

/// How long a client waits for anything.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest body that a client reads, in bytes.
const MAX_BODY: u64 = 16 << 20;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Response {
    /// The first field of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// A connection over which requests go one after the other. Its socket belongs to the namespace it was opened in and
/// may be used from anywhere.
#[derive(Debug)]
pub struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    /// Connects from the namespace within `limit`.
    pub fn open(netns: &Netns, to: SocketAddr, limit: Duration) -> Result<Self> {
        let stream = netns.inside(|| {
            TcpStream::connect_timeout(&to, limit)
                .with_context(|| format!("no connection to {to} within {limit:?}"))
        })?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// Shortens how long an answer may take.
    pub fn patience(&self, limit: Duration) -> Result<()> {
        Ok(self.reader.get_ref().set_read_timeout(Some(limit))?)
    }

    /// Sends a GET with a browser's usual fields and reads the answer.
    pub fn get(&mut self, target: &str) -> Result<Response> {
        self.send(format!("GET {target} HTTP/1.1\r\n{BROWSER}\r\n").as_bytes())?;
        self.receive()
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.reader.get_mut().write_all(bytes).context("the request could not be sent")
    }

    /// Reads one answer.
    pub fn receive(&mut self) -> Result<Response> {
        let mut status = 0;
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).context("no answer")? == 0 {
                bail!("the connection was closed without an answer");
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if status == 0 {
                status =
                    line.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status line")?;
            } else if let Some((name, value)) = line.split_once(':') {
                headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        let mut response = Response { status, headers, body: String::new() };
        let body = self.body(&response)?;
        response.body = String::from_utf8_lossy(&body).into_owned();
        Ok(response)
    }

    fn body(&mut self, response: &Response) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        if response.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
            loop {
                let size = u64::from_str_radix(self.line()?.trim(), 16).context("no chunk size")?;
                self.part(size, &mut body)?;
                self.line()?;
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        let length =
            response.header("content-length").map_or(Ok(0), str::parse).context("no content-length")?;
        self.part(length, &mut body)?;
        Ok(body)
    }

    fn part(&mut self, length: u64, body: &mut Vec<u8>) -> Result<()> {
        if length > MAX_BODY {
            bail!("an answer of {length} bytes");
        }
        let read = self.reader.by_ref().take(length).read_to_end(body).context("the body did not come")?;
        if read as u64 != length {
            bail!("the body ended after {read} of {length} bytes");
        }
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line).context("the answer ended early")?;
        Ok(line)
    }
}

/// What a browser sends with every request.
const BROWSER: &str = "host: shop.example.org\r\n\
    user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    accept-language: en-GB,en;q=0.5\r\n";

/// One GET over a connection of its own.
pub fn get(netns: &Netns, to: SocketAddr, target: &str) -> Result<Response> {
    Connection::open(netns, to, PATIENCE)?.get(target)
}

/// Runs curl in the namespace; returns what it prints. Its exit code, when not 0, is in the error.
pub fn curl(netns: &Netns, arguments: &[&str]) -> Result<String> {
    text(netns.command("curl").args(["--silent", "--show-error", "--max-time", "5"]).args(arguments))
}

/// curl over TLS with a certificate of the gateway's own making: prints status, HTTP version and TLS result.
pub fn curl_tls(netns: &Netns, to: SocketAddr, target: &str, more: &[&str]) -> Result<String> {
    let url = format!("https://shop.example.org:{}{target}", to.port());
    let resolve = match to {
        SocketAddr::V4(v4) => format!("shop.example.org:{}:{}", to.port(), v4.ip()),
        SocketAddr::V6(v6) => format!("shop.example.org:{}:[{}]", to.port(), v6.ip()),
    };
    let mut arguments = vec!["--insecure", "--resolve", &resolve, "--output", "/dev/null"];
    arguments.extend([
        "--write-out",
        "%{http_code} %{http_version}",
        "--user-agent",
        "Mozilla/5.0 (X11; Linux x86_64)",
    ]);
    arguments.extend(more);
    arguments.push(&url);
    curl(netns, &arguments)
}
