//! From bytes to events: the receiving half of an open connection (RFC 6455 §5, §7).

// `&mut &mut [u8]` is a cursor: what is taken off the front leaves the slice.
#![allow(clippy::mut_mut)]

use super::assembler::{Assembler, Kind, Limits};
use super::buffer::MessageBuffer;
use super::close::{self, CloseCode, Failure};
use super::deflate::{Inflated, Inflation};
use super::frame::{Opcode, Prefix, Rsv};
use super::mask;
use super::utf8;

/// Which endpoint decodes. It decides who must mask (RFC 6455 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The peer is a client: every frame must be masked.
    Server,
    /// The peer is a server: no frame may be masked.
    Client,
}

/// A payload: where it came in one piece it still lies in the input, otherwise it was assembled.
#[derive(Debug)]
pub enum Payload<'a, B> {
    /// A slice of the input, unmasked in place.
    Borrowed(&'a [u8]),
    /// Its own memory.
    Owned(B),
}

impl<B: MessageBuffer> Payload<'_, B> {
    /// Its length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Borrowed(bytes) => bytes.len(),
            Self::Owned(buffer) => buffer.len(),
        }
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What the peer said.
#[derive(Debug)]
pub enum Event<'a, B> {
    /// A whole message; text is valid UTF-8.
    Message(Kind, Payload<'a, B>),
    /// A Ping that wants a Pong with the same payload.
    Ping(&'a [u8]),
    /// A Pong.
    Pong(&'a [u8]),
    /// A Close. Nothing is decoded after it.
    Close(CloseCode, &'a str),
}

/// Where the decoder stands.
///
/// ```text
/// Header ─data header─► Payload ─its last byte─► Header
///    └─Close, or a fault anywhere─► Done
/// ```
#[derive(Debug)]
enum State {
    Header,
    Payload(Progress),
    Done,
}

/// A data frame that has not arrived whole.
#[derive(Debug, Clone, Copy)]
struct Progress {
    fin: bool,
    mask: Option<[u8; 4]>,
    done: u64,
    rest: u64,
}

/// A data or control frame's header, checked against everything but its payload.
struct Accepted {
    header_len: usize,
    fin: bool,
    /// Whether it begins a compressed message.
    compressed: bool,
    mask: Option<[u8; 4]>,
    payload_len: u64,
    content: Content,
}

enum Content {
    Data(Kind),
    Control(Opcode),
}

/// Decodes what one peer sends.
///
/// Whatever can be known to be wrong is refused at the byte that proves it, and the events do not
/// depend on how the input was cut. After a Close or a [`Failure`] everything is ignored.
#[derive(Debug)]
pub struct Decoder<B> {
    role: Role,
    state: State,
    assembler: Assembler<B>,
    /// Where compression was agreed on.
    inflation: Option<Box<Inflation>>,
    frames: u64,
}

impl<B: MessageBuffer> Decoder<B> {
    /// A decoder at the beginning of the first frame.
    pub fn new(role: Role) -> Self {
        let assembler = Assembler::default();
        Self { role, state: State::Header, assembler, inflation: None, frames: 0 }
    }

    /// One that takes compressed messages too.
    pub fn with_inflation(role: Role, inflation: Inflation) -> Self {
        Self { inflation: Some(Box::new(inflation)), ..Self::new(role) }
    }

    /// Take bytes off the front of `input` until an event is complete.
    ///
    /// `None` when more bytes are needed: what is then left in `input` (at most an incomplete
    /// header or control frame, 131 bytes) must come again, in front of what follows it. Payload
    /// is unmasked in place.
    pub fn next<'a>(
        &mut self,
        input: &mut &'a mut [u8],
        limits: &Limits,
    ) -> Result<Option<Event<'a, B>>, Failure> {
        let result = self.step(input, limits);
        if matches!(result, Err(_) | Ok(Some(Event::Close(..)))) {
            self.end();
        }
        result
    }

    /// Frame headers read so far: what decoding has cost. One whose control frame has not arrived
    /// whole counts each time it is looked at.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// What was inflated since the last call; `None` where compression was not agreed on.
    #[inline]
    pub fn take_inflated(&mut self) -> Option<Inflated> {
        self.inflation.as_mut().map(|inflation| inflation.take_inflated())
    }

    /// Bytes held for the message under way.
    pub fn buffered(&self) -> usize {
        self.assembler.buffered()
    }

    /// Bytes allocated for the message under way.
    pub fn held(&self) -> usize {
        let inflation = self.inflation.as_ref().map_or(0, |inflation| inflation.held());
        self.assembler.held() + inflation
    }

    /// Room to receive the frame under way into, without another copy.
    ///
    /// `None` unless at least `at_least` bytes of it are missing, and where it is compressed. Never
    /// longer than the rest of the frame. To be followed by [`received`](Self::received).
    pub fn room(&mut self, at_least: u64) -> Option<&mut [u8]> {
        match self.state {
            State::Payload(frame) if frame.rest >= at_least && !self.is_inflating() => {
                Some(self.assembler.room(usize::try_from(frame.rest).ok()?))
            }
            State::Payload(_) | State::Header | State::Done => None,
        }
    }

    /// `count` masked bytes were written to the start of [`room`](Self::room).
    pub fn received(&mut self, count: usize) -> Result<Option<Event<'static, B>>, Failure> {
        let State::Payload(mut frame) = self.state else { return Ok(None) };
        let rest = usize::try_from(frame.rest).map_err(|_| Failure::too_big())?;
        if let (Some(key), Some(piece)) = (frame.mask, self.assembler.room(rest).get_mut(..count)) {
            mask::apply(piece, key, frame.done);
        }
        let result = self.assembler.received(count, rest).and_then(|()| {
            frame.advance(count as u64);
            self.after_payload(frame)
        });
        if result.is_err() {
            self.end();
        }
        result
    }

    /// Nothing is decoded or held any more.
    pub fn end(&mut self) {
        self.state = State::Done;
        self.assembler = Assembler::default();
        if let Some(inflation) = &mut self.inflation {
            inflation.end();
        }
    }

    /// Whether the message under way is compressed.
    fn is_inflating(&self) -> bool {
        self.inflation.as_ref().is_some_and(|inflation| inflation.is_under_way())
    }

    fn step<'a>(
        &mut self,
        input: &mut &'a mut [u8],
        limits: &Limits,
    ) -> Result<Option<Event<'a, B>>, Failure> {
        loop {
            let event = match self.state {
                State::Done => {
                    take(input, input.len());
                    return Ok(None);
                }
                State::Payload(frame) => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    self.continue_payload(frame, input, limits)?
                }
                State::Header => {
                    let Some(accepted) = self.accept(input, limits)? else { return Ok(None) };
                    self.frames += 1;
                    match accepted.content {
                        Content::Control(opcode) => return control(opcode, &accepted, input),
                        Content::Data(kind) => {
                            self.begin_payload(kind, &accepted, input, limits)?
                        }
                    }
                }
            };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// Read and check the header that `input` begins with; `None` while bytes are missing.
    fn accept(&self, input: &[u8], limits: &Limits) -> Result<Option<Accepted>, Failure> {
        let &[first, second, ..] = input else { return Ok(None) };
        let prefix = Prefix::parse(first, second)?;
        let content = self.check(prefix)?;
        if let Content::Data(_) = content {
            self.assembler.check_fragments(limits)?;
        }
        let Some((payload_len, key_at)) = prefix.payload_len(input)? else { return Ok(None) };
        let compressed = prefix.rsv == Rsv::COMPRESSED;
        if let Content::Data(_) = content {
            match &self.inflation {
                Some(inflation) if compressed || inflation.is_under_way() => {
                    inflation.check_len(payload_len, limits)?;
                }
                _ => self.assembler.check_len(payload_len, limits)?,
            }
        }
        let (mask, header_len) = if prefix.masked {
            let key = input.get(key_at..).and_then(|rest| rest.first_chunk::<4>());
            let Some(key) = key else { return Ok(None) };
            (Some(*key), key_at + 4)
        } else {
            (None, key_at)
        };
        Ok(Some(Accepted { header_len, fin: prefix.fin, compressed, mask, payload_len, content }))
    }

    /// Check what the first two bytes of a frame say.
    fn check(&self, prefix: Prefix) -> Result<Content, Failure> {
        if prefix.rsv != Rsv::NONE && !self.permits(prefix) {
            return Err(Failure::protocol("reserved bits set"));
        }
        match (self.role, prefix.masked) {
            (Role::Server, true) | (Role::Client, false) => {}
            (Role::Server, false) => return Err(Failure::protocol("frame not masked")),
            (Role::Client, true) => return Err(Failure::protocol("frame masked")),
        }
        if prefix.opcode.is_control() {
            return Ok(Content::Control(prefix.opcode));
        }
        self.assembler.kind_of(prefix.opcode).map(Content::Data)
    }

    /// Whether what was agreed on permits these reserved bits (RFC 7692 §6: RSV1, and only on the
    /// first frame of a message).
    fn permits(&self, prefix: Prefix) -> bool {
        let is_first = matches!(prefix.opcode, Opcode::Text | Opcode::Binary);
        self.inflation.is_some() && is_first && prefix.rsv.within(Rsv::COMPRESSED)
    }

    fn begin_payload<'a>(
        &mut self,
        kind: Kind,
        accepted: &Accepted,
        input: &mut &'a mut [u8],
        limits: &Limits,
    ) -> Result<Option<Event<'a, B>>, Failure> {
        let len = usize::try_from(accepted.payload_len).map_err(|_| Failure::too_big())?;
        take(input, accepted.header_len);
        let is_whole = accepted.fin && self.assembler.is_idle() && len <= input.len();
        if is_whole && !accepted.compressed {
            // The common case: a message in one frame that is all here. Nothing is copied.
            return whole_message(kind, accepted.mask, take(input, len)).map(Some);
        }
        self.assembler.begin(kind);
        if let Some(inflation) = &mut self.inflation {
            if accepted.compressed {
                inflation.begin();
            }
            inflation.announce(accepted.payload_len);
        }
        let frame = Progress {
            fin: accepted.fin,
            mask: accepted.mask,
            done: 0,
            rest: accepted.payload_len,
        };
        self.continue_payload(frame, input, limits)
    }

    fn continue_payload<'a>(
        &mut self,
        mut frame: Progress,
        input: &mut &'a mut [u8],
        limits: &Limits,
    ) -> Result<Option<Event<'a, B>>, Failure> {
        let rest = usize::try_from(frame.rest).map_err(|_| Failure::too_big())?;
        let piece = take(input, rest.min(input.len()));
        if let Some(key) = frame.mask {
            mask::apply(piece, key, frame.done);
        }
        let rest = rest - piece.len();
        match &mut self.inflation {
            Some(inflation) if inflation.is_under_way() => {
                inflation.receive(piece, frame.fin && rest == 0, &mut self.assembler, limits)?;
            }
            _ => self.assembler.append(piece, rest)?,
        }
        frame.advance(piece.len() as u64);
        self.after_payload(frame)
    }

    fn after_payload<'a>(&mut self, frame: Progress) -> Result<Option<Event<'a, B>>, Failure> {
        if frame.rest > 0 {
            self.state = State::Payload(frame);
            return Ok(None);
        }
        self.state = State::Header;
        if !frame.fin {
            return Ok(None);
        }
        let (kind, buffer) = self.assembler.finish()?;
        Ok(Some(Event::Message(kind, Payload::Owned(buffer))))
    }
}

impl Progress {
    fn advance(&mut self, count: u64) {
        self.done += count;
        self.rest -= count;
    }
}

/// Split `count` bytes off the front of `input`.
fn take<'a>(input: &mut &'a mut [u8], count: usize) -> &'a mut [u8] {
    let (front, rest) = std::mem::take(input).split_at_mut(count);
    *input = rest;
    front
}

fn whole_message<B>(
    kind: Kind,
    mask: Option<[u8; 4]>,
    payload: &mut [u8],
) -> Result<Event<'_, B>, Failure> {
    if let Some(key) = mask {
        mask::apply(payload, key, 0);
    }
    if kind == Kind::Text && !utf8::is_valid(payload) {
        return Err(Failure::invalid_utf8());
    }
    Ok(Event::Message(kind, Payload::Borrowed(payload)))
}

/// A control frame, once it is all there: its 125 bytes at most wait in the input.
fn control<'a, B>(
    opcode: Opcode,
    accepted: &Accepted,
    input: &mut &'a mut [u8],
) -> Result<Option<Event<'a, B>>, Failure> {
    let len = usize::try_from(accepted.payload_len).map_err(|_| Failure::too_big())?;
    if input.len() < accepted.header_len + len {
        return Ok(None);
    }
    take(input, accepted.header_len);
    let payload = take(input, len);
    if let Some(key) = accepted.mask {
        mask::apply(payload, key, 0);
    }
    match opcode {
        Opcode::Ping => Ok(Some(Event::Ping(payload))),
        Opcode::Pong => Ok(Some(Event::Pong(payload))),
        Opcode::Close | Opcode::Continuation | Opcode::Text | Opcode::Binary => {
            close::parse(payload).map(|(code, reason)| Some(Event::Close(code, reason)))
        }
    }
}
