//! Mode `churn`: connections that come, hear a channel, and go, over and over.

use std::rc::Rc;

use rakit_ws_core::protocol::Kind;
use serde_json::{Value, json};

use crate::arguments;
use crate::publication::{self, Said};
use crate::recorder::Recorder;
use crate::ring::Ring;
use crate::workload::{Progress, Workload};

pub struct Churn {
    connections: usize,
}

impl Churn {
    pub fn new(load: &arguments::Churn) -> Self {
        Self { connections: load.connections }
    }
}

impl Workload for Churn {
    fn connections(&self) -> usize {
        self.connections
    }

    fn describe(&self) -> Value {
        json!({"mode": "churn", "connections": self.connections})
    }

    fn unit(&self) -> &'static str {
        "connection"
    }

    fn ring(&self, _id: usize) -> Option<Rc<Ring>> {
        None
    }

    fn greetings(&self, id: usize) -> Vec<String> {
        vec![publication::subscription(&format!("churn-{id}"))]
    }

    fn comes_and_goes(&self, _id: usize) -> bool {
        true
    }

    fn in_flight(&self, _id: usize) -> usize {
        0
    }

    fn sent(&mut self, _id: usize, _count: usize, _now_ns: u64) {}

    /// What the fleet times is the life of a connection: here only its ack counts.
    fn receive(
        &mut self,
        _id: usize,
        _kind: Kind,
        payload: &[u8],
        _now_ns: u64,
        _recorder: &mut Recorder,
    ) -> Result<Progress, String> {
        match Said::by(payload)? {
            Said::Ack => Ok(Progress::Ready),
            Said::Publication | Said::Other => Ok(Progress::Nothing),
        }
    }

    fn outstanding(&self) -> usize {
        0
    }
}
