//! What is said on the connections: the part in which the modes differ.

use std::rc::Rc;

use rakit_ws_core::protocol::Kind;
use serde_json::Value;

use crate::recorder::Recorder;
use crate::ring::Ring;

/// A mode. Connections are numbered from 0.
pub trait Workload {
    /// How many connections it wants.
    fn connections(&self) -> usize;

    /// Its parameters, for the report.
    fn describe(&self) -> Value;

    /// What is counted.
    fn unit(&self) -> &'static str {
        "message"
    }

    /// The frames that a connection sends; `None` if it only listens.
    fn ring(&self, id: usize) -> Option<Rc<Ring>>;

    /// What a connection says first; it is ready once that was answered, at once if it is nothing.
    fn greetings(&self, _id: usize) -> Vec<String> {
        Vec::new()
    }

    /// Whether a connection, as soon as it is ready, leaves and comes anew.
    fn comes_and_goes(&self, _id: usize) -> bool {
        false
    }

    /// How many messages a connection keeps in flight.
    fn in_flight(&self, id: usize) -> usize;

    /// `count` frames of a connection's ring are queued.
    fn sent(&mut self, id: usize, count: usize, now_ns: u64);

    /// A message has arrived.
    ///
    /// `Err` says what is wrong with it.
    fn receive(
        &mut self,
        id: usize,
        kind: Kind,
        payload: &[u8],
        now_ns: u64,
        recorder: &mut Recorder,
    ) -> Result<Progress, String>;

    /// Messages sent that have not come back.
    fn outstanding(&self) -> usize;
}

/// What a message that arrived has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing to be done.
    Nothing,
    /// The greeting is answered.
    Ready,
    /// A message of this connection is done; it may send another.
    Done { sender: usize },
}
