//! The frames that a connection sends, over and over, made before the clock runs.

use rakit_ws_core::protocol::{Kind, encoder};

/// Frames of one length, masked, one behind the other; after the last comes the first again.
#[derive(Debug)]
pub struct Ring {
    /// All frames twice, so that any run of up to `frames` of them is one slice.
    bytes: Vec<u8>,
    frames: usize,
    frame_bytes: usize,
}

impl Ring {
    /// One frame for each message. All messages must have the same length.
    pub fn new(kind: Kind, messages: &[Vec<u8>]) -> Self {
        let mut bytes: Vec<u8> = Vec::new();
        for (key, message) in (1_u32..).zip(messages) {
            let key = key.wrapping_mul(0x9E37_79B9).to_le_bytes();
            bytes.extend(encoder::any_frame(true, kind.opcode(), Some(key), message));
        }
        let frame_bytes = bytes.len() / messages.len();
        assert_eq!(frame_bytes * messages.len(), bytes.len(), "messages of different lengths");
        bytes.extend_from_within(..);
        Self { bytes, frames: messages.len(), frame_bytes }
    }

    /// The length of one frame.
    pub fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }

    /// Up to `len` bytes from `at`, a position within the first round.
    pub fn slice(&self, at: usize, len: usize) -> &[u8] {
        &self.bytes[at..self.bytes.len().min(at + len)]
    }

    /// The position `count` bytes behind `at`, again within the first round.
    pub fn position_behind(&self, at: usize, count: usize) -> usize {
        (at + count) % (self.frames * self.frame_bytes)
    }
}

/// How many different messages a connection sends with so many in flight: a burst is one slice of
/// the ring, and a server that mixes up or repeats messages is found out.
pub fn variety(in_flight: usize) -> usize {
    in_flight.max(4)
}

/// A text of this many bytes that begins with `number`.
pub fn numbered_text(number: usize, bytes: usize) -> String {
    let mut text = format!("{number:05} ");
    while text.len() < bytes {
        text.push_str("selamat pagi, apa kabar? ");
    }
    text.truncate(bytes);
    text
}
