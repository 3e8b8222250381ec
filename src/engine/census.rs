//! How many connections there are, of all shards of a server together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts that shards share: what bounds them holds for all of them together.
#[derive(Debug, Clone, Default)]
pub struct Census(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    undecided: AtomicUsize,
}

impl Census {
    /// Connections of every kind.
    pub fn connections(&self) -> usize {
        self.0.connections.load(Ordering::Relaxed)
    }

    /// One more connection is there. Returns how many were there before.
    pub fn enter(&self) -> usize {
        self.0.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// One of them is gone.
    pub fn leave(&self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// One more handshake waits for the caller's decision, if fewer than `most` do. False if not.
    pub fn begin_deciding(&self, most: usize) -> bool {
        let more = |count| (count < most).then_some(count + 1);
        self.0.undecided.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// One of them is decided, or gone.
    pub fn end_deciding(&self) {
        self.0.undecided.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_handshakes_wait_as_may_whoever_counts_them() {
        let (one, other) = (Census::default(), Census::default());
        let two = one.clone();
        assert_eq!(
            [one.begin_deciding(2), two.begin_deciding(2), one.begin_deciding(2)],
            [true, true, false]
        );
        assert!(other.begin_deciding(1));
        two.end_deciding();
        assert!(one.begin_deciding(2));
        assert!(!one.begin_deciding(0), "none may");
    }

    #[test]
    fn connections_of_all_are_counted() {
        let one = Census::default();
        let two = one.clone();
        assert_eq!([one.enter(), two.enter()], [0, 1]);
        one.leave();
        assert_eq!(two.connections(), 1);
    }
}
