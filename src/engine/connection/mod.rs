//! One connection: its socket, where it stands, what it keeps.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use crate::protocol::deflate::{Agreement, InflaterPool, Inflation};
use crate::protocol::handshake::RequestReader;
use crate::protocol::{CloseCode, Decoder, MessageBuffer, Opcode, Role, close, encoder, proxy};

use super::compression::Sending;
use super::full::Full;
use super::handle::Handle;
use super::memory::{IDLE_BYTES, MUCH_BYTES};
use super::outbox::Outbox;
use super::poller::Interest;
use super::ring::{MOST_BYTES, Queue};
use super::settings::Settings;
use super::timers::{Millis, NEVER};
use super::topics::Membership;
use super::trust::Origin;

mod allowance;
mod arriving;
mod receiving;
mod session;
mod transport;

use allowance::Allowance;
pub use receiving::{READ_BUFFER_BYTES, Turn, WIRE_BUFFER_BYTES};
pub use transport::Transport;

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
    /// What has come of the header in front of it, where the PROXY protocol wants one.
    pub announcement: Option<proxy::Reader>,
    /// Who asks.
    pub origin: Origin,
    /// Why it will be answered 503.
    pub full: Option<Full>,
}

/// A handshake that waits for the caller.
pub struct Undecided {
    key: Box<[u8]>,
    /// What its offers of compression come to.
    agreement: Option<Agreement>,
    /// Bytes that came behind the request.
    early: Vec<u8>,
    /// When the caller was asked.
    asked_at: Millis,
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

/// One connection.
#[allow(clippy::struct_excessive_bools)] // Each is of its own; what excludes each other is `State`.
pub struct Connection<B> {
    transport: Transport,
    handle: Handle,
    /// Where it stands.
    pub state: State<B>,
    /// What was received and is not decoded: the beginning of a frame, at most 131 bytes; more
    /// while `has_backlog`.
    tail: Vec<u8>,
    has_backlog: bool,
    /// What waits to be sent.
    pub outbox: Outbox,
    /// How messages go into it.
    sending: Sending,
    /// What it hears.
    pub memberships: Vec<Membership>,
    /// The address that it counts for, once that is known; `None` for a proxy.
    pub ip: Option<IpAddr>,
    /// What the poller watches for.
    pub interest: Interest,
    /// Whether it is on the shard's list of connections to flush.
    pub dirty: bool,
    /// Whether its farewell waits until the caller has handled what came before it.
    pub is_farewell_held: bool,
    /// Whether others may be waiting for it to read.
    pub restrains: bool,
    /// For how many recipients of what it has sent it waits.
    waits_for: u32,
    waits_since: Millis,
    /// Whether it is on the shard's list of connections with a backlog.
    pub awaits_turn: bool,
    /// The round in which it had its last turn.
    last_round: u32,
    /// Whether messages are being dropped, and that was reported.
    is_dropping: bool,
    /// Since when the caller wants no messages.
    paused_at: Option<Millis>,
    /// What the shard has charged for it.
    pub charged: usize,
    /// Since when it is not read because memory is short.
    starved_at: Option<Millis>,
    /// Bytes of its request, which the caller keeps.
    request_bytes: usize,
    sends_large: bool,
    allowance: Allowance,
    last_received: Millis,
    taken_at: Millis,
    last_ping: Millis,
    /// When the handshake or the closing began.
    since: Millis,
    /// The time of its live entry among the timers.
    pub armed: Millis,
}

impl<B: MessageBuffer> Connection<B> {
    /// A connection that has just been accepted.
    pub fn new(
        transport: Transport,
        handle: Handle,
        requesting: Requesting,
        settings: &Settings,
        now: Millis,
    ) -> Self {
        Self {
            transport,
            handle,
            ip: None,
            state: State::Requesting(Box::new(requesting)),
            tail: Vec::new(),
            has_backlog: false,
            outbox: Outbox::default(),
            sending: Sending::Plain,
            memberships: Vec::new(),
            interest: Interest::READ,
            dirty: false,
            is_farewell_held: false,
            restrains: false,
            waits_for: 0,
            waits_since: now,
            awaits_turn: false,
            last_round: 0,
            is_dropping: false,
            paused_at: None,
            charged: 0,
            starved_at: None,
            request_bytes: 0,
            sends_large: false,
            allowance: Allowance::new(settings, now),
            last_received: now,
            taken_at: now,
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
            State::Closing { .. } => !self.is_farewell_held,
            State::Requesting(_) | State::Lingering { .. } => true,
            State::Deciding(_) => return Interest::END,
            State::Open(_) => self.is_listened_to() && !self.is_congested(settings),
        };
        Interest { read, write: self.has_unsent(), end: false }
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
        if self.is_listened_to() { after(self.last_received, settings.ping_timeout) } else { NEVER }
    }

    /// Leave messages to TCP.
    pub fn pause(&mut self, now: Millis) {
        self.paused_at.get_or_insert(now);
    }

    /// Receive messages again. Time that was not listened is not silence, nor held against it.
    pub fn resume(&mut self, settings: &Settings, now: Millis) {
        if let Some(since) = self.paused_at.take() {
            self.allowance.excuse(settings, since, now);
        }
        self.last_received = now;
    }

    /// How long ago the handshake or the closing began.
    pub fn age(&self, now: Millis) -> Millis {
        now.saturating_sub(self.since)
    }

    /// Take it that the peer was heard at `since`, unless it was heard later.
    pub fn excuse_silence(&mut self, since: Millis) {
        self.last_received = self.last_received.max(since);
    }

    /// Other settings hold from now on.
    pub fn reconfigure(&mut self, before: &Settings, settings: &Settings, now: Millis) {
        self.allowance.renew(before, settings, now);
    }

    fn is_paused(&self) -> bool {
        self.paused_at.is_some()
    }

    /// Whether it is not read because memory is short.
    pub fn is_starved(&self) -> bool {
        self.starved_at.is_some()
    }

    /// Do not read it while memory is short.
    pub fn starve(&mut self, now: Millis) {
        self.starved_at.get_or_insert(now);
    }

    /// Read it again, as after a pause.
    pub fn feed(&mut self, settings: &Settings, now: Millis) {
        if let Some(since) = self.starved_at.take() {
            self.allowance.excuse(settings, since, now);
        }
        self.last_received = now;
    }

    /// One more recipient of what it has sent is behind. True where that is the first one.
    pub fn wait_for_one_more(&mut self, now: Millis) -> bool {
        self.waits_for += 1;
        if self.waits_for == 1 {
            self.waits_since = now;
        }
        self.waits_for == 1
    }

    /// One of them is no longer, or is given up. True where that was the last one: it is read
    /// again, as after a pause.
    pub fn wait_for_one_less(&mut self, settings: &Settings, now: Millis) -> bool {
        self.waits_for -= 1;
        if self.waits_for > 0 {
            return false;
        }
        self.allowance.excuse(settings, self.waits_since, now);
        self.last_received = now;
        true
    }

    /// Whether nobody has said that it is not to be read.
    fn is_listened_to(&self) -> bool {
        !self.is_paused() && !self.is_starved() && self.waits_for == 0
    }

    /// Bytes that it holds of this process: what its shard charges for it.
    pub fn held(&self) -> usize {
        IDLE_BYTES
            + self.transport.held()
            + self.request_bytes
            + self.sending.held()
            + self.outbox.held()
            + self.input_held()
    }

    /// Bytes that would be given back without it, or if others gave them back, too: shared frames
    /// that wait for it count.
    pub fn burden(&self) -> usize {
        self.outbox.held().max(self.outbox.len()) + self.input_held()
    }

    /// Whether it holds so much that it is first to wait while memory is short.
    pub fn holds_much(&self) -> bool {
        self.burden() >= MUCH_BYTES
    }

    /// Bytes received that have not become messages.
    fn input_held(&self) -> usize {
        let parsed = match &self.state {
            State::Requesting(requesting) => requesting.reader.held(),
            State::Deciding(undecided) => undecided.key.len() + undecided.early.capacity(),
            State::Open(decoder) | State::Closing { awaiting: Some(decoder), .. } => decoder.held(),
            State::Closing { awaiting: None, .. } | State::Lingering { .. } => 0,
        };
        self.tail.capacity() + parsed
    }

    /// Queue a Ping.
    pub fn ping(&mut self, now: Millis) {
        self.last_ping = now;
        self.outbox.push_message(Opcode::Ping, &[]);
    }

    /// Answer the handshake with 101, and keep to its agreement on compression. Payloads that were
    /// queued meanwhile follow `first`, all as they are.
    pub fn accept(
        &mut self,
        mut response: Vec<u8>,
        first: Option<&[u8]>,
        settings: &Settings,
        inflaters: &InflaterPool,
        now: Millis,
    ) {
        let opened = State::Open(Decoder::new(Role::Server));
        if let State::Deciding(undecided) = std::mem::replace(&mut self.state, opened) {
            self.has_backlog = !undecided.early.is_empty();
            self.tail = undecided.early;
            self.allowance.excuse(settings, undecided.asked_at, now);
            if let Some(agreement) = undecided.agreement {
                let inflation = Inflation::new(agreement, inflaters);
                self.state = State::Open(Decoder::with_inflation(Role::Server, inflation));
                self.sending = Sending::by(agreement);
            }
        }
        if let Some(payload) = first {
            encoder::append_frame(&mut response, Opcode::Text, payload);
        }
        self.outbox.push_front(response);
        (self.last_received, self.last_ping) = (now, now);
    }

    /// Where messages wait, and how they get there.
    pub fn way_out(&mut self) -> (&mut Outbox, &mut Sending) {
        (&mut self.outbox, &mut self.sending)
    }

    /// The handshake's key, while it is undecided.
    pub fn undecided_key(&self) -> Option<&[u8]> {
        self.undecided().map(|undecided| &*undecided.key)
    }

    /// What the handshake's offers of compression come to, while it is undecided.
    pub fn undecided_agreement(&self) -> Option<Agreement> {
        self.undecided().and_then(|undecided| undecided.agreement)
    }

    fn undecided(&self) -> Option<&Undecided> {
        match &self.state {
            State::Deciding(undecided) => Some(undecided),
            State::Requesting(_)
            | State::Open(_)
            | State::Closing { .. }
            | State::Lingering { .. } => None,
        }
    }

    /// Whether its socket is read: it is neither undecided nor paused, nor is anything to be said
    /// first.
    pub fn is_received_from(&self) -> bool {
        match self.state {
            State::Deciding(_) => false,
            State::Open(_) => self.is_listened_to(),
            State::Closing { .. } => !self.is_farewell_held,
            State::Requesting(_) | State::Lingering { .. } => true,
        }
    }

    /// Whether its turn comes again without anything new from its peer: frames wait here that came
    /// behind the request, or that were more than its share of a turn, or TLS has more.
    pub fn has_backlog(&self, settings: &Settings) -> bool {
        let reads = || match self.state {
            State::Requesting(_) | State::Closing { awaiting: Some(_), .. } => true,
            State::Open(_) => self.is_listened_to() && !self.is_congested(settings),
            State::Deciding(_) | State::Closing { .. } | State::Lingering { .. } => false,
        };
        self.has_input() && reads()
    }

    /// Whether it has not had its turn in this round; from now on it has. One with a backlog may be
    /// ready, too.
    pub fn takes_turn(&mut self, round: u32) -> bool {
        std::mem::replace(&mut self.last_round, round) != round
    }

    /// Whether bytes of its peer wait here that can be decoded, if it may be read.
    pub fn has_input(&self) -> bool {
        self.has_backlog || self.transport.has_more()
    }

    /// Whether its socket has to be written: messages wait, or bytes of TLS itself.
    pub fn has_unsent(&self) -> bool {
        !self.outbox.is_empty() || self.transport.wants_write()
    }

    /// Whether it speaks TLS, and nothing can be said through that yet.
    pub fn is_in_tls_handshake(&self) -> bool {
        self.transport.is_handshaking()
    }

    /// End the handshake with this response. Drops what was queued.
    pub fn refuse(&mut self, response: Vec<u8>, now: Millis) {
        self.outbox.clear();
        self.outbox.push_front(response);
        self.linger(now);
    }

    /// Close an open connection: the farewell goes out with the next flush, behind what is queued
    /// until then.
    pub fn close(&mut self, code: CloseCode, reason: &str, now: Millis) {
        let lingering = State::Lingering { shut: false };
        self.state = match std::mem::replace(&mut self.state, lingering) {
            State::Open(decoder) => State::Closing {
                farewell: Some(close::frame(code, reason)),
                awaiting: Some(decoder),
            },
            unopened_or_closing => unopened_or_closing,
        };
        self.since = now;
    }

    /// Count the time to close from now on.
    pub fn begin_anew(&mut self, now: Millis) {
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
        let count = self.transport.write(&mut self.outbox)?;
        if count > 0 {
            self.note_reader(was_congested, settings, now);
        }
        Ok(count)
    }

    /// Let what waits be sent together with what waits for others, where it is little and the
    /// socket is not known to be full; [`note_sent`](Self::note_sent) is told what of it was.
    pub fn join(&self, queue: &mut Queue) {
        let is_little = (1..=MOST_BYTES).contains(&self.outbox.len());
        if is_little && !self.interest.write && self.is_open() && !self.transport.is_tls() {
            let copy = |room: &mut [u8]| self.outbox.copy_to(room).len();
            queue.push(self.handle.to_bits(), self.as_fd(), copy);
        }
    }

    /// The first `count` bytes of what waited were sent.
    pub fn note_sent(&mut self, count: usize, settings: &Settings, now: Millis) {
        let was_congested = self.is_congested(settings);
        self.outbox.consume(count);
        self.note_reader(was_congested, settings, now);
    }

    /// Its socket has taken something.
    fn note_reader(&mut self, was_congested: bool, settings: &Settings, now: Millis) {
        self.taken_at = now;
        if was_congested {
            // It was not listened to, but it reads: it is alive.
            self.last_received = now;
            self.is_dropping &= self.is_congested(settings);
        }
    }

    /// When its socket has taken something last.
    pub fn taken_at(&self) -> Millis {
        self.taken_at
    }

    /// A message is dropped. True for the first one since its queue was half empty.
    pub fn begin_dropping(&mut self) -> bool {
        !std::mem::replace(&mut self.is_dropping, true)
    }

    /// Whether so much waits for it that it is not read from: it does not read what it causes.
    pub fn is_congested(&self, settings: &Settings) -> bool {
        self.outbox.len() > settings.max_send_buffer / 2
    }

    /// Close our half of TCP if everything is said and sent.
    pub fn shut_if_done(&mut self) {
        if let State::Lingering { shut: shut @ false } = &mut self.state
            && self.outbox.is_empty()
        {
            *shut = self.transport.shut();
        }
    }

    /// Let the end of its socket be a reset: it has had its time.
    pub fn abort(&mut self) {
        self.transport.abort();
    }

    fn linger(&mut self, now: Millis) {
        self.state = State::Lingering { shut: false };
        self.since = now;
    }
}

impl<B> AsFd for Connection<B> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.transport.as_fd()
    }
}

/// A deadline; a period of 0 is none.
fn after(from: Millis, period: Millis) -> Millis {
    if period == 0 { NEVER } else { from + period }
}
