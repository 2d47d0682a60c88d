//! The harness does what the other tests rely on.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use gateway_tests::{CLEAN, Connection, Echo, Lab, Origin, Place, Probe, Redis, run, text};

#[test]
fn a_probe_sees_when_packets_stop() -> Result<()> {
    let lab = Lab::new()?;
    let place: Place = Lab::ATTACKER;
    // An interface that was down has lost its IPv6 address: that one comes first.
    for to in [place.gateway_v6(), place.gateway()] {
        let echo = Echo::start(&lab.gateway, SocketAddr::new(to, 0))?;
        let probe = Probe::start(&lab.attacker, echo.address())?;
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(probe.finish()?, None, "nothing was cut, yet {to} lost packets for good");

        let probe = Probe::start(&lab.attacker, echo.address())?;
        std::thread::sleep(Duration::from_millis(100));
        let before = Instant::now();
        run(lab.gateway.command("ip").args(["link", "set", place.interface, "down"]))?;
        let after = Instant::now();
        std::thread::sleep(Duration::from_millis(100));
        let (at, lost) = probe.finish()?.context("the cable was cut, and every packet came back")?;
        let slack = Duration::from_millis(100);
        assert!(
            at + slack > before && at < after + slack,
            "cut within {:?}, seen {:?} after",
            after - before,
            at - before
        );
        assert!(lost > 100, "{lost} lost in 100 ms");
        run(lab.gateway.command("ip").args(["link", "set", place.interface, "up"]))?;
    }
    Ok(())
}

#[test]
fn namespaces_are_apart() -> Result<()> {
    let lab = Lab::new()?;
    let from_clean = |to: String| lab.clean.command("ping").args(["-c", "1", "-W", "1", &to]).output();
    assert!(from_clean(CLEAN.gateway().to_string())?.status.success());
    assert!(from_clean(CLEAN.gateway_v6().to_string())?.status.success());
    assert!(
        !from_clean(Lab::ATTACKER.client().to_string())?.status.success(),
        "clients must not see each other"
    );
    Ok(())
}

#[test]
fn the_origin_answers_and_counts() -> Result<()> {
    let lab = Lab::new()?;
    let origin = Origin::start(&lab.gateway)?;
    let mut connection = Connection::open(&lab.gateway, origin.address(), Duration::from_secs(1))?;
    assert_eq!(connection.get("/one")?.body, "GET /one HTTP/1.1");
    connection.send(b"POST /two HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")?;
    assert_eq!(connection.receive()?.body, "POST /two HTTP/1.1");
    assert_eq!(origin.served(), 2);
    Ok(())
}

#[test]
fn redis_answers() -> Result<()> {
    let lab = Lab::new()?;
    let redis = Redis::start(&lab.gateway, 6400)?;
    let port = redis.address().port().to_string();
    let answer = text(lab.gateway.command("redis-cli").args(["-p", &port, "ping"]))?;
    assert_eq!(answer.trim(), "PONG");
    Ok(())
}
