//! What the caller wants of a shard, on its way to that shard's thread.

use std::sync::Arc;

use bytes::Bytes;

use crate::engine::compression::Frame;
use crate::engine::handle::Handle;
use crate::engine::listener::Listener;
use crate::engine::outbox::Outgoing;
use crate::engine::settings::Settings;
use crate::engine::shard::Shard;
use crate::engine::tls::TlsSettings;
use crate::protocol::handshake::HeaderLine;
use crate::protocol::{CloseCode, GrowingBuffer, Opcode, Refusal};

use super::worker::Receipt;

/// The methods of [`Shard`], as values. A `len` is of the next bytes of the [`Orders`] that it is
/// one of: a small message, or a name, costs no allocation.
pub enum Order {
    /// [`Shard::accept`].
    Accept(Box<Acceptance>),
    /// [`Shard::reject`].
    Reject(Box<(Handle, Refusal, Vec<HeaderLine>)>),
    /// [`Shard::send`] of a small message.
    Send { sender: Handle, to: Handle, opcode: Opcode, len: usize },
    /// [`Shard::send`] of what the caller keeps.
    Lend { sender: Handle, to: Handle, opcode: Opcode, payload: Bytes },
    /// [`Shard::send_each`].
    SendEach { sender: Handle, to: Box<[Handle]>, frame: Frame },
    /// [`Shard::publish`]; the bytes are the topic.
    Publish { sender: Handle, len: usize, frame: Frame },
    /// [`Shard::broadcast`].
    Broadcast { sender: Handle, frame: Frame },
    /// [`Shard::subscribe`]; the bytes are the topic.
    Subscribe { handle: Handle, len: usize },
    /// [`Shard::unsubscribe`]; the bytes are the topic.
    Unsubscribe { handle: Handle, len: usize },
    /// [`Shard::close`]; the bytes are the reason.
    Close { handle: Handle, code: CloseCode, len: usize },
    /// [`Shard::close_all`]; the bytes are the reason.
    CloseAll { code: CloseCode, len: usize },
    /// [`Shard::pause_reading`].
    Pause(Handle),
    /// [`Shard::resume_reading`].
    Resume(Handle),
    /// [`Shard::say_farewell`].
    SayFarewell(Handle),
    /// [`Shard::configure`].
    Configure(Box<Settings>),
    /// [`Shard::use_tls`].
    UseTls(Option<TlsSettings>),
    /// [`Shard::listen_on`].
    ListenOn(Listener),
}

/// What [`Shard::accept`] needs.
pub struct Acceptance {
    /// Who.
    pub handle: Handle,
    /// The subprotocol that was chosen.
    pub subprotocol: Option<String>,
    /// Headers of the caller's own.
    pub headers: Vec<HeaderLine>,
    /// The first message.
    pub first: Option<Vec<u8>>,
}

/// What an order weighs beside its bytes, and a message for each recipient.
pub const ORDER_WEIGHT: usize = 256;

/// Orders in their order.
#[derive(Default)]
pub struct Orders {
    list: Vec<Order>,
    bytes: Vec<u8>,
    /// About what they hold, and what they take to carry out, in bytes.
    pub weight: usize,
    /// Which batches of events these end. There is nobody else to wait for, or each has this, too.
    pub receipt: Option<Arc<Receipt>>,
}

impl Orders {
    /// Whether nothing is wanted of the shard.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// One more.
    pub fn push(&mut self, order: Order) {
        self.weight += ORDER_WEIGHT;
        self.list.push(order);
    }

    /// One more, with its bytes.
    pub fn push_with(&mut self, bytes: &[u8], order: impl FnOnce(usize) -> Order) {
        self.weight += ORDER_WEIGHT + bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.list.push(order(bytes.len()));
    }

    /// What there is, and room for as much again.
    pub fn take(&mut self) -> Self {
        let room = Self {
            list: Vec::with_capacity(self.list.len()),
            bytes: Vec::with_capacity(self.bytes.len()),
            ..Self::default()
        };
        std::mem::replace(self, room)
    }

    /// Carry them out.
    pub fn carry_out(self, shard: &mut Shard<GrowingBuffer>) -> Result<(), String> {
        let mut bytes = self.bytes.as_slice();
        let mut next = |len: usize| {
            let (taken, rest) = bytes.split_at_checked(len).unwrap_or((bytes, &[]));
            bytes = rest;
            taken
        };
        for order in self.list {
            match order {
                Order::Accept(it) => {
                    let (subprotocol, first) = (it.subprotocol.as_deref(), it.first.as_deref());
                    shard.accept(it.handle, subprotocol, &it.headers, first);
                }
                Order::Reject(it) => {
                    shard.reject(it.0, &it.1, &it.2);
                }
                Order::Send { sender, to, opcode, len } => {
                    let payload = Outgoing::Copy(next(len));
                    shard.because_of(sender, |shard| shard.send(to, opcode, payload));
                }
                Order::Lend { sender, to, opcode, payload } => {
                    let payload = Outgoing::Share(payload);
                    shard.because_of(sender, |shard| shard.send(to, opcode, payload));
                }
                Order::SendEach { sender, to, frame } => {
                    shard.because_of(sender, |shard| shard.send_frame(&to, &frame));
                }
                Order::Publish { sender, len, frame } => {
                    let topic = text(next(len));
                    shard.because_of(sender, |shard| shard.publish_frame(topic, &frame));
                }
                Order::Broadcast { sender, frame } => {
                    shard.because_of(sender, |shard| shard.broadcast_frame(&frame));
                }
                Order::Subscribe { handle, len } => {
                    shard.subscribe(handle, text(next(len)));
                }
                Order::Unsubscribe { handle, len } => {
                    shard.unsubscribe(handle, text(next(len)));
                }
                Order::Close { handle, code, len } => {
                    shard.close(handle, code, text(next(len)));
                }
                Order::CloseAll { code, len } => {
                    shard.close_all(code, text(next(len)));
                }
                Order::Pause(handle) => shard.pause_reading(handle),
                Order::Resume(handle) => shard.resume_reading(handle),
                Order::SayFarewell(handle) => shard.say_farewell(handle),
                Order::Configure(settings) => shard.configure(*settings),
                Order::UseTls(settings) => shard.use_tls(settings),
                Order::ListenOn(listener) => {
                    shard.listen_on(listener).map_err(|error| error.to_string())?;
                }
            }
        }
        Ok(())
    }
}

/// What was a `str` when it was pushed.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
