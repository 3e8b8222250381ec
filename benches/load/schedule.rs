//! When messages are due in an open loop.

use std::time::Duration;

/// Independent senders, as a Poisson process: what happens to one message delays no other one.
///
/// A message counts from the moment it was due. A server that stalls is thus charged for all that
/// would have been sent meanwhile, and so is a generator that comes late (*coordinated omission* is
/// the name of not doing so).
#[derive(Debug)]
pub struct Schedule {
    mean_gap_ns: f64,
    due_ns: f64,
    random: u64,
}

impl Schedule {
    /// So many messages a second, the first of them soon after `now_ns`.
    pub fn new(per_s: f64, now_ns: u64) -> Self {
        // The same arrivals for every server.
        Self { mean_gap_ns: 1e9 / per_s, due_ns: now_ns as f64, random: 0x9E37_79B9_7F4A_7C15 }
    }

    /// When the next message was due, if that has passed.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A time of this run.
    pub fn next_due(&mut self, now_ns: u64) -> Option<u64> {
        if self.due_ns > now_ns as f64 {
            return None;
        }
        let due_ns = self.due_ns as u64;
        self.due_ns += self.gap_ns();
        Some(due_ns)
    }

    /// How long nothing is to be sent.
    pub fn pause(&self, now_ns: u64) -> Duration {
        Duration::try_from_secs_f64((self.due_ns - now_ns as f64) / 1e9).unwrap_or_default()
    }

    /// Exponentially distributed, from xorshift64.
    fn gap_ns(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let uniform = ((self.random >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
        -uniform.ln() * self.mean_gap_ns
    }
}
