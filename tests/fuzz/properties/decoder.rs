//! The decoder sees what the reference sees, however the input is cut or received, and keeps
//! no more than it may.

use rakit_ws_core::protocol::{Decoder, Event, GrowingBuffer, Limits, Payload, Role};

use super::reference::{self, Seen};

/// Longest header or control frame that may be left waiting.
const MOST_TAIL: usize = 131;

/// The first three bytes are settings: role and fragments, size of messages, and where to cut.
pub fn check(data: &[u8]) {
    let Some((&[role, limit, cuts], input)) = data.split_first_chunk::<3>() else { return };
    let max_fragments = if role < 2 { u32::MAX } else { u32::from(role / 2) };
    let role = if role % 2 == 0 { Role::Server } else { Role::Client };
    let limits = Limits { max_message_bytes: limit_of(limit), max_fragments };
    let expected = reference::decode(role == Role::Server, limits, input);

    let mut whole = Peer::new(role, limits);
    whole.receive(input);
    assert_eq!(whole.seen, expected, "whole");

    let mut cut = Peer::new(role, limits);
    let mut rest = input;
    let mut step = u64::from(cuts);
    while !rest.is_empty() {
        // A small congruential generator: the cuts depend on nothing but the input.
        step = step.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let size = 1 + usize::try_from(step >> 33).unwrap() % (1 + usize::from(cuts));
        let (piece, behind) = rest.split_at(size.min(rest.len()));
        cut.receive(piece);
        rest = behind;
    }
    assert_eq!(cut.seen, expected, "cut");

    let mut direct = Peer::new(role, limits);
    direct.receive_directly(input, 1 + u64::from(cuts));
    assert_eq!(direct.seen, expected, "received directly");
}

/// From none over a few bytes to more than any input has.
fn limit_of(setting: u8) -> u64 {
    match setting {
        0..=127 => u64::from(setting),
        128..=254 => 1 << (setting % 64),
        255 => u64::MAX,
    }
}

/// A decoder with what its owner keeps for it.
pub(super) struct Peer {
    decoder: Decoder<GrowingBuffer>,
    limits: Limits,
    tail: Vec<u8>,
    pub(super) seen: Vec<Seen>,
}

impl Peer {
    fn new(role: Role, limits: Limits) -> Self {
        Self::with(Decoder::new(role), limits)
    }

    pub(super) fn with(decoder: Decoder<GrowingBuffer>, limits: Limits) -> Self {
        Self { decoder, limits, tail: Vec::new(), seen: Vec::new() }
    }

    pub(super) fn receive(&mut self, piece: &[u8]) {
        let mut bytes = std::mem::take(&mut self.tail);
        bytes.extend_from_slice(piece);
        let mut input = bytes.as_mut_slice();
        loop {
            match self.decoder.next(&mut input, &self.limits) {
                Ok(None) => break,
                Ok(Some(event)) => self.seen.push(owned(event)),
                Err(failure) => self.seen.push(Seen::Failed(failure.code.get())),
            }
        }
        self.tail = input.to_vec();
        self.check_sizes();
    }

    /// Receive as the engine does: payloads of some size straight into their own memory.
    pub(super) fn receive_directly(&mut self, mut piece: &[u8], at_least: u64) {
        while !piece.is_empty() {
            let Some(room) = self.decoder.room(at_least) else {
                let (now, later) = piece.split_at(piece.len().min(7));
                self.receive(now);
                piece = later;
                continue;
            };
            let count = room.len().min(piece.len());
            room[..count].copy_from_slice(&piece[..count]);
            piece = &piece[count..];
            match self.decoder.received(count) {
                Ok(None) => {}
                Ok(Some(event)) => self.seen.push(owned(event)),
                Err(failure) => self.seen.push(Seen::Failed(failure.code.get())),
            }
            self.check_sizes();
        }
    }

    fn check_sizes(&self) {
        assert!(self.tail.len() <= MOST_TAIL, "{} bytes wait", self.tail.len());
        assert!(self.decoder.buffered() as u64 <= self.limits.max_message_bytes);
    }
}

fn owned(event: Event<'_, GrowingBuffer>) -> Seen {
    match event {
        Event::Message(kind, Payload::Borrowed(bytes)) => {
            Seen::Message(kind.opcode() as u8, bytes.to_vec())
        }
        Event::Message(kind, Payload::Owned(buffer)) => {
            Seen::Message(kind.opcode() as u8, buffer.into_vec())
        }
        Event::Ping(payload) => Seen::Ping(payload.to_vec()),
        Event::Pong(payload) => Seen::Pong(payload.to_vec()),
        Event::Close(code, reason) => Seen::Close(code.get(), reason.to_owned()),
    }
}
