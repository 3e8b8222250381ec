//! One connection to the server.

use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use rakit_ws_core::protocol::{Decoder, Event, Kind, Limits, Opcode, Payload, Role, encoder};

use crate::compression::Inflating;
use crate::fault::Fault;
use crate::outbox::{Flushed, Outbox};
use crate::pooled::Pooled;
use crate::ring::Ring;
use crate::upgrade;

/// From here on a frame is received where it will lie, instead of being copied there.
const DIRECT_BYTES: u64 = 64 * 1024;

const LIMITS: Limits = Limits { max_message_bytes: 1 << 30, max_fragments: u32::MAX };
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A socket with what was not yet sent and what was not yet understood.
pub struct Connection {
    id: usize,
    socket: TcpStream,
    stage: Stage,
    deflate: bool,
    decoder: Decoder<Pooled>,
    /// The beginning of a head, a header or a control frame.
    tail: Vec<u8>,
    pub outbox: Outbox,
    /// Whether the poller watches for room to send.
    watched_for_room: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Upgrading,
    Open,
    /// A Close is queued or sent.
    Leaving,
}

/// What a connection hears.
pub enum Heard<'a> {
    Upgraded,
    Message(Kind, &'a [u8]),
    /// The Close is answered.
    Left,
}

/// What to tell the poller after a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    AsBefore,
    Room(bool),
}

impl Connection {
    /// A connection whose handshake is queued. The poller watches it for room to send.
    ///
    /// With `inflating` its messages are to be compressed.
    pub fn new(
        id: usize,
        socket: TcpStream,
        ring: Option<Rc<Ring>>,
        request: &[u8],
        inflating: Option<&Inflating>,
    ) -> Self {
        let mut outbox = Outbox::new(ring);
        outbox.queue_urgent(request);
        Self {
            id,
            socket,
            stage: Stage::Upgrading,
            deflate: inflating.is_some(),
            decoder: inflating.map_or_else(|| Decoder::new(Role::Client), Inflating::decoder),
            tail: Vec::new(),
            outbox,
            watched_for_room: true,
        }
    }

    /// Queue a text message in front of all others.
    pub fn say(&mut self, text: &str) {
        self.outbox.queue_urgent(&masked(Opcode::Text, text.as_bytes()));
    }

    /// Send a Close, as the last thing.
    pub fn close(&mut self) -> Result<Watch, Fault> {
        self.stage = Stage::Leaving;
        self.outbox.queue_urgent(&masked(Opcode::Close, &1000_u16.to_be_bytes()));
        self.flush()
    }

    /// Send what is queued.
    pub fn flush(&mut self) -> Result<Watch, Fault> {
        let flushed = self.outbox.flush(&mut self.socket).map_err(|error| self.lost(error))?;
        let room = flushed == Flushed::Blocked;
        if room == self.watched_for_room {
            return Ok(Watch::AsBefore);
        }
        self.watched_for_room = room;
        Ok(Watch::Room(room))
    }

    /// Read once, into `scratch` or where the message under way lies; tell what is complete.
    pub fn receive(
        &mut self,
        scratch: &mut [u8],
        mut tell: impl FnMut(Heard<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if let Some(room) = self.decoder.room(DIRECT_BYTES) {
            let read = self.socket.read(room);
            let Some(count) = self.count(read)? else { return Ok(()) };
            let event = self.decoder.received(count);
            return match event.map_err(|failure| Fault::Protocol { id: self.id, failure })? {
                Some(event) => self.handle(event, &mut tell),
                None => Ok(()),
            };
        }
        let kept = self.tail.len();
        let read = self.socket.read(&mut scratch[kept..]);
        let Some(count) = self.count(read)? else { return Ok(()) };
        scratch[..kept].copy_from_slice(&self.tail);
        self.tail.clear();
        self.understand(&mut scratch[..kept + count], &mut tell)
    }

    fn understand(
        &mut self,
        mut input: &mut [u8],
        tell: &mut impl FnMut(Heard<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if self.stage == Stage::Upgrading {
            let Some(len) = upgrade::response_len(input, self.deflate).map_err(Fault::Refused)?
            else {
                self.tail.extend_from_slice(input);
                return Ok(());
            };
            self.stage = Stage::Open;
            input = &mut input[len..];
            tell(Heard::Upgraded)?;
        }
        loop {
            match self.decoder.next(&mut input, &LIMITS) {
                Ok(Some(event)) => self.handle(event, tell)?,
                Ok(None) => break,
                Err(failure) => return Err(Fault::Protocol { id: self.id, failure }),
            }
        }
        self.tail.extend_from_slice(input);
        Ok(())
    }

    fn handle(
        &mut self,
        event: Event<'_, Pooled>,
        tell: &mut impl FnMut(Heard<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        match event {
            Event::Message(kind, Payload::Borrowed(payload)) => tell(Heard::Message(kind, payload)),
            Event::Message(kind, Payload::Owned(payload)) => {
                tell(Heard::Message(kind, payload.as_slice()))
            }
            Event::Ping(payload) => {
                self.outbox.queue_urgent(&masked(Opcode::Pong, payload));
                Ok(())
            }
            Event::Pong(_) => Ok(()),
            Event::Close(..) if self.stage == Stage::Leaving => tell(Heard::Left),
            Event::Close(code, reason) => {
                Err(Fault::Closed { id: self.id, reason: format!("{} {reason}", code.get()) })
            }
        }
    }

    /// How many bytes a read brought; `None` if there is nothing to be read.
    fn count(&self, read: io::Result<usize>) -> Result<Option<usize>, Fault> {
        match read {
            Ok(0) => Err(self.lost(ErrorKind::UnexpectedEof.into())),
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(self.lost(error)),
        }
    }

    fn lost(&self, error: io::Error) -> Fault {
        match self.stage {
            Stage::Upgrading if error.kind() == ErrorKind::ConnectionRefused => {
                Fault::Connect(error)
            }
            Stage::Upgrading => Fault::Refused(format!("no response: {error}")),
            Stage::Open | Stage::Leaving => {
                Fault::Closed { id: self.id, reason: format!("without a Close ({error})") }
            }
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    encoder::any_frame(true, opcode, Some(MASK), payload)
}
