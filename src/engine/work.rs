//! What work costs, in units of about what a frame does; a message of one frame is two.

/// A turn of a connection, whatever it finds: a system call.
pub const TURN: u64 = 4;

/// A connection that is accepted.
pub const ACCEPTED: u64 = 16;

/// An opening handshake: parsing, and what the caller does to decide.
pub const REQUEST: u64 = 64;

/// A TLS handshake: a signature, which may take a millisecond.
pub const HELLO: u64 = 128;

/// So many bytes, received or inflated.
pub const fn of_bytes(count: u64) -> u64 {
    count / 512
}
