//! What interfaces do to frames: jumbo frames in several buffers, VLAN tags. Needs root, iproute2 and ethtool.

use std::{net::Ipv4Addr, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use gateway::kernel::{AttachMode, BanReason, Expiry, Kernel, Reason};
use gateway_tests::{
    run, wait_until,
    xdp::pair::{Pair, Root, attach, host, ip},
};

/// The VLAN of the tests below.
const VLAN: u16 = 77;

fn ban(kernel: &Kernel, address: Ipv4Addr) -> Result<()> {
    kernel.ban(host(address), Expiry::Never, BanReason::Manual)?;
    Ok(())
}

#[test]
fn jumbo_frames_pass_whole_and_open_no_hole() -> Result<()> {
    for (mode, in_force) in
        [(AttachMode::Auto, AttachMode::Native), (AttachMode::Generic, AttachMode::Generic)]
    {
        let pair = Pair::new()?;
        ip(&format!("link set {} mtu 9000", pair.here))?;
        ip(&format!("-n {} link set peer mtu 9000", pair.space))?;
        let root = Root::new("jumbo");
        let kernel = root.open()?;
        let attached = attach(&kernel, &pair.here, mode)?;
        ensure!(attached.mode == in_force, "{attached:?}");
        if mode == AttachMode::Auto {
            let said = "native: the MTU is too large for this mode; native, several buffers: attached";
            ensure!(attached.reason == said, "{attached:?}");
        }
        ban(&kernel, pair.address(3))?;
        let status = kernel.status()?;
        ensure!(
            status.interfaces[0].mtu == Some(9000) && status.interfaces[0].mode == Some(in_force),
            "{status:?}"
        );
        let large =
            |from: u8| pair.ping_from(pair.address(from), pair.address(1), 3, &["-M", "do", "-s", "8900"]);
        ensure!(large(2)? == 3, "{mode:?}: frames of 8,942 bytes pass");
        let before = kernel.stats().packets(Reason::BanHost);
        ensure!(large(3)? == 0, "{mode:?}: from a banned source they do not");
        ensure!(kernel.stats().packets(Reason::BanHost) >= before + 3);
        drop(kernel);
        let kernel = root.open()?;
        let again = attach(&kernel, &pair.here, mode)?;
        ensure!(again.reason.contains("adopted") && again.mode == in_force, "{again:?}");
        ensure!(large(2)? == 3 && large(3)? == 0, "{mode:?}: after a restart");
    }
    Ok(())
}

/// An empty UDP datagram under these tags, each with its EtherType.
fn tagged_frame(tags: &[(u16, u16)], source: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2];
    for (kind, tag) in tags {
        frame.extend(kind.to_be_bytes());
        frame.extend(tag.to_be_bytes());
    }
    frame.extend([8, 0, 0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0]);
    frame.extend(source.octets());
    frame.extend(to.octets());
    frame.extend([0x9c, 0x40, 0x1e, 0x61, 0, 8, 0, 0]);
    frame
}

#[test]
fn a_tag_inside_the_frame_hides_nobody() -> Result<()> {
    const Q: u16 = 0x8100;
    const AD: u16 = 0x88a8;
    for mode in [AttachMode::Native, AttachMode::Generic] {
        let pair = Pair::new()?;
        let root = Root::new("tags");
        let kernel = root.open()?;
        // Without a native program this lets a veth take frames that do not come from a stack.
        run(Command::new("ethtool").args(["-K", &pair.here, "gro", "on"]))?;
        let attached = attach(&kernel, &pair.here, mode)?;
        ensure!(attached.mode == mode, "{attached:?}");
        ban(&kernel, pair.address(3))?;
        for tags in [&[][..], &[(Q, VLAN)], &[(AD, 5), (Q, VLAN)]] {
            for (from, reason) in [(3, Reason::BanHost), (2, Reason::Clean)] {
                let frame = tagged_frame(tags, pair.address(from), pair.address(1));
                let before = kernel.stats().packets(reason);
                // One batch: the stack changes the frames that it gets, and later ones would be sent changed.
                pair.send_frames(&kernel, &frame, 60)?;
                wait_until("the frames", Duration::from_secs(10), || {
                    (kernel.stats().packets(reason) >= before + 60).then_some(())
                })
                .with_context(|| format!("{mode:?}, tags {tags:?}, from .{from}: {:?}", kernel.stats()))?;
            }
        }
    }
    Ok(())
}

#[test]
fn another_mode_is_taken_when_it_is_asked_for() -> Result<()> {
    let pair = Pair::new()?;
    let root = Root::new("mode");
    let kernel = root.open()?;
    ban(&kernel, pair.address(3))?;
    for (mode, reason) in [
        (AttachMode::Native, "native: attached"),
        (AttachMode::Auto, "adopted from the daemon before, native; program replaced"),
        (AttachMode::Generic, "was native, generic is asked for; generic: attached"),
        (AttachMode::Auto, "adopted from the daemon before, generic; program replaced"),
        (AttachMode::Native, "was generic, native is asked for; native: attached"),
    ] {
        let attached = attach(&kernel, &pair.here, mode)?;
        ensure!(attached.reason == reason, "{attached:?} instead of {reason}");
        ensure!(pair.ping(3, 2)? == 0 && pair.ping(2, 2)? == 2, "{mode:?}");
    }
    Ok(())
}
