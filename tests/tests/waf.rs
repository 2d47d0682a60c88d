//! The rules in a running gateway: Debian's Core Rule Set, the audit log, reloads, uploads in storage.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gateway_tests::{CLEAN, Connection, Gateway, Lab, get, wait_until};
use rustix::process::Signal;

/// Where Debian's package modsecurity-crs has the set.
const DEBIAN: &str = "/usr/share/modsecurity-crs";
/// How long a machine under load may take for anything here.
const PATIENCE: Duration = Duration::from_secs(60);

/// No kernel side and no bans: each request is judged on its own account.
fn start(lab: &Lab, more: &str) -> Result<Gateway> {
    lab.start(&lab.settings().with(&format!("[bans]\ndefault_scenarios = false\n{more}")))
}

/// A request as browsers make it; its status.
fn ask(lab: &Lab, target: &str, kind: &str, body: &[u8]) -> Result<u16> {
    let mut connection = Connection::open(&lab.clean, CLEAN.http(), PATIENCE)?;
    let mut head = format!(
        "{} {target} HTTP/1.1\r\nhost: shop.example.org\r\nuser-agent: Mozilla/5.0\r\naccept: */*\r\n",
        if kind.is_empty() { "GET" } else { "POST" }
    );
    if !kind.is_empty() {
        let _ = write!(head, "content-type: {kind}\r\ncontent-length: {}\r\n", body.len());
    }
    head += "\r\n";
    connection.send(head.as_bytes())?;
    connection.send(body)?;
    Ok(connection.receive()?.status)
}

#[test]
fn debians_core_rule_set_refuses_attacks_and_lets_the_rest_through() -> Result<()> {
    ensure!(
        Path::new(DEBIAN).join("owasp-crs.load").exists(),
        "modsecurity-crs is not installed: `cargo xtask setup` does it"
    );
    let form = "application/x-www-form-urlencoded";
    // By its folder, and by the file that the package has for Apache.
    for rules in [DEBIAN.to_owned(), format!("{DEBIAN}/owasp-crs.load")] {
        let lab = Lab::new()?;
        let gateway = start(&lab, &format!("[waf]\nrules = [\"{rules}\"]"))?;
        for target in ["/", "/search?q=garden+chairs&page=2", "/blog/2026/11/how-to-drop-packets"] {
            ensure!(
                ask(&lab, target, "", b"")? == 200,
                "{rules}: benign {target} is refused\n{}",
                gateway.log()
            );
        }
        for (target, rule) in [
            ("/products?id=1%27%20OR%20%271%27%3D%271", "942100"),
            ("/search?q=%3Cscript%3Ealert%281%29%3C%2Fscript%3E", "941100"),
            ("/download?file=..%2F..%2F..%2F..%2Fetc%2Fpasswd", "930120"),
        ] {
            ensure!(ask(&lab, target, "", b"")? == 403, "{rules}: {target} passes");
            // A line for each match is in the log.
            let line = format!("[id \"{rule}\"]");
            wait_until("the match in the log", PATIENCE, || gateway.log().contains(&line).then_some(()))?;
        }
        ensure!(ask(&lab, "/profile", form, b"name=Anna&city=Berlin")? == 200, "{rules}: a form is refused");
        if rules == DEBIAN {
            let status = ask(&lab, "/login", form, b"user=admin%27+OR+1%3D1--&password=x")?;
            ensure!(status == 403, "{rules}: an attack in a form got {status}");
        }
    }
    Ok(())
}

#[test]
fn the_audit_log_has_the_attack_and_follows_rotation() -> Result<()> {
    let lab = Lab::new()?;
    let rules = lab.folder.path().join("rules.conf");
    std::fs::write(
        &rules,
        "SecAuditEngine RelevantOnly\nSecAuditLogFormat JSON\nSecAuditLogParts ABHZ\n\
         SecRule ARGS \"@contains evil\" \"id:1,phase:2,deny,status:403,log,auditlog,msg:'Evil'\"\n",
    )?;
    let file = lab.folder.path().join("audit.json");
    let gateway = start(&lab, &format!("[waf]\nrules = [{rules:?}]\naudit_log = {file:?}"))?;
    let records = |path: &Path, wanted: usize| {
        wait_until("records", PATIENCE, || {
            let text = std::fs::read_to_string(path).ok()?;
            (text.ends_with('\n') && text.lines().count() == wanted).then_some(text)
        })
    };
    ensure!(get(&lab.clean, CLEAN.http(), "/?a=fine")?.status == 200);
    ensure!(get(&lab.clean, CLEAN.http(), "/?a=evil")?.status == 403);
    let record: serde_json::Value = serde_json::from_str(records(&file, 1)?.trim())?;
    for (pointer, expected) in [
        ("/transaction/client_ip", CLEAN.client().to_string()),
        ("/transaction/request/uri", "/?a=evil".to_owned()),
        ("/transaction/messages/0/details/ruleId", "1".to_owned()),
        ("/transaction/messages/0/message", "Evil".to_owned()),
    ] {
        let got = record.pointer(pointer).and_then(|v| v.as_str());
        ensure!(got == Some(&expected), "{pointer} is {got:?}");
    }
    // As logrotate does it.
    for signal in [Signal::USR1, Signal::HUP] {
        let moved = file.with_extension("1");
        std::fs::rename(&file, &moved)?;
        gateway.signal(signal)?;
        wait_until("the new file", PATIENCE, || file.exists().then_some(()))?;
        ensure!(get(&lab.clean, CLEAN.http(), "/?a=evil")?.status == 403);
        records(&file, 1)?;
    }
    let page = gateway.metrics(&lab.gateway)?;
    ensure!(
        page.contains("gateway_audit_records_total 3") && page.contains("gateway_audit_dropped_total 0"),
        "{page}"
    );
    Ok(())
}

#[test]
fn a_changed_file_is_taken_and_a_request_under_way_keeps_its_rules() -> Result<()> {
    let lab = Lab::new()?;
    let rules = lab.folder.path().join("rules.conf");
    let write = |word: &str| {
        let text = format!(
            "SecRequestBodyAccess On\nSecRule ARGS \"@contains {word}\" \"id:1,phase:2,deny,status:403\"\n"
        );
        std::fs::write(&rules, text)
    };
    write("first")?;
    let gateway = start(&lab, &format!("[waf]\nrules = [{rules:?}]"))?;
    let status = |word: &str| get(&lab.clean, CLEAN.http(), &format!("/?a={word}")).map(|a| a.status);
    ensure!(status("first")? == 403 && status("second")? == 200, "the first rules");

    // The head is in, the rules of this request are chosen.
    let mut connection = Connection::open(&lab.clean, CLEAN.http(), PATIENCE)?;
    connection.send(
        b"POST /slow HTTP/1.1\r\nhost: shop.example.org\r\nuser-agent: Mozilla/5.0\r\naccept: */*\r\n\
        content-type: application/x-www-form-urlencoded\r\ncontent-length: 7\r\n\r\na=",
    )?;
    std::thread::sleep(Duration::from_millis(300));
    // No signal: the file is looked at.
    write("second")?;
    wait_until("the changed rules", PATIENCE, || (status("second").ok()? == 403).then_some(()))?;
    ensure!(status("first")? == 200, "the old rule is still there");
    connection.send(b"first")?;
    let answer = connection.receive().context("the request under way was cut off")?;
    ensure!(answer.status == 403, "the request under way got other rules: {}", answer.status);

    // A bad file keeps the old rules, and says where it is bad.
    std::fs::write(&rules, "SecRule ARGS \"@rx (\" \"id:1,phase:2,deny\"\n")?;
    let place = format!("{}:1:", rules.display());
    wait_until("the refusal in the log", PATIENCE, || gateway.log().contains(&place).then_some(()))?;
    ensure!(status("second")? == 403, "a bad file took effect");
    write("third")?;
    gateway.signal(Signal::HUP)?;
    wait_until("the rules after SIGHUP", PATIENCE, || (status("third").ok()? == 403).then_some(()))
}

#[test]
fn large_uploads_wait_in_storage_and_nothing_stays_there() -> Result<()> {
    let lab = Lab::new()?;
    let storage = lab.folder.path().join("storage");
    std::fs::create_dir(&storage)?;
    let rules = lab.folder.path().join("rules.conf");
    std::fs::write(
        &rules,
        "SecRequestBodyAccess On\nSecRequestBodyLimit 10000000\n\
         SecRule FILES_SIZES \"@gt 3000000\" \"id:1,phase:2,deny,status:403\"\n\
         SecRule FILES_NAMES|FILES \"@contains .php\" \"id:2,phase:2,deny,status:403\"\n\
         SecRule ARGS:note \"@contains evil\" \"id:3,phase:2,deny,status:403\"\n",
    )?;
    let gateway = start(
        &lab,
        &format!(
            "[waf]\nrules = [{rules:?}]\nspool = {storage:?}\nspool_above = \"64KiB\"\nspool_bytes = \"5MiB\""
        ),
    )?;
    let upload = |name: &str, size: usize, note: &str| -> Result<u16> {
        let mut body =
            format!("--b0\r\nContent-Disposition: form-data; name=\"f\"; filename=\"{name}\"\r\n\r\n")
                .into_bytes();
        body.extend(std::iter::repeat_n(b"0123456789\n".as_slice(), size / 11).flatten());
        body.extend_from_slice(
            format!("\r\n--b0\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\n{note}\r\n--b0--\r\n")
                .as_bytes(),
        );
        ask(&lab, "/upload", "multipart/form-data; boundary=b0", &body)
    };
    for (name, size, note, status) in [
        ("a.jpg", 1_000, "fine", 200),
        ("a.jpg", 2_000_000, "fine", 200),
        ("a.php", 2_000_000, "fine", 403),
        // What comes after the file is inspected as well.
        ("a.jpg", 2_000_000, "evil", 403),
        // Of which 64 KiB are in memory: the rules know the size of the whole.
        ("a.jpg", 4_000_000, "fine", 403),
        ("a.jpg", 6_000_000, "fine", 503),
    ] {
        let got = upload(name, size, note)?;
        ensure!(got == status, "{name} of {size} with {note} got {got}\n{}", gateway.log());
    }
    let spooled = |metric: &str| -> Result<bool> { Ok(gateway.metrics(&lab.gateway)?.contains(metric)) };
    wait_until("empty storage", PATIENCE, || spooled("gateway_inspect_spooled_bytes 0").ok()?.then_some(()))?;
    // One that is under way when the gateway is killed leaves nothing either.
    let mut connection = Connection::open(&lab.clean, CLEAN.http(), PATIENCE)?;
    connection.send(
        b"POST /upload HTTP/1.1\r\nhost: shop.example.org\r\nuser-agent: Mozilla/5.0\r\naccept: */*\r\n\
        content-type: multipart/form-data; boundary=b0\r\ncontent-length: 3000000\r\n\r\n\
        --b0\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\n",
    )?;
    connection.send(&vec![b'a'; 1_000_000])?;
    wait_until("a spooled body", PATIENCE, || {
        spooled("gateway_inspect_spooled_files 1").ok()?.then_some(())
    })?;
    gateway.kill()?;
    ensure!(std::fs::read_dir(&storage)?.count() == 0, "a killed gateway left a file");
    Ok(())
}
