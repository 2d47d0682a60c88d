//! Limits in Redis: what a decision costs, beside INCR and EXPIRE by the same client.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::node::Node;
use super::rows::Rows;
use super::server::Server;

/// Requests at a time.
const AT_A_TIME: usize = 64;
const TURN: Duration = Duration::from_secs(2);

/// Runs `work` over and over in many tasks; gives how many a second, and the 99th percentile.
async fn pace<F, Fut>(work: F) -> (f64, Duration)
where
    F: Fn(u64) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..AT_A_TIME {
        let (work, next) = (work.clone(), Arc::clone(&next));
        tasks.spawn(async move {
            let mut times = Vec::new();
            while started.elapsed() < TURN {
                let began = Instant::now();
                work(next.fetch_add(1, Ordering::Relaxed)).await;
                times.push(began.elapsed());
            }
            times
        });
    }
    let mut times: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    times.sort();
    (rate, times[times.len() * 99 / 100])
}

pub async fn run(rows: &mut Rows) {
    let server = Server::single();
    let text = |deadline: &str| {
        format!(
            "[limit_store]\nredis = [\"127.0.0.1:{}\"]\nnodes = 3\nconnections = 2\ndeadline = \"{deadline}\"\n\
             [[limits]]\nname = \"a\"\nquota = 10000000\nwindow = \"1m\"\n",
            server.port
        )
    };
    hot(rows, &text("50ms")).await;
    cold(rows, &server, &text("200ms")).await;
    paused(rows, &text("5ms"), server).await;
}

/// 10,000 requests a second to one key, over three nodes.
async fn hot(rows: &mut Rows, text: &str) {
    let nodes: Vec<Node> = (0..3).map(|_| Node::new(text)).collect();
    for node in &nodes {
        node.until_usable(true).await;
    }
    let commands =
        || nodes.iter().map(|n| n.metric("gateway_limits_redis_commands_total")).sum::<u64>() as f64;
    let before = commands();
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for node in nodes.clone() {
        tasks.spawn(async move {
            let (mut asked, mut times) = (0_u64, Vec::new());
            while started.elapsed() < TURN * 2 {
                let due = (started.elapsed().as_secs_f64() * 10_000.0 / 3.0) as u64;
                while asked < due {
                    asked += 1;
                    let began = Instant::now();
                    node.ask("192.0.2.1", "", Some(200)).await;
                    times.push(began.elapsed());
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            times
        });
    }
    let mut times: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
    times.sort();
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    rows.within(
        "redis: commands a request, hot key, 3 nodes",
        (commands() - before) / times.len() as f64,
        "",
        0.02,
    );
    rows.note(format!(
        "hot key: {rate:.0} requests a second over 3 nodes, median {:?}, p99 {:?}",
        times[times.len() / 2],
        times[times.len() * 99 / 100]
    ));
}

/// A new key with each request: a round trip each, beside what others send.
async fn cold(rows: &mut Rows, server: &Server, text: &str) {
    let node = Node::new(text);
    node.until_usable(true).await;
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", server.port)).expect("an address");
    let info = redis::IntoConnectionInfo::into_connection_info(format!("redis://127.0.0.1:{}", server.port));
    let info =
        info.expect("an address").set_tcp_settings(redis::io::tcp::TcpSettings::default().set_nodelay(true));
    drop(client);
    let client = redis::Client::open(info).expect("an address");
    let config = redis::AsyncConnectionConfig::new().set_pipeline_buffer_size(4096);
    let mut plain = Vec::new();
    for _ in 0..2 {
        plain.push(client.get_multiplexed_async_connection_with_config(&config).await.expect("a connection"));
    }
    let (mut ours, mut theirs, mut commands, mut asked) = (Vec::new(), Vec::new(), 0, 0.0);
    for turn in 0..3_u64 {
        let asks = node.clone();
        let before = node.metric("gateway_limits_redis_commands_total");
        let (rate, p99) = pace(move |i| {
            let node = asks.clone();
            async move {
                let addr = std::net::Ipv4Addr::from(0x0a00_0000 + (turn << 20) as u32 + i as u32).to_string();
                node.ask(&addr, "", Some(200)).await;
            }
        })
        .await;
        commands += node.metric("gateway_limits_redis_commands_total") - before;
        asked += rate * TURN.as_secs_f64();
        ours.push((rate, p99));
        let connections = plain.clone();
        let (rate, p99) = pace(move |i| {
            let mut connection = connections[i as usize % 2].clone();
            async move {
                let key = format!("plain:{turn}:{i}");
                let mut pipe = redis::pipe();
                pipe.cmd("INCR").arg(&key).cmd("EXPIRE").arg(&key).arg(60);
                let _: (u64, u64) = pipe.query_async(&mut connection).await.expect("an answer");
            }
        })
        .await;
        theirs.push((rate, p99));
    }
    let middle = |mut runs: Vec<(f64, Duration)>| {
        runs.sort_by(|a, b| a.0.total_cmp(&b.0));
        runs[runs.len() / 2]
    };
    let (ours, theirs) = (middle(ours), middle(theirs));
    rows.at_least("redis: decisions a second, cold keys", ours.0, "1/s", (theirs.0, "INCR+EXPIRE"), 0.5);
    rows.at_most(
        "redis: p99 of a cold decision",
        ours.1.as_secs_f64() * 1e3,
        "ms",
        (theirs.1.as_secs_f64() * 1e3, "INCR+EXPIRE"),
        2.0,
    );
    rows.within("redis: commands a request, cold keys", commands as f64 / asked, "", 1.01);
    let port = server.port.to_string();
    let script = script_alone(&mut plain[0]).await;
    rows.at_least(
        "redis: decisions a second, cold keys, beside the script alone",
        ours.0,
        "1/s",
        (script, "64 scripts in a pipe"),
        0.5,
    );
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    rows.note(format!("Redis, the clients and the load share {cores} cores"));
    let ceiling = Command::new("redis-benchmark")
        .args(["-p", &port, "-n", "200000", "-c", "64", "-t", "incr", "--csv"])
        .output();
    if let Ok(out) = ceiling {
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let line = text.lines().last().unwrap_or_default().to_owned();
        rows.note(format!("redis-benchmark -c 64 -t incr, the ceiling of single commands: {line}"));
    }
}

/// How many a second Redis runs of the script for a new key, when it is asked for 64 at a time and nothing else is done: what
/// no client comes beyond.
async fn script_alone(connection: &mut redis::aio::MultiplexedConnection) -> f64 {
    let script = include_str!("../../src/limits/redis/limits.lua");
    let load: String =
        redis::cmd("SCRIPT").arg("LOAD").arg(script).query_async(connection).await.expect("loaded");
    // As the head of the script says: one limit of 10,000,000 in a minute.
    let mut limit: Vec<u8> = [&1_u32.to_le_bytes()[..], &[1, 0]].concat();
    for number in [10_000_000_u32, 10_000_000, 1, 6, 10_000_000] {
        limit.extend(number.to_le_bytes());
    }
    for number in [468_750.0_f64, 60_468_750.0, 1.0] {
        limit.extend(number.to_le_bytes());
    }
    let (started, mut run) = (Instant::now(), 0_u64);
    while started.elapsed() < TURN {
        let mut pipe = redis::pipe();
        for _ in 0..AT_A_TIME {
            run += 1;
            let key = format!("alone:{{a:{run}}}");
            pipe.cmd("EVALSHA").arg(&load).arg(1).arg(key).arg("take").arg(&limit[..]).arg(61_477);
        }
        let answers: Vec<Vec<u8>> = pipe.query_async(connection).await.expect("answers");
        assert!(answers.iter().all(|answer| answer.get(8) == Some(&1)), "a unit each: {answers:?}");
    }
    run as f64 / started.elapsed().as_secs_f64()
}

/// Redis stopped for ten seconds under load.
async fn paused(rows: &mut Rows, text: &str, mut server: Server) {
    let node = Node::new(text);
    node.until_usable(true).await;
    let ask = |node: Node, turn: u32| {
        move |i: u64| {
            let node = node.clone();
            async move {
                let addr = std::net::Ipv4Addr::from(0x1400_0000 + (turn << 20) + i as u32).to_string();
                assert!(node.ask(&addr, "", Some(200)).await, "no request fails");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    let pause = Duration::from_millis(10);
    let (_, before) = pace(ask(node.clone(), 0)).await;
    server.pause();
    let mut worst = Duration::ZERO;
    for turn in 1..6 {
        worst = worst.max(pace(ask(node.clone(), turn)).await.1);
    }
    server.resume();
    node.until_usable(true).await;
    let grown = worst.saturating_sub(before).as_secs_f64() * 1e3;
    rows.within("redis: growth of p99 while it is stopped for 10 s", grown, "ms", 5.0);
    let opened = node.metric("gateway_limits_redis_breaker_opened_total") as f64;
    rows.within("redis: openings of the breaker while it is stopped once", opened, "", 1.0);
    rows.note(format!(
        "p99 of a request with a pause of {pause:?} in it: {before:?} before, {worst:?} while stopped; breaker \
         opened {} time(s) and closed again",
        node.metric("gateway_limits_redis_breaker_opened_total")
    ));
}
