//! Mode `echo`: what is sent comes back, in order and unchanged.

use std::rc::Rc;

use rakit_ws_core::protocol::Kind;
use serde_json::{Value, json};

use crate::arguments;
use crate::flight::Flight;
use crate::recorder::Recorder;
use crate::ring::{self, Ring};
use crate::workload::{Progress, Workload};

/// One message in so many is compared byte for byte; of the others the length and the kind.
const SAMPLE: usize = 16;

pub struct Echo {
    kind: Kind,
    in_flight: usize,
    payloads: Vec<Vec<u8>>,
    ring: Rc<Ring>,
    flights: Vec<Flight>,
    outstanding: usize,
}

impl Echo {
    pub fn new(load: &arguments::Echo) -> Self {
        let kind = load.kind.into();
        let payloads: Vec<_> = (0..ring::variety(load.in_flight))
            .map(|number| payload(kind, number, load.payload_bytes))
            .collect();
        Self {
            kind,
            in_flight: load.in_flight,
            ring: Rc::new(Ring::new(kind, &payloads)),
            payloads,
            flights: (0..load.connections).map(|_| Flight::new(load.in_flight)).collect(),
            outstanding: 0,
        }
    }
}

fn payload(kind: Kind, number: usize, bytes: usize) -> Vec<u8> {
    let mut payload = ring::numbered_text(number, bytes).into_bytes();
    if kind == Kind::Binary {
        for byte in &mut payload {
            *byte ^= 0xA5;
        }
    }
    payload
}

impl Workload for Echo {
    fn connections(&self) -> usize {
        self.flights.len()
    }

    fn describe(&self) -> Value {
        json!({
            "mode": "echo",
            "kind": format!("{:?}", self.kind).to_lowercase(),
            "payload_bytes": self.payloads[0].len(),
            "connections": self.flights.len(),
            "in_flight": self.in_flight,
        })
    }

    fn ring(&self, _id: usize) -> Option<Rc<Ring>> {
        Some(Rc::clone(&self.ring))
    }

    fn in_flight(&self, _id: usize) -> usize {
        self.in_flight
    }

    fn sent(&mut self, id: usize, count: usize, now_ns: u64) {
        self.flights[id].launch(count, now_ns);
        self.outstanding += count;
    }

    fn receive(
        &mut self,
        id: usize,
        kind: Kind,
        payload: &[u8],
        now_ns: u64,
        recorder: &mut Recorder,
    ) -> Result<Progress, String> {
        let Some(landed) = self.flights[id].land(now_ns) else {
            return Err("an echo of nothing".to_owned());
        };
        self.outstanding -= 1;
        let expected = &self.payloads[landed.number % self.payloads.len()];
        if kind != self.kind || payload.len() != expected.len() {
            return Err(format!("a {kind:?} of {} bytes came back", payload.len()));
        }
        if landed.number.is_multiple_of(SAMPLE) && payload != expected {
            return Err(format!("echo {} has other content", landed.number));
        }
        recorder.record(landed.latency_ns);
        Ok(Progress::Done { sender: id })
    }

    fn outstanding(&self) -> usize {
        self.outstanding
    }
}
