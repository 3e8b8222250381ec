//! A shard against plain sockets, with a clock that only the test moves.
#![allow(missing_docs)]
// A test may panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use rakit_ws_core::engine::{
    Address, Closed, Event, Handle, Millis, Outgoing, Pace, Rate, SHARE_FROM_BYTES, Settings,
    Shard, Side, SlowReader, has_io_uring,
};
use rakit_ws_core::protocol::{
    CloseCode, GrowingBuffer, Limits, Opcode, Payload, Refusal, encoder,
};

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Requested(Handle),
    Abandoned(Handle),
    Refused(u16),
    Aborted(&'static str),
    Message(Handle, Vec<u8>),
    Idle(Handle),
    RateLimited(Handle),
    Closed(Handle, u16, Side),
    Dropping(Handle, usize),
    MemoryShort,
    MemoryAmple,
    AcceptPaused,
    AcceptResumed,
}

struct Server {
    shard: Shard<GrowingBuffer>,
    now: Millis,
    seen: Vec<Seen>,
}

impl Server {
    fn new(settings: Settings) -> Self {
        let mut shard = Shard::new(settings, 0).unwrap();
        shard.listen("127.0.0.1", 0, 128).unwrap();
        Self { shard, now: 0, seen: Vec::new() }
    }

    fn connect(&self) -> TcpStream {
        let Some(Address::Inet(address)) = self.shard.addresses().next() else { panic!() };
        let client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client
    }

    /// Poll once, and let everybody have one turn.
    fn poll(&mut self) {
        self.begin_round();
        while self.shard.is_in_round() {
            self.go_on();
        }
    }

    /// Poll once, as it is.
    fn begin_round(&mut self) {
        let seen = &mut self.seen;
        self.shard.poll(self.now, |event| seen.push(noted(event))).unwrap();
    }

    fn go_on(&mut self) {
        let seen = &mut self.seen;
        self.shard.go_on(|event| seen.push(noted(event)));
    }

    /// Poll and flush until `done`; loopback delivers at once, so a few rounds are enough.
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..2000 {
            self.poll();
            if done(self) {
                return;
            }
            self.shard.flush();
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("never came: {what}; seen {:?}", self.seen);
    }

    fn until_seen(&mut self, expected: &Seen) {
        self.until(&format!("{expected:?}"), |server| server.seen.contains(expected));
    }

    /// A client whose handshake was accepted, and its handle.
    fn open(&mut self) -> (TcpStream, Handle) {
        let mut client = self.connect();
        client.write_all(REQUEST).unwrap();
        let handle = self.requested();
        assert!(self.shard.accept(handle, None, &[], None));
        self.shard.flush();
        assert!(head(&mut client).starts_with("HTTP/1.1 101"));
        (client, handle)
    }

    fn requested(&mut self) -> Handle {
        let mut handle = None;
        self.until("a request", |server| {
            handle = server.seen.iter().rev().find_map(|seen| match seen {
                Seen::Requested(handle) => Some(*handle),
                _ => None,
            });
            handle.is_some()
        });
        self.seen.retain(|seen| !matches!(seen, Seen::Requested(_)));
        handle.unwrap()
    }

    /// Serve until the client has read what it expects.
    fn serve_until_read(&mut self, client: &mut TcpStream, count: usize) -> Vec<u8> {
        client.set_nonblocking(true).unwrap();
        let mut read = Vec::new();
        self.until("bytes at the client", |_| {
            let mut buffer = vec![0; count - read.len()];
            match client.read(&mut buffer) {
                Ok(0) => panic!("ended after {} bytes", read.len()),
                Ok(n) => read.extend_from_slice(&buffer[..n]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            read.len() == count
        });
        client.set_nonblocking(false).unwrap();
        read
    }

    /// Whether the poller says that there is something to do.
    fn is_readable(&self) -> bool {
        // SAFETY: the shard owns the descriptor, and is borrowed for longer than this call.
        let fd = unsafe { BorrowedFd::borrow_raw(self.shard.as_raw_fd()) };
        let mut fds = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&rustix::event::Timespec::default())).unwrap() == 1
    }

    /// Take in what the clients have sent, as far as it goes.
    fn settle(&mut self) {
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(1));
            self.poll();
            self.shard.flush();
        }
    }

    fn count_of(&self, seen: &Seen) -> usize {
        self.seen.iter().filter(|each| *each == seen).count()
    }

    fn counter(&self, name: &str) -> u64 {
        self.shard.counters().iter().find(|(this, _)| *this == name).unwrap().1
    }
}

fn noted(event: Event<'_, GrowingBuffer>) -> Seen {
    match event {
        Event::Requested { handle, .. } => Seen::Requested(handle),
        Event::Abandoned { handle, .. } => Seen::Abandoned(handle),
        Event::Refused { refusal, .. } => Seen::Refused(refusal.status),
        Event::Aborted { reason, .. } => Seen::Aborted(reason),
        Event::Message { handle, payload: Payload::Borrowed(bytes), .. } => {
            Seen::Message(handle, bytes.to_vec())
        }
        Event::Message { handle, payload: Payload::Owned(buffer), .. } => {
            Seen::Message(handle, buffer.into_vec())
        }
        Event::TlsFailed { .. } => unreachable!("without TLS"),
        Event::Idle { handle } => Seen::Idle(handle),
        Event::RateLimited { handle } => Seen::RateLimited(handle),
        Event::Closed { handle, closed: Closed { code, side, .. } } => {
            Seen::Closed(handle, code.get(), side)
        }
        Event::Dropping { handle, queued } => Seen::Dropping(handle, queued),
        Event::MemoryShort { .. } => Seen::MemoryShort,
        Event::MemoryAmple { .. } => Seen::MemoryAmple,
        Event::AcceptPaused { .. } => Seen::AcceptPaused,
        Event::AcceptResumed => Seen::AcceptResumed,
    }
}

fn head(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    encoder::any_frame(true, opcode, Some([1, 2, 3, 4]), payload)
}

/// End TCP by a reset.
fn reset(client: TcpStream) {
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
}

fn read_to_end(client: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    rest
}

#[test]
fn a_message_arrives_and_its_answer_leaves_with_the_flush() {
    let mut server = Server::new(Settings::default());
    let (mut client, handle) = server.open();
    client.write_all(&masked(Opcode::Text, b"hello")).unwrap();
    server.until_seen(&Seen::Message(handle, b"hello".to_vec()));
    assert!(server.shard.send(handle, Opcode::Text, Outgoing::Copy(b"world")));
    server.shard.flush();
    let mut frame = [0; 7];
    client.read_exact(&mut frame).unwrap();
    assert_eq!(&frame, b"\x81\x05world");
}

#[test]
fn frames_behind_the_request_are_kept_until_it_is_accepted() {
    let mut server = Server::new(Settings::default());
    let mut client = server.connect();
    client.write_all(&[REQUEST, &masked(Opcode::Text, b"early")].concat()).unwrap();
    let handle = server.requested();
    server.poll();
    assert_eq!(server.seen, []);
    server.shard.accept(handle, None, &[], None);
    server.until_seen(&Seen::Message(handle, b"early".to_vec()));
}

#[test]
fn what_is_queued_before_the_decision_follows_the_first_message() {
    let mut server = Server::new(Settings::default());
    let mut client = server.connect();
    client.write_all(REQUEST).unwrap();
    let handle = server.requested();
    assert!(server.shard.send(handle, Opcode::Text, Outgoing::Copy(b"second")));
    assert!(server.shard.subscribe(handle, "chat"));
    server.shard.flush();
    assert!(server.shard.accept(handle, Some("chat"), &[], Some(b"first")));
    server.shard.flush();
    assert!(head(&mut client).contains("Sec-WebSocket-Protocol: chat\r\n"));
    let mut frames = [0; 15];
    client.read_exact(&mut frames).unwrap();
    assert_eq!(&frames, b"\x81\x05first\x81\x06second");
    assert_eq!(server.shard.publish("chat", Opcode::Text, b"x"), 1);
}

#[test]
fn a_rejected_handshake_gets_its_response_and_the_end_of_tcp() {
    let mut server = Server::new(Settings::default());
    let mut client = server.connect();
    client.write_all(REQUEST).unwrap();
    let handle = server.requested();
    assert!(server.shard.reject(handle, &Refusal::new(403, "no"), &[]));
    assert!(!server.shard.accept(handle, None, &[], None), "decided already");
    server.shard.flush();
    assert!(head(&mut client).starts_with("HTTP/1.1 403"));
    assert_eq!(read_to_end(&mut client), b"no\n");
    drop(client);
    server.until("the end", |server| server.shard.is_empty());
}

#[test]
fn a_stale_handle_is_inert() {
    let mut server = Server::new(Settings::default());
    let (client, stale) = server.open();
    drop(client);
    server.until_seen(&Seen::Closed(stale, 1006, Side::Lost));
    let (_second, handle) = server.open();
    assert_eq!(handle.slot(), stale.slot(), "the slot is used again");
    assert!(!server.shard.send(stale, Opcode::Text, Outgoing::Copy(b"x")));
    assert!(!server.shard.subscribe(stale, "chat"));
    assert!(!server.shard.close(stale, CloseCode::NORMAL, ""));
    assert!(!server.shard.accept(stale, None, &[], None));
    assert_eq!(server.shard.queued_bytes(stale), 0);
}

#[test]
fn answers_to_messages_before_a_violation_go_before_the_close() {
    let mut server = Server::new(Settings::default());
    let (mut client, handle) = server.open();
    client.write_all(&[masked(Opcode::Text, b"ok"), vec![0x83, 0x80]].concat()).unwrap();
    server.until_seen(&Seen::Closed(handle, 1002, Side::Server));
    assert!(server.shard.send(handle, Opcode::Text, Outgoing::Copy(b"answer")));
    server.shard.flush();
    assert!(!server.shard.send(handle, Opcode::Text, Outgoing::Copy(b"too late")));
    let bytes = read_to_end(&mut client);
    assert!(bytes.starts_with(b"\x81\x06answer\x88"), "{bytes:x?}");
    assert_eq!(&bytes[10..12], &1002_u16.to_be_bytes());
    drop(client);
    server.until("the end", |server| server.shard.is_empty());
}

#[test]
fn the_peers_close_is_answered_with_its_code() {
    let mut server = Server::new(Settings::default());
    let (mut client, handle) = server.open();
    client.write_all(&masked(Opcode::Close, &4321_u16.to_be_bytes())).unwrap();
    server.until_seen(&Seen::Closed(handle, 4321, Side::Peer));
    server.shard.flush();
    assert_eq!(read_to_end(&mut client), [0x88, 2, 0x10, 0xE1]);
}

#[test]
fn our_close_waits_for_the_peers_and_drops_messages_meanwhile() {
    let mut server = Server::new(Settings::default());
    let (mut client, handle) = server.open();
    assert!(server.shard.close(handle, CloseCode::GOING_AWAY, "bye"));
    assert!(!server.shard.close(handle, CloseCode::GOING_AWAY, "bye"), "closing already");
    server.until_seen(&Seen::Closed(handle, 1001, Side::Server));
    client.write_all(&masked(Opcode::Text, b"ignored")).unwrap();
    client.write_all(&masked(Opcode::Close, &1001_u16.to_be_bytes())).unwrap();
    server.shard.flush();
    server.until("the peer's close", |server| server.shard.counters().messages_received == 0);
    let mut close = [0; 7];
    client.read_exact(&mut close).unwrap();
    assert_eq!(&close, b"\x88\x05\x03\xe9bye");
    drop(client);
    server.until("the end", |server| server.shard.is_empty());
    assert_eq!(server.seen, [Seen::Closed(handle, 1001, Side::Server)]);
}

#[test]
fn a_peer_that_never_answers_our_close_is_cut_off_in_time() {
    let mut server = Server::new(Settings { close_timeout: 500, ..Settings::default() });
    let (_client, handle) = server.open();
    server.shard.close(handle, CloseCode::NORMAL, "");
    server.until_seen(&Seen::Closed(handle, 1000, Side::Server));
    server.shard.flush();
    server.now = 499;
    server.poll();
    assert_eq!(server.shard.len(), 1);
    server.now = 500;
    server.poll();
    assert!(server.shard.is_empty());
    assert_eq!(server.counter("close_timeouts"), 1);
}

#[test]
fn silence_is_pinged_and_then_closed_with_4008() {
    let settings = Settings { report_idle: true, ..Settings::default() };
    let mut server = Server::new(settings);
    let (mut client, handle) = server.open();
    server.now = 24_999;
    server.poll();
    assert_eq!(server.seen, []);
    server.now = 25_000;
    server.poll();
    assert_eq!(server.seen, [Seen::Idle(handle)]);
    server.shard.flush();
    let mut ping = [0; 2];
    client.read_exact(&mut ping).unwrap();
    assert_eq!(ping, [0x89, 0]);
    server.now = 50_000;
    server.poll();
    server.now = 60_000;
    server.poll();
    server.poll();
    assert_eq!(server.seen.last(), Some(&Seen::Closed(handle, 4008, Side::Server)));
    assert_eq!(server.counter("pings_sent"), 2);
}

#[test]
fn a_pong_resets_the_silence() {
    let mut server = Server::new(Settings::default());
    let (mut client, handle) = server.open();
    server.now = 40_000;
    client.write_all(&masked(Opcode::Pong, b"")).unwrap();
    server.until("the pong", |server| {
        server.now += 1;
        server.now == 40_050
    });
    server.now = 99_000;
    server.poll();
    server.poll();
    assert!(!server.seen.iter().any(|seen| matches!(seen, Seen::Closed(..))));
    server.now = 101_000;
    server.poll();
    server.poll();
    assert_eq!(server.seen.last(), Some(&Seen::Closed(handle, 4008, Side::Server)));
}

#[test]
fn a_peer_that_vanished_is_gone_with_the_ping_timeout_and_its_socket_with_the_close_timeout() {
    let mut server = Server::new(Settings::default());
    let (_client, handle) = server.open();
    server.shard.subscribe(handle, "a");
    for (now, open, connections) in
        [(59_999, 1, 1), (60_000, 0, 1), (64_999, 0, 1), (65_000, 0, 0), (65_001, 0, 0)]
    {
        server.now = now;
        server.poll();
        server.poll();
        server.shard.flush();
        assert_eq!((server.shard.open_count(), server.shard.len()), (open, connections), "{now}");
    }
    assert_eq!(server.seen, [Seen::Closed(handle, 4008, Side::Server)]);
    assert_eq!(server.shard.topics().count(), 0);
    assert_eq!((server.counter("ping_timeouts"), server.counter("close_timeouts")), (1, 1));
}

#[test]
fn a_peer_that_vanished_with_its_window_shut_is_gone_likewise() {
    let mut server = Server::new(Settings::default());
    let (_client, handle) = server.open();
    // Until neither the system takes more, nor half of what may wait here is free.
    while server.shard.queued_bytes(handle) < 600_000 {
        server.shard.send(handle, Opcode::Text, Outgoing::Copy(&[b'a'; 10_000]));
        server.shard.flush();
    }
    for (now, open) in [(59_999, 1), (60_000, 0)] {
        server.now = now;
        server.poll();
        server.poll();
        server.shard.flush();
        assert_eq!((server.shard.open_count(), server.shard.len()), (open, 1), "{now}");
    }
    server.now = 65_000;
    server.poll();
    assert!(server.shard.is_empty());
    assert_eq!(server.seen.last(), Some(&Seen::Closed(handle, 4008, Side::Server)));
}

#[test]
fn a_peer_that_closes_but_keeps_tcp_is_cut_off_in_time() {
    let mut server = Server::new(Settings { close_timeout: 500, ..Settings::default() });
    let (mut client, handle) = server.open();
    client.write_all(&masked(Opcode::Close, &1000_u16.to_be_bytes())).unwrap();
    server.until_seen(&Seen::Closed(handle, 1000, Side::Peer));
    server.shard.flush();
    server.now = 499;
    server.poll();
    assert_eq!(server.shard.len(), 1);
    server.now = 500;
    server.poll();
    assert!(server.shard.is_empty());
    assert_eq!(read_to_end(&mut client)[..4], [0x88, 2, 3, 0xe8]);
}

#[test]
fn a_handshake_that_is_not_complete_in_time_gets_408() {
    let mut server = Server::new(Settings::default());
    let mut client = server.connect();
    client.write_all(&REQUEST[..20]).unwrap();
    server.until("the connection", |server| server.shard.len() == 1);
    server.now = 10_000;
    server.until_seen(&Seen::Refused(408));
    server.shard.flush();
    assert!(head(&mut client).starts_with("HTTP/1.1 408"));
}

#[test]
fn a_decision_that_takes_too_long_gets_503_and_is_abandoned() {
    let mut server = Server::new(Settings::default());
    let mut client = server.connect();
    client.write_all(REQUEST).unwrap();
    let handle = server.requested();
    server.now = 10_000;
    server.until_seen(&Seen::Abandoned(handle));
    assert!(!server.shard.accept(handle, None, &[], None));
    server.shard.flush();
    assert!(head(&mut client).starts_with("HTTP/1.1 503"));
}

#[test]
fn an_undecided_client_that_resets_is_abandoned() {
    let mut server = Server::new(Settings::default());
    let mut client = server.connect();
    client.write_all(REQUEST).unwrap();
    let handle = server.requested();
    server.shard.flush();
    reset(client);
    server.until_seen(&Seen::Abandoned(handle));
    assert!(server.shard.is_empty());
}

#[test]
fn connections_over_the_limit_get_503() {
    let mut server = Server::new(Settings { max_connections: 1, ..Settings::default() });
    let (_first, _) = server.open();
    let mut second = server.connect();
    second.write_all(REQUEST).unwrap();
    server.until_seen(&Seen::Refused(503));
    server.shard.flush();
    assert!(head(&mut second).contains("Retry-After: "));
}

#[test]
fn connections_from_one_address_are_counted_and_forgotten() {
    let mut server = Server::new(Settings { max_connections_per_ip: 2, ..Settings::default() });
    let (_first, _) = server.open();
    let (second, handle) = server.open();
    let mut third = server.connect();
    third.write_all(REQUEST).unwrap();
    server.until_seen(&Seen::Refused(503));
    server.shard.flush();
    drop((second, third));
    server.until_seen(&Seen::Closed(handle, 1006, Side::Lost));
    server.until("the third to go", |server| server.shard.len() == 1);
    server.open();
}

#[test]
fn handshakes_over_the_undecided_cap_get_503() {
    let mut server = Server::new(Settings { max_undecided_handshakes: 1, ..Settings::default() });
    let mut first = server.connect();
    first.write_all(REQUEST).unwrap();
    let handle = server.requested();
    server.shard.flush();
    let mut second = server.connect();
    second.write_all(REQUEST).unwrap();
    server.until_seen(&Seen::Refused(503));
    server.shard.accept(handle, None, &[], None);
    server.shard.flush();
    server.open();
}

#[test]
fn a_message_over_the_limit_is_refused_at_its_header() {
    let limits = Limits { max_message_bytes: 1000, ..Limits::default() };
    let mut server = Server::new(Settings { limits, ..Settings::default() });
    let (mut client, handle) = server.open();
    client.write_all(&masked(Opcode::Binary, &[0; 1000])).unwrap();
    server.until_seen(&Seen::Message(handle, vec![0; 1000]));
    client.write_all(&masked(Opcode::Binary, &[0; 1001])[..4]).unwrap();
    server.until_seen(&Seen::Closed(handle, 1009, Side::Server));
}

#[test]
fn control_frames_are_counted_by_the_second_and_one_too_many_is_1008() {
    let settings = Settings { control_rate: Rate::per_second(4), ..Settings::default() };
    let mut server = Server::new(settings);
    let (mut client, handle) = server.open();
    let (asked, unasked) = (masked(Opcode::Ping, b""), masked(Opcode::Pong, b""));
    for (now, frames) in [(0, 4), (250, 1), (500, 1), (10_000, 4), (10_250, 1)] {
        server.now = now;
        let before = server.counter("frames_received");
        let sent: Vec<u8> =
            [&asked, &unasked].into_iter().cycle().take(frames).flatten().copied().collect();
        client.write_all(&sent).unwrap();
        server.until("the frames", |s| s.counter("frames_received") == before + frames as u64);
    }
    assert_eq!(server.seen, [], "within the limit");
    server.now = 10_499;
    client.write_all(&unasked).unwrap();
    server.until_seen(&Seen::Closed(handle, 1008, Side::Server));
    assert_eq!(server.counter("control_floods"), 1);
}

#[test]
fn messages_over_the_rate_are_refused_told_once_a_second_and_then_1008() {
    let settings = Settings { message_rate: Rate::new(2.0, 4), ..Settings::default() };
    let mut server = Server::new(settings);
    let (mut client, handle) = server.open();
    let mut send = |server: &mut Server, now, count: u64| {
        server.now = now;
        server.seen.clear();
        let before = server.counter("messages_received");
        client
            .write_all(&masked(Opcode::Text, b"m").repeat(usize::try_from(count).unwrap()))
            .unwrap();
        server.until("the messages", |s| s.counter("messages_received") == before + count);
        server.seen.clone()
    };
    let (message, told) = (Seen::Message(handle, b"m".to_vec()), Seen::RateLimited(handle));
    assert_eq!(send(&mut server, 0, 4), vec![message.clone(); 4]);
    assert_eq!(send(&mut server, 0, 2), vec![told.clone()], "told once");
    assert_eq!(send(&mut server, 500, 1), vec![message.clone()]);
    assert_eq!(send(&mut server, 999, 1), [], "not told again within a second");
    assert_eq!(send(&mut server, 1000, 2), [message, told], "but then");
    assert_eq!(server.counter("messages_refused"), 4);
    // Six may be: four at once, and two that the second has added.
    assert_eq!(send(&mut server, 1000, 2), []);
    assert_eq!(send(&mut server, 1000, 1), [Seen::Closed(handle, 1008, Side::Server)]);
    assert_eq!(server.counter("message_floods"), 1);
}

#[test]
fn what_came_while_a_client_was_not_read_is_not_held_against_it() {
    let settings = Settings { message_rate: Rate::new(10.0, 5), ..Settings::default() };
    let mut server = Server::new(settings);
    let mut client = server.connect();
    let message = masked(Opcode::Text, b"m");
    client.write_all(&[REQUEST, &message.repeat(25)].concat()).unwrap();
    let handle = server.requested();
    server.shard.at(2000).accept(handle, None, &[], None);
    server.now = 2000;
    server.until("the early ones", |server| server.seen.len() == 25);
    server.shard.pause_reading(handle);
    server.shard.flush();
    client.write_all(&message.repeat(30)).unwrap();
    server.shard.at(5000).resume_reading(handle);
    server.now = 5000;
    server.until("those that waited", |server| server.seen.len() == 55);
    assert_eq!(server.counter("messages_refused"), 0);
    client.write_all(&message).unwrap();
    server.until_seen(&Seen::RateLimited(handle));
}

#[test]
fn silence_may_last_its_time_but_not_a_millisecond_more() {
    let settings = Settings { ping_interval: 0, ping_timeout: 1000, ..Settings::default() };
    let mut server = Server::new(settings);
    let (_client, handle) = server.open();
    for now in [999, 1000, 1001] {
        server.now = now;
        server.poll();
        assert_eq!(server.counter("ping_timeouts"), u64::from(now >= 1000), "{now}");
    }
    server.until_seen(&Seen::Closed(handle, 4008, Side::Server));
}

#[test]
fn a_closing_handshake_may_take_its_time_but_not_a_millisecond_more() {
    let mut server = Server::new(Settings { close_timeout: 1000, ..Settings::default() });
    let (_client, handle) = server.open();
    server.shard.close(handle, CloseCode::NORMAL, "");
    server.shard.flush();
    for now in [999, 1000, 1001] {
        server.now = now;
        server.poll();
        assert_eq!(server.counter("close_timeouts"), u64::from(now >= 1000), "{now}");
    }
    assert!(server.shard.is_empty());
}

#[test]
fn a_handshake_may_take_its_time_but_not_a_millisecond_more() {
    let mut server = Server::new(Settings { handshake_timeout: 1000, ..Settings::default() });
    let mut client = server.connect();
    client.write_all(&REQUEST[..20]).unwrap();
    server.until("the connection", |server| server.shard.len() == 1);
    for now in [999, 1000, 1001] {
        server.now = now;
        server.poll();
        assert_eq!(server.counter("handshake_timeouts"), u64::from(now >= 1000), "{now}");
    }
}

#[test]
fn a_large_message_arrives_whole_and_its_echo_too() {
    let settings = Settings {
        limits: Limits { max_message_bytes: 8 << 20, ..Limits::default() },
        max_send_buffer: 16 << 20,
        ..Settings::default()
    };
    let mut server = Server::new(settings);
    let (mut client, handle) = server.open();
    let payload: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let frame = masked(Opcode::Binary, &payload);
    let mut writer = client.try_clone().unwrap();
    let sending = std::thread::spawn(move || writer.write_all(&frame).unwrap());
    server.until_seen(&Seen::Message(handle, payload.clone()));
    sending.join().unwrap();
    server.shard.send(handle, Opcode::Binary, Outgoing::Share(payload.clone().into()));
    let echo = server.serve_until_read(&mut client, payload.len() + 10);
    assert!(echo[10..] == payload);
}

#[test]
fn peers_that_send_large_messages_need_one_turn_for_each_once_that_is_known() {
    let mut server = Server::new(Settings::default());
    let (mut client, _) = server.open();
    let frame = masked(Opcode::Binary, &vec![b'x'; 1 << 16]);
    let mut turns = Vec::new();
    for number in 1..=4 {
        client.write_all(&frame).unwrap();
        std::thread::sleep(Duration::from_millis(50)); // All of it is there.
        let mut polls = 0;
        server.until("a message", |server| {
            polls += 1;
            server.counter("messages_received") == number
        });
        turns.push(polls);
    }
    assert!(turns[0] > 1, "it was taken for one that sends small ones: {turns:?}");
    assert_eq!(turns[2..], [1, 1], "{turns:?}");
}

#[test]
fn a_message_for_some_clients_reaches_each_that_is_still_there() {
    for len in [5, SHARE_FROM_BYTES] {
        let mut server = Server::new(Settings::default());
        let (gone, stale) = server.open();
        drop(gone);
        server.until_seen(&Seen::Closed(stale, 1006, Side::Lost));
        let (mut first, a) = server.open();
        let (mut second, b) = server.open();
        let (_third, closing) = server.open();
        assert!(server.shard.close(closing, CloseCode::NORMAL, ""));
        server.until_seen(&Seen::Closed(closing, 1000, Side::Server));
        server.shard.flush();
        let payload = vec![b'x'; len];
        assert_eq!(server.shard.send_each(&[], Opcode::Text, &payload), 0);
        assert_eq!(server.shard.send_each(&[stale], Opcode::Text, &payload), 0);
        assert_eq!(server.shard.send_each(&[a], Opcode::Text, &payload), 1);
        assert_eq!(server.shard.send_each(&[stale, a, closing, b], Opcode::Text, &payload), 2);
        let frame = if len < 126 { len + 2 } else { len + 4 };
        assert_eq!(server.serve_until_read(&mut first, 2 * frame).len(), 2 * frame);
        assert_eq!(server.serve_until_read(&mut second, frame).len(), frame);
    }
}

#[test]
fn a_slow_reader_is_closed_with_1013_and_others_are_not_touched() {
    let settings = Settings { max_send_buffer: 100_000, ..Settings::default() };
    let mut server = Server::new(settings);
    let (_slow, slow) = server.open();
    let (mut quick, other) = server.open();
    for handle in [slow, other] {
        server.shard.subscribe(handle, "news");
    }
    let payload = vec![b'x'; 20_000];
    let mut rounds = 0;
    while !server.seen.contains(&Seen::Closed(slow, 1013, Side::Server)) {
        assert!(server.shard.publish("news", Opcode::Text, &payload) >= 1);
        assert!(server.shard.queued_bytes(slow) < 100_000 + 20_010, "bounded");
        assert_eq!(server.serve_until_read(&mut quick, 20_004).len(), 20_004);
        rounds += 1;
        assert!(rounds < 10_000);
    }
    assert_eq!(server.shard.subscribers("news").collect::<Vec<_>>(), [other]);
    assert_eq!(server.counter("slow_readers"), 1);
}

/// The payloads of whole unmasked frames, each with its opcode.
fn frames_in(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        let (len, rest) = match second {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (
                usize::try_from(u64::from_be_bytes(rest[..8].try_into().unwrap())).unwrap(),
                &rest[8..],
            ),
            len => (usize::from(*len), rest),
        };
        assert!(rest.len() >= len, "half a frame");
        frames.push((first & 0x0F, rest[..len].to_vec()));
        bytes = &rest[len..];
    }
    frames
}

/// A server with a client that does not read, for which messages have begun to be dropped; the
/// bodies that were queued for it.
fn dropping(max_send_buffer: usize) -> (Server, TcpStream, Handle, Vec<Vec<u8>>) {
    let settings =
        Settings { max_send_buffer, slow_reader: SlowReader::Drop, ..Settings::default() };
    let mut server = Server::new(settings);
    let (client, handle) = server.open();
    let mut queued = Vec::new();
    for n in 0..100_000_u32 {
        let body = format!("{n} {}", "x".repeat(10_000)).into_bytes();
        if !server.shard.send(handle, Opcode::Text, Outgoing::Copy(&body)) {
            return (server, client, handle, queued);
        }
        queued.push(body);
        server.shard.flush();
    }
    panic!("the queue never filled");
}

#[test]
fn a_message_is_queued_while_less_than_the_bound_waits() {
    for (waiting, fits) in [(99_999, true), (100_000, false), (100_001, false)] {
        let mut server = Server::new(Settings { max_send_buffer: 100_000, ..Settings::default() });
        let mut asking = server.connect();
        asking.write_all(REQUEST).unwrap();
        // Until it is accepted nothing is written, so that exactly so much waits.
        let handle = server.requested();
        server.shard.send(handle, Opcode::Text, Outgoing::Copy(&vec![b'x'; waiting - 10]));
        assert_eq!(server.shard.queued_bytes(handle), waiting);
        let queued = server.shard.send(handle, Opcode::Text, Outgoing::Copy(b"one more"));
        assert_eq!(queued, fits, "{waiting} bytes waited");
    }
}

#[test]
fn dropping_is_reported_once_and_counted_and_no_frame_is_cut() {
    let (mut server, mut client, handle, queued) = dropping(100_000);
    for _ in 0..49 {
        assert!(!server.shard.send(handle, Opcode::Text, Outgoing::Copy(b"12345")));
    }
    let waiting = server.shard.queued_bytes(handle);
    assert!((100_000..110_020).contains(&waiting));
    server.poll();
    assert_eq!(server.seen, [Seen::Dropping(handle, waiting)]);
    assert_eq!(server.counter("messages_dropped"), 50);
    assert!(server.counter("message_bytes_dropped") > 10_000 + 49 * 5);
    assert_eq!(server.counter("messages_sent"), queued.len() as u64);
    assert_eq!(server.counter("slow_readers"), 0);
    // Control frames are never dropped: the Close comes behind all that was queued.
    assert!(server.shard.close(handle, CloseCode::NORMAL, ""));
    let total = queued.iter().map(|body| body.len() + 4).sum::<usize>() + 4;
    let frames = frames_in(&server.serve_until_read(&mut client, total));
    let expected = queued.into_iter().map(|body| (1, body));
    assert!(frames == expected.chain([(8, vec![0x03, 0xE8])]).collect::<Vec<_>>());
}

#[test]
fn a_client_that_reads_again_gets_messages_again_and_its_next_lapse_is_reported_anew() {
    let (mut server, mut client, handle, queued) = dropping(100_000);
    let total = queued.iter().map(|body| body.len() + 4).sum::<usize>();
    server.serve_until_read(&mut client, total);
    assert!(server.shard.send(handle, Opcode::Text, Outgoing::Copy(b"again")));
    assert_eq!(server.serve_until_read(&mut client, 7), b"\x81\x05again");
    while server.shard.send(handle, Opcode::Text, Outgoing::Copy(&[b'x'; 10_000])) {
        server.shard.flush();
    }
    server.poll();
    let reports = server.seen.iter().filter(|seen| matches!(seen, Seen::Dropping(..)));
    assert_eq!(reports.count(), 2);
}

#[test]
fn pings_are_answered_and_sent_while_messages_are_dropped() {
    let (mut server, mut client, handle, queued) = dropping(100_000);
    server.now = 25_000;
    server.poll();
    assert_eq!(server.counter("pings_sent"), 1);
    let total = queued.iter().map(|body| body.len() + 4).sum::<usize>() + 2;
    let frames = frames_in(&server.serve_until_read(&mut client, total));
    assert_eq!(frames.last(), Some(&(9, Vec::new())));
    assert_eq!(server.shard.queued_bytes(handle), 0);
}

#[test]
fn a_message_larger_than_the_bound_goes_to_a_client_for_which_nothing_waits() {
    let settings =
        Settings { max_send_buffer: 1024, slow_reader: SlowReader::Drop, ..Settings::default() };
    let mut server = Server::new(settings);
    let (mut client, handle) = server.open();
    let large = vec![b'x'; 50_000];
    assert!(server.shard.send(handle, Opcode::Text, Outgoing::Copy(&large)));
    assert_eq!(server.serve_until_read(&mut client, 50_004)[4..], large);
}

fn with_memory(max_memory: usize) -> Server {
    Server::new(Settings { max_memory, ..Settings::default() })
}

/// The beginning of a message of a million bytes.
fn unfinished(len: usize) -> Vec<u8> {
    let mut frame = masked(Opcode::Binary, &vec![0; 1_000_000]);
    frame.truncate(len);
    frame
}

#[test]
fn what_peers_make_the_shard_hold_is_counted_and_given_back() {
    let mut server = with_memory(0);
    assert_eq!(server.shard.memory_held(), 0);
    let mut clients: Vec<_> = (0..3).map(|_| server.open()).collect();
    let idle = server.shard.memory_held();
    assert!((3 * 1536..3 * 2048).contains(&idle), "{idle}");
    clients[0].0.write_all(&unfinished(200_000)).unwrap();
    server.settle();
    let partial = server.shard.memory_held() - idle;
    assert!((199_000..=410_000).contains(&partial), "{partial}");
    for (_, handle) in &clients {
        server.shard.subscribe(*handle, "news");
    }
    server.shard.publish("news", Opcode::Text, &vec![b'x'; 500_000]);
    let shared = server.shard.memory_held() - idle - partial;
    assert!((500_000..501_000).contains(&shared), "once for all three: {shared}");
    server.shard.send(clients[1].1, Opcode::Text, Outgoing::Copy(&vec![b'x'; 100_000]));
    assert!(server.shard.memory_held() - idle - partial - shared >= 100_000);
    clients.clear();
    server.until("the end", |server| server.shard.is_empty());
    assert_eq!(server.shard.memory_held(), 0);
}

#[test]
fn when_memory_is_short_handshakes_are_refused_and_those_who_hold_much_wait() {
    let mut server = with_memory(4_000_000);
    let (mut large, handle) = server.open();
    let (mut small, modest) = server.open();
    let mut early = server.connect();
    server.settle();
    let (_hog, hog) = server.open();
    server.shard.send(hog, Opcode::Text, Outgoing::Copy(&vec![b'x'; 3_040_000]));
    server.poll();
    server.poll();
    assert_eq!(server.count_of(&Seen::MemoryShort), 1);
    let mut late = server.connect();
    for asking in [&mut early, &mut late] {
        asking.write_all(REQUEST).unwrap();
    }
    std::thread::sleep(Duration::from_millis(20));
    for _ in 0..3 {
        server.poll();
    }
    assert_eq!(server.count_of(&Seen::Refused(503)), 2);
    // One that holds little is served as always.
    small.write_all(&masked(Opcode::Text, b"me")).unwrap();
    let message = masked(Opcode::Binary, &vec![0; 1_000_000]);
    large.set_nonblocking(true).unwrap();
    let taken = large.write(&message).unwrap();
    large.set_nonblocking(false).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    for _ in 0..10 {
        server.poll();
    }
    assert_eq!(server.count_of(&Seen::Message(modest, b"me".to_vec())), 1);
    assert_eq!(server.counter("memory_pauses"), 1);
    assert_eq!(server.counter("closed_for_memory"), 0);
    // The queue leaves with the flush, and the large message goes on.
    server.until_seen(&Seen::MemoryAmple);
    assert!(head(&mut early).starts_with("HTTP/1.1 503"));
    assert!(head(&mut late).starts_with("HTTP/1.1 503"));
    server.shard.flush();
    let mut writer = large.try_clone().unwrap();
    let sending = std::thread::spawn(move || writer.write_all(&message[taken..]).unwrap());
    server.until_seen(&Seen::Message(handle, vec![0; 1_000_000]));
    sending.join().unwrap();
    server.open();
    assert_eq!((server.counter("closed"), server.counter("memory_shortages")), (0, 1));
}

#[test]
fn beyond_the_limit_those_who_hold_most_are_closed_with_1013_and_nobody_else() {
    let limit = 3_000_000;
    let mut server = with_memory(limit);
    let (mut modest, handle) = server.open();
    let mut hogs: Vec<_> = (0..30).map(|_| server.open()).collect();
    let message = masked(Opcode::Binary, &vec![7; 50_000]);
    modest.write_all(&message[..20_000]).unwrap();
    server.settle();
    let mut most = 0;
    for (client, _) in &mut hogs {
        client.set_nonblocking(true).unwrap();
        let _ = client.write(&unfinished(700_000)).unwrap();
        for _ in 0..10 {
            server.poll();
            server.shard.flush();
            most = most.max(server.shard.memory_held());
        }
        // Nobody waits for the second that a shortage may last.
        server.now += 1000;
    }
    assert!(most <= limit, "{most}");
    let closed = server.counter("closed_for_memory");
    assert!((10..30).contains(&closed), "{closed}");
    assert_eq!(server.counter("closed"), closed);
    modest.write_all(&message[20_000..]).unwrap();
    server.until_seen(&Seen::Message(handle, vec![7; 50_000]));
    let codes = server.seen.iter().filter_map(|seen| match seen {
        Seen::Closed(_, code, side) => Some((*code, *side)),
        _ => None,
    });
    assert!(codes.clone().count() > 0);
    assert!(codes.clone().all(|end| end == (1013, Side::Server)));
}

#[test]
fn one_whose_partial_message_has_to_go_is_told_1013() {
    let mut server = with_memory(100_000);
    let (mut client, handle) = server.open();
    client.write_all(&unfinished(150_000)).unwrap();
    server.until_seen(&Seen::Closed(handle, 1013, Side::Server));
    assert!(server.shard.memory_held() < 10_000);
    server.shard.flush();
    let mut close = [0; 4];
    client.read_exact(&mut close).unwrap();
    assert_eq!((close[0], &close[2..]), (0x88, &1013_u16.to_be_bytes()[..]));
}

#[test]
fn a_shortage_that_lasts_is_ended_at_the_cost_of_those_who_hold_most() {
    let mut server = with_memory(4_000_000);
    let (mut modest, _) = server.open();
    let hogs: Vec<_> = (0..5).map(|_| server.open()).collect();
    // Over three quarters in queues of clients that do not read.
    let hog_handles: Vec<Handle> = hogs.iter().map(|(_, handle)| *handle).collect();
    let mut filled = 0;
    while server.count_of(&Seen::MemoryShort) == 0 {
        for handle in &hog_handles {
            server.shard.send(*handle, Opcode::Text, Outgoing::Copy(&vec![b'x'; 20_000]));
            server.shard.flush();
        }
        server.poll();
        filled += 1;
        assert!(filled < 10_000);
    }
    assert_eq!(server.counter("closed"), 0);
    let began = server.now;
    assert_eq!(server.shard.next_deadline(), Some(began + 1000));
    server.now = began + 999;
    server.poll();
    assert_eq!(server.counter("closed_for_memory"), 0);
    server.now = began + 1000;
    server.poll();
    server.poll();
    assert_eq!(server.count_of(&Seen::MemoryAmple), 1);
    let closed = server.counter("closed_for_memory");
    assert!((1..5).contains(&closed), "no more than needed: {closed}");
    modest.write_all(&masked(Opcode::Text, b"me")).unwrap();
    server.until("a message", |server| {
        server.seen.iter().any(|seen| matches!(seen, Seen::Message(..)))
    });
}

#[test]
fn where_messages_are_dropped_memory_that_is_short_lowers_the_bound() {
    let settings =
        Settings { max_memory: 4_000_000, slow_reader: SlowReader::Drop, ..Settings::default() };
    let mut server = Server::new(settings);
    let hogs: Vec<_> = (0..20).map(|_| server.open()).collect();
    for _ in 0..4000 {
        for (_, handle) in &hogs {
            server.shard.send(*handle, Opcode::Text, Outgoing::Copy(&[b'x'; 5000]));
        }
        server.shard.flush();
        server.poll();
        assert!(server.shard.memory_held() <= 4_000_000);
    }
    assert!(server.counter("messages_dropped") > 1000);
    assert_eq!(server.counter("closed"), 0, "for as long as the shortage is no second old");
}

#[test]
fn a_batch_that_causes_much_is_written_as_it_comes_and_not_only_by_its_flush() {
    let mut server = Server::new(Settings { max_send_buffer: 1 << 30, ..Settings::default() });
    let (_client, handle) = server.open();
    let before = server.counter("bytes_sent");
    let payload = vec![0; 1 << 20];
    for _ in 0..15 {
        server.shard.send(handle, Opcode::Binary, Outgoing::Copy(&payload));
    }
    assert_eq!(server.counter("bytes_sent"), before, "one write for each connection");
    for _ in 0..2 {
        server.shard.send(handle, Opcode::Binary, Outgoing::Copy(&payload));
    }
    assert!(server.counter("bytes_sent") > before);
}

#[test]
fn a_batch_for_very_many_is_one_write_for_each_as_long_as_that_is_little() {
    let mut server = Server::new(Settings::default());
    let hearers: Vec<_> = (0..4200).map(|_| server.open()).collect(); // 16 MiB are for 4096
    for (_, handle) in &hearers {
        server.shard.subscribe(*handle, "news");
    }
    let before = server.counter("bytes_sent");
    let payload = vec![b'x'; 1016];
    for _ in 0..4 {
        server.shard.publish("news", Opcode::Text, &payload);
    }
    assert_eq!(server.counter("bytes_sent"), before, "one write for each connection");
    server.shard.publish("news", Opcode::Text, &payload);
    assert!(server.counter("bytes_sent") > before);
}

#[test]
fn each_of_many_gets_all_that_is_its_own_in_order_with_io_uring_and_without() {
    for io_uring in [true, false] {
        let settings = Settings { io_uring, ..Settings::default() };
        let Channel { mut server, mut hearers, .. } = Channel::with(150, settings);
        let before = server.counter("bytes_sent");
        let mut expected = vec![Vec::new(); hearers.len()];
        // Some of it is too much to be sent together.
        for (n, len) in [4, 100, 3000, 5000, 4, 70_000, 4].into_iter().cycle().take(70).enumerate()
        {
            let news = vec![b'a' + u8::try_from(n % 26).unwrap(); len];
            server.shard.publish("news", Opcode::Text, &news);
            for ((_, handle), expected) in hearers.iter().zip(&mut expected) {
                expected.push(news.clone());
                if n % 2 == 0 {
                    let own = format!("{n} for {handle:?}");
                    server.shard.send(*handle, Opcode::Text, Outgoing::Copy(own.as_bytes()));
                    expected.push(own.into_bytes());
                }
            }
            if n % 3 == 0 {
                server.shard.flush();
            }
            if n % 7 == 6 {
                for ((client, _), expected) in hearers.iter_mut().zip(&mut expected) {
                    let count =
                        expected.iter().map(|m| encoder::frame(Opcode::Text, m).len()).sum();
                    let read = server.serve_until_read(client, count);
                    let bodies: Vec<_> = frames_in(&read).into_iter().map(|(_, b)| b).collect();
                    assert!(bodies == std::mem::take(expected));
                }
            }
        }
        assert!(server.counter("bytes_sent") > before);
        let together = server.counter("writes_together");
        assert_eq!(together > 0, io_uring && has_io_uring(), "{together}");
    }
}

#[test]
fn a_newcomer_in_the_slot_of_one_who_was_still_to_be_flushed_gets_everything_once() {
    let mut server = Server::new(Settings::default());
    let others: Vec<_> = (0..8).map(|_| server.open()).collect();
    let (first, handle) = server.open();
    assert!(server.shard.send(handle, Opcode::Text, Outgoing::Copy(b"for nobody")));
    // It is gone before that is flushed.
    reset(first);
    while !server.seen.contains(&Seen::Closed(handle, 1006, Side::Lost)) {
        server.poll();
    }
    let mut second = server.connect();
    second.write_all(REQUEST).unwrap();
    let newcomer = loop {
        server.poll();
        let is_request = |seen: &Seen| matches!(seen, Seen::Requested(_));
        if let Some(Seen::Requested(newcomer)) = server.seen.iter().find(|seen| is_request(seen)) {
            break *newcomer;
        }
    };
    assert_eq!(newcomer.slot(), handle.slot());
    assert!(server.shard.accept(newcomer, None, &[], Some(b"welcome")));
    for (_, handle) in &others {
        server.shard.send(*handle, Opcode::Text, Outgoing::Copy(b"x"));
    }
    server.shard.flush();
    assert!(server.shard.close(newcomer, CloseCode::NORMAL, ""));
    server.shard.flush();
    assert!(head(&mut second).starts_with("HTTP/1.1 101"));
    let mut rest = [0; 13];
    second.read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b"\x81\x07welcome\x88\x02\x03\xe8");
}

#[test]
fn fewer_than_eight_are_written_one_by_one() {
    for (count, together) in [(7, 0), (8, 8)] {
        let mut server = Server::new(Settings::default());
        let hearers: Vec<_> = (0..count).map(|_| server.open()).collect();
        for (_, handle) in &hearers {
            server.shard.send(*handle, Opcode::Text, Outgoing::Copy(b"x"));
        }
        server.shard.flush();
        let expected = if has_io_uring() { together } else { 0 };
        assert_eq!(server.counter("writes_together"), expected);
    }
}

#[test]
fn small_messages_go_out_whole_however_many_there_are() {
    let Channel { mut server, mut hearers, .. } = Channel::new(10);
    // More pieces than one call takes.
    for n in 0..150_u8 {
        server.shard.publish("news", Opcode::Text, &[n % 100]);
    }
    server.shard.flush();
    let expected: Vec<u8> = (0..150_u8).flat_map(|n| [0x81, 1, n % 100]).collect();
    for (client, _) in &mut hearers {
        assert!(server.serve_until_read(client, expected.len()) == expected);
    }
}

#[test]
fn what_a_full_socket_does_not_take_together_with_others_comes_later_and_nothing_twice() {
    let mut channel = Channel::bounded(12, 1 << 24);
    let (mut slow, handle) = channel.hearers.remove(0);
    let mut published: Vec<u8> = Vec::new();
    let mut read = vec![Vec::new(); channel.hearers.len()];
    let before = channel.server.counter("writes_together");
    for n in 0..20_000_u32 {
        let message = n.to_le_bytes().repeat(500);
        channel.server.shard.publish("news", Opcode::Binary, &message);
        channel.server.shard.flush();
        published.extend(n.to_le_bytes());
        for ((client, _), read) in channel.hearers.iter_mut().zip(&mut read) {
            let _ = client.read_to_end(read);
        }
        if channel.server.shard.queued_bytes(handle) > 100_000 {
            break;
        }
    }
    assert!(channel.server.shard.queued_bytes(handle) > 100_000, "its socket is full");
    assert_eq!(channel.server.counter("writes_together") > before, has_io_uring());
    let mut rest = Vec::new();
    let count = published.len() / 4 * (4 + 2000);
    channel.server.until("all of it", |server| {
        let _ = slow.read_to_end(&mut rest);
        for ((client, _), read) in channel.hearers.iter_mut().zip(&mut read) {
            let _ = client.read_to_end(read);
        }
        let all_read = || read.iter().chain([&rest]).all(|bytes| bytes.len() >= count);
        server.shard.queued_bytes(handle) == 0 && all_read()
    });
    for bytes in read.iter().chain([&rest]) {
        let frames = frames_in(bytes);
        let numbers: Vec<u8> = frames.iter().flat_map(|(_, body)| body[..4].to_vec()).collect();
        assert!(numbers == published && frames.iter().all(|(_, body)| body.len() == 2000));
    }
}

#[test]
fn one_who_is_gone_does_not_keep_many_from_theirs() {
    let mut channel = Channel::new(12);
    let (gone, handle) = channel.hearers.remove(0);
    reset(gone);
    channel.server.shard.publish("news", Opcode::Text, b"abc");
    channel.server.shard.flush();
    for (client, _) in &mut channel.hearers {
        assert_eq!(channel.server.serve_until_read(client, 5), b"\x81\x03abc");
    }
    channel.server.until_seen(&Seen::Closed(handle, 1006, Side::Lost));
}

#[test]
fn a_shard_that_moves_to_another_thread_sends_everything_once_and_goes_on() {
    let mut channel = Channel::new(12);
    let publish = |channel: &mut Channel, text: &[u8]| {
        channel.server.shard.publish("news", Opcode::Text, text);
        channel.server.shard.flush();
    };
    publish(&mut channel, b"1");
    let together = channel.server.counter("writes_together");
    let mut channel = std::thread::spawn(move || {
        publish(&mut channel, b"2");
        publish(&mut channel, b"3");
        channel
    })
    .join()
    .unwrap();
    assert_eq!(channel.server.counter("writes_together"), together, "that was the first thread's");
    for (client, _) in &mut channel.hearers {
        let read = channel.server.serve_until_read(client, 9);
        assert_eq!(read, b"\x81\x011\x81\x012\x81\x013");
    }
}

#[test]
fn sending_together_can_be_turned_off_while_it_runs() {
    let mut channel = Channel::new(12);
    for (io_uring, added) in [(false, 0), (true, 12), (false, 0)] {
        channel.server.shard.configure(Settings { io_uring, ..Settings::default() });
        let before = channel.server.counter("writes_together");
        channel.server.shard.publish("news", Opcode::Text, b"x");
        channel.server.shard.flush();
        let expected = if has_io_uring() { added } else { 0 };
        assert_eq!(channel.server.counter("writes_together") - before, expected);
    }
}

/// A publisher, what it sends (each a whole message), and clients that hear all of it.
struct Channel {
    server: Server,
    publisher: TcpStream,
    from: Handle,
    hearers: Vec<(TcpStream, Handle)>,
}

impl Channel {
    fn new(hearers: usize) -> Self {
        Self::bounded(hearers, 400_000)
    }

    fn bounded(hearers: usize, max_send_buffer: usize) -> Self {
        Self::with(hearers, Settings { max_send_buffer, ..Settings::default() })
    }

    fn with(hearers: usize, settings: Settings) -> Self {
        let mut server = Server::new(settings);
        let (publisher, from) = server.open();
        publisher.set_nonblocking(true).unwrap();
        let hearers: Vec<_> = (0..hearers).map(|_| server.open()).collect();
        for (client, handle) in &hearers {
            client.set_nonblocking(true).unwrap();
            server.shard.subscribe(*handle, "news");
        }
        Self { server, publisher, from, hearers }
    }

    /// A batch: what has come is published in its sender's name.
    fn batch(&mut self) -> usize {
        self.server.poll();
        let mut published = 0;
        for seen in std::mem::take(&mut self.server.seen) {
            match seen {
                Seen::Message(from, body) if from == self.from => {
                    let publish = |shard: &mut Shard<_>| shard.publish("news", Opcode::Text, &body);
                    self.server.shard.because_of(from, publish);
                    published += 1;
                }
                other => self.server.seen.push(other),
            }
        }
        self.server.shard.flush();
        published
    }

    /// Let so much wait for a client, whose socket takes nothing more.
    fn fill(&mut self, client: Handle, bytes: usize) {
        while self.server.shard.queued_bytes(client) < bytes {
            let payload = vec![b'y'; 100_000];
            assert!(self.server.shard.send(client, Opcode::Text, Outgoing::Copy(&payload)));
            self.server.shard.flush();
        }
    }

    /// Batches, with a publisher that sends all that it can, until it is not read any more.
    fn publish_until_restrained(&mut self) {
        let message = masked(Opcode::Text, &[b'x'; 16_000]);
        let mut offset = 0;
        for _ in 0..20_000 {
            match self.publisher.write(&message[offset..]) {
                Ok(n) => offset = (offset + n) % message.len(),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            self.batch();
            if self.server.counter("publishers_restrained") > 0 {
                return;
            }
        }
        panic!("never held back");
    }
}

#[test]
fn a_publisher_waits_for_recipients_that_read_and_nobody_is_closed() {
    let mut channel = Channel::new(3);
    let count: usize = 60;
    let frames: Vec<u8> = (0..count)
        .flat_map(|n| masked(Opcode::Text, format!("{n:06}{}", "x".repeat(300_000)).as_bytes()))
        .collect();
    let mut sent = 0;
    let mut received = vec![Vec::new(); 3];
    let expected = count * (300_006 + 10);
    let mut buffer = vec![0; 100_000];
    for _ in 0..100_000 {
        if sent < frames.len()
            && let Ok(n) = channel.publisher.write(&frames[sent..])
        {
            sent += n;
        }
        channel.batch();
        for (n, (client, _)) in channel.hearers.iter_mut().enumerate() {
            // At most so much a batch, in which the publisher may bring more.
            if let Ok(len) = client.read(&mut buffer) {
                received[n].extend_from_slice(&buffer[..len]);
            }
        }
        if received.iter().all(|bytes| bytes.len() == expected) {
            break;
        }
    }
    assert_eq!(channel.server.counter("closed"), 0);
    assert!(channel.server.counter("publishers_restrained") > 0);
    assert_eq!(channel.server.counter("readers_given_up"), 0);
    for bytes in received {
        let frames = frames_in(&bytes);
        assert_eq!(frames.len(), count);
        for (n, (_, body)) in frames.iter().enumerate() {
            assert!(body.starts_with(format!("{n:06}").as_bytes()), "in order");
        }
    }
}

#[test]
fn one_that_stalls_holds_a_publisher_back_for_half_a_second_and_only_once() {
    let mut channel = Channel::new(1);
    channel.publish_until_restrained();
    let began = channel.server.now;
    assert_eq!(channel.server.shard.urgent_deadline(), Some(began + 500));
    for now in [began, began + 499] {
        channel.server.now = now;
        assert_eq!(channel.batch(), 0, "it is not read");
    }
    channel.server.now = began + 500;
    channel.batch();
    assert_eq!(channel.server.counter("readers_given_up"), 1);
    assert_eq!(channel.server.shard.urgent_deadline(), None);
    let message = masked(Opcode::Text, &[b'x'; 16_000]);
    let stalled = channel.hearers[0].1;
    for _ in 0..2000 {
        let _ = channel.publisher.write(&message);
        channel.batch();
        if channel.server.seen.contains(&Seen::Closed(stalled, 1013, Side::Server)) {
            break;
        }
    }
    assert_eq!(channel.server.counter("slow_readers"), 1);
    assert_eq!(channel.server.counter("publishers_restrained"), 1, "not again");
}

#[test]
fn one_that_has_read_nothing_for_long_holds_nobody_back_at_all() {
    let mut channel = Channel::bounded(1, 4_000_000);
    let stalled = channel.hearers[0].1;
    // Somebody who is not held back has filled its socket.
    channel.fill(stalled, 1_900_000);
    channel.server.now += 500;
    let message = masked(Opcode::Text, &[b'x'; 16_000]);
    for _ in 0..20_000 {
        let _ = channel.publisher.write(&message);
        channel.batch();
        if channel.server.counter("readers_given_up") > 0 {
            break;
        }
    }
    assert_eq!(channel.server.counter("readers_given_up"), 1);
    assert_eq!(channel.server.counter("publishers_restrained"), 0);
    assert_eq!(channel.server.shard.urgent_deadline(), None);
}

#[test]
fn one_that_reads_a_little_in_time_is_not_given_up() {
    let mut channel = Channel::new(1);
    channel.publish_until_restrained();
    channel.server.now += 499;
    // Less than it takes for the system to say that there is room.
    let mut left: usize = 1_000_000;
    let mut buffer = vec![0; 1 << 16];
    while left > 0 {
        left -= channel.hearers[0].0.read(&mut buffer).unwrap().min(left);
    }
    std::thread::sleep(Duration::from_millis(20));
    channel.server.now += 1;
    channel.batch();
    assert_eq!(channel.server.counter("readers_given_up"), 0);
}

#[test]
fn nobody_waits_for_itself() {
    let mut channel = Channel::new(0);
    let (from, mut offset) = (channel.from, 0);
    assert!(channel.server.shard.subscribe(from, "news"));
    let message = masked(Opcode::Text, &[b'x'; 16_000]);
    for _ in 0..20_000 {
        if let Ok(n) = channel.publisher.write(&message[offset..]) {
            offset = (offset + n) % message.len();
        }
        channel.batch();
        if channel.server.shard.queued_bytes(from) > 200_000 {
            break;
        }
    }
    assert!(channel.server.shard.queued_bytes(from) > 200_000);
    for _ in 0..100 {
        channel.server.now += 100;
        channel.batch();
    }
    assert_eq!(channel.server.counter("publishers_restrained"), 0);
    assert_eq!(channel.server.counter("readers_given_up"), 0);
    assert_eq!(channel.server.counter("closed"), 0, "it is not read, and may go on any time");
}

#[test]
fn what_many_publishers_had_sent_when_they_were_stopped_closes_nobody_who_reads() {
    let mut channel = Channel::new(1);
    let size = 300_000; // most of the bound, from each
    let message = masked(Opcode::Text, &vec![b'x'; size]);
    let mut publishers: Vec<_> = (0..20).map(|_| channel.server.open()).collect();
    for (client, _) in &mut publishers {
        client.set_nonblocking(true).unwrap();
        // All but its end: it is under way, whoever is held back by then.
        let mut unsent = &message[..message.len() - 1];
        while !unsent.is_empty() {
            if let Ok(n) = client.write(unsent) {
                unsent = &unsent[n..];
            }
            channel.server.poll();
        }
    }
    let names: Vec<Handle> = publishers.iter().map(|(_, handle)| *handle).collect();
    for (client, _) in &mut publishers {
        client.write_all(&message[message.len() - 1..]).unwrap();
    }
    channel.server.until("all messages", |server| server.seen.len() == 20);
    let seen = std::mem::take(&mut channel.server.seen);
    let mut published = 0;
    for seen in seen {
        if let Seen::Message(from, body) = seen {
            assert!(names.contains(&from));
            let publish = |shard: &mut Shard<_>| shard.publish("news", Opcode::Text, &body);
            published += channel.server.shard.because_of(from, publish);
        }
    }
    assert_eq!(published, 20);
    assert_eq!(channel.server.counter("slow_readers"), 0);
    let mut buffer = vec![0; 1 << 16];
    let mut received = 0;
    for _ in 0..100_000 {
        channel.server.shard.flush();
        channel.server.poll();
        match channel.hearers[0].0.read(&mut buffer) {
            Ok(n) => received += n,
            Err(_) => std::thread::sleep(Duration::from_micros(50)),
        }
        if received == 20 * (size + 10) {
            break;
        }
    }
    assert_eq!(received, 20 * (size + 10));
    assert_eq!(channel.server.counter("closed"), 0);
}

#[test]
fn one_that_reads_too_little_for_too_long_is_given_up_too() {
    // So much that its socket's buffer is little beside it.
    let mut channel = Channel::bounded(1, 32_000_000);
    channel.publish_until_restrained();
    let began = channel.server.now;
    let (slow, handle) = (0, channel.hearers[0].1);
    let mut buffer = vec![0; 1 << 20];
    while channel.server.counter("readers_given_up") == 0 {
        // Somebody who is not held back sees to it that its queue never drains.
        let queued = channel.server.shard.queued_bytes(handle);
        let body = vec![b'y'; 24_000_000_usize.saturating_sub(queued)];
        channel.server.shard.send(handle, Opcode::Text, Outgoing::Copy(&body));
        channel.server.now += 100;
        assert!(channel.server.now <= began + 3000);
        let before = channel.server.counter("bytes_sent");
        while channel.server.counter("bytes_sent") == before {
            let _ = channel.hearers[slow].0.read(&mut buffer);
            channel.batch();
        }
    }
    assert_eq!(channel.server.now, began + 3000);
    assert_eq!(channel.server.counter("closed"), 0);
}

#[test]
fn a_publisher_is_free_again_when_the_one_it_waits_for_has_gone() {
    let mut channel = Channel::new(1);
    channel.publish_until_restrained();
    channel.hearers.clear();
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(1));
        channel.batch();
    }
    assert_eq!(channel.server.shard.urgent_deadline(), None);
    let message = masked(Opcode::Text, &[b'x'; 16_000]);
    let before = channel.server.counter("messages_received");
    for _ in 0..20 {
        let _ = channel.publisher.write(&message);
        std::thread::sleep(Duration::from_millis(1));
        channel.batch();
    }
    assert!(channel.server.counter("messages_received") > before);
}

#[test]
fn a_publisher_that_ends_while_it_waits_is_forgotten() {
    let mut channel = Channel::new(1);
    channel.publish_until_restrained();
    let from = channel.from;
    assert!(channel.server.shard.close(from, CloseCode::NORMAL, ""));
    channel.server.shard.flush();
    channel.server.now += 6000; // close_timeout
    channel.server.until_seen(&Seen::Closed(from, 1000, Side::Server));
    let (mut tenant, handle) = channel.server.open();
    tenant.write_all(&masked(Opcode::Text, b"of its slot, perhaps")).unwrap();
    channel.server.until_seen(&Seen::Message(handle, b"of its slot, perhaps".to_vec()));
}

#[test]
fn a_client_that_does_not_read_its_answers_is_not_read_from() {
    let settings = Settings { max_send_buffer: 200_000, ..Settings::default() };
    let mut server = Server::new(settings);
    let (mut client, handle) = server.open();
    client.set_nonblocking(true).unwrap();
    let frame = masked(Opcode::Text, &[b'x'; 4000]);
    let mut stuck = 0;
    // An echo server: in the end the client cannot send any more, and nothing is lost or closed.
    while stuck < 20 {
        match client.write(&frame) {
            Ok(n) if n == frame.len() => stuck = 0,
            Ok(_) | Err(_) => stuck += 1,
        }
        server.seen.clear();
        server.poll();
        for seen in std::mem::take(&mut server.seen) {
            let Seen::Message(from, body) = seen else { panic!("{seen:?}") };
            assert!(server.shard.send(from, Opcode::Text, Outgoing::Copy(&body)));
        }
        server.shard.flush();
        assert!(server.shard.queued_bytes(handle) < 200_000);
        if stuck > 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

#[test]
fn a_peer_gets_its_share_of_a_turn_and_nothing_of_the_rest_is_lost() {
    let mut server = Server::new(Settings::default());
    let (mut flooder, handle) = server.open();
    let frames: Vec<u8> =
        (0..1000_u32).flat_map(|n| masked(Opcode::Text, n.to_string().as_bytes())).collect();
    flooder.write_all(&frames).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    server.poll();
    assert_eq!(server.seen.len(), 64);
    server.shard.pause_reading(handle);
    server.shard.flush();
    for _ in 0..5 {
        server.poll();
    }
    assert_eq!(server.seen.len(), 64, "paused in the middle of what was received");
    server.shard.resume_reading(handle);
    server.until("the rest", |server| server.seen.len() == 1000);
    for (n, seen) in server.seen.iter().enumerate() {
        assert_eq!(*seen, Seen::Message(handle, n.to_string().into_bytes()));
    }
}

#[test]
fn reading_can_be_paused_and_resumed() {
    let mut server = Server::new(Settings::default());
    let (mut client, handle) = server.open();
    server.shard.pause_reading(handle);
    server.shard.flush();
    client.write_all(&masked(Opcode::Text, b"later")).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    server.poll();
    assert_eq!(server.seen, []);
    server.shard.resume_reading(handle);
    server.shard.flush();
    server.until_seen(&Seen::Message(handle, b"later".to_vec()));
}

#[test]
fn a_paused_client_that_resets_is_lost_and_what_it_left_is_not_reported() {
    let mut server = Server::new(Settings::default());
    let (mut client, handle) = server.open();
    server.shard.pause_reading(handle);
    server.shard.flush();
    client.write_all(&masked(Opcode::Text, b"left").repeat(1000)).unwrap();
    reset(client);
    server.until("the end", |server| server.shard.is_empty());
    assert_eq!(server.seen, [Seen::Closed(handle, 1006, Side::Lost)]);
}

#[test]
fn a_broadcast_in_slices_reaches_everyone_once() {
    let mut server = Server::new(Settings::default());
    let mut clients: Vec<_> = (0..7).map(|_| server.open()).collect();
    let (mut first, mut total) = (Some(0), 0);
    while let Some(slot) = first {
        let (count, next) = server.shard.broadcast_from(slot, 3, Opcode::Text, b"hi");
        assert!(count <= 3);
        (first, total) = (next, total + count);
    }
    assert_eq!(total, 7);
    server.shard.flush();
    for (client, _) in &mut clients {
        let mut frame = [0; 4];
        client.read_exact(&mut frame).unwrap();
        assert_eq!(&frame, b"\x81\x02hi");
    }
}

#[test]
fn closing_everyone_closes_clients_and_refuses_handshakes() {
    let mut server = Server::new(Settings::default());
    let (mut client, handle) = server.open();
    let mut asking = server.connect();
    asking.write_all(REQUEST).unwrap();
    server.requested();
    server.shard.stop_listening();
    assert_eq!(server.shard.close_all(CloseCode::GOING_AWAY, "the server stops"), 1);
    server.until_seen(&Seen::Closed(handle, 1001, Side::Server));
    server.shard.flush();
    let mut close = [0; 4];
    client.read_exact(&mut close).unwrap();
    assert_eq!(close, [0x88, 18, 0x03, 0xE9]);
    assert!(head(&mut asking).starts_with("HTTP/1.1 503"));
    drop((client, asking));
    server.until("the end", |server| server.shard.is_empty());
}

/// Clients that have sent more than is taken of them for long, and one that has sent "me too".
fn flooded(flooders: usize) -> (Server, Vec<TcpStream>, Handle) {
    let mut server = Server::new(Settings::default());
    let mut clients: Vec<_> = (0..flooders).map(|_| server.open().0).collect();
    let (mut modest, handle) = server.open();
    for flooder in &mut clients {
        flooder.set_nonblocking(true).unwrap();
        let _ = flooder.write(&masked(Opcode::Text, b"").repeat(20_000)).unwrap();
    }
    modest.write_all(&masked(Opcode::Text, b"me too")).unwrap();
    clients.push(modest);
    std::thread::sleep(Duration::from_millis(20));
    (server, clients, handle)
}

#[test]
fn one_call_does_a_slice_of_work_and_what_is_left_is_not_forgotten() {
    let (mut server, _clients, handle) = flooded(8);
    server.shard.set_pace(Pace { slice: 100, round: 8192 });
    let mut before = 0;
    server.begin_round();
    while server.shard.is_in_round() {
        // A turn, of 50 messages here, is not cut.
        assert!(server.seen.len() - before <= 100, "{}", server.seen.len() - before);
        before = server.seen.len();
        server.go_on();
    }
    assert_eq!(server.count_of(&Seen::Message(handle, b"me too".to_vec())), 1);
    assert_eq!(server.seen.len(), 8 * 50 + 1, "everybody had one turn");
}

#[test]
fn turns_are_shorter_where_many_have_one_and_where_work_is_dear() {
    for (round, share) in [(8192, 64), (3100, 50), (620, 10), (64, 4)] {
        let (mut server, _clients, handle) = flooded(30);
        server.shard.set_pace(Pace { slice: 128, round });
        server.poll();
        assert_eq!(server.seen.len(), 30 * share + 1, "{round} units a round");
        assert_eq!(server.count_of(&Seen::Message(handle, b"me too".to_vec())), 1);
    }
}

#[test]
fn a_peer_with_a_backlog_and_a_ready_socket_has_one_turn_in_a_round() {
    let (mut server, _clients, _) = flooded(2);
    for round in 1..10 {
        server.poll();
        server.shard.flush();
        assert_eq!(server.seen.len(), round * 2 * 64 + 1);
    }
}

#[test]
fn the_rest_of_a_round_is_done_before_anybody_has_another_turn() {
    let (mut server, _clients, handle) = flooded(5);
    server.shard.set_pace(Pace { slice: 2, round: 8192 });
    for _ in 0..6 {
        server.begin_round(); // one turn a call: the smallest slice
        server.shard.flush();
        assert!(server.is_readable() || !server.shard.is_in_round());
    }
    assert_eq!(server.seen.len(), 5 * 4 + 1);
    assert_eq!(server.count_of(&Seen::Message(handle, b"me too".to_vec())), 1);
}

#[test]
fn after_churn_no_table_has_grown() {
    let mut server = Server::new(Settings::default());
    for _ in 0..3 {
        let clients: Vec<_> = (0..20).map(|_| server.open()).collect();
        for (index, (_, handle)) in clients.iter().enumerate() {
            server.shard.subscribe(*handle, &format!("channel {index}"));
        }
        drop(clients);
        server.until("all to go", |server| server.shard.is_empty());
    }
    assert_eq!(server.shard.topics().count(), 0);
    assert_eq!(server.shard.open_count(), 0);
    assert_eq!(server.counter("opened"), server.counter("closed"));
}

#[test]
fn an_undecided_client_that_hangs_up_is_abandoned() {
    if cfg!(rakit_ws_portable_poller) {
        return; // Only epoll tells the end of a socket that is not read.
    }
    let mut server = Server::new(Settings::default());
    let mut client = server.connect();
    client.write_all(REQUEST).unwrap();
    let handle = server.requested();
    server.shard.flush();
    drop(client);
    server.until_seen(&Seen::Abandoned(handle));
    assert!(server.shard.is_empty());
    assert_eq!(server.counter("abandoned"), 1);
}

#[test]
fn closing_everyone_abandons_the_undecided() {
    let mut server = Server::new(Settings::default());
    let mut client = server.connect();
    client.write_all(REQUEST).unwrap();
    let handle = server.requested();
    server.shard.close_all(CloseCode::GOING_AWAY, "the server stops");
    server.until_seen(&Seen::Abandoned(handle));
    assert!(!server.shard.accept(handle, None, &[], None));
}

#[test]
fn silent_connections_over_the_limit_of_an_address_are_not_held() {
    let mut server = Server::new(Settings { max_connections_per_ip: 2, ..Settings::default() });
    let clients: Vec<_> = (0..50).map(|_| server.connect()).collect();
    server.until("all to be accepted", |server| server.counter("accepted") == 50);
    assert_eq!(server.shard.len(), 2 + 8, "the limit, and those that will be told");
    assert_eq!(server.counter("aborted_over_limit"), 40);
    drop(clients);
}

#[test]
fn fragments_count_against_the_work_of_one_slice() {
    let mut server = Server::new(Settings::default());
    let mut clients: Vec<_> = (0..20).map(|_| server.open().0).collect();
    let fragments =
        encoder::any_frame(false, Opcode::Continuation, Some([0; 4]), b"x").repeat(2000);
    let start = encoder::any_frame(false, Opcode::Binary, Some([0; 4]), b"x");
    for client in &mut clients {
        client.write_all(&[start.as_slice(), &fragments].concat()).unwrap();
    }
    std::thread::sleep(Duration::from_millis(50));
    let before = server.counter("frames_received");
    server.begin_round();
    let done = server.counter("frames_received") - before;
    assert!(done <= 2001, "{done}");
    server.until("the rest", |server| server.counter("frames_received") == 20 * 2001);
}

// ---- every state and what can happen in it ----------------------------------------------------

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Requesting,
    Deciding,
    Open,
    /// Our Close is sent, the peer's is due.
    Closing,
    /// Refused, or both Closes are sent.
    Lingering,
}

const STAGES: [Stage; 5] =
    [Stage::Requesting, Stage::Deciding, Stage::Open, Stage::Closing, Stage::Lingering];

/// A server with one connection in this stage, and nothing seen since.
fn at(stage: Stage) -> (Server, TcpStream, Handle) {
    let mut server = Server::new(Settings::default());
    if stage == Stage::Requesting {
        let mut client = server.connect();
        client.write_all(&REQUEST[..30]).unwrap();
        server.until("the connection", |server| server.shard.len() == 1);
        // Nobody was told its handle; the engine gives the first one.
        return (server, client, Handle::new(0, 1));
    }
    if stage == Stage::Deciding {
        let mut client = server.connect();
        client.write_all(REQUEST).unwrap();
        let handle = server.requested();
        server.shard.flush();
        return (server, client, handle);
    }
    let (mut client, handle) = server.open();
    match stage {
        Stage::Closing => {
            server.shard.close(handle, CloseCode::NORMAL, "");
            server.shard.flush();
        }
        Stage::Lingering => {
            client.write_all(&masked(Opcode::Close, &[])).unwrap();
        }
        Stage::Requesting | Stage::Deciding | Stage::Open => {}
    }
    if stage == Stage::Closing || stage == Stage::Lingering {
        server.until("the close", |server| {
            server.seen.iter().any(|seen| matches!(seen, Seen::Closed(..)))
        });
        server.shard.flush();
    }
    server.seen.clear();
    (server, client, handle)
}

#[test]
fn what_the_caller_can_do_in_each_state() {
    for stage in STAGES {
        let able = |call: fn(&mut Server, Handle) -> bool| {
            let (mut server, _client, handle) = at(stage);
            call(&mut server, handle)
        };
        let (deciding, open) = (stage == Stage::Deciding, stage == Stage::Open);
        assert_eq!(able(|s, h| s.shard.accept(h, None, &[], None)), deciding, "accept {stage:?}");
        let refusal = |s: &mut Server, h| s.shard.reject(h, &Refusal::new(403, "no"), &[]);
        assert_eq!(able(refusal), deciding, "reject {stage:?}");
        assert_eq!(able(|s, h| s.shard.close(h, CloseCode::NORMAL, "")), open, "close {stage:?}");
        let send = |s: &mut Server, h| s.shard.send(h, Opcode::Text, Outgoing::Copy(b"x"));
        assert_eq!(able(send), deciding || open, "send {stage:?}");
        assert_eq!(able(|s, h| s.shard.subscribe(h, "a")), deciding || open, "hear {stage:?}");
        let broadcast = |s: &mut Server, _| s.shard.broadcast(Opcode::Text, b"x") == 1;
        assert_eq!(able(broadcast), open, "broadcast {stage:?}");
    }
}

#[test]
fn what_the_peer_can_do_in_each_state() {
    for stage in STAGES {
        // A message is reported from an open connection alone, and ends none.
        let (mut server, mut client, handle) = at(stage);
        client.write_all(&masked(Opcode::Text, b"hi")).unwrap();
        std::thread::sleep(Duration::from_millis(10));
        server.poll();
        let message = Seen::Message(handle, b"hi".to_vec());
        match stage {
            Stage::Open => assert_eq!(server.seen, [message]),
            // Behind half a header line a frame is no HTTP.
            Stage::Requesting => assert_eq!(server.seen, [Seen::Refused(400)]),
            Stage::Deciding | Stage::Closing | Stage::Lingering => assert_eq!(server.seen, []),
        }
        assert_eq!(server.shard.len(), 1, "{stage:?}");

        // The end of TCP ends everything; an open connection reports it.
        let (mut server, client, handle) = at(stage);
        reset(client);
        server.until("the end", |server| server.shard.is_empty());
        match stage {
            Stage::Open => assert_eq!(server.seen, [Seen::Closed(handle, 1006, Side::Lost)]),
            Stage::Deciding => assert_eq!(server.seen, [Seen::Abandoned(handle)]),
            Stage::Requesting | Stage::Closing | Stage::Lingering => assert_eq!(server.seen, []),
        }
    }
}

#[test]
fn time_ends_every_state() {
    for stage in STAGES {
        let (mut server, _client, handle) = at(stage);
        server.now = 60_000;
        server.poll();
        server.poll();
        match stage {
            Stage::Requesting => assert_eq!(server.seen, [Seen::Refused(408)]),
            Stage::Deciding => assert_eq!(server.seen, [Seen::Abandoned(handle)]),
            Stage::Open => assert_eq!(server.seen, [Seen::Closed(handle, 4008, Side::Server)]),
            Stage::Closing | Stage::Lingering => assert_eq!(server.seen, []),
        }
        server.shard.flush();
        server.now += 5_000;
        server.poll();
        assert!(server.shard.is_empty(), "{stage:?}");
    }
}

// --- other settings while it runs ---------------------------------------------------------------

#[test]
fn a_new_ping_timeout_lets_those_who_were_silent_answer_first() {
    let never = Settings { ping_interval: 0, ping_timeout: 0, ..Settings::default() };
    let mut server = Server::new(never.clone());
    let (mut client, handle) = server.open();
    server.now = 3_600_000;
    server.poll();
    let settings = Settings { ping_interval: 1000, ping_timeout: 3000, ..never };
    server.shard.configure(settings);
    let ping_at = server.shard.next_deadline().unwrap();
    assert!((server.now..=server.now + 1000).contains(&ping_at), "{ping_at}");
    server.now = ping_at;
    assert_eq!(server.serve_until_read(&mut client, 2), [0x89, 0]);
    server.now = ping_at + 1999;
    server.poll();
    assert_eq!(server.shard.open_count(), 1);
    server.now = ping_at + 2000;
    server.until_seen(&Seen::Closed(handle, 4008, Side::Server));
}

#[test]
fn a_deadline_that_comes_nearer_is_met() {
    let mut server = Server::new(Settings::default());
    let _silent = server.connect();
    server.until("a connection", |server| server.shard.len() == 1);
    server.shard.configure(Settings { handshake_timeout: 2000, ..Settings::default() });
    server.now = 1999;
    server.poll();
    assert_eq!(server.seen, []);
    server.now = 2000;
    server.until_seen(&Seen::Refused(408));
}

#[test]
fn a_deadline_that_is_put_off_is_not_met_before() {
    let mut server = Server::new(Settings { handshake_timeout: 2000, ..Settings::default() });
    let _silent = server.connect();
    server.until("a connection", |server| server.shard.len() == 1);
    server.shard.configure(Settings { handshake_timeout: 3000, ..Settings::default() });
    server.now = 2999;
    server.poll();
    assert_eq!(server.seen, []);
    server.now = 3000;
    server.until_seen(&Seen::Refused(408));
}

#[test]
fn a_lower_limit_keeps_those_who_are_there_and_refuses_the_next() {
    let mut server = Server::new(Settings::default());
    let clients: Vec<_> = (0..3).map(|_| server.open()).collect();
    server.shard.configure(Settings { max_connections: 2, ..Settings::default() });
    let mut late = server.connect();
    late.write_all(REQUEST).unwrap();
    server.until_seen(&Seen::Refused(503));
    server.shard.flush();
    assert!(read_to_end(&mut late).starts_with(b"HTTP/1.1 503"));
    drop(late);
    server.until("the refused one to leave", |server| server.shard.len() == 3);
    assert_eq!(server.shard.open_count(), clients.len());
}

#[test]
fn those_who_are_there_count_when_a_limit_for_one_address_is_set() {
    let mut server = Server::new(Settings::default());
    let (first, _) = server.open();
    let limited = Settings { max_connections_per_ip: 1, ..Settings::default() };
    server.shard.configure(limited.clone());
    let mut second = server.connect();
    second.write_all(REQUEST).unwrap();
    server.until_seen(&Seen::Refused(503));
    // Off and on again: nobody is counted twice, and nobody who has gone is counted still.
    server.shard.configure(Settings::default());
    drop((first, second));
    server.until("everyone to leave", |server| server.shard.is_empty());
    server.shard.configure(limited);
    server.open();
}

#[test]
fn a_smaller_largest_message_holds_from_the_next_header_on() {
    let mut server = Server::new(Settings::default());
    let (mut client, handle) = server.open();
    client.write_all(&encoder::any_frame(false, Opcode::Text, Some([0; 4]), &[b'a'; 100])).unwrap();
    server.until("the fragment", |server| server.counter("frames_received") == 1);
    let limits = Limits { max_message_bytes: 99, ..Limits::default() };
    server.shard.configure(Settings { limits, ..Settings::default() });
    client.write_all(&masked(Opcode::Continuation, b"")).unwrap();
    server.until_seen(&Seen::Closed(handle, 1009, Side::Server));
}

// --- room for newcomers -------------------------------------------------------------------------

/// A server that is full of connections which have not sent a whole request.
fn full_of_silence(count: usize) -> (Server, Vec<TcpStream>) {
    let mut server = Server::new(Settings { max_connections: count, ..Settings::default() });
    let mut silent = Vec::new();
    for number in 0..count {
        let mut client = server.connect();
        if number % 2 == 1 {
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n").unwrap();
        }
        silent.push(client);
        server.poll();
    }
    server.until("all to be accepted", |server| server.shard.len() == count);
    server.poll();
    server.shard.flush();
    (server, silent)
}

#[test]
fn a_newcomer_is_refused_until_somebody_has_been_silent_for_a_second() {
    let (mut server, _silent) = full_of_silence(3);
    server.now = 999;
    let mut early = server.connect();
    early.write_all(REQUEST).unwrap();
    server.until_seen(&Seen::Refused(503));
    server.shard.flush();
    assert!(read_to_end(&mut early).starts_with(b"HTTP/1.1 503"));
    drop(early);
    server.until("the refused one to leave", |server| server.shard.len() == 3);
    assert_eq!(server.counter("handshakes_evicted"), 0);
    server.now = 1000;
    server.open();
    assert_eq!(server.counter("handshakes_evicted"), 1);
}

#[test]
fn the_one_that_has_been_silent_for_longest_goes_and_is_told_why() {
    let (mut server, mut silent) = full_of_silence(3);
    server.now = 1000;
    server.open();
    let mut first = silent.remove(0);
    let told = String::from_utf8(read_to_end(&mut first)).unwrap();
    assert!(told.starts_with("HTTP/1.1 503") && told.contains("Retry-After: "), "{told}");
    assert_eq!(server.seen, [Seen::Refused(503)]);
    for mut other in silent {
        other.set_nonblocking(true).unwrap();
        assert_eq!(other.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    assert_eq!(server.shard.len(), 3);
}

#[test]
fn those_who_have_sent_their_request_are_never_ended_for_others() {
    let mut server = Server::new(Settings { max_connections: 2, ..Settings::default() });
    let _open = server.open();
    let mut undecided = server.connect();
    undecided.write_all(REQUEST).unwrap();
    let undecided = server.requested();
    server.now = 5000;
    let mut late = server.connect();
    late.write_all(REQUEST).unwrap();
    server.until_seen(&Seen::Refused(503));
    assert_eq!((server.counter("handshakes_evicted"), server.shard.open_count()), (0, 1));
    assert!(server.shard.accept(undecided, None, &[], None));
}

#[test]
fn a_newcomer_to_two_thousand_slow_handshakes_waits_for_a_second_at_most() {
    let (mut server, _silent) = full_of_silence(2000);
    server.now = 1000;
    let newcomers: Vec<_> = (0..50).map(|_| server.open()).collect();
    assert_eq!(server.counter("handshakes_evicted"), 50);
    assert_eq!((server.shard.len(), server.shard.open_count()), (2000, newcomers.len()));
}

#[test]
fn silence_beyond_the_limit_makes_room_too() {
    let (mut server, mut silent) = full_of_silence(10);
    for _ in 0..100 {
        silent.push(server.connect());
    }
    server.until("all to be accepted", |server| server.counter("accepted") == 110);
    assert_eq!(server.shard.len(), 10 + 64, "the limit, and those that will be told");
    server.now = 1000;
    server.open();
    assert_eq!(server.shard.len(), 10);
}
