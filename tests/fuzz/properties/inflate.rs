//! A compressed message gives what another inflater makes of it, however it is cut, and holds no
//! more than the limit.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use rakit_ws_core::protocol::deflate::{Agreement, InflaterPool, Inflation, Policy};
use rakit_ws_core::protocol::handshake::extensions;
use rakit_ws_core::protocol::{Decoder, Limits, Opcode, Role, encoder};

use super::decoder::Peer;
use super::reference::Seen;

/// What a sender leaves off the end of a message (RFC 7692 §7.2.1), and a final, empty block:
/// it is read as one only where every block before it was whole.
const END: &[u8] = b"\x00\x00\xff\xff\x01\x00\x00\xff\xff";

/// The first two bytes are settings, the size of messages and where to cut; the rest is the
/// payload of a compressed binary message.
pub fn check(data: &[u8]) {
    let Some((&[limit, cuts], payload)) = data.split_first_chunk::<2>() else { return };
    let limits = Limits { max_message_bytes: 1 << (limit % 15), ..Limits::default() };
    let size = 1 + usize::from(cuts);

    let input = frame(payload);
    let mut whole = new_peer(limits);
    whole.receive(&input);
    let mut cut = new_peer(limits);
    for piece in input.chunks(size) {
        cut.receive(piece);
    }
    assert_eq!(cut.seen, whole.seen, "cut");
    let mut direct = new_peer(limits);
    direct.receive_directly(&input, 1 + u64::from(cuts));
    assert_eq!(direct.seen, whole.seen, "received directly");

    match (reference(payload, limits.max_message_bytes), whole.seen.as_slice()) {
        (Reference::Whole(message), [Seen::Message(2, ours)]) => assert!(message == *ours),
        // Corrupt and too big: whichever of the two is noticed first.
        (Reference::Unknown, _)
        | (Reference::Corrupt, [Seen::Failed(1007 | 1009)])
        | (Reference::TooBig, [Seen::Failed(1009)]) => {}
        (theirs, ours) => panic!("{theirs:?} {ours:?}"),
    }
}

fn new_peer(limits: Limits) -> Peer {
    let inflation = Inflation::new(agreement(), &InflaterPool::default());
    Peer::with(Decoder::with_inflation(Role::Client, inflation), limits)
}

fn agreement() -> Agreement {
    let offers = extensions::parse("permessage-deflate; client_max_window_bits").unwrap();
    Policy::default().choose(offers).unwrap()
}

/// A frame that says it is a whole compressed binary message.
fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = encoder::frame(Opcode::Binary, payload);
    out[0] |= 0x40;
    out
}

#[derive(Debug)]
enum Reference {
    Whole(Vec<u8>),
    Corrupt,
    TooBig,
    /// Streams that end inside the message: a bound of ours decides how many may.
    Unknown,
}

fn reference(payload: &[u8], limit: u64) -> Reference {
    // An empty message needs a byte (RFC 7692 §7.2.3.6), but some peers send none.
    if payload.is_empty() {
        return Reference::Whole(Vec::new());
    }
    let (_, _, alone) = inflated(payload, limit);
    let (status, read, message) = inflated(&[payload, END].concat(), limit);
    match status {
        _ if message.len() as u64 > limit => Reference::TooBig,
        // A block that was cut has taken the end for its content.
        TINFLStatus::Done if read == payload.len() + END.len() && message == alone => {
            Reference::Whole(message)
        }
        TINFLStatus::Done if read <= payload.len() => Reference::Unknown,
        _ => Reference::Corrupt,
    }
}

/// How inflating ended, how many bytes it took, and what it gave.
fn inflated(input: &[u8], limit: u64) -> (TINFLStatus, usize, Vec<u8>) {
    // All that there may be and one byte more, so that nothing wraps: only then does it notice
    // distances that reach before the beginning.
    let mut out = vec![0; usize::try_from(limit).unwrap() + 1];
    let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, read, written) =
        decompress(&mut DecompressorOxide::new(), input, &mut out, 0, flags);
    out.truncate(written);
    (status, read, out)
}
