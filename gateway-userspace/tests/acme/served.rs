//! The daemon before the authority: it proves its names on its own listeners, serves what it gets, renews it, and goes on
//! when the authority is away.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::authority::{Lab, Running, listens};

/// How long anything may take on a machine under load.
const PATIENCE: Duration = Duration::from_secs(90);
/// What certificates live, in seconds: they are renewed when a third of that is left.
const LIFE: u32 = 15;
/// Refused nonces in a hundred. More would make some order fail, after which the daemon rests for a minute.
const REJECTED: u8 = 5;

/// Who issued the certificate that is served for the name, and its serial number; nothing when nobody answers.
fn served(lab: &Lab) -> Option<(String, String)> {
    let shown = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{}", lab.tls), "-servername", "www.example.test"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .expect("openssl is installed");
    let file = lab.folder.join("served.pem");
    fs::write(&file, shown.stdout).expect("written");
    let out = Command::new("openssl")
        .args(["x509", "-noout", "-issuer", "-serial", "-in"])
        .arg(&file)
        .output()
        .expect("openssl is installed");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let (issuer, serial) = text.split_once('\n')?;
    Some((issuer.to_owned(), serial.trim().to_owned()))
}

/// Waits until a certificate of the authority is served other than `old`; its serial number.
fn another(lab: &Lab, old: &str) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let seen = served(lab);
        if let Some((issuer, serial)) = &seen
            && issuer.contains("Pebble")
            && serial != old
        {
            return serial.clone();
        }
        let log = fs::read_to_string(lab.folder.join("gateway.log")).unwrap_or_default();
        assert!(Instant::now() < until, "{seen:?} is served\n{log}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn start(lab: &Lab, challenge: &str) -> Running {
    let f = lab.folder.display();
    let text = format!(
        "[server]\nworkers = 1\ndrain = \"1s\"\n[log]\naccess = \"off\"\n[waf]\nmode = \"off\"\n\
         [bans]\nenabled = false\n[control]\nsocket = \"{f}/control.sock\"\nlisten = \"off\"\n\
         [[listeners]]\naddress = \"127.0.0.1:{}\"\nredirect_to_https = 443\n\
         [[listeners]]\naddress = \"127.0.0.1:{}\"\ntls = true\n\
         [[upstreams]]\nservers = [\"127.0.0.1:9\"]\n\
         [tls.acme]\ndirectory = \"https://localhost:{}/dir\"\nroots = \"{f}/authority.crt\"\n\
         challenge = \"{challenge}\"\nfolder = \"{f}/store\"\ncertificates = [[\"www.example.test\"]]\n",
        lab.http, lab.tls, lab.directory,
    );
    fs::write(lab.folder.join("gateway.toml"), text).expect("written");
    let log =
        fs::File::options().create(true).append(true).open(lab.folder.join("gateway.log")).expect("log");
    let child = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .args(["run", "--config"])
        .arg(lab.folder.join("gateway.toml"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("log"))
        .stderr(log)
        .spawn()
        .expect("started");
    let running = Running(child);
    listens(lab.tls);
    running
}

fn issues_renews_and_survives(challenge: &str) {
    let lab = Lab::new(&format!("served-{challenge}"), LIFE);
    let authority = lab.authority(REJECTED);
    let gateway = start(&lab, challenge);
    let first = another(&lab, "");
    let second = another(&lab, &first);
    assert_ne!(first, second);
    // The authority is away: what there is goes on being served, after a restart too.
    drop(authority);
    let is_authoritys = || served(&lab).is_some_and(|(issuer, _)| issuer.contains("Pebble"));
    assert!(is_authoritys());
    drop(gateway);
    let gateway = start(&lab, challenge);
    assert!(is_authoritys(), "from the disk");
    drop(gateway);
}

#[test]
fn by_http_on_a_listener_that_redirects_all_else() {
    issues_renews_and_survives("http-01");
}

#[test]
fn by_a_handshake_on_the_listener_that_serves() {
    issues_renews_and_survives("tls-alpn-01");
}
