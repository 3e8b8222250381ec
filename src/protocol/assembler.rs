//! From fragments to messages (RFC 6455 §5.4).

use super::buffer::MessageBuffer;
use super::close::Failure;
use super::frame::Opcode;
use super::utf8::Utf8Stream;

/// What a peer may make this endpoint hold. Checked when a header is known, before its payload.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of one message, all fragments together; one more fails with 1009.
    pub max_message_bytes: u64,
    /// Frames of one message, empty ones too; one more fails with 1008.
    pub max_fragments: u32,
}

impl Default for Limits {
    /// 1 MiB a message, as `websockets` has it, in 65,536 fragments, as Autobahn 9.3.1 sends it.
    fn default() -> Self {
        Self { max_message_bytes: 1 << 20, max_fragments: 1 << 16 }
    }
}

/// Text or binary: what a message is, from its first fragment's opcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8, validated.
    Text,
    /// Any bytes.
    Binary,
}

impl Kind {
    /// The opcode of a frame that carries a message of this kind.
    pub const fn opcode(self) -> Opcode {
        match self {
            Self::Text => Opcode::Text,
            Self::Binary => Opcode::Binary,
        }
    }
}

/// The message under way, if any.
///
/// ```text
/// Idle ─first fragment─► Kind known ─fragments─► … ─last byte of the final one─► Idle
/// ```
#[derive(Debug, Default)]
pub struct Assembler<B> {
    under_way: Option<Kind>,
    fragments: u32,
    buffer: B,
    text: Utf8Stream,
}

impl<B: MessageBuffer> Assembler<B> {
    /// The kind of message that a data frame with this opcode belongs to.
    ///
    /// Fails with 1002 for a continuation of nothing, or a new message inside another (§5.4).
    pub fn kind_of(&self, opcode: Opcode) -> Result<Kind, Failure> {
        match (self.under_way, opcode) {
            (Some(kind), Opcode::Continuation) => Ok(kind),
            (None, Opcode::Text) => Ok(Kind::Text),
            (None, Opcode::Binary) => Ok(Kind::Binary),
            (None, _) => Err(Failure::protocol("continuation of no message")),
            (Some(_), _) => Err(Failure::protocol("new message inside a fragmented one")),
        }
    }

    /// Check that a further frame of the message under way is within their limit (1008).
    pub fn check_fragments(&self, limits: &Limits) -> Result<(), Failure> {
        if self.fragments < limits.max_fragments {
            Ok(())
        } else {
            Err(Failure::too_many_fragments())
        }
    }

    /// Check that a frame of `payload_len` bytes keeps the message within its limit (1009).
    pub fn check_len(&self, payload_len: u64, limits: &Limits) -> Result<(), Failure> {
        match (self.buffer.len() as u64).checked_add(payload_len) {
            Some(total) if total <= limits.max_message_bytes => Ok(()),
            _ => Err(Failure::too_big()),
        }
    }

    /// Whether the next data frame begins a message.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_none()
    }

    /// Bytes held for the message under way.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes allocated for the message under way.
    pub fn held(&self) -> usize {
        self.buffer.capacity()
    }

    /// A frame of a message of this kind has begun.
    pub fn begin(&mut self, kind: Kind) {
        self.under_way = Some(kind);
        self.fragments = self.fragments.saturating_add(1);
    }

    /// Take unmasked payload; `rest` is how many bytes of its frame are still to come.
    ///
    /// Fails with 1007 at the byte that makes a text invalid. Copies.
    pub fn append(&mut self, payload: &[u8], rest: usize) -> Result<(), Failure> {
        if self.under_way == Some(Kind::Text) {
            self.text.receive(payload)?;
        }
        self.buffer.append(payload, self.buffer.len() + payload.len() + rest);
        Ok(())
    }

    /// Room to receive payload without a copy; `rest` is how much of the frame is to come.
    pub fn room(&mut self, rest: usize) -> &mut [u8] {
        self.buffer.room(1, self.buffer.len() + rest)
    }

    /// The first `count` bytes of that room now hold unmasked payload. Fails as `append` does.
    pub fn received(&mut self, count: usize, rest: usize) -> Result<(), Failure> {
        if self.under_way == Some(Kind::Text) {
            let room = self.buffer.room(1, self.buffer.len() + rest);
            self.text.receive(room.get(..count).unwrap_or_default())?;
        }
        self.buffer.advance(count);
        Ok(())
    }

    /// The message is whole: return it and be idle. Fails with 1007 inside a character.
    pub fn finish(&mut self) -> Result<(Kind, B), Failure> {
        self.text.finish()?;
        self.fragments = 0;
        let kind = self.under_way.take().unwrap_or(Kind::Binary);
        Ok((kind, std::mem::take(&mut self.buffer)))
    }
}
