//! A server that dies.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::lab::{Client, Lab, PATIENCE, Running, free_port};

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
