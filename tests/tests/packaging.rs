//! The systemd unit is one that systemd understands, and as closed as it claims.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use gateway_tests::{Scratch, run};

/// Most exposure that `systemd-analyze security` may see, in tenths of its scale of 0 to 10.
const EXPOSURE: &str = "25";

#[test]
fn the_unit_verifies_and_stays_closed() -> Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("no workspace")?
        .join("packaging/gateway.service");
    let unit =
        std::fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
    ensure!(unit.contains("/usr/bin/gateway run"), "the unit does not run the daemon");
    // systemd-analyze wants the programs to exist; on this machine the package is not installed.
    let folder = Scratch::new()?;
    let file = folder.write("gateway.service", &unit.replace("/usr/bin/gateway", "/bin/true"))?;

    let verified = Command::new("systemd-analyze").arg("verify").arg(&file).output()?;
    let said = String::from_utf8_lossy(&verified.stderr);
    ensure!(verified.status.success() && said.trim().is_empty(), "systemd-analyze verify: {said}");
    run(Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", &format!("--threshold={EXPOSURE}")])
        .arg(&file))
}
