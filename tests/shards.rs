//! Several shards against plain sockets. Their threads have a real clock: tests wait for what is to
//! happen, and never for a time.
#![allow(missing_docs)]
// A test may panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rakit_ws_core::engine::{
    Address, Closed, Event, Handle, Outgoing, Pace, Settings, Shards, Side, SlowReader,
};
use rakit_ws_core::protocol::{CloseCode, GrowingBuffer, Opcode, Payload, Refusal, encoder};

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Requested(Handle),
    Abandoned(Handle),
    Refused(u16),
    Message(Handle, Vec<u8>),
    Closed(Handle, u16, Side),
    Dropping(Handle),
    MemoryShort,
    MemoryAmple,
    Other(String),
}

struct Server {
    shards: Shards,
    seen: Vec<Seen>,
}

impl Server {
    fn new(count: usize, settings: &Settings) -> Self {
        let mut shards = Shards::new(settings, count, Instant::now()).unwrap();
        shards.listen("127.0.0.1", 0, 1024).unwrap();
        Self { shards, seen: Vec::new() }
    }

    fn connect(&self) -> TcpStream {
        let Some(Address::Inet(address)) = self.shards.addresses().first() else { panic!() };
        let client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    /// Handle what has been reported, and flush only where the test does.
    fn take(&mut self) {
        self.shards.begin().unwrap();
        let seen = &mut self.seen;
        self.shards.hand_on(u64::MAX / 2, |event| seen.push(noted(event)));
    }

    fn turn(&mut self) {
        self.take();
        self.shards.flush();
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let begun = Instant::now();
        loop {
            self.take();
            if done(self) {
                return;
            }
            self.shards.flush();
            assert!(begun.elapsed() < PATIENCE, "never came: {what}; seen {:?}", self.seen);
            self.wait(Duration::from_millis(20));
        }
    }

    fn until_seen(&mut self, expected: &Seen) {
        self.until(&format!("{expected:?}"), |server| server.seen.contains(expected));
    }

    /// Until the descriptor says that there is something to take.
    fn wait(&self, most: Duration) -> bool {
        // SAFETY: the shards own the descriptor, and are borrowed for longer than this call.
        let fd = unsafe { BorrowedFd::borrow_raw(self.shards.as_raw_fd()) };
        let mut fds = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
        let most = rustix::event::Timespec::try_from(most).unwrap();
        rustix::event::poll(&mut fds, Some(&most)).unwrap() == 1
    }

    fn requested(&mut self) -> Handle {
        let mut handle = None;
        self.until("a request", |server| {
            handle = server.seen.iter().find_map(|seen| match seen {
                Seen::Requested(handle) => Some(*handle),
                _ => None,
            });
            handle.is_some()
        });
        self.seen.retain(|seen| !matches!(seen, Seen::Requested(_)));
        handle.unwrap()
    }

    fn open(&mut self) -> (TcpStream, Handle) {
        let mut client = self.connect();
        client.write_all(REQUEST).unwrap();
        let handle = self.requested();
        assert!(self.shards.accept(handle, None, Vec::new(), None));
        self.shards.flush();
        assert!(head(&mut client).starts_with("HTTP/1.1 101"));
        (client, handle)
    }

    /// Clients, dealt to the shards one after the other.
    fn open_many(&mut self, count: usize) -> Vec<(TcpStream, Handle)> {
        (0..count).map(|_| self.open()).collect()
    }

    fn send(&mut self, handle: Handle, text: &[u8]) -> bool {
        self.shards.send(Handle::NOBODY, handle, Opcode::Text, Outgoing::Copy(text))
    }

    fn publish(&mut self, sender: Handle, topic: &str, text: &[u8]) -> usize {
        self.shards.publish(sender, topic, Opcode::Text, text)
    }

    fn counter(&mut self, name: &str) -> u64 {
        self.shards.counters().iter().find(|(this, _)| *this == name).unwrap().1
    }
}

fn noted(event: Event<'_, GrowingBuffer>) -> Seen {
    match event {
        Event::Requested { handle, .. } => Seen::Requested(handle),
        Event::Abandoned { handle, .. } => Seen::Abandoned(handle),
        Event::Refused { refusal, .. } => Seen::Refused(refusal.status),
        Event::Message { handle, payload: Payload::Borrowed(bytes), .. } => {
            Seen::Message(handle, bytes.to_vec())
        }
        Event::Message { handle, payload: Payload::Owned(buffer), .. } => {
            Seen::Message(handle, buffer.into_vec())
        }
        Event::Closed { handle, closed: Closed { code, side, .. } } => {
            Seen::Closed(handle, code.get(), side)
        }
        Event::Dropping { handle, .. } => Seen::Dropping(handle),
        Event::MemoryShort { .. } => Seen::MemoryShort,
        Event::MemoryAmple { .. } => Seen::MemoryAmple,
        other => Seen::Other(format!("{other:?}")),
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

/// The payload of the next frame, which is short and unmasked.
fn frame(client: &mut TcpStream) -> Vec<u8> {
    let mut header = [0; 2];
    client.read_exact(&mut header).unwrap();
    assert!(header[1] < 126);
    let mut payload = vec![0; usize::from(header[1])];
    client.read_exact(&mut payload).unwrap();
    payload
}

fn read_to_end(client: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    rest
}

#[test]
fn connections_are_dealt_to_all_shards_and_each_answers_its_own() {
    for count in [1, 2, 3] {
        let mut server = Server::new(count, &Settings::default());
        let mut clients = server.open_many(2 * count);
        let homes: HashSet<usize> = clients.iter().map(|(_, handle)| handle.shard()).collect();
        assert_eq!(homes, (0..count).collect());
        for (client, handle) in &mut clients {
            client.write_all(&masked(Opcode::Text, b"hello")).unwrap();
            server.until_seen(&Seen::Message(*handle, b"hello".to_vec()));
            assert!(server.send(*handle, b"world"));
            server.shards.flush();
            assert_eq!(frame(client), b"world");
        }
        assert_eq!(server.counter("opened"), 2 * count as u64);
        assert_eq!((server.shards.len(), server.shards.open_count()), (2 * count, 2 * count));
    }
}

#[test]
fn large_messages_and_large_answers_pass() {
    let mut server = Server::new(2, &Settings::default());
    for (client, handle) in &mut server.open_many(2) {
        let large: Vec<u8> = (0..300_000_u32).map(|n| b'a' + n.to_le_bytes()[0] % 26).collect();
        client.write_all(&masked(Opcode::Text, &large)).unwrap();
        server.until_seen(&Seen::Message(*handle, large.clone()));
        let lent = Outgoing::Share(large.clone().into());
        assert!(server.shards.send(Handle::NOBODY, *handle, Opcode::Binary, lent));
        server.shards.flush();
        let expected = encoder::frame(Opcode::Binary, &large);
        let mut read = vec![0; expected.len()];
        client.read_exact(&mut read).unwrap();
        assert!(read == expected);
    }
}

#[test]
fn topics_are_known_at_once_and_hold_for_all_shards() {
    let mut server = Server::new(2, &Settings::default());
    let mut clients = server.open_many(4);
    for (_, handle) in &clients {
        assert!(server.shards.subscribe(*handle, "chat"));
        assert!(!server.shards.subscribe(*handle, "chat"), "twice");
        assert!(server.shards.hears(*handle, "chat"));
    }
    let (_, first) = clients[0];
    assert!(server.shards.subscribe(first, "alone"));
    assert_eq!((server.shards.subscriber_count("chat"), server.shards.topic_total()), (4, 2));
    let mut names: Vec<&str> = server.shards.topics_of(first).collect();
    names.sort_unstable();
    assert_eq!(names, ["alone", "chat"]);
    assert_eq!(server.publish(Handle::NOBODY, "chat", b"to all"), 4);
    assert_eq!(server.publish(Handle::NOBODY, "alone", b"to one"), 1);
    assert_eq!(server.publish(Handle::NOBODY, "nobody", b"x"), 0);
    assert!(server.shards.unsubscribe(first, "chat"));
    assert!(!server.shards.unsubscribe(first, "chat"), "twice");
    assert_eq!(server.publish(Handle::NOBODY, "chat", b"to three"), 3);
    assert_eq!(server.shards.broadcast(Handle::NOBODY, Opcode::Text, b"end"), 4);
    server.shards.flush();
    for (place, (client, _)) in clients.iter_mut().enumerate() {
        let second: &[u8] = if place == 0 { b"to one" } else { b"to three" };
        assert_eq!([frame(client), frame(client), frame(client)], [b"to all", second, b"end"]);
    }
    let subscribers: HashSet<Handle> = server.shards.subscribers("chat").collect();
    assert_eq!(subscribers, clients[1..].iter().map(|(_, handle)| *handle).collect());
}

#[test]
fn a_broadcast_in_slices_reaches_everybody_once() {
    let mut server = Server::new(3, &Settings::default());
    let mut clients = server.open_many(7);
    let (mut next, mut counts) = (Some(0), Vec::new());
    while let Some(first) = next {
        let (count, rest) = server.shards.broadcast_from(first, 3, Opcode::Text, b"x");
        counts.push(count);
        next = rest;
    }
    assert_eq!(counts, [3, 3, 1]);
    server.shards.broadcast(Handle::NOBODY, Opcode::Text, b"end");
    server.shards.flush();
    for (client, _) in &mut clients {
        assert_eq!([frame(client), frame(client)], [&b"x"[..], b"end"]);
    }
}

#[test]
fn answers_go_before_the_answer_to_the_peers_close_however_late_they_are() {
    for (ending, code) in
        [(masked(Opcode::Close, &4321_u16.to_be_bytes()), 4321), (vec![0x83, 0x80], 1002)]
    {
        let mut server = Server::new(2, &Settings::default());
        let (mut client, handle) = server.open();
        client.write_all(&[masked(Opcode::Text, b"ask"), ending].concat()).unwrap();
        // Its half of TCP ends, too, which must not take what is to be said.
        client.shutdown(Shutdown::Write).unwrap();
        server.until("its end", |server| {
            server.seen.iter().any(|seen| matches!(seen, Seen::Closed(_, it, _) if *it == code))
        });
        client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let early = client.read(&mut [0; 64]).unwrap_err();
        assert!(matches!(early.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(server.send(handle, b"answer"));
        server.shards.flush();
        assert!(!server.send(handle, b"too late"));
        let bytes = read_to_end(&mut client);
        assert!(bytes.starts_with(b"\x81\x06answer\x88"), "{bytes:x?}");
        assert_eq!(&bytes[10..12], &code.to_be_bytes());
        server.until("the end", |server| server.shards.is_empty());
    }
}

#[test]
fn what_is_said_to_a_client_after_it_was_closed_still_goes_first_until_the_flush() {
    let mut server = Server::new(2, &Settings::default());
    let (mut client, handle) = server.open();
    assert!(server.shards.subscribe(handle, "chat"));
    assert!(server.shards.close(handle, CloseCode::GOING_AWAY, "bye"));
    assert!(!server.shards.close(handle, CloseCode::GOING_AWAY, "bye"), "closing already");
    assert_eq!(server.shards.open_count(), 0);
    assert!(server.send(handle, b"one"));
    assert_eq!(server.publish(Handle::NOBODY, "chat", b"two"), 1);
    server.shards.flush();
    assert!(!server.send(handle, b"too late"));
    assert_eq!(server.publish(Handle::NOBODY, "chat", b"too late"), 0);
    assert_eq!([frame(&mut client), frame(&mut client)], [b"one", b"two"]);
    assert_eq!(frame(&mut client), b"\x03\xe9bye");
    client.write_all(&masked(Opcode::Text, b"ignored")).unwrap();
    client.write_all(&masked(Opcode::Close, &1001_u16.to_be_bytes())).unwrap();
    assert_eq!(read_to_end(&mut client), b"");
    drop(client);
    server.until("the end", |server| server.shards.is_empty());
    assert_eq!(server.seen, [Seen::Closed(handle, 1001, Side::Server)]);
}

#[test]
fn no_message_is_reported_of_a_client_that_was_closed_meanwhile() {
    let mut server = Server::new(2, &Settings::default());
    let (mut client, handle) = server.open();
    client.write_all(&masked(Opcode::Text, b"under way")).unwrap();
    assert!(server.wait(PATIENCE), "it is reported, and not taken");
    assert!(server.shards.close(handle, CloseCode::NORMAL, ""));
    server.shards.flush();
    server.until_seen(&Seen::Closed(handle, 1000, Side::Server));
    assert_eq!(server.seen, [Seen::Closed(handle, 1000, Side::Server)]);
}

#[test]
fn a_client_that_was_gone_when_it_was_accepted_is_reported_as_lost() {
    let mut server = Server::new(2, &Settings::default());
    let mut client = server.connect();
    client.write_all(REQUEST).unwrap();
    let handle = server.requested();
    server.shards.flush();
    drop(client);
    assert!(server.wait(PATIENCE), "its end is reported, and not taken");
    assert!(server.shards.accept(handle, None, Vec::new(), None));
    server.until_seen(&Seen::Closed(handle, 1006, Side::Lost));
    server.turn();
    assert_eq!(server.shards.open_count(), 0);
    assert!(!server.send(handle, b"x"));
}

#[test]
fn an_undecided_client_that_is_gone_is_reported_as_abandoned_unless_it_was_rejected() {
    let mut server = Server::new(2, &Settings::default());
    for is_rejected in [false, true] {
        let mut client = server.connect();
        client.write_all(REQUEST).unwrap();
        let handle = server.requested();
        server.shards.flush();
        drop(client);
        assert!(server.wait(PATIENCE));
        if is_rejected {
            assert!(server.shards.reject(handle, Refusal::new(403, "no"), Vec::new()));
        }
        server.until("the end", |server| server.shards.is_empty());
        assert_eq!(server.seen.contains(&Seen::Abandoned(handle)), !is_rejected);
        assert!(!server.shards.accept(handle, None, Vec::new(), None));
    }
}

#[test]
fn a_rejected_handshake_gets_its_response_and_the_end_of_tcp() {
    let mut server = Server::new(2, &Settings::default());
    let mut client = server.connect();
    client.write_all(REQUEST).unwrap();
    let handle = server.requested();
    assert!(server.shards.reject(handle, Refusal::new(403, "no"), Vec::new()));
    assert!(!server.shards.accept(handle, None, Vec::new(), None), "decided already");
    server.shards.flush();
    assert!(head(&mut client).starts_with("HTTP/1.1 403"));
    assert_eq!(read_to_end(&mut client), b"no\n");
}

#[test]
fn a_stale_handle_is_inert() {
    let mut server = Server::new(2, &Settings::default());
    let (client, stale) = server.open();
    drop(client);
    server.until_seen(&Seen::Closed(stale, 1006, Side::Lost));
    server.shards.flush();
    let clients = server.open_many(2);
    assert!(clients.iter().any(|(_, handle)| handle.slot() == stale.slot()));
    for handle in [stale, Handle::NOBODY, Handle::from_bits(u64::MAX), Handle::from_bits(7)] {
        assert!(!server.send(handle, b"x"));
        assert!(!server.shards.subscribe(handle, "chat"));
        assert!(!server.shards.unsubscribe(handle, "chat"));
        assert!(!server.shards.close(handle, CloseCode::NORMAL, ""));
        assert!(!server.shards.accept(handle, None, Vec::new(), None));
        assert_eq!(server.shards.queued_bytes(handle), 0);
        assert_eq!(server.shards.topic_count(handle), 0);
        server.shards.pause_reading(handle);
        server.shards.resume_reading(handle);
    }
    server.shards.flush();
    assert_eq!(server.shards.open_count(), 2);
}

#[test]
fn what_a_paused_client_had_sent_comes_when_it_is_read_again_in_order_and_its_close_behind() {
    let mut server = Server::new(2, &Settings::default());
    let (mut client, handle) = server.open();
    let texts: Vec<Vec<u8>> = (0..10).map(|n: u8| vec![b'a' + n]).collect();
    let mut bytes: Vec<u8> = texts.iter().flat_map(|text| masked(Opcode::Text, text)).collect();
    bytes.extend(masked(Opcode::Close, &1000_u16.to_be_bytes()));
    client.write_all(&bytes).unwrap();
    assert!(server.wait(PATIENCE), "they are reported, and not taken");
    server.shards.pause_reading(handle);
    for _ in 0..5 {
        server.turn();
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(server.seen, []);
    server.shards.resume_reading(handle);
    assert!(server.shards.has_queued());
    server.shards.flush();
    assert!(server.wait(PATIENCE));
    // One is taken, and the others are not wanted again.
    server.shards.begin().unwrap();
    let seen = &mut server.seen;
    server.shards.hand_on(1, |event| seen.push(noted(event)));
    server.shards.pause_reading(handle);
    server.turn();
    assert_eq!(server.seen, [Seen::Message(handle, b"a".to_vec())]);
    server.shards.resume_reading(handle);
    server.until_seen(&Seen::Closed(handle, 1000, Side::Peer));
    let expected: Vec<Seen> = texts.into_iter().map(|text| Seen::Message(handle, text)).collect();
    assert_eq!(server.seen[..10], expected);
    assert_eq!(server.seen.len(), 11);
    server.shards.flush();
    assert_eq!(read_to_end(&mut client), [0x88, 2, 3, 0xE8]);
}

#[test]
fn limits_of_connections_hold_for_all_shards_together() {
    for (settings, most) in [
        (Settings { max_connections: 3, ..Settings::default() }, 3),
        (Settings { max_connections_per_ip: 3, ..Settings::default() }, 3),
    ] {
        let mut server = Server::new(2, &settings);
        let clients = server.open_many(most);
        let mut late = server.connect();
        late.write_all(REQUEST).unwrap();
        server.until_seen(&Seen::Refused(503));
        assert!(head(&mut late).starts_with("HTTP/1.1 503"));
        drop((clients, late));
        server.until("all gone", |server| server.shards.is_empty());
        server.open_many(most);
    }
}

#[test]
fn room_for_a_newcomer_is_made_by_whoever_has_been_silent_longest_in_any_shard() {
    for silent_place in [0, 1] {
        let mut server = Server::new(2, &Settings { max_connections: 2, ..Settings::default() });
        // The next in turn is the shard of the first, whichever of them is silent.
        let mut clients: Vec<TcpStream> = Vec::new();
        for place in 0..2 {
            if place == silent_place {
                let silent = server.connect();
                server.until("it is there", |server| server.shards.len() == clients.len() + 1);
                clients.push(silent);
            } else {
                clients.push(server.open().0);
            }
        }
        thread::sleep(Duration::from_millis(1100)); // the time that it has to itself
        server.open();
        assert_eq!(server.counter("handshakes_evicted"), 1);
        assert!(read_to_end(&mut clients[silent_place]).starts_with(b"HTTP/1.1 503"));
    }
}

#[test]
fn a_limit_for_each_address_that_comes_later_knows_who_is_there() {
    let mut server = Server::new(2, &Settings::default());
    let clients = server.open_many(2);
    server.shards.configure(Settings { max_connections_per_ip: 2, ..Settings::default() });
    let mut late = server.connect();
    late.write_all(REQUEST).unwrap();
    server.until_seen(&Seen::Refused(503));
    drop(clients);
}

#[test]
fn undecided_handshakes_are_counted_together() {
    let settings = Settings { max_undecided_handshakes: 2, ..Settings::default() };
    let mut server = Server::new(2, &settings);
    let mut undecided = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect();
        client.write_all(REQUEST).unwrap();
        undecided.push((client, server.requested()));
    }
    let mut late = server.connect();
    late.write_all(REQUEST).unwrap();
    server.until_seen(&Seen::Refused(503));
    assert_eq!(server.counter("over_max_undecided"), 1);
    for (_, handle) in &undecided {
        assert!(server.shards.accept(*handle, None, Vec::new(), None));
    }
    server.shards.flush();
    server.open();
}

/// A caller that handles nothing is not given more and more: the sockets fill instead.
#[test]
fn what_waits_for_a_caller_that_is_behind_is_bounded_and_nothing_of_it_is_lost() {
    const MESSAGES: usize = 40_000;
    const TEXT: [u8; 1000] = [b'x'; 1000];
    let mut server = Server::new(2, &Settings::default());
    let (mut client, handle) = server.open();
    server.shards.set_pace(Pace { slice: 64, round: 1024 });
    server.turn();
    let flood = thread::spawn(move || {
        let frame = masked(Opcode::Text, &TEXT);
        for _ in 0..MESSAGES {
            client.write_all(&frame).unwrap();
        }
        client
    });
    // It would be through by far, if it were received.
    thread::sleep(Duration::from_millis(300));
    assert!(!flood.is_finished());
    let taken = server.counter("messages_received");
    assert!(taken < 10_000, "{taken}");
    let mut count = 0;
    server.until("all", |server| {
        count += server.seen.drain(..).filter(|it| matches!(it, Seen::Message(..))).count();
        count == MESSAGES
    });
    assert_eq!(server.shards.queued_bytes(handle), 0);
    flood.join().unwrap();
}

#[test]
fn a_shard_that_waits_for_its_caller_goes_on_sending_and_keeps_its_times() {
    let settings = Settings { ping_interval: 300, ping_timeout: 20_000, ..Settings::default() };
    let mut server = Server::new(1, &settings);
    let mut clients = server.open_many(2);
    let (mut flooder, _) = clients.remove(0);
    let (mut reader, handle) = clients.remove(0);
    // More than the sockets hold: it has to be sent piece by piece.
    let large = vec![b'x'; 16 << 20];
    let lent = Outgoing::Share(large.clone().into());
    assert!(server.shards.send(Handle::NOBODY, handle, Opcode::Binary, lent));
    server.shards.flush();
    let flood = thread::spawn(move || {
        let frame = masked(Opcode::Text, &[b'y'; 1000]);
        flooder.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        while flooder.write_all(&frame).is_ok() {}
        flooder
    });
    let flooder = flood.join().unwrap(); // Its sockets are full: the shard receives no more.
    let mut read = vec![0; encoder::frame(Opcode::Binary, &large).len()];
    reader.read_exact(&mut read).unwrap();
    assert_eq!(frame(&mut reader), b"", "a Ping");
    drop(flooder);
}

/// Every subscriber hears the publications of each sender in their order, whichever shards they
/// are in (docs/protocol.md, order).
#[test]
fn publications_of_one_sender_keep_their_order_everywhere() {
    const SENDERS: usize = 6;
    const EACH: usize = 500;
    let mut server = Server::new(3, &Settings { max_send_buffer: 64 << 20, ..Settings::default() });
    let mut clients = server.open_many(SENDERS);
    for (_, handle) in &clients {
        server.shards.subscribe(*handle, "chat");
    }
    let writers: Vec<_> = clients
        .iter()
        .enumerate()
        .map(|(sender, (client, _))| {
            let mut client = client.try_clone().unwrap();
            thread::spawn(move || {
                for number in 0..EACH {
                    let text = format!("{sender} {number}");
                    client.write_all(&masked(Opcode::Text, text.as_bytes())).unwrap();
                }
            })
        })
        .collect();
    let readers: Vec<_> = clients
        .drain(..)
        .map(|(mut client, _)| {
            thread::spawn(move || {
                let mut next = [0; SENDERS];
                for _ in 0..SENDERS * EACH {
                    let text = String::from_utf8(frame(&mut client)).unwrap();
                    let (sender, number) = text.split_once(' ').unwrap();
                    let sender: usize = sender.parse().unwrap();
                    assert_eq!(number.parse::<usize>().unwrap(), next[sender], "of {sender}");
                    next[sender] += 1;
                }
                client
            })
        })
        .collect();
    let mut published = 0;
    server.until("all", |server| {
        for seen in server.seen.drain(..).collect::<Vec<_>>() {
            if let Seen::Message(handle, text) = seen {
                assert_eq!(server.publish(handle, "chat", &text), SENDERS);
                published += 1;
            }
        }
        published == SENDERS * EACH
    });
    server.shards.flush();
    for writer in writers {
        writer.join().unwrap();
    }
    for reader in readers {
        drop(reader.join().unwrap());
    }
}

#[test]
fn a_sender_waits_for_a_recipient_of_another_shard_that_is_behind_and_goes_on() {
    const MESSAGES: usize = 20_000;
    let settings = Settings { max_send_buffer: 64 << 10, ..Settings::default() };
    let mut server = Server::new(2, &settings);
    let mut clients = server.open_many(2);
    let (mut sender, from) = clients.remove(0);
    let (mut recipient, to) = clients.remove(0);
    assert_ne!(from.shard(), to.shard());
    let flood = thread::spawn(move || {
        let frame = masked(Opcode::Text, &[b'x'; 1000]);
        for _ in 0..MESSAGES {
            sender.write_all(&frame).unwrap();
        }
        sender
    });
    let is_restrained = Arc::new(AtomicBool::new(false));
    let may_hurry = Arc::clone(&is_restrained);
    let reader = thread::spawn(move || {
        let mut bytes = 0;
        let mut buffer = vec![0; 16 << 10];
        while bytes < MESSAGES * 1004 {
            // Slower than what comes, however slow the machine is, and never stalled.
            let rest = if may_hurry.load(Ordering::Relaxed) { 100 } else { 10_000 };
            thread::sleep(Duration::from_micros(rest));
            match recipient.read(&mut buffer).unwrap() {
                0 => break,
                count => bytes += count,
            }
        }
        bytes
    });
    let mut count = 0;
    server.until("all", |server| {
        for seen in server.seen.drain(..).collect::<Vec<_>>() {
            match seen {
                Seen::Message(_, text) => {
                    let copy = Outgoing::Copy(&text);
                    assert!(server.shards.send(from, to, Opcode::Text, copy));
                    count += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        let restrained = server.counter("publishers_restrained");
        is_restrained.store(restrained > 0, Ordering::Relaxed);
        count == MESSAGES
    });
    server.shards.flush();
    assert_eq!(reader.join().unwrap(), MESSAGES * 1004);
    assert!(server.counter("publishers_restrained") > 0);
    flood.join().unwrap();
}

#[test]
fn a_caller_that_says_more_than_can_be_sent_waits_for_it() {
    const MESSAGES: usize = 300_000;
    let settings = Settings {
        max_send_buffer: 64 << 10,
        slow_reader: SlowReader::Drop,
        ..Settings::default()
    };
    let mut server = Server::new(2, &settings);
    let (client, handle) = server.open();
    for _ in 0..MESSAGES {
        assert!(server.send(handle, &[b'x'; 1000]));
    }
    server.until_seen(&Seen::Dropping(handle));
    let (sent, dropped) = (server.counter("messages_sent"), server.counter("messages_dropped"));
    assert_eq!(sent + dropped, MESSAGES as u64);
    assert!(dropped > 0);
    drop(client);
}

#[test]
fn code_that_sends_until_it_is_told_to_stop_is_told() {
    let mut server = Server::new(2, &Settings::default());
    let (client, handle) = server.open();
    let begun = Instant::now();
    while server.send(handle, &[b'x'; 1000]) {
        assert!(begun.elapsed() < PATIENCE);
    }
    assert_eq!(server.shards.open_count(), 0);
    assert!(server.wait(Duration::ZERO), "its end is to be reported");
    server.until_seen(&Seen::Closed(handle, 1013, Side::Server));
    assert_eq!(server.seen, [Seen::Closed(handle, 1013, Side::Server)]);
    drop(client);
}

#[test]
fn a_shortage_of_memory_is_one_for_all_shards_and_ends_for_all() {
    let settings =
        Settings { max_memory: 24 << 20, max_send_buffer: 64 << 20, ..Settings::default() };
    let mut server = Server::new(2, &settings);
    let clients = server.open_many(4);
    for (_, handle) in &clients {
        // Their sockets take some of it.
        let lent = Outgoing::Share(vec![b'x'; 9 << 20].into());
        server.shards.send(Handle::NOBODY, *handle, Opcode::Binary, lent);
    }
    server.until_seen(&Seen::MemoryShort);
    server.until_seen(&Seen::MemoryAmple);
    let news = |server: &Server, it: &Seen| server.seen.iter().filter(|seen| *seen == it).count();
    assert_eq!(news(&server, &Seen::MemoryShort), news(&server, &Seen::MemoryAmple));
    assert_eq!(server.counter("memory_shortages"), news(&server, &Seen::MemoryShort) as u64);
    let closed = server.counter("closed_for_memory");
    // Each shard gives back its part, and as whole clients: rather one more than one less.
    assert!((2..=4).contains(&closed), "{closed}");
    assert!(server.shards.memory_held() <= 24 << 20);
    drop(clients);
}

#[test]
fn nobody_is_accepted_once_listening_has_stopped_and_everybody_is_told_the_end() {
    let mut server = Server::new(2, &Settings::default());
    let mut clients = server.open_many(3);
    let mut undecided = server.connect();
    undecided.write_all(REQUEST).unwrap();
    let handle = server.requested();
    let Some(Address::Inet(address)) = server.shards.addresses().first().cloned() else { panic!() };
    server.shards.stop_listening();
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(server.shards.addresses().len(), 0);
    assert_eq!(server.shards.close_all(CloseCode::GOING_AWAY, "stop"), 3);
    assert!(!server.shards.accept(handle, None, Vec::new(), None));
    server.shards.flush();
    assert!(head(&mut undecided).starts_with("HTTP/1.1 503"));
    for (client, _) in &mut clients {
        assert_eq!(frame(client), b"\x03\xe9stop");
    }
    server.until_seen(&Seen::Abandoned(handle));
    drop((clients, undecided));
    server.until("the end", |server| server.shards.is_empty());
    assert_eq!(server.shards.open_count(), 0);
}

#[test]
fn the_end_of_the_last_connection_is_told_although_nothing_is_reported() {
    let mut server = Server::new(2, &Settings::default());
    let client = server.connect(); // No request: nobody hears of it.
    let begun = Instant::now();
    while server.shards.is_empty() {
        assert!(begun.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(1));
    }
    server.turn();
    drop(client);
    assert!(server.wait(PATIENCE));
    server.until("the end", |server| server.shards.is_empty());
}

#[test]
fn stopping_ends_every_connection_and_later_calls_go_nowhere() {
    let mut server = Server::new(2, &Settings::default());
    let mut clients = server.open_many(2);
    let (_, handle) = clients[0];
    server.shards.abort_all();
    assert_eq!(server.shards.len(), 0, "at once");
    server.shards.stop();
    server.shards.stop();
    assert_eq!(server.counter("opened"), 2, "what was done is still known");
    server.shards.stop_listening();
    server.shards.abort_all();
    assert!(server.send(handle, b"x"), "its end was not reported");
    assert_eq!(server.shards.queued_bytes(handle), 0);
    server.turn();
    for (client, _) in &mut clients {
        assert_eq!(read_to_end(client), b"");
    }
}

#[test]
fn dropping_ends_every_connection_too() {
    let mut server = Server::new(2, &Settings::default());
    let mut clients = server.open_many(2);
    drop(server);
    for (client, _) in &mut clients {
        assert_eq!(read_to_end(client), b"");
    }
}
