//! Real Redis processes on loopback ports.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A folder that goes away with the test.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("gateway-limits-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running redis-server or sentinel.
pub struct Server {
    pub port: u16,
    arguments: Vec<String>,
    program: &'static str,
    child: Child,
    stopped: bool,
    _folder: Folder,
}

pub fn free_port() -> u16 {
    // Cluster nodes also listen on their port plus 10,000.
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let port = listener.local_addr().expect("its address").port();
        if port < 55_000 && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}

impl Server {
    pub fn single() -> Self {
        Self::with(free_port(), &[])
    }

    /// A server with further arguments.
    pub fn with(port: u16, more: &[&str]) -> Self {
        let folder = Folder::new();
        let dir = folder.0.display().to_string();
        let port_text = port.to_string();
        let mut arguments: Vec<String> = [
            "--port",
            &port_text,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            &dir,
            "--loglevel",
            "warning",
            "--enable-debug-command",
            "yes",
        ]
        .map(str::to_owned)
        .into();
        arguments.extend(more.iter().map(|m| (*m).to_owned()));
        let server = Self::start("redis-server", port, arguments, folder);
        server.wait_until_up();
        server
    }

    pub fn sentinel(master: &str, master_port: u16) -> Self {
        let folder = Folder::new();
        let port = free_port();
        let file = folder.0.join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {master} 127.0.0.1 {master_port} 1\n\
             sentinel down-after-milliseconds {master} 500\nsentinel failover-timeout {master} 2000\n",
            folder.0.display()
        );
        std::fs::write(&file, text).expect("the sentinel's file");
        let server = Self::start("redis-sentinel", port, vec![file.display().to_string()], folder);
        server.wait_until_up();
        server
    }

    fn start(program: &'static str, port: u16, arguments: Vec<String>, folder: Folder) -> Self {
        let child = spawn(program, &arguments);
        Self { port, arguments, program, child, stopped: false, _folder: folder }
    }

    fn wait_until_up(&self) {
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < until, "{} did not come up", self.program);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs a command over a connection of its own and gives the start of its answer, as it came.
    pub fn command(&self, command: &str) -> String {
        try_command(self.port, command).unwrap_or_else(|e| panic!("{command}: {e}"))
    }

    /// SIGSTOP.
    pub fn pause(&mut self) {
        self.signal("-STOP");
        self.stopped = true;
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        self.signal("-CONT");
        self.stopped = false;
    }

    /// SIGKILL; its memory is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Starts again after [`Server::kill`], on the same port, empty.
    pub fn restart(&mut self) {
        self.child = spawn(self.program, &self.arguments);
        self.wait_until_up();
    }

    fn signal(&self, signal: &str) {
        let done = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status().expect("kill");
        assert!(done.success(), "kill {signal}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.stopped {
            self.resume();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &str, arguments: &[String]) -> Child {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|e| panic!("{program} must be installed for this test: {e}"))
}

/// Sends an inline command and reads until the server has been silent for a moment.
pub fn try_command(port: u16, command: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut buffer = vec![0; 64 * 1024];
    let n = stream.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..n]).into_owned())
}

/// Six nodes: three masters with a replica each.
pub fn cluster() -> Vec<Server> {
    let nodes: Vec<Server> = (0..6)
        .map(|_| {
            let more = [
                "--cluster-enabled",
                "yes",
                "--cluster-config-file",
                "nodes.conf",
                "--cluster-node-timeout",
                "1000",
            ];
            Server::with(free_port(), &more)
        })
        .collect();
    let addresses = nodes.iter().map(|n| format!("127.0.0.1:{}", n.port));
    let made = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(addresses)
        .args(["--cluster-replicas", "1", "--cluster-yes"])
        .output()
        .expect("redis-cli must be installed for this test");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    let until = Instant::now() + Duration::from_secs(15);
    while !nodes.iter().all(|n| n.command("CLUSTER INFO").contains("cluster_state:ok")) {
        assert!(Instant::now() < until, "the cluster did not form");
        std::thread::sleep(Duration::from_millis(50));
    }
    nodes
}

/// A certificate authority, and a certificate of it for 127.0.0.1: `ca.pem`, `server.pem`, `server.key`.
pub fn certificates(folder: &Path) {
    let ca_key = rcgen::KeyPair::generate().expect("a key");
    let mut ca = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.distinguished_name = rcgen::DistinguishedName::new();
    ca.distinguished_name.push(rcgen::DnType::CommonName, "an authority for a test");
    ca.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::DigitalSignature];
    let ca_certificate = ca.self_signed(&ca_key).expect("a certificate");
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = rcgen::CertificateParams::new(names)
        .expect("parameters")
        .signed_by(&key, &issuer)
        .expect("a certificate");
    for (name, text) in [
        ("ca.pem", ca_certificate.pem()),
        ("server.pem", certificate.pem()),
        ("server.key", key.serialize_pem()),
    ] {
        std::fs::write(folder.join(name), text).expect("a PEM file");
    }
}
