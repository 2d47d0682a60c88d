//! An origin that remembers what it was asked, a gateway in front of it, and clients that send raw bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use gateway_waf::Services;

use crate::access;
use crate::bans::Offence;
use crate::config::waf::{Mode, Rules, Waf};
use crate::config::{Config, log};
use crate::http::{Server, ServerParts};
use crate::inspect::{self, AuditTarget, AuditWriter, Inspector, Spool};
use crate::listen::{self, Acceptor, Admission, Certificates};
use crate::pipeline::{DenyList, LimitGate, Offences, Parts, Pipeline, Site};
use crate::rules;

/// How long any read of a test may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What the origin does with a connection.
type Behaviour = dyn Fn(&mut TcpStream, &Request) -> bool + Send + Sync;

/// A request as the origin saw it.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// The value of a field, by its name in lower case.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (n, value) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(super) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or("")
    }
}

/// A server that reads requests by the letter and keeps them.
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    pub(super) seen: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
}

impl Origin {
    /// Answers every request with 200 and `hello`.
    pub(super) fn hello() -> Self {
        Self::start(|stream, request| {
            let body = if request.line().starts_with("HEAD ") { "" } else { "hello" };
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nserver: secret/1.0\r\n\r\n";
            stream.write_all(format!("{head}{body}").as_bytes()).is_ok()
        })
    }

    /// Answers as `behaviour` does; false closes the connection.
    pub(super) fn start(
        behaviour: impl Fn(&mut TcpStream, &Request) -> bool + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let behaviour: Arc<Behaviour> = Arc::new(behaviour);
        let (seen_by, stop_by) = (Arc::clone(&seen), Arc::clone(&stop));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop_by.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (seen, behaviour) = (Arc::clone(&seen_by), Arc::clone(&behaviour));
                std::thread::spawn(move || serve(stream, &seen, &*behaviour));
            }
        });
        Self { address, seen, stop }
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.seen.lock().expect("lock").clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Request>>, behaviour: &Behaviour) {
    let _ = stream.set_read_timeout(Some(PATIENCE * 4));
    let mut buf = Vec::new();
    loop {
        let Some(end) = fill_until(&mut stream, &mut buf, |b| find(b, b"\r\n\r\n").map(|at| at + 4)) else {
            return;
        };
        let head = String::from_utf8_lossy(&buf[..end]).into_owned();
        buf.drain(..end);
        let mut request = Request { head, body: Vec::new() };
        let length = request.field("content-length").and_then(|l| l.parse::<usize>().ok());
        if request.field("transfer-encoding").is_some() {
            let Some(end) = fill_until(&mut stream, &mut buf, chunked_end) else { return };
            request.body = buf.drain(..end).collect();
        } else if let Some(length) = length {
            let Some(end) = fill_until(&mut stream, &mut buf, |b| (b.len() >= length).then_some(length))
            else {
                // Half a request is a request that the origin saw.
                seen.lock().expect("lock").push(request);
                return;
            };
            request.body = buf.drain(..end).collect();
        }
        seen.lock().expect("lock").push(request.clone());
        if !behaviour(&mut stream, &request) {
            return;
        }
    }
}

fn fill_until(
    stream: &mut TcpStream,
    buf: &mut Vec<u8>,
    done: impl Fn(&[u8]) -> Option<usize>,
) -> Option<usize> {
    loop {
        if let Some(end) = done(buf) {
            return Some(end);
        }
        let mut piece = [0; 16384];
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(n) => buf.extend_from_slice(&piece[..n]),
        }
    }
}

/// Where a chunked body with its trailer section ends.
fn chunked_end(b: &[u8]) -> Option<usize> {
    let last = if b.starts_with(b"0\r\n") { 0 } else { find(b, b"\r\n0\r\n")? + 2 };
    find(&b[last..], b"\r\n\r\n").map(|at| last + at + 4)
}

pub(super) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

/// What else a gateway is made of.
#[derive(Default)]
pub(super) struct Options {
    pub(super) rules: &'static str,
    pub(super) limits: Option<Arc<dyn LimitGate>>,
    pub(super) deny_list: Option<Arc<dyn DenyList>>,
}

/// A running gateway.
pub(super) struct Gateway {
    server: Option<Server>,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) offences: tokio::sync::mpsc::Receiver<Offence>,
    log: std::path::PathBuf,
    writer: Option<access::Writer>,
    audit: Option<AuditWriter>,
}

static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

impl Gateway {
    /// A gateway in front of `origin`: one listener, one upstream, everything to it, and `more` configuration.
    pub(super) fn before(origin: &Origin, more: &str) -> Self {
        let text = format!(
            "[[listeners]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\n\
             [[upstreams]]\nname = \"u\"\nservers = [\"{}\"]\n{more}",
            origin.address
        );
        Self::start(&text, Options::default())
    }

    pub(super) fn start(text: &str, options: Options) -> Self {
        let config = Config::parse(Path::new("test.toml"), text).unwrap_or_else(|e| panic!("{e}"));
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("gateway-test-{}-{n}.log", std::process::id()));
        let log = log::Log { access: log::AccessTarget::File(path.clone()), ..config.log.clone() };
        let workers = 2;
        let (access, writer) = access::start(&log, workers).expect("access log");
        let file = path.with_extension("conf");
        std::fs::write(&file, options.rules).expect("rules");
        let waf = Waf { rules: Rules::Files(vec![file]), ..config.waf.clone() };
        let loaded = rules::load(&waf).unwrap_or_else(|e| panic!("{e}"));
        let target = AuditTarget::of(&waf, &loaded.ruleset);
        let (audit, audit_writer) = inspect::start_audit(target).expect("audit log");
        let services = Services { upload_memory: Some(waf.spool.above as usize), ..Services::default() };
        let (queue, offences) = tokio::sync::mpsc::channel(64);
        let mode = if options.rules.is_empty() { Mode::Off } else { config.waf.mode };
        let site = Site::new(&config.edge, mode, loaded.ruleset, workers, None).expect("upstreams");
        let pipeline = Arc::new(Pipeline::new(Parts {
            site,
            inspector: Inspector::new(
                workers,
                services,
                Some(audit),
                Arc::new(Spool::new(waf.spool.clone())),
            ),
            access,
            limits: options.limits,
            deny_list: options.deny_list,
            places: None,
            well_known: None,
            offences: Offences::new(Some(Arc::new(Told(queue)))),
            counted: config.bans.offences.clone(),
        }));
        let edge = &config.edge;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let certificates =
            Arc::new(Certificates::load(&edge.tls.certificates, &provider, 0).expect("certificates"));
        let numbers = Arc::new(listen::TlsNumbers::default());
        // A port that is free for TCP may be taken for UDP.
        let bound = (0..20).find_map(|_| listen::bind(&edge.listeners, Vec::new()).ok()).expect("free ports");
        let addresses = bound.iter().map(|b| b.local).collect();
        let listeners: Vec<_> = bound
            .into_iter()
            .map(|b| {
                let tls = b.listener.tls.then(|| {
                    let certificates = Arc::clone(&certificates);
                    let provider = Arc::clone(&provider);
                    let tls = listen::server_config(&edge.tls, &b.listener.clients, certificates, provider);
                    Arc::new(ArcSwap::new(tls.expect("TLS")))
                });
                let timeout = edge.tls.handshake_timeout;
                let acceptor = Acceptor::new(&b.listener, tls, timeout, Arc::clone(&numbers));
                (b, acceptor)
            })
            .collect();
        let admission = Arc::new(Admission::new(
            listeners.len(),
            edge.http.max_connections,
            edge.http.max_connections_per_source,
        ));
        let server = Server::start(ServerParts {
            listeners,
            admission,
            pipeline: Arc::clone(&pipeline),
            workers,
            cpus: config.server.cpus.clone(),
        })
        .expect("started");
        Self {
            server: Some(server),
            pipeline,
            addresses,
            offences,
            log: path,
            writer: Some(writer),
            audit: Some(audit_writer),
        }
    }

    pub(super) fn server(&self) -> &Server {
        self.server.as_ref().expect("running")
    }

    /// Drains and gives the number of connections that were cut off.
    pub(super) fn drain(&mut self, deadline: Duration) -> u64 {
        self.server.take().expect("running").drain(deadline)
    }

    pub(super) fn connect(&self) -> Client {
        Client::connect(self.addresses[0])
    }

    /// Sends bytes over a new connection, and gives all that comes back until the server closes (or
    /// nothing comes for a while).
    pub(super) fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.connect();
        client.send(bytes);
        client.rest()
    }

    /// Lines of the access log, once there are `n`.
    pub(super) fn log_lines(&self, n: usize) -> Vec<serde_json::Value> {
        let started = Instant::now();
        loop {
            let text = std::fs::read_to_string(&self.log).unwrap_or_default();
            if text.lines().count() >= n || started.elapsed() > PATIENCE {
                return text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The numbers as they are exposed.
    pub(super) fn metrics(&self) -> String {
        let mut out = String::new();
        self.pipeline.metrics(&mut out).expect("written");
        self.server().metrics(&mut out).expect("written");
        out
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.server = None;
        self.writer = None;
        self.audit = None;
        let _ = std::fs::remove_file(&self.log);
        let _ = std::fs::remove_file(self.log.with_extension("conf"));
    }
}

/// A client that sends what it is told.
pub(super) struct Client {
    pub(super) stream: TcpStream,
    buf: Vec<u8>,
}

/// A response read by its length.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Response {
    pub(super) fn status(&self) -> u16 {
        self.head.get(9..12).and_then(|s| s.parse().ok()).unwrap_or(0)
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (n, value) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(super) fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["error"]["code"].as_str().unwrap_or("").to_owned()
    }
}

impl Client {
    pub(super) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream.set_nodelay(true).expect("nodelay");
        Self { stream, buf: Vec::new() }
    }

    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The server may have refused and closed already: the answer tells.
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// One response with its body, by `Content-Length` or chunks.
    pub(super) fn response(&mut self) -> Option<Response> {
        let end = fill_until(&mut self.stream, &mut self.buf, |b| find(b, b"\r\n\r\n").map(|at| at + 4))?;
        let head = String::from_utf8_lossy(&self.buf[..end]).into_owned();
        self.buf.drain(..end);
        let mut response = Response { head, body: Vec::new() };
        let length = response.field("content-length").and_then(|l| l.parse::<usize>().ok());
        if let Some(length) = length {
            let end = fill_until(&mut self.stream, &mut self.buf, |b| (b.len() >= length).then_some(length))?;
            response.body = self.buf.drain(..end).collect();
        } else if response.field("transfer-encoding").is_some() {
            let end = fill_until(&mut self.stream, &mut self.buf, chunked_end)?;
            response.body = self.buf.drain(..end).collect();
        }
        Some(response)
    }

    /// What comes within a short while, which should be nothing.
    pub(super) fn whatever_follows(&mut self) -> String {
        self.stream.set_read_timeout(Some(Duration::from_millis(30))).expect("timeout");
        self.rest()
    }

    /// Everything until the end.
    pub(super) fn rest(&mut self) -> String {
        let _ = fill_until(&mut self.stream, &mut self.buf, |_| None);
        String::from_utf8_lossy(&self.buf).into_owned()
    }

    /// Whether the server has closed (within patience).
    pub(super) fn is_closed(&mut self) -> bool {
        let mut piece = [0; 1024];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) => return e.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }
}

/// Offences into a channel of the test.
struct Told(tokio::sync::mpsc::Sender<Offence>);

impl crate::pipeline::OffenceSink for Told {
    fn tell(&self, offence: Offence) {
        // A test that does not look at offences lets them pile up.
        let _full = self.0.try_send(offence);
    }
}
