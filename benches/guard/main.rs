//! Fixed work, to have its instructions counted: `guard WORK N` does it N times.
//!
//! `benches/guard.py` runs it under callgrind with N and 2 N; the difference is N times the work
//! alone. Nothing here depends on time, on chance or on what the machine does meanwhile.
// A program that measures may panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;

use rakit_ws_core::engine::{Address, Event, Handle, Outgoing, Settings, Shard, has_io_uring};
use rakit_ws_core::protocol::handshake::request::{Progress, RequestReader};
use rakit_ws_core::protocol::handshake::response;
use rakit_ws_core::protocol::{
    Decoder, GrowingBuffer, Kind, Limits, Opcode, Payload, Role, encoder,
};

const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
const SUBSCRIBERS: usize = 100;
const TOPIC: &str = "lobby";
const PUBLICATION: &[u8] =
    br#"{"type":"channel","channel":"lobby","data":{"text":"selamat pagi"},"client_id":"A1b2C3d4E5f6G7h8"}"#;
const REQUEST: &[u8] =
    b"GET /chat?room=1 HTTP/1.1\r\nHost: example.com:6001\r\nUpgrade: websocket\r\n\
    Connection: keep-alive, Upgrade\r\nOrigin: https://example.com\r\nCookie: rakit_session=0123456789\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

fn main() {
    let mut words = std::env::args().skip(1);
    let (Some(work), Some(times)) = (words.next(), words.next()) else {
        panic!("usage: guard WORK TIMES")
    };
    let times: usize = times.parse().expect("a number of times");
    match work.as_str() {
        "decode-text-64" => decode(Kind::Text, 64, times),
        "decode-binary-64" => decode(Kind::Binary, 64, times),
        "decode-binary-64k" => decode(Kind::Binary, 64 << 10, times),
        "encode-64" => encode(64, times),
        "handshake" => handshake(times),
        "receive-and-send" => receive_and_send(times),
        "fan-out" => fan_out(one_by_one(), times),
        "fan-out-io_uring" => {
            assert!(has_io_uring(), "valgrind refuses it, or the system does");
            fan_out(Settings::default(), times);
        }
        "has-io_uring" => println!("{}", has_io_uring()),
        other => panic!("no such work: {other}"),
    }
}

/// A masked frame to a message, unmasked and checked.
fn decode(kind: Kind, payload_bytes: usize, times: usize) {
    let frame = encoder::any_frame(true, kind.opcode(), Some(KEY), &vec![b'a'; payload_bytes]);
    let mut decoder = Decoder::<GrowingBuffer>::new(Role::Server);
    let limits = Limits { max_message_bytes: 1 << 20, ..Limits::default() };
    let mut scratch = frame.clone();
    for _ in 0..times {
        if kind == Kind::Text {
            // Other bytes may be masked twice as well as once.
            scratch.copy_from_slice(&frame);
        }
        let mut input = scratch.as_mut_slice();
        assert!(black_box(decoder.next(&mut input, &limits)).unwrap().is_some());
    }
}

/// A message to a frame.
fn encode(payload_bytes: usize, times: usize) {
    let payload = vec![b'a'; payload_bytes];
    let mut out = Vec::with_capacity(payload_bytes + 16);
    for _ in 0..times {
        out.clear();
        encoder::append_frame(black_box(&mut out), Opcode::Text, black_box(&payload));
    }
}

/// A request to what is answered.
fn handshake(times: usize) {
    for _ in 0..times {
        let mut reader = RequestReader::default();
        match reader.receive(black_box(REQUEST), 16 << 10) {
            Ok(Progress::Complete(request, _)) => {
                black_box(response::accept(request.key(), None, None, &[]));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Sockets that are ready: a message of each, sent back to it.
fn receive_and_send(times: usize) {
    let (mut shard, mut clients, _) = opened(10, one_by_one());
    let frame = encoder::any_frame(true, Opcode::Text, Some(KEY), PUBLICATION);
    for _ in 0..times {
        for client in &mut clients {
            client.write_all(&frame).unwrap();
        }
        let mut received = Vec::new();
        while received.len() < clients.len() {
            shard
                .poll(0, |event| match event {
                    Event::Message { handle, payload: Payload::Borrowed(bytes), .. } => {
                        received.push((handle, bytes.to_vec()));
                    }
                    other => panic!("{other:?}"),
                })
                .unwrap();
        }
        for (handle, message) in &received {
            assert!(shard.send(*handle, Opcode::Text, Outgoing::Copy(message)));
        }
        shard.flush();
        for client in &mut clients {
            let mut echo = [0; PUBLICATION.len() + 2];
            client.read_exact(&mut echo).unwrap();
        }
    }
}

/// A publication to all subscribers of a channel. What they are sent stays in their sockets.
fn fan_out(settings: Settings, times: usize) {
    let (mut shard, _clients, handles) = opened(SUBSCRIBERS, settings);
    for handle in handles {
        assert!(shard.subscribe(handle, TOPIC));
    }
    for _ in 0..times {
        assert_eq!(shard.publish(TOPIC, Opcode::Text, black_box(PUBLICATION)), SUBSCRIBERS);
        shard.flush();
    }
}

/// Each socket is written by itself, on every system.
fn one_by_one() -> Settings {
    Settings { io_uring: false, ..Settings::default() }
}

fn opened(count: usize, settings: Settings) -> (Shard<GrowingBuffer>, Vec<TcpStream>, Vec<Handle>) {
    let mut shard = Shard::new(settings, 0).unwrap();
    shard.listen("127.0.0.1", 0, 4096).unwrap();
    let Some(Address::Inet(address)) = shard.addresses().next().cloned() else { panic!() };
    let (mut clients, mut handles) = (Vec::new(), Vec::new());
    while clients.len() < count {
        let mut client = TcpStream::connect(address).unwrap();
        client.set_nodelay(true).unwrap();
        client.write_all(REQUEST).unwrap();
        let before = handles.len();
        while handles.len() == before {
            shard
                .poll(0, |event| {
                    if let Event::Requested { handle, .. } = event {
                        handles.push(handle);
                    }
                })
                .unwrap();
        }
        assert!(shard.accept(handles[before], None, &[], None));
        shard.flush();
        read_head(&mut client);
        clients.push(client);
    }
    (shard, clients, handles)
}

fn read_head(client: &mut TcpStream) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
}
