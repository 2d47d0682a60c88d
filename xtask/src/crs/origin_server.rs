//! The emulated backend as a server, for runs through a daemon.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::origin;

/// Longest request line and headers, and longest body, that it reads.
const HEAD_MAX_BYTES: u64 = 1 << 20;
const BODY_MAX_BYTES: u64 = 32 << 20;
/// How long it waits for the other side.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Answers on a free port of 127.0.0.1 until the process ends, one connection after the other, each for one request.
///
/// # Errors
/// No port can be listened on.
pub fn start() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no port to listen on")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // What is wrong with one connection shows in the test that made it.
            let _ = answer(&stream);
        }
    });
    Ok(address)
}

fn answer(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut reader = BufReader::new(stream.take(HEAD_MAX_BYTES + BODY_MAX_BYTES));
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    let mut words = line.split(|&byte| byte == b' ');
    let (method, uri) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (mut length, mut is_chunked) = (0, false);
    loop {
        let mut header = Vec::new();
        if reader.read_until(b'\n', &mut header)? == 0 || header == b"\r\n" || header == b"\n" {
            break;
        }
        let text = String::from_utf8_lossy(&header).to_ascii_lowercase();
        if let Some(value) = text.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        is_chunked |= text.starts_with("transfer-encoding:") && text.contains("chunked");
    }
    let body = if is_chunked { chunks(&mut reader)? } else { bytes(&mut reader, length)? };
    let response = origin::answer(method, uri, &body);
    let mut out = format!("HTTP/1.1 {} Reflected\r\n", response.status).into_bytes();
    for (name, value) in &response.headers {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    out.extend_from_slice(b"Connection: close\r\n\r\n");
    out.extend_from_slice(&response.body);
    let mut writer = stream;
    writer.write_all(&out)
}

fn bytes(reader: &mut impl std::io::Read, length: u64) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    reader.take(length.min(BODY_MAX_BYTES)).read_to_end(&mut body)?;
    Ok(body)
}

fn chunks(reader: &mut impl std::io::BufRead) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim().split(';').next().unwrap_or_default(), 16).unwrap_or(0);
        if size == 0 || body.len() as u64 + size > BODY_MAX_BYTES {
            return Ok(body);
        }
        body.extend(bytes(reader, size)?);
        reader.read_line(&mut String::new())?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reflects_over_a_socket() {
        let address = start().expect("listens");
        let rows = [
            ("POST /reflect HTTP/1.1\r\nContent-Length: 14\r\n\r\n{\"status\":418}", "HTTP/1.1 418"),
            (
                "POST /reflect HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\ne\r\n{\"status\":418}\r\n0\r\n\r\n",
                "HTTP/1.1 418",
            ),
            ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200"),
        ];
        for (request, expected) in rows {
            let mut stream = TcpStream::connect(address).expect("connects");
            stream.write_all(request.as_bytes()).expect("writes");
            let mut response = String::new();
            stream.read_to_string(&mut response).expect("reads");
            assert!(response.starts_with(expected), "{request}: {response}");
        }
    }
}
