//! Whom the caller knows, whatever has happened to them in their shards meanwhile.

use std::collections::VecDeque;

use crate::engine::connection::{Closed, Side};
use crate::engine::handle::Handle;
use crate::engine::shard::Event;
use crate::engine::topics::{Membership, Memberships, Topics};
use crate::protocol::{GrowingBuffer, Payload};

use super::batch::Kept;

/// The bits of a client's place that are its slot in its shard. There are never 2²⁶ descriptors.
const SLOT_BITS: u32 = 26;

/// Where a client stands, as far as the caller was told and has said.
///
/// ```text
/// Deciding ─accept─► Open ─close─► Closing ─flush─► Closed ─reported─► Ended ─flush─► (gone)
///    │                 └─────────reported─────────────────────────────►┘
///    ├─reject, or reported─► (gone)
///    └─close_all─► Refused ─reported─► (gone)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its handshake waits for the caller.
    Deciding,
    /// The server stops; its end is to be reported.
    Refused,
    /// Messages flow.
    Open,
    /// The caller has closed it; what it says until the flush goes out before the Close.
    Closing,
    /// Its end is to be reported.
    Closed,
    /// Its end was reported; as with `Closing` something may go out before the Close.
    Ended,
}

#[derive(Debug)]
struct Client {
    handle: Handle,
    stage: Stage,
    memberships: Vec<Membership>,
    /// The caller wants none of its messages for now.
    is_paused: bool,
    /// What had been received of it by then.
    kept: Option<Box<KeptBack>>,
}

/// What a client sent that the caller does not want for now.
#[derive(Debug, Default)]
struct KeptBack {
    messages: VecDeque<Kept>,
    /// Its own Close, behind them.
    closed: Option<Closed>,
}

/// What is wanted again.
#[derive(Debug)]
enum Released {
    Message(Handle, Kept),
    Closed(Handle, Closed),
}

/// Clients by shard and slot, and what they hear.
#[derive(Debug)]
pub struct Clients {
    table: Table,
    topics: Topics,
    open: usize,
    /// Closed by the caller since the last flush.
    closing: Vec<Handle>,
    /// Reported as ended since then, their farewells being held.
    farewells: Vec<Handle>,
    /// Reported as lost since then.
    lost: Vec<Handle>,
    released: VecDeque<Released>,
}

#[derive(Debug)]
struct Table(Vec<Vec<Option<Client>>>);

impl Clients {
    /// Nobody, of so many shards.
    pub fn new(shards: usize) -> Self {
        Self {
            table: Table((0..shards).map(|_| Vec::new()).collect()),
            topics: Topics::default(),
            open: 0,
            closing: Vec::new(),
            farewells: Vec::new(),
            lost: Vec::new(),
            released: VecDeque::new(),
        }
    }

    /// Take note of an event, and pass on what the caller is to be told of it.
    pub fn pass(
        &mut self,
        event: Event<'_, GrowingBuffer>,
        emit: &mut impl FnMut(Event<'_, GrowingBuffer>),
    ) {
        match event {
            Event::Message { handle, kind, payload } => {
                let Some(client) = self.table.client(handle) else { return };
                match client.stage {
                    Stage::Open if client.is_paused => {
                        client.keep(Kept::new(kind, payload));
                    }
                    Stage::Open => emit(Event::Message { handle, kind, payload }),
                    // Nothing is reported of a client that the caller has closed.
                    _ => {}
                }
            }
            Event::Requested { handle, .. } => {
                self.insert(handle);
                emit(event);
            }
            Event::Abandoned { handle, reason } => self.abandon(handle, reason, emit),
            Event::Closed { handle, closed } => self.end_or_keep(handle, closed, emit),
            Event::RateLimited { handle } | Event::Idle { handle } => {
                if self.stage(handle) == Some(Stage::Open) {
                    emit(event);
                }
            }
            Event::Refused { .. }
            | Event::Aborted { .. }
            | Event::TlsFailed { .. }
            | Event::Dropping { .. }
            | Event::AcceptPaused { .. }
            | Event::AcceptResumed
            | Event::MemoryShort { .. }
            | Event::MemoryAmple { .. } => emit(event),
        }
    }

    /// Whether something that was kept back is wanted again.
    pub fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// Pass on the next of that. False if there is none.
    pub fn pass_released(&mut self, emit: &mut impl FnMut(Event<'_, GrowingBuffer>)) -> bool {
        match self.released.pop_front() {
            None => return false,
            Some(Released::Message(handle, kept)) => {
                let (kind, payload) = (kept.kind, Payload::Owned(kept.payload));
                self.pass(Event::Message { handle, kind, payload }, emit);
            }
            Some(Released::Closed(handle, closed)) => self.end_or_keep(handle, closed, emit),
        }
        true
    }

    /// Everything that was to go out is on its way: whoever has ended is nobody from now on.
    /// Returns those whose farewell may go.
    pub fn flush(&mut self) -> Vec<Handle> {
        for handle in std::mem::take(&mut self.closing) {
            self.leave_topics(handle);
            if let Some(client) = self.table.client(handle)
                && client.stage == Stage::Closing
            {
                client.stage = Stage::Closed;
            }
        }
        let farewells = std::mem::take(&mut self.farewells);
        let lost = std::mem::take(&mut self.lost);
        farewells.iter().chain(&lost).for_each(|handle| self.remove(*handle));
        farewells
    }

    /// An undecided client is open from now on. False if it is not, or not any more, undecided.
    pub fn accept(&mut self, handle: Handle) -> bool {
        match self.table.client(handle) {
            Some(client) if client.stage == Stage::Deciding => client.stage = Stage::Open,
            _ => return false,
        }
        self.open += 1;
        true
    }

    /// An undecided client is nobody from now on. False as above.
    pub fn reject(&mut self, handle: Handle) -> bool {
        let is_undecided = self.stage(handle) == Some(Stage::Deciding);
        if is_undecided {
            self.remove(handle);
        }
        is_undecided
    }

    /// The caller closes a client. False if it is not open.
    pub fn close(&mut self, handle: Handle) -> bool {
        let Some(client) = self.table.client(handle) else { return false };
        if client.stage != Stage::Open {
            return false;
        }
        client.stage = Stage::Closing;
        // It had closed itself, and is not asked again.
        if let Some(closed) = client.kept.take().and_then(|kept| kept.closed) {
            self.released.push_back(Released::Closed(handle, closed));
        }
        self.open -= 1;
        self.closing.push(handle);
        true
    }

    /// A client has been closed by its shard, which is to be reported yet: nothing can be sent to
    /// it any more.
    pub fn foresee_end(&mut self, handle: Handle) {
        if let Some(client) = self.table.client(handle)
            && client.stage == Stage::Open
        {
            client.stage = Stage::Closed;
            self.open -= 1;
        }
    }

    /// The caller closes everybody. Returns how many were open.
    pub fn close_all(&mut self) -> usize {
        let mut open = Vec::new();
        for client in self.table.0.iter_mut().flatten().flatten() {
            match client.stage {
                Stage::Open => open.push(client.handle),
                Stage::Deciding => client.stage = Stage::Refused,
                Stage::Refused | Stage::Closing | Stage::Closed | Stage::Ended => {}
            }
        }
        open.into_iter().filter(|handle| self.close(*handle)).count()
    }

    /// Keep back what a client sends.
    pub fn pause(&mut self, handle: Handle) {
        if let Some(client) = self.table.client(handle) {
            client.is_paused = true;
        }
    }

    /// Pass it on again, and what was kept back first.
    pub fn resume(&mut self, handle: Handle) {
        let Some(client) = self.table.client(handle) else { return };
        client.is_paused = false;
        let Some(kept) = client.kept.take() else { return };
        let messages = kept.messages.into_iter().map(|message| Released::Message(handle, message));
        self.released.extend(messages);
        self.released.extend(kept.closed.map(|closed| Released::Closed(handle, closed)));
    }

    /// Whether messages may be sent to a client.
    pub fn is_reachable(&self, handle: Handle) -> bool {
        match self.stage(handle) {
            Some(Stage::Deciding | Stage::Open | Stage::Closing | Stage::Ended) => true,
            Some(Stage::Refused | Stage::Closed) | None => false,
        }
    }

    /// Whether some were closed by the caller since the last flush.
    pub fn is_closing(&self) -> bool {
        !self.closing.is_empty()
    }

    /// Clients that are open.
    pub fn open_count(&self) -> usize {
        self.open
    }

    /// Clients to whom a broadcast goes.
    pub fn accepted_count(&self) -> usize {
        self.open + self.closing.len() + self.farewells.len()
    }

    /// At most `most` of them, from place `first` on; and the place to go on from, if any is left.
    pub fn accepted_from(&self, first: u32, most: usize) -> (Vec<Handle>, Option<u32>) {
        let mut found = Vec::new();
        let shards = self.table.0.iter().enumerate();
        let places = shards.flat_map(|(shard, slots)| {
            slots.iter().enumerate().map(move |(slot, client)| (place(shard, slot), client))
        });
        for (place, client) in places.filter(|(place, _)| *place >= first) {
            let Some(client) = client else { continue };
            match client.stage {
                Stage::Open | Stage::Closing | Stage::Ended => {}
                Stage::Deciding | Stage::Refused | Stage::Closed => continue,
            }
            if found.len() == most {
                return (found, Some(place));
            }
            found.push(client.handle);
        }
        (found, None)
    }

    /// Let a client hear a topic. False if it is gone or already does.
    pub fn subscribe(&mut self, handle: Handle, topic: &str) -> bool {
        self.is_reachable(handle) && self.topics.subscribe(&mut self.table, place_of(handle), topic)
    }

    /// Let a client no longer hear a topic. False if it did not.
    pub fn unsubscribe(&mut self, handle: Handle, topic: &str) -> bool {
        self.table.client(handle).is_some()
            && self.topics.unsubscribe(&mut self.table, place_of(handle), topic)
    }

    /// Whether a client hears a topic.
    pub fn hears(&self, handle: Handle, topic: &str) -> bool {
        self.topics.hears(self.memberships(handle), topic)
    }

    /// The topics that a client hears.
    pub fn topics_of(&self, handle: Handle) -> impl Iterator<Item = &str> {
        self.topics.names(self.memberships(handle))
    }

    /// How many topics a client hears.
    pub fn topic_count(&self, handle: Handle) -> usize {
        self.memberships(handle).len()
    }

    /// Every topic.
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// What messages in a topic begin with, if that was said.
    pub fn opening(&self, topic: &str) -> Option<&[u8]> {
        self.topics.opening(self.topics.find(topic)?)
    }

    /// Say what messages in a topic begin with, as long as it has a subscriber. False where it has
    /// none.
    pub fn open_topic(&mut self, topic: &str, opening: &[u8]) -> bool {
        self.topics.open(topic, opening)
    }

    /// Who hears a topic.
    pub fn subscribers(&self, topic: &str) -> impl Iterator<Item = Handle> {
        let places = self.topics.subscribers(topic).iter();
        places.filter_map(|place| self.table.at(*place)).map(|client| client.handle)
    }

    /// Who hears a topic, if it is one alone.
    pub fn only_subscriber(&self, topic: &str) -> Option<Handle> {
        match *self.topics.subscribers(topic) {
            [place] => self.table.at(place).map(|client| client.handle),
            _ => None,
        }
    }

    /// How many hear a topic, and a set of the numbers of their shards.
    pub fn audience(&self, topic: &str) -> (usize, u64) {
        let subscribers = self.topics.subscribers(topic);
        let all = u64::MAX >> (u64::BITS as usize - self.table.0.len());
        let mut shards = 0;
        for place in subscribers {
            shards |= 1 << (place >> SLOT_BITS);
            if shards == all {
                break;
            }
        }
        (subscribers.len(), shards)
    }

    fn stage(&self, handle: Handle) -> Option<Stage> {
        let client = self.table.at(place_of(handle)).filter(|client| client.handle == handle);
        client.map(|client| client.stage)
    }

    fn memberships(&self, handle: Handle) -> &[Membership] {
        let client = self.table.at(place_of(handle)).filter(|client| client.handle == handle);
        client.map(|client| client.memberships.as_slice()).unwrap_or_default()
    }

    fn insert(&mut self, handle: Handle) {
        // Whoever was there has ended, and was reported in this batch.
        let before = self.table.at(place_of(handle)).map(|client| client.handle);
        if let Some(before) = before {
            self.remove(before);
        }
        let client = Client {
            handle,
            stage: Stage::Deciding,
            memberships: Vec::new(),
            is_paused: false,
            kept: None,
        };
        if let Some(slots) = self.table.0.get_mut(handle.shard()) {
            let slot = handle.slot() as usize;
            if slots.len() <= slot {
                slots.resize_with(slot + 1, || None);
            }
            slots.splice(slot..=slot, [Some(client)]);
        }
    }

    fn abandon(
        &mut self,
        handle: Handle,
        reason: String,
        emit: &mut impl FnMut(Event<'_, GrowingBuffer>),
    ) {
        match self.stage(handle) {
            Some(Stage::Deciding | Stage::Refused) => {
                self.remove(handle);
                emit(Event::Abandoned { handle, reason });
            }
            // It was gone when it was accepted, which was not known then.
            Some(Stage::Open | Stage::Closing | Stage::Closed) => {
                self.end(handle, Closed::lost(), emit);
            }
            Some(Stage::Ended) | None => {}
        }
    }

    fn end_or_keep(
        &mut self,
        handle: Handle,
        closed: Closed,
        emit: &mut impl FnMut(Event<'_, GrowingBuffer>),
    ) {
        let Some(client) = self.table.client(handle) else { return };
        if client.stage == Stage::Open
            && closed.side != Side::Lost
            && let Some(kept) = &mut client.kept
        {
            kept.closed = Some(closed);
            return;
        }
        self.end(handle, closed, emit);
    }

    fn end(
        &mut self,
        handle: Handle,
        closed: Closed,
        emit: &mut impl FnMut(Event<'_, GrowingBuffer>),
    ) {
        let Some(client) = self.table.client(handle) else { return };
        client.kept = None;
        let before = std::mem::replace(&mut client.stage, Stage::Ended);
        match before {
            Stage::Open => self.open -= 1,
            Stage::Closing => self.closing.retain(|each| *each != handle),
            Stage::Ended => return,
            Stage::Deciding | Stage::Refused | Stage::Closed => {}
        }
        let ended = if closed.side == Side::Lost { &mut self.lost } else { &mut self.farewells };
        ended.push(handle);
        emit(Event::Closed { handle, closed });
    }

    fn leave_topics(&mut self, handle: Handle) {
        let Some(client) = self.table.client(handle) else { return };
        let memberships = std::mem::take(&mut client.memberships);
        self.topics.leave_all(&mut self.table, memberships);
    }

    fn remove(&mut self, handle: Handle) {
        self.leave_topics(handle);
        if let Some(seat) = self.table.seat(handle)
            && seat.as_ref().is_some_and(|client| client.handle == handle)
        {
            *seat = None;
        }
    }
}

impl Client {
    fn keep(&mut self, message: Kept) {
        self.kept.get_or_insert_default().messages.push_back(message);
    }
}

impl Table {
    fn seat(&mut self, handle: Handle) -> Option<&mut Option<Client>> {
        self.0.get_mut(handle.shard())?.get_mut(handle.slot() as usize)
    }

    fn client(&mut self, handle: Handle) -> Option<&mut Client> {
        self.seat(handle)?.as_mut().filter(|client| client.handle == handle)
    }

    fn at(&self, place: u32) -> Option<&Client> {
        let (shard, slot) = (place >> SLOT_BITS, place & (u32::MAX >> (u32::BITS - SLOT_BITS)));
        self.0.get(shard as usize)?.get(slot as usize)?.as_ref()
    }
}

impl Memberships for Table {
    fn memberships(&mut self, place: u32) -> Option<&mut Vec<Membership>> {
        let (shard, slot) = (place >> SLOT_BITS, place & (u32::MAX >> (u32::BITS - SLOT_BITS)));
        let client = self.0.get_mut(shard as usize)?.get_mut(slot as usize)?.as_mut()?;
        Some(&mut client.memberships)
    }
}

fn place_of(handle: Handle) -> u32 {
    place(handle.shard(), handle.slot() as usize)
}

/// A client's place among those of all shards.
#[allow(clippy::cast_possible_truncation)] // Below 2⁶ shards and 2²⁶ slots.
fn place(shard: usize, slot: usize) -> u32 {
    (shard as u32) << SLOT_BITS | slot as u32
}
