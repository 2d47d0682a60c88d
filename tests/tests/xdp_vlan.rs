//! VLAN tags that the driver takes off a frame. Needs root, iproute2, ethtool, and a kernel with VLAN interfaces: the
//! feature `vlan` is for those. `cargo xtask vm-test` always has it, `cargo xtask test` where the host's kernel can.

use std::{net::Ipv4Addr, process::Command};

use anyhow::{Context, Result, ensure};
use gateway::kernel::{AttachMode, BanReason, Expiry, Reason};
use gateway_tests::{
    run,
    xdp::pair::{Pair, Root, attach, host, ip},
};

/// The VLAN of this test.
const VLAN: u16 = 77;

#[test]
fn a_tag_that_the_driver_takes_off_hides_nobody() -> Result<()> {
    // With the offload a veth hands the tag beside the frame, without it inside; the driver may see either.
    for (mode, offload) in [
        (AttachMode::Native, "on"),
        (AttachMode::Native, "off"),
        (AttachMode::Generic, "on"),
        (AttachMode::Generic, "off"),
    ] {
        let case = format!("{mode:?}, VLAN offload {offload}");
        let pair = Pair::new()?;
        let tagged = |host: u8| {
            let [a, b, c, _] = pair.address(0).octets();
            Ipv4Addr::new(a, b + 1, c, host)
        };
        let inner = format!("{}.{VLAN}", pair.here);
        ip(&format!("link add link {} name {inner} type vlan id {VLAN}", pair.here)).context(
            "this kernel makes no VLAN interfaces: it needs CONFIG_VLAN_8021Q, and where that is a module (8021q), \
             the module; `cargo xtask vm-test` has both",
        )?;
        ip(&format!("addr add {}/24 dev {inner}", tagged(1)))?;
        ip(&format!("link set {inner} up"))?;
        for part in [
            format!("link add link peer name tagged type vlan id {VLAN}"),
            format!("addr add {}/24 dev tagged", tagged(2)),
            format!("addr add {}/24 dev tagged", tagged(3)),
            "link set tagged up".to_owned(),
        ] {
            ip(&format!("-n {} {part}", pair.space))?;
        }
        run(Command::new("ethtool").args(["-K", &pair.here, "rxvlan", offload, "txvlan", offload]))
            .with_context(|| case.clone())?;
        run(Command::new("ip")
            .args(["netns", "exec", &pair.space, "ethtool", "-K", "peer"])
            .args(["rxvlan", offload, "txvlan", offload]))
        .with_context(|| case.clone())?;
        let root = Root::new("vlan");
        let kernel = root.open()?;
        let ping = |from: u8| pair.ping_from(tagged(from), tagged(1), 3, &[]);
        ensure!(ping(2)? == 3 && ping(3)? == 3, "{case}: the VLAN works without the program");
        let attached = attach(&kernel, &pair.here, mode)?;
        ensure!(attached.mode == mode, "{case}: {attached:?}");
        kernel.ban(host(tagged(3)), Expiry::Never, BanReason::Manual)?;
        ensure!(ping(2)? == 3, "{case}: a clean source passes");
        ensure!(ping(3)? == 0, "{case}: a banned source in the VLAN passes");
        ensure!(kernel.stats().packets(Reason::BanHost) >= 3, "{case}: not counted as a ban");
        ensure!(pair.ping(3, 3)? == 3, "{case}: another address outside of the VLAN is not banned");
    }
    Ok(())
}
