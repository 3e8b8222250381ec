//! How often a peer may do something: token buckets.

use super::timers::Millis;

/// What one event takes out of a bucket.
const EVENT: u64 = 1_000_000;

/// So many events a second, and so many at once after a rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Millionths of an event that each millisecond adds.
    per_ms: u64,
    /// What a bucket holds; 0: there is no limit.
    burst: u64,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self { per_ms: 0, burst: 0 };

    /// At most `events_per_s` in the long run, and `burst` (at least 1) at once. A rate of 0 is no
    /// limit; one is rounded up to a thousandth of an event a second.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Saturates, as is meant.
    pub fn new(events_per_s: f64, burst: u32) -> Self {
        if events_per_s > 0.0 {
            let per_ms = (events_per_s * 1000.0).ceil() as u64;
            Self { per_ms, burst: u64::from(burst.max(1)) * EVENT }
        } else {
            Self::UNLIMITED
        }
    }

    /// At most this many events a second, however they lie in it. 0 is no limit.
    pub fn per_second(events: u32) -> Self {
        Self::new(f64::from(events), events)
    }

    /// Whether there is a limit.
    pub fn is_limited(self) -> bool {
        self.burst > 0
    }
}

/// What one peer may still do.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    level: u64,
    filled_at: Millis,
}

impl Bucket {
    /// A full one.
    pub fn full(rate: Rate, now: Millis) -> Self {
        Self { level: rate.burst, filled_at: now }
    }

    /// Take one event out; false if there is none.
    pub fn take(&mut self, rate: Rate, now: Millis) -> bool {
        if !rate.is_limited() {
            return true;
        }
        self.fill(rate, now);
        let is_there = self.level >= EVENT;
        if is_there {
            self.level -= EVENT;
        }
        is_there
    }

    /// Allow for the time from `since` to `now`, which the peer could not use: for what it does
    /// then will come at once, and may be more than the burst.
    pub fn excuse(&mut self, rate: Rate, since: Millis, now: Millis) {
        self.fill(rate, since);
        let gained = rate.per_ms.saturating_mul(now.saturating_sub(since));
        self.level = self.level.saturating_add(gained);
        self.filled_at = now;
    }

    fn fill(&mut self, rate: Rate, now: Millis) {
        let gained = rate.per_ms.saturating_mul(now.saturating_sub(self.filled_at));
        if self.level < rate.burst {
            self.level = self.level.saturating_add(gained).min(rate.burst);
        }
        self.filled_at = now;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taken(bucket: &mut Bucket, rate: Rate, now: Millis) -> usize {
        (0..1000).take_while(|_| bucket.take(rate, now)).count()
    }

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_what_time_adds() {
        let rate = Rate::new(10.0, 5);
        let mut bucket = Bucket::full(rate, 1000);
        assert_eq!(taken(&mut bucket, rate, 1000), 5);
        assert_eq!(taken(&mut bucket, rate, 1099), 0);
        assert_eq!(taken(&mut bucket, rate, 1100), 1);
        assert_eq!(taken(&mut bucket, rate, 1400), 3);
        assert_eq!(taken(&mut bucket, rate, 1_000_000), 5, "no more than the burst");
    }

    #[test]
    fn a_slow_rate_adds_up() {
        let rate = Rate::new(0.5, 1);
        let mut bucket = Bucket::full(rate, 0);
        assert!(bucket.take(rate, 0));
        assert!((1..2000).all(|now| !bucket.take(rate, now)), "asking costs nothing");
        assert!(bucket.take(rate, 2000));
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        let rate = Rate::new(0.0, 5);
        assert_eq!(taken(&mut Bucket::full(rate, 0), rate, 0), 1000);
        assert!(!rate.is_limited());
    }

    #[test]
    fn time_that_could_not_be_used_is_allowed_for_once() {
        let rate = Rate::per_second(10);
        let mut bucket = Bucket::full(rate, 0);
        bucket.excuse(rate, 1000, 4000);
        assert_eq!(taken(&mut bucket, rate, 4000), 40);
        bucket.excuse(rate, 4500, 4700);
        assert_eq!(taken(&mut bucket, rate, 4700), 7);
        assert_eq!(taken(&mut bucket, rate, 9000), 10);
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate_allow(
            events_per_s in 0.001..500.0_f64,
            burst in 1..50_u32,
            waits in prop::collection::vec(0..400_u64, 1..200),
        ) {
            let rate = Rate::new(events_per_s, burst);
            let mut bucket = Bucket::full(rate, 0);
            let (mut now, mut count) = (0, 0_u32);
            for wait in waits {
                now += wait;
                count += u32::from(bucket.take(rate, now));
                // The rate is rounded up to a thousandth of an event a second.
                #[allow(clippy::cast_precision_loss)]
                let most = f64::from(burst) + (events_per_s + 0.001) * now as f64 / 1000.0;
                prop_assert!(f64::from(count) <= most + 1e-6);
            }
        }
    }
}
