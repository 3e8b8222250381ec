//! The command line.

use std::net::{IpAddr, Ipv4Addr};

use clap::{Args, Parser, Subcommand, ValueEnum};
use rakit_ws_core::protocol::Kind;

/// Load for a WebSocket server, and its figures.
#[derive(Debug, Parser)]
#[command(name = "load")]
pub struct Arguments {
    #[command(subcommand)]
    pub mode: Mode,
    #[command(flatten)]
    pub plan: Plan,
}

/// What to do to the server.
#[derive(Debug, Subcommand)]
pub enum Mode {
    /// Messages that come back as they are.
    Echo(Echo),
    /// JSON messages, each connection to a channel of its own.
    Channel(Channel),
    /// JSON messages of one publisher to one channel with many subscribers.
    Fanout(Fanout),
    /// Connections that only stay open.
    Hold(Hold),
    /// Connections that hear a channel and leave, over and over.
    Churn(Churn),
}

#[derive(Debug, Args)]
pub struct Echo {
    #[arg(long, default_value_t = 50, value_parser = at_least_one)]
    pub connections: usize,
    /// Messages that each connection keeps under way.
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    pub in_flight: usize,
    #[arg(long, default_value_t = 64)]
    pub payload_bytes: usize,
    #[arg(long, value_enum, default_value_t = PayloadKind::Binary)]
    pub kind: PayloadKind,
}

#[derive(Debug, Args)]
pub struct Channel {
    #[arg(long, default_value_t = 50, value_parser = at_least_one)]
    pub connections: usize,
    /// Messages that each connection keeps under way.
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    pub in_flight: usize,
    /// Bytes of the text inside `data`.
    #[arg(long, default_value_t = 32)]
    pub text_bytes: usize,
    /// Channels in all, spread evenly; at least one for each connection.
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    pub channels: usize,
}

#[derive(Debug, Args)]
pub struct Fanout {
    #[arg(long, default_value_t = 1000, value_parser = at_least_one)]
    pub subscribers: usize,
    /// Messages under way; one is done when every subscriber has it.
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    pub in_flight: usize,
    /// Bytes of the text inside `data`.
    #[arg(long, default_value_t = 32)]
    pub text_bytes: usize,
}

#[derive(Debug, Args)]
pub struct Hold {
    #[arg(long, default_value_t = 10_000, value_parser = at_least_one)]
    pub connections: usize,
}

#[derive(Debug, Args)]
pub struct Churn {
    /// How many are there at a time.
    #[arg(long, default_value_t = 16, value_parser = at_least_one)]
    pub connections: usize,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum PayloadKind {
    Text,
    Binary,
}

impl From<PayloadKind> for Kind {
    fn from(kind: PayloadKind) -> Self {
        match kind {
            PayloadKind::Text => Self::Text,
            PayloadKind::Binary => Self::Binary,
        }
    }
}

/// Whom to load, for how long, and how to say it.
#[derive(Debug, Args)]
pub struct Plan {
    #[arg(long, global = true, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub host: IpAddr,
    #[arg(long, global = true, default_value_t = 6001)]
    pub port: u16,
    #[arg(long, global = true, default_value = "/")]
    pub path: String,
    /// Seconds of load before the measured ones; when holding, seconds to settle.
    #[arg(long, global = true, default_value_t = 1.0, value_parser = duration_s)]
    pub warmup: f64,
    /// Measured seconds.
    #[arg(long, global = true, default_value_t = 5.0, value_parser = duration_s)]
    pub seconds: f64,
    /// Messages a second, sent when they are due whatever has come back (an open loop); without it
    /// the next is sent when one has come back.
    #[arg(long, global = true, value_parser = rate)]
    pub rate: Option<f64>,
    /// Further connections that only stay open.
    #[arg(long, global = true, default_value_t = 0)]
    pub idle: usize,
    /// Channels that those hear, in all.
    #[arg(long, global = true, default_value_t = 0)]
    pub idle_channels: usize,
    /// Compress both ways, without context takeover; what is published (modes `channel` and `fanout`)
    /// is then the same text over and over.
    #[arg(long, global = true)]
    pub deflate: bool,
    /// Seconds of silence at the end, before the phase `rested`.
    #[arg(long, global = true, default_value_t = 0.0, value_parser = duration_s)]
    pub rest: f64,
    /// Handshakes under way at the same time.
    #[arg(long, global = true, default_value_t = 64, value_parser = at_least_one)]
    pub handshakes: usize,
    /// Source addresses 127.0.0.x to begin with this x: several generators share the ports.
    #[arg(long, global = true, default_value_t = 1)]
    pub source: u8,
    /// Say with each phase what this process has used.
    #[arg(long, global = true, value_name = "PID")]
    pub watch: Option<u32>,
    /// Report as one JSON object.
    #[arg(long, global = true)]
    pub json: bool,
    /// Show the rate each second, even where standard error is not a terminal.
    #[arg(long, global = true)]
    pub progress: bool,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a whole number from 1".to_owned()),
        Ok(count) => Ok(count),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(per_s) if (1e-3..=1e9).contains(&per_s) => Ok(per_s),
        Ok(_) | Err(_) => Err("messages a second from 0.001 to 1e9".to_owned()),
    }
}

fn duration_s(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        Ok(_) | Err(_) => Err("seconds from 0 to 3600".to_owned()),
    }
}
