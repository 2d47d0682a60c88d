//! The servers, the daemon before them, and a clean client.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use gateway_tests::{Origin, Scratch};

use crate::paths::Paths;
use crate::server::{self, Server};
use crate::setup;

/// How long the daemon may take until it listens.
const READY: Duration = Duration::from_secs(30);

/// Everything that runs. It stops with the value.
pub struct Stage {
    pub plain: u16,
    pub tls: u16,
    python: PathBuf,
    programs: PathBuf,
    daemon: Server,
    _servers: PythonServers,
    _origin: Origin,
    /// Goes last.
    scratch: Scratch,
}

/// The Python servers; they end with the value.
struct PythonServers(Child);

impl Stage {
    /// Starts the servers and the daemon.
    pub fn start(gateway: &Path, paths: &Paths) -> Result<Self> {
        let scratch = Scratch::new()?;
        let folder = scratch.path();
        certificates(folder)?;
        let python = setup::python::python(paths);
        let programs = paths.root.join("tests/clients");
        let servers = Command::new(&python)
            .arg(programs.join("servers.py"))
            .arg(folder.join("report"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the Python servers")?;
        let mut servers = PythonServers(servers);
        let mut line = String::new();
        if let Some(out) = servers.0.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        let ports: serde_json::Value =
            serde_json::from_str(&line).context("the Python servers told no ports")?;
        let origin = Origin::on(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let (plain, tls) = (free_port()?, free_port()?);
        let config = folder.join("gateway.toml");
        let control = folder.join("control.sock");
        fs::write(
            &config,
            format!(
                "[server]\nworkers = 1\n[log]\naccess = \"off\"\n[waf]\nmode = \"off\"\n[bans]\nenabled = false\n\
                 [control]\nsocket = \"{}\"\nlisten = \"off\"\n\
                 [http]\nheader_timeout = \"5s\"\nbody_timeout = \"5s\"\nsend_timeout = \"5s\"\nidle_timeout = \"20s\"\n\
                 [[listeners]]\nname = \"plain\"\naddress = \"127.0.0.1:{plain}\"\n\
                 [[listeners]]\nname = \"tls\"\naddress = \"127.0.0.1:{tls}\"\ntls = true\nhttp3 = true\n\
                 [tls]\ncertificates = [{{ certificate = \"cert.pem\", key_file = \"key.pem\" }}]\n\
                 [[upstreams]]\nname = \"origin\"\nservers = [\"{}\"]\n\
                 [[upstreams]]\nname = \"site\"\nservers = [\"127.0.0.1:{}\"]\n\
                 [[upstreams]]\nname = \"ws\"\nservers = [\"127.0.0.1:{}\"]\n\
                 [[upstreams]]\nname = \"grpc\"\nservers = [\"127.0.0.1:{}\"]\nprotocol = \"http2\"\n\
                 [[routes]]\nname = \"all\"\nupstream = \"origin\"\nsecurity_headers = \"strict\"\n\
                 [[routes]]\nname = \"site\"\nupstream = \"site\"\npath_prefix = \"/site\"\n\
                 [[routes]]\nname = \"ws\"\nupstream = \"ws\"\npath = \"/ws\"\nupgrade = true\n\
                 [[routes]]\nname = \"grpc\"\nupstream = \"grpc\"\npath_prefix = \"/echo.Echo\"\n",
                control.display(),
                origin.address(),
                ports["site"],
                ports["ws"],
                ports["grpc"]
            ),
        )?;
        let listens = [plain, tls].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let command = server::gateway(gateway, &config);
        let daemon = Server::start("the daemon", command, &folder.join("gateway.log"), &listens, READY)?;
        Ok(Self { plain, tls, python, programs, daemon, _servers: servers, _origin: origin, scratch })
    }

    /// What is kept while this runs.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder().join("ca.pem")
    }

    /// One of the Python clients.
    pub fn python(&self, program: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(self.programs.join(program));
        command
    }

    /// The end of the daemon's log.
    pub fn log_tail(&self) -> String {
        self.daemon.log_tail()
    }

    /// Resident memory of the daemon, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.daemon.id())).unwrap_or_default();
        let kib =
            text.lines().find_map(|l| l.strip_prefix("VmRSS:")).and_then(|l| l.split_whitespace().next());
        kib.and_then(|k| k.parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    /// One request of a clean client on a connection of its own; how long it took.
    pub fn clean_request(&self) -> Result<Duration> {
        let start = Instant::now();
        let mut stream = TcpStream::connect(("127.0.0.1", self.plain))?;
        stream.set_read_timeout(Some(Duration::from_secs(15)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        if !text.starts_with("HTTP/1.1 200") {
            bail!("a clean client got: {}", text.lines().next().unwrap_or("nothing"));
        }
        Ok(start.elapsed())
    }
}

impl Drop for PythonServers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that is free for TCP and for UDP.
fn free_port() -> Result<u16> {
    for _ in 0..100 {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port is free for both TCP and UDP");
}

/// An authority, and a certificate for `localhost` as a public authority would make it: with a place for revocations.
fn certificates(folder: &Path) -> Result<()> {
    let openssl = |args: &[&str]| {
        let out =
            Command::new("openssl").args(args).current_dir(folder).output().context("running openssl")?;
        if !out.status.success() {
            bail!("openssl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        }
        Ok(())
    };
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let ca = [
        "req",
        "-x509",
        "-days",
        "365",
        "-subj",
        "/O=Test/CN=Test authority",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
    ];
    openssl(&[&ca[..], &curve[..]].concat())?;
    let request = ["req", "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "cert.csr"];
    openssl(&[&request[..], &curve[..]].concat())?;
    fs::write(
        folder.join("extensions"),
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\nkeyUsage=digitalSignature\n\
         extendedKeyUsage=serverAuth\ncrlDistributionPoints=URI:http://localhost/crl\n",
    )?;
    openssl(&[
        "x509",
        "-req",
        "-days",
        "90",
        "-in",
        "cert.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-extfile",
        "extensions",
        "-out",
        "leaf.pem",
    ])?;
    fs::write(
        folder.join("cert.pem"),
        [fs::read(folder.join("leaf.pem"))?, fs::read(folder.join("ca.pem"))?].concat(),
    )?;
    Ok(())
}
