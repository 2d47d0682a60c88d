//! Sends floods for `cargo xtask bench xdp`: TCP packets from random sources out of an interface of this network
//! namespace, as fast as the machine goes.
//!
//! Arguments: interface, `ack` or `syn`, the gateway's MAC, its IPv4 address and port, packets of one flood. Says
//! `ready`; each line on standard input then is a flood, answered with the seconds that it took.
//!
//! Or: interface, `drop` or `pass`. Then everything that comes in there is dropped by a bare XDP_DROP, or let through, until
//! standard input ends. A veth takes what a program at its other end sends back only where it has a program itself.

use std::{
    io::BufRead,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use gateway::kernel::{Kernel, KernelConfig, TestProgram};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = PathBuf::from(format!("/sys/fs/bpf/gateway-flood-{}", std::process::id()));
    if let [interface, kind] = arguments.as_slice() {
        let program = match kind.as_str() {
            "drop" => TestProgram::Drop,
            "pass" => TestProgram::Empty,
            other => bail!("{other} is neither drop nor pass"),
        };
        let ended = far_end(&root, interface, program);
        gateway::kernel::uninstall(&root)?;
        return ended;
    }
    let [interface, kind, mac, address, port, count] = arguments.as_slice() else {
        bail!("arguments: INTERFACE ack|syn MAC ADDRESS PORT COUNT, or INTERFACE drop|pass");
    };
    let flags = match kind.as_str() {
        "ack" => 0x10,
        "syn" => 0x02,
        other => bail!("{other} is neither ack nor syn"),
    };
    let frame = segment(&hardware(mac)?, address.parse()?, port.parse()?, flags);
    let count = count.parse()?;
    let sent = send(&root, interface, &frame, count);
    gateway::kernel::uninstall(&root)?;
    sent
}

fn open(root: &Path) -> Result<Kernel> {
    Ok(Kernel::open(&KernelConfig {
        pin_root: root.to_owned(),
        capacity_hosts: 1_000,
        capacity_wide: 1_000,
        capacity_sources: 1_000,
        capacity_feed_hosts: 1_000,
        capacity_feed_wide: 1_000,
        ..KernelConfig::default()
    })?)
}

/// Puts the program on an interface, as long as somebody wants it.
fn far_end(root: &Path, interface: &str, program: TestProgram) -> Result<()> {
    let kernel = open(root)?;
    let pin = root.join("far_end");
    kernel.pin(program, &pin)?;
    let set = |program: &[&str]| -> Result<()> {
        let done =
            Command::new("ip").args(["link", "set", "dev", interface, "xdpdrv"]).args(program).status()?;
        ensure!(done.success(), "ip link set dev {interface} xdpdrv {}: {done}", program.join(" "));
        Ok(())
    };
    set(&["pinned", &pin.display().to_string()])?;
    println!("ready");
    std::io::stdin().lock().lines().count();
    set(&["off"])
}

fn send(root: &Path, interface: &str, frame: &[u8], count: u32) -> Result<()> {
    let kernel = open(root)?;
    // The first one has the program verified.
    kernel.flood(interface, frame, 1)?;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        line?;
        let started = Instant::now();
        kernel.flood(interface, frame, count)?;
        println!("{}", started.elapsed().as_secs_f64());
    }
    Ok(())
}

fn hardware(text: &str) -> Result<[u8; 6]> {
    let bytes: Vec<u8> =
        text.split(':').map(|part| u8::from_str_radix(part, 16)).collect::<Result<_, _>>()?;
    bytes.try_into().ok().context("a MAC address has six bytes")
}

/// A TCP segment with right checksums for the source that it begins with; the sender keeps them right.
fn segment(mac: &[u8; 6], to: Ipv4Addr, port: u16, flags: u8) -> Vec<u8> {
    let source = Ipv4Addr::new(11, 0, 0, 1);
    let mut frame = mac.to_vec();
    frame.extend([2, 0, 0, 0, 0, 9, 8, 0]);
    let mut ip = vec![0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0];
    ip.extend(source.octets());
    ip.extend(to.octets());
    let sum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut tcp = 40_000u16.to_be_bytes().to_vec();
    tcp.extend(port.to_be_bytes());
    tcp.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    let sum = checksum(&[&source.octets(), &to.octets(), &[0, 6, 0, 20], &tcp]);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    frame.extend(ip);
    frame.extend(tcp);
    frame
}

/// The checksum of RFC 1071 over parts of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks_exact(2));
    let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}
