//! Whose turn it is: sockets that are ready, and connections with a backlog, one after the other.

use std::io;

use crate::engine::poller::Ready;
use crate::engine::work;
use crate::protocol::MessageBuffer;

use super::{Event, FIRST_LISTENER_KEY, Shard};

/// How much is to be done at a time. The caller, who has a clock, sets it by what the last work
/// took; a unit is about what a frame costs, and a message of one frame is two.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Units of work in one call of [`Shard::poll`] or [`Shard::go_on`].
    pub slice: u64,
    /// Units of work in a round, as far as turns can be made so short.
    pub round: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { slice: 512, round: 8192 }
    }
}

/// Work for one peer in one turn, whatever the pace: 64 messages. The next one is its neighbours'.
const MAX_SHARE: u64 = 128;

/// And so much it may cause in any case, 4 messages: a turn has costs of its own.
const MIN_SHARE: u64 = 8;

/// The turns that are left in this round, and how long they may be.
#[derive(Debug, Default)]
pub struct Round {
    turns: Vec<Ready>,
    /// The next one.
    next: usize,
    /// Work for one peer in one turn.
    share: u64,
    /// Which round this is.
    number: u32,
    /// Units of work done since the shard was made.
    done: u64,
}

impl Round {
    /// Whether no turn is left.
    pub fn is_over(&self) -> bool {
        self.next >= self.turns.len()
    }

    /// Work for one peer in one turn.
    pub fn share(&self) -> u64 {
        self.share
    }

    /// Which round this is.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Count work that was done.
    pub fn note(&mut self, units: u64) {
        self.done += units;
    }

    fn begin(&mut self, pace: Pace) {
        self.next = 0;
        self.number = self.number.wrapping_add(1);
        let fair = pace.round / (self.turns.len() as u64).max(1);
        self.share = fair.min(pace.slice).clamp(MIN_SHARE, MAX_SHARE);
    }

    fn take(&mut self) -> Option<Ready> {
        let ready = self.turns.get(self.next).copied();
        self.next += 1;
        ready
    }
}

impl<B: MessageBuffer> Shard<B> {
    /// Do as much at a time as this says.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Units of work done since the shard was made.
    pub fn work_done(&self) -> u64 {
        self.round.done
    }

    /// Whether turns are left in the round that [`poll`](Self::poll) has begun.
    pub fn is_in_round(&self) -> bool {
        !self.round.is_over()
    }

    /// Whether connections wait for their turn in the next round with what they have sent already.
    pub fn has_backlogs(&self) -> bool {
        !self.backlogs.is_empty()
    }

    /// Do the next slice of the round, or of one of backlogs alone where that is over, within the
    /// batch that [`poll`](Self::poll) has begun.
    pub fn go_on(&mut self, mut emit: impl FnMut(Event<'_, B>)) {
        if self.round.is_over() {
            self.round.turns.clear();
            self.begin_round_of_backlogs();
        }
        self.work(&mut emit);
    }

    /// Everybody who is ready, or has a backlog, gets one turn.
    pub(super) fn begin_round(&mut self) -> io::Result<()> {
        self.round.turns.clear();
        self.round.next = 0;
        self.poller.wait(&mut self.round.turns)?;
        self.begin_round_of_backlogs();
        Ok(())
    }

    fn begin_round_of_backlogs(&mut self) {
        for handle in std::mem::take(&mut self.backlogs) {
            let Some(connection) = self.connection(handle) else { continue };
            connection.awaits_turn = false;
            let key = u64::from(handle.slot());
            let ready = Ready { key, readable: true, writable: false, hung_up: false };
            self.round.turns.push(ready);
        }
        self.round.begin(self.pace);
    }

    /// Let some have their turn.
    pub(super) fn work(&mut self, emit: &mut impl FnMut(Event<'_, B>)) {
        let enough = self.round.done + self.pace.slice;
        while self.round.done < enough
            && let Some(ready) = self.round.take()
        {
            self.round.done += work::TURN;
            self.on_ready(ready, emit);
        }
    }

    fn on_ready(&mut self, ready: Ready, emit: &mut impl FnMut(Event<'_, B>)) {
        if ready.key >= FIRST_LISTENER_KEY {
            return self.accept_some(ready.key, emit);
        }
        #[allow(clippy::cast_possible_truncation)] // Below FIRST_LISTENER_KEY it is a slot.
        let slot = ready.key as u32;
        if ready.writable {
            self.settle(slot);
        }
        if ready.readable {
            self.receive(slot, ready.hung_up, emit);
        }
    }

    /// Let a connection with a backlog have a turn in the next round.
    pub(super) fn await_turn(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if !connection.awaits_turn && connection.has_backlog(&self.settings) {
            connection.awaits_turn = true;
            self.backlogs.push(connection.handle());
            self.wake();
        }
    }
}
