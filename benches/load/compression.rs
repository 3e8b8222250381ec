//! permessage-deflate in both directions, without context takeover (RFC 7692).

use rakit_ws_core::protocol::deflate::{Agreement, Deflater, InflaterPool, Inflation, Policy};
use rakit_ws_core::protocol::frame::Rsv;
use rakit_ws_core::protocol::handshake::extensions;
use rakit_ws_core::protocol::{Decoder, Header, Kind, Role, mask};

use crate::pooled::Pooled;

/// What the handshake asks for. A server that declines is not measured.
pub const OFFER: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// The window, level and tables of zlib's default, which browsers use.
const WINDOW_BITS: u8 = 15;
const LEVEL: u8 = 6;
const MEMORY_LEVEL: u8 = 8;

/// What the connections of a fleet inflate with.
#[derive(Clone)]
pub struct Inflating {
    agreement: Agreement,
    pool: InflaterPool,
}

impl Inflating {
    /// `None` if `OFFER` cannot be read, which no test would let pass.
    pub fn new() -> Option<Self> {
        let agreement = Policy::default().choose(extensions::parse(OFFER)?)?;
        Some(Self { agreement, pool: InflaterPool::default() })
    }

    /// A decoder that takes compressed messages.
    pub fn decoder(&self) -> Decoder<Pooled> {
        Decoder::with_inflation(Role::Client, Inflation::new(self.agreement, &self.pool))
    }
}

/// Whether a server's `Sec-WebSocket-Extensions` accepts the offer as it stands.
pub fn is_accepted(extensions: &[u8]) -> bool {
    let text = String::from_utf8_lossy(extensions);
    text.contains("permessage-deflate") && text.contains("server_no_context_takeover")
}

/// A masked frame of a client for each message, compressed where that makes it smaller.
pub fn frames<'a>(
    kind: Kind,
    messages: impl Iterator<Item = (&'a Vec<u8>, [u8; 4])>,
) -> Vec<Vec<u8>> {
    let mut deflater = Deflater::new(WINDOW_BITS, LEVEL, MEMORY_LEVEL, false);
    let mut out = Vec::new();
    messages
        .map(|(message, key)| match deflater.compress(message, &mut out) {
            Some(len) => frame(kind, Rsv::COMPRESSED, key, &out[..len]),
            None => frame(kind, Rsv::NONE, key, message),
        })
        .collect()
}

fn frame(kind: Kind, rsv: Rsv, key: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let payload_len = payload.len() as u64;
    Header { fin: true, rsv, opcode: kind.opcode(), mask: Some(key), payload_len }
        .encode(&mut frame);
    let start = frame.len();
    frame.extend_from_slice(payload);
    mask::apply(&mut frame[start..], key, 0);
    frame
}
