//! Mode `hold`: connections that are open and say nothing.

use std::rc::Rc;

use rakit_ws_core::protocol::Kind;
use serde_json::{Value, json};

use crate::arguments;
use crate::recorder::Recorder;
use crate::ring::Ring;
use crate::workload::{Progress, Workload};

pub struct Hold {
    connections: usize,
}

impl Hold {
    pub fn new(load: &arguments::Hold) -> Self {
        Self { connections: load.connections }
    }
}

impl Workload for Hold {
    fn connections(&self) -> usize {
        self.connections
    }

    fn describe(&self) -> Value {
        json!({"mode": "hold", "connections": self.connections})
    }

    fn ring(&self, _id: usize) -> Option<Rc<Ring>> {
        None
    }

    fn in_flight(&self, _id: usize) -> usize {
        0
    }

    fn sent(&mut self, _id: usize, _count: usize, _now_ns: u64) {}

    /// A welcome, presence: heard and forgotten.
    fn receive(
        &mut self,
        _id: usize,
        _kind: Kind,
        _payload: &[u8],
        _now_ns: u64,
        _recorder: &mut Recorder,
    ) -> Result<Progress, String> {
        Ok(Progress::Nothing)
    }

    fn outstanding(&self) -> usize {
        0
    }
}
