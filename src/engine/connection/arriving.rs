//! What a connection has to say, or to let others say, before it is known who asks.

use std::net::IpAddr;

use crate::engine::full::{Full, Room};
use crate::engine::listener::Address;
use crate::engine::per_ip::PerIp;
use crate::engine::settings::Settings;
use crate::engine::shard::Event;
use crate::protocol::proxy::{self, Malformed, Source};
use crate::protocol::{MessageBuffer, Refusal, Request};

use super::transport::Received;
use super::{Connection, Fate, Requesting, State, Turn};

/// Why a connection is ended without a word.
const TOO_MANY: &str = "too many connections from there";

impl<B: MessageBuffer> Connection<B> {
    /// Receive the PROXY header, and not a byte of what is behind it.
    pub(super) fn receive_announcement(
        &mut self,
        turn: &mut Turn<'_>,
        emit: &mut impl FnMut(Event<'_, B>),
    ) -> Fate {
        let State::Requesting(requesting) = &mut self.state else { return Fate::Lives };
        let Some(reader) = &mut requesting.announcement else { return Fate::Lives };
        let buffer = turn.buffer.get_mut(..proxy::MAX_V2_BYTES).unwrap_or_default();
        let count = match self.transport.peek(buffer) {
            Received::Bytes(count) => count,
            Received::Nothing | Received::Part | Received::Hello => return Fate::Lives,
            Received::End | Received::Failed => return Fate::Gone,
        };
        let seen = buffer.get_mut(..count).unwrap_or_default();
        let result = reader.receive(seen);
        let peer = requesting.origin.peer.clone();
        let (taken, source) = match result {
            Ok(proxy::Progress::Incomplete) => (count, None),
            Ok(proxy::Progress::Complete(source, taken)) => (taken, Some(source)),
            Err(Malformed(reason)) => {
                turn.counters.proxy_headers_malformed += 1;
                emit(Event::Aborted { peer, reason });
                return Fate::Gone;
            }
        };
        if self.transport.take(seen.get_mut(..taken).unwrap_or_default()) != Received::Bytes(taken)
        {
            return Fate::Gone; // Only a socket that has failed no longer has what it just had.
        }
        let Some(source) = source else { return Fate::Lives };
        match requesting.announced(source, &mut self.ip, turn.settings, turn.per_ip) {
            Room::Yes | Room::ToBeTold(_) => Fate::Lives,
            Room::No => {
                turn.counters.aborted_over_limit += 1;
                emit(Event::Aborted { peer: requesting.origin.peer.clone(), reason: TOO_MANY });
                Fate::Gone
            }
        }
    }
}

impl Requesting {
    /// A proxy has said whom it speaks for.
    fn announced(
        &mut self,
        source: Source,
        ip: &mut Option<IpAddr>,
        settings: &Settings,
        per_ip: &PerIp,
    ) -> Room {
        self.announcement = None;
        self.origin.proxy = Some(self.origin.peer.clone());
        match source {
            Source::Inet(address) => self.origin.peer = Address::Inet(address),
            Source::Unix => self.origin.peer = Address::Unix(None),
            // The proxy's own business: a check whether we are well.
            Source::Unknown => return Room::Yes,
        }
        self.count(ip, settings, per_ip)
    }

    /// Find out who asks, if a proxy says so in the request. Refuses a header that breaks its
    /// grammar.
    pub(super) fn identify(
        &mut self,
        request: &Request,
        ip: &mut Option<IpAddr>,
        settings: &Settings,
        per_ip: &PerIp,
    ) -> Result<(), Refusal> {
        if settings.trust.identify(&mut self.origin, request)? && ip.is_none() {
            // It has come so far that it is told, even where it would be aborted otherwise.
            if self.count(ip, settings, per_ip) == Room::No {
                self.full.get_or_insert(Full::PerIp);
            }
        }
        Ok(())
    }

    /// Count the connection for who asks, unless that is a proxy.
    fn count(&mut self, ip: &mut Option<IpAddr>, settings: &Settings, per_ip: &PerIp) -> Room {
        let peer = &self.origin.peer;
        if settings.trust.covers(peer) {
            return Room::Yes;
        }
        *ip = peer.ip();
        let room = per_ip.enter(*ip, settings);
        if let Room::ToBeTold(full) = room {
            self.full.get_or_insert(full);
        }
        room
    }
}
