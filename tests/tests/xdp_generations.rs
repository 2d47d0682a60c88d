//! Tables of another size: what stands is carried over, and nothing is lost on the way or by a failure. Needs root and
//! iproute2.

use std::{fs, net::IpAddr, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use gateway::kernel::{AttachMode, BanChange, BanReason, Expiry, Kernel, KernelError, Reason, Target};
use gateway_tests::xdp::packet;
use gateway_tests::xdp::pair::{Pair, Root, attach, host, on};

/// Bans of each shape.
const BANS: [&str; 6] =
    ["198.51.100.7", "198.51.100.8", "203.0.112.0/23", "192.0.2.128/27", "2001:db8::8", "2001:db8:8000::/33"];
/// Members of a feed set of each shape.
const FEED: [&str; 4] = ["198.18.0.1", "198.19.0.0/17", "2001:2::1", "2001:2:8000::/34"];

fn targets(texts: &[&str]) -> Result<Vec<Target>> {
    texts.iter().map(|text| text.parse().context("a target")).collect()
}

fn bans(kernel: &Kernel) -> Vec<(String, &'static str, u64, bool)> {
    let mut bans: Vec<_> = kernel
        .bans()
        .into_iter()
        .map(|ban| (ban.target.to_string(), ban.reason.name(), ban.hits, ban.remaining.is_some()))
        .collect();
    bans.sort();
    bans
}

fn without_hits(kernel: &Kernel) -> Vec<(String, &'static str, bool)> {
    bans(kernel).into_iter().map(|(target, reason, _, ends)| (target, reason, ends)).collect()
}

fn generations(root: &Root) -> Result<Vec<String>> {
    let entries = fs::read_dir(&root.0)?.collect::<Result<Vec<_>, _>>()?;
    let names = entries.into_iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| name.starts_with('v')).collect())
}

/// Whether a source is dropped, and for what.
fn drops(kernel: &Kernel, source: &str, reason: Reason) -> Result<()> {
    let before = kernel.stats().packets(reason);
    let run = kernel.test_run(&packet::udp_from(source.parse::<IpAddr>()?, b"x"), 1)?;
    ensure!(run.action == gateway_tests::xdp::DROP, "{source} passes");
    ensure!(kernel.stats().packets(reason) == before + 1, "{source} is not dropped for {reason:?}");
    Ok(())
}

#[test]
fn bans_and_packets_survive_another_capacity_under_traffic() -> Result<()> {
    let pair = Pair::new()?;
    let root = Root::new("capacity");
    let kernel = root.open()?;
    ensure!(kernel.carried().is_none(), "nothing was there before");
    attach(&kernel, &pair.here, AttachMode::Auto)?;
    kernel.ban(host(pair.address(3)), Expiry::In(std::time::Duration::from_secs(600)), BanReason::Waf)?;
    for target in targets(&BANS)? {
        kernel.ban(target, Expiry::Never, BanReason::Manual)?;
    }
    kernel.set_feed(targets(&FEED)?)?;
    ensure!(pair.ping(3, 3)? == 0, "the ban is in force");
    let before = without_hits(&kernel);
    drop(kernel);

    let traffic = pair.steady(4000)?;
    for capacity in [20_000, 5_000, 10_000] {
        let kernel = root.open_with(capacity)?;
        let carried = kernel.carried().context("carried over")?;
        ensure!(!carried.unreadable && carried.bans >= before.len() as u64, "{carried:?}");
        ensure!(!kernel.adopted(), "new maps");
        ensure!(pair.ping(3, 3)? == 0, "the ban holds before the swap");
        let (attached, detached) = kernel.take_over(&on(&pair.here, AttachMode::Auto))?;
        ensure!(attached[0].reason.contains("adopted") && detached.is_empty(), "{attached:?} {detached:?}");
        let now = without_hits(&kernel);
        ensure!(now == before, "{capacity}:\n{now:?}\nwere\n{before:?}");
        ensure!(pair.ping(3, 3)? == 0, "the ban holds after the swap");
        ensure!(generations(&root)?.len() == 1, "the old maps are gone: {:?}", generations(&root)?);
        let table = &kernel.status()?.tables[0];
        ensure!(table.capacity == capacity && table.used == Some(3), "{table:?}");
        for (source, reason) in [
            ("198.51.100.7", Reason::BanHost),
            ("203.0.113.200", Reason::BanPrefix),
            ("192.0.2.130", Reason::BanHost),
            ("2001:db8::8", Reason::BanHost),
            ("2001:db8:ffff::1", Reason::BanPrefix),
            ("198.18.0.1", Reason::Feed),
            ("198.19.127.1", Reason::Feed),
            ("2001:2::1", Reason::Feed),
            ("2001:2:bfff::1", Reason::Feed),
        ] {
            drops(&kernel, source, reason).with_context(|| format!("capacity {capacity}"))?;
        }
    }
    traffic.all_came()
}

#[test]
fn hits_are_carried_over() -> Result<()> {
    let root = Root::new("hits");
    let kernel = root.open()?;
    for (text, packets) in [("198.51.100.7", 3), ("2001:db8::8", 4), ("203.0.112.0/23", 5)] {
        let target: Target = text.parse()?;
        kernel.ban(target, Expiry::Never, BanReason::Manual)?;
        kernel.test_run(&packet::udp_from(target.address(), b"x"), packets)?;
    }
    let before = bans(&kernel);
    ensure!(before.iter().map(|ban| ban.2).sum::<u64>() == 12, "{before:?}");
    drop(kernel);
    let kernel = root.open_with(20_000)?;
    ensure!(bans(&kernel) == before, "{:?} were {before:?}", bans(&kernel));
    Ok(())
}

#[test]
fn what_does_not_fit_leaves_the_old_tables_in_force() -> Result<()> {
    let pair = Pair::new()?;
    let root = Root::new("fit");
    let kernel = root.open()?;
    attach(&kernel, &pair.here, AttachMode::Auto)?;
    let changes: Vec<BanChange> = (0..5_000u32)
        .map(|i| IpAddr::from(std::net::Ipv4Addr::from_bits((198 << 24) + (18 << 16) + i)))
        .chain([pair.address(3).into()])
        .map(|address| BanChange::Ban {
            target: address.into(),
            until: Expiry::Never,
            reason: BanReason::Manual,
        })
        .collect();
    ensure!(kernel.apply(&changes).refused.is_empty(), "they fit into this one");
    let folder = kernel.pin_folder().to_owned();
    drop(kernel);

    let error = root.open_with(1_000).err().context("5,000 bans fit into a table of 1,000")?;
    ensure!(matches!(error, KernelError::CarryOver { .. }), "{error}");
    let said = error.to_string();
    ensure!(said.contains("[kernel.capacity]") && said.contains("stay in force"), "{said}");
    ensure!(generations(&root)?.len() == 1, "the new generation is gone: {:?}", generations(&root)?);
    ensure!(pair.ping(3, 3)? == 0 && pair.ping(2, 3)? == 3, "the old program judges by the old tables");
    let kernel = root.open()?;
    ensure!(kernel.adopted() && kernel.pin_folder() == folder && kernel.bans().len() == 5_001);
    Ok(())
}

#[test]
fn an_attachment_that_fails_puts_everything_back() -> Result<()> {
    let (first, second) = (Pair::new()?, Pair::new()?);
    let root = Root::new("back");
    let kernel = root.open()?;
    kernel.take_over(&on(&first.here, AttachMode::Auto))?;
    for pair in [&first, &second] {
        kernel.ban(host(pair.address(3)), Expiry::Never, BanReason::Manual)?;
    }
    drop(kernel);

    let new = root.open_with(20_000)?;
    let mut wanted = on(&first.here, AttachMode::Auto).to_vec();
    wanted.extend(on(&second.here, AttachMode::Auto));
    wanted.extend(on("gw-none", AttachMode::Auto));
    let error = new.take_over(&wanted).err().context("one of them does not exist")?;
    ensure!(matches!(error, KernelError::NoInterface { .. }), "{error}");
    drop(new);
    ensure!(generations(&root)?.len() == 1, "the new generation is gone: {:?}", generations(&root)?);
    ensure!(second.ping(3, 3)? == 3, "the second interface had no program, and has none");
    let kernel = root.open()?;
    ensure!(kernel.adopted(), "the old generation is in force");
    let before = kernel.stats().packets(Reason::BanHost);
    ensure!(first.ping(3, 3)? == 0, "the first is guarded still");
    ensure!(kernel.stats().packets(Reason::BanHost) >= before + 3, "by the old program: it counts there");
    Ok(())
}

#[test]
fn a_generation_left_half_filled_is_thrown_away() -> Result<()> {
    let root = Root::new("half");
    let kernel = root.open()?;
    kernel.ban("198.51.100.7".parse()?, Expiry::Never, BanReason::Manual)?;
    drop(kernel);
    let half = root.open_with(20_000)?.pin_folder().to_owned();
    // Without its last word a generation is what a killed start left behind.
    fs::remove_file(half.join("CONTROL"))?;
    let kernel = root.open_with(20_000)?;
    ensure!(!kernel.adopted() && kernel.carried().is_some_and(|carried| carried.bans == 1));
    ensure!(kernel.bans().len() == 1);
    Ok(())
}

/// Writes another schema into the first word of a generation's control record, as an earlier daemon would have.
fn write_schema(folder: &Path, schema: u32) -> Result<()> {
    let map = folder.join("CONTROL").display().to_string();
    let bpftool = |arguments: &[&str]| -> Result<Vec<u8>> {
        let output = Command::new("bpftool").args(arguments).output().context("bpftool")?;
        ensure!(output.status.success(), "bpftool: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    };
    let key = ["key", "0", "0", "0", "0"];
    let shown = bpftool(&[&["-j", "map", "lookup", "pinned", &map][..], &key].concat())?;
    let shown: serde_json::Value = serde_json::from_slice(&shown)?;
    let bytes = shown["value"].as_array().context("the value, byte by byte")?;
    let mut bytes: Vec<String> =
        bytes.iter().map(|byte| byte.as_str().unwrap_or_default().to_owned()).collect();
    ensure!(bytes.len() > 4, "{shown}");
    for (byte, new) in bytes.iter_mut().zip(schema.to_ne_bytes()) {
        *byte = format!("{new:#x}");
    }
    let mut update = vec!["map", "update", "pinned", &map];
    update.extend(key);
    update.push("value");
    update.extend(bytes.iter().map(String::as_str));
    bpftool(&update).map(drop)
}

#[test]
fn bans_of_an_earlier_schema_are_carried_over_and_those_of_a_later_one_are_not() -> Result<()> {
    for (schema, readable) in [(1, true), (1_000_000, false)] {
        let root = Root::new(&format!("schema-{schema}"));
        let kernel = root.open()?;
        for target in targets(&BANS)? {
            kernel.ban(target, Expiry::Never, BanReason::Manual)?;
        }
        kernel.set_feed(targets(&FEED)?)?;
        let (before, folder) = (bans(&kernel), kernel.pin_folder().to_owned());
        drop(kernel);
        // Its folder is called after its schema too.
        let name = folder.file_name().context("a name")?.to_string_lossy().into_owned();
        let rest = name.split_once('-').context("vSCHEMA-...")?.1;
        let old = root.0.join(format!("v{schema}-{rest}"));
        fs::rename(&folder, &old)?;
        write_schema(&old, schema)?;

        let kernel = root.open()?;
        let carried = kernel.carried().context("carried over")?;
        ensure!(!kernel.adopted() && carried.from == old.display().to_string(), "{carried:?}");
        ensure!(carried.unreadable != readable, "schema {schema}: {carried:?}");
        if readable {
            ensure!(bans(&kernel) == before, "{:?} were {before:?}", bans(&kernel));
            drops(&kernel, "198.51.100.7", Reason::BanHost)?;
            drops(&kernel, "203.0.113.200", Reason::BanPrefix)?;
            drops(&kernel, "2001:db8:ffff::1", Reason::BanPrefix)?;
            // A feed's records may have been others then: the daemon loads it anew.
            ensure!(carried.feeds == 0 && carried.bans >= BANS.len() as u64, "{carried:?}");
        } else {
            ensure!(bans(&kernel).is_empty() && carried.bans == 0, "{carried:?}");
        }
        kernel.take_over(&[])?;
        ensure!(generations(&root)?.len() == 1, "the old maps are gone: {:?}", generations(&root)?);
    }
    Ok(())
}

#[test]
fn interfaces_that_are_no_longer_named_lose_the_program() -> Result<()> {
    let (first, second) = (Pair::new()?, Pair::new()?);
    let root = Root::new("named");
    let kernel = root.open()?;
    let mut both = on(&first.here, AttachMode::Auto).to_vec();
    both.extend(on(&second.here, AttachMode::Generic));
    kernel.take_over(&both)?;
    for pair in [&first, &second] {
        kernel.ban(host(pair.address(3)), Expiry::Never, BanReason::Manual)?;
        ensure!(pair.ping(3, 3)? == 0 && pair.ping(2, 3)? == 3, "several interfaces share the tables");
    }
    let modes: Vec<_> = kernel.status()?.interfaces.into_iter().map(|one| one.mode).collect();
    ensure!(
        modes.contains(&Some(AttachMode::Native)) && modes.contains(&Some(AttachMode::Generic)),
        "{modes:?}"
    );
    let (_, detached) = kernel.take_over(&on(&first.here, AttachMode::Auto))?;
    ensure!(detached == [second.here.clone()], "{detached:?}");
    ensure!(first.ping(3, 3)? == 0 && second.ping(3, 3)? == 3);
    Ok(())
}
