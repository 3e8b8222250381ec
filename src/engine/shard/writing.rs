//! How what is queued gets to the sockets: with the flush that ends a batch, or ahead of it.

use crate::engine::handle::Handle;
use crate::protocol::MessageBuffer;

use super::{Shard, Stage, find};

/// For how many something must wait so that [`Ring`](crate::engine::ring::Ring) pays: of four it
/// takes as long as one by one.
const FEWEST_TOGETHER: usize = 8;

impl<B: MessageBuffer> Shard<B> {
    /// Send what is queued: one write for each connection that has something.
    pub fn flush(&mut self) {
        self.unflushed = 0;
        self.settle_dirty();
        self.watch_memory();
        // Those who may be read again because of that.
        self.settle_dirty();
        if self.is_in_round() || self.has_queued() {
            self.wake();
        }
    }

    fn settle_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        self.write_together(&dirty);
        for handle in dirty.drain(..) {
            if let Some(connection) = self.connection(handle) {
                connection.dirty = false;
                self.settle(handle.slot());
            }
        }
        if self.dirty.is_empty() {
            // Its memory is needed for the next batch.
            self.dirty = dirty;
        }
    }

    /// Send little to each of many with few system calls. What is left is for those who write to
    /// one after the other, as is what follows from its being sent.
    fn write_together(&mut self, handles: &[Handle]) {
        if handles.len() < FEWEST_TOGETHER || !self.settings.io_uring {
            return;
        }
        let Some(mut queue) = self.ring.take() else { return };
        let mut handles = handles.iter();
        while handles.len() > 0 {
            while queue.has_room()
                && let Some(&handle) = handles.next()
            {
                if let Some(connection) = self.connection(handle) {
                    connection.join(&mut queue);
                }
            }
            let made = queue.send(|key, count| {
                let handle = Handle::from_bits(key);
                if let Some(connection) = find(&mut self.connections, handle) {
                    connection.note_sent(count, &self.settings, self.now);
                    self.counters.bytes_sent += count as u64;
                    self.counters.writes_together += 1;
                }
            });
            if made.is_err() {
                return;
            }
        }
        self.ring.put_back(queue);
    }

    /// Send what waits, and watch for what is needed next.
    pub(super) fn settle(&mut self, slot: u32) {
        let Some(mut connection) = self.connections.get_mut(slot as usize) else { return };
        if !connection.is_open() && !connection.is_farewell_held {
            connection.say_farewell();
            if !connection.is_reachable() {
                self.leave_topics(slot);
            }
            let Some(again) = self.connections.get_mut(slot as usize) else { return };
            connection = again;
        }
        if connection.undecided_key().is_none() {
            match connection.write(&self.settings, self.now) {
                Ok(count) => self.counters.bytes_sent += count as u64,
                Err(_) if Stage::of(connection) == Stage::Ending => return self.remove(slot),
                // The socket has failed: the poller reports that, and receiving ends it.
                Err(_) => connection.outbox.clear(),
            }
        }
        connection.shut_if_done();
        if connection.restrains {
            self.review_restraint(slot);
        }
        self.recharge(slot);
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let interest = connection.wanted_interest(&self.settings);
        if interest != connection.interest {
            connection.interest = interest;
            if self.poller.modify(&*connection, u64::from(slot), interest).is_err() {
                return self.lose(slot);
            }
        }
        if connection.has_input() {
            self.await_turn(slot);
        }
    }

    /// Write what waits for everyone who is to be flushed, ahead of the flush; a Close that is due
    /// waits for that.
    pub(super) fn write_queued(&mut self) {
        self.unflushed = 0;
        let dirty = std::mem::take(&mut self.dirty);
        self.write_together(&dirty);
        self.dirty = dirty;
        for index in 0..self.dirty.len() {
            let Some(&handle) = self.dirty.get(index) else { break };
            if self.connection(handle).is_some() {
                self.write_early(handle.slot());
            }
        }
    }

    /// Write what waits for a connection, ahead of the flush. A failure is left to that.
    pub(super) fn write_early(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if connection.is_open()
            && let Ok(count) = connection.write(&self.settings, self.now)
        {
            self.counters.bytes_sent += count as u64;
            let restrains = connection.restrains;
            self.recharge(slot);
            if restrains {
                self.review_restraint(slot);
            }
        }
    }
}
