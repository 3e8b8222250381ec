//! Deadlines of connections, in one heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::handle::Handle;

/// Milliseconds of a monotonic clock that the caller reads.
pub type Millis = u64;

/// No deadline.
pub const NEVER: Millis = Millis::MAX;

/// Entries that may be stale before looking for them is worth it.
const STALE_ALLOWED: usize = 1024;

/// At most one live entry for each connection, which knows its time.
///
/// An entry is never moved: a connection that lives on when its entry comes up is armed anew, one
/// whose deadline comes nearer gets a second entry, and the first is then stale. Activity
/// therefore costs nothing here.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Millis, Handle)>>,
}

impl Timers {
    /// Add an entry.
    pub fn arm(&mut self, at: Millis, handle: Handle) {
        self.heap.push(Reverse((at, handle)));
    }

    /// The earliest entry that is due, removed.
    pub fn pop_due(&mut self, now: Millis) -> Option<(Millis, Handle)> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// When the earliest entry is due.
    pub fn next_at(&self) -> Option<Millis> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Drop stale entries once they are more than the `live` ones, which `is_live` knows.
    pub fn prune(&mut self, live: usize, is_live: impl Fn(Millis, Handle) -> bool) {
        if self.heap.len() > 2 * live + STALE_ALLOWED {
            self.heap.retain(|Reverse((at, handle))| is_live(*at, *handle));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_up_in_order_and_not_before_their_time() {
        let mut timers = Timers::default();
        for at in [30, 10, 20] {
            timers.arm(at, Handle::new(u32::try_from(at).unwrap(), 0));
        }
        assert_eq!(timers.next_at(), Some(10));
        assert_eq!(timers.pop_due(9), None);
        assert_eq!(timers.pop_due(25).unwrap().0, 10);
        assert_eq!(timers.pop_due(25).unwrap().0, 20);
        assert_eq!(timers.pop_due(25), None);
    }

    #[test]
    fn churn_does_not_let_stale_entries_pile_up() {
        let mut timers = Timers::default();
        for generation in 0..100_000 {
            timers.arm(60_000, Handle::new(0, generation));
            timers.prune(1, |_, handle| handle.generation() == generation);
        }
        assert!(timers.heap.len() <= STALE_ALLOWED + 3);
    }
}
