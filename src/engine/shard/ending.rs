//! How connections end, and what happens when nothing does.

use crate::engine::connection::{Closed, State};
use crate::engine::handle::Handle;
use crate::engine::timers::NEVER;
use crate::protocol::handshake::response;
use crate::protocol::{CloseCode, MessageBuffer, Refusal};

use super::{Event, News, Shard, Stage, find, slot_number};

/// Deadlines looked at in one poll; more wait for the next.
const MAX_EXPIRIES: usize = 1024;

impl<B: MessageBuffer> Shard<B> {
    /// Start the closing handshake. What is queued goes first; [`Event::Closed`] follows with the
    /// next poll. False if it is gone, undecided or closing already.
    pub fn close(&mut self, handle: Handle, code: CloseCode, reason: &str) -> bool {
        if self.connection(handle).is_none_or(|connection| !connection.is_open()) {
            return false;
        }
        self.close_open(handle.slot(), code, reason);
        true
    }

    /// Close every open connection and refuse every handshake with 503. Returns how many closed.
    pub fn close_all(&mut self, code: CloseCode, reason: &str) -> usize {
        let slots: Vec<u32> = self.connections.iter().map(|(slot, _)| slot_number(slot)).collect();
        let mut count = 0;
        for slot in slots {
            let Some(connection) = self.connections.get(slot as usize) else { continue };
            match connection.state {
                State::Open(_) => {
                    self.close_open(slot, code, reason);
                    count += 1;
                }
                State::Requesting(_) | State::Deciding(_) => {
                    self.refuse(slot, &Refusal::new(503, reason));
                }
                State::Closing { .. } | State::Lingering { .. } => {}
            }
        }
        count
    }

    /// End TCP of every connection at once. Nothing is reported. Those that something waits for, or
    /// that have had their time to close, are reset.
    pub fn abort_all(&mut self) {
        let (now, patience) = (self.now, self.settings.close_timeout / 2);
        for (_, connection) in &mut self.connections {
            if !connection.outbox.is_empty() || connection.age(now) >= patience {
                connection.abort();
            }
        }
        let slots: Vec<usize> = self.connections.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.remove(slot_number(slot));
        }
    }

    /// Stop reporting messages of a client for now, so that TCP slows it down.
    pub fn pause_reading(&mut self, handle: Handle) {
        let now = self.now;
        if let Some(connection) = self.connection(handle) {
            connection.pause(now);
            self.arm(handle.slot());
            self.touch(handle.slot());
        }
    }

    /// Report its messages again.
    pub fn resume_reading(&mut self, handle: Handle) {
        if let Some(connection) = find(&mut self.connections, handle) {
            connection.resume(&self.settings, self.now);
            self.resume(handle);
        }
    }

    pub(super) fn close_open(&mut self, slot: u32, code: CloseCode, reason: &str) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        connection.close(code, reason, self.now);
        self.news.push(News::Closed(connection.handle(), Closed::by_server(code, reason)));
        self.open -= 1;
        self.counters.closed += 1;
        self.wake();
        self.depart(slot);
    }

    /// Refuse a handshake that has not been accepted; if it was reported, report its end.
    pub(super) fn refuse(&mut self, slot: u32, refusal: &Refusal) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if connection.is_in_tls_handshake() {
            // There is nothing yet by which a response could travel.
            self.counters.tls_failures += 1;
            return self.remove(slot);
        }
        let was_undecided = connection.undecided_key().is_some();
        connection.refuse(response::refuse(refusal, &[]), self.now);
        if was_undecided {
            self.census.end_deciding();
            self.counters.abandoned += 1;
            self.news.push(News::Abandoned(connection.handle(), refusal.reason.clone()));
            self.wake();
        }
        self.counters.refused += 1;
        self.depart(slot);
    }

    /// A connection has begun to end: its end has a deadline, and the flush sends the rest.
    pub(super) fn depart(&mut self, slot: u32) {
        self.arm(slot);
        self.touch(slot);
    }

    pub(super) fn leave_topics(&mut self, slot: u32) {
        if let Some(connection) = self.connections.get_mut(slot as usize) {
            let memberships = std::mem::take(&mut connection.memberships);
            self.topics.leave_all(&mut self.connections, memberships);
        }
    }

    /// The system has failed a connection: report its end if it was known, and forget it.
    pub(super) fn lose(&mut self, slot: u32) {
        let Some(connection) = self.connections.get(slot as usize) else { return };
        let handle = connection.handle();
        match Stage::of(connection) {
            Stage::Open => {
                self.counters.closed += 1;
                self.counters.lost += 1;
                self.news.push(News::Closed(handle, Closed::lost()));
                self.wake();
            }
            Stage::Deciding => {
                self.counters.abandoned += 1;
                self.news.push(News::Abandoned(handle, "the system failed it".to_owned()));
                self.wake();
            }
            Stage::Requesting | Stage::Ending => {}
        }
        self.remove(slot);
    }

    /// End TCP and forget the connection.
    pub(super) fn remove(&mut self, slot: u32) {
        self.leave_topics(slot);
        let Some(connection) = self.connections.try_remove(slot as usize) else { return };
        self.memory.recharge(connection.charged, 0);
        self.poller.forget(&connection);
        if connection.restrains {
            self.review_restraint(slot);
        }
        match Stage::of(&connection) {
            Stage::Open => self.open -= 1,
            Stage::Deciding => self.census.end_deciding(),
            Stage::Requesting | Stage::Ending => {}
        }
        self.per_ip.leave(connection.ip, &self.settings);
        self.census.leave();
    }

    /// See to it that the connection's deadline has an entry.
    pub(super) fn arm(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let due = connection.due_at(&self.settings);
        if due < connection.armed {
            connection.armed = due;
            self.timers.arm(due, connection.handle());
        }
    }

    pub(super) fn fire_timers(&mut self, emit: &mut impl FnMut(Event<'_, B>)) {
        self.resume_accepting();
        for _ in 0..MAX_EXPIRIES {
            let Some((at, handle)) = self.timers.pop_due(self.now) else { break };
            let Some(connection) = find(&mut self.connections, handle) else { continue };
            if connection.armed != at {
                continue;
            }
            connection.armed = NEVER;
            if connection.due_at(&self.settings) <= self.now {
                self.expire(handle.slot(), emit);
            }
            self.arm(handle.slot());
        }
        let connections = &self.connections;
        self.timers.prune(connections.len(), |at, handle| {
            connections
                .get(handle.slot() as usize)
                .is_some_and(|c| c.handle() == handle && c.armed == at)
        });
    }

    fn expire(&mut self, slot: u32, emit: &mut impl FnMut(Event<'_, B>)) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let handle = connection.handle();
        match &connection.state {
            State::Requesting(requesting) if requesting.announcement.is_some() => {
                let peer = requesting.origin.peer.clone();
                self.counters.handshake_timeouts += 1;
                emit(Event::Aborted { peer, reason: "no PROXY header in time" });
                self.remove(slot);
            }
            State::Requesting(requesting) if connection.is_in_tls_handshake() => {
                let reason = "the TLS handshake took too long".to_owned();
                emit(Event::TlsFailed { peer: requesting.origin.peer.clone(), reason });
                self.counters.handshake_timeouts += 1;
                self.counters.tls_failures += 1;
                self.remove(slot);
            }
            State::Requesting(requesting) => {
                let refusal = Refusal::new(408, "the handshake took too long");
                emit(Event::Refused {
                    peer: requesting.origin.peer.clone(),
                    refusal: refusal.clone(),
                });
                self.counters.handshake_timeouts += 1;
                self.refuse(slot, &refusal);
            }
            State::Deciding(_) => {
                self.counters.handshake_timeouts += 1;
                self.refuse(slot, &Refusal::new(503, "the decision took too long"));
            }
            State::Open(_) if connection.is_silent(&self.settings, self.now) => {
                self.counters.ping_timeouts += 1;
                self.close_open(slot, CloseCode::PING_TIMEOUT, "no pong in time");
            }
            State::Open(_) => {
                connection.ping(self.now);
                self.counters.pings_sent += 1;
                self.touch(slot);
                if self.settings.report_idle {
                    emit(Event::Idle { handle });
                }
            }
            // What was to go first has not been said yet.
            State::Closing { .. } if connection.is_farewell_held => connection.begin_anew(self.now),
            State::Closing { .. } | State::Lingering { .. } => {
                self.counters.close_timeouts += 1;
                connection.abort();
                self.remove(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpStream;

    use crate::engine::listener::Address;
    use crate::engine::settings::Settings;
    use crate::protocol::GrowingBuffer;

    use super::*;

    const REQUEST: &[u8] =
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

    /// What a connection in slot 0 is reported as: its request, or that it was given up.
    fn reported(event: &Event<'_, GrowingBuffer>) -> Option<&'static str> {
        match event {
            Event::Requested { .. } => Some("requested"),
            Event::Abandoned { .. } => Some("abandoned"),
            _ => None,
        }
    }

    #[test]
    fn a_handshake_that_the_system_fails_while_it_is_undecided_is_reported_as_given_up() {
        let mut shard = Shard::<GrowingBuffer>::new(Settings::default(), 0).unwrap();
        shard.listen("127.0.0.1", 0, 8).unwrap();
        let Some(Address::Inet(address)) = shard.addresses().next().cloned() else { panic!() };
        let mut client = TcpStream::connect(address).unwrap();
        while shard.is_empty() {
            shard.poll(0, |_| {}).unwrap();
        }
        client.write_all(REQUEST).unwrap();
        // What is not watched cannot be watched for something else.
        shard.poller.forget(&shard.connections[0]);
        let mut seen = Vec::new();
        while seen.is_empty() {
            // As one that hung up, so that it is received from more than once a round.
            shard.receive(0, true, &mut |event| seen.extend(reported(&event)));
        }
        shard.flush();
        shard.poll(0, |event| seen.extend(reported(&event))).unwrap();
        assert_eq!(seen, ["requested", "abandoned"]);
        assert_eq!(shard.counters().abandoned, 1);
        assert!(shard.is_empty());
    }
}
