//! One connection to Redis: snapshot out, snapshots in, then changes both ways until it breaks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError, Value, cmd};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::apply::{self, Bounds};
use super::{MAX_NODES, MAX_READ, Member, Message, Word};
use crate::bans::handle::Stopped;
use crate::bans::{Action, Change, Decision, Ending, Origin};

/// How long a read of the stream waits for news, in milliseconds.
const BLOCK_MS: usize = 1000;
/// Longest wait for a connection, and for an answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("{0}")]
    Redis(#[from] RedisError),
    #[error("{0}")]
    Stopped(#[from] Stopped),
    #[error("a message can't be written: {0}")]
    Json(#[from] serde_json::Error),
}

/// Runs until something breaks; tells what.
pub(super) async fn run(member: &Member) -> Broken {
    match session(member).await {
        Ok(never) => match never {},
        Err(broken) => broken,
    }
}

async fn session(member: &Member) -> Result<std::convert::Infallible, Broken> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(TIMEOUT))
        .set_response_timeout(Some(TIMEOUT));
    let mut out = member.client.get_multiplexed_async_connection_with_config(&config).await?;
    let mut inward = member.client.get_multiplexed_async_connection_with_config(&config).await?;
    // Listening begins before the snapshot is taken, and the stream is followed from before the
    // others' are read: what falls in between comes twice, which does no harm.
    let mut changes = member.handle.listen();
    let last = last_id(member, &mut inward).await?;
    write_snapshot(member, &mut out).await?;
    read_snapshots(member, &mut inward).await?;
    member.state.found();
    tokio::select! {
        broken = tell(member, &mut out, &mut changes) => broken,
        broken = follow(member, &mut inward, last) => broken,
    }
}

fn held_key(member: &Member, node: &str) -> String {
    format!("{}:held:{node}", member.config.stream)
}

fn nodes_key(member: &Member) -> String {
    format!("{}:nodes", member.config.stream)
}

fn is_ours(decision: &Decision) -> bool {
    matches!(decision.origin, Origin::Local | Origin::Operator) && decision.action > Action::Observe
}

fn seal(member: &Member, word: Word) -> Result<Vec<u8>, Broken> {
    Ok(member.key.seal(&Message { node: member.config.node.clone(), word })?)
}

async fn last_id(member: &Member, redis: &mut MultiplexedConnection) -> Result<Vec<u8>, Broken> {
    let last: Value = cmd("XREVRANGE")
        .arg(&*member.config.stream)
        .arg("+")
        .arg("-")
        .arg("COUNT")
        .arg(1)
        .query_async(redis)
        .await?;
    Ok(entries(&last).pop().map_or_else(|| b"0-0".to_vec(), |(id, _)| id))
}

/// Replaces this node's hash in one transaction, then says so.
async fn write_snapshot(member: &Member, redis: &mut MultiplexedConnection) -> Result<(), Broken> {
    let ours: Vec<Arc<Decision>> =
        member.handle.ask(|task| task.engine.ledger.iter().filter(|d| is_ours(d)).cloned().collect()).await?;
    let key = held_key(member, &member.config.node);
    let mut pipe = redis::pipe();
    pipe.atomic().cmd("DEL").arg(&key).ignore();
    for part in ours.chunks(MAX_READ) {
        let hset = pipe.cmd("HSET").arg(&key);
        for decision in part {
            hset.arg(decision.id.to_string()).arg(seal(member, Word::Began(decision.clone()))?);
        }
        hset.ignore();
    }
    pipe.cmd("SADD").arg(nodes_key(member)).arg(&*member.config.node).ignore();
    say(member, &mut pipe, Word::Snapshot)?;
    let () = pipe.query_async(redis).await?;
    Ok(())
}

fn say(member: &Member, pipe: &mut redis::Pipeline, word: Word) -> Result<(), Broken> {
    let sealed = seal(member, word)?;
    let stream = &*member.config.stream;
    pipe.cmd("XADD").arg(stream).arg("MAXLEN").arg("~").arg(member.config.history);
    pipe.arg("*").arg("m").arg(sealed).ignore();
    member.state.sent.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

async fn read_snapshots(member: &Member, redis: &mut MultiplexedConnection) -> Result<(), Broken> {
    let nodes: Vec<String> = cmd("SMEMBERS").arg(nodes_key(member)).query_async(redis).await?;
    for node in nodes.iter().filter(|node| **node != *member.config.node).take(MAX_NODES) {
        read_snapshot(member, redis, &node.as_str().into()).await?;
    }
    Ok(())
}

async fn read_snapshot(
    member: &Member,
    redis: &mut MultiplexedConnection,
    node: &Arc<str>,
) -> Result<(), Broken> {
    let mut decisions: Vec<Arc<Decision>> = Vec::new();
    let mut cursor = 0u64;
    // A hash as long as twice the cap is read to its end at the most: who filled it so is over the cap.
    let mut left = member.config.cap.saturating_mul(2);
    loop {
        let (next, pairs): (u64, Vec<Vec<u8>>) = cmd("HSCAN")
            .arg(held_key(member, node))
            .arg(cursor)
            .arg("COUNT")
            .arg(MAX_READ)
            .query_async(redis)
            .await?;
        for sealed in pairs.iter().skip(1).step_by(2) {
            match member.key.open(sealed) {
                Some(Message { node: by, word: Word::Began(decision) }) if by == *node => {
                    decisions.push(decision);
                }
                _ => drop(member.state.forged.fetch_add(1, Ordering::Relaxed)),
            }
        }
        left = left.saturating_sub(pairs.len() / 2);
        cursor = next;
        if cursor == 0 || left == 0 {
            break;
        }
    }
    let (node, bounds, state) = (node.clone(), bounds(member), member.state.clone());
    member.handle.ask(move |task| apply::snapshot(task, &node, &decisions, bounds, &state)).await?;
    Ok(())
}

fn bounds(member: &Member) -> Bounds {
    Bounds { cap: member.config.cap, longest_ms: member.longest_ms }
}

/// Tells the others what changes here.
async fn tell(
    member: &Member,
    redis: &mut MultiplexedConnection,
    changes: &mut Receiver<Arc<[Change]>>,
) -> Result<std::convert::Infallible, Broken> {
    let key = held_key(member, &member.config.node);
    loop {
        let batch = match changes.recv().await {
            Ok(batch) => batch,
            Err(RecvError::Lagged(_)) => {
                write_snapshot(member, redis).await?;
                continue;
            }
            Err(RecvError::Closed) => return Err(Stopped.into()),
        };
        for part in batch.chunks(MAX_READ) {
            let mut pipe = redis::pipe();
            let mut any = false;
            for change in part {
                any |= tell_one(member, &mut pipe, &key, change)?;
            }
            if any {
                let () = pipe.query_async(redis).await?;
            }
        }
    }
}

fn tell_one(member: &Member, pipe: &mut redis::Pipeline, key: &str, change: &Change) -> Result<bool, Broken> {
    match change {
        Change::Began(decision) if is_ours(decision) => {
            let word = Word::Began(decision.clone());
            pipe.cmd("HSET").arg(key).arg(decision.id.to_string()).arg(seal(member, word.clone())?).ignore();
            say(member, pipe, word)?;
        }
        Change::Ended(ended) if is_ours(&ended.decision) => {
            pipe.cmd("HDEL").arg(key).arg(ended.decision.id.to_string()).ignore();
            // Everyone has a clock: that a time is up need not be told.
            if ended.how != Ending::Expired {
                say(member, pipe, Word::Ended(ended.decision.id))?;
            }
        }
        Change::Ended(ended)
            if ended.how == Ending::Removed && matches!(ended.decision.origin, Origin::Peer(_)) =>
        {
            say(member, pipe, Word::Pardon(ended.decision.id))?;
        }
        Change::Began(_) | Change::Ended(_) => return Ok(false),
    }
    Ok(true)
}

/// Takes in what the others tell.
async fn follow(
    member: &Member,
    redis: &mut MultiplexedConnection,
    mut last: Vec<u8>,
) -> Result<std::convert::Infallible, Broken> {
    loop {
        let news: Value = cmd("XREAD")
            .arg("COUNT")
            .arg(MAX_READ)
            .arg("BLOCK")
            .arg(BLOCK_MS)
            .arg("STREAMS")
            .arg(&*member.config.stream)
            .arg(&last[..])
            .query_async(redis)
            .await?;
        let mut messages = Vec::new();
        let mut anew = Vec::new();
        for (id, sealed) in stream_entries(&news) {
            last = id;
            match member.key.open(&sealed) {
                Some(message) if message.node == member.config.node => {}
                Some(Message { node, word: Word::Snapshot }) => anew.push(node),
                Some(message) => messages.push(message),
                None => drop(member.state.forged.fetch_add(1, Ordering::Relaxed)),
            }
        }
        if !messages.is_empty() {
            let (bounds, state) = (bounds(member), member.state.clone());
            member.handle.ask(move |task| apply::messages(task, messages, bounds, &state)).await?;
        }
        anew.sort_unstable();
        anew.dedup();
        for node in anew {
            read_snapshot(member, redis, &node).await?;
        }
    }
}

/// The entries of an answer to XREAD of one stream: id and sealed message.
fn stream_entries(answer: &Value) -> Vec<(Vec<u8>, Vec<u8>)> {
    let Value::Array(streams) = answer else { return Vec::new() };
    match streams.first() {
        Some(Value::Array(stream)) => stream.get(1).map_or_else(Vec::new, entries),
        _ => Vec::new(),
    }
}

/// The entries of an answer to XRANGE; an entry that is none of ours has an empty message.
fn entries(answer: &Value) -> Vec<(Vec<u8>, Vec<u8>)> {
    let Value::Array(entries) = answer else { return Vec::new() };
    let entry = |value: &Value| {
        let Value::Array(parts) = value else { return None };
        let Some(Value::BulkString(id)) = parts.first() else { return None };
        let message = match parts.get(1) {
            Some(Value::Array(fields)) => match fields.get(1) {
                Some(Value::BulkString(message)) => message.clone(),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        Some((id.clone(), message))
    };
    entries.iter().filter_map(entry).collect()
}
