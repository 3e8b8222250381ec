//! What happens when memory is short: who waits, and who has to go.

use crate::engine::connection::State;
use crate::protocol::{CloseCode, MessageBuffer, Refusal};

use super::{News, Shard, Stage, find, slot_number};

/// What whoever has to go is told.
const SHORT_OF_MEMORY: &str = "the server is short of memory";

impl<B: MessageBuffer> Shard<B> {
    /// Bytes that this shard holds because of its peers: queues, each shared frame once, messages
    /// under way, what is received and not decoded, requests, and a constant for each connection.
    pub fn memory_held(&self) -> usize {
        self.memory.held()
    }

    /// Charge a connection for what it holds now.
    pub(super) fn recharge(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let held = connection.held();
        let before = std::mem::replace(&mut connection.charged, held);
        self.memory.recharge(before, held);
    }

    /// Whether a connection holds so much that it is not read while memory is short; it is
    /// remembered, and read again as soon as memory is not.
    pub(super) fn must_wait(&mut self, slot: u32) -> bool {
        if !self.memory.is_short() {
            return false;
        }
        let Some(connection) = self.connections.get_mut(slot as usize) else { return false };
        if !connection.is_open() || !connection.holds_much() {
            return false;
        }
        if !connection.is_starved() {
            connection.starve(self.now);
            self.starved.push(connection.handle());
            self.counters.memory_pauses += 1;
            self.arm(slot);
            self.touch(slot);
        }
        true
    }

    /// End a shortage that has lasted too long.
    pub(super) fn end_long_shortage(&mut self) {
        if self.memory.patient_until().is_some_and(|until| until <= self.now) {
            self.shed(self.memory.excess_over_well());
            self.memory.be_patient_again(self.now);
        }
        self.watch_memory();
    }

    /// Notice that memory is short, or ample again.
    pub(super) fn watch_memory(&mut self) {
        match self.memory.look(self.now) {
            Some(true) => {
                self.counters.memory_shortages += 1;
                self.news.push(News::MemoryShort(self.memory.held()));
                self.wake();
            }
            Some(false) => {
                self.feed_starved();
                self.news.push(News::MemoryAmple(self.memory.held()));
                self.wake();
            }
            None => {}
        }
    }

    /// See to it that no more is held than the limit: what is queued gets a chance to leave
    /// first, then those who hold most are closed.
    pub(super) fn keep_limit(&mut self) {
        if !self.memory.is_exhausted() {
            return;
        }
        self.write_queued();
        if self.memory.is_exhausted() {
            self.watch_memory();
            self.shed(self.memory.excess_over_limit());
        }
    }

    /// Close connections until `excess` bytes are given back: first those that are closing anyway,
    /// then those that hold most.
    fn shed(&mut self, excess: usize) {
        if excess == 0 {
            return;
        }
        let mut holders: Vec<(bool, usize, u32)> = self
            .connections
            .iter()
            .map(|(slot, connection)| (connection, slot_number(slot)))
            .filter(|(connection, _)| connection.burden() > 0)
            .map(|(connection, slot)| {
                (Stage::of(connection) == Stage::Ending, connection.burden(), slot)
            })
            .collect();
        holders.sort_unstable();
        let aim = self.memory.held().saturating_sub(excess);
        while self.memory.held() > aim
            && let Some((_, _, slot)) = holders.pop()
        {
            self.give_up(slot);
        }
    }

    /// End a connection so that what it holds is free at once.
    fn give_up(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        self.counters.closed_for_memory += 1;
        match &connection.state {
            State::Requesting(_) | State::Deciding(_) => {
                self.refuse(slot, &Refusal::new(503, SHORT_OF_MEMORY));
            }
            State::Open(_) if connection.outbox.is_empty() => {
                self.close_open(slot, CloseCode::SLOW_READER, SHORT_OF_MEMORY);
                if let Some(connection) = self.connections.get_mut(slot as usize) {
                    connection.forget_input();
                }
            }
            // A Close would wait behind its queue, which may begin in the middle of a frame.
            State::Open(_) => {
                self.close_open(slot, CloseCode::SLOW_READER, SHORT_OF_MEMORY);
                return self.remove(slot);
            }
            State::Closing { .. } | State::Lingering { .. } => return self.remove(slot),
        }
        self.recharge(slot);
    }

    /// Memory is ample again: read everybody.
    fn feed_starved(&mut self) {
        for handle in std::mem::take(&mut self.starved) {
            let Some(connection) = find(&mut self.connections, handle) else { continue };
            connection.feed(&self.settings, self.now);
            self.resume(handle);
        }
    }
}
