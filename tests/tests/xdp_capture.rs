//! Captures of dropped packets, and what status and top tell. Needs root.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use gateway::kernel::{BanReason, Expiry, Mode, Modes, PcapNg, Reason};
use gateway_tests::xdp::{Lab, packet};

fn frame(source: &str, payload: usize) -> Result<Vec<u8>> {
    Ok(packet::udp_from(source.parse::<IpAddr>()?, &vec![7; payload]))
}

#[test]
fn what_is_dropped_for_a_reason_is_copied() -> Result<()> {
    let lab = Lab::new()?;
    let kernel = lab.kernel();
    kernel.ban("198.51.100.7".parse()?, Expiry::Never, BanReason::Manual)?;
    let mut captured = kernel.captured().context("the first reader")?;
    ensure!(kernel.captured().is_none(), "there is one reader");
    kernel.test_run(&frame("198.51.100.7", 1)?, 1)?;
    ensure!(captured.next().is_none(), "nothing is copied unasked");

    kernel.set_capture(&[Reason::BanHost]);
    let mut file = PcapNg::new(Vec::new())?;
    for payload in [0usize, 1, 5, 6, 7, 8, 100, 206, 213, 214, 215, 1_000] {
        let sent = frame("198.51.100.7", payload)?;
        kernel.test_run(&sent, 1)?;
        let got = captured.next().with_context(|| format!("a packet with {payload} bytes"))?;
        ensure!(got.reason == Reason::BanHost && got.length as usize == sent.len(), "{got:?}");
        ensure!(
            got.data == sent[..sent.len().min(256)],
            "{payload}: {} of {} bytes",
            got.data.len(),
            sent.len()
        );
        file.write(&got, "eth0")?;
    }
    kernel.test_run(&frame("127.0.0.1", 1)?, 1)?;
    ensure!(captured.next().is_none(), "other reasons are not copied");
    kernel.set_capture(&[]);
    kernel.test_run(&frame("198.51.100.7", 1)?, 1)?;
    ensure!(captured.next().is_none(), "switched off");

    let path = std::env::temp_dir().join(format!("gateway-capture-{}.pcapng", std::process::id()));
    std::fs::write(&path, file.finish()?)?;
    let read = std::process::Command::new("tcpdump").args(["-n", "-r"]).arg(&path).output();
    std::fs::remove_file(&path)?;
    let output = read.context("tcpdump, which `cargo xtask setup` installs")?;
    let (text, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(text.matches("198.51.100.7.40000 > 203.0.113.1.443: UDP").count() == 12, "{text}{said}");
    Ok(())
}

#[test]
fn status_and_top_tell_what_is() -> Result<()> {
    let lab = Lab::new()?;
    let kernel = lab.kernel();
    for (source, packets) in [("198.51.100.7", 3), ("198.51.100.8", 5), ("2001:db8::8", 4)] {
        kernel.ban(source.parse()?, Expiry::Never, BanReason::Manual)?;
        kernel.test_run(&frame(source, 1)?, packets)?;
    }
    let top: Vec<_> = kernel.top(2).into_iter().map(|ban| (ban.target.to_string(), ban.hits)).collect();
    ensure!(top == [("198.51.100.8".into(), 5), ("2001:db8::8".into(), 4)], "{top:?}");
    kernel.set_modes(Modes::all(Mode::Observe));
    let status = kernel.status()?;
    ensure!(status.modes["bans"] == "observe" && status.modes["limits"] == "observe", "{status:?}");
    ensure!(status.effective["limits"] == "off", "nothing is limited: {status:?}");
    ensure!(status.interfaces.is_empty() && status.memory["MARKS4"] >= 4 << 20, "{status:?}");
    let json = serde_json::to_value(kernel.stats())?;
    ensure!(json["bans"][0]["reason"] == "manual" && json["bans"][0]["packets"] == 12, "{json}");
    Ok(())
}
