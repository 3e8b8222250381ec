//! Other settings while connections are there.

use crate::engine::per_ip::PerIp;
use crate::engine::settings::Settings;
use crate::engine::timers::Millis;
use crate::protocol::MessageBuffer;

use super::{Shard, slot_number};

impl<B: MessageBuffer> Shard<B> {
    /// What bounds it now.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Replace the settings. They hold for everybody at once, but nobody is cut off for it: who is
    /// over a lower limit stays (but for that of memory, which is kept), and a silence that nobody
    /// would have asked about until now counts from now on.
    pub fn configure(&mut self, settings: Settings) {
        let before = std::mem::replace(&mut self.settings, settings);
        let settings = self.settings.clone();
        if (before.ping_interval, before.ping_timeout)
            != (settings.ping_interval, settings.ping_timeout)
        {
            self.excuse_silence();
        }
        if before.compression != settings.compression {
            self.compressor.configure(settings.compression);
        }
        if (before.max_connections_per_ip == 0) != (settings.max_connections_per_ip == 0)
            && !self.per_ip.are_kept_always()
        {
            self.count_addresses();
        }
        self.memory.set_limit(settings.max_memory);
        for (_, connection) in &mut self.connections {
            connection.reconfigure(&before, &self.settings, self.now);
        }
        let slots: Vec<u32> = self.connections.iter().map(|(slot, _)| slot_number(slot)).collect();
        for slot in slots {
            self.arm(slot);
        }
    }

    /// Let each client have the time between a Ping and the ping timeout. Those who have been
    /// silent for longer than the interval are pinged at different times, within one interval.
    fn excuse_silence(&mut self) {
        let (now, interval) = (self.now, self.settings.ping_interval);
        for (slot, connection) in &mut self.connections {
            connection.excuse_silence(now.saturating_sub(spread(slot, interval)));
        }
    }

    /// Only where there is a limit for one address is it known how many come from each.
    fn count_addresses(&mut self) {
        self.per_ip = PerIp::default();
        for (_, connection) in &self.connections {
            self.per_ip.enter(connection.ip, &self.settings);
        }
    }
}

/// A time below `period` that differs from slot to slot (Knuth's multiplicative hash).
fn spread(slot: usize, period: Millis) -> Millis {
    u64::from(slot_number(slot).wrapping_mul(2_654_435_769)).checked_rem(period).unwrap_or(0)
}
