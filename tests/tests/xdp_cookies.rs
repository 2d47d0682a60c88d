//! SYN cookies: the answer byte by byte, and real clients that finish their handshakes under pressure. Needs root.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use gateway::kernel::{AttachMode, FloodLimits, InterfaceConfig, Mode, Modes, Part, Rate, Reason};
use gateway_tests::{
    Netns,
    xdp::{DROP, Lab, PASS, TX, packet},
};
use rustix::net::{self, AddressFamily, SocketType};

const PORT: u16 = 8_443;

fn pressed() -> FloodLimits {
    // The first connection goes through, all others find the gate shut.
    FloodLimits {
        connections: Some(Rate { per_second: 1, burst: 1 }),
        cookies: vec![PORT..=PORT],
        ..FloodLimits::default()
    }
}

/// Sets a sysctl of the network namespace of the calling thread.
fn sysctl(name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{name}");
    std::fs::write(&path, value).with_context(|| path)
}

/// The Internet checksum (RFC 1071): zero over something with a right one in it.
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// A SYN with options: a segment size of 1,400, then padding to `words` words.
fn syn(words: u8) -> Vec<u8> {
    let mut tcp = packet::tcp(40_000, PORT, packet::SYN);
    tcp[12] = words << 4;
    if words > 5 {
        tcp.extend([2, 4, 5, 120]);
        tcp.resize(usize::from(words) * 4, 1);
    }
    tcp
}

/// Checks the answer to `frame`, whose IP header is at `ip`.
fn check_answer(name: &str, frame: &[u8], answer: &[u8], ip: usize) -> Result<()> {
    let v6 = frame[ip] >> 4 == 6;
    let (header, address, at) = if v6 { (40, 16, ip + 8) } else { (20, 4, ip + 12) };
    ensure!(answer.len() == ip + header + 24, "{name}: {} bytes", answer.len());
    ensure!(answer[..6] == frame[6..12] && answer[6..12] == frame[..6], "{name}: Ethernet addresses");
    ensure!(answer[12..ip] == frame[12..ip], "{name}: tags");
    let (source, destination) = (at..at + address, at + address..at + 2 * address);
    ensure!(answer[source.clone()] == frame[destination.clone()], "{name}: source");
    ensure!(answer[destination.clone()] == frame[source.clone()], "{name}: destination");
    ensure!(v6 || checksum(&answer[ip..ip + 20]) == 0, "{name}: checksum of the header");
    let (tcp, asked) = (&answer[ip + header..], &frame[ip + header..]);
    ensure!(tcp[..2] == asked[2..4] && tcp[2..4] == asked[..2], "{name}: ports");
    ensure!(tcp[8..12] == 2u32.to_be_bytes(), "{name}: acknowledges the sequence number after the SYN's");
    ensure!(tcp[12..14] == [0x60, packet::SYN | packet::ACK] && tcp[20..22] == [2, 4], "{name}: flags");
    let mut pseudo = answer[source.start..destination.end].to_vec();
    pseudo.extend([0, 6, 0, 24]);
    pseudo.extend(tcp);
    ensure!(checksum(&pseudo) == 0, "{name}: checksum");
    Ok(())
}

#[test]
fn the_answer_is_right_to_the_byte() -> Result<()> {
    let space = Netns::new()?;
    space.inside(|| {
        sysctl("ipv4/tcp_syncookies", "2")?;
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))?;
        let lab = Lab::new()?;
        lab.kernel().set_flood(&pressed())?;
        let v4 = |words| packet::ipv4(Ipv4Addr::new(192, 0, 2, 1), 6, &syn(words));
        let v6 =
            |words| packet::ipv6("2001:db8::1".parse().unwrap_or(Ipv6Addr::LOCALHOST), 6, 64, &syn(words));
        // The gate lets one in, and one more each second.
        lab.kernel().test_run(&packet::frame(&v4(5)), 3)?;
        for (name, frame, ip) in [
            ("v4", packet::frame(&v4(5)), 14),
            ("v4 with options", packet::frame(&v4(10)), 14),
            ("v4 with most options", packet::frame(&v4(15)), 14),
            ("v4 tagged", packet::frame_tagged(&[0x8100], 0x0800, &v4(6)), 18),
            ("v4 tagged twice", packet::frame_tagged(&[0x88a8, 0x8100], 0x0800, &v4(6)), 22),
            ("v6", packet::frame(&v6(5)), 14),
            ("v6 with options", packet::frame(&v6(10)), 14),
            ("v6 tagged twice", packet::frame_tagged(&[0x88a8, 0x8100], 0x86dd, &v6(15)), 22),
        ] {
            let mut run = lab.kernel().test_run(&frame, 1)?;
            for _ in 0..3 {
                if run.action == TX {
                    break;
                }
                run = lab.kernel().test_run(&frame, 1)?;
            }
            ensure!(run.action == TX, "{name}: action {}", run.action);
            check_answer(name, &frame, &run.data, ip)?;
        }
        // Options of the IP header, or too few words: not for us.
        let odd = packet::ipv4_with(Ipv4Addr::new(192, 0, 2, 1), 6, 0, &[1; 4], &syn(5));
        let run = lab.kernel().test_run(&packet::frame(&odd), 1)?;
        ensure!(run.action != TX, "a packet with IP options is not answered");
        // In observe mode the listener gets it.
        lab.kernel().set_modes(Modes::all(Mode::Enforce).with(Part::Flood, Mode::Observe));
        let before = lab.kernel().stats().observed(Reason::SynCookie);
        let run = lab.kernel().test_run(&packet::frame(&v4(5)), 10)?;
        ensure!(run.action == PASS && lab.kernel().stats().observed(Reason::SynCookie) >= before + 9);
        drop(listener);
        Ok(())
    })
}

#[test]
fn a_host_without_cookies_refuses_and_says_so() -> Result<()> {
    let space = Netns::new()?;
    space.inside(|| {
        let _listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))?;
        let lab = Lab::new()?;
        lab.kernel().set_flood(&pressed())?;
        let frame = packet::frame(&packet::ipv4(Ipv4Addr::new(192, 0, 2, 1), 6, &syn(5)));
        for (sysctl, told, action, reason) in [
            ("0", "off: net.ipv4.tcp_syncookies is 0", DROP, Reason::SynGate),
            ("2", "available", TX, Reason::SynCookie),
        ] {
            self::sysctl("ipv4/tcp_syncookies", sysctl)?;
            // The daemon's heartbeat looks whether that has changed.
            lab.kernel().heartbeat();
            ensure!(lab.kernel().cookies().to_string().starts_with(told), "{sysctl}");
            ensure!(lab.kernel().status()?.cookies.starts_with(told), "{sysctl}");
            // The gate lets one in, and one more each second.
            lab.kernel().test_run(&frame, 3)?;
            let before = lab.kernel().stats().packets(reason);
            let actions =
                (0..5).map(|_| Ok(lab.kernel().test_run(&frame, 1)?.action)).collect::<Result<Vec<_>>>()?;
            let right = actions.iter().filter(|one| **one == action).count() as u64;
            ensure!(right >= 4, "{sysctl}: {actions:?}");
            ensure!(
                lab.kernel().stats().packets(reason) == before + right,
                "{sysctl}: counted as {reason:?}"
            );
        }
        Ok(())
    })
}

#[test]
fn a_gateway_on_a_host_without_cookies_warns() -> Result<()> {
    let lab = gateway_tests::Lab::new()?;
    gateway_tests::run(lab.gateway.command("sysctl").args(["-qw", "net.ipv4.tcp_syncookies=0"]))?;
    let settings = lab.settings().with_kernel("flood = { connections = 20000, cookies = [8080] }");
    let gateway = lab.start(&settings)?;
    let log = gateway.log();
    let warning = "SYN cookies of `kernel.flood` are off: net.ipv4.tcp_syncookies is 0; set it to 1";
    ensure!(log.contains(warning), "{log}");
    let status = gateway.ask(&["xdp", "status"])?;
    ensure!(status["cookies"].as_str().is_some_and(|told| told.starts_with("off: ")), "{status}");
    drop(gateway);
    gateway_tests::run(lab.gateway.command("sysctl").args(["-qw", "net.ipv4.tcp_syncookies=1"]))?;
    std::fs::remove_file(settings.log())?;
    let gateway = lab.start(&settings)?;
    let log = gateway.log();
    ensure!(!log.contains("SYN cookies"), "{log}");
    ensure!(log.contains("gw-clean is a veth: answers with cookies"), "{log}");
    ensure!(gateway.ask(&["xdp", "status"])?["cookies"] == "available");
    Ok(())
}

/// A server and a client on a cable, the program on the server's end; the client's end has one too, as the kernel wants
/// for packets that a program sends into a veth.
struct Wire {
    server: Netns,
    client: Netns,
    lab: Lab,
    _far: Lab,
}

const SERVER: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 91, 0, 1)), IpAddr::V6(Ipv6Addr::new(0xfd91, 0, 0, 0, 0, 0, 0, 1))];

impl Wire {
    fn new() -> Result<Self> {
        let (server, client) = (Netns::new()?, Netns::new()?);
        server.cable(
            ("srv0", &["10.91.0.1/24", "fd91::1/64"]),
            &client,
            ("cli0", &["10.91.0.2/24", "fd91::2/64"]),
        )?;
        let (lab, far) = (Lab::new()?, Lab::new()?);
        far.kernel().set_modes(Modes::OFF);
        let attach = |lab: &Lab, name: &str| -> Result<()> {
            let config = InterfaceConfig { name: name.into(), mode: AttachMode::Native };
            lab.kernel().attach(&[config])?;
            Ok(())
        };
        server.inside(|| attach(&lab, "srv0"))?;
        client.inside(|| attach(&far, "cli0"))?;
        Ok(Self { server, client, lab, _far: far })
    }

    /// `count` clients, one after the other: each connects, sends and has its bytes echoed. How many did.
    fn clients(&self, to: IpAddr, count: usize) -> Result<usize> {
        self.client.inside(|| {
            let one = || -> Result<()> {
                let address = SocketAddr::new(to, PORT);
                let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
                stream.set_read_timeout(Some(Duration::from_secs(10)))?;
                stream.write_all(b"hello")?;
                let mut back = [0; 5];
                stream.read_exact(&mut back)?;
                ensure!(&back == b"hello");
                Ok(())
            };
            Ok((0..count).filter(|_| one().is_ok()).count())
        })
    }
}

/// Echoes on a listener until told to stop.
fn echo(listener: &TcpListener, stop: &AtomicBool) -> Result<()> {
    listener.set_nonblocking(true)?;
    while !stop.load(Relaxed) {
        match listener.accept() {
            Ok((mut stream, _)) => {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(Duration::from_secs(5)))?;
                let mut bytes = [0; 5];
                if stream.read_exact(&mut bytes).is_ok() {
                    // The client may be gone.
                    let _ = stream.write_all(&bytes);
                }
            }
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
    }
    Ok(())
}

#[test]
fn clients_finish_their_handshakes_with_cookies() -> Result<()> {
    let wire = Wire::new()?;
    let listener = wire.server.inside(|| {
        sysctl("ipv4/tcp_syncookies", "2")?;
        Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))?)
    })?;
    wire.lab.kernel().set_flood(&pressed())?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let server = scope.spawn(|| echo(&listener, &stop));
        let result = SERVER.iter().try_for_each(|to| {
            let before = wire.lab.kernel().stats().packets(Reason::SynCookie);
            let served = wire.clients(*to, 20)?;
            let cookies = wire.lab.kernel().stats().packets(Reason::SynCookie) - before;
            ensure!(served == 20, "{to}: {served} of 20 clients were served, {cookies} cookies");
            ensure!(cookies >= 10, "{to}: only {cookies} cookies for 20 clients");
            Ok(())
        });
        stop.store(true, Relaxed);
        server.join().expect("no panic in the server")?;
        result
    })
}

#[test]
fn who_was_just_here_comes_back_from_the_same_port() -> Result<()> {
    let wire = Wire::new()?;
    let listener = wire.server.inside(|| {
        sysctl("ipv4/tcp_syncookies", "2")?;
        Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))?)
    })?;
    wire.lab.kernel().set_flood(&pressed())?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let server = scope.spawn(|| echo(&listener, &stop));
        let result = SERVER.iter().try_for_each(|to| {
            // The server closes first, so its end waits a minute before the port is free again (RFC 9293 section 3.6.1).
            for visit in 1..=10 {
                let started = Instant::now();
                let mut stream = wire.client.inside(|| connect_from(*to, 40_001))?;
                let mut back = Vec::new();
                stream.write_all(b"hello")?;
                stream.read_to_end(&mut back)?;
                ensure!(back == b"hello", "{to}, visit {visit}: {back:?}");
                let took = started.elapsed();
                ensure!(took < Duration::from_millis(900), "{to}, visit {visit}: {took:?}, a SYN was lost");
            }
            Ok(())
        });
        stop.store(true, Relaxed);
        server.join().expect("no panic in the server")?;
        result
    })
}

/// A connection to the server from a port of one's own.
fn connect_from(to: IpAddr, port: u16) -> Result<TcpStream> {
    let (family, any) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        IpAddr::V6(_) => (AddressFamily::INET6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    let socket = net::socket(family, SocketType::STREAM, None)?;
    net::bind(&socket, &SocketAddr::new(any, port))?;
    net::connect(&socket, &SocketAddr::new(to, PORT))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

#[test]
fn clients_get_through_a_flood_that_fills_the_queue() -> Result<()> {
    let wire = Wire::new()?;
    let listener = wire.server.inside(|| {
        sysctl("ipv4/tcp_syncookies", "1")?;
        sysctl("core/somaxconn", "16")?;
        Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))?)
    })?;
    // The listener answers a source only where it has a way back.
    let run = |netns: &Netns, arguments: &[&str]| gateway_tests::run(netns.command("ip").args(arguments));
    run(&wire.server, &["route", "add", "default", "via", "10.91.0.2"])?;
    let link = |netns: &Netns, name: &str| -> Result<Vec<u8>> {
        let text = hardware_address(netns, name)?;
        text.split(':').map(|byte| Ok(u8::from_str_radix(byte, 16)?)).collect()
    };
    let mut frame = link(&wire.server, "srv0")?;
    frame.extend(link(&wire.client, "cli0")?);
    frame.extend([8, 0]);
    frame.extend(with_checksums(Ipv4Addr::new(11, 0, 0, 1), Ipv4Addr::new(10, 91, 0, 1)));
    wire.lab.kernel().set_flood(&pressed())?;
    let (stop, done) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let server = scope.spawn(|| echo(&listener, &stop));
        let flood = scope.spawn(|| {
            wire.client.inside(|| {
                // Bounded: a thousand times two hundred, with a pause, or until the clients are done.
                for _ in 0..1_000 {
                    if done.load(Relaxed) {
                        break;
                    }
                    wire.lab.kernel().flood("cli0", &frame, 192)?;
                    thread::sleep(Duration::from_millis(5));
                }
                Ok(())
            })
        });
        thread::sleep(Duration::from_millis(300));
        let before = wire.lab.kernel().stats();
        let served = SERVER.iter().map(|to| wire.clients(*to, 10)).collect::<Result<Vec<_>>>();
        done.store(true, Relaxed);
        let flooded = flood.join().expect("no panic in the flood");
        stop.store(true, Relaxed);
        server.join().expect("no panic in the server")?;
        flooded?;
        let cookies =
            wire.lab.kernel().stats().packets(Reason::SynCookie) - before.packets(Reason::SynCookie);
        ensure!(served? == [10, 10], "not every client was served; {cookies} cookies");
        ensure!(cookies > 0, "the flood did not fill the queue");
        let broken = wire.lab.kernel().stats().packets(Reason::Truncated);
        ensure!(broken == 0, "{broken} packets of the flood were sent again as they had been answered");
        Ok(())
    })
}

/// The Ethernet address of an interface. (/sys shows the interfaces of whoever mounted it.)
fn hardware_address(netns: &Netns, name: &str) -> Result<String> {
    let output = netns.command("ip").args(["-o", "link", "show", name]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let address = text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
    address.map(str::to_owned).with_context(|| format!("no {name}: {text}"))
}

/// A SYN with right checksums, which the sender of the flood keeps right.
fn with_checksums(source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    let mut out = packet::ipv4(source, 6, &syn(6));
    out[16..20].copy_from_slice(&destination.octets());
    let sum = checksum(&out[..20]).to_be_bytes();
    out[10..12].copy_from_slice(&sum);
    let mut pseudo = out[12..20].to_vec();
    pseudo.extend([0, 6, 0, (out.len() - 20) as u8]);
    pseudo.extend(&out[20..]);
    let sum = checksum(&pseudo).to_be_bytes();
    out[36..38].copy_from_slice(&sum);
    out
}
