//! Nodes that share one count, in simulated time, where everything that can be late is: messages to Redis and back,
//! answers that never come, threads and whole nodes that are not run between two steps, units put back, leases given back up to two
//! windows late, nodes that start anew. What is recorded is the moment at which a unit is spent, and nothing else.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::super::script::counted_there;
use super::*;
use crate::limits::window::{Algorithm, Rule, State};

const MS: Nanos = 1_000_000;
const WINDOW: Nanos = 2_000 * MS;
const START: Nanos = 1_700_000_000_000 * MS;
/// How long requests come.
const TIME: Nanos = 4 * WINDOW;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A request begins at a node, and reads its own clock.
    Begins(usize),
    /// It is its turn: it holds the lock. `asked`: how often it has waited for Redis.
    Turn { node: usize, began: Nanos, asked: u8 },
    /// Another limit refused the request: the unit comes back.
    PutBack { node: usize, life: u32, batch: (Nanos, u64) },
    /// A question reaches Redis.
    Asked { node: usize, life: u32, sent: Nanos, want: u32 },
    /// The answer is here; no units: refused.
    Answered { node: usize, life: u32, sent: Nanos, units: u32, left: u32, counted_us: u64 },
    /// Whoever waits for a lease's end wakes up.
    Woken { node: usize, life: u32 },
    /// Units that were not spent reach Redis.
    Given { units: u32, counted_us: u64 },
    /// A node starts anew and knows nothing.
    Restarted(usize),
}

impl Event {
    /// The node that has to be run for it.
    fn node(&self) -> Option<usize> {
        match self {
            Self::Begins(node)
            | Self::Turn { node, .. }
            | Self::PutBack { node, .. }
            | Self::Answered { node, .. }
            | Self::Woken { node, .. } => Some(*node),
            Self::Asked { .. } | Self::Given { .. } | Self::Restarted(_) => None,
        }
    }
}

/// When a lease's clock is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// By whoever holds the lock.
    Inside,
    /// By the request, before it waits for its turn.
    Before,
}

struct World {
    rule: Rule,
    /// What Redis counts by.
    counted: Rule,
    there: State,
    nodes: Vec<Node>,
    events: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    order: u64,
    random: u64,
    reading: Reading,
    admitted: Vec<Nanos>,
    returned: u32,
}

#[derive(Clone, Default)]
struct Node {
    lease: Lease,
    /// Counts the node's starts: what was on its way to an earlier one is lost.
    life: u32,
    /// Nothing of the node is run until then.
    stalled_until: Nanos,
    asking: bool,
    waiting: Vec<(Nanos, u8)>,
}

impl World {
    fn new(seed: u64, algorithm: Algorithm, quota: u32, reading: Reading) -> Self {
        let rule = Rule::new(algorithm, quota, Duration::from_nanos(WINDOW), (quota / 4).max(1));
        let there = counted_there(&rule);
        Self {
            rule,
            counted: Rule::new(algorithm, quota, Duration::from_micros(there.window_us), there.burst),
            there: State::default(),
            nodes: vec![Node::default(); 1 + seed as usize % 10],
            events: BinaryHeap::new(),
            order: 0,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            reading,
            admitted: Vec::new(),
            returned: 0,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % bound.max(1)
    }

    /// Usually up to `usual`; once in `rarely` times up to `late`.
    fn delay(&mut self, usual: Nanos, rarely: u64, late: Nanos) -> Nanos {
        let bound = if self.below(rarely) == 0 { late } else { usual };
        self.below(bound)
    }

    fn at(&mut self, time: Nanos, event: Event) {
        self.order += 1;
        self.events.push(Reverse((time, self.order, event)));
    }

    /// Lets requests come for a while, in the way that the seed says.
    fn run(mut self, seed: u64) -> Self {
        let quota = u64::from(self.rule.quota());
        let mean = WINDOW / quota / 2;
        let mut at = START;
        let mut came = 0;
        while at < START + TIME {
            came += 1;
            at += match seed % 4 {
                0 => self.below(mean * 2),
                1 if self.below(quota * 2) == 0 => self.below(WINDOW),
                1 => self.below(MS / 10),
                2 => mean,
                // Twice the quota at once, as soon as Redis has forgotten the last time.
                _ if came % (2 * quota) == 0 => {
                    let burst = came / (2 * quota);
                    START + burst * (WINDOW + lease_length(WINDOW) + MS) - at
                }
                _ => self.below(MS / 50),
            };
            let node = self.below(self.nodes.len() as u64) as usize;
            self.at(at, Event::Begins(node));
            if self.below(quota * 4) == 0 {
                self.at(at, Event::Restarted(node));
            }
        }
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            self.step(now, event);
        }
        self
    }

    fn step(&mut self, now: Nanos, event: Event) {
        let length = lease_length(WINDOW);
        if let Some(until) = event.node().map(|node| self.nodes[node].stalled_until)
            && until > now
        {
            return self.at(until, event);
        }
        match event {
            Event::Begins(node) => {
                // The machine may stop running the node right after it has read its clock.
                if self.below(u64::from(self.rule.quota()) / 2) == 0 {
                    self.nodes[node].stalled_until = now + self.below(5 * length);
                }
                let late = self.delay(MS / 20, 50, 4 * length);
                self.at(now + late, Event::Turn { node, began: now, asked: 0 });
            }
            Event::Turn { node, began, asked } => self.turn(now, node, began, asked),
            Event::PutBack { node, life, batch: (end, counted_us) } => {
                if self.nodes[node].life == life {
                    self.nodes[node].lease.put_back(Batch { end, counted_us }, now, 1);
                }
            }
            Event::Asked { node, life, sent, want } => {
                let verdict = self.there.peek(&self.counted, now, 1);
                let free = self.there.peek(&self.counted, now, 0).remaining;
                let most = free / (2 * self.nodes.len() as u32);
                let units = if verdict.ok { want.min(most).max(1) } else { 0 };
                // The server's clock has microseconds.
                let counted_us = now / 1_000;
                if units > 0 {
                    self.there.take(&self.counted, counted_us * 1_000, units);
                }
                let late = self.delay(MS, 10, 3 * length);
                let left = free - units;
                self.at(now + late, Event::Answered { node, life, sent, units, left, counted_us });
            }
            Event::Answered { node, life, sent, units, left, counted_us } => {
                let lost = self.below(50) == 0;
                let it = &mut self.nodes[node];
                if it.life != life {
                    return;
                }
                it.asking = false;
                if lost {
                    it.waiting.clear();
                    return;
                }
                let mut wake = None;
                if units > 0 {
                    it.lease.granted(WINDOW, sent, units, left, counted_us);
                    if !it.lease.returning {
                        it.lease.returning = true;
                        wake = Some(it.lease.ends());
                    }
                } else {
                    it.lease.denied(WINDOW, sent, 1, left, 20 * MS);
                }
                for (began, asked) in std::mem::take(&mut it.waiting) {
                    let late = self.delay(MS / 20, 20, 4 * length);
                    self.at(now + late, Event::Turn { node, began, asked: asked + 1 });
                }
                if let Some(at) = wake {
                    let late = self.delay(MS, 5, 2 * length);
                    self.at(at.max(now) + late, Event::Woken { node, life });
                }
            }
            Event::Woken { node, life } => {
                let it = &mut self.nodes[node];
                if it.life != life {
                    return;
                }
                let lapsed = it.lease.take_lapsed(now);
                it.lease.returning = it.lease.in_hand(now) > 0;
                let next = it.lease.returning.then(|| it.lease.ends());
                if let Some((units, counted_us)) = lapsed {
                    self.returned += units;
                    let late = self.delay(MS, 5, 2 * WINDOW);
                    self.at(now + late, Event::Given { units, counted_us });
                }
                if let Some(at) = next {
                    self.at(at.max(now), Event::Woken { node, life });
                }
            }
            Event::Given { units, counted_us } => {
                self.there.give_back(&self.counted, counted_us * 1_000, now, units);
            }
            Event::Restarted(node) => {
                let life = self.nodes[node].life + 1;
                self.nodes[node] = Node { life, ..Node::default() };
            }
        }
    }

    fn turn(&mut self, now: Nanos, node: usize, began: Nanos, asked: u8) {
        let length = lease_length(WINDOW);
        let reading = match self.reading {
            Reading::Inside => now,
            Reading::Before => began,
        };
        let capacity = self.rule.capacity();
        let it = &mut self.nodes[node];
        let life = it.life;
        let holding = it.lease.look(WINDOW, reading, 1);
        if let Holding::Here { .. } = holding {
            let batch = it.lease.spend(1);
            if self.below(30) == 0 {
                let late = self.delay(MS / 20, 3, 4 * length);
                let batch = (batch.end, batch.counted_us);
                self.at(now + late, Event::PutBack { node, life, batch });
            } else {
                self.admitted.push(now);
            }
        }
        let it = &mut self.nodes[node];
        if matches!(holding, Holding::Unknown | Holding::Here { ahead: true }) && !it.asking {
            it.asking = true;
            let want = it.lease.wanted(WINDOW, reading, 1, capacity);
            let late = self.delay(MS, 10, 3 * length);
            self.at(now + late, Event::Asked { node, life, sent: now, want });
        }
        if holding == Holding::Unknown && asked < 8 {
            self.nodes[node].waiting.push((began, asked));
        }
    }

    /// The most units that were spent beyond what the rule allows in any stretch of time; none: 0.
    fn over(&self) -> f64 {
        let mut admitted = self.admitted.clone();
        admitted.sort_unstable();
        let quota = f64::from(self.rule.quota());
        let mut most = 0.0_f64;
        if self.rule.algorithm() == Algorithm::Gcra {
            // In a stretch `t`: burst + t * rate. The stretch that begins at the least `n - t * rate` is the worst.
            let mut least = f64::MAX;
            for (i, at) in admitted.iter().enumerate() {
                let level = i as f64 - (at - START) as f64 * quota / WINDOW as f64;
                least = least.min(level);
                most = most.max(level - least + 1.0 - f64::from(self.rule.capacity()));
            }
            // What floats lose.
            return if most < 1e-3 { 0.0 } else { most };
        }
        let mut first = 0;
        for (i, at) in admitted.iter().enumerate() {
            while at - admitted[first] >= WINDOW {
                first += 1;
            }
            most = most.max((i + 1 - first) as f64 - quota);
        }
        most
    }
}

fn worlds(reading: Reading) -> impl Iterator<Item = (u64, World)> {
    (0..240).map(move |seed| {
        let quota = [5, 37, 100, 400, 1_000][seed as usize % 5];
        let algorithm = if seed % 3 == 2 { Algorithm::Gcra } else { Algorithm::SlidingWindow };
        (seed, World::new(seed, algorithm, quota, reading).run(seed))
    })
}

#[test]
fn however_late_everything_is_nobody_admits_too_much() {
    let (mut returned, mut admitted, mut quotas) = (0, 0, 0);
    for (seed, world) in worlds(Reading::Inside) {
        let (over, rule) = (world.over(), &world.rule);
        assert!(over <= 0.0, "seed {seed}: {over} beyond {rule:?}, {} nodes", world.nodes.len());
        returned += world.returned;
        admitted += world.admitted.len();
        quotas += 4 * rule.quota() as usize;
    }
    assert!(returned > 1_000, "{returned} given back: the test tries what it is about");
    assert!(admitted * 2 > quotas, "{admitted} admitted of {quotas}: hardly anything was");
}

#[test]
fn a_clock_read_before_the_turn_would_admit_too_much() {
    let over = worlds(Reading::Before).filter(|(_, world)| world.over() > 0.0).count();
    assert!(over > 2, "{over} of 240: the simulation would not find it");
}
