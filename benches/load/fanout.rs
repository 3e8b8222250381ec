//! Mode `fanout`: one publisher, many subscribers of one channel. A delivery is what is counted.

use std::collections::VecDeque;
use std::rc::Rc;

use rakit_ws_core::protocol::Kind;
use serde_json::{Value, json};

use crate::arguments;
use crate::flight::Flight;
use crate::publication::{self, Layout, Said};
use crate::recorder::Recorder;
use crate::ring::{self, Ring};
use crate::workload::{Progress, Workload};

const CHANNEL: &str = "fanout";

/// The subscribers come first, the publisher is the last connection.
pub struct Fanout {
    in_flight: usize,
    text_bytes: usize,
    payloads: Vec<Vec<u8>>,
    flight: Flight,
    /// For each message in flight, the oldest first: how many have not got it yet.
    missing: VecDeque<usize>,
    /// How many publications each subscriber has got.
    received: Vec<u64>,
    layout: Option<Layout>,
    deflate: bool,
}

impl Fanout {
    pub fn new(load: &arguments::Fanout, deflate: bool) -> Self {
        let variety = ring::variety(load.in_flight);
        Self {
            in_flight: load.in_flight,
            text_bytes: load.text_bytes,
            payloads: if deflate {
                publication::compressible(variety, load.text_bytes)
            } else {
                publication::payloads(variety, load.text_bytes)
            },
            flight: Flight::new(load.in_flight),
            missing: VecDeque::with_capacity(load.in_flight),
            received: vec![0; load.subscribers],
            layout: None,
            deflate,
        }
    }

    fn publisher(&self) -> usize {
        self.received.len()
    }

    fn publication(
        &mut self,
        id: usize,
        payload: &[u8],
        now_ns: u64,
        recorder: &mut Recorder,
    ) -> Result<Progress, String> {
        let Some(received) = self.received.get_mut(id) else {
            return Err("a publication for who did not subscribe".to_owned());
        };
        let Some(landed) = self.flight.look(*received, now_ns) else {
            return Err("a publication that nobody sent".to_owned());
        };
        *received += 1;
        let data = &self.payloads[landed.number % self.payloads.len()];
        let layout = match self.layout {
            Some(layout) => layout,
            None => *self.layout.insert(Layout::of(payload, CHANNEL, data)?),
        };
        layout.check(landed.number, payload, data)?;
        recorder.record(landed.latency_ns);
        Ok(self.delivered(landed.number, now_ns))
    }

    fn delivered(&mut self, number: usize, now_ns: u64) -> Progress {
        let missing = &mut self.missing[number - self.flight.landed()];
        *missing -= 1;
        if *missing > 0 {
            return Progress::Nothing;
        }
        // Each subscriber gets them in order, so the one that is complete is the oldest.
        self.flight.land(now_ns);
        self.missing.pop_front();
        Progress::Done { sender: self.publisher() }
    }
}

impl Workload for Fanout {
    fn connections(&self) -> usize {
        self.received.len() + 1
    }

    fn describe(&self) -> Value {
        json!({
            "mode": "fanout",
            "text_bytes": self.text_bytes,
            "subscribers": self.received.len(),
            "in_flight": self.in_flight,
        })
    }

    fn unit(&self) -> &'static str {
        "delivery"
    }

    fn ring(&self, id: usize) -> Option<Rc<Ring>> {
        (id == self.publisher()).then(|| {
            let message = |data: &Vec<u8>| publication::message(CHANNEL, data);
            let messages: Vec<_> = self.payloads.iter().map(message).collect();
            let ring = if self.deflate { Ring::deflated } else { Ring::new };
            Rc::new(ring(Kind::Text, &messages))
        })
    }

    fn greetings(&self, id: usize) -> Vec<String> {
        let subscribes = id != self.publisher();
        subscribes.then(|| publication::subscription(CHANNEL)).into_iter().collect()
    }

    fn in_flight(&self, id: usize) -> usize {
        if id == self.publisher() { self.in_flight } else { 0 }
    }

    fn sent(&mut self, _id: usize, count: usize, now_ns: u64) {
        self.missing.extend(std::iter::repeat_n(self.received.len(), count));
        self.flight.launch(count, now_ns);
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
        self.flight.len()
    }
}
