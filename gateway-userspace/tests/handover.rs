//! Restarts and reloads that nobody notices, and a server that dies: the real program, real sockets.
//!
//! `GATEWAY_HANDOVER_REQUESTS=100000` (with `_RELOADS` and `_RESTARTS`) sets the size; the usual run is smaller.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take that should take a moment.
const PATIENCE: Duration = Duration::from_secs(60);

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(usual)
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).map(|a| a.port()).expect("port")
}

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn ended(&mut self) -> std::process::ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().expect("known") {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "it doesn't end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A folder with a configuration.
struct Lab {
    folder: PathBuf,
    port: u16,
    control: u16,
}

impl Lab {
    fn new(name: &str, servers: &[SocketAddr], more: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("gateway-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("folder");
        let lab = Self { folder, port: free_port(), control: free_port() };
        let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
        let text = format!(
            "[server]\nworkers = 2\ndrain = \"20s\"\n[control]\nsocket = \"{}\"\nlisten = \"127.0.0.1:{}\"\n\
             [[listeners]]\naddress = \"127.0.0.1:{}\"\n[bans]\ndatabase = \"{}\"\n\
             [[upstreams]]\nname = \"u\"\nservers = {servers:?}\n{more}",
            lab.folder.join("control.sock").display(),
            lab.control,
            lab.port,
            lab.folder.join("bans.redb").display(),
        );
        std::fs::write(lab.folder.join("gateway.toml"), text).expect("written");
        lab
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Starts the program and waits until it says that it serves.
    fn start(&self, name: &str, more: &[&str]) -> Running {
        let log = self.folder.join(format!("{name}.log"));
        let file = std::fs::File::create(&log).expect("log");
        let child = Command::new(env!("CARGO_BIN_EXE_gateway"))
            .args(["run", "--config"])
            .arg(self.folder.join("gateway.toml"))
            .args(more)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("log"))
            .stderr(file)
            .spawn()
            .expect("started");
        let mut running = Running(child);
        let started = Instant::now();
        loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if text.contains("serving http") {
                return running;
            }
            let ended = running.0.try_wait().expect("known");
            assert!(ended.is_none() && started.elapsed() < PATIENCE, "{name} {ended:?}: {text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn ask(&self, arguments: &[&str]) -> std::process::Output {
        Command::new(env!("CARGO_BIN_EXE_gateway"))
            .arg("--control")
            .arg(self.folder.join("control.sock"))
            .args(arguments)
            .output()
            .expect("ran")
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(format!("{name}.log"))).unwrap_or_default()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Reads a message with a length; the first line and the fields. `None` when the other side closed first.
fn read_message(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<String>> {
    let mut head = String::new();
    loop {
        let before = head.len();
        if reader.read_line(&mut head)? == 0 {
            let cut = std::io::Error::other(format!("closed in the middle of: {head:?}"));
            return if before == 0 { Ok(None) } else { Err(cut) };
        }
        if head.ends_with("\r\n\r\n") {
            break;
        }
    }
    let length = head
        .lines()
        .find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    Ok(Some(head))
}

fn origin() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("port");
    let address = listener.local_addr().expect("address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                let mut reader = BufReader::new(stream);
                while let Ok(Some(_)) = read_message(&mut reader) {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    if reader.get_mut().write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// One client: no request is ever sent twice. With `keeps` it uses a connection until it is told to close it.
struct Client {
    address: SocketAddr,
    keeps: bool,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    fn get(&mut self) -> std::io::Result<()> {
        self.ask("GET", "")
    }

    fn ask(&mut self, method: &str, body: &str) -> std::io::Result<()> {
        let mut reader = match self.connection.take() {
            Some(reader) => reader,
            None => {
                let stream = TcpStream::connect(self.address)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                BufReader::new(stream)
            }
        };
        let close = if self.keeps { "" } else { "Connection: close\r\n" };
        let length = body.len();
        write!(
            reader.get_mut(),
            "{method} /x HTTP/1.1\r\nHost: a.test\r\nUser-Agent: t\r\nAccept: */*\r\n\
             Content-Type: text/plain\r\nContent-Length: {length}\r\n{close}\r\n{body}"
        )?;
        let head = read_message(&mut reader)?.ok_or_else(|| std::io::Error::other("closed unanswered"))?;
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(std::io::Error::other(head.lines().next().unwrap_or("").to_owned()));
        }
        if self.keeps && !head.to_ascii_lowercase().contains("\r\nconnection: close") {
            self.connection = Some(reader);
        }
        Ok(())
    }
}

#[test]
fn no_request_fails_over_reloads_and_restarts() {
    let requests = number("GATEWAY_HANDOVER_REQUESTS", 12_000);
    let (reloads, restarts) = (number("GATEWAY_HANDOVER_RELOADS", 6), number("GATEWAY_HANDOVER_RESTARTS", 3));
    let lab = Arc::new(Lab::new("handover", &[origin()], ""));
    let mut gateway = lab.start("gateway-0", &[]);
    let (sent, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = [true, true, true, false]
        .into_iter()
        .map(|keeps| {
            let (sent, is_over, address) = (Arc::clone(&sent), Arc::clone(&is_over), lab.address());
            std::thread::spawn(move || {
                let mut failed = Vec::new();
                let mut client = Client { address, keeps, connection: None };
                while !is_over.load(Ordering::Relaxed) {
                    if let Err(e) = client.get() {
                        failed.push(e.to_string());
                    }
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                failed
            })
        })
        .collect();
    let started = Instant::now();
    let steps = reloads + restarts;
    let mut restarted = 0;
    for step in 0..steps {
        // Spread over the whole of the load.
        while sent.load(Ordering::Relaxed) < requests * (step + 1) / (steps + 1) {
            assert!(started.elapsed() < 5 * PATIENCE, "{} of {requests}", sent.load(Ordering::Relaxed));
            std::thread::sleep(Duration::from_millis(5));
        }
        if restarted * steps < restarts * (step + 1) {
            restarted += 1;
            let next = lab.start(&format!("gateway-{restarted}"), &["--take-over"]);
            let mut old = std::mem::replace(&mut gateway, next);
            let status = old.ended();
            assert!(status.success(), "{status}: {}", lab.log(&format!("gateway-{}", restarted - 1)));
        } else {
            let out = lab.ask(&["reload"]);
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        }
    }
    while sent.load(Ordering::Relaxed) < requests {
        assert!(started.elapsed() < 5 * PATIENCE, "{} of {requests}", sent.load(Ordering::Relaxed));
        std::thread::sleep(Duration::from_millis(5));
    }
    is_over.store(true, Ordering::Relaxed);
    let failed: Vec<String> = clients.into_iter().flat_map(|c| c.join().expect("no panic")).collect();
    let all = sent.load(Ordering::Relaxed);
    println!(
        "{all} requests, {reloads} reloads, {restarts} restarts: {} failed; {:?}",
        failed.len(),
        started.elapsed()
    );
    assert_eq!(restarted, restarts);
    assert_eq!(failed, Vec::<String>::new());
    let status = lab.ask(&["--json", "status"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(status["pid"].as_u64(), Some(u64::from(gateway.0.id())), "the last one answers");
}

#[test]
fn a_successor_that_fails_leaves_the_old_one_serving_and_sigusr2_starts_one() {
    let lab = Lab::new("successor", &[origin()], "");
    let mut gateway = lab.start("gateway", &[]);
    let mut client = Client { address: lab.address(), keeps: true, connection: None };
    client.get().expect("served");
    // One with a broken configuration takes nothing.
    let good = std::fs::read_to_string(lab.folder.join("gateway.toml")).expect("read");
    std::fs::write(lab.folder.join("gateway.toml"), "[server]\nworkers = 0\n").expect("written");
    let refused = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .args(["run", "--take-over", "--config"])
        .arg(lab.folder.join("gateway.toml"))
        .output()
        .expect("ran");
    assert!(!refused.status.success());
    client.get().expect("served still");
    std::fs::write(lab.folder.join("gateway.toml"), &good).expect("written");
    // One that goes away in the middle is noticed and forgotten.
    drop(std::os::unix::net::UnixStream::connect(lab.folder.join("control.handover")).expect("a socket"));
    // SIGUSR2 starts a successor, which takes over.
    let pid = rustix::process::Pid::from_raw(gateway.0.id().cast_signed()).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::USR2).expect("signalled");
    let status = gateway.ended();
    assert!(status.success(), "{status}: {}", lab.log("gateway"));
    client.connection = None;
    client.get().expect("served by the successor");
    let out = lab.ask(&["--json", "status"]);
    let status: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let successor = status["pid"].as_i64().expect("a process");
    let successor = rustix::process::Pid::from_raw(successor as i32).expect("a process");
    assert_ne!(successor, pid);
    rustix::process::kill_process(successor, rustix::process::Signal::TERM).expect("signalled");
    let started = Instant::now();
    while TcpStream::connect(lab.address()).is_ok() {
        assert!(started.elapsed() < PATIENCE, "the successor doesn't end");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A server of its own process, which can be killed.
fn server(folder: &Path, port: u16) -> Running {
    let script = folder.join("server.py");
    std::fs::write(
        &script,
        "import http.server, sys\n\
         class H(http.server.BaseHTTPRequestHandler):\n\
         \x20   protocol_version = 'HTTP/1.1'\n\
         \x20   def do_GET(self):\n\
         \x20       self.rfile.read(int(self.headers.get('content-length') or 0))\n\
         \x20       self.send_response(200); self.send_header('content-length', '2'); self.end_headers()\n\
         \x20       self.wfile.write(b'ok')\n\
         \x20   do_POST = do_GET\n\
         \x20   def log_message(self, *a): pass\n\
         http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), H).serve_forever()\n",
    )
    .expect("written");
    let child =
        Command::new("python3").arg(&script).arg(port.to_string()).spawn().expect("python3 is installed");
    let running = Running(child);
    let started = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(started.elapsed() < PATIENCE, "the server doesn't start");
        std::thread::sleep(Duration::from_millis(20));
    }
    running
}

#[test]
fn a_killed_server_costs_no_more_than_its_health_budget() {
    const BUDGET: usize = 3;
    let ports = [free_port(), free_port()];
    let addresses = ports.map(|p| SocketAddr::from((Ipv4Addr::LOCALHOST, p)));
    let more = format!("balance = \"round-robin\"\nmax_failures = {BUDGET}\nfailure_pause = \"1h\"\n");
    let lab = Lab::new("killed", &addresses, &more);
    let mut servers = ports.map(|port| server(&lab.folder, port));
    let _gateway = lab.start("gateway", &[]);
    let mut client = Client { address: lab.address(), keeps: true, connection: None };
    for _ in 0..50 {
        client.get().expect("both serve");
    }
    servers[0].0.kill().expect("killed");
    servers[0].0.wait().expect("ended");
    // Requests that may be sent twice are: none fails.
    let safe: Vec<_> = (0..500).filter_map(|_| client.get().err()).collect();
    assert!(safe.is_empty(), "{safe:?}");
    // What may not be sent twice fails at most until the server is left out.
    servers[0] = server(&lab.folder, ports[0]);
    let unsafe_lab = Lab::new("killed-unsafe", &addresses, &more);
    let _other = unsafe_lab.start("gateway", &[]);
    let mut client = Client { address: unsafe_lab.address(), keeps: true, connection: None };
    for _ in 0..50 {
        client.ask("POST", "a=b").expect("both serve");
    }
    servers[0].0.kill().expect("killed");
    servers[0].0.wait().expect("ended");
    let failed = (0..500).filter(|_| client.ask("POST", "a=b").is_err()).count();
    println!("{failed} of 500 requests failed that may not be sent twice");
    assert!(failed <= BUDGET, "{failed}");
}
