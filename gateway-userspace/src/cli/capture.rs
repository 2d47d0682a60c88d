//! `gateway capture`: dropped packets into a file that tcpdump and Wireshark read.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use clap::builder::PossibleValuesParser;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::events::drop_reasons;
use super::{CallError, Control, Output};
use crate::config::duration::{parse_duration, parse_size};
use crate::kernel::{CapturedPacket, PcapNg, Reason};

/// Longest capture.
const LONGEST: Duration = Duration::from_hours(24);
/// How long one call waits for packets: Ctrl-C is obeyed within it.
const WAIT_MS: u64 = 250;

/// What to capture, and how much of it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The packets that the kernel side drops, or would drop where it observes. Needed: there is nothing else yet.
    #[arg(long, required = true)]
    dropped: bool,
    /// Only those dropped for this reason; may be given several times. Without it: for any.
    #[arg(long, value_name = "REASON", value_parser = PossibleValuesParser::new(drop_reasons()))]
    reason: Vec<String>,
    /// The pcapng file to write; `-` is standard output. At most the first 256 bytes of each packet.
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    file: PathBuf,
    /// End after this many packets.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    packets: u64,
    /// End after this long, such as 30s or 5m; at most 24h.
    #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = duration)]
    lasting: Duration,
    /// End before the file is larger than this, such as 100MiB.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size)]
    bytes: u64,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|lasting| *lasting <= LONGEST)
        .ok_or_else(|| "write a whole number and a unit, such as 30s or 5m, and at most 24h".to_owned())
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text)
        .filter(|size| *size >= 4096)
        .ok_or_else(|| "write a size such as 64MiB, and at least 4KiB".to_owned())
}

/// What was captured so far.
#[derive(Default)]
struct Sum {
    packets: u64,
    lost: u64,
}

pub(super) fn run(args: &Args, control: &Control, out: Output) -> Result<(), CallError> {
    let stopped = interrupted();
    let to_stdout = args.file.as_os_str() == "-";
    let reasons = if args.reason.is_empty() {
        drop_reasons().into_iter().map(str::to_owned).collect()
    } else {
        args.reason.clone()
    };
    let unwritable =
        |error: io::Error| CallError::Usage(format!("{} can't be written: {error}", args.file.display()));
    let sink: Box<dyn Write> = if to_stdout {
        Box::new(io::stdout().lock())
    } else {
        Box::new(BufWriter::new(File::create(&args.file).map_err(unwritable)?))
    };
    let mut file = PcapNg::new(sink).map_err(unwritable)?;
    let session = control.post("/v1/xdp/capture", &json!({ "reasons": reasons }))?;
    let session = session.get("session").cloned().unwrap_or(Value::Null);
    if !to_stdout && !out.json {
        eprintln!("capturing into {}; Ctrl-C ends it", args.file.display());
    }
    let started = Instant::now();
    let mut sum = Sum::default();
    let ended = loop {
        if stopped.load(Ordering::Relaxed) {
            break "interrupted";
        }
        if started.elapsed() >= args.lasting {
            break "time";
        }
        let left = args.lasting.saturating_sub(started.elapsed()).as_millis().min(WAIT_MS.into()) as u64;
        let part = control.post("/v1/xdp/capture/next", &json!({ "session": session, "wait_ms": left }))?;
        if let Some(bound) = take(args, &mut file, &mut sum, &part).map_err(unwritable)? {
            break bound;
        }
    };
    let rest = control.post("/v1/xdp/capture/stop", &json!({ "session": session }))?;
    if matches!(ended, "interrupted" | "time") {
        take(args, &mut file, &mut sum, &rest).map_err(unwritable)?;
    }
    file.lost(sum.lost).map_err(unwritable)?;
    let bytes = file.written();
    file.finish().map_err(unwritable)?;
    tell(args.file.as_path(), to_stdout, &sum, bytes, ended, out);
    Ok(())
}

/// Writes the packets of an answer; the bound that was met, if one was.
fn take(
    args: &Args,
    file: &mut PcapNg<Box<dyn Write>>,
    sum: &mut Sum,
    part: &Value,
) -> io::Result<Option<&'static str>> {
    sum.lost = part.get("lost").and_then(Value::as_u64).unwrap_or(sum.lost);
    for packet in part.get("packets").and_then(Value::as_array).into_iter().flatten() {
        if sum.packets >= args.packets {
            return Ok(Some("packets"));
        }
        if file.written() + PcapNg::<Box<dyn Write>>::LARGEST_BLOCK > args.bytes {
            return Ok(Some("bytes"));
        }
        let Some((packet, name)) = read(packet) else { continue };
        file.write(&packet, &name)?;
        sum.packets += 1;
    }
    Ok((sum.packets >= args.packets).then_some("packets"))
}

/// A packet as the daemon wrote it, with the name of its interface.
fn read(value: &Value) -> Option<(CapturedPacket, String)> {
    let number = |name: &str| value.get(name)?.as_u64();
    let reason = value.get("reason")?.as_str()?;
    let hex = value.get("data")?.as_str()?;
    let data = (0..hex.len() / 2).map(|at| u8::from_str_radix(hex.get(at * 2..at * 2 + 2)?, 16).ok());
    let packet = CapturedPacket {
        at: UNIX_EPOCH + Duration::from_micros(number("at_us")?),
        reason: *Reason::ALL.iter().find(|known| known.name() == reason)?,
        interface: u32::try_from(number("interface")?).ok()?,
        length: u32::try_from(number("length")?).ok()?,
        data: data.collect::<Option<Vec<u8>>>()?,
    };
    Some((packet, value.get("name").and_then(Value::as_str).unwrap_or_default().to_owned()))
}

fn tell(file: &Path, to_stdout: bool, sum: &Sum, bytes: u64, ended: &str, out: Output) {
    let why = match ended {
        "packets" => "--packets is reached",
        "bytes" => "--bytes is reached",
        "time" => "the time is up",
        _ => "ended by a signal",
    };
    let text = format!(
        "{} packets, {bytes} bytes; {} more were dropped that could not be copied; {why}\n",
        sum.packets, sum.lost
    );
    if to_stdout {
        eprint!("{text}");
        return;
    }
    let summary =
        json!({ "file": file, "packets": sum.packets, "bytes": bytes, "lost": sum.lost, "ended": ended });
    out.print(&summary, |_| text);
}

/// Turns true on Ctrl-C or SIGTERM: the file is finished then.
fn interrupted() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&flag);
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            raised.store(true, Ordering::Relaxed);
        });
    });
    flag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_back_as_they_were_written() {
        let value = json!({
            "at_us": 1_000_002, "reason": "ban_host", "interface": 3, "name": "eth0", "length": 1500, "data": "00ff7f",
        });
        let (packet, name) = read(&value).unwrap();
        assert_eq!((packet.reason, packet.length, name.as_str()), (Reason::BanHost, 1500, "eth0"));
        assert_eq!(packet.data, [0, 255, 127]);
        for (name, bad) in [("data", json!("0g")), ("reason", json!("none")), ("length", json!(-1))] {
            let mut broken = value.clone();
            broken[name] = bad;
            assert_eq!(read(&broken), None, "{name}");
        }
    }

    #[test]
    fn bounds_of_the_options() {
        assert!(duration("25h").is_err() && duration("5m").is_ok());
        assert!(size("1KiB").is_err() && size("1MiB").is_ok());
        assert!(drop_reasons().contains(&"ban_host") && !drop_reasons().contains(&"clean"));
    }
}
