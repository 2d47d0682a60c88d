//! The origin and the proxies in front of it, each one worker.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use gateway_tests::Scratch;

use crate::server::{self, Server};

/// The core of the proxies, and that of the origin and the clients.
const PROXY_CORE: &str = "0";
pub const CLIENT_CORE: &str = "1";
/// How long a server may take until it listens.
const READY: Duration = Duration::from_secs(15);

/// A server under load: its ports, and the processes whose time counts.
pub struct Peer {
    pub name: &'static str,
    pub plain: u16,
    pub tls: u16,
    server: Server,
}

impl Peer {
    /// The processes: the one started and its children.
    fn pids(&self) -> Vec<u32> {
        let own = self.server.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        std::iter::once(own).chain(children.split_whitespace().filter_map(|p| p.parse().ok())).collect()
    }

    /// User and system time of all processes so far.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let mut ticks = 0u64;
        for pid in self.pids() {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            // Fields 14 and 15 of proc_pid_stat(5), counted after the name in parentheses.
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
            for at in [11, 12] {
                ticks += fields.get(at).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
            }
        }
        // USER_HZ is 100 on every architecture that is supported here.
        Ok(ticks as f64 / 100.0)
    }

    /// Resident memory of all processes, shared pages counted once (Pss).
    pub fn resident_bytes(&self) -> u64 {
        self.pids().iter().map(|pid| pss(*pid)).sum()
    }
}

fn pss(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib = text.lines().find_map(|l| l.strip_prefix("Pss:")).and_then(|l| l.split_whitespace().next());
    kib.and_then(|k| k.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Everything that runs during the bench. Peers stop before the folder goes.
pub struct Stage {
    pub peers: Vec<Peer>,
    scratch: Scratch,
}

impl Stage {
    /// Starts the origin, nginx, HAProxy and the gateway.
    pub fn start(gateway: &Path) -> Result<Self> {
        let mut stage = Self { peers: Vec::new(), scratch: Scratch::new()? };
        let f = stage.folder().to_owned();
        fs::create_dir(f.join("www"))?;
        fs::write(f.join("www/small"), "x".repeat(128))?;
        fs::write(f.join("www/large"), vec![b'x'; 1 << 20])?;
        certificate(&f)?;
        stage.add("origin", 18080, 18440, CLIENT_CORE, nginx(&f, "origin", &origin(&f))?)?;
        let same = nginx_proxy(&f, 18081, 18441, NGINX_FIELDS);
        stage.add("nginx", 18081, 18441, PROXY_CORE, nginx(&f, "nginx", &same)?)?;
        let bare = nginx_proxy(&f, 18084, 18444, NGINX_BARE);
        stage.add(BARE, 18084, 18444, PROXY_CORE, nginx(&f, "bare", &bare)?)?;
        stage.add("haproxy", 18082, 18442, PROXY_CORE, haproxy(&f)?)?;
        stage.add("gateway", 18083, 18443, PROXY_CORE, ours(&f, gateway)?)?;
        Ok(stage)
    }

    /// What is kept while this runs.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    fn add(&mut self, name: &'static str, plain: u16, tls: u16, core: &str, command: Command) -> Result<()> {
        let mut pinned = Command::new("taskset");
        pinned.args(["-c", core]).arg(command.get_program()).args(command.get_args());
        let log = self.folder().join(format!("{name}.log"));
        let listens = [plain, tls].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let server = Server::start(name, pinned, &log, &listens, READY)?;
        self.peers.push(Peer { name, plain, tls, server });
        Ok(())
    }
}

fn certificate(folder: &Path) -> Result<()> {
    let (key, cert) = (folder.join("key.pem"), folder.join("cert.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args([
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
        ])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .stderr(Stdio::null())
        .status()
        .context("running openssl (Debian package openssl)")?;
    if !made.success() {
        bail!("openssl made no certificate");
    }
    // HAProxy wants both in one file.
    fs::write(folder.join("both.pem"), [fs::read(&cert)?, fs::read(&key)?].concat())?;
    Ok(())
}

fn nginx(folder: &Path, name: &str, servers: &str) -> Result<Command> {
    let own = folder.join(name);
    fs::create_dir_all(&own)?;
    let conf = own.join("nginx.conf");
    let own = own.display();
    fs::write(
        &conf,
        format!(
            "daemon off; worker_processes 1; pid {own}/pid; error_log {own}/error.log;\n\
             events {{ worker_connections 8192; }}\n\
             http {{ access_log off; sendfile on; tcp_nodelay on; keepalive_requests 1000000;\n\
             client_body_temp_path {own}/b; proxy_temp_path {own}/p; fastcgi_temp_path {own}/f;\n\
             uwsgi_temp_path {own}/u; scgi_temp_path {own}/s; client_max_body_size 8m;\n{servers}\n}}\n"
        ),
    )?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(conf);
    Ok(command)
}

fn tls_lines(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; ssl_protocols TLSv1.2 TLSv1.3;"
    )
}

fn origin(folder: &Path) -> String {
    format!(
        "server {{ listen 127.0.0.1:18080 reuseport; listen 127.0.0.1:18440 ssl http2; {}\n\
         root {}/www; client_body_buffer_size 2m;\n\
         # Read to its end before it is answered: wrk never sends another request after an early answer.\n\
         location /upload {{ proxy_pass http://127.0.0.1:18080/sink; proxy_pass_request_body off; proxy_set_header Content-Length \"\"; }}\n\
         location /sink {{ return 200 \"ok\"; }} }}",
        tls_lines(folder),
        folder.display()
    )
}

/// What the gateway tells upstreams and clients with its defaults, in nginx's words: the same job is compared.
const NGINX_FIELDS: &str = "proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Real-IP $remote_addr;\n\
     proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;\n\
     proxy_set_header Forwarded \"for=$remote_addr;host=\\\"$http_host\\\";proto=$scheme\";\n\
     proxy_set_header X-Request-Id $request_id; proxy_set_header traceparent \"00-$request_id-00f067aa0ba902b7-01\";\n\
     add_header X-Request-Id $request_id; add_header X-Content-Type-Options nosniff;\n\
     add_header X-Frame-Options SAMEORIGIN; add_header Referrer-Policy strict-origin-when-cross-origin;";
/// The least that a proxy tells.
const NGINX_BARE: &str = "proxy_set_header X-Forwarded-For $remote_addr;";
/// The name of the nginx that tells the least; it has no goal.
pub const BARE: &str = "bare nginx";

fn nginx_proxy(folder: &Path, plain: u16, tls: u16, fields: &str) -> String {
    format!(
        "upstream o {{ server 127.0.0.1:18080; keepalive 64; keepalive_requests 1000000; }}\n\
         server {{ listen 127.0.0.1:{plain}; listen 127.0.0.1:{tls} ssl http2; {}\n\
         location / {{ proxy_pass http://o; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         proxy_set_header Host $host; {fields} }} }}",
        tls_lines(folder)
    )
}

/// As [`NGINX_FIELDS`], in HAProxy's words.
const HAPROXY_FIELDS: &str = "  unique-id-format %{+X}o%rt%Ts%pid%rc%ci%cp\n\
     \x20 http-request set-header X-Forwarded-For %[src]\n  http-request set-header X-Real-IP %[src]\n\
     \x20 http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]\n\
     \x20 http-request set-header X-Forwarded-Host %[req.hdr(host)]\n\
     \x20 http-request set-header Forwarded for=%[src];host=\\\"%[req.hdr(host)]\\\";proto=%[ssl_fc,iif(https,http)]\n\
     \x20 http-request set-header X-Request-Id %[unique-id]\n\
     \x20 http-request set-header traceparent 00-4bf92f3577b34da6a3ce929d0e0e4736-%[rand(1000000)]-01\n\
     \x20 http-response set-header X-Request-Id %[unique-id]\n\
     \x20 http-response set-header X-Content-Type-Options nosniff\n\
     \x20 http-response set-header X-Frame-Options SAMEORIGIN\n\
     \x20 http-response set-header Referrer-Policy strict-origin-when-cross-origin\n";

fn haproxy(folder: &Path) -> Result<Command> {
    let conf = folder.join("haproxy.cfg");
    let pem = folder.join("both.pem");
    fs::write(
        &conf,
        format!(
            "global\n  nbthread 1\n  maxconn 8192\n\
             defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  http-reuse always\n\
             frontend f\n{HAPROXY_FIELDS}  bind 127.0.0.1:18082\n  bind 127.0.0.1:18442 ssl crt {} alpn h2,http/1.1\n  default_backend o\n\
             backend o\n  server o 127.0.0.1:18080 pool-max-conn 64\n",
            pem.display()
        ),
    )?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(conf);
    Ok(command)
}

fn ours(folder: &Path, gateway: &Path) -> Result<Command> {
    let conf = folder.join("gateway.toml");
    let f = folder.display();
    fs::write(
        &conf,
        format!(
            "[server]\nworkers = 1\n[log]\naccess = \"off\"\nlevel = \"warn\"\n[waf]\nmode = \"off\"\n\
             [control]\nsocket = \"{f}/control.sock\"\nlisten = \"off\"\n\
             [bans]\nenabled = false\n\
             [http]\nmax_connections_per_source = 8192\nrequests_per_connection = 100000000\n\
             [[listeners]]\nname = \"plain\"\naddress = \"127.0.0.1:18083\"\n\
             [[listeners]]\nname = \"tls\"\naddress = \"127.0.0.1:18443\"\ntls = true\n\
             [tls]\ncertificates = [{{ certificate = \"cert.pem\", key_file = \"key.pem\" }}]\n\
             [[upstreams]]\nname = \"o\"\nservers = [\"127.0.0.1:18080\"]\n[[routes]]\nupstream = \"o\"\n"
        ),
    )?;
    Ok(server::gateway(gateway, &conf))
}
