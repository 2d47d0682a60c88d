use std::collections::BTreeMap;

use super::*;
use crate::bans::clock::ManualClock;

const NOW: u64 = 1_700_000_000_000;

/// A kernel in memory that fails as often as it is told to.
#[derive(Debug, Default)]
struct Held {
    bans: BTreeMap<IpNetwork, u64>,
    lists: Vec<IpNetwork>,
    failures: usize,
    calls: usize,
}

#[derive(Clone, Default)]
struct FakeKernel(Arc<Mutex<Held>>);

impl FakeKernel {
    fn fail(held: &mut Held) -> Result<(), KernelError> {
        held.calls += 1;
        if held.failures > 0 {
            held.failures -= 1;
            return Err(KernelError("told to fail".into()));
        }
        Ok(())
    }
}

impl KernelWriter for FakeKernel {
    fn apply(&mut self, batch: &[BanChange]) -> Result<(), KernelError> {
        let mut held = self.0.lock().expect("lock");
        for change in batch {
            match change {
                BanChange::Add { network, until_unix_ms, .. } => {
                    held.bans.insert(*network, *until_unix_ms);
                }
                BanChange::Remove { network } => {
                    held.bans.remove(network);
                }
            }
        }
        Self::fail(&mut held)
    }

    fn list(&mut self) -> Result<Vec<KernelBan>, KernelError> {
        let mut held = self.0.lock().expect("lock");
        Self::fail(&mut held)?;
        let ban = |(network, until): (&IpNetwork, &u64)| KernelBan {
            network: *network,
            until_unix_ms: *until,
            reason: BanReason::Local,
        };
        Ok(held.bans.iter().map(ban).collect())
    }

    fn shortcut(&self) -> Option<Box<dyn Shortcut>> {
        Some(Box::new(self.clone()))
    }
}

impl Shortcut for FakeKernel {
    fn try_ban(&mut self, bans: &[BanChange]) {
        let _made = KernelWriter::apply(self, bans);
    }
}

impl KernelLists for FakeKernel {
    fn swap(&mut self, networks: &[IpNetwork]) -> Result<(), KernelError> {
        let mut held = self.0.lock().expect("lock");
        Self::fail(&mut held)?;
        held.lists = networks.to_vec();
        Ok(())
    }
}

fn net(text: &str) -> IpNetwork {
    text.parse().expect("network")
}

/// Runs the writer's loop on a thread, does `work`, waits until `done` and closes.
fn running(kernel: &FakeKernel, work: impl FnOnce(&Mailbox), done: impl Fn(&Held) -> bool) -> WriterState {
    let mailbox = Mailbox::default();
    let state = WriterState::default();
    std::thread::scope(|scope| {
        scope.spawn(|| run(Box::new(kernel.clone()), &mailbox, &state, &ManualClock::at(NOW)));
        work(&mailbox);
        let start = Instant::now();
        let finished = || done(&kernel.0.lock().expect("lock"));
        while !finished() && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
        }
        mailbox.close();
    });
    assert!(done(&kernel.0.lock().expect("lock")), "not done after 10 s: {:?}", kernel.0);
    state
}

#[test]
fn wishes_are_written_and_leftovers_removed() {
    let kernel = FakeKernel::default();
    kernel.0.lock().expect("lock").bans.insert(net("203.0.113.1"), NOW + 5_000_000);
    let state = running(
        &kernel,
        |mailbox| {
            mailbox.put([
                (net("192.0.2.1"), Some((NOW + 60_000, BanReason::Local))),
                (net("192.0.2.0/24"), Some((u64::MAX, BanReason::Operator))),
            ]);
            mailbox.put([(net("192.0.2.9"), Some((NOW + 60_000, BanReason::Local)))]);
            mailbox.put([(net("192.0.2.9"), None)]);
        },
        |held| held.bans.len() == 2,
    );
    let held = kernel.0.lock().expect("lock");
    let expected = [(net("192.0.2.0/24"), NOW + MAX_KERNEL_TTL_MS), (net("192.0.2.1"), NOW + 60_000)];
    assert_eq!(held.bans, BTreeMap::from(expected));
    assert!(state.mended.load(Ordering::Relaxed) >= 1);
    assert_eq!(state.wanted.load(Ordering::Relaxed), 2);
}

#[test]
fn failures_are_retried() {
    let kernel = FakeKernel::default();
    kernel.0.lock().expect("lock").failures = 3;
    let wish = [(net("192.0.2.1"), Some((NOW + 60_000, BanReason::Local)))];
    let state = running(&kernel, |mailbox| mailbox.put(wish), |held| held.failures == 0 && held.calls >= 5);
    assert_eq!(kernel.0.lock().expect("lock").bans.len(), 1);
    assert_eq!(state.failures.load(Ordering::Relaxed), 3);
    assert!(state.healthy.load(Ordering::Relaxed) && state.last_error().is_none());
}

#[test]
fn long_bans_are_told_again_before_they_lapse() {
    let mut desired = Desired::default();
    let (forever, long) = (net("192.0.2.1"), net("192.0.2.2"));
    desired.accept([
        (forever, Some((u64::MAX, BanReason::Operator))),
        (long, Some((NOW + MAX_KERNEL_TTL_MS + 1000, BanReason::Local))),
    ]);
    let mut told = Vec::new();
    let half = MAX_KERNEL_TTL_MS / 2;
    for now in [NOW, NOW + half - 1, NOW + half, NOW + 2 * half, NOW + 3 * half] {
        desired.reassert(now);
        let batch = desired.next_batch(now).unwrap_or_default();
        desired.written(&batch);
        told.push(batch.len());
    }
    assert_eq!(told, [2, 0, 2, 1, 1], "each in time; the long one no more once its own end is told");
}

#[test]
fn reconciliation_finds_what_differs() {
    let mut desired = Desired::default();
    let wish = |until| Some((until, BanReason::Local));
    desired.accept([
        (net("192.0.2.1"), wish(NOW + 60_000)),
        (net("192.0.2.2"), wish(NOW + 60_000)),
        (net("192.0.2.3"), wish(NOW + 60_000)),
        (net("192.0.2.4"), wish(u64::MAX)),
    ]);
    let batch = desired.next_batch(NOW).expect("batch");
    desired.written(&batch);
    let ban =
        |network, until_unix_ms| KernelBan { network: net(network), until_unix_ms, reason: BanReason::Local };
    let held = [
        ban("192.0.2.1", NOW + 60_900),
        ban("192.0.2.2", NOW + 10_000),
        ban("192.0.2.4", NOW + MAX_KERNEL_TTL_MS),
        ban("192.0.2.5", NOW + 60_000),
    ];
    assert_eq!(desired.compare(&held, NOW + 10_000), 3);
    let mut open: Vec<IpNetwork> = desired.open.iter().copied().collect();
    open.sort_unstable();
    assert_eq!(open, [net("192.0.2.2"), net("192.0.2.3"), net("192.0.2.5")]);
}

#[test]
fn a_list_that_is_refused_is_tried_again_and_a_newer_one_stands_in_for_it() {
    let kernel = FakeKernel::default();
    kernel.0.lock().expect("lock").failures = 2;
    let (shelf, state) = (lists::ListBox::default(), WriterState::default());
    std::thread::scope(|scope| {
        scope.spawn(|| lists::run(Box::new(kernel.clone()), &shelf, &state));
        shelf.put(Arc::from([net("198.51.100.0/24")]));
        shelf.put(Arc::from([net("203.0.113.0/24")]));
        let start = Instant::now();
        while kernel.0.lock().expect("lock").lists.is_empty() && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
        }
        shelf.close();
    });
    assert_eq!(kernel.0.lock().expect("lock").lists, [net("203.0.113.0/24")]);
    assert_eq!(state.failures.load(Ordering::Relaxed), 2);
    assert!(state.last_error().is_none());
}

/// Lists the kernel's bans while another ban is made by the shortcut.
struct Overtaken(FakeKernel, Arc<Mailbox>);

impl KernelWriter for Overtaken {
    fn apply(&mut self, batch: &[BanChange]) -> Result<(), KernelError> {
        let removed = batch.iter().any(|change| matches!(change, BanChange::Remove { .. }));
        assert!(!removed, "what the shortcut made is removed: {batch:?}");
        self.0.apply(batch)
    }

    fn list(&mut self) -> Result<Vec<KernelBan>, KernelError> {
        let until_ms = NOW + 60_000;
        self.1.lay([(net("192.0.2.1"), Some((until_ms, BanReason::Local)))]);
        self.0.try_ban(&[BanChange::Add {
            network: net("192.0.2.1"),
            until_unix_ms: until_ms,
            reason: BanReason::Local,
        }]);
        self.0.list()
    }
}

#[test]
fn what_the_shortcut_made_during_a_comparison_stays() {
    let (kernel, mailbox) = (FakeKernel::default(), Arc::new(Mailbox::default()));
    let mut overtaken = Overtaken(kernel.clone(), mailbox.clone());
    let (mut desired, state) = (Desired::default(), WriterState::default());
    write(&mut overtaken, &mut desired, &mailbox, true, &state, NOW).expect("written");
    assert_eq!((kernel.0.lock().expect("lock").bans.len(), desired.len()), (1, 1));
}
