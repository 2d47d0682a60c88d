//! The real fail2ban with the action of packaging/fail2ban: a jail that sees failures orders the ban,
//! and an unban its end. The gateway's command line is stood in for by a script that notes its
//! arguments; those are then read by the real command line's parser.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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

fn wait_for(folder: &Path, what: &str) {
    let start = Instant::now();
    loop {
        let noted = std::fs::read_to_string(folder.join("noted")).unwrap_or_default();
        if noted.lines().any(|line| line == what) {
            return;
        }
        let log = std::fs::read_to_string(folder.join("fail2ban.log")).unwrap_or_default();
        assert!(start.elapsed() < Duration::from_secs(30), "`{what}` was not ordered, but:\n{noted}\n{log}");
        std::thread::sleep(Duration::from_millis(50));
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
    let script = at("gateway");
    std::fs::write(&script, format!("#!/bin/sh\necho \"$@\" >> {}\n", at("noted").display()))
        .expect("script");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let files = [
        ("etc/fail2ban.conf", "[Definition]\ndbfile = None\nallowipv6 = auto\n".to_owned()),
        ("etc/filter.d/shop.conf", "[Definition]\nfailregex = ^ login failed from <HOST>$\n".to_owned()),
        (
            "etc/jail.conf",
            format!(
                "[DEFAULT]\nbackend = polling\nbantime = 600\nfindtime = 600\nmaxretry = 3\nusedns = no\n\
                 [shop]\nenabled = true\nfilter = shop\nlogpath = {}\naction = gateway[gateway=\"{}\"]\n",
                at("app.log").display(),
                script.display()
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
    wait_for(&folder.0, "ban add 192.0.2.66 --for 600s --reason fail2ban: shop");
    let unban = client(&folder.0, &["set", "shop", "unbanip", "192.0.2.66"]);
    assert!(unban.status.success());
    wait_for(&folder.0, "ban remove 192.0.2.66");
    // The real command line takes these words: it fails for want of a gateway, not of grammar (2).
    for args in [
        &["ban", "add", "192.0.2.66", "--for", "600s", "--reason", "fail2ban: shop"][..],
        &["ban", "remove", "192.0.2.66"],
        &["status"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_gateway")).args(args).output().expect("gateway");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_ne!(output.status.code(), Some(2), "{args:?}: {said}");
    }
}
