//! The opening handshake, server side (RFC 6455 §4.2).
//!
//! ```text
//! bytes ─► RequestReader ─► Request ─► (the caller decides) ─► response::accept / refuse
//!                 └─► Refusal: what RFC 9110 and RFC 6455 rule out by themselves
//! ```

pub mod extensions;
pub mod forwarded;
pub mod request;
pub mod response;

pub use request::{Progress, Request, RequestReader};
pub use response::{HeaderLine, InvalidHeader};

/// The longest header block that a limit may allow, request line and final empty line included.
pub const LARGEST_HEAD_BYTES: usize = u16::MAX as usize;

/// A handshake that ends in an HTTP response other than 101.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status code.
    pub status: u16,
    /// One line of plain text for a person: the body.
    pub reason: String,
}

impl Refusal {
    /// A refusal with this status and body.
    pub fn new(status: u16, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
    }
}

/// Whether `text` is a token (RFC 9110 §5.6.2), as the name of a subprotocol must be.
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty()
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}
