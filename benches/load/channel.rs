//! Mode `channel`: each connection publishes to a channel that it alone hears.

use std::rc::Rc;

use rakit_ws_core::protocol::Kind;
use serde_json::{Value, json};

use crate::arguments;
use crate::flight::Flight;
use crate::publication::{self, Layout, Said};
use crate::recorder::Recorder;
use crate::ring::{self, Ring};
use crate::workload::{Progress, Workload};

pub struct Channel {
    in_flight: usize,
    text_bytes: usize,
    payloads: Vec<Vec<u8>>,
    subscribers: Vec<Subscriber>,
    outstanding: usize,
}

struct Subscriber {
    flight: Flight,
    layout: Option<Layout>,
}

impl Channel {
    pub fn new(load: &arguments::Channel) -> Self {
        let subscriber = |_| Subscriber { flight: Flight::new(load.in_flight), layout: None };
        Self {
            in_flight: load.in_flight,
            text_bytes: load.text_bytes,
            payloads: publication::payloads(ring::variety(load.in_flight), load.text_bytes),
            subscribers: (0..load.connections).map(subscriber).collect(),
            outstanding: 0,
        }
    }

    fn publication(
        &mut self,
        id: usize,
        payload: &[u8],
        now_ns: u64,
        recorder: &mut Recorder,
    ) -> Result<Progress, String> {
        let subscriber = &mut self.subscribers[id];
        let Some(landed) = subscriber.flight.land(now_ns) else {
            return Err("a publication that nobody sent".to_owned());
        };
        self.outstanding -= 1;
        let data = &self.payloads[landed.number % self.payloads.len()];
        let layout = match subscriber.layout {
            Some(layout) => layout,
            None => *subscriber.layout.insert(Layout::of(payload, &name(id), data)?),
        };
        layout.check(landed.number, payload, data)?;
        recorder.record(landed.latency_ns);
        Ok(Progress::Done { sender: id })
    }
}

fn name(id: usize) -> String {
    format!("c{id}")
}

impl Workload for Channel {
    fn connections(&self) -> usize {
        self.subscribers.len()
    }

    fn describe(&self) -> Value {
        json!({
            "mode": "channel",
            "text_bytes": self.text_bytes,
            "connections": self.subscribers.len(),
            "in_flight": self.in_flight,
        })
    }

    fn ring(&self, id: usize) -> Option<Rc<Ring>> {
        let messages = publication::messages(&name(id), &self.payloads);
        Some(Rc::new(Ring::new(Kind::Text, &messages)))
    }

    fn greeting(&self, id: usize) -> Option<String> {
        Some(publication::subscription(&name(id)))
    }

    fn in_flight(&self, _id: usize) -> usize {
        self.in_flight
    }

    fn sent(&mut self, id: usize, count: usize, now_ns: u64) {
        self.subscribers[id].flight.launch(count, now_ns);
        self.outstanding += count;
    }

    fn receive(
        &mut self,
        id: usize,
        _kind: Kind,
        payload: &[u8],
        now_ns: u64,
        recorder: &mut Recorder,
    ) -> Result<Progress, String> {
        match Said::by(payload)? {
            Said::Publication => self.publication(id, payload, now_ns, recorder),
            Said::Ack => Ok(Progress::Ready),
            Said::Other => Ok(Progress::Nothing),
        }
    }

    fn outstanding(&self) -> usize {
        self.outstanding
    }
}
