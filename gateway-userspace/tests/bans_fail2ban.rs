//! The real fail2ban with the action of packaging/fail2ban drives a running gateway: a jail that sees failures bans
//! through it, and an unban takes that back.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _stopped = client(&self.0, &["stop"]);
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

fn client(folder: &Path, args: &[&str]) -> std::process::Output {
    let at = |name: &str| folder.join(name).display().to_string();
    Command::new("fail2ban-client")
        .args(["-c", &at("etc"), "-s", &at("socket"), "-p", &at("pid"), "--loglevel", "INFO"])
        .args(["--logtarget", &at("fail2ban.log")])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("fail2ban-client (Debian's package fail2ban) is needed")
}

/// A gateway with nothing to serve; killed with the value.
struct Gateway {
    process: Child,
    socket: PathBuf,
}

impl Gateway {
    fn start(folder: &Path) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("port");
        let socket = folder.join("control.sock");
        let config = folder.join("gateway.toml");
        let text = format!(
            "[control]\nsocket = {:?}\n[[listeners]]\naddress = \"{}\"\n[[upstreams]]\nname = \"u\"\nservers = [\"{}\"]\n",
            socket.display().to_string(),
            free(),
            free()
        );
        std::fs::write(&config, text).expect("configuration");
        let log = std::fs::File::create(folder.join("gateway.log")).expect("log");
        let process = Command::new(env!("CARGO_BIN_EXE_gateway"))
            .args(["run", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("gateway");
        let gateway = Self { process, socket };
        let start = Instant::now();
        while !gateway.ask(&["status"]).is_some_and(|status| status["phase"] == "ready") {
            let log = std::fs::read_to_string(folder.join("gateway.log")).unwrap_or_default();
            assert!(start.elapsed() < Duration::from_secs(60), "the gateway does not start:\n{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
        gateway
    }

    fn ask(&self, arguments: &[&str]) -> Option<serde_json::Value> {
        let output = Command::new(env!("CARGO_BIN_EXE_gateway"))
            .arg("--control")
            .arg(&self.socket)
            .arg("--json")
            .args(arguments)
            .output()
            .expect("gateway");
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Scope and reason of every ban.
    fn bans(&self) -> Vec<(String, String)> {
        let listed = self.ask(&["ban", "export"]).expect("a list");
        let field = |d: &serde_json::Value, name: &str| d[name].as_str().unwrap_or_default().to_owned();
        listed.as_array().expect("a list").iter().map(|d| (field(d, "scope"), field(d, "reason"))).collect()
    }

    fn wait_for(&self, folder: &Path, what: &str, expected: &[(&str, &str)]) {
        let start = Instant::now();
        loop {
            let held = self.bans();
            if held.iter().map(|(scope, reason)| (&**scope, &**reason)).eq(expected.iter().copied()) {
                return;
            }
            let log = std::fs::read_to_string(folder.join("fail2ban.log")).unwrap_or_default();
            assert!(start.elapsed() < Duration::from_secs(60), "{what}: the gateway holds {held:?}\n{log}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

#[test]
fn a_jail_bans_through_the_gateway() {
    let folder = Folder(std::env::temp_dir().join(format!("gateway-fail2ban-{}", std::process::id())));
    let at = |name: &str| folder.0.join(name);
    for sub in ["etc/action.d", "etc/filter.d", "etc/jail.d"] {
        std::fs::create_dir_all(at(sub)).expect("folder");
    }
    let action = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/fail2ban/action.d/gateway.conf");
    std::fs::copy(action, at("etc/action.d/gateway.conf")).expect("the action");
    let gateway = Gateway::start(&folder.0);
    let command = format!("{} --control {}", env!("CARGO_BIN_EXE_gateway"), gateway.socket.display());
    let files = [
        ("etc/fail2ban.conf", "[Definition]\ndbfile = None\nallowipv6 = auto\n".to_owned()),
        ("etc/filter.d/shop.conf", "[Definition]\nfailregex = ^ login failed from <HOST>$\n".to_owned()),
        (
            "etc/jail.conf",
            format!(
                "[DEFAULT]\nbackend = polling\nbantime = 600\nfindtime = 600\nmaxretry = 3\nusedns = no\n\
                 [shop]\nenabled = true\nfilter = shop\nlogpath = {}\naction = gateway[gateway=\"{}\"]\n",
                at("app.log").display(),
                command
            ),
        ),
        ("app.log", String::new()),
    ];
    for (name, text) in files {
        std::fs::write(at(name), text).expect("file");
    }
    let started = client(&folder.0, &["start"]);
    let said =
        String::from_utf8_lossy(&started.stderr).into_owned() + &String::from_utf8_lossy(&started.stdout);
    assert!(started.status.success(), "fail2ban does not start: {said}");
    // The jail's own clock: local time, as the log of an application has it.
    let now = Command::new("date").arg("+%Y-%m-%d %H:%M:%S").output().expect("date").stdout;
    let now = String::from_utf8_lossy(&now).trim().to_owned();
    let lines = format!("{now} login failed from 192.0.2.66\n").repeat(4);
    std::fs::write(at("app.log"), lines).expect("log");
    gateway.wait_for(&folder.0, "the jail's ban", &[("192.0.2.66", "fail2ban: shop")]);
    let unban = client(&folder.0, &["set", "shop", "unbanip", "192.0.2.66"]);
    assert!(unban.status.success());
    gateway.wait_for(&folder.0, "the jail's pardon", &[]);
    // An address that is never banned is refused with a sentence, which fail2ban logs.
    let ban = client(&folder.0, &["set", "shop", "banip", "127.0.0.1"]);
    assert!(ban.status.success());
    let start = Instant::now();
    let sentence = "belongs to the addresses that no client has";
    while !std::fs::read_to_string(folder.0.join("fail2ban.log")).unwrap_or_default().contains(sentence) {
        assert!(start.elapsed() < Duration::from_secs(60), "fail2ban's log does not tell the refusal");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(gateway.bans(), []);
}
