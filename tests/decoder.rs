//! The decoder against the shared vectors, and its properties.
#![allow(missing_docs)]
// A test may panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use proptest::prelude::*;
use rakit_ws_core::protocol::{
    Decoder, Event, Failure, GrowingBuffer, Limits, Opcode, Payload, Role, encoder,
};
use serde_json::Value;

#[path = "vectors/bytes.rs"]
mod vector;

use vector::bytes;

/// An event that owns its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Message(u8, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    Failed(u16),
}

/// A decoder with what its owner keeps for it, and the most that this ever was.
struct Peer {
    decoder: Decoder<GrowingBuffer>,
    limits: Limits,
    tail: Vec<u8>,
    seen: Vec<Seen>,
    most_tail: usize,
    most_buffered: usize,
}

impl Peer {
    fn new(role: Role, max_message_bytes: u64) -> Self {
        Self {
            decoder: Decoder::new(role),
            limits: Limits { max_message_bytes, ..Limits::default() },
            tail: Vec::new(),
            seen: Vec::new(),
            most_tail: 0,
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
                Ok(Some(event)) => self.seen.push(owned(event)),
                Err(Failure { code, .. }) => self.seen.push(Seen::Failed(code.get())),
            }
        }
        self.tail = input.to_vec();
        self.note_sizes();
    }

    /// Receive as the engine does: large payloads straight into their own memory.
    fn receive_directly(&mut self, mut piece: &[u8], at_least: u64) {
        while !piece.is_empty() {
            let Some(room) = self.decoder.room(at_least) else {
                let (now, later) = piece.split_at(piece.len().min(7));
                self.receive(now);
                piece = later;
                continue;
            };
            let count = room.len().min(piece.len());
            room[..count].copy_from_slice(&piece[..count]);
            piece = &piece[count..];
            match self.decoder.received(count) {
                Ok(None) => {}
                Ok(Some(event)) => self.seen.push(owned(event)),
                Err(Failure { code, .. }) => self.seen.push(Seen::Failed(code.get())),
            }
            self.note_sizes();
        }
    }

    fn note_sizes(&mut self) {
        self.most_tail = self.most_tail.max(self.tail.len());
        self.most_buffered = self.most_buffered.max(self.decoder.buffered());
    }
}

fn owned(event: Event<'_, GrowingBuffer>) -> Seen {
    match event {
        Event::Message(kind, Payload::Borrowed(bytes)) => {
            Seen::Message(kind.opcode() as u8, bytes.to_vec())
        }
        Event::Message(kind, Payload::Owned(buffer)) => {
            Seen::Message(kind.opcode() as u8, buffer.into_vec())
        }
        Event::Ping(payload) => Seen::Ping(payload.to_vec()),
        Event::Pong(payload) => Seen::Pong(payload.to_vec()),
        Event::Close(code, reason) => Seen::Close(code.get(), reason.to_owned()),
    }
}

fn decoded(role: Role, limit: u64, input: &[u8], size: usize) -> Vec<Seen> {
    let mut peer = Peer::new(role, limit);
    for piece in input.chunks(size.max(1)) {
        peer.receive(piece);
    }
    peer.seen
}

// ---- vectors --------------------------------------------------------------------------------

struct Vector {
    name: String,
    role: Role,
    limit: u64,
    input: Vec<u8>,
    expected: Vec<Seen>,
}

fn vectors() -> Vec<Vector> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/frames.json");
    let text = std::fs::read_to_string(path).unwrap();
    let Value::Array(vectors) = serde_json::from_str(&text).unwrap() else { panic!() };
    vectors.iter().map(vector).collect()
}

fn vector(value: &Value) -> Vector {
    Vector {
        name: value["name"].as_str().unwrap().to_owned(),
        role: if value["role"] == "client" { Role::Client } else { Role::Server },
        limit: value["max_message_bytes"].as_u64().unwrap_or(1 << 20),
        input: bytes(&value["input"]),
        expected: value["events"].as_array().unwrap().iter().map(expected_event).collect(),
    }
}

fn expected_event(event: &Value) -> Seen {
    let code = || u16::try_from(event["code"].as_u64().unwrap()).unwrap();
    match event["type"].as_str().unwrap() {
        "message" => {
            let opcode = u8::try_from(event["opcode"].as_u64().unwrap()).unwrap();
            Seen::Message(opcode, bytes(&event["payload"]))
        }
        "ping" => Seen::Ping(bytes(&event["payload"])),
        "pong" => Seen::Pong(bytes(&event["payload"])),
        "close" => Seen::Close(code(), event["reason"].as_str().unwrap().to_owned()),
        "failed" => Seen::Failed(code()),
        other => panic!("{other}"),
    }
}

#[test]
fn every_vector_gives_its_events_however_it_is_cut() {
    let vectors = vectors();
    assert!(vectors.len() > 100);
    for Vector { name, role, limit, input, expected } in vectors {
        for size in [input.len(), 1, 2, 3, 7, 1021] {
            if size == 1 && input.len() > 100_000 {
                continue;
            }
            assert_eq!(decoded(role, limit, &input, size), expected, "{name}, pieces of {size}");
        }
    }
}

#[test]
fn a_message_may_have_as_many_fragments_as_its_limit_however_it_is_cut() {
    const LIMIT: usize = 5;
    let mask = Some([9, 8, 7, 6]);
    for count in [LIMIT - 1, LIMIT, LIMIT + 1] {
        let first = encoder::any_frame(false, Opcode::Text, mask, b"");
        let middle = encoder::any_frame(false, Opcode::Continuation, mask, b"").repeat(count - 2);
        let last = encoder::any_frame(true, Opcode::Continuation, mask, b"end");
        let message = [first, middle, last].concat();
        // What came before does not count, and control frames in between do not either.
        let ping = encoder::any_frame(true, Opcode::Ping, mask, b"");
        let split = message.len() - 9;
        let (front, back) = message.split_at(split);
        let input = [front, &ping, back, front, &ping, back].concat();
        let whole = Seen::Message(1, b"end".to_vec());
        let expected = if count <= LIMIT {
            vec![Seen::Ping(vec![]), whole.clone(), Seen::Ping(vec![]), whole]
        } else {
            vec![Seen::Ping(vec![]), Seen::Failed(1008)]
        };
        for size in 1..=input.len() {
            let mut peer = Peer::new(Role::Server, 100);
            peer.limits.max_fragments = u32::try_from(LIMIT).unwrap();
            input.chunks(size).for_each(|piece| peer.receive(piece));
            assert_eq!(peer.seen, expected, "{count} fragments, cut every {size} bytes");
        }
    }
}

#[test]
fn nothing_is_decoded_after_a_failure() {
    let mut peer = Peer::new(Role::Client, 100);
    peer.receive(b"\x83\x00");
    peer.receive(b"\x81\x02ok");
    assert_eq!(peer.seen, [Seen::Failed(1002)]);
    assert!(peer.tail.is_empty());
}

// ---- every state and what can arrive in it -----------------------------------------------------

/// What brings a decoder into each of its states, from a client that masks with zeros.
const STATES: [(&str, &[u8]); 5] = [
    ("between messages", b""),
    ("between fragments of text", b"\x01\x81\0\0\0\0a"),
    ("between fragments of binary", b"\x02\x81\0\0\0\0a"),
    ("inside a frame", b"\x81\x83\0\0\0\0a"),
    ("after a Close", b"\x88\x80\0\0\0\0"),
];

#[test]
fn every_frame_in_every_state() {
    let message = |opcode, payload: &str| Some(Seen::Message(opcode, payload.into()));
    let failed = Some(Seen::Failed(1002));
    let ping = Some(Seen::Ping(vec![]));
    let close = Some(Seen::Close(1005, String::new()));
    // Frame; what it gives between messages, inside a text, inside a binary message.
    let rows: [(&[u8], _, _, _); 8] = [
        (b"\x81\x81\0\0\0\0b", message(1, "b"), failed.clone(), failed.clone()),
        (b"\x82\x81\0\0\0\0b", message(2, "b"), failed.clone(), failed.clone()),
        (b"\x01\x81\0\0\0\0b", None, failed.clone(), failed.clone()),
        (b"\x80\x81\0\0\0\0b", failed.clone(), message(1, "ab"), message(2, "ab")),
        (b"\0\x81\0\0\0\0b", failed.clone(), None, None),
        (b"\x89\x80\0\0\0\0", ping.clone(), ping.clone(), ping),
        (b"\x88\x80\0\0\0\0", close.clone(), close.clone(), close),
        (b"\x83\x80\0\0\0\0", failed.clone(), failed.clone(), failed),
    ];
    for (frame, between, text, binary) in rows {
        let expected = [between, text, binary, None, None];
        for ((state, before), expected) in STATES.into_iter().zip(expected) {
            let mut peer = Peer::new(Role::Server, 100);
            peer.receive(before);
            peer.seen.clear();
            peer.receive(frame);
            if state == "inside a frame" {
                // Whatever it is, it is payload.
                let text = [b"a", &frame[..2]].concat();
                let valid = String::from_utf8(text.clone()).is_ok();
                let expected = if valid { Seen::Message(1, text) } else { Seen::Failed(1007) };
                assert_eq!(peer.seen[0], expected, "{frame:x?}");
                continue;
            }
            assert_eq!(peer.seen, Vec::from_iter(expected), "{frame:x?} {state}");
        }
    }
}

// ---- properties -----------------------------------------------------------------------------

/// A message or control frame, as a peer would send it: in fragments, each with its mask.
fn wire(opcode: Opcode, payload: &[u8], fragments: usize, mask: Option<[u8; 4]>) -> Vec<u8> {
    let size = payload.len().div_ceil(fragments.max(1)).max(1);
    let mut pieces: Vec<&[u8]> = payload.chunks(size).collect();
    if pieces.is_empty() || opcode.is_control() {
        pieces = vec![payload];
    }
    let last = pieces.len() - 1;
    let frames = pieces.iter().enumerate().map(|(index, piece)| {
        let opcode = if index == 0 { opcode } else { Opcode::Continuation };
        encoder::any_frame(index == last, opcode, mask, piece)
    });
    frames.flatten().collect()
}

fn message() -> impl Strategy<Value = (Opcode, Vec<u8>)> {
    prop_oneof![
        ".{0,300}".prop_map(|text| (Opcode::Text, text.into_bytes())),
        prop::collection::vec(any::<u8>(), 0..70_000).prop_map(|bytes| (Opcode::Binary, bytes)),
        prop::collection::vec(any::<u8>(), 0..125).prop_map(|bytes| (Opcode::Ping, bytes)),
        prop::collection::vec(any::<u8>(), 0..125).prop_map(|bytes| (Opcode::Pong, bytes)),
    ]
}

fn expected((opcode, payload): &(Opcode, Vec<u8>)) -> Seen {
    match opcode {
        Opcode::Ping => Seen::Ping(payload.clone()),
        Opcode::Pong => Seen::Pong(payload.clone()),
        _ => Seen::Message(*opcode as u8, payload.clone()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn decoding_undoes_encoding(
        messages in prop::collection::vec(message(), 0..8),
        fragments in 1..5_usize,
        key in any::<[u8; 4]>(),
        size in 1..100_000_usize,
    ) {
        let input: Vec<u8> =
            messages.iter().flat_map(|(op, body)| wire(*op, body, fragments, Some(key))).collect();
        let expected: Vec<Seen> = messages.iter().map(expected).collect();
        prop_assert_eq!(decoded(Role::Server, 1 << 20, &input, size), expected);
    }

    #[test]
    fn receiving_directly_gives_the_same_events(
        messages in prop::collection::vec(message(), 0..4),
        fragments in 1..3_usize,
        at_least in 1..1000_u64,
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut input: Vec<u8> = messages
            .iter()
            .flat_map(|(op, body)| wire(*op, body, fragments, Some([7, 0, 99, 255])))
            .collect();
        if let (Some((index, byte)), false) = (damage, input.is_empty()) {
            let at = index.index(input.len());
            input[at] = byte;
        }
        let mut peer = Peer::new(Role::Server, 1 << 20);
        peer.receive_directly(&input, at_least);
        prop_assert_eq!(peer.seen, decoded(Role::Server, 1 << 20, &input, input.len()));
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_never_buffer_more_than_the_limit(
        input in prop::collection::vec(any::<u8>(), 0..3000),
        limit in 0..500_u64,
        role in prop_oneof![Just(Role::Server), Just(Role::Client)],
        size in 1..200_usize,
    ) {
        let mut peer = Peer::new(role, limit);
        for piece in input.chunks(size) {
            peer.receive(piece);
        }
        prop_assert!(peer.most_buffered as u64 <= limit);
        prop_assert!(peer.most_tail <= 131);
        prop_assert_eq!(&peer.seen, &decoded(role, limit, &input, input.len()));
    }

    #[test]
    fn plausible_bytes_give_the_same_events_however_they_are_cut(
        frames in prop::collection::vec(
            (any::<bool>(), 0..16_u8, any::<bool>(), prop::collection::vec(any::<u8>(), 0..140)),
            0..12,
        ),
        size in 1..50_usize,
    ) {
        let input: Vec<u8> = frames
            .iter()
            .flat_map(|(fin, opcode, masked, body)| {
                let first = u8::from(*fin) << 7 | opcode;
                let length = u8::try_from(body.len().min(125)).unwrap();
                let mut frame = vec![first, u8::from(*masked) << 7 | length];
                if *masked {
                    frame.extend([0; 4]);
                }
                frame.extend_from_slice(&body[..usize::from(length)]);
                frame
            })
            .collect();
        prop_assert_eq!(
            decoded(Role::Server, 300, &input, size),
            decoded(Role::Server, 300, &input, input.len())
        );
    }
}
