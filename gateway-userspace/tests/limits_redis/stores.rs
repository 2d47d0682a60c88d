//! One body, every store.

use std::time::Duration;

use super::node::Node;
use super::server::{Folder, Server, certificates, cluster, free_port};

/// Limits that the body below asks of a store.
const LIMITS: &str = r#"
[[limits]]
name = "address"
quota = 20
window = "1h"
absent = "skip"
[[limits]]
name = "key"
quota = 5
window = "1h"
key = ["header:x-key"]
[[limits]]
name = "spaced"
quota = 40
burst = 30
window = "1h"
algorithm = "gcra"
[[limits]]
name = "failed"
quota = 3
window = "1h"
key = ["header:x-key", "address"]
count_status = ["401"]
"#;

async fn check(node: Node, shared: bool) {
    if shared {
        node.until_usable(true).await;
    }
    assert_eq!(node.passed("192.0.2.1", "a", 9).await, 5, "the key's quota");
    assert_eq!(node.passed("192.0.2.1", "b", 9).await, 5);
    assert_eq!(node.passed("192.0.2.2", "b", 9).await, 0, "the key counts for all addresses");
    for (key, expected) in [("c", 5), ("d", 5), ("e", 0)] {
        // Units of the address were given back or never taken for what the key refused; some of those that were
        // leased may lapse, never more than that.
        let passed = node.passed("192.0.2.1", key, 9).await;
        assert!(passed <= expected, "{key}: {passed} of {expected}");
        if !shared {
            assert_eq!(passed, expected, "{key}");
        }
    }
    // Good logins do not count, bad ones do.
    for turn in 0..3 {
        assert!(node.ask("192.0.2.9", "f", Some(401)).await, "{turn}");
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!node.ask("192.0.2.9", "f", Some(200)).await, "three failed");
    for key in ["g", "h", "i"] {
        for turn in 0..4 {
            assert!(node.ask("192.0.2.10", key, Some(200)).await, "{key} {turn}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    if shared {
        assert_eq!(node.metric("gateway_limits_redis_breaker_opened_total"), 0);
        assert_eq!(node.metric("gateway_limits_redis_failures_total"), 0);
    }
}

#[tokio::test]
async fn local() {
    check(Node::new(LIMITS), false).await;
}

#[tokio::test]
async fn single() {
    let server = Server::single();
    check(node_of(&format!("redis = [\"127.0.0.1:{}\"]", server.port)), true).await;
}

#[tokio::test]
async fn sentinel() {
    let master = Server::single();
    let master_port = master.port.to_string();
    let _replica = Server::with(free_port(), &["--replicaof", &format!("127.0.0.1 {master_port}")]);
    let sentinel = Server::sentinel("main", master.port);
    let text = format!("redis = [\"127.0.0.1:{}\"]\nkind = \"sentinel\"\nmaster = \"main\"", sentinel.port);
    check(node_of(&text), true).await;
}

#[tokio::test]
async fn a_cluster() {
    let nodes = cluster();
    let text = format!(
        "redis = [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]\nkind = \"cluster\"",
        nodes[0].port, nodes[1].port
    );
    check(node_of(&text), true).await;
}

#[tokio::test]
async fn tls_and_acl() {
    let folder = Folder::new();
    certificates(&folder.0);
    let at = |name: &str| folder.0.join(name).display().to_string();
    let port = free_port();
    let port_text = port.to_string();
    let _server = Server::with(
        port,
        &[
            "--port",
            "0",
            "--tls-port",
            &port_text,
            "--tls-cert-file",
            &at("server.pem"),
            "--tls-key-file",
            &at("server.key"),
            "--tls-ca-cert-file",
            &at("ca.pem"),
            "--tls-auth-clients",
            "yes",
            "--user",
            "limits",
            "on",
            ">secret",
            "~rl:*",
            "+@connection",
            "+evalsha",
            "+eval",
            "+script|load",
            "+time",
            "+get",
            "+set",
            "+del",
            "--user",
            "default",
            "off",
        ],
    );
    std::fs::write(folder.0.join("password"), "secret\n").expect("the password's file");
    let text = format!(
        "{LIMITS}\n[limit_store]\ndeadline = \"200ms\"\nredis = [\"127.0.0.1:{port}\"]\nusername = \"limits\"\npassword_file = \"password\"\n\
         tls = {{ ca_file = \"ca.pem\", certificate_file = \"server.pem\", key_file = \"server.key\" }}"
    );
    check(Node::in_folder(&folder.0, &text), true).await;
    // Whoever may not is told so, and falls back.
    std::fs::write(folder.0.join("password"), "wrong\n").expect("the password's file");
    let stranger = Node::in_folder(&folder.0, &text);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(stranger.limiter.shared_usable(), Some(false));
    assert_eq!(stranger.passed("192.0.2.200", "z", 9).await, 5, "its own share, which is all with one node");
}

fn node_of(store: &str) -> Node {
    Node::new(&format!("{LIMITS}\n[limit_store]\ndeadline = \"200ms\"\n{store}"))
}
