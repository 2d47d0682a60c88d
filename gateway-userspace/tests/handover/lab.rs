//! The program, its folder, a server behind it and a client before it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take that should take a moment.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(usual)
}

pub(super) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).map(|a| a.port()).expect("port")
}

/// A program that ends with the test.
pub(super) struct Running(pub(super) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    pub(super) fn ended(&mut self) -> std::process::ExitStatus {
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
pub(super) struct Lab {
    pub(super) folder: PathBuf,
    pub(super) port: u16,
    pub(super) control: u16,
}

impl Lab {
    pub(super) fn new(name: &str, servers: &[SocketAddr], more: &str) -> Self {
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

    pub(super) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Starts the program and waits until it says that it serves.
    pub(super) fn start(&self, name: &str, more: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.args(["run", "--config"]).arg(self.folder.join("gateway.toml")).args(more);
        self.start_as(name, command)
    }

    /// As [`Lab::start`], by this command.
    pub(super) fn start_as(&self, name: &str, mut command: Command) -> Running {
        let log = self.folder.join(format!("{name}.log"));
        let file = std::fs::File::create(&log).expect("log");
        let child = command
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

    pub(super) fn ask(&self, arguments: &[&str]) -> std::process::Output {
        Command::new(env!("CARGO_BIN_EXE_gateway"))
            .arg("--control")
            .arg(self.folder.join("control.sock"))
            .args(arguments)
            .output()
            .expect("ran")
    }

    /// The metrics page.
    pub(super) fn metrics(&self) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.control)).expect("a control listener");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .expect("asked");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("answered");
        text
    }

    pub(super) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(format!("{name}.log"))).unwrap_or_default()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A successor is no child of the test's: whoever runs with this configuration ends with the test.
        for process in running_with(&self.folder.join("gateway.toml")) {
            let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
        }
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// The processes that have this file on their command line.
fn running_with(file: &Path) -> Vec<rustix::process::Pid> {
    let file = file.as_os_str().as_encoded_bytes();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let named = |folder: &std::fs::DirEntry| {
        let line = std::fs::read(folder.path().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == file)
    };
    let number = |folder: std::fs::DirEntry| folder.file_name().to_str()?.parse().ok();
    processes.filter(named).filter_map(number).filter_map(rustix::process::Pid::from_raw).collect()
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

pub(super) fn origin() -> SocketAddr {
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
pub(super) struct Client {
    pub(super) address: SocketAddr,
    pub(super) keeps: bool,
    pub(super) connection: Option<BufReader<TcpStream>>,
}

impl Client {
    pub(super) fn get(&mut self) -> std::io::Result<()> {
        self.ask("GET", "")
    }

    pub(super) fn ask(&mut self, method: &str, body: &str) -> std::io::Result<()> {
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
