//! A shard that is one of several: what they count together, and what passes between them.

use std::io;
use std::os::fd::OwnedFd;

use crate::engine::census::Census;
use crate::engine::connection::READ_BUFFER_BYTES;
use crate::engine::handle::{Generations, Handle};
use crate::engine::listener::Address;
use crate::engine::per_ip::PerIp;
use crate::engine::poller::Ready;
use crate::engine::settings::Settings;
use crate::engine::timers::Millis;
use crate::protocol::MessageBuffer;

use super::{Event, FIRST_LISTENER_KEY, Shard};

/// Batches that the caller may have to handle before a shard that is one of several receives no
/// more. While it handles one the next is made.
pub const MAX_UNHANDLED: usize = 2;

/// What a shard has for others, and what it does differently where there are others. Alone it has
/// nothing of it.
#[derive(Debug, Default)]
pub struct Part {
    is_one: bool,
    /// Accepted, and not yet anybody's.
    accepted: Vec<(OwnedFd, Address)>,
    /// What clients of other shards are to know.
    pub(super) restrained: Vec<Restrained>,
    ready: Vec<Ready>,
}

impl Part {
    /// How much a sender of messages of `bound` bytes at most may have sent before it is told that
    /// a recipient is behind. Alone it is told at once, between two messages; among several it has
    /// had a turn in each batch that is on its way, and a turn ends one message and a buffer later.
    pub(super) fn sent_before_told(&self, bound: usize) -> usize {
        if self.is_one {
            bound.saturating_add(READ_BUFFER_BYTES).saturating_mul(MAX_UNHANDLED)
        } else {
            bound
        }
    }
}

/// What becomes of a sender that is another shard's client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restrained {
    /// A recipient is behind: [`Shard::hold_back`].
    Waits(Handle),
    /// It is no longer, or nobody waits for it: [`Shard::let_go`].
    GoesOn(Handle),
}

impl Restrained {
    /// Who is meant.
    pub fn sender(self) -> Handle {
        match self {
            Self::Waits(sender) | Self::GoesOn(sender) => sender,
        }
    }
}

impl<B: MessageBuffer> Shard<B> {
    /// One of several shards, which count together what comes in.
    pub fn one_of_several(
        number: u32,
        census: Census,
        per_ip: PerIp,
        settings: Settings,
        now: Millis,
    ) -> io::Result<Self> {
        let generations = Generations::of_shard(number);
        let mut shard = Self::within(generations, census, per_ip, settings, now)?;
        shard.part.is_one = true;
        Ok(shard)
    }

    /// Connections that were accepted since the last call, each to be [adopted](Self::adopt).
    pub fn take_accepted(&mut self) -> impl Iterator<Item = (OwnedFd, Address)> {
        self.part.accepted.drain(..)
    }

    /// Let a connection that was accepted be this shard's.
    pub fn adopt(&mut self, socket: OwnedFd, peer: Address, mut emit: impl FnMut(Event<'_, B>)) {
        self.admit(socket, peer, &mut emit);
    }

    pub(super) fn take_in(
        &mut self,
        socket: OwnedFd,
        peer: Address,
        emit: &mut impl FnMut(Event<'_, B>),
    ) {
        if self.part.is_one {
            self.part.accepted.push((socket, peer));
        } else {
            self.admit(socket, peer, emit);
        }
    }

    /// What clients of other shards are to know, since the last call.
    pub fn take_restrained(&mut self) -> impl Iterator<Item = Restrained> {
        self.part.restrained.drain(..)
    }

    /// A peer has ended its connection, which was reported: what the caller says to messages that
    /// came before goes first, so our Close waits for [`say_farewell`](Self::say_farewell).
    pub(super) fn hold_farewell(&mut self, slot: u32) {
        if self.part.is_one
            && let Some(connection) = self.connections.get_mut(slot as usize)
        {
            connection.is_farewell_held = true;
        }
    }

    /// The caller has said everything that is to go before the Close of a client.
    pub fn say_farewell(&mut self, handle: Handle) {
        let now = self.now;
        if let Some(connection) = self.connection(handle)
            && std::mem::replace(&mut connection.is_farewell_held, false)
        {
            connection.begin_anew(now);
            self.depart(handle.slot());
        }
    }

    /// What [`poll`](Self::poll) does, but for receiving: the caller is behind.
    pub fn attend(&mut self, now: Millis, mut emit: impl FnMut(Event<'_, B>)) -> io::Result<()> {
        self.now = now;
        self.report_news(&mut emit);
        let mut ready = std::mem::take(&mut self.part.ready);
        self.poller.wait(&mut ready)?;
        for ready in ready.drain(..).filter(|it| it.writable && it.key < FIRST_LISTENER_KEY) {
            #[allow(clippy::cast_possible_truncation)] // Below FIRST_LISTENER_KEY it is a slot.
            self.settle(ready.key as u32);
        }
        self.part.ready = ready;
        self.look_at_the_time(&mut emit);
        Ok(())
    }

    /// Bytes that this shard alone holds because of its peers.
    pub fn memory_held_here(&self) -> usize {
        self.memory.held_here()
    }

    /// Let others hold so much, under the same limit; they are `shards`, with this one.
    pub fn set_memory_of_others(&mut self, bytes: usize, shards: usize) {
        self.memory.set_others(bytes, shards);
    }

    /// Whether over three quarters of the limit are held, or were a while ago.
    pub fn is_short_of_memory(&self) -> bool {
        self.memory.is_short()
    }
}
