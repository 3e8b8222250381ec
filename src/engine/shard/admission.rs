//! How connections come in: listeners, limits, and the caller's decision.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::engine::connection::{Connection, Requesting, Transport, WIRE_BUFFER_BYTES};
use crate::engine::full::{Full, Room};
use crate::engine::handle::Handle;
use crate::engine::listener::{Address, ListenError, Listener};
use crate::engine::poller::Interest;
use crate::engine::timers::Millis;
use crate::engine::tls::TlsSettings;
use crate::engine::trust::Origin;
use crate::engine::work;
use crate::protocol::handshake::{HeaderLine, RequestReader, response};
use crate::protocol::{MessageBuffer, Refusal, proxy};

use super::{Accepting, Event, FIRST_LISTENER_KEY, Shard, eviction, find, slot_number};

/// Connections accepted from one listener in one poll.
const MAX_ACCEPTS: usize = 256;

/// Connections over the limit that are kept long enough to be told 503; beyond, they are aborted.
const MAX_OVER_LIMIT: usize = 64;

/// How long accepting rests when descriptors or memory have run out, or the listener fails.
const ACCEPT_PAUSE: Millis = 250;

impl<B: MessageBuffer> Shard<B> {
    /// Accept connections on `host` and `port` too; see [`Listener::bind`].
    pub fn listen(&mut self, host: &str, port: u16, backlog: i32) -> Result<(), ListenError> {
        Listener::bind(host, port, backlog)?.into_iter().try_for_each(|one| self.listen_on(one))
    }

    /// Accept connections from this listener too.
    pub fn listen_on(&mut self, listener: Listener) -> Result<(), ListenError> {
        self.watch(&listener, self.listeners.len()).map_err(|e| listener.failed(e))?;
        self.listeners.push(listener);
        Ok(())
    }

    /// Speak TLS with whoever connects from now on, or none. Connections that are there keep what
    /// they have.
    pub fn use_tls(&mut self, settings: Option<TlsSettings>) {
        if self.wire.is_empty() && settings.is_some() {
            self.wire = vec![0; WIRE_BUFFER_BYTES].into_boxed_slice();
        }
        self.tls = settings;
    }

    /// Where connections are accepted.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.listeners.iter().map(Listener::address)
    }

    /// Accept no connection any more. Those that wait in the backlog are refused by the system.
    pub fn stop_listening(&mut self) {
        for listener in self.listeners.drain(..) {
            self.poller.forget(&listener);
        }
    }

    /// Open an undecided connection: 101, then the text message `first`, then what was queued.
    /// False if it is gone.
    pub fn accept(
        &mut self,
        handle: Handle,
        subprotocol: Option<&str>,
        headers: &[HeaderLine],
        first: Option<&[u8]>,
    ) -> bool {
        let Some(connection) = find(&mut self.connections, handle) else { return false };
        let Some(key) = connection.undecided_key() else { return false };
        let agreement = connection.undecided_agreement();
        let response = response::accept(key, subprotocol, agreement, headers);
        connection.accept(response, first, &self.settings, &self.inflaters, self.now);
        self.census.end_deciding();
        self.open += 1;
        self.counters.opened += 1;
        self.resume(handle);
        true
    }

    /// Answer an undecided connection with this refusal. False if it is gone.
    pub fn reject(&mut self, handle: Handle, refusal: &Refusal, headers: &[HeaderLine]) -> bool {
        let now = self.now;
        let Some(connection) = self.connection(handle) else { return false };
        if connection.undecided_key().is_none() {
            return false;
        }
        connection.refuse(response::refuse(refusal, headers), now);
        self.census.end_deciding();
        self.counters.refused += 1;
        self.depart(handle.slot());
        true
    }

    pub(super) fn accept_some(&mut self, key: u64, emit: &mut impl FnMut(Event<'_, B>)) {
        let index = usize::try_from(key - FIRST_LISTENER_KEY).unwrap_or(usize::MAX);
        for _ in 0..MAX_ACCEPTS {
            let Some(listener) = self.listeners.get(index) else { return };
            match listener.accept() {
                Ok(None) => return,
                Ok(Some((socket, peer))) => {
                    if self.accepting == Accepting::Probing {
                        self.accepting = Accepting::Yes;
                        emit(Event::AcceptResumed);
                    }
                    self.take_in(socket, peer, emit);
                }
                // The peer was gone before it was accepted, or a firewall was against it.
                Err(error) if is_of_one_peer(&error) => {}
                Err(error)
                    if is_out_of_descriptors(&error) && self.find_descriptor(index, emit) => {}
                Err(error) => return self.pause_accepting(error, emit),
            }
        }
    }

    /// Let a connection that was just accepted be one of this shard's, if there is room.
    pub(super) fn admit(
        &mut self,
        socket: OwnedFd,
        peer: Address,
        emit: &mut impl FnMut(Event<'_, B>),
    ) {
        self.counters.accepted += 1;
        self.round.note(work::ACCEPTED);
        self.make_room(emit);
        let trust = &self.settings.trust;
        let is_proxy = trust.covers(&peer);
        if self.settings.proxy_protocol && !is_proxy && !trust.is_empty() {
            self.counters.proxies_untrusted += 1;
            return emit(Event::Aborted { peer, reason: "not one of trusted_proxies" });
        }
        let announcement = self.settings.proxy_protocol.then(proxy::Reader::default);
        let counts = !is_proxy && announcement.is_none();
        let ip = peer.ip().filter(|_| counts);
        let full = match self.enter(ip) {
            Room::Yes => self.memory.is_short().then_some(Full::Memory),
            Room::ToBeTold(full) => Some(full),
            Room::No => {
                self.leave(ip);
                self.counters.aborted_over_limit += 1;
                return emit(Event::Aborted { peer, reason: "too many connections" });
            }
        };
        let Ok(transport) = self.transport(socket) else {
            // Only a fault of the system, as to have no random numbers.
            self.leave(ip);
            self.counters.tls_failures += 1;
            return emit(Event::Aborted { peer, reason: "TLS cannot begin" });
        };
        let entry = self.connections.vacant_entry();
        let slot = slot_number(entry.key());
        let handle = Handle::new(slot, self.generations.pass());
        let origin = Origin { peer, proxy: None };
        let reader = RequestReader::default();
        let requesting = Requesting { reader, announcement, origin, full };
        let connection = Connection::new(transport, handle, requesting, &self.settings, self.now);
        let connection = entry.insert(connection);
        connection.ip = ip;
        if self.poller.add(&*connection, u64::from(slot), Interest::READ).is_err() {
            // Out of kernel memory for one more watched socket.
            self.counters.aborted_over_limit += 1;
            return self.remove(slot);
        }
        self.recharge(slot);
        self.arm(slot);
        self.queue_for_eviction(handle);
    }

    fn transport(&self, socket: OwnedFd) -> io::Result<Transport> {
        match &self.tls {
            None => Ok(Transport::plain(socket)),
            Some(settings) => Transport::tls(socket, settings),
        }
    }

    /// Count one more connection; tells whether it may be there.
    fn enter(&self, ip: Option<IpAddr>) -> Room {
        let (before, most) = (self.census.enter(), self.settings.max_connections);
        let of_address = self.per_ip.enter(ip, &self.settings);
        match Room::within(before, most, MAX_OVER_LIMIT, Full::Connections) {
            Room::Yes => of_address,
            full => full,
        }
    }

    /// Undo that.
    fn leave(&self, ip: Option<IpAddr>) {
        self.per_ip.leave(ip, &self.settings);
        self.census.leave();
    }

    fn pause_accepting(&mut self, error: io::Error, emit: &mut impl FnMut(Event<'_, B>)) {
        // Left watched, the listener would be ready all the time.
        self.listeners.iter().for_each(|listener| self.poller.forget(listener));
        self.counters.accept_pauses += 1;
        if self.accepting == Accepting::Yes {
            emit(Event::AcceptPaused { error });
        }
        self.accepting = Accepting::Paused(self.now + ACCEPT_PAUSE);
    }

    pub(super) fn resume_accepting(&mut self) {
        if let Accepting::Paused(until) = self.accepting
            && until <= self.now
        {
            self.reserve = self.reserve.take().or_else(eviction::reserve);
            // One may be watched still, if watching another failed the last time.
            self.listeners.iter().for_each(|listener| self.poller.forget(listener));
            let mut listeners = self.listeners.iter().enumerate();
            let watched = listeners.all(|(index, listener)| self.watch(listener, index).is_ok());
            self.accepting = if watched {
                Accepting::Probing
            } else {
                Accepting::Paused(self.now + ACCEPT_PAUSE)
            };
        }
    }

    fn watch(&self, listener: &Listener, index: usize) -> io::Result<()> {
        self.poller.add(listener, FIRST_LISTENER_KEY + index as u64, Interest::READ)
    }
}

/// Whether accepting failed for this peer alone (accept(2), "Error handling"). Anything else, above
/// all that descriptors (EMFILE, ENFILE) or memory have run out, would fail again at once.
fn is_of_one_peer(error: &io::Error) -> bool {
    let errors = [
        Errno::CONNABORTED,
        Errno::INTR,
        Errno::PERM,
        Errno::PROTO,
        Errno::NETDOWN,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::OPNOTSUPP,
        Errno::NETUNREACH,
    ];
    Errno::from_io_error(error).is_some_and(|errno| errors.contains(&errno))
}

/// Whether this process or the machine has no descriptor left.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}
