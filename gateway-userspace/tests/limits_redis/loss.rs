//! Redis forgets while leases are out: what was counted there is lost, and nothing is given back to what was not.

use std::time::{Duration, Instant};

use super::node::nodes;
use super::server::Server;

const CLIENT: &str = "192.0.2.1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_back_late_is_taken_from_nobody() {
    for forget in ["FLUSHALL", "DEL rl:{a:192.0.2.1}"] {
        let server = Server::single();
        let nodes = nodes(&server, 3, "200ms", "quota = 400\nwindow = \"1m\"").await;
        // More than half is used, so that unspent units are worth giving back, and a lease was just taken.
        assert_eq!(nodes[0].passed(CLIENT, "", 260).await, 260, "{forget}");
        let commands = || nodes[0].metric("gateway_limits_redis_commands_total");
        let before = commands();
        while commands() == before {
            assert!(nodes[0].ask(CLIENT, "", Some(200)).await, "{forget}: 400 were to be had");
        }
        server.command(forget);
        let second = nodes[1].passed(CLIENT, "", 600).await;
        assert!((380..=400).contains(&second), "{forget}: {second} of a new 400");
        // The first node's leases end, and it tells what it did not spend.
        let until = Instant::now() + Duration::from_secs(20);
        while nodes[0].metric("gateway_limits_redis_units_returned_total") == 0 {
            assert!(Instant::now() < until, "{forget}: nothing was given back: the test tries nothing");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let third = nodes[2].passed(CLIENT, "", 100).await;
        assert!(second + third <= 400, "{forget}: {second} and {third} of 400");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_window_of_a_loss_at_most_one_quota_more_is_admitted() {
    const QUOTA: usize = 200;
    let server = Server::single();
    let window = Duration::from_secs(2);
    let nodes = nodes(&server, 3, "200ms", "quota = 200\nwindow = \"2s\"").await;
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for node in nodes.clone() {
        tasks.spawn(async move {
            let mut admitted = Vec::new();
            while started.elapsed() < window * 4 {
                admitted.extend(node.admitted(CLIENT, "", Some(200)).await);
                tokio::time::sleep(Duration::from_millis(4)).await;
            }
            admitted
        });
    }
    tokio::time::sleep(window + Duration::from_millis(300)).await;
    server.command("FLUSHALL");
    let lost = Instant::now();
    let mut admitted: Vec<Instant> = tasks.join_all().await.into_iter().flatten().collect();
    admitted.sort();
    let most = |from: Instant| {
        let times: Vec<Instant> = admitted.iter().copied().filter(|at| *at >= from).collect();
        let within =
            |first: &Instant| times.iter().filter(|at| **at >= *first && **at - *first < window).count();
        times.iter().map(within).max().unwrap_or(0)
    };
    let (all, later) = (most(started), most(lost + Duration::from_millis(50)));
    assert!(all <= 2 * QUOTA, "{all} in one window: one quota of {QUOTA} more than there may be");
    // Leases from before it are over after a 64th of the window.
    assert!(later <= QUOTA, "{later} of {QUOTA} in a window after the loss");
    assert!(admitted.len() >= 3 * QUOTA, "{} in four windows", admitted.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cost_of_the_whole_burst_is_had_by_who_has_rested() {
    let server = Server::single();
    // Leases take one unit of the burst for what comes back while they last, or leave it at one.
    for (quota, burst) in [(100, 20), (640, 8)] {
        let limit = format!(
            "quota = {quota}\nwindow = \"10s\"\nburst = {burst}\nalgorithm = \"gcra\"\ncost = {burst}"
        );
        let nodes = nodes(&server, 2, "200ms", &limit).await;
        let client = format!("198.51.100.{burst}");
        let started = Instant::now();
        assert!(nodes[0].ask(&client, "", Some(200)).await, "{limit}");
        let refill = Duration::from_secs(10) * burst / quota;
        let mut second = None;
        while second.is_none() {
            assert!(started.elapsed() < Duration::from_secs(30), "{limit}: never again");
            second = nodes[1].admitted(&client, "", Some(200)).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let after = second.map(|at| at - started).unwrap_or_default();
        assert!(after >= refill, "{limit}: again after {after:?}, {refill:?} at the earliest");
    }
}
