//! Sockets, time, queues and channels around [`protocol`](crate::protocol). Knows no Python.
//!
//! A [`Shard`] is one poller with its connections, its queues and its topics, and needs nothing
//! beside itself: [`Shard::poll`] says what happened, the caller queues its answers, and
//! [`Shard::flush`] sends what is queued, one write for each connection.

mod census;
mod compression;
mod connection;
mod counters;
mod full;
mod handle;
mod listener;
mod memory;
mod metronome;
mod outbox;
mod per_ip;
mod poller;
mod rate;
mod ring;
mod settings;
mod shard;
mod shards;
mod splicer;
mod timers;
mod tls;
mod topics;
mod trust;
mod work;

pub use connection::{Closed, Side};
pub use counters::Counters;
pub use handle::{Handle, MOST_SHARDS};
pub use listener::{Address, ListenError, Listener};
pub use metronome::Metronome;
pub use outbox::{Outgoing, SHARE_FROM_BYTES};
pub use rate::Rate;
pub use ring::has_io_uring;
pub use settings::{Compression, Settings, SlowReader};
pub use shard::{Event, Pace, Shard};
pub use shards::{Failure, Shards};
pub use timers::Millis;
pub use tls::{TlsError, TlsFile, TlsProblem, TlsSettings};
pub use trust::{NoProxy, Origin, Proxy, Trust};
