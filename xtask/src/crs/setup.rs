//! The rules of a run: a CRS folder under the set-up that its authors test with.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use gateway_waf::source::{FileSource, SourceError, glob_matches};
use gateway_waf::{CompileOptions, Entry, Level, Ruleset};

/// Longest rule or data file read, 16 MiB.
const MAX_FILE_BYTES: usize = 16 << 20;

/// Where a CRS keeps its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crs {
    /// crs-setup.conf, of the folder or of Debian's package.
    pub setup: PathBuf,
    /// The folder with the rule files.
    pub rules: PathBuf,
}

impl Crs {
    /// Finds the parts of the CRS in `folder`: a release, or Debian's /usr/share/modsecurity-crs.
    ///
    /// # Errors
    /// No rules there, or no crs-setup.conf.
    pub fn find(folder: &Path) -> Result<Self> {
        let rules = folder.join("rules");
        if !rules.is_dir() {
            bail!("{} is no CRS: it has no folder `rules`", folder.display());
        }
        let candidates = [
            folder.join("crs-setup.conf"),
            folder.join("crs-setup.conf.example"),
            PathBuf::from("/etc/modsecurity/crs/crs-setup.conf"),
        ];
        let setup = candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| {
            anyhow!("no crs-setup.conf in {} nor in /etc/modsecurity/crs", folder.display())
        })?;
        Ok(Self { setup, rules })
    }
}

/// modsecurity.conf as recommended, with bodies inspected as the suite wants it.
pub const ENGINE: &str = r#"
SecRequestBodyAccess On
SecRule REQUEST_HEADERS:Content-Type "^(?:application(?:/soap\+|/)|text/)xml" \
    "id:200000,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=XML"
SecRule REQUEST_HEADERS:Content-Type "^application/json" \
    "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQUEST_HEADERS:Content-Type "^application/[a-z0-9.-]+[+]json" \
    "id:200006,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRequestBodyLimit 13107200
SecRequestBodyNoFilesLimit 131072
SecRequestBodyLimitAction Reject
SecRequestBodyJsonDepthLimit 512
SecArgumentsLimit 1000
SecRule REQBODY_ERROR "!@eq 0" \
    "id:200002,phase:2,t:none,log,deny,status:400,msg:'Failed to parse request body.',logdata:'%{reqbody_error_msg}',severity:2"
SecRule MULTIPART_STRICT_ERROR "!@eq 0" \
    "id:200003,phase:2,t:none,log,deny,status:400,msg:'Multipart request body failed strict validation.'"
SecRule MULTIPART_UNMATCHED_BOUNDARY "@eq 1" \
    "id:200004,phase:2,t:none,log,deny,msg:'Multipart parser detected a possible unmatched boundary.'"
SecPcreMatchLimit 1000
SecPcreMatchLimitRecursion 1000
SecRule TX:/^MSC_/ "!@streq 0" \
    "id:200005,phase:2,t:none,deny,log,msg:'ModSecurity internal error flagged: %{MATCHED_VAR_NAME}'"
SecResponseBodyAccess On
SecResponseBodyMimeType text/plain text/html text/xml application/json
SecResponseBodyLimit 524288
SecResponseBodyLimitAction ProcessPartial
SecAuditEngine RelevantOnly
SecAuditLogRelevantStatus "^(?:5|4(?!04))"
SecAuditLogParts ABIJDEFHZ
SecArgumentSeparator &
SecCookieFormat 0
"#;

/// What the suite's authors set on top of crs-setup.conf; both names of the paranoia level, for CRS 3 and 4.
pub const SUITE: &str = r#"
SecRuleEngine DetectionOnly
SecAction "id:9000,phase:1,pass,t:none,nolog,\
    setvar:tx.blocking_paranoia_level=4,\
    setvar:tx.detection_paranoia_level=4,\
    setvar:tx.paranoia_level=4,\
    setvar:tx.executing_paranoia_level=4,\
    setvar:tx.crs_validate_utf8_encoding=1,\
    setvar:tx.arg_name_length=100,\
    setvar:tx.arg_length=400,\
    setvar:tx.total_arg_length=64000,\
    setvar:tx.max_num_args=255,\
    setvar:tx.max_file_size=64100,\
    setvar:tx.combined_file_sizes=65535"
"#;

/// The rules for the regression suite of `crs`.
///
/// # Errors
/// Everything that the compiler has to say against them.
pub fn suite_rules(crs: &Crs, options: &CompileOptions) -> Result<Ruleset> {
    compile(crs, SUITE, options)
}

/// `crs` under [`ENGINE`], `extra` between its set-up and its rules.
///
/// # Errors
/// Everything that the compiler has to say against them.
pub fn compile(crs: &Crs, extra: &str, options: &CompileOptions) -> Result<Ruleset> {
    let setup = crs.setup.to_string_lossy();
    let rules = crs.rules.join("*.conf");
    let rules = rules.to_string_lossy();
    let entries = [
        Entry::Text { name: "engine.conf", text: ENGINE },
        Entry::File(&setup),
        Entry::Text { name: "suite.conf", text: extra },
        Entry::File(&rules),
    ];
    let (ruleset, diagnostics) = Ruleset::compile(&Disk, &entries, options).map_err(|diagnostics| {
        let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        anyhow!("the rules do not compile:\n{}", lines.join("\n"))
    })?;
    for diagnostic in diagnostics.iter().filter(|d| d.level == Level::Warning) {
        eprintln!("{diagnostic}");
    }
    Ok(ruleset)
}

/// The file system.
#[derive(Debug, Clone, Copy)]
pub struct Disk;

impl FileSource for Disk {
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceError> {
        let bytes = fs::read(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => SourceError::NotFound { path: path.to_owned() },
            _ => SourceError::Unreadable { path: path.to_owned(), reason: error.to_string() },
        })?;
        if bytes.len() > MAX_FILE_BYTES {
            return Err(SourceError::TooLong { path: path.to_owned(), limit: MAX_FILE_BYTES });
        }
        Ok(bytes)
    }

    fn glob(&self, pattern: &str) -> Result<Vec<String>, SourceError> {
        let (folder, _) = pattern.rsplit_once('/').unwrap_or((".", pattern));
        let unreadable = |error: std::io::Error| SourceError::Unreadable {
            path: folder.to_owned(),
            reason: error.to_string(),
        };
        if !pattern.contains(['*', '?', '[']) {
            return Ok(if Path::new(pattern).is_file() { vec![pattern.to_owned()] } else { Vec::new() });
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let text = path.to_string_lossy().into_owned();
            if glob_matches(pattern.as_bytes(), text.as_bytes()) {
                found.push(text);
            }
        }
        found.sort();
        Ok(found)
    }
}
