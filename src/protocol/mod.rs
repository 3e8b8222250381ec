//! RFC 6455 and 7692 as pure values: bytes and an instant go in, events and bytes come out.
//!
//! ```text
//! bytes ─► handshake ─► Request                        response ◄─ accept / refuse
//! bytes ─► Decoder (frames) ─► Assembler (messages) ─► Event     encoder ◄─ message, close
//! ```
//!
//! A fault of the peer is a value: [`Failure`] once the connection is open, [`Refusal`] before.
//! Compression is [`deflate`]: what it agrees on permits a bit in [`frame::Rsv`], and the decoder
//! lets it inflate what comes with that.
#![forbid(unsafe_code)]

pub mod assembler;
pub mod buffer;
pub mod close;
pub mod decoder;
pub mod deflate;
pub mod encoder;
pub mod frame;
pub mod handshake;
pub mod mask;
pub mod proxy;
pub mod utf8;

pub use assembler::{Kind, Limits};
pub use buffer::{GrowingBuffer, MessageBuffer};
pub use close::{CloseCode, Failure};
pub use decoder::{Decoder, Event, Payload, Role};
pub use frame::{Header, Opcode};
pub use handshake::{Refusal, Request};
