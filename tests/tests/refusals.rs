//! What the daemon says when it can't do what it is told: one sentence that names the place and the remedy, an exit
//! code other than 0, and nothing half-started.

use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use gateway_tests::{Lab, Settings, daemon, wait_until};

/// How long a refusal may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Runs the daemon in the lab's namespace until it gives up.
fn refused(lab: &Lab, verb: &str, settings: &Settings) -> Result<Output> {
    let file = settings.write()?;
    run_bounded(lab.gateway.command(daemon()?).arg(verb).arg("--config").arg(file))
}

fn run_bounded(command: &mut Command) -> Result<Output> {
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let ended = wait_until("the refusal", LIMIT, || child.try_wait().ok().flatten());
    if ended.is_err() {
        child.kill()?;
    }
    let output = child.wait_with_output()?;
    ended.with_context(|| {
        format!("it runs instead of refusing, after {:?}:\n{}", start.elapsed(), said(&output))
    })?;
    Ok(output)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The exit code is one of ours and every word of `names` is in what was said.
fn check(case: &str, output: &Output, names: &[&str]) -> Result<()> {
    let said = said(output);
    let code = output.status.code();
    ensure!(code.is_some_and(|code| code > 0 && code < 100), "{case}: exit status {}\n{said}", output.status);
    ensure!(!said.contains("panicked"), "{case}: a panic\n{said}");
    for name in names {
        ensure!(said.contains(name), "{case}: nothing said of `{name}`:\n{said}");
    }
    println!("refused: {case}: {}", said.trim().lines().last().unwrap_or_default());
    Ok(())
}

#[test]
fn bad_configuration_is_refused_with_its_place() -> Result<()> {
    let lab = Lab::new()?;
    let good = || Settings::new(lab.folder.path(), lab.origin.address());
    let rules = lab.folder.write("broken.conf", "SecRule ARGS \"@rx [\" \"id:1,phase:2,deny\"\n")?;
    let rules = format!("[waf]\nrules = [{rules:?}]");
    let unreadable = lab.folder.path().join("no-such.conf");
    let unreadable_rules = format!("[waf]\nrules = [{unreadable:?}]");
    let certificate =
        "[[tls.certificates]]\ncertificate = \"/no/such/cert.pem\"\nkey_file = \"/no/such/key.pem\"";
    let rows: [(&str, &str, &[&str]); 6] = [
        ("an unknown key", "[waf]\nmoed = \"block\"", &["gateway.toml", "moed"]),
        ("an unknown value", "[waf]\nmode = \"blokc\"", &["gateway.toml", "blokc"]),
        ("no TOML", "[waf\n", &["gateway.toml"]),
        ("a missing certificate", certificate, &["/no/such/cert.pem"]),
        ("rules that do not compile", &rules, &["broken.conf", "1"]),
        ("rules that are not there", &unreadable_rules, &["no-such.conf"]),
    ];
    for (case, lines, names) in rows {
        for verb in ["check", "run"] {
            let settings = good().with(lines);
            check(&format!("{case} ({verb})"), &refused(&lab, verb, &settings)?, names)?;
            ensure!(!settings.socket().exists(), "{case}: a control socket was left behind");
        }
    }
    Ok(())
}

#[test]
fn a_port_in_use_is_named() -> Result<()> {
    let lab = Lab::new()?;
    let _taken = lab.gateway.inside(|| Ok(TcpListener::bind(("::", Settings::HTTPS_PORT))?))?;
    let settings = Settings::new(lab.folder.path(), lab.origin.address());
    check("a port in use", &refused(&lab, "run", &settings)?, &["8443"])?;
    let free = lab.gateway.inside(|| Ok(TcpListener::bind(("::", Settings::HTTP_PORT)).is_ok()))?;
    ensure!(free, "the other listener was left behind");
    Ok(())
}

#[test]
fn an_interface_that_is_not_there_is_named() -> Result<()> {
    let lab = Lab::new()?;
    let pin = format!("/sys/fs/bpf/gw-test-none-{}", std::process::id());
    let settings = Settings::new(lab.folder.path(), lab.origin.address()).guard(&["eth77"], pin.as_ref());
    let output = refused(&lab, "run", &settings);
    let _ = std::fs::remove_dir_all(&pin);
    check("no such interface", &output?, &["eth77"])
}

#[test]
fn missing_privileges_are_named() -> Result<()> {
    let lab = Lab::new()?;
    let settings = lab.settings();
    // The folder must be the unprivileged user's to write into: what is tested is the kernel's refusal.
    gateway_tests::run(Command::new("chmod").arg("0777").arg(lab.folder.path()))?;
    // The build's folder may be out of that user's reach.
    let copy = lab.folder.path().join("gateway");
    std::fs::copy(daemon()?, &copy)?;
    let file = settings.write()?;
    let mut command = lab.gateway.command("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(copy)
        .arg("run")
        .arg("--config")
        .arg(file);
    check("no privileges", &run_bounded(&mut command)?, &["CAP_"])
}

/// What the launcher below is to run, with a space between the words.
const LAUNCH: &str = "GATEWAY_REFUSALS_WITHOUT_BPF";

/// Runs the daemon where bpf(2) fails with ENOSYS, as on a kernel built without it: this test's own program, started
/// again, takes the call away from itself and becomes the daemon.
fn without_bpf(lab: &Lab, settings: &Settings) -> Result<Command> {
    let file = settings.write()?;
    let mut command = lab.gateway.command(std::env::current_exe()?);
    let launch = format!("{} run --config {}", daemon()?.display(), file.display());
    command.args(["a_kernel_without_bpf_is_named", "--exact", "--nocapture"]).env(LAUNCH, launch);
    Ok(command)
}

fn launch(words: &str) -> Result<()> {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
    use std::os::unix::process::CommandExt as _;
    const BPF: i64 = if cfg!(target_arch = "x86_64") { 321 } else { 280 };
    let filter = SeccompFilter::new(
        [(BPF, vec![])].into_iter().collect(),
        SeccompAction::Allow,
        // ENOSYS
        SeccompAction::Errno(38),
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    apply_filter(&program)?;
    let mut words = words.split(' ');
    let program = words.next().context("a program")?;
    Err(Command::new(program).args(words).env_remove(LAUNCH).exec().into())
}

#[test]
fn a_kernel_without_bpf_is_named() -> Result<()> {
    if let Ok(words) = std::env::var(LAUNCH) {
        return launch(&words);
    }
    let lab = Lab::new()?;
    let settings = lab.settings();
    let output = run_bounded(&mut without_bpf(&lab, &settings)?)?;
    let names = ["this kernel does not support it", "CONFIG_BPF_SYSCALL", "Linux 5.15"];
    check("a kernel without BPF", &output, &names)?;
    ensure!(output.status.code() == Some(5), "the exit code of the system's refusals, not {}", output.status);
    ensure!(!settings.socket().exists(), "a control socket was left behind");
    for port in [Settings::HTTP_PORT, Settings::HTTPS_PORT] {
        lab.gateway.inside(|| Ok(TcpListener::bind(("::", port))?)).context("a listener was left behind")?;
    }

    // Where the configuration lets it be missing, it serves without it and says so.
    let settings = lab.settings().with_kernel("required = false");
    let log = std::fs::File::create(settings.log())?;
    let mut child = without_bpf(&lab, &settings)?.stdout(log.try_clone()?).stderr(log).spawn()?;
    let served = wait_until("an answer", LIMIT, || {
        gateway_tests::get(&lab.clean, gateway_tests::CLEAN.http(), "/")
            .ok()
            .filter(|answer| answer.status == 200)
    });
    let said = std::fs::read_to_string(settings.log())?;
    child.kill()?;
    child.wait()?;
    served.with_context(|| said.clone())?;
    for name in
        ["serving without the kernel side", "required = false", "CONFIG_BPF_SYSCALL", "no kernel side"]
    {
        ensure!(said.contains(name), "nothing said of `{name}`:\n{said}");
    }
    Ok(())
}

#[test]
fn the_command_line_says_that_nobody_answers() -> Result<()> {
    let output = Command::new(daemon()?).args(["--control", "/no/such/control.sock", "status"]).output()?;
    check("no daemon", &output, &["/no/such/control.sock"])
}
