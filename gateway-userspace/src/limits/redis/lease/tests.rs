use super::*;

const WINDOW: Nanos = 60_000_000_000;
const MS: Nanos = 1_000_000;
const NOW: Nanos = 1_700_000_000_000 * MS;

#[test]
fn a_lease_ends() {
    let mut lease = Lease::default();
    assert_eq!(lease.look(WINDOW, NOW, 1), Holding::Unknown);
    lease.granted(WINDOW, NOW, 5, 95, 7);
    for _ in 0..2 {
        assert_eq!(lease.look(WINDOW, NOW + MS, 1), Holding::Here { ahead: false });
        lease.spend(1);
    }
    assert_eq!(lease.in_hand(NOW + MS), 3);
    assert_eq!(lease.look(WINDOW, NOW + lease_length(WINDOW), 1), Holding::Unknown, "what is left lapses");
    assert_eq!(lease.wanted(WINDOW, NOW + lease_length(WINDOW), 1, 1_000), 2, "as much as was spent");
}

#[test]
fn a_hot_key_asks_ahead_for_more_and_more() {
    let mut lease = Lease::default();
    let (mut now, mut asked, mut spent) = (NOW, 0, 0);
    // 10,000 requests a second for four seconds; each answer takes a millisecond.
    let mut answer: Option<(Nanos, u32)> = None;
    let mut waiting = 0;
    while now < NOW + 4_000 * MS {
        if let Some((sent, units)) = answer.filter(|(sent, _)| now >= sent + MS) {
            lease.granted(WINDOW, sent, units, 1_000_000, 0);
            answer = None;
        }
        match lease.look(WINDOW, now, 1) {
            Holding::Here { ahead } => {
                lease.spend(1);
                spent += 1;
                if ahead && answer.is_none() {
                    asked += 1;
                    answer = Some((now, lease.wanted(WINDOW, now, 1, 1_000_000)));
                }
            }
            Holding::Unknown => {
                waiting += 1;
                if answer.is_none() {
                    asked += 1;
                    answer = Some((now, lease.wanted(WINDOW, now, 1, 1_000_000)));
                }
            }
            Holding::Denied { .. } => panic!("nobody denied"),
        }
        now += MS / 10;
    }
    assert!(spent + waiting == 40_000 && waiting < 100, "{spent} spent, {waiting} waited");
    assert!(asked < 60, "{asked} commands for 40,000 requests");
}

#[test]
fn a_burst_leaves_little_behind() {
    let mut lease = Lease::default();
    for burst in 0..3 {
        let now = NOW + burst * 10_000 * MS;
        let (mut asked, mut served) = (0, 0);
        while served < 20 {
            if lease.look(WINDOW, now, 1) == Holding::Unknown {
                let units = lease.wanted(WINDOW, now, 1, 100);
                lease.granted(WINDOW, now, units, 100, 0);
                asked += units;
            } else {
                lease.spend(1);
                served += 1;
            }
        }
        assert!(asked <= 22, "{asked} units for 20 requests");
    }
}

#[test]
fn a_denial_is_remembered() {
    let mut lease = Lease::default();
    lease.denied(WINDOW, NOW, 3, 2, 500 * MS);
    assert_eq!(lease.look(WINDOW, NOW + 100 * MS, 3), Holding::Denied { wait: 400 * MS });
    assert_eq!(lease.look(WINDOW, NOW + 100 * MS, 2), Holding::Unknown, "less may be had");
    assert_eq!(lease.look(WINDOW, NOW + 500 * MS, 3), Holding::Unknown);
    lease.denied(WINDOW, NOW, 1, 0, WINDOW);
    assert_eq!(lease.look(WINDOW, NOW + WINDOW / 32, 1), Holding::Denied { wait: WINDOW - WINDOW / 32 });
    assert_eq!(lease.look(WINDOW, NOW + WINDOW / 16, 1), Holding::Unknown, "units may have come back");
}

#[test]
fn what_lapses_is_given_back_once() {
    let mut lease = Lease::default();
    let length = lease_length(WINDOW);
    lease.granted(WINDOW, NOW, 10, 90, 7);
    lease.look(WINDOW, NOW + MS, 1);
    lease.spend(1);
    assert_eq!(lease.take_lapsed(NOW + MS), None, "it can still be spent here");
    lease.granted(WINDOW, NOW + 2 * MS, 5, 85, 9);
    assert_eq!(lease.ends(), NOW + 2 * MS + length);
    assert_eq!(lease.take_lapsed(NOW + length), Some((9, 7)), "the first lease is over");
    assert_eq!(lease.in_hand(NOW + length), 5);
    assert_eq!(lease.take_lapsed(NOW + 2 * length), Some((5, 9)));
    assert_eq!(lease.take_lapsed(NOW + 3 * length), None);
    assert_eq!(lease.in_hand(NOW + 3 * length), 0);
}
