//! Messages that come compressed, inflated as their bytes arrive (RFC 7692 §7.2.2).

// `Limits` has one field today; it is passed as what it will be.
#![allow(clippy::trivially_copy_pass_by_ref)]

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zlib_rs::{Inflate, InflateFlush, Status};

use super::{Agreement, MAX_WINDOW_BITS};
use crate::protocol::assembler::{Assembler, Limits};
use crate::protocol::buffer::MessageBuffer;
use crate::protocol::close::Failure;

/// What is inflated before it is looked at and copied to its message.
const SCRATCH_BYTES: usize = 16 * 1024;

/// What an inflater holds: its window and its tables.
const INFLATER_BYTES: usize = 40 * 1024;

/// Inflaters that wait for a message.
const MAX_IDLE: usize = 16;

/// Streams that end inside one message, and begin anew (RFC 7692 §7.2.3.4 has one). Each is two
/// bytes to send and up to 32 KiB to copy.
const MAX_RESTARTS: u32 = 16;

/// What a message lacks ([`TAIL`](super::TAIL)), and a final, empty block, which is read as one only
/// where everything before it was whole.
const END: [u8; 9] = [0x00, 0x00, 0xFF, 0xFF, 0x01, 0x00, 0x00, 0xFF, 0xFF];

/// What many connections inflate with: a connection borrows an inflater while a message of its
/// own is under way, so that an idle one holds none. A clone is the same pool.
#[derive(Clone, Default)]
pub struct InflaterPool(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    idle: Vec<Inflate>,
    scratch: Vec<u8>,
}

impl InflaterPool {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn give_back(&mut self, mut inflate: Inflate) {
        if self.idle.len() < MAX_IDLE {
            inflate.reset(false);
            self.idle.push(inflate);
        }
    }
}

impl fmt::Debug for InflaterPool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("InflaterPool").field("idle", &self.lock().idle.len()).finish()
    }
}

/// How much was inflated.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Inflated {
    /// Whole messages.
    pub messages: u64,
    /// Bytes that came.
    pub compressed_bytes: u64,
    /// Bytes that they became.
    pub bytes: u64,
}

/// The receiving half of an [`Agreement`].
///
/// ```text
/// Idle ─first frame, RSV1─► inflating ─its pieces─► … ─last byte of the final frame─► Idle
/// ```
///
/// Between messages it holds the window that the peer may refer to, as far as there is one: with
/// context takeover as many bytes as have come, at most 2^`client_window_bits`.
#[derive(Debug)]
pub struct Inflation {
    pool: InflaterPool,
    history: Option<History>,
    under_way: Option<UnderWay>,
    inflated: Inflated,
}

/// A compressed message that has not come whole.
struct UnderWay {
    inflate: Inflate,
    /// Compressed bytes, as far as headers have announced them.
    announced: u64,
    /// Whether the stream has ended with a final block.
    ended: bool,
    restarts: u32,
}

impl Inflation {
    /// What this agreement makes of what the client sends; `pool` is shared with others.
    pub fn new(agreement: Agreement, pool: &InflaterPool) -> Self {
        let takes_over = agreement.client_context_takeover;
        Self {
            pool: pool.clone(),
            history: takes_over.then(|| History::new(agreement.client_window_bits)),
            under_way: None,
            inflated: Inflated::default(),
        }
    }

    /// What has been inflated since the last call.
    pub fn take_inflated(&mut self) -> Inflated {
        std::mem::take(&mut self.inflated)
    }

    /// Nothing is held any more.
    pub fn end(&mut self) {
        self.under_way = None;
        self.history = None;
    }

    /// About how many bytes it holds.
    pub fn held(&self) -> usize {
        let history = self.history.as_ref().map_or(0, |history| history.bytes.capacity());
        history + if self.is_under_way() { INFLATER_BYTES } else { 0 }
    }

    /// Whether the message under way is compressed.
    pub fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Check that a frame of `payload_len` bytes keeps the message within what a message of the
    /// limit can need: an eighth more, and 1 KiB, for data that deflate makes larger (1009).
    pub fn check_len(&self, payload_len: u64, limits: &Limits) -> Result<(), Failure> {
        let limit = limits.max_message_bytes;
        let most = limit.saturating_add(limit / 8).saturating_add(1024);
        let announced = self.under_way.as_ref().map_or(0, |message| message.announced);
        match announced.checked_add(payload_len) {
            Some(total) if total <= most => Ok(()),
            _ => Err(Failure::too_big()),
        }
    }

    /// A compressed message begins.
    pub fn begin(&mut self) {
        let mut inflate = self.pool.lock().idle.pop().unwrap_or_else(new_inflate);
        if let Some(history) = &self.history {
            history.restore(&mut inflate);
        }
        self.under_way = Some(UnderWay { inflate, announced: 0, ended: false, restarts: 0 });
    }

    /// A frame of `payload_len` bytes of the message has begun.
    pub fn announce(&mut self, payload_len: u64) {
        if let Some(message) = &mut self.under_way {
            message.announced = message.announced.saturating_add(payload_len);
        }
    }

    /// Take unmasked payload; `is_last` if the message ends with it.
    ///
    /// What comes out goes to `assembler`, at most what `limits` allow for a message. Fails with
    /// 1009 as soon as there is more, with 1007 at a byte that no deflate stream has, at one that
    /// makes a text invalid, and at the end of a message that is cut.
    pub fn receive<B: MessageBuffer>(
        &mut self,
        piece: &[u8],
        is_last: bool,
        assembler: &mut Assembler<B>,
        limits: &Limits,
    ) -> Result<(), Failure> {
        let Some(message) = &mut self.under_way else { return Ok(()) };
        let before = assembler.buffered();
        let mut shared = self.pool.lock();
        let mut output = Output::new(&mut shared.scratch, assembler, &mut self.history, limits);
        let mut result = message.inflate(piece, &mut output);
        if is_last && result.is_ok() {
            result = message.finish(&mut output);
        }
        // What came out before the fault counts first: as if the input had been cut there.
        let result = output.flush(is_last).and(result);
        self.inflated.compressed_bytes += piece.len() as u64;
        self.inflated.bytes += (assembler.buffered() - before) as u64;
        if is_last && result.is_ok() {
            self.inflated.messages += 1;
        }
        if is_last && let Some(message) = self.under_way.take() {
            shared.give_back(message.inflate);
        }
        result
    }
}

fn new_inflate() -> Inflate {
    // As large as any that is agreed on: the allocation is the same for all.
    Inflate::new(false, MAX_WINDOW_BITS)
}

impl UnderWay {
    fn inflate<B: MessageBuffer>(
        &mut self,
        mut input: &[u8],
        output: &mut Output<'_, B>,
    ) -> Result<(), Failure> {
        let mut is_full = false;
        while !input.is_empty() || is_full {
            if self.ended {
                self.restart(output)?;
            }
            let before = (self.inflate.total_in(), self.inflate.total_out());
            let room = output.room()?;
            let most = room.len();
            let status = self.inflate.decompress(input, room, InflateFlush::SyncFlush);
            let taken = usize::try_from(self.inflate.total_in() - before.0).unwrap_or(usize::MAX);
            let written = usize::try_from(self.inflate.total_out() - before.1).unwrap_or(most);
            input = input.get(taken..).unwrap_or_default();
            is_full = written == most;
            output.advance(written)?;
            match status {
                Ok(Status::StreamEnd) => {
                    self.ended = true;
                    is_full = false;
                }
                Ok(Status::Ok | Status::BufError) if taken > 0 || written > 0 => {}
                // Nothing is left that was only waiting for room.
                Ok(Status::Ok | Status::BufError) if input.is_empty() => return Ok(()),
                Ok(Status::Ok | Status::BufError) | Err(_) => return Err(corrupt()),
            }
        }
        Ok(())
    }

    /// Behind a final block another stream begins, which may refer to what went before.
    fn restart<B: MessageBuffer>(&mut self, output: &mut Output<'_, B>) -> Result<(), Failure> {
        self.restarts += 1;
        if self.restarts > MAX_RESTARTS {
            return Err(corrupt());
        }
        output.flush(false)?;
        self.inflate.reset(false);
        if let Some(history) = output.history {
            history.restore(&mut self.inflate);
        }
        self.ended = false;
        Ok(())
    }

    /// The message's end: what it lacks, and a final block, which is one only where all is whole.
    fn finish<B: MessageBuffer>(&mut self, output: &mut Output<'_, B>) -> Result<(), Failure> {
        // An ended stream should have a byte more (§7.2.3.4), and an empty message one at all
        // (§7.2.3.6): zlib flushes nothing where nothing is new, and some peers send that.
        if self.ended || self.announced == 0 {
            return Ok(());
        }
        let before = (self.restarts, self.inflate.total_out());
        self.inflate(&END, output)?;
        // Where a block was cut, it was taken for its content, as a whole or in part.
        let is_whole = self.ended && (self.restarts, self.inflate.total_out()) == before;
        if is_whole { Ok(()) } else { Err(corrupt()) }
    }
}

impl fmt::Debug for UnderWay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("UnderWay")
            .field("announced", &self.announced)
            .finish_non_exhaustive()
    }
}

fn corrupt() -> Failure {
    Failure::invalid_data()
}

/// Where inflated bytes go: in a scratch first, so that a small message is copied once, to where
/// it fits exactly.
struct Output<'a, B> {
    scratch: &'a mut Vec<u8>,
    len: usize,
    assembler: &'a mut Assembler<B>,
    history: &'a mut Option<History>,
    limit: usize,
}

impl<'a, B: MessageBuffer> Output<'a, B> {
    fn new(
        scratch: &'a mut Vec<u8>,
        assembler: &'a mut Assembler<B>,
        history: &'a mut Option<History>,
        limits: &Limits,
    ) -> Self {
        scratch.resize(SCRATCH_BYTES, 0);
        let limit = usize::try_from(limits.max_message_bytes).unwrap_or(usize::MAX);
        Self { scratch, len: 0, assembler, history, limit }
    }

    /// Bytes that the message may still get.
    fn allowed(&self) -> usize {
        self.limit.saturating_sub(self.assembler.buffered() + self.len)
    }

    /// Where to inflate to: never empty, and no more than one byte over the limit.
    fn room(&mut self) -> Result<&mut [u8], Failure> {
        if self.len == SCRATCH_BYTES {
            self.flush(false)?;
        }
        let end = SCRATCH_BYTES.min(self.len + self.allowed().saturating_add(1));
        Ok(self.scratch.get_mut(self.len..end).unwrap_or_default())
    }

    /// The first `count` bytes of the room are inflated. Fails with 1009 at one over the limit.
    fn advance(&mut self, count: usize) -> Result<(), Failure> {
        let allowed = self.allowed();
        self.len += count.min(allowed);
        if count > allowed { Err(Failure::too_big()) } else { Ok(()) }
    }

    /// Hand the scratch over; `is_last` if the message is to get no more.
    fn flush(&mut self, is_last: bool) -> Result<(), Failure> {
        let len = std::mem::take(&mut self.len);
        let piece = self.scratch.get(..len).unwrap_or_default();
        if let Some(history) = self.history {
            history.append(piece);
        }
        let rest = if is_last { 0 } else { self.limit - self.assembler.buffered() - len };
        self.assembler.append(piece, rest)
    }
}

/// The last bytes of earlier messages, as many as their sender may refer to.
#[derive(Debug)]
struct History {
    bytes: Vec<u8>,
    most: usize,
}

impl History {
    fn new(window_bits: u8) -> Self {
        Self { bytes: Vec::new(), most: 1 << window_bits.min(MAX_WINDOW_BITS) }
    }

    fn append(&mut self, piece: &[u8]) {
        let piece = piece.get(piece.len().saturating_sub(self.most)..).unwrap_or_default();
        let excess = (self.bytes.len() + piece.len()).saturating_sub(self.most);
        self.bytes.drain(..excess);
        if self.bytes.capacity() < self.bytes.len() + piece.len() {
            let wanted = (2 * (self.bytes.len() + piece.len())).min(self.most);
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
    }

    fn restore(&self, inflate: &mut Inflate) {
        if !self.bytes.is_empty() {
            // A raw stream takes any dictionary.
            let _ = inflate.set_dictionary(&self.bytes);
        }
    }
}
