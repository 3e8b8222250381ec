//! What a connection does with what its peer sends.

use crate::engine::census::Census;
use crate::engine::counters::Counters;
use crate::engine::full::Full;
use crate::engine::per_ip::PerIp;
use crate::engine::settings::Settings;
use crate::engine::shard::Event;
use crate::engine::timers::Millis;
use crate::engine::trust::Origin;
use crate::engine::work;
use crate::protocol::decoder::Event as Decoded;
use crate::protocol::deflate::{self, Agreement};
use crate::protocol::handshake::{Progress, response};
use crate::protocol::{Failure, Kind, MessageBuffer, Opcode, Payload, Refusal, Request};

use super::allowance::Verdict;
use super::transport::{Fault, Received};
use super::{Closed, Connection, Fate, State, Undecided};

/// The buffer that every connection of a shard receives into: what a peer that sends large
/// messages may deliver at once.
pub const READ_BUFFER_BYTES: usize = 256 * 1024;

/// The one that encrypted bytes come into: four records.
pub const WIRE_BUFFER_BYTES: usize = 64 * 1024;

/// What a peer that sends small messages may deliver at once, so that its turn stays short.
const SMALL_READ_BYTES: usize = 32 * 1024;

/// What the messages of one peer may inflate to in one turn, and the last of them may pass.
const MAX_INFLATED_BYTES: u64 = 512 * 1024;

/// Mean message size from which a peer counts as sending large ones.
const LARGE_MESSAGE_BYTES: u64 = 4096;

/// Reads of one frame that fill all the room it has yet, in one turn.
const MAX_DIRECT_READS: usize = 4;

/// Where at least this much of a frame is missing, it is received straight into its own memory.
const DIRECT_FROM_BYTES: u64 = 16 * 1024;

/// What a connection borrows from its shard while it receives.
pub struct Turn<'a> {
    /// Where to receive to.
    pub buffer: &'a mut [u8],
    /// Where to receive to what is to be decrypted; empty without TLS.
    pub wire: &'a mut [u8],
    /// The bounds.
    pub settings: &'a Settings,
    /// The totals.
    pub counters: &'a mut Counters,
    /// How many come from each address.
    pub per_ip: &'a PerIp,
    /// How many handshakes wait for the caller.
    pub census: &'a Census,
    /// Why no further one may, however few do.
    pub busy: Option<Full>,
    /// Which round of turns this is.
    pub round: u32,
    /// Work that is done for it now; the next turn is its neighbours'.
    pub share: u64,
    /// Work done, in units.
    pub units: u64,
    /// The time.
    pub now: Millis,
}

impl<B: MessageBuffer> Connection<B> {
    /// Receive once, unless there is a backlog, and report what that completes.
    pub fn receive(&mut self, turn: &mut Turn<'_>, emit: &mut impl FnMut(Event<'_, B>)) -> Fate {
        match self.state {
            State::Requesting(ref requesting) if requesting.announcement.is_some() => {
                self.receive_announcement(turn, emit)
            }
            State::Requesting(_) => self.receive_request(turn, emit),
            State::Deciding(_) => Fate::Lives,
            // Its end would take what is to be said first.
            State::Closing { .. } if self.is_farewell_held => Fate::Lives,
            State::Open(_) | State::Closing { awaiting: Some(_), .. } => {
                self.receive_frames(turn, emit)
            }
            State::Closing { .. } | State::Lingering { .. } => self.discard(turn),
        }
    }

    /// Decode what has been received already.
    fn work_off(&mut self, turn: &mut Turn<'_>, emit: &mut impl FnMut(Event<'_, B>)) -> Fate {
        self.has_backlog = false;
        let mut backlog = std::mem::take(&mut self.tail);
        self.decode(&mut backlog, turn, emit);
        Fate::Lives
    }

    fn receive_request(
        &mut self,
        turn: &mut Turn<'_>,
        emit: &mut impl FnMut(Event<'_, B>),
    ) -> Fate {
        let State::Requesting(requesting) = &mut self.state else { return Fate::Lives };
        let buffer = turn.buffer.get_mut(..SMALL_READ_BYTES).unwrap_or_default();
        let count = match self.transport.receive(buffer, turn.wire) {
            Received::Bytes(count) => count,
            Received::Nothing | Received::Part => return Fate::Lives,
            Received::Hello => {
                turn.counters.tls_handshakes += 1;
                turn.units += work::HELLO;
                return Fate::Lives;
            }
            Received::End if self.transport.is_in_handshake() => {
                let reason = "gone in the TLS handshake".to_owned();
                self.report_tls_failure(reason, turn, emit);
                return Fate::Gone;
            }
            Received::End => return Fate::Gone,
            Received::Failed => {
                self.fail_request(turn, emit);
                return Fate::Lives;
            }
        };
        let piece = turn.buffer.get(..count).unwrap_or_default();
        let mut result = requesting.reader.receive(piece, turn.settings.max_head_bytes);
        if let Ok(Progress::Complete(request, _)) = &result {
            let identified = requesting.identify(request, &mut self.ip, turn.settings, turn.per_ip);
            let most = turn.settings.max_undecided_handshakes;
            match (identified, requesting.full.or(turn.busy)) {
                (Err(refusal), _) => result = Err(refusal),
                (Ok(()), None) if turn.census.begin_deciding(most) => {}
                (Ok(()), full) => {
                    let full = full.unwrap_or(Full::Undecided);
                    full.count(turn.counters);
                    result = Err(full.refusal());
                }
            }
        }
        let Origin { peer, proxy } = requesting.origin.clone();
        match result {
            Ok(Progress::Incomplete) => {}
            Ok(Progress::Complete(mut request, taken)) => {
                turn.counters.requested += 1;
                turn.units += work::REQUEST;
                let agreement = agree(&mut request, turn.settings, turn.counters);
                self.request_bytes = request.held();
                let early = piece.get(taken..).unwrap_or_default().to_vec();
                let key = request.key().into();
                let asked_at = turn.now;
                self.state =
                    State::Deciding(Box::new(Undecided { key, agreement, early, asked_at }));
                let is_secure = self.transport.is_tls();
                let handle = self.handle;
                emit(Event::Requested { handle, request, peer, proxy, is_secure });
            }
            Err(refusal) => {
                turn.counters.refused += 1;
                turn.counters.requests_too_large += u64::from(refusal.status == 431);
                self.refuse(response::refuse(&refusal, &[]), turn.now);
                emit(Event::Refused { peer, refusal });
            }
        }
        Fate::Lives
    }

    fn receive_frames(&mut self, turn: &mut Turn<'_>, emit: &mut impl FnMut(Event<'_, B>)) -> Fate {
        if self.has_backlog {
            let goes_on = self.has_backlog(turn.settings);
            return if goes_on { self.work_off(turn, emit) } else { Fate::Lives };
        }
        for reads in 0..MAX_DIRECT_READS {
            let room = match &mut self.state {
                State::Open(decoder) => decoder.room(DIRECT_FROM_BYTES),
                _ => None,
            };
            let Some(room) = room else {
                return if reads == 0 { self.receive_into_buffer(turn, emit) } else { Fate::Lives };
            };
            let most = room.len();
            match self.transport.receive(room, turn.wire) {
                // A part of a record is no sign of life: nothing can be read in it, and it may
                // come for as long as the peer likes.
                Received::Nothing | Received::Part | Received::Hello => return Fate::Lives,
                Received::End => return self.lose(turn, emit),
                Received::Failed => return self.fail_tls(turn, emit),
                Received::Bytes(count) => {
                    self.take_direct(count, turn, emit);
                    if !self.transport.may_have_left(count, most) {
                        return Fate::Lives;
                    }
                }
            }
        }
        Fate::Lives
    }

    fn receive_into_buffer(
        &mut self,
        turn: &mut Turn<'_>,
        emit: &mut impl FnMut(Event<'_, B>),
    ) -> Fate {
        let kept = self.tail.len();
        let most = if self.sends_large { READ_BUFFER_BYTES } else { SMALL_READ_BYTES };
        let buffer = std::mem::take(&mut turn.buffer);
        let room = buffer.get_mut(kept..most).unwrap_or_default();
        let fate = match self.transport.receive(room, turn.wire) {
            // As above.
            Received::Nothing | Received::Part | Received::Hello => Fate::Lives,
            Received::End => self.lose(turn, emit),
            Received::Failed => self.fail_tls(turn, emit),
            Received::Bytes(count) => {
                self.note_received(count, turn);
                if let Some(front) = buffer.get_mut(..kept) {
                    front.copy_from_slice(&self.tail);
                }
                let input = buffer.get_mut(..kept + count).unwrap_or_default();
                let before = turn.counters.message_bytes_received;
                let messages = self.decode(input, turn, emit) as u64;
                // Perhaps the end of a message was all that came.
                let bytes = (turn.counters.message_bytes_received - before).max(count as u64);
                self.sends_large = bytes / (messages + 1) >= LARGE_MESSAGE_BYTES;
                Fate::Lives
            }
        };
        turn.buffer = buffer;
        fate
    }

    /// `count` bytes of a large frame were received straight to where they will stay.
    fn take_direct(
        &mut self,
        count: usize,
        turn: &mut Turn<'_>,
        emit: &mut impl FnMut(Event<'_, B>),
    ) {
        self.note_received(count, turn);
        self.sends_large = true;
        let State::Open(decoder) = &mut self.state else { return };
        match decoder.received(count) {
            Ok(None) => {}
            Ok(Some(event)) => {
                self.report(event, turn, emit);
            }
            Err(failure) => self.fail(failure, turn, emit),
        }
    }

    fn note_received(&mut self, count: usize, turn: &mut Turn<'_>) {
        self.last_received = turn.now;
        turn.counters.bytes_received += count as u64;
        turn.units += work::of_bytes(count as u64);
    }

    /// Decode `input`, but no more than a turn's share of messages; keep the rest. Returns the
    /// number of messages.
    fn decode(
        &mut self,
        mut input: &mut [u8],
        turn: &mut Turn<'_>,
        emit: &mut impl FnMut(Event<'_, B>),
    ) -> usize {
        let mut messages = 0;
        let mut inflated = 0;
        let enough = turn.units + turn.share;
        while let State::Open(decoder) | State::Closing { awaiting: Some(decoder), .. } =
            &mut self.state
        {
            let frames = decoder.frames();
            let result = decoder.next(&mut input, &turn.settings.limits);
            let frames = decoder.frames() - frames;
            turn.counters.frames_received += frames;
            turn.units += frames;
            if let Some(more) = decoder.take_inflated() {
                turn.counters.messages_inflated += more.messages;
                turn.counters.bytes_before_inflating += more.compressed_bytes;
                turn.counters.bytes_after_inflating += more.bytes;
                turn.units += work::of_bytes(more.bytes);
                inflated += more.bytes;
            }
            match result {
                Ok(None) => {
                    self.tail = input.to_vec();
                    return messages;
                }
                Ok(Some(event)) => {
                    let reported = self.report(event, turn, emit);
                    messages += reported;
                    turn.units += reported as u64;
                    if !input.is_empty() && (turn.units >= enough || inflated >= MAX_INFLATED_BYTES)
                    {
                        self.has_backlog = true;
                        self.tail = input.to_vec();
                        return messages;
                    }
                }
                Err(failure) => self.fail(failure, turn, emit),
            }
        }
        self.tail = Vec::new();
        messages
    }

    /// Act on what the peer said. Returns how many messages that was.
    fn report(
        &mut self,
        event: Decoded<'_, B>,
        turn: &mut Turn<'_>,
        emit: &mut impl FnMut(Event<'_, B>),
    ) -> usize {
        let open = self.is_open();
        match event {
            Decoded::Message(kind, payload) if open => {
                turn.counters.messages_received += 1;
                turn.counters.message_bytes_received += payload.len() as u64;
                self.pass_on(kind, payload, turn, emit);
                return 1;
            }
            Decoded::Ping(_) | Decoded::Pong(_)
                if open && !self.allowance.take_control(turn.settings, turn.now) =>
            {
                self.fail(Failure::too_many_control_frames(), turn, emit);
            }
            Decoded::Ping(payload) if open => {
                self.outbox.push_message(Opcode::Pong, payload);
            }
            Decoded::Close(code, reason) if open => {
                turn.counters.closed += 1;
                self.close(code, "", turn.now);
                self.expect_nothing();
                let closed = Closed::by_peer(code, reason);
                emit(Event::Closed { handle: self.handle, closed });
            }
            // The answer to our Close: both are sent.
            Decoded::Close(..) => self.expect_nothing(),
            // After our Close nothing may be sent, and nobody waits for messages.
            Decoded::Message(..) | Decoded::Ping(_) | Decoded::Pong(_) => {}
        }
        0
    }

    /// Report a message, unless it is one too many.
    fn pass_on(
        &mut self,
        kind: Kind,
        payload: Payload<'_, B>,
        turn: &mut Turn<'_>,
        emit: &mut impl FnMut(Event<'_, B>),
    ) {
        let verdict = self.allowance.take_message(turn.settings, turn.now);
        if verdict == Verdict::Welcome {
            return emit(Event::Message { handle: self.handle, kind, payload });
        }
        turn.counters.messages_refused += 1;
        match verdict {
            Verdict::TooMany => emit(Event::RateLimited { handle: self.handle }),
            Verdict::Hopeless => self.fail(Failure::too_many_messages(), turn, emit),
            Verdict::Welcome | Verdict::StillTooMany => {}
        }
    }

    /// Fail the connection (RFC 6455 §7.1.7).
    fn fail(&mut self, failure: Failure, turn: &mut Turn<'_>, emit: &mut impl FnMut(Event<'_, B>)) {
        if self.is_open() {
            turn.counters.closed += 1;
            turn.counters.count_failure(failure);
            self.close(failure.code, failure.reason, turn.now);
            let closed = Closed::by_server(failure.code, failure.reason);
            emit(Event::Closed { handle: self.handle, closed });
        }
        self.expect_nothing();
    }

    /// What came instead of a request, or of TLS around it, ends the connection. TLS says why by an
    /// alert; to a peer that speaks HTTP, a response says it.
    fn fail_request(&mut self, turn: &mut Turn<'_>, emit: &mut impl FnMut(Event<'_, B>)) {
        match self.transport.fault() {
            Fault::Tls(reason) => {
                self.report_tls_failure(reason, turn, emit);
                self.outbox.clear();
                self.linger(turn.now);
            }
            Fault::PlainHttp => {
                let State::Requesting(requesting) = &self.state else { return };
                let peer = requesting.origin.peer.clone();
                let refusal = Refusal::new(400, "this port speaks TLS: use wss:// or https://");
                turn.counters.tls_failures += 1;
                turn.counters.refused += 1;
                self.refuse(response::refuse(&refusal, &[]), turn.now);
                emit(Event::Refused { peer, refusal });
            }
        }
    }

    fn report_tls_failure(
        &mut self,
        reason: String,
        turn: &mut Turn<'_>,
        emit: &mut impl FnMut(Event<'_, B>),
    ) {
        let State::Requesting(requesting) = &self.state else { return };
        turn.counters.tls_failures += 1;
        emit(Event::TlsFailed { peer: requesting.origin.peer.clone(), reason });
    }

    /// Nothing that comes can be trusted, or understood, any more.
    fn fail_tls(&mut self, turn: &mut Turn<'_>, emit: &mut impl FnMut(Event<'_, B>)) -> Fate {
        turn.counters.tls_failures += 1;
        if let Fault::Tls(reason) = self.transport.fault()
            && self.is_open()
        {
            turn.counters.closed += 1;
            turn.counters.lost += 1;
            let closed = Closed { reason: format!("TLS: {reason}"), ..Closed::lost() };
            emit(Event::Closed { handle: self.handle, closed });
        }
        // The alert that says why, as far as the socket takes it.
        self.outbox.clear();
        let _ = self.transport.write(&mut self.outbox);
        Fate::Gone
    }

    /// TCP has ended.
    pub fn lose(&mut self, turn: &mut Turn<'_>, emit: &mut impl FnMut(Event<'_, B>)) -> Fate {
        match self.state {
            State::Open(_) => {
                turn.counters.closed += 1;
                turn.counters.lost += 1;
                emit(Event::Closed { handle: self.handle, closed: Closed::lost() });
            }
            State::Deciding(_) => {
                turn.counters.abandoned += 1;
                emit(Event::Abandoned { handle: self.handle, reason: "gone".to_owned() });
            }
            State::Requesting(_) | State::Closing { .. } | State::Lingering { .. } => {}
        }
        Fate::Gone
    }

    /// The peer's Close has come, or does not matter any more.
    fn expect_nothing(&mut self) {
        match &mut self.state {
            State::Closing { awaiting, farewell: Some(_) } => *awaiting = None,
            State::Closing { .. } => self.state = State::Lingering { shut: false },
            State::Requesting(_)
            | State::Deciding(_)
            | State::Open(_)
            | State::Lingering { .. } => {}
        }
    }

    /// Neither hold nor await anything more of the peer, which is being closed.
    pub fn forget_input(&mut self) {
        self.tail = Vec::new();
        self.expect_nothing();
    }

    fn discard(&mut self, turn: &mut Turn<'_>) -> Fate {
        let buffer = turn.buffer.get_mut(..SMALL_READ_BYTES).unwrap_or_default();
        if self.transport.discard(buffer) { Fate::Lives } else { Fate::Gone }
    }
}

/// What the request's offers of compression come to.
fn agree(request: &mut Request, settings: &Settings, counters: &mut Counters) -> Option<Agreement> {
    let compression = settings.compression;
    if !compression.enabled || !request.offered_extensions().any(|name| name == deflate::NAME) {
        return None;
    }
    request.negotiate(compression.policy);
    match request.agreement() {
        Some(_) => counters.compression_agreed += 1,
        None => counters.compression_declined += 1,
    }
    request.agreement()
}
