//! What goes out compressed, and with what.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::protocol::deflate::{Agreement, Deflater};
use crate::protocol::frame::MAX_HEADER_BYTES;
use crate::protocol::{Opcode, encoder};

use super::counters::Counters;
use super::memory::Meter;
use super::outbox::{Outbox, Outgoing};
use super::settings::Compression;

/// Where the compressor's output buffer is given back once a message has made it larger.
const KEPT_SCRATCH_BYTES: usize = 256 * 1024;

/// How messages go out to one client.
#[derive(Debug, Default)]
pub enum Sending {
    /// As they are: no compression was agreed on.
    #[default]
    Plain,
    /// Each compressed by itself, with a window of so many bits, so that what goes to many is
    /// compressed once.
    Alone(u8),
    /// In the context of those before, by a compressor of its own from the first one on.
    InContext(u8, Option<Box<Deflater>>),
}

impl Sending {
    /// Bytes that it holds.
    pub fn held(&self) -> usize {
        match self {
            Self::InContext(_, Some(deflater)) => deflater.held(),
            Self::Plain | Self::Alone(_) | Self::InContext(_, None) => 0,
        }
    }

    /// What this agreement lets the server do.
    pub fn by(agreement: Agreement) -> Self {
        match (agreement.server_context_takeover, agreement.server_window_bits) {
            (false, bits) => Self::Alone(bits),
            (true, bits) => Self::InContext(bits, None),
        }
    }
}

/// Compresses for all clients of a shard: one compressor for each size of window.
#[derive(Debug)]
pub struct Compressor {
    settings: Compression,
    alone: Vec<(u8, Deflater)>,
    scratch: Vec<u8>,
}

impl Compressor {
    /// One that holds nothing yet.
    pub fn new(settings: Compression) -> Self {
        Self { settings, alone: Vec::new(), scratch: Vec::new() }
    }

    /// Compress as these say from now on; a client's own compressor stays what it is.
    pub fn configure(&mut self, settings: Compression) {
        self.settings = settings;
        self.alone.clear();
    }

    /// Queue a message for one client.
    #[inline] // Clients without compression pay for one comparison (benches/guard.py).
    pub fn queue(
        &mut self,
        (outbox, sending): (&mut Outbox, &mut Sending),
        opcode: Opcode,
        payload: Outgoing<'_>,
        counters: &mut Counters,
    ) {
        let is_plain = matches!(sending, Sending::Plain);
        if is_plain || !self.queue_compressed((outbox, sending), opcode, &payload, counters) {
            match payload {
                Outgoing::Copy(bytes) => outbox.push_message(opcode, bytes),
                Outgoing::Share(bytes) => outbox.push_shared_message(opcode, bytes),
            }
        }
    }

    /// Queue a message compressed; false if it is to go out as it is.
    fn queue_compressed(
        &mut self,
        (outbox, sending): (&mut Outbox, &mut Sending),
        opcode: Opcode,
        payload: &Outgoing<'_>,
        counters: &mut Counters,
    ) -> bool {
        let compressed = self.compress(sending, payload.bytes(), counters);
        if let Some(compressed) = compressed {
            counters.note_compressed_sent(payload.len(), compressed.len());
            outbox.append_with(MAX_HEADER_BYTES + compressed.len(), |own| {
                encoder::append_compressed(own, opcode, compressed);
            });
        }
        let is_queued = compressed.is_some();
        self.tidy();
        is_queued
    }

    /// The message compressed as `sending` says; `None` where it goes out as it is.
    fn compress(
        &mut self,
        sending: &mut Sending,
        payload: &[u8],
        counters: &mut Counters,
    ) -> Option<&[u8]> {
        let deflater = match sending {
            Sending::Plain => return None,
            _ if payload.len() < self.settings.minimum_size => return None,
            Sending::Alone(bits) => shared(&mut self.alone, *bits, self.settings),
            Sending::InContext(bits, own) => {
                own.get_or_insert_with(|| Box::new(deflater(*bits, self.settings, true)))
            }
        };
        let len = deflater.compress(payload, &mut self.scratch);
        counters.messages_deflated += 1;
        counters.bytes_before_deflating += payload.len() as u64;
        counters.bytes_after_deflating += len.unwrap_or(payload.len()) as u64;
        self.scratch.get(..len?)
    }

    fn tidy(&mut self) {
        if self.scratch.len() > KEPT_SCRATCH_BYTES {
            self.scratch = Vec::new();
        }
    }
}

fn shared(all: &mut Vec<(u8, Deflater)>, bits: u8, settings: Compression) -> &mut Deflater {
    let at = all.iter().position(|(known, _)| *known == bits).unwrap_or_else(|| {
        all.push((bits, deflater(bits, settings, false)));
        all.len() - 1
    });
    // It was just found, or pushed.
    #[allow(clippy::indexing_slicing)]
    &mut all[at].1
}

fn deflater(bits: u8, settings: Compression, takes_over: bool) -> Deflater {
    Deflater::new(bits, settings.level, settings.memory_level, takes_over)
}

/// A message framed for many, who may be clients of several shards.
#[derive(Debug, Clone)]
pub struct Frame {
    opcode: Opcode,
    bytes: Bytes,
    payload_len: usize,
    /// Where somebody may want it so: what the first shard that needs it has made of it.
    compressed: Option<Arc<Mutex<Vec<BySetting>>>>,
}

impl Frame {
    /// Copies the payload, once for everybody; `meter` counts the frame. What `may_compress` is
    /// compressed once for everybody, too.
    pub fn new(opcode: Opcode, payload: &[u8], meter: &Meter, may_compress: bool) -> Self {
        let bytes = meter.share(encoder::frame(opcode, payload));
        let compressed = may_compress.then(Arc::default);
        Self { opcode, bytes, payload_len: payload.len(), compressed }
    }

    /// Text or binary.
    pub fn opcode(&self) -> Opcode {
        self.opcode
    }

    /// Whether it may be compressed, which is then shared, too.
    pub fn may_be_compressed(&self) -> bool {
        self.compressed.is_some()
    }

    /// What is behind the header.
    pub fn payload(&self) -> &[u8] {
        let header = self.bytes.len() - self.payload_len;
        self.bytes.get(header..).unwrap_or_default()
    }
}

/// A message on its way to many: framed once, and compressed once for each size of window.
pub struct Publication<'a> {
    opcode: Opcode,
    payload: &'a [u8],
    meter: Meter,
    plain: Option<Bytes>,
    compressed: Vec<BySetting>,
    /// What other shards know of it.
    elsewhere: Option<&'a Mutex<Vec<BySetting>>>,
}

/// By window bits; `None` where compression is not worth it.
type BySetting = (u8, Option<Compressed>);

#[derive(Debug, Clone)]
struct Compressed {
    frame: Bytes,
    payload_len: usize,
}

impl<'a> Publication<'a> {
    /// Nothing is framed until somebody is to get it; then `meter` counts it.
    pub fn new(opcode: Opcode, payload: &'a [u8], meter: Meter) -> Self {
        let compressed = Vec::new();
        Self { opcode, payload, meter, plain: None, compressed, elsewhere: None }
    }

    /// A message that is framed already; `meter` counts what is compressed of it.
    pub fn of(frame: &'a Frame, meter: Meter) -> Self {
        let plain = Some(frame.bytes.clone());
        let elsewhere = frame.compressed.as_deref();
        Self { plain, elsewhere, ..Self::new(frame.opcode, frame.payload(), meter) }
    }

    /// Bytes of the message.
    pub fn len(&self) -> usize {
        self.payload.len()
    }

    /// Queue it for one client.
    #[inline] // As above.
    pub fn queue(
        &mut self,
        (outbox, sending): (&mut Outbox, &mut Sending),
        compressor: &mut Compressor,
        counters: &mut Counters,
    ) {
        match sending {
            Sending::Plain => outbox.push_shared(self.plain()),
            _ => self.queue_compressed((outbox, sending), compressor, counters),
        }
    }

    fn queue_compressed(
        &mut self,
        (outbox, sending): (&mut Outbox, &mut Sending),
        compressor: &mut Compressor,
        counters: &mut Counters,
    ) {
        match sending {
            Sending::Plain => outbox.push_shared(self.plain()),
            Sending::Alone(bits) => match self.compressed(*bits, compressor, counters) {
                Some(Compressed { frame, payload_len }) => {
                    counters.note_compressed_sent(self.payload.len(), payload_len);
                    outbox.push_shared(frame);
                }
                None => outbox.push_shared(self.plain()),
            },
            Sending::InContext(..) => {
                let payload = Outgoing::Copy(self.payload);
                compressor.queue((outbox, sending), self.opcode, payload, counters);
            }
        }
    }

    #[inline]
    fn plain(&mut self) -> Bytes {
        let frame = || self.meter.share(encoder::frame(self.opcode, self.payload));
        self.plain.get_or_insert_with(frame).clone()
    }

    fn compressed(
        &mut self,
        bits: u8,
        compressor: &mut Compressor,
        counters: &mut Counters,
    ) -> Option<Compressed> {
        if let Some(compressed) = known(&self.compressed, bits) {
            return compressed.clone();
        }
        let Some(elsewhere) = self.elsewhere else {
            let compressed = self.compress(bits, compressor, counters);
            self.compressed.push((bits, compressed.clone()));
            return compressed;
        };
        // Whoever comes second waits for the first, which takes no longer than to do it again.
        let mut all = elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        let compressed = if let Some(compressed) = known(&all, bits) {
            compressed.clone()
        } else {
            let compressed = self.compress(bits, compressor, counters);
            all.push((bits, compressed.clone()));
            compressed
        };
        self.compressed.push((bits, compressed.clone()));
        compressed
    }

    fn compress(
        &self,
        bits: u8,
        compressor: &mut Compressor,
        counters: &mut Counters,
    ) -> Option<Compressed> {
        let alone = &mut Sending::Alone(bits);
        let compressed = compressor.compress(alone, self.payload, counters).map(|bytes| {
            let mut frame = Vec::with_capacity(MAX_HEADER_BYTES + bytes.len());
            encoder::append_compressed(&mut frame, self.opcode, bytes);
            Compressed { frame: self.meter.share(frame), payload_len: bytes.len() }
        });
        compressor.tidy();
        compressed
    }
}

fn known(all: &[BySetting], bits: u8) -> Option<&Option<Compressed>> {
    all.iter().find(|(known, _)| *known == bits).map(|(_, compressed)| compressed)
}
