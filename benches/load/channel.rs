//! Mode `channel`: each connection publishes to channels that it alone hears.

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
    /// Channels of each connection, to which it publishes in turn.
    channels: usize,
    payloads: Vec<Vec<u8>>,
    subscribers: Vec<Subscriber>,
    outstanding: usize,
    deflate: bool,
}

struct Subscriber {
    flight: Flight,
    layout: Option<Layout>,
    /// Subscriptions that are not yet acknowledged.
    awaited: usize,
}

impl Channel {
    pub fn new(load: &arguments::Channel, deflate: bool) -> Self {
        let channels = load.channels.div_ceil(load.connections).max(1);
        let subscriber =
            |_| Subscriber { flight: Flight::new(load.in_flight), layout: None, awaited: channels };
        // Each round of the ring serves every channel equally often.
        let variety = ring::variety(load.in_flight).next_multiple_of(channels);
        Self {
            in_flight: load.in_flight,
            text_bytes: load.text_bytes,
            channels,
            payloads: if deflate {
                publication::compressible(variety, load.text_bytes)
            } else {
                publication::payloads(variety, load.text_bytes)
            },
            subscribers: (0..load.connections).map(subscriber).collect(),
            outstanding: 0,
            deflate,
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
        let layout = if let Some(layout) = subscriber.layout {
            layout
        } else {
            let channel = name(id, landed.number % self.channels);
            *subscriber.layout.insert(Layout::of(payload, &channel, data)?)
        };
        layout.check(landed.number, payload, data)?;
        recorder.record(landed.latency_ns);
        Ok(Progress::Done { sender: id })
    }

    fn acknowledged(&mut self, id: usize) -> Progress {
        let awaited = &mut self.subscribers[id].awaited;
        *awaited = awaited.saturating_sub(1);
        if *awaited == 0 { Progress::Ready } else { Progress::Nothing }
    }
}

/// All names of one connection have one length.
fn name(id: usize, channel: usize) -> String {
    format!("c{id}-{channel:05}")
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
            "channels": self.subscribers.len() * self.channels,
            "in_flight": self.in_flight,
        })
    }

    fn ring(&self, id: usize) -> Option<Rc<Ring>> {
        let names = (0..self.channels).map(|channel| name(id, channel)).cycle();
        let messages: Vec<_> = names
            .zip(&self.payloads)
            .map(|(name, data)| publication::message(&name, data))
            .collect();
        let ring = if self.deflate { Ring::deflated } else { Ring::new };
        Some(Rc::new(ring(Kind::Text, &messages)))
    }

    fn greetings(&self, id: usize) -> Vec<String> {
        (0..self.channels).map(|channel| publication::subscription(&name(id, channel))).collect()
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
            Said::Ack => Ok(self.acknowledged(id)),
            Said::Other => Ok(Progress::Nothing),
        }
    }

    fn outstanding(&self) -> usize {
        self.outstanding
    }
}
