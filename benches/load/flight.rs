//! Messages under way.

/// The messages of one sender that have not come back, oldest first, and when each was sent.
#[derive(Debug)]
pub struct Flight {
    sent_at_ns: Box<[u64]>,
    sent: u64,
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
    /// Room for `most` messages under way.
    pub fn new(most: usize) -> Self {
        Self { sent_at_ns: vec![0; most].into(), sent: 0, landed: 0 }
    }

    /// `count` messages are queued now.
    pub fn launch(&mut self, count: usize, now_ns: u64) {
        for _ in 0..count {
            let slot = self.slot(self.sent);
            self.sent_at_ns[slot] = now_ns;
            self.sent += 1;
        }
    }

    /// The oldest message has come back; `None` if none was under way.
    pub fn land(&mut self, now_ns: u64) -> Option<Landed> {
        let landed = self.look(self.landed, now_ns)?;
        self.landed += 1;
        Some(landed)
    }

    /// Message `number`, as seen by one of several who receive it; `None` if it is not under way.
    pub fn look(&self, number: u64, now_ns: u64) -> Option<Landed> {
        if !(self.landed..self.sent).contains(&number) {
            return None;
        }
        let sent_at_ns = self.sent_at_ns[self.slot(number)];
        let number = usize::try_from(number).ok()?;
        Some(Landed { number, latency_ns: now_ns.saturating_sub(sent_at_ns) })
    }

    /// How many were sent so far: the number of the next.
    pub fn sent(&self) -> usize {
        usize::try_from(self.sent).unwrap_or(usize::MAX)
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        usize::try_from(self.sent - self.landed).unwrap_or(usize::MAX)
    }

    #[allow(clippy::cast_possible_truncation)] // Modulo the length of a slice.
    fn slot(&self, number: u64) -> usize {
        (number % self.sent_at_ns.len() as u64) as usize
    }
}
