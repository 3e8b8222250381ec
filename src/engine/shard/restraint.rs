//! Who publishes waits for those who read, for a while.
//!
//! A recipient that is behind holds those back that send to it: they are not read until its queue
//! has drained. It must read meanwhile: one that stalls, or takes too long, holds nobody back, and
//! meets the bound of its queue. Nobody waits for itself: who does not read what it causes is not
//! read while its own queue is half full, anyway.

use std::collections::HashSet;

use crate::engine::handle::Handle;
use crate::engine::timers::{Millis, NEVER};
use crate::protocol::MessageBuffer;

use super::{Restrained, Shard, find};

/// A recipient whose socket has taken nothing for so long has stalled.
const STALLED_AFTER: Millis = 500;

/// The longest that a recipient holds others back before its queue has drained once.
const MOST: Millis = 3000;

/// How often it is looked for those that have stalled, at most, once one was due.
const LOOK_INTERVAL: Millis = 50;

/// How many times its bound may wait for a recipient that holds senders back, beside what each of
/// them [had sent](super::Part::sent_before_told) when it was stopped.
const OVERSHOOT: usize = 4;

/// A recipient that is behind, and those who wait for it.
#[derive(Debug)]
pub struct Restraint {
    since: Millis,
    /// Nobody waits for it any more: it has stalled, or taken too long.
    given_up: bool,
    senders: HashSet<Handle>,
}

impl Restraint {
    fn new(now: Millis) -> Self {
        Self { since: now, given_up: false, senders: HashSet::new() }
    }

    /// When it is given up, if its socket takes nothing more; `taken_at` is when it did last.
    fn until(&self, taken_at: Millis) -> Millis {
        if self.given_up {
            return NEVER;
        }
        (taken_at + STALLED_AFTER).min(self.since + MOST)
    }

    fn give_up(&mut self) -> HashSet<Handle> {
        self.given_up = true;
        std::mem::take(&mut self.senders)
    }
}

impl<B: MessageBuffer> Shard<B> {
    /// Queue something that `sender` has caused. It is not read for a while if those it goes to
    /// are behind although they read.
    pub fn because_of<T>(&mut self, sender: Handle, queue: impl FnOnce(&mut Self) -> T) -> T {
        self.sender = sender;
        let result = queue(self);
        self.sender = Handle::NOBODY;
        result
    }

    /// When the next recipient that holds others back may have stalled.
    pub(super) fn restraint_ends_at(&self) -> Option<Millis> {
        (self.restraints_due != NEVER).then_some(self.restraints_due)
    }

    /// Something was queued for a recipient that is behind: the sender is to wait for it.
    #[cold]
    pub(super) fn restrain_sender(&mut self, slot: u32) {
        let sender = self.sender;
        let is_foreign = self.generations.are_foreign_to(sender);
        let is_here = is_foreign || self.connection(sender).is_some_and(|sender| sender.is_open());
        if !is_here || !self.is_another_behind(slot) || !self.may_hold_back(slot) {
            return;
        }
        self.write_early(slot);
        if !self.is_another_behind(slot) {
            return;
        }
        let now = self.now;
        let Some(recipient) = self.connections.get_mut(slot as usize) else { return };
        recipient.restrains = true;
        let restraint = self.restraints.entry(slot).or_insert_with(|| Restraint::new(now));
        let until = restraint.until(recipient.taken_at());
        if until <= now {
            // It has read nothing for so long already: it need not hold anybody back for that.
            self.counters.readers_given_up += 1;
            let freed = restraint.give_up();
            return self.release(freed);
        }
        restraint.senders.insert(sender);
        self.restraints_due = self.restraints_due.min(until);
        if is_foreign {
            return self.part.restrained.push(Restrained::Waits(sender));
        }
        self.hold_back(sender);
    }

    /// One more recipient of what this client has sent is behind: it is not read.
    pub fn hold_back(&mut self, sender: Handle) {
        let now = self.now;
        let Some(publisher) = self.connection(sender) else { return };
        if publisher.wait_for_one_more(now) {
            self.counters.publishers_restrained += 1;
            self.arm(sender.slot());
            self.touch(sender.slot());
        }
    }

    /// One of them is no longer, or nobody waits for it.
    pub fn let_go(&mut self, sender: Handle) {
        if let Some(publisher) = find(&mut self.connections, sender)
            && publisher.wait_for_one_less(&self.settings, self.now)
        {
            self.resume(sender);
        }
    }

    fn is_another_behind(&self, slot: u32) -> bool {
        let recipient = self.connections.get(slot as usize);
        recipient.is_some_and(|recipient| {
            recipient.is_open()
                && recipient.handle() != self.sender
                && recipient.is_congested(&self.settings)
        })
    }

    /// Whether the present sender does not wait for a recipient yet, which was not given up.
    fn may_hold_back(&self, slot: u32) -> bool {
        let restraint = self.restraints.get(&slot);
        restraint.is_none_or(|it| !it.given_up && !it.senders.contains(&self.sender))
    }

    /// A recipient's queue was written, or its connection has ended: is it still behind?
    pub(super) fn review_restraint(&mut self, slot: u32) {
        let drained = self.settings.max_send_buffer / 4;
        let connection = self.connections.get_mut(slot as usize);
        if connection.as_ref().is_some_and(|it| it.is_open() && it.outbox.len() > drained) {
            return;
        }
        if let Some(connection) = connection {
            connection.restrains = false;
        }
        if let Some(restraint) = self.restraints.remove(&slot) {
            if self.restraints.is_empty() {
                self.restraints_due = NEVER;
            }
            self.release(restraint.senders);
        }
    }

    /// How much may wait for a recipient of what the present sender has caused, where `bound` may
    /// otherwise: while it holds others back, what they had sent already is not held against it.
    pub(super) fn stretched(&self, slot: u32, bound: usize) -> usize {
        match self.restraints.get(&slot) {
            Some(restraint) if self.sender != Handle::NOBODY && !restraint.given_up => {
                let each = self.part.sent_before_told(bound);
                let sent = each.saturating_mul(restraint.senders.len());
                bound.saturating_mul(OVERSHOOT).saturating_add(sent)
            }
            _ => bound,
        }
    }

    /// Let nobody wait for recipients that have stalled, or that take too long.
    pub(super) fn give_up_on_the_stalled(&mut self) {
        if self.now < self.restraints_due {
            return;
        }
        let slots: Vec<u32> = self.restraints.keys().copied().collect();
        let mut next = NEVER;
        for slot in slots {
            if self.given_up_at(slot) <= self.now {
                // The poller tells of room only where a third of the socket's buffer is free.
                self.write_early(slot);
            }
            if self.given_up_at(slot) <= self.now
                && let Some(restraint) = self.restraints.get_mut(&slot)
            {
                self.counters.readers_given_up += 1;
                let freed = restraint.give_up();
                self.release(freed);
            }
            next = next.min(self.given_up_at(slot));
        }
        self.restraints_due = next.max(self.now + LOOK_INTERVAL);
    }

    fn given_up_at(&self, slot: u32) -> Millis {
        let recipient = self.connections.get(slot as usize);
        let restraint = self.restraints.get(&slot);
        restraint.zip(recipient).map_or(NEVER, |(it, recipient)| it.until(recipient.taken_at()))
    }

    fn release(&mut self, senders: HashSet<Handle>) {
        for sender in senders {
            if self.generations.are_foreign_to(sender) {
                self.part.restrained.push(Restrained::GoesOn(sender));
            } else {
                self.let_go(sender);
            }
        }
    }
}
