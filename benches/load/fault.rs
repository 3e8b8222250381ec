//! Why a run is worth nothing.

use std::io;

use rakit_ws_core::protocol::Failure;

/// What ends the run without a report.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error(
        "out of descriptors after {opened} connections: raise the limit (ulimit -n) or open fewer"
    )]
    OutOfDescriptors { opened: usize },
    #[error("the server refused the handshake: {0}")]
    Refused(String),
    #[error("the server closed connection {id}: {reason}")]
    Closed { id: usize, reason: String },
    #[error("the server broke the protocol on connection {id}: {failure}")]
    Protocol { id: usize, failure: Failure },
    #[error("wrong message on connection {id}: {reason}")]
    Wrong { id: usize, reason: String },
    #[error("nothing arrived for {seconds} s while {phase} ({missing} outstanding)")]
    Stalled { phase: &'static str, seconds: u64, missing: usize },
    #[error(transparent)]
    System(#[from] io::Error),
}
