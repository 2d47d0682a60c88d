//! pebble, the test authority, with its ports and files.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gateway::acme::{Challenge, Settings};

/// How long a program may take until it listens.
const READY: Duration = Duration::from_secs(30);

/// A program that stops with the test.
pub(super) struct Running(pub(super) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &str, args: &[&str], folder: &Path, rejected: u8) -> Running {
    let log = fs::File::create(folder.join(format!("{program}.log"))).expect("log");
    let child = Command::new(program)
        .args(args)
        .current_dir(folder)
        .env("PEBBLE_VA_NOSLEEP", "1")
        // Some of all nonces are refused, as the authority may do at any time.
        .env("PEBBLE_WFE_NONCEREJECT", rejected.to_string())
        .env("PEBBLE_AUTHZREUSE", "0")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("log"))
        .stderr(log)
        .spawn()
        .unwrap_or_else(|e| panic!("{program} can't be started ({e}): install Debian's package pebble"));
    Running(child)
}

/// A port that was free a moment ago.
pub(super) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).map(|a| a.port()).expect("port")
}

/// Waits until something listens there.
pub(super) fn listens(port: u16) {
    let until = Instant::now() + READY;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(Instant::now() < until, "nothing listens on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ports and files of one authority.
pub(super) struct Lab {
    pub(super) folder: PathBuf,
    pub(super) directory: u16,
    dns: u16,
    pub(super) http: u16,
    pub(super) tls: u16,
}

impl Lab {
    /// `life` is what certificates live, in seconds.
    pub(super) fn new(name: &str, life: u32) -> Self {
        let folder = std::env::temp_dir().join(format!("gateway-acme-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("folder");
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("certificate");
        fs::write(folder.join("authority.crt"), made.cert.pem()).expect("certificate");
        fs::write(folder.join("authority.key"), made.signing_key.serialize_pem()).expect("key");
        let lab =
            Self { folder, directory: free_port(), dns: free_port(), http: free_port(), tls: free_port() };
        let config = serde_json::json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{}", lab.directory),
            "managementListenAddress": format!("127.0.0.1:{}", free_port()),
            "certificate": lab.folder.join("authority.crt"),
            "privateKey": lab.folder.join("authority.key"),
            "httpPort": lab.http, "tlsPort": lab.tls,
            "ocspResponderURL": "", "externalAccountBindingRequired": false,
            "certificateValidityPeriod": life,
        }});
        fs::write(lab.folder.join("pebble.json"), config.to_string()).expect("config");
        lab
    }

    /// Starts it; `rejected` in a hundred nonces are refused.
    pub(super) fn authority(&self, rejected: u8) -> (Running, Running) {
        let dns = format!("127.0.0.1:{}", self.dns);
        let off = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-management", ""];
        let args =
            [&["-defaultIPv6", "", "-defaultIPv4", "127.0.0.1", "-dns01", &dns][..], &off[..]].concat();
        let names = start("pebble-challtestsrv", &args, &self.folder, rejected);
        let pebble = start("pebble", &["-config", "pebble.json", "-dnsserver", &dns], &self.folder, rejected);
        listens(self.directory);
        (names, pebble)
    }

    pub(super) fn settings(&self, challenge: Challenge, names: &[&[&str]]) -> Settings {
        Settings {
            directory: format!("https://localhost:{}/dir", self.directory),
            roots: Some(self.folder.join("authority.crt")),
            contact: Some("mailto:admin@example.org".to_owned()),
            certificates: names.iter().map(|n| n.iter().map(ToString::to_string).collect()).collect(),
            challenge,
            folder: self.folder.join("store"),
            retry: Duration::from_millis(300),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}
