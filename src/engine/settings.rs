//! What bounds a shard. Every limit is explained, with its cost, in docs/options.md.

use crate::protocol::Limits;
use crate::protocol::deflate::Policy;

use super::rate::Rate;
use super::timers::Millis;
use super::trust::Trust;

/// What becomes of a client that reads more slowly than it is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlowReader {
    /// It is closed with 1013.
    Close,
    /// Messages are not queued for it, and are counted, until its queue is below the bound again.
    /// Control frames are: a Close, a Ping and a Pong always fit.
    Drop,
}

/// What is agreed on with clients that offer permessage-deflate, and how messages are compressed
/// then. What it costs is in docs/compression.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    /// Whether an offer is accepted.
    pub enabled: bool,
    /// What is agreed on.
    pub policy: Policy,
    /// Messages below so many bytes go out as they are.
    pub minimum_size: usize,
    /// From 1, fast, to 9, small.
    pub level: u8,
    /// Size of the compressor's tables, 1 to 9.
    pub memory_level: u8,
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            enabled: false,
            policy: Policy::default(),
            minimum_size: 256,
            level: 1,
            memory_level: 8,
        }
    }
}

/// The settings of a shard. A time of 0 means never, except where it says otherwise.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bounds of the protocol.
    pub limits: Limits,
    /// Bytes of a request, up to its empty line; one more is answered 431. At most
    /// [`LARGEST_HEAD_BYTES`](crate::protocol::handshake::LARGEST_HEAD_BYTES) count.
    pub max_head_bytes: usize,
    /// Pings and Pongs of one client; one more closes it with 1008.
    pub control_rate: Rate,
    /// Messages of one client. One more is refused, which is reported as
    /// [`Event::RateLimited`](super::Event::RateLimited), at most once a second; as many refused
    /// ones as this allows, and one more, close it with 1008.
    pub message_rate: Rate,
    /// Bytes that may wait for one client. A message is queued while fewer wait, so the queue
    /// ends at this plus one message.
    pub max_send_buffer: usize,
    /// What becomes of a client for which so much waits.
    pub slow_reader: SlowReader,
    /// Compression, for clients that offer it.
    pub compression: Compression,
    /// Bytes that may be held because of all peers together. From three quarters of it handshakes
    /// are answered 503 and those who hold much are not read; beyond it, or if that lasts, those
    /// who hold most are closed with 1013. 0: no limit.
    pub max_memory: usize,
    /// Connections of every kind; one more is answered 503.
    pub max_connections: usize,
    /// Proxies that speak for others.
    pub trust: Trust,
    /// Whether each connection begins with a PROXY header, sent by one of those, or by anybody
    /// where there are none.
    pub proxy_protocol: bool,
    /// Connections from one IPv4 address or one IPv6 /64; one more is answered 503, and further
    /// ones are aborted, so that nobody fills the tables with requests that never end. 0: no limit.
    pub max_connections_per_ip: u32,
    /// Handshakes that may wait for the caller's decision; one more is answered 503.
    pub max_undecided_handshakes: usize,
    /// From TCP accept to the end of the opening handshake; then 408, or 503 if undecided.
    pub handshake_timeout: Millis,
    /// Silence after which a Ping goes out.
    pub ping_interval: Millis,
    /// Silence after which the connection is closed with 4008.
    pub ping_timeout: Millis,
    /// From the first Close, or a refusal, to the end of TCP.
    pub close_timeout: Millis,
    /// Whether many connections are written with one system call, where the system can.
    pub io_uring: bool,
    /// Whether a Ping that goes out is reported as [`Event::Idle`](super::Event::Idle).
    pub report_idle: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            max_head_bytes: 16 * 1024,
            control_rate: Rate::per_second(100),
            message_rate: Rate::UNLIMITED,
            max_send_buffer: 1 << 20,
            slow_reader: SlowReader::Close,
            compression: Compression::default(),
            max_memory: 0,
            max_connections: 10_000,
            trust: Trust::default(),
            proxy_protocol: false,
            max_connections_per_ip: 0,
            max_undecided_handshakes: 1024,
            handshake_timeout: 10_000,
            ping_interval: 25_000,
            ping_timeout: 60_000,
            close_timeout: 5_000,
            io_uring: true,
            report_idle: false,
        }
    }
}
