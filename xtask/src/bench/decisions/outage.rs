//! Redis gone under three nodes that go on deciding: how soon all agree when it is back.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use gateway_tests::{Cluster, wait_until};

/// Longest wait for agreement.
const LONGEST: Duration = Duration::from_secs(60);

/// Seconds from Redis answering again, empty, until all nodes hold the same decisions.
pub fn measure(daemon: &Path, outage: Duration) -> Result<f64> {
    let mut cluster = Cluster::new(3, Some(daemon), super::ALONE)?;
    for node in &mut cluster.nodes {
        node.start()?;
    }
    for node in &cluster.nodes {
        wait_until("the node's connection to Redis", LONGEST, || {
            node.metric("gateway_bans_cluster_connected").ok().filter(|c| *c > 0.0)
        })?;
    }
    cluster.stop_redis();
    let (started, mut count) = (Instant::now(), 0);
    while started.elapsed() < outage {
        let node = &cluster.nodes[usize::from(count % 3)];
        node.gateway()?.ask(&["ban", "add", &Cluster::client(2000 + count).to_string(), "--for", "2h"])?;
        count += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    cluster.start_redis()?;
    Ok(cluster.agree(usize::from(count), LONGEST)?.as_secs_f64())
}
