//! One connection: its socket, where it stands, what it keeps.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};

use crate::protocol::close;
use crate::protocol::decoder::Event as Decoded;
use crate::protocol::handshake::{Progress, RequestReader, response};
use crate::protocol::{CloseCode, Decoder, Failure, MessageBuffer, Refusal, Role};
use crate::protocol::{Opcode, encoder};

use super::counters::Counters;
use super::handle::Handle;
use super::listener::Address;
use super::outbox::Outbox;
use super::poller::Interest;
use super::settings::Settings;
use super::shard::Event;
use super::timers::{Millis, NEVER};
use super::topics::Membership;

/// The buffer that every connection of a shard receives into: what a peer that sends large
/// messages may deliver at once.
pub const READ_BUFFER_BYTES: usize = 256 * 1024;

/// What a peer that sends small messages may deliver at once, so that its turn stays short.
const SMALL_READ_BYTES: usize = 32 * 1024;

/// Mean message size from which a peer counts as sending large ones.
const LARGE_MESSAGE_BYTES: usize = 4096;

/// Where at least this much of a frame is missing, it is received straight into its own memory.
const DIRECT_FROM_BYTES: u64 = 16 * 1024;

/// Where a connection stands (RFC 6455 §4.2, §7).
///
/// ```text
/// Requesting ─request whole─► Deciding ─accept─► Open ─Close due─► Closing ─both sent─► Lingering
///      └─refused─► Lingering      └─reject─► Lingering                          └─EOF─► (gone)
/// any ─TCP lost, or its deadline─► (gone; Open is reported as 1006)
/// ```
pub enum State<B> {
    /// The request has not arrived whole.
    Requesting(Box<Requesting>),
    /// The caller decides; nothing is received meanwhile.
    Deciding(Box<Undecided>),
    /// Messages flow.
    Open(Decoder<B>),
    /// No message is reported any more.
    Closing {
        /// Our Close, until the flush that ends this batch: what the caller queues for messages
        /// that came before the reason to close goes first.
        farewell: Option<Vec<u8>>,
        /// Reads on until the peer's Close, unless that has come or does not matter.
        awaiting: Option<Decoder<B>>,
    },
    /// Everything is said. TCP is half closed once it is sent; then the peer's end is waited for,
    /// since closing with unread bytes would reset what the peer has not read yet.
    Lingering {
        /// Whether our half is closed.
        shut: bool,
    },
}

/// A handshake that is being read.
pub struct Requesting {
    /// What has come of the request.
    pub reader: RequestReader,
    /// Who asks.
    pub peer: Address,
    /// Why it will be answered 503.
    pub full: Option<&'static str>,
}

/// A handshake that waits for the caller.
pub struct Undecided {
    key: Box<[u8]>,
    /// Bytes that came behind the request.
    early: Vec<u8>,
}

/// Who ended a WebSocket connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The peer sent its Close first.
    Peer,
    /// This server closed it.
    Server,
    /// TCP ended without a Close.
    Lost,
}

/// How a WebSocket connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The status code of the first Close, or 1005 or 1006 (RFC 6455 §7.1.5).
    pub code: CloseCode,
    /// The reason of that Close.
    pub reason: String,
    /// Who began.
    pub side: Side,
}

impl Closed {
    /// This server closes.
    pub fn by_server(code: CloseCode, reason: &str) -> Self {
        Self { code, reason: reason.to_owned(), side: Side::Server }
    }

    /// TCP has ended.
    pub fn lost() -> Self {
        Self { code: CloseCode::ABNORMAL, reason: String::new(), side: Side::Lost }
    }

    fn by_peer(code: CloseCode, reason: &str) -> Self {
        Self { code, reason: reason.to_owned(), side: Side::Peer }
    }
}

/// Whether a connection is still there after an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Fate {
    /// It is.
    Lives,
    /// TCP has ended: it is to be removed.
    Gone,
}

/// What a connection borrows from its shard while it receives.
pub struct Turn<'a> {
    /// Where to receive to.
    pub buffer: &'a mut [u8],
    /// The bounds.
    pub settings: &'a Settings,
    /// The totals.
    pub counters: &'a mut Counters,
    /// Whether one more handshake may wait for the caller.
    pub may_ask: bool,
    /// The time.
    pub now: Millis,
}

/// One connection.
pub struct Connection<B> {
    socket: OwnedFd,
    handle: Handle,
    /// Where it stands.
    pub state: State<B>,
    /// The beginning of a frame (at most 131 bytes), or what came behind the request.
    tail: Vec<u8>,
    /// What waits to be sent.
    pub outbox: Outbox,
    /// What it hears.
    pub memberships: Vec<Membership>,
    /// Its address, for the limit on those.
    pub ip: Option<IpAddr>,
    /// What the poller watches for.
    pub interest: Interest,
    /// Whether it is on the shard's list of connections to flush.
    pub dirty: bool,
    /// Whether the caller wants no messages for now.
    paused: bool,
    sends_large: bool,
    last_received: Millis,
    last_ping: Millis,
    /// When the handshake or the closing began.
    since: Millis,
    /// The time of its live entry among the timers.
    pub armed: Millis,
}

impl<B: MessageBuffer> Connection<B> {
    /// A connection that has just been accepted.
    pub fn new(socket: OwnedFd, handle: Handle, requesting: Requesting, now: Millis) -> Self {
        Self {
            socket,
            handle,
            ip: requesting.peer.ip(),
            state: State::Requesting(Box::new(requesting)),
            tail: Vec::new(),
            outbox: Outbox::default(),
            memberships: Vec::new(),
            interest: Interest::READ,
            dirty: false,
            paused: false,
            sends_large: false,
            last_received: now,
            last_ping: now,
            since: now,
            armed: NEVER,
        }
    }

    /// Its name.
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// Whether messages may be queued for it: it is open, will be if the caller accepts it, or
    /// its Close is due but goes out with the next flush only.
    pub fn is_reachable(&self) -> bool {
        match &self.state {
            State::Open(_) | State::Deciding(_) | State::Closing { farewell: Some(_), .. } => true,
            State::Requesting(_) | State::Closing { .. } | State::Lingering { .. } => false,
        }
    }

    /// Whether it is reachable and its opening handshake is done.
    pub fn is_accepted(&self) -> bool {
        self.is_reachable() && !matches!(self.state, State::Deciding(_))
    }

    /// Whether its opening handshake is done and no Close is due.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// What the poller should watch for, now that the outbox was written.
    pub fn wanted_interest(&self, settings: &Settings) -> Interest {
        let read = match &self.state {
            State::Requesting(_) | State::Closing { .. } | State::Lingering { .. } => true,
            State::Deciding(_) => false,
            State::Open(_) => !self.paused && !self.is_congested(settings),
        };
        Interest {
            read,
            write: !self.outbox.is_empty() && !matches!(self.state, State::Deciding(_)),
        }
    }

    /// When something must happen if nothing else does.
    pub fn due_at(&self, settings: &Settings) -> Millis {
        match &self.state {
            State::Requesting(_) | State::Deciding(_) => {
                after(self.since, settings.handshake_timeout)
            }
            State::Open(_) => {
                let ping_at = self.last_received.max(self.last_ping);
                after(ping_at, settings.ping_interval).min(self.silent_at(settings))
            }
            State::Closing { .. } | State::Lingering { .. } => self.since + settings.close_timeout,
        }
    }

    /// Whether the ping timeout has run out.
    pub fn is_silent(&self, settings: &Settings, now: Millis) -> bool {
        now >= self.silent_at(settings)
    }

    /// When the ping timeout runs out. Never while we are the ones who do not read.
    fn silent_at(&self, settings: &Settings) -> Millis {
        if self.paused { NEVER } else { after(self.last_received, settings.ping_timeout) }
    }

    /// Receive messages, or leave them to TCP. Time that was not listened is not silence.
    pub fn set_paused(&mut self, paused: bool, now: Millis) {
        self.paused = paused;
        self.last_received = now;
    }

    /// Queue a Ping.
    pub fn ping(&mut self, now: Millis) {
        self.last_ping = now;
        self.outbox.push_message(Opcode::Ping, &[]);
    }

    /// Answer the handshake with 101. Payloads that were queued meanwhile follow `first`.
    pub fn accept(&mut self, mut response: Vec<u8>, first: Option<&[u8]>, now: Millis) {
        let opened = State::Open(Decoder::new(Role::Server));
        if let State::Deciding(undecided) = std::mem::replace(&mut self.state, opened) {
            self.tail = undecided.early;
        }
        if let Some(payload) = first {
            encoder::append_frame(&mut response, Opcode::Text, payload);
        }
        self.outbox.push_front(response);
        (self.last_received, self.last_ping) = (now, now);
    }

    /// The handshake's key, while it is undecided.
    pub fn undecided_key(&self) -> Option<&[u8]> {
        match &self.state {
            State::Deciding(undecided) => Some(&undecided.key),
            State::Requesting(_)
            | State::Open(_)
            | State::Closing { .. }
            | State::Lingering { .. } => None,
        }
    }

    /// Whether bytes wait here that were received before the handshake was accepted.
    pub fn has_early_bytes(&self) -> bool {
        self.is_open() && !self.tail.is_empty()
    }

    /// End the handshake with this response. Drops what was queued.
    pub fn refuse(&mut self, response: Vec<u8>, now: Millis) {
        self.outbox.clear();
        self.outbox.push_front(response);
        self.linger(now);
    }

    /// Close: the farewell goes out with the next flush, behind what is queued until then.
    pub fn close(&mut self, code: CloseCode, reason: &str, now: Millis) {
        let lingering = State::Lingering { shut: false };
        let awaiting = match std::mem::replace(&mut self.state, lingering) {
            State::Open(decoder) => Some(decoder),
            _ => None,
        };
        self.state = State::Closing { farewell: Some(close::frame(code, reason)), awaiting };
        self.since = now;
    }

    /// Queue the farewell, if one is due.
    pub fn say_farewell(&mut self) {
        if let State::Closing { farewell, awaiting } = &mut self.state {
            if let Some(frame) = farewell.take() {
                self.outbox.append_with(frame.len(), |out| out.extend_from_slice(&frame));
            }
            if awaiting.is_none() {
                self.state = State::Lingering { shut: false };
            }
        }
    }

    /// Send what the socket takes; returns how many bytes that was.
    pub fn write(&mut self, settings: &Settings, now: Millis) -> io::Result<usize> {
        let was_congested = self.is_congested(settings);
        let count = self.outbox.write(self.socket.as_fd())?;
        if was_congested && count > 0 {
            // It was not listened to, but it reads: it is alive.
            self.last_received = now;
        }
        Ok(count)
    }

    /// Whether so much waits for it that it is not read from: it does not read what it causes.
    fn is_congested(&self, settings: &Settings) -> bool {
        self.outbox.len() > settings.max_send_buffer / 2
    }

    /// Close our half of TCP if everything is said and sent.
    pub fn shut_if_done(&mut self) {
        if let State::Lingering { shut: shut @ false } = &mut self.state
            && self.outbox.is_empty()
        {
            *shut = true;
            // Fails only where TCP has ended already, which the poller will say.
            let _ = shutdown(&self.socket, Shutdown::Write);
        }
    }

    /// Receive once and report what that completes.
    pub fn receive(&mut self, turn: &mut Turn<'_>, emit: &mut impl FnMut(Event<'_, B>)) -> Fate {
        match self.state {
            State::Requesting(_) => self.receive_request(turn, emit),
            State::Deciding(_) => Fate::Lives,
            State::Open(_) | State::Closing { awaiting: Some(_), .. } => {
                self.receive_frames(turn, emit)
            }
            State::Closing { .. } | State::Lingering { .. } => self.discard(turn),
        }
    }

    /// Decode what came behind the request. Like [`receive`](Self::receive), without receiving.
    pub fn receive_early(
        &mut self,
        turn: &mut Turn<'_>,
        emit: &mut impl FnMut(Event<'_, B>),
    ) -> Fate {
        let mut early = std::mem::take(&mut self.tail);
        self.decode(&mut early, turn, emit);
        Fate::Lives
    }

    fn receive_request(
        &mut self,
        turn: &mut Turn<'_>,
        emit: &mut impl FnMut(Event<'_, B>),
    ) -> Fate {
        let State::Requesting(requesting) = &mut self.state else { return Fate::Lives };
        let buffer = turn.buffer.get_mut(..SMALL_READ_BYTES).unwrap_or_default();
        let count = match received(recv(&self.socket, buffer, RecvFlags::empty())) {
            Received::Bytes(count) => count,
            Received::Nothing => return Fate::Lives,
            Received::End => return Fate::Gone,
        };
        let piece = turn.buffer.get(..count).unwrap_or_default();
        let busy = (!turn.may_ask).then_some("too many handshakes under way");
        let result = match (requesting.reader.receive(piece), requesting.full.or(busy)) {
            (Ok(Progress::Complete(..)), Some(reason)) => Err(Refusal::new(503, reason)),
            (result, _) => result,
        };
        let peer = requesting.peer.clone();
        match result {
            Ok(Progress::Incomplete) => {}
            Ok(Progress::Complete(request, taken)) => {
                let early = piece.get(taken..).unwrap_or_default().to_vec();
                self.state =
                    State::Deciding(Box::new(Undecided { key: request.key().into(), early }));
                emit(Event::Requested { handle: self.handle, request, peer });
            }
            Err(refusal) => {
                turn.counters.refused += 1;
                self.refuse(response::refuse(&refusal, &[]), turn.now);
                emit(Event::Refused { peer, refusal });
            }
        }
        Fate::Lives
    }

    fn receive_frames(&mut self, turn: &mut Turn<'_>, emit: &mut impl FnMut(Event<'_, B>)) -> Fate {
        if let State::Open(decoder) = &mut self.state
            && let Some(room) = decoder.room(DIRECT_FROM_BYTES)
        {
            let result = received(recv(&self.socket, room, RecvFlags::empty()));
            return self.receive_direct(result, turn, emit);
        }
        let kept = self.tail.len();
        let most = if self.sends_large { READ_BUFFER_BYTES } else { SMALL_READ_BYTES };
        let buffer = std::mem::take(&mut turn.buffer);
        let room = buffer.get_mut(kept..most).unwrap_or_default();
        let fate = match received(recv(&self.socket, room, RecvFlags::empty())) {
            Received::Nothing => Fate::Lives,
            Received::End => self.lose(turn, emit),
            Received::Bytes(count) => {
                self.last_received = turn.now;
                if let Some(front) = buffer.get_mut(..kept) {
                    front.copy_from_slice(&self.tail);
                }
                let input = buffer.get_mut(..kept + count).unwrap_or_default();
                let messages = self.decode(input, turn, emit);
                self.sends_large = count / (messages + 1) >= LARGE_MESSAGE_BYTES;
                Fate::Lives
            }
        };
        turn.buffer = buffer;
        fate
    }

    fn receive_direct(
        &mut self,
        result: Received,
        turn: &mut Turn<'_>,
        emit: &mut impl FnMut(Event<'_, B>),
    ) -> Fate {
        let count = match result {
            Received::Bytes(count) => count,
            Received::Nothing => return Fate::Lives,
            Received::End => return self.lose(turn, emit),
        };
        self.last_received = turn.now;
        self.sends_large = true;
        let State::Open(decoder) = &mut self.state else { return Fate::Lives };
        match decoder.received(count) {
            Ok(None) => {}
            Ok(Some(event)) => {
                self.report(event, turn, emit);
            }
            Err(failure) => self.fail(failure, turn, emit),
        }
        Fate::Lives
    }

    /// Decode all of `input`; keep the beginning of a frame. Returns the number of messages.
    fn decode(
        &mut self,
        mut input: &mut [u8],
        turn: &mut Turn<'_>,
        emit: &mut impl FnMut(Event<'_, B>),
    ) -> usize {
        let mut messages = 0;
        while let State::Open(decoder) | State::Closing { awaiting: Some(decoder), .. } =
            &mut self.state
        {
            match decoder.next(&mut input, &turn.settings.limits) {
                Ok(None) => {
                    self.tail = input.to_vec();
                    return messages;
                }
                Ok(Some(event)) => messages += self.report(event, turn, emit),
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
                emit(Event::Message { handle: self.handle, kind, payload });
                return 1;
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

    /// Fail the connection (RFC 6455 §7.1.7).
    fn fail(&mut self, failure: Failure, turn: &mut Turn<'_>, emit: &mut impl FnMut(Event<'_, B>)) {
        if self.is_open() {
            turn.counters.closed += 1;
            turn.counters.failed += 1;
            self.close(failure.code, failure.reason, turn.now);
            let closed = Closed::by_server(failure.code, failure.reason);
            emit(Event::Closed { handle: self.handle, closed });
        }
        self.expect_nothing();
    }

    /// TCP has ended.
    pub fn lose(&mut self, turn: &mut Turn<'_>, emit: &mut impl FnMut(Event<'_, B>)) -> Fate {
        match self.state {
            State::Open(_) => {
                turn.counters.closed += 1;
                turn.counters.lost += 1;
                emit(Event::Closed { handle: self.handle, closed: Closed::lost() });
            }
            State::Deciding(_) => emit(Event::Abandoned { handle: self.handle }),
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

    fn discard(&mut self, turn: &mut Turn<'_>) -> Fate {
        let buffer = turn.buffer.get_mut(..SMALL_READ_BYTES).unwrap_or_default();
        match received(recv(&self.socket, buffer, RecvFlags::empty())) {
            Received::Bytes(_) | Received::Nothing => Fate::Lives,
            Received::End => Fate::Gone,
        }
    }

    fn linger(&mut self, now: Millis) {
        self.state = State::Lingering { shut: false };
        self.since = now;
    }
}

impl<B> AsFd for Connection<B> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[derive(Clone, Copy)]
enum Received {
    Bytes(usize),
    /// Not now.
    Nothing,
    /// The peer's end, or a failed socket: either way nothing comes any more.
    End,
}

fn received<T>(result: rustix::io::Result<(T, usize)>) -> Received {
    match result.map(|(_, count)| count) {
        Ok(0) => Received::End,
        Ok(count) => Received::Bytes(count),
        Err(Errno::AGAIN | Errno::INTR) => Received::Nothing,
        Err(_) => Received::End,
    }
}

/// A deadline; a period of 0 is none.
fn after(from: Millis, period: Millis) -> Millis {
    if period == 0 { NEVER } else { from + period }
}
