//! Events on their way from a shard's thread to the caller's.

use std::vec;

use crate::engine::handle::Handle;
use crate::engine::shard::Event;
use crate::engine::work;
use crate::protocol::{CloseCode, GrowingBuffer, Kind, MessageBuffer, Payload};

/// What happened in one shard, oldest first. Payloads that the shard had only borrowed lie one
/// behind the other: a small message costs no allocation.
#[derive(Debug, Default)]
pub struct Batch {
    events: Vec<Entry>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
enum Entry {
    /// A message whose payload is the next `len` of the bytes.
    Message { handle: Handle, kind: Kind, len: usize },
    /// Anything else.
    Event(Box<Event<'static, GrowingBuffer>>),
}

impl Batch {
    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Something happened. Copies a payload that is borrowed.
    pub fn push(&mut self, event: Event<'_, GrowingBuffer>) {
        let event = match event {
            Event::Message { handle, kind, payload: Payload::Borrowed(bytes) } => {
                self.bytes.extend_from_slice(bytes);
                return self.events.push(Entry::Message { handle, kind, len: bytes.len() });
            }
            Event::Message { handle, kind, payload: Payload::Owned(buffer) } => {
                Event::Message { handle, kind, payload: Payload::Owned(buffer) }
            }
            Event::Requested { handle, request, peer, proxy, is_secure } => {
                Event::Requested { handle, request, peer, proxy, is_secure }
            }
            Event::Abandoned { handle, reason } => Event::Abandoned { handle, reason },
            Event::Refused { peer, refusal } => Event::Refused { peer, refusal },
            Event::Aborted { peer, reason } => Event::Aborted { peer, reason },
            Event::TlsFailed { peer, reason } => Event::TlsFailed { peer, reason },
            Event::RateLimited { handle } => Event::RateLimited { handle },
            Event::Idle { handle } => Event::Idle { handle },
            Event::Closed { handle, closed } => Event::Closed { handle, closed },
            Event::Dropping { handle, queued } => Event::Dropping { handle, queued },
            Event::AcceptPaused { error } => Event::AcceptPaused { error },
            Event::AcceptResumed => Event::AcceptResumed,
            Event::MemoryShort { held } => Event::MemoryShort { held },
            Event::MemoryAmple { held } => Event::MemoryAmple { held },
        };
        self.events.push(Entry::Event(Box::new(event)));
    }

    /// To be read from the first event on.
    pub fn read(self) -> Reading {
        Reading { events: self.events.into_iter(), bytes: self.bytes, taken: 0 }
    }
}

/// A batch of which some events were taken.
#[derive(Debug)]
pub struct Reading {
    events: vec::IntoIter<Entry>,
    bytes: Vec<u8>,
    taken: usize,
}

impl Reading {
    /// The next event.
    pub fn next(&mut self) -> Option<Event<'_, GrowingBuffer>> {
        match self.events.next()? {
            Entry::Event(event) => Some(*event),
            Entry::Message { handle, kind, len } => {
                let from = self.taken;
                self.taken += len;
                let bytes = self.bytes.get(from..self.taken).unwrap_or_default();
                Some(Event::Message { handle, kind, payload: Payload::Borrowed(bytes) })
            }
        }
    }

    /// Those among the events to come that are of connections that were closed with `code`.
    pub fn closed_with(&self, code: CloseCode) -> impl Iterator<Item = Handle> {
        self.events.as_slice().iter().filter_map(move |entry| match entry {
            Entry::Event(event) => match &**event {
                Event::Closed { handle, closed } if closed.code == code => Some(*handle),
                _ => None,
            },
            Entry::Message { .. } => None,
        })
    }

    /// Whether none is left.
    pub fn is_over(&self) -> bool {
        self.events.as_slice().is_empty()
    }
}

/// What it costs to hand an event on and to handle it, in units of [`work`].
pub fn units_of(event: &Event<'_, GrowingBuffer>) -> u64 {
    match event {
        Event::Message { payload, .. } => 2 + work::of_bytes(payload.len() as u64),
        Event::Requested { .. } => work::REQUEST,
        Event::Closed { .. } | Event::Abandoned { .. } => work::ACCEPTED,
        Event::Refused { .. }
        | Event::Aborted { .. }
        | Event::TlsFailed { .. }
        | Event::RateLimited { .. }
        | Event::Idle { .. }
        | Event::Dropping { .. }
        | Event::AcceptPaused { .. }
        | Event::AcceptResumed
        | Event::MemoryShort { .. }
        | Event::MemoryAmple { .. } => 2,
    }
}

/// A message that was taken out of its batch, to be reported later.
#[derive(Debug)]
pub struct Kept {
    /// Text or binary.
    pub kind: Kind,
    /// Its content.
    pub payload: GrowingBuffer,
}

impl Kept {
    /// Copies a payload that is borrowed.
    pub fn new(kind: Kind, payload: Payload<'_, GrowingBuffer>) -> Self {
        let payload = match payload {
            Payload::Owned(buffer) => buffer,
            Payload::Borrowed(bytes) => {
                let mut buffer = GrowingBuffer::default();
                buffer.append(bytes, bytes.len());
                buffer
            }
        };
        Self { kind, payload }
    }
}
