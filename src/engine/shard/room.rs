//! Whether one more message may wait for a client, and what happens where it may not.

use crate::engine::compression::Compressor;
use crate::engine::connection::{Connection, State};
use crate::engine::counters::Counters;
use crate::engine::handle::Handle;
use crate::engine::memory::MUCH_BYTES;
use crate::engine::settings::SlowReader;
use crate::protocol::{CloseCode, MessageBuffer, Refusal};

use super::{News, Shard};

/// What may be queued before the flush that ends a batch; more is written as it comes, so that one
/// batch does not make queues of everything that it causes.
const MAX_UNFLUSHED_BYTES: usize = 16 << 20;

/// The same, for each connection that has something queued, where that is more: what goes out in
/// one write would otherwise need two (fan-out to 10,000 x 16: 2.2 -> 1.0 times Bun).
const UNFLUSHED_BYTES_EACH: usize = 4096;

impl<B: MessageBuffer> Shard<B> {
    /// Queue a message of `len` bytes for a connection, if it is reachable and reads fast enough.
    pub(super) fn enqueue(
        &mut self,
        slot: u32,
        len: usize,
        push: impl FnOnce(&mut Connection<B>, &mut Compressor, &mut Counters),
    ) -> bool {
        if !self.has_room(slot) {
            self.turn_away(slot, len);
            return false;
        }
        let Some(connection) = self.connections.get_mut(slot as usize) else { return false };
        if !connection.is_reachable() {
            return false;
        }
        let before = connection.outbox.held();
        push(connection, &mut self.compressor, &mut self.counters);
        let added = connection.outbox.held() - before;
        connection.charged += added;
        let is_to_wait = self.sender != Handle::NOBODY && connection.is_congested(&self.settings);
        self.memory.recharge(0, added);
        self.counters.messages_sent += 1;
        self.touch(slot);
        self.unflushed += added.max(len);
        if self.unflushed > MAX_UNFLUSHED_BYTES.max(self.queued_count() * UNFLUSHED_BYTES_EACH) {
            self.write_queued();
        }
        self.keep_limit();
        if is_to_wait {
            self.restrain_sender(slot);
        }
        true
    }

    /// Whether fewer bytes wait than the bound; if not, the socket gets a chance first.
    fn has_room(&mut self, slot: u32) -> bool {
        let bound = self.bound();
        self.queues_less(slot, bound) || self.makes_room(slot, bound)
    }

    fn queues_less(&self, slot: u32, bound: usize) -> bool {
        self.connections.get(slot as usize).is_none_or(|c| c.outbox.len() < bound)
    }

    // Apart from the rest, so that that is part of the loop over recipients (make bench-guard,
    // fan-out: 570 -> 552 instructions).
    #[cold]
    fn makes_room(&mut self, slot: u32, bound: usize) -> bool {
        self.write_early(slot);
        self.queues_less(slot, self.stretched(slot, bound))
    }

    /// How much may wait for a client. Where messages are dropped at the bound, none is closed for
    /// it, so that it gives way when memory is short.
    fn bound(&self) -> usize {
        let bound = self.settings.max_send_buffer;
        if self.settings.slow_reader == SlowReader::Drop && self.memory.is_short() {
            return bound.min(MUCH_BYTES);
        }
        bound
    }

    /// There is no room for a message of `len` bytes.
    fn turn_away(&mut self, slot: u32, len: usize) {
        let Some(connection) = self.connections.get(slot as usize) else { return };
        match (&connection.state, self.settings.slow_reader) {
            (State::Open(_), SlowReader::Close) => {
                self.counters.slow_readers += 1;
                self.close_open(slot, CloseCode::SLOW_READER, "reads too slowly");
            }
            (State::Open(_), SlowReader::Drop) => self.drop_message(slot, len),
            // What a hook queues for a client that it is deciding about has a bound, too.
            (State::Deciding(_), _) => {
                self.refuse(slot, &Refusal::new(503, "undecided for too long"));
            }
            (State::Requesting(_) | State::Closing { .. } | State::Lingering { .. }, _) => {}
        }
    }

    fn drop_message(&mut self, slot: u32, len: usize) {
        self.counters.messages_dropped += 1;
        self.counters.message_bytes_dropped += len as u64;
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if connection.begin_dropping() {
            self.news.push(News::Dropping(connection.handle(), connection.outbox.len()));
            self.wake();
        }
    }
}
