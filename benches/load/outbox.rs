//! What a connection has yet to send.

use std::io::{self, ErrorKind, Write};
use std::rc::Rc;

use crate::ring::Ring;

/// Frames of a ring, counted and not copied; and in front of them, at the next boundary of a
/// frame, what is urgent: the handshake, a subscription, control frames.
#[derive(Debug, Default)]
pub struct Outbox {
    urgent: Vec<u8>,
    ring: Option<Rc<Ring>>,
    at: usize,
    owed_bytes: usize,
}

/// Whether a flush sent everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    All,
    Blocked,
}

impl Outbox {
    /// An empty outbox; without a ring it takes only what is urgent.
    pub fn new(ring: Option<Rc<Ring>>) -> Self {
        Self { ring, ..Self::default() }
    }

    /// Queue the next `count` frames of the ring.
    pub fn queue(&mut self, count: usize) {
        if let Some(ring) = &self.ring {
            self.owed_bytes += count * ring.frame_bytes();
        }
    }

    /// Queue bytes that go before the frames.
    pub fn queue_urgent(&mut self, bytes: &[u8]) {
        self.urgent.extend_from_slice(bytes);
    }

    /// Send with one call if the socket takes it all.
    pub fn flush(&mut self, socket: &mut impl Write) -> io::Result<Flushed> {
        loop {
            let piece = self.next_piece();
            if piece.is_empty() {
                return Ok(Flushed::All);
            }
            let len = piece.len();
            match socket.write(piece) {
                Ok(sent) => {
                    self.advance(sent);
                    if sent < len {
                        return Ok(Flushed::Blocked);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Flushed::Blocked),
                // A connect that is under way.
                Err(error) if error.kind() == ErrorKind::NotConnected => {
                    return Ok(Flushed::Blocked);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn next_piece(&self) -> &[u8] {
        let Some(ring) = &self.ring else { return &self.urgent };
        match self.urgent.as_slice() {
            [] => ring.slice(self.at, self.owed_bytes),
            urgent if self.sent_of_frame(ring) == 0 => urgent,
            _ => ring.slice(self.at, ring.frame_bytes() - self.sent_of_frame(ring)),
        }
    }

    fn advance(&mut self, sent: usize) {
        match &self.ring {
            Some(ring) if self.urgent.is_empty() || self.sent_of_frame(ring) > 0 => {
                self.owed_bytes -= sent;
                self.at = ring.position_behind(self.at, sent);
            }
            _ => drop(self.urgent.drain(..sent)),
        }
    }

    fn sent_of_frame(&self, ring: &Ring) -> usize {
        self.at % ring.frame_bytes()
    }
}
