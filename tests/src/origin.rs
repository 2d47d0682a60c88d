//! The service behind the gateway: a small HTTP/1.1 server that says what it was asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::netns::Netns;

/// Longest line of a request that is read, in bytes.
const MAX_LINE: u64 = 64 << 10;
/// Longest body that is read, in bytes.
const MAX_BODY: u64 = 16 << 20;

/// A running origin; it stops with the value.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    served: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Origin {
    /// Listens on a loopback port in the namespace.
    pub fn start(netns: &Netns) -> Result<Self> {
        netns.inside(|| Self::on(SocketAddr::from(([127, 0, 0, 1], 0))))
    }

    /// Listens on an address; port 0 takes a free one.
    pub fn on(address: SocketAddr) -> Result<Self> {
        let listener =
            TcpListener::bind(address).with_context(|| format!("the origin cannot listen on {address}"))?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let served = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (count, stopped) = (served.clone(), stop.clone());
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let (count, stopped) = (count.clone(), stopped.clone());
                        std::thread::spawn(move || serve(stream, &count, &stopped));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Ok(Self { address, served, stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests it answered.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Answers the requests of one connection until it ends; the body of an answer is the request line.
fn serve(stream: TcpStream, served: &AtomicU64, stop: &AtomicBool) {
    let timeouts =
        stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(Duration::from_secs(30))));
    let Ok(mut writer) = stream.try_clone() else { return };
    if timeouts.is_err() || stream.set_nodelay(true).is_err() {
        return;
    }
    let mut reader = BufReader::new(stream);
    while !stop.load(Ordering::Relaxed) {
        let Some(request) = read_request(&mut reader) else { return };
        served.fetch_add(1, Ordering::Relaxed);
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nserver: origin\r\ncontent-length: {}\r\n\r\n{request}",
            request.len()
        );
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// The request line of the next request, its head and body read to the end; `None` when there is none.
fn read_request(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut first = String::new();
    let mut length = 0;
    let mut chunked = false;
    loop {
        let mut line = String::new();
        if reader.by_ref().take(MAX_LINE).read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() && !first.is_empty() {
            break;
        }
        if first.is_empty() {
            line.clone_into(&mut first);
        } else if let Some((name, value)) = line.split_once(':') {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().ok()?,
                "transfer-encoding" => chunked = true,
                _ => {}
            }
        }
    }
    if chunked {
        skip_chunks(reader)?;
    } else {
        skip(reader, length)?;
    }
    Some(first)
}

fn skip_chunks(reader: &mut BufReader<TcpStream>) -> Option<()> {
    loop {
        let mut line = String::new();
        reader.by_ref().take(MAX_LINE).read_line(&mut line).ok()?;
        let size = u64::from_str_radix(line.trim(), 16).ok()?;
        skip(reader, size)?;
        line.clear();
        reader.by_ref().take(MAX_LINE).read_line(&mut line).ok()?;
        if size == 0 {
            return Some(());
        }
    }
}

fn skip(reader: &mut BufReader<TcpStream>, length: u64) -> Option<()> {
    let length = (length <= MAX_BODY).then_some(length)?;
    let copied = std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).ok()?;
    (copied == length).then_some(())
}
