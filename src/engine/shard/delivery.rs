//! How messages go out: to one client, to a topic, to everyone.

use crate::engine::compression::{Frame, Publication};
use crate::engine::connection::Connection;
use crate::engine::handle::Handle;
use crate::engine::outbox::{Outgoing, SHARE_FROM_BYTES};
use crate::engine::topics::{Membership, TopicId};
use crate::protocol::{MessageBuffer, Opcode};

use super::{Shard, slot_number};

impl<B: MessageBuffer> Shard<B> {
    /// Queue a message for one client. False if it is gone, closing, or reads too slowly: then it
    /// is closed now, or the message is dropped.
    pub fn send(&mut self, handle: Handle, opcode: Opcode, payload: Outgoing<'_>) -> bool {
        if self.connection(handle).is_none_or(|connection| !connection.is_reachable()) {
            return false;
        }
        self.enqueue_for_one(handle.slot(), opcode, payload)
    }

    /// Queue a message for every subscriber of `topic`; framed once, and compressed once for each
    /// setting that their connections agreed on. Returns for how many.
    pub fn publish(&mut self, topic: &str, opcode: Opcode, payload: &[u8]) -> usize {
        self.topics.find(topic).map_or(0, |topic| self.publish_in(topic, opcode, payload))
    }

    /// [`publish`](Self::publish) the text that messages in this topic begin with, and behind it
    /// these parts. `None` where it was not [said](Self::open_topic) what that is: nothing is
    /// published, and nobody may hear it.
    pub fn publish_spliced(&mut self, topic: &str, [data, end]: [&[u8]; 2]) -> Option<usize> {
        let topic = self.topics.find(topic)?;
        let opening = self.topics.opening(topic)?;
        let message = self.splicer.splice(&[opening, data, end]);
        let count = self.publish_in(topic, Opcode::Text, &message);
        self.splicer.take_back(message);
        Some(count)
    }

    /// Say what messages in a topic begin with, as long as it has a subscriber. False where it has
    /// none.
    pub fn open_topic(&mut self, topic: &str, opening: &[u8]) -> bool {
        self.topics.open(topic, opening)
    }

    fn publish_in(&mut self, topic: TopicId, opcode: Opcode, payload: &[u8]) -> usize {
        match *self.topics.subscribers_of(topic) {
            [] => 0,
            // Copied behind its neighbours a small frame costs less than as one to be shared
            // (benches/load.py, mode channel: 1.35 -> 1.21 µs; with 1,000 subscribers it would
            // cost more, mode fanout: 0.51 -> 0.58 µs).
            [slot] if payload.len() < SHARE_FROM_BYTES => {
                usize::from(self.enqueue_for_one(slot, opcode, Outgoing::Copy(payload)))
            }
            ref slots => {
                // The list may change while slow readers are closed.
                let slots = slots.to_vec();
                let publication = Publication::new(opcode, payload, self.memory.meter());
                self.enqueue_for_each(slots, publication)
            }
        }
    }

    /// [`publish`](Self::publish) a message that was framed for several shards.
    pub fn publish_frame(&mut self, topic: &str, frame: &Frame) {
        match *self.topics.subscribers(topic) {
            // As above.
            [slot] if frame.payload().len() < SHARE_FROM_BYTES && !frame.may_be_compressed() => {
                self.enqueue_for_one(slot, frame.opcode(), Outgoing::Copy(frame.payload()));
            }
            ref slots => {
                let slots = slots.to_vec();
                let publication = Publication::of(frame, self.memory.meter());
                self.enqueue_for_each(slots, publication);
            }
        }
    }

    fn enqueue_for_each(&mut self, slots: Vec<u32>, mut publication: Publication<'_>) -> usize {
        slots.into_iter().filter(|slot| self.enqueue_shared(*slot, &mut publication)).count()
    }

    /// Queue a message for these clients; framed and compressed once, as by
    /// [`publish`](Self::publish). Returns for how many.
    pub fn send_each(&mut self, handles: &[Handle], opcode: Opcode, payload: &[u8]) -> usize {
        match *handles {
            [] => 0,
            [one] if payload.len() < SHARE_FROM_BYTES => {
                usize::from(self.send(one, opcode, Outgoing::Copy(payload)))
            }
            _ => {
                let publication = Publication::new(opcode, payload, self.memory.meter());
                self.enqueue_for_these(handles, publication)
            }
        }
    }

    /// [`send_each`](Self::send_each) with a message that was framed for several shards.
    pub fn send_frame(&mut self, handles: &[Handle], frame: &Frame) {
        let publication = Publication::of(frame, self.memory.meter());
        self.enqueue_for_these(handles, publication);
    }

    fn enqueue_for_these(&mut self, handles: &[Handle], mut publication: Publication<'_>) -> usize {
        let mut count = 0;
        for handle in handles {
            // Asked one by one: sending to one may close another.
            if self.connection(*handle).is_some_and(|c| c.is_reachable()) {
                count += usize::from(self.enqueue_shared(handle.slot(), &mut publication));
            }
        }
        count
    }

    /// Queue a message for every open connection; framed and compressed once, as by
    /// [`publish`](Self::publish). Returns for how many.
    pub fn broadcast(&mut self, opcode: Opcode, payload: &[u8]) -> usize {
        self.broadcast_from(0, usize::MAX, opcode, payload).0
    }

    /// Queue a message for at most `most` open connections from slot `first` on.
    ///
    /// Returns how many it was queued for, and the slot to go on from, if any is left.
    pub fn broadcast_from(
        &mut self,
        first: u32,
        most: usize,
        opcode: Opcode,
        payload: &[u8],
    ) -> (usize, Option<u32>) {
        let publication = Publication::new(opcode, payload, self.memory.meter());
        self.enqueue_from(first, most, publication)
    }

    /// [`broadcast`](Self::broadcast) a message that was framed for several shards.
    pub fn broadcast_frame(&mut self, frame: &Frame) {
        let publication = Publication::of(frame, self.memory.meter());
        self.enqueue_from(0, usize::MAX, publication);
    }

    fn enqueue_from(
        &mut self,
        first: u32,
        most: usize,
        mut publication: Publication<'_>,
    ) -> (usize, Option<u32>) {
        let end = slot_number(self.connections.capacity());
        let mut count = 0;
        for slot in first..end {
            let there = self.connections.get(slot as usize);
            if !there.is_some_and(Connection::is_accepted) {
                continue;
            }
            if count == most {
                return (count, Some(slot));
            }
            count += usize::from(self.enqueue_shared(slot, &mut publication));
        }
        (count, None)
    }

    /// Let a client hear `topic`. False if it is gone or already does.
    pub fn subscribe(&mut self, handle: Handle, topic: &str) -> bool {
        let reachable = self.connection(handle).is_some_and(|c| c.is_reachable());
        reachable && self.topics.subscribe(&mut self.connections, handle.slot(), topic)
    }

    /// Let a client no longer hear `topic`. False if it did not.
    pub fn unsubscribe(&mut self, handle: Handle, topic: &str) -> bool {
        self.connection(handle).is_some()
            && self.topics.unsubscribe(&mut self.connections, handle.slot(), topic)
    }

    /// Whether a client hears `topic`.
    pub fn hears(&self, handle: Handle, topic: &str) -> bool {
        self.memberships(handle).is_some_and(|all| self.topics.hears(all, topic))
    }

    /// The topics that a client hears.
    pub fn topics_of(&self, handle: Handle) -> impl Iterator<Item = &str> {
        self.topics.names(self.memberships(handle).unwrap_or_default())
    }

    /// How many topics a client hears.
    pub fn topic_count(&self, handle: Handle) -> usize {
        self.memberships(handle).map_or(0, <[Membership]>::len)
    }

    /// How many topics have a subscriber.
    pub fn topic_total(&self) -> usize {
        self.topics.len()
    }

    /// Whether a topic has a subscriber.
    pub fn has_topic(&self, topic: &str) -> bool {
        self.topics.contains(topic)
    }

    /// Every topic that has a subscriber, with the number of them.
    pub fn topics(&self) -> impl Iterator<Item = (&str, usize)> {
        self.topics.iter()
    }

    /// Who hears `topic`.
    pub fn subscribers(&self, topic: &str) -> impl Iterator<Item = Handle> {
        let slots = self.topics.subscribers(topic).iter();
        slots.filter_map(|slot| self.connections.get(*slot as usize)).map(Connection::handle)
    }

    /// How many hear `topic`.
    pub fn subscriber_count(&self, topic: &str) -> usize {
        self.topics.subscribers(topic).len()
    }

    /// Bytes that wait for a client; 0 if it is gone.
    pub fn queued_bytes(&self, handle: Handle) -> usize {
        let connection = self.connections.get(handle.slot() as usize);
        connection.filter(|c| c.handle() == handle).map_or(0, |c| c.outbox.len())
    }

    fn enqueue_for_one(&mut self, slot: u32, opcode: Opcode, payload: Outgoing<'_>) -> bool {
        self.enqueue(slot, payload.len(), |connection, compressor, counters| {
            compressor.queue(connection.way_out(), opcode, payload, counters);
        })
    }

    fn enqueue_shared(&mut self, slot: u32, publication: &mut Publication<'_>) -> bool {
        self.enqueue(slot, publication.len(), |connection, compressor, counters| {
            publication.queue(connection.way_out(), compressor, counters);
        })
    }

    fn memberships(&self, handle: Handle) -> Option<&[Membership]> {
        let connection = self.connections.get(handle.slot() as usize)?;
        (connection.handle() == handle).then_some(connection.memberships.as_slice())
    }
}
