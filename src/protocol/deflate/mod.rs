//! permessage-deflate (RFC 7692): messages as raw DEFLATE, marked by RSV1 of their first frame.
//!
//! ```text
//! offers ─► Policy::choose ─► Agreement ─► Inflation (what comes)  Deflater (what goes)
//! ```
//!
//! Without *context takeover* a message is compressed by itself: nothing is kept between messages,
//! and what goes to many is compressed once. With it, a message may refer back to the ones before,
//! which costs memory for each connection.

mod deflater;
mod inflation;
mod negotiation;

pub use deflater::Deflater;
pub use inflation::{Inflated, InflaterPool, Inflation};
pub use negotiation::{Agreement, NAME, Policy};

/// What a sync flush ends with, and a message therefore lacks (RFC 7692 §7.2.1, 3).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// The window that is meant where none is named (RFC 7692 §7.1.2): 32 KiB.
pub const MAX_WINDOW_BITS: u8 = 15;

/// The smallest window that can be named: 256 bytes.
pub const MIN_WINDOW_BITS: u8 = 8;
