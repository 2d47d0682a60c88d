//! A real crowdsec with nothing but its local API, in a folder of its own.
//!
//! Knows the standard library alone: the daemon's own tests take this file in as well.

use std::io::{Error, Result};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The key of the bouncer `gateway`, in the folder's file `key`.
pub const KEY: &str = "the-key-of-the-bouncer";
/// The password of the machine `gateway`, in the folder's file `password`.
const PASSWORD: &str = "not-a-secret";
/// Longest wait for the local API.
const LONGEST: Duration = Duration::from_secs(30);

/// Makes a command of a program, where crowdsec is to run.
type Where = Box<dyn Fn(&str) -> Command + Send + Sync>;

/// A running crowdsec; it is killed with the value, and the folder goes with it.
pub struct CrowdSec {
    /// Its folder, with the files `key` and `password` of the bouncer and the machine `gateway`.
    pub folder: PathBuf,
    /// The port of its local API on loopback.
    pub port: u16,
    process: Option<Child>,
    place: Where,
}

impl CrowdSec {
    /// Starts one that runs where `place` runs programs, in an empty folder. `tls` is what `api.server.tls` holds; with
    /// it there is no bouncer with a key, and `ca.pem` of the folder vouches for the API.
    ///
    /// # Errors
    /// Without Debian's package crowdsec, or when the API does not answer.
    pub fn start(folder: PathBuf, port: u16, tls: Option<&str>, place: Where) -> Result<Self> {
        for sub in ["data", "hub", "notifications"] {
            std::fs::create_dir_all(folder.join(sub))?;
        }
        let at = folder.display();
        let listener = tls.map_or_else(String::new, |tls| format!(", tls: {{{tls}}}"));
        let config = format!(
            "common: {{daemonize: false, log_media: stdout, working_dir: .}}\n\
             config_paths: {{config_dir: {at}/, data_dir: {at}/data/, simulation_path: {at}/simulation.yaml, \
             hub_dir: {at}/hub/, index_path: {at}/hub/.index.json, notification_dir: {at}/notifications/, \
             plugin_dir: {at}/plugins/}}\n\
             crowdsec_service: {{acquisition_path: {at}/acquis.yaml}}\n\
             cscli: {{output: human}}\n\
             db_config: {{type: sqlite, db_path: {at}/data/crowdsec.db, use_wal: false}}\n\
             api:\n  client: {{credentials_path: {at}/credentials.yaml}}\n  \
             server: {{listen_uri: '127.0.0.1:{port}', profiles_path: {at}/profiles.yaml{listener}}}\n\
             prometheus: {{enabled: false}}\n"
        );
        for (name, text) in [
            ("config.yaml", config.as_str()),
            ("hub/.index.json", "{}"),
            ("simulation.yaml", "simulation: false\n"),
            (
                "profiles.yaml",
                "name: default\nfilters:\n - \"false\"\ndecisions:\n - type: ban\n   duration: 4h\n",
            ),
            ("credentials.yaml", "url: http://127.0.0.1\nlogin: t\npassword: t\n"),
            ("key", KEY),
            ("password", &format!("{PASSWORD}\n")),
        ] {
            std::fs::write(folder.join(name), text)?;
        }
        let mut crowdsec = Self { folder, port, process: None, place };
        let url = format!("{}://127.0.0.1:{port}", if tls.is_some() { "https" } else { "http" });
        for (machine, file) in [("tester", "credentials.yaml"), ("gateway", "machine.yaml")] {
            let file = crowdsec.folder.join(file).display().to_string();
            let order =
                ["machines", "add", machine, "--password", PASSWORD, "-u", &url, "-f", &file, "--force"];
            crowdsec.cscli(&order)?;
        }
        if tls.is_some() {
            let credentials = crowdsec.folder.join("credentials.yaml");
            let mut text = std::fs::read_to_string(&credentials)?;
            text.push_str(&format!("ca_cert_path: {}\n", crowdsec.folder.join("ca.pem").display()));
            std::fs::write(&credentials, text)?;
        } else {
            crowdsec.cscli(&["bouncers", "add", "gateway", "-k", KEY])?;
        }
        crowdsec.run()?;
        Ok(crowdsec)
    }

    /// One on loopback of this process's own network.
    ///
    /// # Errors
    /// As [`CrowdSec::start`].
    pub fn here(folder: PathBuf, port: u16, tls: Option<&str>) -> Result<Self> {
        Self::start(folder, port, tls, Box::new(|program| Command::new(program)))
    }

    fn config(&self) -> String {
        self.folder.join("config.yaml").display().to_string()
    }

    /// Starts the process and waits until the API answers.
    ///
    /// # Errors
    /// It does not.
    pub fn run(&mut self) -> Result<()> {
        let log = std::fs::File::create(self.folder.join("log"))?;
        let process = (self.place)("crowdsec")
            .args(["-c", &self.config(), "-no-cs"])
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(missing)?;
        self.process = Some(process);
        let started = Instant::now();
        while !self.answers() {
            if started.elapsed() > LONGEST {
                return Err(Error::other(format!("the local API does not answer:\n{}", self.log())));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Whether anybody answers on the API's port.
    fn answers(&self) -> bool {
        let scheme = if self.folder.join("ca.pem").exists() { "https" } else { "http" };
        let output = (self.place)("curl")
            .args([
                "--silent",
                "--insecure",
                "--max-time",
                "5",
                "--output",
                "/dev/null",
                "--write-out",
                "%{http_code}",
            ])
            .arg(format!("{scheme}://127.0.0.1:{}/v1/decisions", self.port))
            .output();
        // What needs a certificate of the client says so, or breaks the handshake: it is there.
        output.is_ok_and(|o| o.status.code() != Some(7) && !o.stdout.is_empty())
    }

    /// What the API answers a bouncer with the key.
    ///
    /// # Errors
    /// Without curl.
    pub fn ask(&self, path: &str) -> Result<Vec<u8>> {
        let output = (self.place)("curl")
            .args(["--silent", "--max-time", "5", "--header", &format!("X-Api-Key: {KEY}")])
            .arg(format!("http://127.0.0.1:{}{path}", self.port))
            .output()?;
        Ok(output.stdout)
    }

    /// What it has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Kills the process.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _gone = process.kill();
            let _gone = process.wait();
        }
    }

    /// Runs `cscli` and gives what it prints.
    ///
    /// # Errors
    /// It fails.
    pub fn cscli(&self, args: &[&str]) -> Result<String> {
        let output = (self.place)("cscli")
            .args(["-c", &self.config()])
            .args(args)
            .stdin(Stdio::null())
            .output()
            .map_err(missing)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Error::other(format!("cscli {args:?}: {said}")));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for CrowdSec {
    fn drop(&mut self) {
        self.stop();
        let _gone = std::fs::remove_dir_all(&self.folder);
    }
}

fn missing(error: Error) -> Error {
    Error::other(format!("crowdsec and cscli (Debian's package crowdsec) are needed: {error}"))
}
