//! What a shard holds for its peers, all together, against one bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::timers::Millis;

/// What a connection costs that holds nothing: its entries in the tables here and in Python.
pub const IDLE_BYTES: usize = 1536;

/// Who holds at least so much is asked to wait, first of all, when memory is short.
pub const MUCH_BYTES: usize = 64 * 1024;

/// A shortage that has lasted for so long is ended by closing those who hold most.
const PATIENCE: Millis = 1000;

/// Bytes that a shard holds because of its peers.
///
/// ```text
/// Ample ─over 3/4─► Short ─over the limit, or for a second─► those who hold most are closed
///   └─────under 5/8────┘
/// ```
///
/// What belongs to one connection is charged by its shard; a frame that is shared by many
/// charges itself, once, for as long as one of them has it.
#[derive(Debug)]
pub struct Memory {
    limit: usize,
    /// What is charged; with [`others`](Self::set_others), so that nothing has to be added up.
    own: usize,
    others: usize,
    /// How many there are, with this one.
    shards: usize,
    shared: Arc<AtomicUsize>,
    short_since: Option<Millis>,
}

impl Memory {
    /// Nothing is held. A limit of 0 is none.
    pub fn new(limit: usize) -> Self {
        let shared = Arc::default();
        let mut memory = Self { limit: 0, own: 0, others: 0, shards: 1, shared, short_since: None };
        memory.set_limit(limit);
        memory
    }

    /// Set another limit; 0 is none.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = if limit == 0 { usize::MAX } else { limit };
    }

    /// Let other shards, under the same limit, hold so much; they are `shards`, with this one.
    pub fn set_others(&mut self, others: usize, shards: usize) {
        self.shards = shards.max(1);
        self.own = self.own - self.others + others;
        self.others = others;
    }

    /// The part of [`held`](Self::held) that is not others'.
    pub fn held_here(&self) -> usize {
        self.held() - self.others
    }

    /// Bytes held now.
    pub fn held(&self) -> usize {
        // Relaxed: a count, and whoever drops a frame that a shard shares is its thread.
        self.own + self.shared.load(Ordering::Relaxed)
    }

    /// What was charged as `before` is `after` now.
    pub fn recharge(&mut self, before: usize, after: usize) {
        self.own = self.own + after - before;
    }

    /// What counts frames that are shared.
    pub fn meter(&self) -> Meter {
        Meter(Arc::clone(&self.shared))
    }

    /// Whether more is held than may be.
    pub fn is_exhausted(&self) -> bool {
        self.held() > self.limit
    }

    /// Whether more is held than is well, or was a while ago.
    pub fn is_short(&self) -> bool {
        self.short_since.is_some()
    }

    /// Look at what is held; tell whether a shortage has begun (true) or ended (false) since.
    pub fn look(&mut self, now: Millis) -> Option<bool> {
        let held = self.held();
        match self.short_since {
            None if held > self.limit / 4 * 3 => {
                self.short_since = Some(now);
                Some(true)
            }
            Some(_) if held < self.well() => {
                self.short_since = None;
                Some(false)
            }
            _ => None,
        }
    }

    /// When the shortage has lasted too long.
    pub fn patient_until(&self) -> Option<Millis> {
        self.short_since.map(|since| since + PATIENCE)
    }

    /// What could be closed was: wait as long again before the next attempt.
    pub fn be_patient_again(&mut self, now: Millis) {
        self.short_since = self.short_since.map(|_| now);
    }

    /// How much is to be given back here for so little to be held that a shortage ends.
    pub fn excess_over_well(&self) -> usize {
        self.our_part((self.held() + 1).saturating_sub(self.well()))
    }

    /// How much is to be given back here for the limit to be kept, with room for a while.
    pub fn excess_over_limit(&self) -> usize {
        self.our_part(self.held().saturating_sub(self.limit - self.limit / 16))
    }

    /// Shards give back in proportion to what they hold; one that holds less than the average
    /// gives nothing, so that its clients do not pay for others'.
    fn our_part(&self, excess: usize) -> usize {
        let (here, held) = (self.held_here(), self.held());
        if here < held / self.shards {
            return 0;
        }
        let part = (excess as u128 * here as u128).div_ceil(held.max(1) as u128);
        // No more than `excess`, as no more is held here than everywhere.
        usize::try_from(part).unwrap_or(usize::MAX)
    }

    fn well(&self) -> usize {
        self.limit / 8 * 5
    }
}

/// Counts frames that are shared by connections of one shard.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<AtomicUsize>);

impl Meter {
    /// Bytes of the frames that are there.
    pub fn held(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// A frame to be shared: counted until the last reference is dropped.
    pub fn share(&self, frame: Vec<u8>) -> Bytes {
        self.0.fetch_add(frame.capacity(), Ordering::Relaxed);
        Bytes::from_owner(Shared { frame, meter: self.clone() })
    }
}

/// A frame that knows who counts it.
struct Shared {
    frame: Vec<u8>,
    meter: Meter,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.meter.0.fetch_sub(self.frame.capacity(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_frame_counts_once_and_until_its_last_reference_is_gone() {
        let memory = Memory::new(0);
        let frame = memory.meter().share(vec![0; 1000]);
        let others: Vec<Bytes> = (0..100).map(|_| frame.clone()).collect();
        assert_eq!(memory.held(), 1000);
        drop(frame);
        assert_eq!(memory.held(), 1000);
        drop(others);
        assert_eq!(memory.held(), 0);
    }

    #[test]
    fn a_shortage_begins_over_three_quarters_and_ends_under_five_eighths() {
        let mut memory = Memory::new(8000);
        for (held, changed) in [
            (6000, None),
            (6001, Some(true)),
            (7000, None),
            (5000, None),
            (4999, Some(false)),
            (6000, None),
        ] {
            memory.recharge(memory.own, held);
            assert_eq!(memory.look(7), changed, "{held}");
        }
    }

    #[test]
    fn the_limit_itself_may_be_held() {
        let mut memory = Memory::new(8000);
        for (held, exhausted) in [(7999, false), (8000, false), (8001, true)] {
            memory.recharge(memory.own, held);
            assert_eq!(memory.is_exhausted(), exhausted, "{held}");
        }
    }

    #[test]
    fn what_others_hold_counts_and_is_given_back_by_them() {
        let mut memory = Memory::new(8000);
        memory.recharge(0, 3000);
        for (others, held, exhausted, excess) in [
            (0, 3000, false, 0),
            (3000, 6000, false, 0),
            (6000, 9000, true, 500),
            (6001, 9001, true, 501),
        ] {
            memory.set_others(others, 3);
            assert_eq!((memory.held(), memory.held_here()), (held, 3000));
            assert_eq!(memory.is_exhausted(), exhausted, "{others}");
            assert_eq!(memory.excess_over_limit(), excess, "{others}");
        }
        memory.set_others(6003, 3);
        assert_eq!(memory.excess_over_limit(), 0, "less than the average");
    }

    #[test]
    fn without_a_limit_nothing_is_ever_short() {
        let mut memory = Memory::new(0);
        memory.recharge(0, usize::MAX / 2);
        assert_eq!((memory.look(0), memory.is_exhausted()), (None, false));
    }
}
