//! What must hold for any input. Each `check` panics where it does not.
//!
//! `tests/fuzz/main.rs` and the targets in `fuzz/` both include this.

pub mod decoder;
pub mod handshake;
pub mod header;
pub mod inflate;
pub mod proxy;
mod reference;
