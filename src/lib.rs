//! The core of `rakit_ws`, in three floors. Each uses only those below it.
//!
//! - [`protocol`]: RFC 6455 as pure values: no socket, no clock, no Python, no `unsafe`.
//! - [`engine`]: sockets, time, queues and topics around it. Knows no Python.
//! - [`json`]: what of JSON is looked at before it is read.
//! - `python` (feature of the same name): the border, the module `rakit_ws._core`. It converts,
//!   calls and converts back; no rule of the protocol lives there.

pub mod engine;
pub mod json;
pub mod protocol;
#[cfg(feature = "python")]
mod python;
