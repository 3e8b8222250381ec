//! A shard that speaks TLS, against rustls as the client, with a clock that only the test moves.
#![allow(missing_docs)]
// A test may panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore};

use rakit_ws_core::engine::{
    Address, Closed, Event, Handle, Millis, Outgoing, Settings, Shard, Side, TlsProblem,
    TlsSettings,
};
use rakit_ws_core::protocol::{CloseCode, GrowingBuffer, Limits, Opcode, Payload, encoder};

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// 2040-01-01: within what rcgen makes certificates for, whatever today is.
const NOW: i64 = 2_208_988_800;

/// A certificate for `localhost` with its key, in files that go with it.
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
    der: rustls::pki_types::CertificateDer<'static>,
}

impl Identity {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let stem = format!("rakit-ws-tls-{}-{number}", std::process::id());
        let certificate = std::env::temp_dir().join(format!("{stem}.crt"));
        let key = std::env::temp_dir().join(format!("{stem}.key"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Self { certificate, key, der: made.cert.der().clone() }
    }

    fn settings(&self) -> TlsSettings {
        TlsSettings::load(&self.certificate, &self.key, NOW).unwrap()
    }

    fn client_config(&self) -> Arc<ClientConfig> {
        Arc::new(self.plain_client_config())
    }

    fn plain_client_config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.certificate);
        let _ = std::fs::remove_file(&self.key);
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Requested(Handle, bool),
    Refused(u16),
    TlsFailed(String),
    Message(Handle, Vec<u8>),
    Closed(Handle, u16, Side, String),
}

struct Server {
    shard: Shard<GrowingBuffer>,
    now: Millis,
    seen: Vec<Seen>,
    identity: Identity,
}

impl Server {
    fn new(settings: Settings) -> Self {
        let identity = Identity::new();
        let mut shard = Shard::new(settings, 0).unwrap();
        shard.listen("127.0.0.1", 0, 1024).unwrap();
        shard.use_tls(Some(identity.settings()));
        Self { shard, now: 0, seen: Vec::new(), identity }
    }

    fn tcp(&self) -> TcpStream {
        let Some(Address::Inet(address)) = self.shard.addresses().next() else { panic!() };
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    fn client(&self) -> Client {
        Client::new(self.tcp(), self.identity.client_config())
    }

    fn poll(&mut self) {
        let seen = &mut self.seen;
        self.shard.poll(self.now, |event| seen.push(noted(event))).unwrap();
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..5000 {
            self.poll();
            if done(self) {
                return;
            }
            self.shard.flush();
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("never came: {what}; seen {:?}", self.seen);
    }

    fn until_seen(&mut self, client: &mut Client, expected: &Seen) {
        self.until(&format!("{expected:?}"), |server| {
            client.pump();
            server.seen.contains(expected)
        });
    }

    fn requested(&mut self, client: &mut Client) -> Handle {
        let mut handle = None;
        self.until("a request", |server| {
            client.pump();
            handle = server.seen.iter().rev().find_map(|seen| match seen {
                Seen::Requested(handle, true) => Some(*handle),
                _ => None,
            });
            handle.is_some()
        });
        self.seen.retain(|seen| !matches!(seen, Seen::Requested(..)));
        handle.unwrap()
    }

    /// Accept a client whose TLS handshake may be to come.
    fn open(&mut self, client: &mut Client) -> Handle {
        client.say(REQUEST);
        let handle = self.requested(client);
        assert!(self.shard.accept(handle, None, &[], None));
        self.until("the response", |_| {
            client.pump();
            client.heard.ends_with(b"\r\n\r\n")
        });
        assert!(client.heard.starts_with(b"HTTP/1.1 101"));
        client.heard.clear();
        handle
    }

    fn opened(&mut self) -> (Client, Handle) {
        let mut client = self.client();
        let handle = self.open(&mut client);
        (client, handle)
    }

    fn counter(&self, name: &str) -> u64 {
        self.shard.counters().iter().find(|(this, _)| *this == name).unwrap().1
    }
}

fn noted(event: Event<'_, GrowingBuffer>) -> Seen {
    match event {
        Event::Requested { handle, is_secure, .. } => Seen::Requested(handle, is_secure),
        Event::Refused { refusal, .. } => Seen::Refused(refusal.status),
        Event::TlsFailed { reason, .. } => Seen::TlsFailed(reason),
        Event::Message { handle, payload: Payload::Borrowed(bytes), .. } => {
            Seen::Message(handle, bytes.to_vec())
        }
        Event::Message { handle, payload: Payload::Owned(buffer), .. } => {
            Seen::Message(handle, buffer.into_vec())
        }
        Event::Closed { handle, closed: Closed { code, side, reason } } => {
            Seen::Closed(handle, code.get(), side, reason)
        }
        other => panic!("unexpected: {other:?}"),
    }
}

/// A client that never blocks: what it says goes out as far as the socket takes it.
struct Client {
    socket: TcpStream,
    tls: ClientConnection,
    to_say: Vec<u8>,
    heard: Vec<u8>,
    /// The most that goes into one segment.
    segment: usize,
    /// Whether it does not read.
    is_deaf: bool,
    is_at_end: bool,
    alert: Option<rustls::Error>,
}

impl Client {
    fn new(socket: TcpStream, config: Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        Self {
            socket,
            tls: ClientConnection::new(config, name).unwrap(),
            to_say: Vec::new(),
            heard: Vec::new(),
            segment: usize::MAX,
            is_deaf: false,
            is_at_end: false,
            alert: None,
        }
    }

    fn say(&mut self, bytes: &[u8]) {
        self.to_say.extend_from_slice(bytes);
    }

    fn pump(&mut self) {
        if !self.to_say.is_empty() && !self.tls.is_handshaking() {
            let count = self.tls.writer().write(&self.to_say).unwrap();
            self.to_say.drain(..count);
        }
        let mut segmented = Segmented { socket: &self.socket, most: self.segment };
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut segmented) {
                Ok(_) if self.segment == usize::MAX => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) => break,
            }
        }
        if self.is_deaf || self.is_at_end || self.alert.is_some() {
            return;
        }
        match self.tls.read_tls(&mut self.socket) {
            Ok(0) => self.is_at_end = true,
            Ok(_) => match self.tls.process_new_packets() {
                Ok(_) => {
                    let mut room = vec![0; 1 << 16];
                    while let Ok(count @ 1..) = self.tls.reader().read(&mut room) {
                        self.heard.extend_from_slice(&room[..count]);
                    }
                }
                Err(error) => self.alert = Some(error),
            },
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.is_at_end = true,
        }
    }
}

struct Segmented<'a> {
    socket: &'a TcpStream,
    most: usize,
}

impl Write for Segmented<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.socket.write(&bytes[..bytes.len().min(self.most)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    encoder::any_frame(true, opcode, Some([1, 2, 3, 4]), payload)
}

#[test]
fn a_message_arrives_and_its_answer_leaves_encrypted() {
    let mut server = Server::new(Settings::default());
    let (mut client, handle) = server.opened();
    client.say(&masked(Opcode::Text, b"hello"));
    server.until_seen(&mut client, &Seen::Message(handle, b"hello".to_vec()));
    assert!(server.shard.send(handle, Opcode::Text, Outgoing::Copy(b"world")));
    server.until("the answer", |_| {
        client.pump();
        client.heard == b"\x81\x05world"
    });
    assert_eq!(server.counter("tls_handshakes"), 1);
    assert_eq!(server.counter("tls_failures"), 0);
}

#[test]
fn it_makes_no_difference_how_tcp_cuts_the_records() {
    let mut server = Server::new(Settings::default());
    let mut client = server.client();
    client.segment = 7;
    let handle = server.open(&mut client);
    client.say(&masked(Opcode::Binary, &[7; 5000]));
    server.until_seen(&mut client, &Seen::Message(handle, vec![7; 5000]));
}

#[test]
fn large_messages_travel_both_ways() {
    let size: u32 = 3_000_000;
    #[allow(clippy::needless_update)] // It has one field today.
    let limits = Limits { max_message_bytes: u64::from(size), ..Limits::default() };
    let settings = Settings { limits, max_send_buffer: 4 << 20, ..Settings::default() };
    let mut server = Server::new(settings);
    let (mut client, handle) = server.opened();
    let payload: Vec<u8> = (0..size).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    client.say(&masked(Opcode::Binary, &payload));
    server.until_seen(&mut client, &Seen::Message(handle, payload.clone()));
    server.shard.send(handle, Opcode::Binary, Outgoing::Share(payload.clone().into()));
    server.until("the message", |_| {
        client.pump();
        client.heard.len() == payload.len() + 10
    });
    assert!(client.heard[10..] == payload[..]);
}

#[test]
fn messages_that_wait_decrypted_are_reported_without_anything_new() {
    let mut server = Server::new(Settings::default());
    let (mut client, handle) = server.opened();
    // One record that holds more than a turn's share of messages, and one more behind them.
    for n in 0..2000_u32 {
        client.say(&masked(Opcode::Binary, &n.to_le_bytes()));
    }
    server.until_seen(&mut client, &Seen::Message(handle, 1999_u32.to_le_bytes().to_vec()));
    let order = server.seen.clone();
    let sent = (0..2000_u32).map(|n| Seen::Message(handle, n.to_le_bytes().to_vec()));
    assert!(order.into_iter().eq(sent));
}

#[test]
fn what_is_decrypted_waits_while_the_client_is_paused_and_comes_when_it_is_not() {
    let mut server = Server::new(Settings::default());
    let (mut client, handle) = server.opened();
    server.shard.pause_reading(handle);
    server.shard.flush();
    client.say(&masked(Opcode::Text, b"later"));
    for _ in 0..20 {
        client.pump();
        server.poll();
        server.shard.flush();
    }
    assert_eq!(server.seen, []);
    server.shard.resume_reading(handle);
    server.until_seen(&mut client, &Seen::Message(handle, b"later".to_vec()));
}

#[test]
fn a_close_ends_with_close_notify_and_the_end_of_tcp() {
    let mut server = Server::new(Settings::default());
    let (mut client, handle) = server.opened();
    assert!(server.shard.close(handle, CloseCode::GOING_AWAY, "bye"));
    client.say(&masked(Opcode::Close, &1001_u16.to_be_bytes()));
    server.until("the end", |_| {
        client.pump();
        client.is_at_end
    });
    assert_eq!(client.heard, b"\x88\x05\x03\xe9bye");
    let mut rest = [0];
    assert_eq!(client.tls.reader().read(&mut rest).unwrap(), 0, "a clean end, not a cut one");
    drop(client);
    server.until("the connection to be gone", |server| server.shard.is_empty());
}

#[test]
fn close_notify_of_the_peer_ends_the_connection_as_the_end_of_tcp_would() {
    let mut server = Server::new(Settings::default());
    let (mut client, handle) = server.opened();
    client.say(&masked(Opcode::Text, b"last"));
    client.pump();
    client.tls.send_close_notify();
    server.until_seen(&mut client, &Seen::Closed(handle, 1006, Side::Lost, String::new()));
    assert_eq!(server.seen[0], Seen::Message(handle, b"last".to_vec()));
    assert!(server.shard.is_empty());
}

#[test]
fn a_record_that_was_tampered_with_ends_the_connection() {
    let mut server = Server::new(Settings::default());
    let (mut client, handle) = server.opened();
    let mut wire = Vec::new();
    client.tls.writer().write_all(&masked(Opcode::Text, b"hello")).unwrap();
    client.tls.write_tls(&mut wire).unwrap();
    *wire.last_mut().unwrap() ^= 1;
    client.socket.write_all(&wire).unwrap();
    let reason = "TLS: cannot decrypt peer's message".to_owned();
    server.until_seen(&mut client, &Seen::Closed(handle, 1006, Side::Lost, reason));
    assert!(server.shard.is_empty());
    assert_eq!(server.counter("tls_failures"), 1);
    assert_eq!(server.counter("lost"), 1);
}

#[test]
fn a_record_that_comes_byte_by_byte_is_silence() {
    let settings = Settings { ping_interval: 1000, ping_timeout: 3000, ..Settings::default() };
    let mut server = Server::new(settings);
    let (mut client, handle) = server.opened();
    let began = server.now;
    client.tls.writer().write_all(&masked(Opcode::Text, &[b'x'; 1000])).unwrap();
    let mut record = Vec::new();
    client.tls.write_tls(&mut record).unwrap();
    let mut drops = record.iter();
    for now in (began..began + 3000).step_by(100).chain([began + 2999]) {
        client.socket.write_all(&[*drops.next().unwrap()]).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2));
        server.now = now;
        server.poll();
        server.shard.flush();
        assert_eq!(server.seen, []);
    }
    server.now = began + 3000;
    server.until("the end", |server| !server.seen.is_empty());
    let reason = "no pong in time".to_owned();
    assert_eq!(server.seen, [Seen::Closed(handle, 4008, Side::Server, reason)]);
}

#[test]
fn what_has_come_of_a_record_counts_as_memory_until_it_is_whole() {
    let mut server = Server::new(Settings::default());
    let (mut client, handle) = server.opened();
    let before = server.shard.memory_held();
    client.tls.writer().write_all(&masked(Opcode::Text, &[b'x'; 16_000])).unwrap();
    let mut record = Vec::new();
    client.tls.write_tls(&mut record).unwrap();
    let (most, rest) = record.split_at(15_000);
    client.socket.write_all(most).unwrap();
    server.until("the beginning", |server| server.shard.memory_held() >= before + 15_000);
    client.socket.write_all(rest).unwrap();
    server.until("the message", |server| !server.seen.is_empty());
    assert_eq!(server.seen, [Seen::Message(handle, vec![b'x'; 16_000])]);
    assert!(server.shard.memory_held() < before + 100, "what encryption adds");
}

#[test]
fn a_slow_reader_has_no_more_queued_than_its_limit_and_a_few_records() {
    let limit = 256 * 1024;
    let mut server = Server::new(Settings { max_send_buffer: limit, ..Settings::default() });
    let (mut client, handle) = server.opened();
    client.is_deaf = true;
    let payload = [b'x'; 16 * 1024];
    for _ in 0..10_000 {
        if !server.shard.send(handle, Opcode::Text, Outgoing::Copy(&payload)) {
            break;
        }
        assert!(server.shard.queued_bytes(handle) <= limit + payload.len() + 16);
        server.shard.flush();
        client.pump();
        server.poll();
    }
    assert_eq!(server.counter("slow_readers"), 1);
    client.is_deaf = false;
    server.until("everything", |_| {
        client.pump();
        client.heard.ends_with(b"\x88\x12\x03\xf5reads too slowly")
    });
}

#[test]
fn http_without_tls_is_told_so_in_plain_text() {
    let mut server = Server::new(Settings::default());
    for request in [REQUEST, b"POST /login HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut client = server.tcp();
        client.write_all(request).unwrap();
        server.until("a refusal", |server| server.seen.contains(&Seen::Refused(400)));
        server.seen.clear();
        server.shard.flush();
        client.set_nonblocking(false).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.ends_with("this port speaks TLS: use wss:// or https://\n"), "{answer}");
    }
    assert_eq!(server.counter("tls_failures"), 2);
    assert_eq!(server.counter("refused"), 2);
}

#[test]
fn http_that_comes_byte_by_byte_is_known_too() {
    let mut server = Server::new(Settings::default());
    let mut client = server.tcp();
    for byte in b"GET /" {
        client.write_all(&[*byte]).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1));
        server.poll();
    }
    server.until("a refusal", |server| server.seen.contains(&Seen::Refused(400)));
}

#[test]
fn anything_else_that_is_no_tls_gets_an_alert() {
    let mut server = Server::new(Settings::default());
    let mut client = server.tcp();
    client.write_all(b"\x00\x01\x02\x03\x04\x05\x06\x07").unwrap();
    server.until("a failure", |server| !server.seen.is_empty());
    assert!(matches!(&server.seen[0], Seen::TlsFailed(_)), "{:?}", server.seen);
    server.shard.flush();
    client.set_nonblocking(false).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.len(), 7);
    assert_eq!(answer[0], 21, "an alert (RFC 8446 §B.1)");
    drop(client);
    server.until("the connection to be gone", |server| server.shard.is_empty());
}

#[test]
fn a_client_that_knows_only_http_2_is_refused_by_alpn() {
    let mut server = Server::new(Settings::default());
    let mut config = server.identity.plain_client_config();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut client = Client::new(server.tcp(), Arc::new(config));
    server.until("an alert", |_| {
        client.pump();
        client.alert.is_some()
    });
    let alert = rustls::AlertDescription::NoApplicationProtocol;
    assert_eq!(client.alert, Some(rustls::Error::AlertReceived(alert)));
    assert_eq!(server.seen, [Seen::TlsFailed("peer doesn't support any known protocol".into())]);
}

#[test]
fn a_browser_that_offers_both_gets_http_1_1() {
    let mut server = Server::new(Settings::default());
    let mut config = server.identity.plain_client_config();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut client = Client::new(server.tcp(), Arc::new(config));
    server.open(&mut client);
    assert_eq!(client.tls.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[test]
fn half_handshakes_are_dropped_at_the_deadline_and_others_are_served_meanwhile() {
    let settings = Settings { handshake_timeout: 10_000, ..Settings::default() };
    let mut server = Server::new(settings);
    let mut half: Vec<Client> = (0..200).map(|_| server.client()).collect();
    for client in &mut half {
        let mut hello = Vec::new();
        client.tls.write_tls(&mut hello).unwrap();
        client.socket.write_all(&hello[..100]).unwrap();
    }
    server.until("everybody", |server| server.shard.len() == 200);
    let (_client, _) = server.opened();
    server.now = 9_999;
    server.poll();
    assert_eq!(server.counter("handshake_timeouts"), 0);
    server.now = 10_000;
    server.until("the end of all", |server| server.shard.len() == 1);
    assert_eq!(server.counter("handshake_timeouts"), 200);
    assert_eq!(server.counter("tls_failures"), 200);
    assert_eq!(server.counter("refused"), 0, "nothing could be said to them");
}

#[test]
fn a_peer_that_goes_in_the_middle_of_the_handshake_is_counted_and_one_that_said_nothing_is_not() {
    let mut server = Server::new(Settings::default());
    drop(server.tcp());
    server.until("it to come", |server| server.counter("accepted") == 1);
    server.until("it to go", |server| server.shard.is_empty());
    assert_eq!(server.counter("tls_failures"), 0);
    let mut client = server.client();
    client.pump();
    server.until("an answer", |server| server.counter("tls_handshakes") == 1);
    drop(client);
    server.until("it to go", |server| server.shard.is_empty());
    assert_eq!(server.counter("tls_failures"), 1);
    assert_eq!(server.seen, [Seen::TlsFailed("gone in the TLS handshake".into())]);
}

#[test]
fn a_stop_ends_handshakes_that_are_under_way() {
    let mut server = Server::new(Settings::default());
    let mut client = server.client();
    client.pump();
    server.until("an answer", |server| server.counter("tls_handshakes") == 1);
    server.shard.close_all(CloseCode::GOING_AWAY, "the server stops");
    assert!(server.shard.is_empty());
}

#[test]
fn a_new_certificate_is_for_new_connections_and_the_old_ones_go_on() {
    let mut server = Server::new(Settings::default());
    let (mut old, handle) = server.opened();
    let next = Identity::new();
    server.shard.use_tls(Some(next.settings()));
    let mut new = Client::new(server.tcp(), next.client_config());
    server.open(&mut new);
    assert_eq!(new.tls.peer_certificates().unwrap()[0], next.der);
    old.say(&masked(Opcode::Text, b"still here"));
    server.until_seen(&mut old, &Seen::Message(handle, b"still here".to_vec()));
}

#[test]
fn a_client_that_comes_back_resumes_by_its_ticket() {
    let mut server = Server::new(Settings::default());
    let config = server.identity.client_config();
    let mut first = Client::new(server.tcp(), config.clone());
    server.open(&mut first);
    assert_eq!(first.tls.handshake_kind(), Some(HandshakeKind::Full));
    let mut second = Client::new(server.tcp(), config);
    server.open(&mut second);
    assert_eq!(second.tls.handshake_kind(), Some(HandshakeKind::Resumed));
}

#[test]
fn new_keys_that_the_peer_asks_for_are_sent_although_no_message_is() {
    let mut server = Server::new(Settings::default());
    let (mut client, handle) = server.opened();
    client.tls.refresh_traffic_keys().unwrap();
    client.say(&masked(Opcode::Text, b"under a new key"));
    server.until_seen(&mut client, &Seen::Message(handle, b"under a new key".to_vec()));
    server.shard.flush();
    server.shard.send(handle, Opcode::Text, Outgoing::Copy(b"so is this"));
    server.until("the answer", |_| {
        client.pump();
        client.heard == b"\x81\x0aso is this"
    });
}

// --- The files ------------------------------------------------------------------------------

#[test]
fn a_certificate_is_taken_within_its_time_and_not_a_second_outside() {
    let made = Identity::new();
    let load = |now| TlsSettings::load(&made.certificate, &made.key, now).map_err(|e| e.problem);
    let last = made.settings().not_after();
    assert!(load(last).is_ok());
    assert!(matches!(load(last + 1), Err(TlsProblem::Expired(_))));
    let first = 157_766_400; // 1975-01-01, rcgen's default
    assert!(load(first).is_ok());
    let Err(TlsProblem::NotYetValid(date)) = load(first - 1) else { panic!() };
    assert_eq!(date, "1975-01-01");
}

#[test]
fn a_key_of_another_certificate_is_an_error_that_names_both() {
    let (one, other) = (Identity::new(), Identity::new());
    let error = TlsSettings::load(&one.certificate, &other.key, NOW).unwrap_err().to_string();
    assert!(error.starts_with("tls.key: "), "{error}");
    assert!(error.contains(&*one.certificate.to_string_lossy()), "{error}");
    assert!(error.contains(&*other.key.to_string_lossy()), "{error}");
}

#[test]
fn files_that_were_mixed_up_are_told_apart() {
    let made = Identity::new();
    let swapped = TlsSettings::load(&made.key, &made.certificate, NOW).unwrap_err();
    assert!(matches!(swapped.problem, TlsProblem::NoCertificate), "{swapped}");
    let twice = TlsSettings::load(&made.certificate, &made.certificate, NOW).unwrap_err();
    assert!(matches!(twice.problem, TlsProblem::NoKey), "{twice}");
}
