//! `cargo bench --bench limits [-- [local|flood|redis|accuracy]... [--rows FILE]]`: limits beside their peers.
//!
//! `once` and `once-three` measure nothing: they decide 20,000 times on one limit or three, for `valgrind --tool=callgrind`.
//!
//! Figures of a peer come from the same run, in turns. Redis is a real redis-server on a loopback port.

mod accuracy;
mod flood;
mod local;
#[path = "../../tests/limits_redis/node.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod node;
mod rows;
#[path = "../../tests/limits_redis/server.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod server;
mod shared;

use rows::Rows;

fn main() {
    let mut parts: Vec<String> = Vec::new();
    let mut file = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--rows" => file = arguments.next(),
            "local" | "flood" | "redis" | "accuracy" | "once" | "once-three" => parts.push(argument),
            // Cargo says this to every bench.
            "--bench" => {}
            other => {
                panic!("{other} is not known: local, flood, redis, accuracy, once, once-three, --rows FILE")
            }
        }
    }
    if let Some(part) = parts.iter().find(|part| part.starts_with("once")) {
        return local::once(part == "once-three");
    }
    let runs = |part: &str| parts.is_empty() || parts.iter().any(|p| p == part);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut rows = Rows::default();
    if runs("flood") {
        flood::run(&mut rows);
    }
    if runs("local") {
        local::run(&mut rows);
    }
    if runs("redis") {
        runtime.block_on(shared::run(&mut rows));
    }
    if runs("accuracy") {
        runtime.block_on(accuracy::run(&mut rows));
    }
    rows.print();
    if let Some(file) = file {
        rows.write(&file);
    }
}
