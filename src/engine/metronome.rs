//! How much work to do at a time, by what the last work took.

use std::time::{Duration, Instant};

use super::shard::Pace;

/// A batch ends after this long, if it has not come to its end by itself: then everything that it
/// has caused is sent, and the loop's other callbacks have their turn.
const BATCH: Duration = Duration::from_millis(4);

/// So long at most where sending takes as long anyway: one write for each of many recipients is
/// worth more messages, and who waits would hardly wait for less (fan-out to 10,000 x 16: 1.70 ->
/// 0.87 times Bun's time).
const LONGEST_BATCH: Duration = Duration::from_millis(16);

/// While a batch is younger, whoever has more gets another turn before the batch ends. So it is
/// while it has not taken what the last flush took.
const YOUNG: Duration = Duration::from_millis(1);

/// What a round of all who are ready should take: so long at most somebody waits for their turn
/// behind those who flood, whatever their messages cost.
const ROUND_NS: u64 = 2_500_000;

/// What a slice should take. Nothing can stop the caller in the middle of one.
const SLICE_NS: u64 = 500_000;

/// Units of work in a slice: enough that handing it over costs nothing, and few enough that it
/// does not matter much where it turns out to cost more than those before.
const SLICE_UNITS: (u64, u64) = (2, 128);

/// The work of some messages, in units.
const LITTLE_UNITS: u64 = 32;

/// Units of work in a round.
const ROUND_UNITS: (u64, u64) = (64, 8192);

/// Measures what work costs, from when it is begun until its events are handled.
#[derive(Debug)]
pub struct Metronome {
    batch_began: Instant,
    slice_began: Instant,
    done_before: u64,
    unit_ns: u64,
    flush_took: Duration,
}

impl Metronome {
    /// Nothing is known yet of what work costs.
    pub fn new(now: Instant) -> Self {
        let flush_took = Duration::ZERO;
        Self { batch_began: now, slice_began: now, done_before: 0, unit_ns: 1000, flush_took }
    }

    /// A batch begins, and its first slice. `done` is the work done so far, in units.
    pub fn begin_batch(&mut self, now: Instant, done: u64) {
        (self.batch_began, self.slice_began, self.done_before) = (now, now, done);
    }

    /// A slice is handled; another one may begin. A cost that rises is believed sooner than one
    /// that falls.
    pub fn slice_ends(&mut self, now: Instant, done: u64) {
        let units = done.saturating_sub(self.done_before).max(1);
        let took = now.saturating_duration_since(self.slice_began);
        let unit_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX) / units;
        self.unit_ns = if unit_ns > self.unit_ns {
            self.unit_ns + (unit_ns - self.unit_ns) / 2
        } else {
            self.unit_ns - (self.unit_ns - unit_ns) / 4
        };
        (self.slice_began, self.done_before) = (now, done);
    }

    /// What a batch has caused is sent, which took so long.
    pub fn flushed(&mut self, took: Duration) {
        self.flush_took = took;
    }

    /// Whether so little was done in this slice that it need not be known what it cost.
    pub fn is_little(&self, done: u64) -> bool {
        done.saturating_sub(self.done_before) < LITTLE_UNITS
    }

    /// How much to do next.
    pub fn pace(&self) -> Pace {
        let within = |ns: u64, (least, most)| (ns / self.unit_ns.max(1)).clamp(least, most);
        Pace { slice: within(SLICE_NS, SLICE_UNITS), round: within(ROUND_NS, ROUND_UNITS) }
    }

    /// Whether the batch goes on while its round does.
    pub fn may_go_on(&self) -> bool {
        self.age() < self.flush_took.clamp(BATCH, LONGEST_BATCH)
    }

    /// Whether there is time for another round of those who have more.
    pub fn may_begin_another_round(&self) -> bool {
        self.age() < self.flush_took.clamp(YOUNG, LONGEST_BATCH)
    }

    fn age(&self) -> Duration {
        self.slice_began.saturating_duration_since(self.batch_began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROSECOND: Duration = Duration::from_micros(1);

    /// A metronome that has seen 100 slices of 100 units which took so long.
    fn after(slice: Duration) -> (Metronome, Instant, u64) {
        let (mut now, mut done) = (Instant::now(), 0);
        let mut metronome = Metronome::new(now);
        for _ in 0..100 {
            metronome.begin_batch(now, done);
            (now, done) = (now + slice, done + 100);
            metronome.slice_ends(now, done);
        }
        (metronome, now, done)
    }

    #[test]
    fn cheap_work_is_done_in_large_slices_and_long_rounds() {
        let pace = after(10 * MICROSECOND).0.pace();
        assert_eq!((pace.slice, pace.round), (128, 8192));
    }

    #[test]
    fn dear_work_is_done_in_small_slices_and_short_rounds() {
        let pace = after(2000 * MICROSECOND).0.pace(); // 20 µs a unit
        assert!((24..=26).contains(&pace.slice), "{pace:?}");
        assert!((120..=130).contains(&pace.round), "{pace:?}");
    }

    #[test]
    fn one_dear_slice_is_enough_to_become_careful() {
        let (mut metronome, now, done) = after(10 * MICROSECOND);
        metronome.begin_batch(now, done);
        metronome.slice_ends(now + 25_000 * MICROSECOND, done + 128);
        assert!(metronome.pace().slice <= 6);
    }

    #[test]
    fn what_little_work_costs_need_not_be_known() {
        let (mut metronome, now, done) = after(MICROSECOND);
        metronome.begin_batch(now, done);
        for (units, is_little) in [(0, true), (31, true), (32, false), (33, false)] {
            assert_eq!(metronome.is_little(done + units), is_little, "{units}");
        }
    }

    #[test]
    fn some_units_are_done_whatever_they_cost() {
        let pace = after(Duration::from_secs(10)).0.pace();
        assert_eq!((pace.slice, pace.round), (2, 64));
    }

    #[test]
    fn a_batch_ends_when_its_time_is_over() {
        let (mut metronome, now, done) = after(MICROSECOND);
        for (micros, another, on) in
            [(999, true, true), (1000, false, true), (3999, false, true), (4000, false, false)]
        {
            metronome.begin_batch(now, done);
            metronome.slice_ends(now + micros * MICROSECOND, done + 1);
            assert_eq!(metronome.may_begin_another_round(), another, "{micros} µs");
            assert_eq!(metronome.may_go_on(), on, "{micros} µs");
        }
    }

    #[test]
    fn what_is_sent_to_many_waits_for_more_as_long_as_it_takes_to_send() {
        let (mut metronome, now, done) = after(MICROSECOND);
        for (flush, age, another) in
            [(10, 999, true), (10, 1000, false), (2000, 1999, true), (2000, 2000, false)]
                .into_iter()
                .chain([(90_000, 15_999, true), (90_000, 16_000, false)])
        {
            metronome.flushed(flush * MICROSECOND);
            metronome.begin_batch(now, done);
            metronome.slice_ends(now + age * MICROSECOND, done + 1);
            assert_eq!(metronome.may_begin_another_round(), another, "{flush} µs, {age} µs");
            assert_eq!(metronome.may_go_on(), another || age < 4000, "{flush} µs, {age} µs");
        }
    }
}
