//! Messages under way.

use std::collections::VecDeque;

/// The messages of one sender that have not come back, oldest first, and when each was sent.
#[derive(Debug, Default)]
pub struct Flight {
    sent_at_ns: VecDeque<u64>,
    landed: u64,
}

/// A message that has come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Landed {
    /// Which one of the sender's messages it is, from 0.
    pub number: usize,
    pub latency_ns: u64,
}

impl Flight {
    /// Nothing is under way; there is room for `most` messages before memory is asked for.
    pub fn new(most: usize) -> Self {
        Self { sent_at_ns: VecDeque::with_capacity(most), landed: 0 }
    }

    /// `count` messages are queued now.
    pub fn launch(&mut self, count: usize, now_ns: u64) {
        self.sent_at_ns.extend(std::iter::repeat_n(now_ns, count));
    }

    /// The oldest message has come back; `None` if none was under way.
    pub fn land(&mut self, now_ns: u64) -> Option<Landed> {
        let landed = self.look(self.landed, now_ns)?;
        self.sent_at_ns.pop_front();
        self.landed += 1;
        Some(landed)
    }

    /// Message `number`, as seen by one of several who receive it; `None` if it is not under way.
    pub fn look(&self, number: u64, now_ns: u64) -> Option<Landed> {
        let place = usize::try_from(number.checked_sub(self.landed)?).ok()?;
        let sent_at_ns = *self.sent_at_ns.get(place)?;
        let number = usize::try_from(number).ok()?;
        Some(Landed { number, latency_ns: now_ns.saturating_sub(sent_at_ns) })
    }

    /// How many have come back: the number of the oldest under way.
    pub fn landed(&self) -> usize {
        usize::try_from(self.landed).unwrap_or(usize::MAX)
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.sent_at_ns.len()
    }
}
