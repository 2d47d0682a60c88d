//! kill -9 at random moments under a stream of decisions: what was told holds after the restart, in ledger and kernel.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gateway_tests::{Cluster, Node, wait_until};

/// Longest wait for ledger and kernel to agree.
const LONGEST: Duration = Duration::from_secs(20);
/// Decisions ordered at most between two kills.
const MOST: u32 = 200;

/// Kills the gateway `kills` times; how many decisions it had told.
pub fn measure(daemon: &Path, kills: u32) -> Result<usize> {
    let mut cluster = Cluster::new(1, Some(daemon), super::ALONE)?;
    let file = cluster.nodes[0].folder().join("bans.redb");
    let database = format!("[bans]\ndatabase = {:?}", file.display().to_string());
    cluster.nodes[0].settings = cluster.nodes[0].settings.clone().with(&database);
    cluster.nodes[0].start()?;
    let told = Mutex::new(BTreeSet::new());
    for round in 0..kills {
        let wait = Duration::from_micros(RandomState::new().hash_one(round) % 80_000);
        let gateway = cluster.nodes[0].gateway.take().context("the gateway runs")?;
        let count = || told.lock().unwrap_or_else(std::sync::PoisonError::into_inner).len();
        let before = count();
        std::thread::scope(|scope| {
            scope.spawn(|| order(&gateway, round, &told));
            // The stream runs when its first decision is told; then at any moment.
            let first = wait_until("the first decision", LONGEST, || (count() > before).then_some(()));
            std::thread::sleep(wait);
            gateway.signal_kill().and(first)
        })?;
        gateway.kill()?;
        cluster.nodes[0].start()?;
        let told = told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        check(&cluster.nodes[0], round, &told)?;
    }
    let told = told.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).len();
    ensure!(told >= kills as usize, "{told} decisions were told before {kills} kills: that proves nothing");
    Ok(told)
}

/// Orders bans until the gateway answers no more, and remembers those that it told.
fn order(gateway: &gateway_tests::Gateway, round: u32, told: &Mutex<BTreeSet<String>>) {
    for number in 0..MOST {
        let [_, a, b, c] = (round * MOST + number).to_be_bytes();
        let Ok(ban) = gateway.ask(&["ban", "add", &format!("12.{a}.{b}.{c}"), "--for", "2h"]) else { return };
        if let Some(id) = ban["id"].as_str() {
            told.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(id.to_owned());
        }
    }
}

fn check(node: &Node, round: u32, told: &BTreeSet<String>) -> Result<()> {
    let held: BTreeSet<String> = node.decisions()?.into_iter().collect();
    let lost: Vec<&String> = told.difference(&held).collect();
    ensure!(lost.is_empty(), "kill {}: lost {lost:?}", round + 1);
    wait_until("agreement of ledger and kernel", LONGEST, || {
        let status = node.gateway().ok()?.ask(&["status"]).ok()?;
        (status["kernel"]["bans"].as_u64()? == held.len() as u64).then_some(())
    })
}
