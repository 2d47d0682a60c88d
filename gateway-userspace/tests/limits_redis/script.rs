//! The script's short way and its long way give the same answers and leave the same bytes.

use redis::aio::MultiplexedConnection;

use super::server::Server;

const SCRIPT: &str = include_str!("../../src/limits/redis/limits.lua");

/// A small generator (xorshift64*), so that each history is a number that can be run again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % bound.max(1)
    }

    fn of<T: Copy, const N: usize>(&mut self, values: [T; N]) -> T {
        values[self.below(N as u64) as usize]
    }
}

/// Puts another text in place of one that must be there.
fn replaced(script: &str, what: &str, by: &str) -> String {
    assert!(script.contains(what), "the script has no `{what}` any more");
    script.replace(what, by)
}

async fn load(connection: &mut MultiplexedConnection, script: &str) -> String {
    redis::cmd("SCRIPT").arg("LOAD").arg(script).query_async(connection).await.expect("loaded")
}

async fn history(seed: u64, connection: &mut MultiplexedConnection, ways: [&String; 2]) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let quota = random.of([1_u32, 3, 31, 32, 33, 100, 5_000, 1_000_000_000]);
    let window = random.of([1_010_000_u64, 4_031_250, 60_468_750, 2_592_002_000_000]);
    let mut now = 1_700_000_000_000_000 + random.below(1 << 40);
    let mut taken = now;
    for step in 0..100 {
        now += match random.below(5) {
            0 => 0,
            1 => random.below(window / 20),
            2 if random.below(5) == 0 => random.below(window * 2),
            _ => random.below(window / u64::from(quota) + 2),
        };
        if random.below(50) == 0 {
            now -= random.below(window / 3);
        }
        let action = random.of(["take", "take", "take", "take", "take", "take", "give", "show"]);
        let (some, many) = (1 + random.below((quota / 3).into()) as u32, random.below(quota.into()) as u32);
        let need = random.of([0, 1, 1, 1, 2, some]);
        let want = random.of([0, 1, need, many]);
        let want = if action == "give" { taken } else { want.into() };
        let mut packed = [&7_u32.to_le_bytes()[..], &[1, 0]].concat();
        for number in [quota, quota, need, random.of([1, 2, 6]), quota] {
            packed.extend(number.to_le_bytes());
        }
        for number in [10_000.0, window as f64, want as f64] {
            packed.extend(number.to_le_bytes());
        }
        let mut came_of = Vec::new();
        for (way, script) in ways.into_iter().enumerate() {
            let key = format!("{seed}:{way}");
            let mut ask = redis::cmd("EVALSHA");
            ask.arg(script).arg(1).arg(&key).arg(action).arg(&packed).arg(9_999_999);
            ask.arg(now / 1_000_000).arg(now % 1_000_000);
            let answer: Vec<u8> = ask.query_async(connection).await.expect("an answer");
            let kept: Option<Vec<u8>> =
                redis::cmd("GET").arg(&key).query_async(connection).await.expect("bytes");
            came_of.push((answer, kept));
        }
        assert_eq!(came_of[0], came_of[1], "history {seed}, step {step}: {action} {need} {want}");
        if action == "take" && came_of[0].0.get(8..12) != Some(&[0; 4]) {
            taken = now;
        }
    }
}

#[tokio::test]
async fn both_ways_are_one() {
    let server = Server::single();
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", server.port)).expect("an address");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    // The clock is an argument, and no key ends by the server's.
    let script = replaced(SCRIPT, "local time = call('TIME')", "local time = { ARGV[4], ARGV[5] }");
    let script = replaced(&script, "'PX', max(latest * 1000 - floor(now / 1000), 1))", "'PX', 9999999)");
    let long = replaced(&script, "if takes and #packed == ARGUMENT then", "if false then");
    let ways = [load(&mut connection, &script).await, load(&mut connection, &long).await];
    for seed in 0..80 {
        history(seed, &mut connection, [&ways[0], &ways[1]]).await;
    }
}
