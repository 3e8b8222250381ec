//! The open loop of the load generator: when messages are due, and what counts as their latency.
#![allow(missing_docs)]
// A test may panic, and its numbers are small.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

// The generator is a program: its modules are taken as they are. Not all of each is used here.
#[allow(dead_code)]
#[path = "../benches/load/fault.rs"]
mod fault;
#[allow(dead_code)]
#[path = "../benches/load/flight.rs"]
mod flight;
#[allow(dead_code)]
#[path = "../benches/load/recorder.rs"]
mod recorder;
#[path = "../benches/load/schedule.rs"]
mod schedule;

use std::time::Duration;

use flight::Flight;
use proptest::prelude::*;
use recorder::{Measured, Recorder};
use schedule::Schedule;

const SECOND_NS: u64 = 1_000_000_000;
const MILLISECOND_NS: u64 = 1_000_000;

/// All that is due until `end_ns`, asked for at these moments and then at the end.
fn due(per_s: f64, end_ns: u64, moments: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut schedule = Schedule::new(per_s, 0);
    let mut found = Vec::new();
    for now_ns in moments.into_iter().chain([end_ns]) {
        while let Some(due_ns) = schedule.next_due(now_ns) {
            assert!(due_ns <= now_ns, "{due_ns} is not due at {now_ns}");
            found.push(due_ns);
        }
    }
    found
}

fn each_millisecond(end_ns: u64) -> impl Iterator<Item = u64> {
    (0..end_ns).step_by(MILLISECOND_NS as usize)
}

// --- When messages are due ----------------------------------------------------------------------

#[test]
fn rate_is_kept_in_the_long_run() {
    let count = due(1000.0, 100 * SECOND_NS, []).len();
    assert!((99_000..101_000).contains(&count), "{count}");
}

#[test]
fn senders_are_independent() {
    // Of a Poisson process: 1/e of the gaps are longer than the mean, 1/e² than twice the mean.
    let due = due(1000.0, 100 * SECOND_NS, []);
    let longer = |gap_ns| {
        due.windows(2).filter(|pair| pair[1] - pair[0] > gap_ns).count() as f64 / due.len() as f64
    };
    assert!((longer(MILLISECOND_NS) - (-1.0_f64).exp()).abs() < 0.01);
    assert!((longer(2 * MILLISECOND_NS) - (-2.0_f64).exp()).abs() < 0.01);
}

#[test]
fn every_server_gets_the_same_arrivals() {
    assert_eq!(due(500.0, SECOND_NS, []), due(500.0, SECOND_NS, []));
}

#[test]
fn message_is_due_at_its_time_and_not_before() {
    let second_ns = due(1000.0, SECOND_NS, [])[1];
    let mut schedule = Schedule::new(1000.0, 0);
    assert_eq!(schedule.next_due(0), Some(0));
    assert_eq!(schedule.next_due(second_ns), None); // A fraction of a nanosecond is left.
    assert_eq!(schedule.next_due(second_ns + 1), Some(second_ns));
}

#[test]
fn pause_lasts_until_the_next_message_and_is_none_where_one_is_late() {
    let mut schedule = Schedule::new(1000.0, 0);
    assert_eq!(schedule.pause(0), Duration::ZERO);
    schedule.next_due(0);
    let pause = schedule.pause(0);
    assert!(pause > Duration::ZERO);
    let due_ns = due(1000.0, SECOND_NS, [])[1];
    assert_eq!(pause.as_nanos() as u64, due_ns);
    assert_eq!(schedule.pause(due_ns + 1), Duration::ZERO);
    assert_eq!(schedule.pause(SECOND_NS), Duration::ZERO);
}

proptest! {
    /// The loop is open: nothing that delays the generator, nor how often it looks, moves a message.
    #[test]
    fn looking_late_or_often_moves_no_message(
        mut moments in prop::collection::vec(0..SECOND_NS, 0..50)
    ) {
        moments.sort_unstable();
        let one_look = due(2000.0, SECOND_NS, []);
        prop_assert_eq!(due(2000.0, SECOND_NS, moments), one_look);
    }
}

#[test]
fn message_that_is_late_keeps_the_time_it_was_due_at() {
    // Stuck from 0.2 s to 0.7 s: what was due meanwhile comes at once, each with its own time.
    let stuck = 200 * MILLISECOND_NS..700 * MILLISECOND_NS;
    let moments = each_millisecond(SECOND_NS).filter(|now_ns| !stuck.contains(now_ns));
    let due = due(1000.0, SECOND_NS, moments);
    let meanwhile = due.iter().filter(|due_ns| stuck.contains(due_ns)).count();
    assert!((400..600).contains(&meanwhile), "{meanwhile}");
    assert!(due.is_sorted());
}

// --- What counts as their latency ---------------------------------------------------------------

/// What is measured in three seconds of a server that answers in 0.1 ms, but not from 1 s to 2 s; the
/// generator looks each millisecond, and not while it is `stuck` itself.
fn measured(server_stalls: bool, stuck: std::ops::Range<u64>) -> Measured {
    let (mut schedule, mut flight) = (Schedule::new(1000.0, 0), Flight::new(0));
    let mut recorder = Recorder::new().unwrap();
    recorder.start();
    for now_ns in each_millisecond(3 * SECOND_NS).filter(|now_ns| !stuck.contains(now_ns)) {
        while let Some(due_ns) = schedule.next_due(now_ns) {
            recorder.record_lateness(now_ns - due_ns);
            flight.launch(1, due_ns);
        }
        let answers = !server_stalls || !(SECOND_NS..2 * SECOND_NS).contains(&now_ns);
        while answers && flight.len() > 0 {
            recorder.record(flight.land(now_ns + MILLISECOND_NS / 10).unwrap().latency_ns);
        }
    }
    recorder.stop(Duration::from_secs(3))
}

#[test]
fn undisturbed_messages_are_late_by_no_more_than_a_look() {
    let measured = measured(false, 0..0);
    assert!((2800..3200).contains(&measured.count), "{}", measured.count);
    assert!(measured.max_us <= 1_101.0, "{}", measured.max_us);
    assert!(measured.late_p99_us <= 1_001.0);
}

#[test]
fn server_that_stalls_is_charged_for_all_that_was_due_meanwhile() {
    // A third of the messages waited, half a second on the average. A closed loop would have had one
    // slow message of 2,000, and its p99 would not know.
    let measured = measured(true, 0..0);
    assert!((2800..3200).contains(&measured.count), "{}", measured.count);
    assert!(measured.p99_us > 900_000.0, "{}", measured.p99_us);
    assert!(measured.p50_us < 1_101.0, "{}", measured.p50_us);
    assert!(measured.late_p99_us <= 1_001.0, "the generator was in time");
}

#[test]
fn generator_that_was_stuck_says_so_and_hides_nothing() {
    let measured = measured(false, SECOND_NS..2 * SECOND_NS);
    assert!((2800..3200).contains(&measured.count), "{}", measured.count);
    assert!(measured.p99_us > 900_000.0, "{}", measured.p99_us);
    assert!(measured.late_p99_us > 900_000.0, "{}", measured.late_p99_us);
}
