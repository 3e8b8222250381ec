//! How often the peer of one connection may do something.

use crate::engine::rate::Bucket;
use crate::engine::settings::Settings;
use crate::engine::timers::Millis;

/// A peer that sends too many messages is told so once in this time.
const TELL_INTERVAL: Millis = 1000;

/// What becomes of a message, as far as their number is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is passed on.
    Welcome,
    /// It is refused, and the peer is to be told.
    TooMany,
    /// It is refused in silence: the peer knows.
    StillTooMany,
    /// As many as the peer may send were refused: it does not listen.
    Hopeless,
}

/// What one peer may still send.
#[derive(Debug)]
pub struct Allowance {
    control: Bucket,
    messages: Bucket,
    refusals: Bucket,
    tell_at: Millis,
}

impl Allowance {
    /// All that `settings` allow.
    pub fn new(settings: &Settings, now: Millis) -> Self {
        Self {
            control: Bucket::full(settings.control_rate, now),
            messages: Bucket::full(settings.message_rate, now),
            refusals: Bucket::full(settings.message_rate, now),
            tell_at: 0,
        }
    }

    /// Begin anew where another rate holds from now on.
    pub fn renew(&mut self, before: &Settings, settings: &Settings, now: Millis) {
        if before.control_rate != settings.control_rate {
            self.control = Bucket::full(settings.control_rate, now);
        }
        if before.message_rate != settings.message_rate {
            self.messages = Bucket::full(settings.message_rate, now);
            self.refusals = Bucket::full(settings.message_rate, now);
        }
    }

    /// Whether the peer may send this Ping or Pong.
    pub fn take_control(&mut self, settings: &Settings, now: Millis) -> bool {
        self.control.take(settings.control_rate, now)
    }

    /// Judge a message.
    pub fn take_message(&mut self, settings: &Settings, now: Millis) -> Verdict {
        let rate = settings.message_rate;
        if self.messages.take(rate, now) {
            Verdict::Welcome
        } else if !self.refusals.take(rate, now) {
            Verdict::Hopeless
        } else if now < self.tell_at {
            Verdict::StillTooMany
        } else {
            self.tell_at = now + TELL_INTERVAL;
            Verdict::TooMany
        }
    }

    /// The peer was not received from since then: what it sent meanwhile comes at once.
    pub fn excuse(&mut self, settings: &Settings, since: Millis, now: Millis) {
        self.control.excuse(settings.control_rate, since, now);
        self.messages.excuse(settings.message_rate, since, now);
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::rate::Rate;

    use super::*;

    #[test]
    fn a_flood_is_refused_told_once_a_second_and_then_hopeless() {
        let settings = Settings { message_rate: Rate::new(1.0, 3), ..Settings::default() };
        let mut allowance = Allowance::new(&settings, 0);
        let verdicts: Vec<_> = (0..7).map(|_| allowance.take_message(&settings, 0)).collect();
        let (yes, no) = ([Verdict::Welcome; 3], [Verdict::StillTooMany; 2]);
        assert_eq!(verdicts[..3], yes);
        assert_eq!(verdicts[3], Verdict::TooMany);
        assert_eq!(verdicts[4..6], no);
        assert_eq!(verdicts[6], Verdict::Hopeless);
    }

    #[test]
    fn a_peer_a_little_over_its_rate_is_told_and_not_given_up() {
        let settings = Settings { message_rate: Rate::new(10.0, 10), ..Settings::default() };
        let mut allowance = Allowance::new(&settings, 0);
        // 15 a second, for 100 seconds.
        let verdicts: Vec<_> =
            (0..1500).map(|n| allowance.take_message(&settings, n * 1000 / 15)).collect();
        let count = |what| verdicts.iter().filter(|verdict| **verdict == what).count();
        assert!((1000..=1010).contains(&count(Verdict::Welcome)));
        assert!((90..=100).contains(&count(Verdict::TooMany)), "{}", count(Verdict::TooMany));
        assert_eq!(count(Verdict::Hopeless), 0);
    }
}
