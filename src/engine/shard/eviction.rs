//! Room for newcomers where everything is taken: connections that say nothing make it.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use crate::engine::connection::{Connection, State, Transport};
use crate::engine::handle::Handle;
use crate::engine::outbox::Outbox;
use crate::engine::timers::{Millis, NEVER};
use crate::protocol::handshake::response;
use crate::protocol::{MessageBuffer, Refusal};

use super::{Event, Shard, Stage};

/// How long nobody else can have the place of a connection that has not sent its request. An
/// honest client needs a round trip; without this a rush of them would push each other out.
const GRACE: Millis = 1000;

/// Stale entries of the queue that are kept until looking for them is worth it.
const STALE_ALLOWED: usize = 1024;

impl<B: MessageBuffer> Shard<B> {
    /// Where the limit is reached, end connections that have not sent their request in time.
    pub(super) fn make_room(&mut self, emit: &mut impl FnMut(Event<'_, B>)) {
        while self.census.connections() >= self.settings.max_connections && self.evict(emit) {}
    }

    /// A connection was accepted, and has yet to send its request.
    pub(super) fn queue_for_eviction(&mut self, handle: Handle) {
        if self.requesting.len() > 2 * self.connections.len() + STALE_ALLOWED {
            let connections = &self.connections;
            self.requesting.retain(|handle| {
                let connection = connections.get(handle.slot() as usize);
                connection.is_some_and(|c| c.handle() == *handle && is_requesting(c))
            });
        }
        self.requesting.push_back(handle);
    }

    /// End the one that has waited with its request for longest, if that is long enough. False if
    /// there is none.
    pub(super) fn evict(&mut self, emit: &mut impl FnMut(Event<'_, B>)) -> bool {
        let now = self.now;
        let Some(handle) = self.longest_requesting() else { return false };
        let Some(connection) = self.connection(handle) else { return false };
        let State::Requesting(requesting) = &connection.state else { return false };
        if connection.age(now) < GRACE {
            return false;
        }
        let peer = requesting.origin.peer.clone();
        let refusal = Refusal::new(503, "no request yet, and others wait for the place");
        self.refuse(handle.slot(), &refusal);
        self.settle(handle.slot());
        self.remove(handle.slot()); // at once: lingering would keep the place
        self.counters.handshakes_evicted += 1;
        emit(Event::Refused { peer, refusal });
        true
    }

    /// The descriptors have run out. False where nothing but waiting helps.
    pub(super) fn find_descriptor(
        &mut self,
        listener: usize,
        emit: &mut impl FnMut(Event<'_, B>),
    ) -> bool {
        // While somebody has his second to send a request, waiting is better than to be refused.
        self.evict(emit)
            || (self.longest_requesting().is_none() && self.refuse_unread(listener, emit))
    }

    /// Since when the one that has waited with its request for longest has; never, if there is none.
    pub fn requesting_since(&mut self) -> Millis {
        let now = self.now;
        let handle = self.longest_requesting();
        let connection = handle.and_then(|handle| self.connection(handle));
        connection.map_or(NEVER, |connection| now - connection.age(now))
    }

    fn longest_requesting(&mut self) -> Option<Handle> {
        loop {
            let handle = *self.requesting.front()?;
            if self.connection(handle).is_some_and(|connection| is_requesting(connection)) {
                return Some(handle);
            }
            self.requesting.pop_front();
        }
    }

    /// Tell the next of the backlog that there is no room, with the descriptor that is kept for
    /// this, instead of letting it wait for a descriptor that nobody is about to give back.
    fn refuse_unread(&mut self, listener: usize, emit: &mut impl FnMut(Event<'_, B>)) -> bool {
        let Some(listener) = self.listeners.get(listener) else { return false };
        if self.reserve.take().is_none() {
            return false;
        }
        let accepted = listener.accept();
        let done = match accepted {
            Ok(Some((socket, peer))) => {
                let refusal = Refusal::new(503, "too many open files");
                if self.tls.is_none() {
                    // A client of TLS would take plain text for a broken server.
                    farewell(socket, &refusal);
                }
                self.counters.accepted += 1;
                self.counters.refused += 1;
                self.counters.refused_unread += 1;
                emit(Event::Refused { peer, refusal });
                true
            }
            Ok(None) => true,
            Err(_) => false,
        };
        self.reserve = reserve();
        done
    }
}

fn is_requesting<B>(connection: &Connection<B>) -> bool {
    Stage::of(connection) == Stage::Requesting
}

/// A descriptor to give back when there is no other.
pub(super) fn reserve() -> Option<OwnedFd> {
    UnixDatagram::unbound().ok().map(Into::into)
}

/// Refuse without waiting for the request; what of it is there is taken off the socket, so that
/// closing does not reset what we say.
fn farewell(socket: OwnedFd, refusal: &Refusal) {
    let mut transport = Transport::plain(socket);
    let mut outbox = Outbox::default();
    outbox.push_front(response::refuse(refusal, &[]));
    transport.discard(&mut [0; 16 * 1024]);
    // Where it fails, there is nobody to tell.
    let _ = transport.write(&mut outbox);
    transport.shut();
}
