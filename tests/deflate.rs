//! Compressed messages through the decoder: the examples of RFC 7692, and its properties.
#![allow(missing_docs)]
// A test may panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use proptest::prelude::*;
use rakit_ws_core::protocol::deflate::{Agreement, Deflater, InflaterPool, Inflation, Policy};
use rakit_ws_core::protocol::handshake::extensions;
use rakit_ws_core::protocol::{
    Decoder, Event, GrowingBuffer, Limits, MessageBuffer, Opcode, Payload, Role, mask,
};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Message(u8, Vec<u8>),
    Ping,
    Failed(u16, &'static str),
}

struct Peer {
    decoder: Decoder<GrowingBuffer>,
    limits: Limits,
    tail: Vec<u8>,
    seen: Vec<Seen>,
    most_buffered: usize,
}

impl Peer {
    fn new(agreement: Agreement, max_message_bytes: u64) -> Self {
        let inflation = Inflation::new(agreement, &InflaterPool::default());
        Self {
            decoder: Decoder::with_inflation(Role::Client, inflation),
            limits: Limits { max_message_bytes, ..Limits::default() },
            tail: Vec::new(),
            seen: Vec::new(),
            most_buffered: 0,
        }
    }

    fn receive(&mut self, piece: &[u8]) {
        let mut bytes = std::mem::take(&mut self.tail);
        bytes.extend_from_slice(piece);
        let mut input = bytes.as_mut_slice();
        loop {
            match self.decoder.next(&mut input, &self.limits) {
                Ok(None) => break,
                Ok(Some(Event::Message(kind, payload))) => {
                    let payload = match payload {
                        Payload::Borrowed(bytes) => bytes.to_vec(),
                        Payload::Owned(buffer) => buffer.into_vec(),
                    };
                    self.seen.push(Seen::Message(kind.opcode() as u8, payload));
                }
                Ok(Some(_)) => self.seen.push(Seen::Ping),
                Err(failure) => self.seen.push(Seen::Failed(failure.code.get(), failure.reason)),
            }
        }
        self.tail = input.to_vec();
        self.most_buffered = self.most_buffered.max(self.decoder.buffered());
    }
}

const CORRUPT: Seen = Seen::Failed(1007, "compressed data is corrupt");
const TOO_BIG: Seen = Seen::Failed(1009, "message too big");
const NOT_UTF8: Seen = Seen::Failed(1007, "text is not UTF-8");
const RESERVED: Seen = Seen::Failed(1002, "reserved bits set");

fn agreed(takes_over: bool, offer: &str) -> Agreement {
    let policy = Policy {
        server_context_takeover: takes_over,
        client_context_takeover: takes_over,
        ..Policy::default()
    };
    policy.choose(extensions::parse(offer).unwrap()).unwrap()
}

fn plain_agreement(takes_over: bool) -> Agreement {
    agreed(takes_over, "permessage-deflate; client_max_window_bits")
}

fn decoded(agreement: Agreement, limit: u64, input: &[u8], size: usize) -> Vec<Seen> {
    let mut peer = Peer::new(agreement, limit);
    for piece in input.chunks(size.max(1)) {
        peer.receive(piece);
    }
    peer.seen
}

/// What must come of `input` however it is cut.
fn gives(takes_over: bool, limit: u64, input: &[u8], expected: &[Seen]) {
    for size in [input.len(), 1, 2, 3, 7, 1021] {
        let seen = decoded(plain_agreement(takes_over), limit, input, size);
        assert_eq!(seen, expected, "pieces of {size}: {:x?}", &input[..input.len().min(40)]);
    }
}

fn text(text: &str) -> Seen {
    Seen::Message(1, text.into())
}

/// A frame with this first byte, unmasked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ 0..=125 => out.push(u8::try_from(len).unwrap()),
        len @ 126..=0xFFFF => {
            out.push(126);
            out.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            out.push(127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out
}

/// What a sync flush leaves of a message, whether that is smaller or not.
fn deflated(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut deflater = Deflater::new(15, 6, 8, false);
    if let Some(len) = deflater.compress(message, &mut out) {
        out.truncate(len);
        return out;
    }
    stored(message)
}

/// A message in stored blocks.
fn stored(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for block in message.chunks(0xFFFF) {
        let len = u16::try_from(block.len()).unwrap();
        out.push(0);
        out.extend(len.to_le_bytes());
        out.extend((!len).to_le_bytes());
        out.extend_from_slice(block);
    }
    out.push(0);
    out
}

// ---- RFC 7692 §7.2.3 --------------------------------------------------------------------------

const HELLO: &[u8] = b"\xf2\x48\xcd\xc9\xc9\x07\x00";

#[test]
fn one_compressed_message_of_section_7_2_3_1() {
    gives(false, 100, &frame(0xC1, HELLO), &[text("Hello")]);
    let fragments = [frame(0x41, &HELLO[..3]), frame(0x80, &HELLO[3..])].concat();
    gives(false, 100, &fragments, &[text("Hello")]);
}

#[test]
fn the_window_is_shared_as_in_section_7_2_3_2_only_with_context_takeover() {
    let input = [frame(0xC1, HELLO), frame(0xC1, b"\xf2\x00\x11\x00\x00")].concat();
    gives(true, 100, &input, &[text("Hello"), text("Hello")]);
    gives(false, 100, &input, &[text("Hello"), CORRUPT]);
}

#[test]
fn a_block_without_compression_of_section_7_2_3_3() {
    let block = b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00";
    gives(false, 100, &frame(0xC1, block), &[text("Hello")]);
}

#[test]
fn a_final_block_of_section_7_2_3_4_and_the_message_behind_it() {
    let last = b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00";
    let input = [frame(0xC1, last), frame(0xC1, b"\xf2\x00\x11\x00\x00")].concat();
    gives(true, 100, &input, &[text("Hello"), text("Hello")]);
    gives(false, 100, &frame(0xC1, last), &[text("Hello")]);
    // Some end their stream and leave the byte behind it out.
    gives(false, 100, &frame(0xC1, &last[..7]), &[text("Hello")]);
}

#[test]
fn two_blocks_of_section_7_2_3_5() {
    let blocks = b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00";
    gives(false, 100, &frame(0xC1, blocks), &[text("Hello")]);
}

#[test]
fn an_empty_message_of_section_7_2_3_6() {
    gives(false, 0, &frame(0xC1, b"\x00"), &[text("")]);
    gives(false, 0, &frame(0xC2, b""), &[Seen::Message(2, vec![])]);
}

// ---- where RSV1 may be (RFC 7692 §6) -------------------------------------------------------------

#[test]
fn the_mark_of_compression_is_refused_where_it_must_not_be() {
    let begun = frame(0x41, &HELLO[..3]);
    for (name, input) in [
        ("a continuation", [&begun[..], &frame(0xC0, &HELLO[3..])].concat()),
        ("a continuation of a plain message", [frame(1, b"a"), frame(0xC0, HELLO)].concat()),
        ("a ping", frame(0xC9, b"")),
        ("a close", frame(0xC8, b"")),
        ("RSV2 beside it", frame(0xE1, HELLO)),
        ("RSV2 alone", frame(0xA1, HELLO)),
        ("RSV3", frame(0x91, HELLO)),
    ] {
        for size in [1, input.len()] {
            let seen = decoded(plain_agreement(false), 100, &input, size);
            assert_eq!(seen, [RESERVED], "{name}");
        }
    }
}

#[test]
fn plain_messages_and_control_frames_go_between() {
    let input = [
        frame(0x81, b"plain"),
        frame(0x41, &HELLO[..2]),
        frame(0x89, b"inside"),
        frame(0x00, &HELLO[2..4]),
        frame(0x80, &HELLO[4..]),
        frame(0x02, b"a"),
        frame(0x80, b"b"),
        frame(0xC1, HELLO),
    ]
    .concat();
    let expected =
        [text("plain"), Seen::Ping, text("Hello"), Seen::Message(2, b"ab".into()), text("Hello")];
    gives(false, 100, &input, &expected);
    gives(true, 100, &input, &expected);
}

// ---- what hostile peers send ---------------------------------------------------------------------

#[test]
fn the_limit_holds_while_inflating() {
    let message = vec![b'a'; 100_000];
    let input = frame(0xC2, &deflated(&message));
    gives(false, 100_000, &input, &[Seen::Message(2, message.clone())]);
    gives(false, 99_999, &input, &[TOO_BIG]);
    gives(true, 100_001, &input, &[Seen::Message(2, message)]);
}

#[test]
fn a_bomb_costs_no_more_than_the_limit() {
    let bomb = deflated(&vec![0; 64 << 20]);
    assert!(bomb.len() < 70_000);
    let mut peer = Peer::new(plain_agreement(true), 1 << 20);
    let input = frame(0xC2, &bomb);
    for piece in input.chunks(100) {
        peer.receive(piece);
        if !peer.seen.is_empty() {
            break;
        }
    }
    assert_eq!(peer.seen, [TOO_BIG]);
    assert!(peer.most_buffered <= 1 << 20);
}

#[test]
fn compressed_bytes_are_bounded_too() {
    // Empty blocks: nothing comes out, however many there are.
    let blocks = b"\x00\x00\x00\xff\xff".repeat(500);
    let most = 100 + 100 / 8 + 1024;
    gives(false, 100, &frame(0xC2, &blocks[..=most]), &[TOO_BIG]);
    let halves = [frame(0x42, &blocks[..1000]), frame(0x80, &blocks[1000..=most])].concat();
    gives(false, 100, &halves, &[TOO_BIG]);
    let mut allowed = blocks[..most / 5 * 5].to_vec();
    allowed.push(0);
    gives(false, 100, &frame(0xC2, &allowed), &[Seen::Message(2, vec![])]);
    // What deflate could not make smaller fits.
    gives(false, 100, &frame(0xC2, &stored(&[7; 100])), &[Seen::Message(2, vec![7; 100])]);
}

#[test]
fn what_is_no_deflate_stream_is_1007() {
    for payload in [
        &b"\xff\xff\xff"[..],         // a reserved block type
        b"\x00\x05\x00\x00\x00Hello", // lengths that do not agree
        b"\xf2\x48\xcd",              // cut inside a block
        b"\x00\x05\x00\xfa\xff\x48",  // cut inside a stored block
        b"\x04\xff\xff\xff\xff",      // impossible code lengths
    ] {
        gives(false, 100, &frame(0xC2, payload), &[CORRUPT]);
    }
}

#[test]
fn streams_that_begin_anew_again_and_again_are_refused() {
    let ends = |count| [b"\x03\x00".repeat(count), vec![0]].concat();
    gives(true, 100, &frame(0xC2, &ends(16)), &[Seen::Message(2, vec![])]);
    gives(true, 100, &frame(0xC2, &ends(17)), &[CORRUPT]);
}

#[test]
fn invalid_text_is_refused_at_the_byte_that_proves_it() {
    let valid = stored("κόσμε".as_bytes());
    gives(false, 100, &frame(0xC1, &valid), &[text("κόσμε")]);
    let cut = stored(&"κόσμε".as_bytes()[..3]);
    gives(false, 100, &frame(0xC1, &cut), &[NOT_UTF8]);
    // The byte is there, and most of the message is not.
    let mut input = frame(0xC1, &stored(&[b"ok\xffok".as_slice(), &[b'a'; 90]].concat()));
    input.truncate(2 + 5 + 3);
    assert_eq!(decoded(plain_agreement(false), 100, &input, 1), [NOT_UTF8]);
    // Invalid at its first byte, too long, and corrupt: the first fault counts.
    let faults = [&stored(&[0xFF; 200])[..205], b"\xff\xff"].concat();
    gives(false, 100, &frame(0xC1, &faults), &[NOT_UTF8]);
    gives(false, 100, &frame(0xC2, &faults), &[TOO_BIG]);
    gives(false, 200, &frame(0xC2, &faults), &[CORRUPT]);
}

#[test]
fn without_an_agreement_the_mark_is_refused() {
    let mut input = frame(0xC1, HELLO);
    let mut decoder = Decoder::<GrowingBuffer>::new(Role::Client);
    let failure = decoder.next(&mut input.as_mut_slice(), &Limits::default()).unwrap_err();
    assert_eq!((failure.code.get(), failure.reason), (1002, "reserved bits set"));
}

#[test]
fn what_was_inflated_is_counted() {
    let mut peer = Peer::new(plain_agreement(false), 1000);
    let compressed = deflated(&[b'a'; 500]);
    peer.receive(&[frame(0x81, b"plain"), frame(0xC1, &compressed), frame(0xC1, HELLO)].concat());
    let inflated = peer.decoder.take_inflated().unwrap();
    assert_eq!((inflated.messages, inflated.bytes), (2, 505));
    assert_eq!(inflated.compressed_bytes, (compressed.len() + HELLO.len()) as u64);
    assert_eq!(peer.decoder.take_inflated().unwrap().messages, 0);
}

// ---- properties -------------------------------------------------------------------------------

/// Messages with much in common, some of them compressed, in fragments.
fn conversation(messages: &[(bool, Vec<u8>)], deflater: &mut Deflater, fragment: usize) -> Vec<u8> {
    let mut scratch = Vec::new();
    let mut wire = Vec::new();
    for (is_text, body) in messages {
        let opcode = if *is_text { Opcode::Text } else { Opcode::Binary } as u8;
        let compressed = deflater.compress(body, &mut scratch);
        let (mark, payload) = match compressed {
            Some(len) => (0x40, &scratch[..len]),
            None => (0, &body[..]),
        };
        let mut pieces: Vec<&[u8]> = payload.chunks(fragment).collect();
        if pieces.is_empty() {
            pieces.push(b"");
        }
        let last = pieces.len() - 1;
        for (at, piece) in pieces.iter().enumerate() {
            let opcode = if at == 0 { opcode | mark } else { 0 };
            wire.extend(frame(opcode | if at == last { 0x80 } else { 0 }, piece));
        }
    }
    wire
}

fn message() -> impl Strategy<Value = (bool, Vec<u8>)> {
    prop_oneof![
        "[a-e ]{0,40}".prop_map(|word| (true, word.repeat(5).into_bytes())),
        "\\PC{0,60}".prop_map(|text| (true, text.into_bytes())),
        (prop::collection::vec(any::<u8>(), 1..50), 1..2000_usize)
            .prop_map(|(bytes, times)| (false, bytes.repeat(times))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn inflating_undoes_deflating_however_it_is_cut(
        messages in prop::collection::vec(message(), 1..6),
        takes_over in any::<bool>(),
        bits in 9..=15_u8,
        level in 1..=9_u8,
        fragment in 1..3000_usize,
        size in 1..5000_usize,
    ) {
        let offer = format!("permessage-deflate; client_max_window_bits={bits}");
        let mut deflater = Deflater::new(bits, level, 8, takes_over);
        let wire = conversation(&messages, &mut deflater, fragment);
        let expected: Vec<Seen> = messages
            .into_iter()
            .map(|(is_text, body)| Seen::Message(if is_text { 1 } else { 2 }, body))
            .collect();
        prop_assert_eq!(decoded(agreed(takes_over, &offer), 1 << 20, &wire, size), expected);
    }

    #[test]
    fn damage_gives_the_same_events_however_it_is_cut(
        messages in prop::collection::vec(message(), 1..4),
        takes_over in any::<bool>(),
        fragment in 1..500_usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        limit in 0..60_000_u64,
        size in 1..300_usize,
    ) {
        let mut deflater = Deflater::new(15, 6, 8, takes_over);
        let mut wire = conversation(&messages, &mut deflater, fragment);
        for (index, byte) in damage {
            let at = index.index(wire.len());
            wire[at] = byte;
        }
        let agreement = plain_agreement(takes_over);
        let mut peer = Peer::new(agreement, limit);
        for piece in wire.chunks(size) {
            peer.receive(piece);
        }
        prop_assert!(peer.most_buffered as u64 <= limit);
        prop_assert_eq!(&peer.seen, &decoded(agreement, limit, &wire, wire.len()));
    }

    #[test]
    fn arbitrary_streams_never_panic_and_are_the_same_however_they_are_cut(
        payload in prop::collection::vec(any::<u8>(), 0..400),
        limit in 0..2000_u64,
        size in 1..40_usize,
    ) {
        let wire = [frame(0xC2, &payload), frame(0x81, b"end")].concat();
        let agreement = plain_agreement(true);
        prop_assert_eq!(
            decoded(agreement, limit, &wire, size),
            decoded(agreement, limit, &wire, wire.len())
        );
    }

    #[test]
    fn masked_messages_are_unmasked_before_they_are_inflated(key in any::<[u8; 4]>()) {
        let mut payload = HELLO.to_vec();
        mask::apply(&mut payload, key, 0);
        let wire = [&[0xC1, 0x87][..], &key, &payload].concat();
        let inflation = Inflation::new(plain_agreement(false), &InflaterPool::default());
        let mut decoder = Decoder::<GrowingBuffer>::with_inflation(Role::Server, inflation);
        let mut input = wire;
        let mut cursor = input.as_mut_slice();
        let event = decoder.next(&mut cursor, &Limits::default()).unwrap();
        let Some(Event::Message(_, Payload::Owned(buffer))) = event else { panic!() };
        prop_assert_eq!(buffer.len(), 5);
        prop_assert_eq!(buffer.into_vec(), b"Hello");
    }
}
