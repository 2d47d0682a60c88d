//! TLS of a running gateway: staples on the wire, certificates that change under it, fingerprints in rules; and its
//! workers' CPUs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gateway_tests::{CLEAN, Gateway, Lab, Settings, curl_tls, text, wait_until};

/// How long a machine under load may take for anything here.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway without a kernel side and bans, which are not the matter here.
fn start(lab: &Lab, more: &str) -> Result<Gateway> {
    let settings = Settings::new(lab.folder.path(), lab.origin.address());
    lab.start(&settings.with(&format!("[bans]\ndefault_scenarios = false\n{more}")))
}

/// A certificate authority of one test, in the test's folder.
struct Authority<'a> {
    folder: &'a Path,
}

impl<'a> Authority<'a> {
    fn new(folder: &'a Path) -> Result<Self> {
        let authority = Self { folder };
        let subject = "/CN=authority of a test";
        authority
            .openssl(&format!("req -x509 {KEY} -keyout ca.key -out ca.pem -days 60 -subj"), &[subject])?;
        Ok(authority)
    }

    fn openssl(&self, arguments: &str, more: &[&str]) -> Result<String> {
        text(Command::new("openssl").args(arguments.split_whitespace()).args(more).current_dir(self.folder))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes `FILE.pem` and `FILE.key` for a name.
    fn issue(&self, file: &str, name: &str, serial: u32, days: u32) -> Result<()> {
        let subject = format!("/CN={name}");
        let names = format!("subjectAltName=DNS:{name}");
        self.openssl(
            &format!("req {KEY} -keyout {file}.key -out {file}.csr -subj"),
            &[&subject, "-addext", &names],
        )?;
        self.openssl(
            &format!(
                "x509 -req -in {file}.csr -CA ca.pem -CAkey ca.key -set_serial {serial} -days {days} \
                 -copy_extensions copy -out {file}.pem"
            ),
            &[],
        )?;
        Ok(())
    }

    /// Makes `FILE.ocsp`: the authority says that the certificate is good.
    fn vouch(&self, file: &str, name: &str, serial: u32) -> Result<()> {
        std::fs::write(
            self.file("index.txt"),
            format!("V\t491231235959Z\t\t{serial:02X}\tunknown\t/CN={name}\n"),
        )?;
        self.openssl(&format!("ocsp -issuer ca.pem -cert {file}.pem -no_nonce -reqout {file}.request"), &[])?;
        self.openssl(
            &format!(
                "ocsp -index index.txt -rsigner ca.pem -rkey ca.key -CA ca.pem -reqin {file}.request \
                 -respout {file}.ocsp -ndays 7"
            ),
            &[],
        )?;
        Ok(())
    }

    /// When a certificate ends, in seconds since 1970.
    fn end(&self, file: &str) -> Result<i64> {
        let line = self.openssl(&format!("x509 -in {file} -noout -enddate"), &[])?;
        let date = line.trim().strip_prefix("notAfter=").context("no date")?.to_owned();
        Ok(text(Command::new("date").args(["-u", "+%s", "-d", &date]))?.trim().parse()?)
    }

    /// What `openssl s_client` sees of a handshake for a name.
    fn look(&self, lab: &Lab, name: &str, more: &[&str]) -> Result<String> {
        let to = CLEAN.https().to_string();
        text(
            lab.clean
                .command("openssl")
                .args(["s_client", "-connect", &to, "-servername", name, "-CAfile"])
                .arg(self.file("ca.pem"))
                .args(["-verify_return_error", "-verify_hostname", name])
                .args(more),
        )
    }

    /// The serial number of the certificate that is served for a name.
    fn served(&self, lab: &Lab, name: &str) -> Result<String> {
        let seen = self.look(lab, name, &[])?;
        let file = self.file("served.pem");
        std::fs::write(&file, seen)?;
        Ok(self.openssl("x509 -in served.pem -noout -serial", &[])?.trim().replace("serial=", ""))
    }
}

/// A key that is quickly made.
const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

#[test]
fn staples_are_served_and_changed_certificates_taken_over() -> Result<()> {
    let lab = Lab::new()?;
    let authority = Authority::new(lab.folder.path())?;
    authority.issue("a", "a.test", 0x21, 50)?;
    authority.vouch("a", "a.test", 0x21)?;
    authority.issue("b", "b.test", 0x31, 40)?;
    authority.issue("fresh", "b.test", 0x32, 20)?;
    let folder = lab.folder.path().display();
    let gateway = start(
        &lab,
        &format!(
            "[tls]\ncertificates = [\n\
             {{ certificate = \"{folder}/a.pem\", key_file = \"{folder}/a.key\", ocsp_file = \"{folder}/a.ocsp\" }},\n\
             {{ certificate = \"{folder}/b.pem\", key_file = \"{folder}/b.key\" }},\n]"
        ),
    )?;

    for version in ["-tls1_2", "-tls1_3"] {
        let seen = authority.look(&lab, "a.test", &["-status", version])?;
        ensure!(
            seen.contains("OCSP Response Status: successful") && seen.contains("Cert Status: good"),
            "{version}: {seen}"
        );
        let seen = authority.look(&lab, "b.test", &["-status", version])?;
        ensure!(seen.contains("OCSP response: no response sent"), "{version}: {seen}");
    }

    // The metrics page has the very end of each, and of the staple.
    let end = |file: &str| -> Result<Option<i64>> {
        let page = gateway.metrics(&lab.gateway)?;
        let row = format!(
            "gateway_tls_certificate_not_after_seconds{{certificate=\"{folder}/{file}.pem\",name=\"{file}.test\"}} "
        );
        Ok(page.lines().find_map(|line| line.strip_prefix(&row)?.parse().ok()))
    };
    for file in ["a", "b"] {
        let expected = authority.end(&format!("{file}.pem"))?;
        ensure!(end(file)? == Some(expected), "{file}: {:?}, not {expected}", end(file)?);
    }
    let staple = gateway.metric(&lab.gateway, "gateway_tls_staple_next_update_seconds")? as i64;
    let expected = authority.end("a.pem")? - (50 - 7) * 86_400;
    ensure!((staple - expected).abs() < 600, "the staple ends at {staple}, not {expected}");
    ensure!(!gateway.log().contains("renew it"), "nothing ends within 30 days:\n{}", gateway.log());

    // A changed pair is taken over by itself, and its end told.
    ensure!(authority.served(&lab, "b.test")? == "31");
    for kind in ["key", "pem"] {
        std::fs::rename(authority.file(&format!("fresh.{kind}")), authority.file(&format!("b.{kind}")))?;
    }
    wait_until("the changed certificate", PATIENCE, || {
        (authority.served(&lab, "b.test").ok()? == "32").then_some(())
    })?;
    ensure!(authority.served(&lab, "a.test")? == "21", "the other one stays");
    let expected = authority.end("b.pem")?;
    ensure!(end("b")? == Some(expected), "{:?}, not {expected}", end("b")?);
    wait_until("the warning", PATIENCE, || {
        gateway.log().contains("ends in 19 days: renew it").then_some(())
    })?;

    // A bad one is told of, and the one before goes on being served. (Key without certificate may have been seen above.)
    let refusals = || gateway.log().matches("a changed certificate is not taken over").count();
    let before = refusals();
    std::fs::write(authority.file("b.pem"), "-----BEGIN CERTIFICATE-----\nnonsense\n")?;
    wait_until("the refusal", PATIENCE, || (refusals() > before).then_some(()))?;
    ensure!(authority.served(&lab, "b.test")? == "32", "the bad file displaced the good one");
    Ok(())
}

#[test]
fn without_watching_a_changed_certificate_waits_for_a_reload() -> Result<()> {
    let lab = Lab::new()?;
    let authority = Authority::new(lab.folder.path())?;
    authority.issue("a", "a.test", 0x21, 50)?;
    authority.issue("fresh", "a.test", 0x22, 50)?;
    let folder = lab.folder.path().display();
    let gateway = start(
        &lab,
        &format!(
            "[tls]\nwatch = false\n\
             certificates = [{{ certificate = \"{folder}/a.pem\", key_file = \"{folder}/a.key\" }}]"
        ),
    )?;
    for kind in ["key", "pem"] {
        std::fs::rename(authority.file(&format!("fresh.{kind}")), authority.file(&format!("a.{kind}")))?;
    }
    // Who watches looks every two seconds.
    std::thread::sleep(Duration::from_secs(5));
    ensure!(authority.served(&lab, "a.test")? == "21", "taken over unasked");
    gateway.ask(&["reload"])?;
    wait_until("the changed certificate", PATIENCE, || {
        (authority.served(&lab, "a.test").ok()? == "22").then_some(())
    })
}

#[test]
fn rules_see_the_fingerprint_of_the_hello() -> Result<()> {
    let lab = Lab::new()?;
    // curl is refused with TLS 1.2 alone: JA4 begins with the transport and the version.
    let rules = "SecRuleEngine On\nSecRule TX:ja4 \"@rx ^t12[di]\" \"id:1,phase:1,deny,status:418\"\n\
                 SecRule TX:ja4 \"!@rx ^t1[23][di][0-9]{4}[a-z0-9]{2}_[0-9a-f]{12}_[0-9a-f]{12}$\" \
                 \"id:2,phase:1,deny,status:500\"\n";
    let file = lab.folder.write("ja4.conf", rules)?;
    let _gateway = start(&lab, &format!("[waf]\nrules = [{:?}]", file.display().to_string()))?;
    for (version, expected) in [("1.2", "418 1.1"), ("1.3", "200 1.1")] {
        let arguments = ["--http1.1", "--tlsv1.2", "--tls-max", version];
        let got = curl_tls(&lab.clean, CLEAN.https(), "/", &arguments)?;
        ensure!(got == expected, "TLS {version}: {got}");
    }
    Ok(())
}

/// The CPUs that a thread may run on, from its `status` file.
fn cpus(status: &Path) -> Result<String> {
    let text = std::fs::read_to_string(status)?;
    let line = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    Ok(line.with_context(|| format!("no CPUs in {}", status.display()))?.trim().to_owned())
}

/// A process's workers by number, each with the CPUs that it may run on.
fn workers(process: u32) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let task = task?.path();
        let name = std::fs::read_to_string(task.join("comm"))?;
        if let Some(worker) = name.trim().strip_prefix("worker-") {
            found.push((worker.to_owned(), cpus(&task.join("status"))?));
        }
    }
    found.sort();
    Ok(found)
}

#[test]
fn workers_keep_to_their_cpus() -> Result<()> {
    let lab = Lab::new()?;
    let own = cpus(Path::new("/proc/self/status"))?;
    let numbers: Vec<usize> = own.split([',', '-']).map(str::parse).collect::<Result<_, _>>()?;
    let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
    let gateway = start(&lab, &format!("[server]\nworkers = 3\ncpus = [{last}, {first}]"))?;
    // More workers than CPUs: from the beginning again.
    let expected: Vec<_> =
        [last, first, last].iter().enumerate().map(|(n, cpu)| (n.to_string(), cpu.to_string())).collect();
    let mut found = Vec::new();
    // The gateway is ready before each of its threads has had its first turn.
    let all = wait_until("workers on their CPUs", PATIENCE, || {
        found = workers(gateway.pid()).unwrap_or_default();
        (found == expected).then_some(())
    });
    ensure!(all.is_ok(), "{found:?}, not {expected:?}");
    let rest = cpus(Path::new(&format!("/proc/{}/status", gateway.pid())))?;
    ensure!(rest == own, "the other threads run on {rest}, not {own}");
    Ok(())
}
