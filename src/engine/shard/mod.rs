//! The engine: one poller with its connections, its queues and its topics.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use slab::Slab;

use crate::protocol::deflate::InflaterPool;
use crate::protocol::{Kind, MessageBuffer, Payload, Refusal, Request};

use super::census::Census;
use super::compression::Compressor;
use super::connection::{Closed, Connection, Fate, READ_BUFFER_BYTES, State, Turn};
use super::counters::Counters;
use super::full::Full;
use super::handle::{Generations, Handle};
use super::listener::{Address, Listener};
use super::memory::Memory;
use super::per_ip::PerIp;
use super::poller::Poller;
use super::ring::Ring;
use super::settings::Settings;
use super::splicer::Splicer;
use super::timers::{Millis, NEVER, Timers};
use super::tls::TlsSettings;
use super::topics::{Membership, Memberships, Topics};

mod admission;
mod configuring;
mod delivery;
mod ending;
mod eviction;
mod part;
mod restraint;
mod room;
mod round;
mod shortage;
mod writing;

pub use part::{MAX_UNHANDLED, Part, Restrained};
use restraint::Restraint;
pub use round::Pace;
use round::Round;

/// Keys from here on are listeners, below are slots.
const FIRST_LISTENER_KEY: u64 = 1 << 40;

/// What happened.
#[derive(Debug)]
pub enum Event<'a, B> {
    /// A client asks to open a connection: [`Shard::accept`] or [`Shard::reject`] it.
    Requested {
        /// Its name from now on.
        handle: Handle,
        /// What it asks; the RFC has nothing against it.
        request: Request,
        /// Who asks.
        peer: Address,
        /// The other end of the socket, where that is a proxy.
        proxy: Option<Address>,
        /// Whether over TLS.
        is_secure: bool,
    },
    /// It was given up before it was decided: it is gone, out of time, or the server stops.
    Abandoned {
        /// A name that is stale from now on.
        handle: Handle,
        /// Why, for a person.
        reason: String,
    },
    /// The engine refused a handshake by itself.
    Refused {
        /// Who asked.
        peer: Address,
        /// What it was told.
        refusal: Refusal,
    },
    /// The engine ended a connection without a word, before its request was whole.
    Aborted {
        /// Whose.
        peer: Address,
        /// Why: one of a few constants.
        reason: &'static str,
    },
    /// TLS could not be agreed upon; an alert says that to the peer too.
    TlsFailed {
        /// With whom.
        peer: Address,
        /// Why, for a person.
        reason: String,
    },
    /// A whole message.
    Message {
        /// From whom.
        handle: Handle,
        /// Text or binary.
        kind: Kind,
        /// Its content.
        payload: Payload<'a, B>,
    },
    /// A message was refused: the client sends more than it may. It was not told for a second.
    RateLimited {
        /// Who is to be told.
        handle: Handle,
    },
    /// Nothing arrived for the ping interval, and a Ping goes out (only where asked for).
    Idle {
        /// Who is silent.
        handle: Handle,
    },
    /// A connection that was accepted has ended: nothing can be sent to it or comes from it.
    /// Reported once for each; what is sent in the same batch still goes before the Close.
    Closed {
        /// A name that is stale once the batch is flushed.
        handle: Handle,
        /// How.
        closed: Closed,
    },
    /// Messages for a client are being dropped (only where [`SlowReader::Drop`] is set). Reported
    /// once, and again when its queue was half empty in between.
    ///
    /// [`SlowReader::Drop`]: super::SlowReader::Drop
    Dropping {
        /// Who reads too slowly.
        handle: Handle,
        /// Bytes that wait for it.
        queued: usize,
    },
    /// No connection is accepted for now: descriptors or memory have run out.
    AcceptPaused {
        /// What the system said.
        error: io::Error,
    },
    /// Connections are accepted again.
    AcceptResumed,
    /// Over three quarters of [`Settings::max_memory`] are held: handshakes are refused, and those
    /// who hold much are not read.
    MemoryShort {
        /// Bytes held.
        held: usize,
    },
    /// That is over.
    MemoryAmple {
        /// Bytes held.
        held: usize,
    },
}

/// Whether new connections are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accepting {
    Yes,
    /// Rests until then.
    Paused(Millis),
    /// Tries again after a rest; the next success ends it.
    Probing,
}

/// An event that could not be reported when it happened.
enum News {
    Closed(Handle, Closed),
    Abandoned(Handle, String),
    Dropping(Handle, usize),
    MemoryShort(usize),
    MemoryAmple(usize),
}

/// Where a connection stands, as far as the tables care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Requesting,
    Deciding,
    Open,
    Ending,
}

impl Stage {
    fn of<B>(connection: &Connection<B>) -> Self {
        match connection.state {
            State::Requesting(_) => Self::Requesting,
            State::Deciding(_) => Self::Deciding,
            State::Open(_) => Self::Open,
            State::Closing { .. } | State::Lingering { .. } => Self::Ending,
        }
    }
}

/// A self-contained part of a server. See the [module](crate::engine).
pub struct Shard<B> {
    settings: Settings,
    /// Before what it watches: dropped first (see the SAFETY comment in its `add`).
    poller: Poller,
    listeners: Vec<Listener>,
    accepting: Accepting,
    connections: Slab<Connection<B>>,
    generations: Generations,
    census: Census,
    per_ip: PerIp,
    /// Those who have not sent their request, the oldest first, among others that have.
    requesting: VecDeque<Handle>,
    /// To accept with when all other descriptors are taken.
    reserve: Option<OwnedFd>,
    open: usize,
    topics: Topics,
    timers: Timers,
    round: Round,
    pace: Pace,
    /// Connections with a backlog, which have a turn in the next round.
    backlogs: Vec<Handle>,
    /// Those with something to send or to settle, each once; some may be gone.
    dirty: Vec<Handle>,
    /// To send to many of them at once.
    ring: Ring,
    memory: Memory,
    /// Who has caused what is being queued, if a client has.
    sender: Handle,
    /// Recipients that are behind, by slot.
    restraints: HashMap<u32, Restraint>,
    /// When one of them may have stalled.
    restraints_due: Millis,
    part: Part,
    /// Connections that were asked to wait because memory is short.
    starved: Vec<Handle>,
    /// Bytes queued since what waits was written last.
    unflushed: usize,
    /// What has happened outside a poll and is to be reported by the next one.
    news: Vec<News>,
    buffer: Box<[u8]>,
    splicer: Splicer,
    compressor: Compressor,
    inflaters: InflaterPool,
    /// What new connections speak TLS with, if they do.
    tls: Option<TlsSettings>,
    wire: Box<[u8]>,
    counters: Counters,
    now: Millis,
}

impl<B: MessageBuffer> Shard<B> {
    /// A shard without listeners. `now` is the clock's present time.
    pub fn new(settings: Settings, now: Millis) -> io::Result<Self> {
        let (census, per_ip) = (Census::default(), PerIp::default());
        Self::within(Generations::default(), census, per_ip, settings, now)
    }

    fn within(
        generations: Generations,
        census: Census,
        per_ip: PerIp,
        settings: Settings,
        now: Millis,
    ) -> io::Result<Self> {
        Ok(Self {
            compressor: Compressor::new(settings.compression),
            memory: Memory::new(settings.max_memory),
            settings,
            poller: Poller::new()?,
            listeners: Vec::new(),
            accepting: Accepting::Yes,
            connections: Slab::new(),
            generations,
            census,
            per_ip,
            requesting: VecDeque::new(),
            reserve: eviction::reserve(),
            open: 0,
            topics: Topics::default(),
            timers: Timers::default(),
            round: Round::default(),
            pace: Pace::default(),
            backlogs: Vec::new(),
            dirty: Vec::new(),
            ring: Ring::default(),
            sender: Handle::NOBODY,
            restraints: HashMap::new(),
            restraints_due: NEVER,
            part: Part::default(),
            starved: Vec::new(),
            unflushed: 0,
            news: Vec::new(),
            buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            splicer: Splicer::default(),
            inflaters: InflaterPool::default(),
            tls: None,
            wire: Box::default(),
            counters: Counters::default(),
            now,
        })
    }

    /// Say what has happened since the last call. Never blocks, and does no more work than its
    /// [`Pace`] allows: where more is there, the poller stays readable.
    ///
    /// To be followed by [`flush`](Self::flush) when the events are handled, perhaps after more of
    /// them from [`go_on`](Self::go_on).
    pub fn poll(&mut self, now: Millis, mut emit: impl FnMut(Event<'_, B>)) -> io::Result<()> {
        self.now = now;
        let emit = &mut emit;
        self.report_news(emit);
        if self.round.is_over() {
            self.begin_round()?;
        }
        self.work(emit);
        self.look_at_the_time(emit);
        Ok(())
    }

    fn report_news(&mut self, emit: &mut impl FnMut(Event<'_, B>)) {
        for news in std::mem::take(&mut self.news) {
            emit(match news {
                News::Closed(handle, closed) => Event::Closed { handle, closed },
                News::Abandoned(handle, reason) => Event::Abandoned { handle, reason },
                News::Dropping(handle, queued) => Event::Dropping { handle, queued },
                News::MemoryShort(held) => Event::MemoryShort { held },
                News::MemoryAmple(held) => Event::MemoryAmple { held },
            });
        }
    }

    fn look_at_the_time(&mut self, emit: &mut impl FnMut(Event<'_, B>)) {
        self.fire_timers(emit);
        self.end_long_shortage();
        self.give_up_on_the_stalled();
    }

    /// Let it know the time between two polls: how long a client was not read from depends on it.
    pub fn at(&mut self, now: Millis) -> &mut Self {
        self.now = self.now.max(now);
        self
    }

    /// When [`poll`](Self::poll) should be called at the latest, if nothing becomes ready.
    pub fn next_deadline(&self) -> Option<Millis> {
        let resume_at = match self.accepting {
            Accepting::Paused(until) => Some(until),
            Accepting::Yes | Accepting::Probing => None,
        };
        self.timers.next_at().into_iter().chain(resume_at).chain(self.urgent_deadline()).min()
    }

    /// The part of that which comes up at any time, and must not wait for one that was far off.
    pub fn urgent_deadline(&self) -> Option<Millis> {
        self.memory.patient_until().into_iter().chain(self.restraint_ends_at()).min()
    }

    /// Connections of every kind, those that are closing included.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Connections whose opening handshake is done and that are not closing.
    pub fn open_count(&self) -> usize {
        self.open
    }

    /// What this shard has done so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether a [`flush`](Self::flush) is due.
    pub fn has_queued(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// For how many connections it has something.
    pub fn queued_count(&self) -> usize {
        self.dirty.len()
    }

    fn receive(&mut self, slot: u32, hung_up: bool, emit: &mut impl FnMut(Event<'_, B>)) {
        if self.must_wait(slot) && !hung_up {
            return;
        }
        self.with(slot, |connection, turn| {
            if hung_up && !connection.is_received_from() {
                // Only this tells that it is gone; to receive what it left would end its pause.
                connection.lose(turn, emit)
            } else if connection.takes_turn(turn.round) || hung_up {
                connection.receive(turn, emit)
            } else {
                Fate::Lives
            }
        });
    }

    /// Let a connection have its turn, and bring the tables up to date with what it has become.
    fn with(&mut self, slot: u32, turn: impl FnOnce(&mut Connection<B>, &mut Turn<'_>) -> Fate) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let before = Stage::of(connection);
        let mut its = Turn {
            buffer: &mut self.buffer,
            wire: &mut self.wire,
            settings: &self.settings,
            counters: &mut self.counters,
            per_ip: &self.per_ip,
            census: &self.census,
            busy: self.memory.is_short().then_some(Full::Memory),
            round: self.round.number(),
            share: self.round.share(),
            units: 0,
            now: self.now,
        };
        let fate = turn(connection, &mut its);
        self.round.note(its.units);
        self.after_turn(slot, before, fate);
        self.recharge(slot);
        self.keep_limit();
    }

    fn after_turn(&mut self, slot: u32, before: Stage, fate: Fate) {
        let Some(connection) = self.connections.get(slot as usize) else { return };
        let after = Stage::of(connection);
        let has_queued = connection.has_unsent();
        let has_input = connection.has_input();
        match (before, after) {
            _ if fate == Fate::Gone => return self.remove(slot),
            (Stage::Open, Stage::Ending) => {
                self.open -= 1;
                self.hold_farewell(slot);
                return self.depart(slot);
            }
            (Stage::Requesting, Stage::Ending) => return self.depart(slot),
            _ => {}
        }
        if has_input {
            self.await_turn(slot);
        }
        if has_queued || before != after || after == Stage::Ending {
            self.touch(slot);
        }
    }

    fn connection(&mut self, handle: Handle) -> Option<&mut Connection<B>> {
        find(&mut self.connections, handle)
    }

    fn touch(&mut self, slot: u32) {
        if let Some(connection) = self.connections.get_mut(slot as usize)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(connection.handle());
        }
    }

    /// A connection may be read again: so may its backlog.
    fn resume(&mut self, handle: Handle) {
        self.await_turn(handle.slot());
        self.arm(handle.slot());
        self.touch(handle.slot());
    }

    /// Make the poller readable, so that the caller polls again.
    fn wake(&self) {
        // Fails only when the poller itself is broken, which the next poll reports.
        let _ = self.poller.wake();
    }
}

impl<B> AsFd for Shard<B> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

impl<B> AsRawFd for Shard<B> {
    fn as_raw_fd(&self) -> RawFd {
        self.poller.as_raw_fd()
    }
}

impl<B> Memberships for Slab<Connection<B>> {
    fn memberships(&mut self, slot: u32) -> Option<&mut Vec<Membership>> {
        self.get_mut(slot as usize).map(|connection| &mut connection.memberships)
    }
}

/// The connection of that name, while the rest of the shard stays free to be borrowed.
fn find<B: MessageBuffer>(
    connections: &mut Slab<Connection<B>>,
    handle: Handle,
) -> Option<&mut Connection<B>> {
    let connection = connections.get_mut(handle.slot() as usize)?;
    (connection.handle() == handle).then_some(connection)
}

/// There are never 2³² descriptors.
#[allow(clippy::cast_possible_truncation)]
const fn slot_number(index: usize) -> u32 {
    index as u32
}
