//! Connections that are open beside those of a workload, and say nothing.

use std::rc::Rc;

use rakit_ws_core::protocol::Kind;
use serde_json::{Value, json};

use crate::publication::{self, Said};
use crate::recorder::Recorder;
use crate::ring::Ring;
use crate::workload::{Progress, Workload};

/// A workload, its connections first, and behind them so many idle ones.
pub struct Beside<W> {
    busy: W,
    idle: usize,
    /// How many channels the idle ones hear in all.
    channels: usize,
    /// Of each idle one: subscriptions that are not yet acknowledged.
    awaited: Vec<usize>,
}

impl<W: Workload> Beside<W> {
    pub fn new(busy: W, idle: usize, channels: usize) -> Self {
        let mut beside = Self { busy, idle, channels, awaited: Vec::new() };
        beside.awaited = (0..idle).map(|number| beside.channels_of(number).count()).collect();
        beside
    }

    /// The number of an idle connection among the idle ones.
    fn idle_number(&self, id: usize) -> Option<usize> {
        id.checked_sub(self.busy.connections())
    }

    fn channels_of(&self, number: usize) -> impl Iterator<Item = usize> + use<W> {
        (number..self.channels).step_by(self.idle)
    }
}

impl<W: Workload> Workload for Beside<W> {
    fn connections(&self) -> usize {
        self.busy.connections() + self.idle
    }

    fn describe(&self) -> Value {
        let mut described = self.busy.describe();
        described["idle"] = json!(self.idle);
        described["idle_channels"] = json!(self.channels);
        described
    }

    fn unit(&self) -> &'static str {
        self.busy.unit()
    }

    fn ring(&self, id: usize) -> Option<Rc<Ring>> {
        if self.idle_number(id).is_some() { None } else { self.busy.ring(id) }
    }

    fn greetings(&self, id: usize) -> Vec<String> {
        let Some(number) = self.idle_number(id) else { return self.busy.greetings(id) };
        let name = |channel| publication::subscription(&format!("idle-{channel}"));
        self.channels_of(number).map(name).collect()
    }

    fn comes_and_goes(&self, id: usize) -> bool {
        self.idle_number(id).is_none() && self.busy.comes_and_goes(id)
    }

    fn in_flight(&self, id: usize) -> usize {
        if self.idle_number(id).is_some() { 0 } else { self.busy.in_flight(id) }
    }

    fn sent(&mut self, id: usize, count: usize, now_ns: u64) {
        self.busy.sent(id, count, now_ns);
    }

    fn receive(
        &mut self,
        id: usize,
        kind: Kind,
        payload: &[u8],
        now_ns: u64,
        recorder: &mut Recorder,
    ) -> Result<Progress, String> {
        let Some(number) = self.idle_number(id) else {
            return self.busy.receive(id, kind, payload, now_ns, recorder);
        };
        match Said::by(payload)? {
            Said::Ack => {
                self.awaited[number] = self.awaited[number].saturating_sub(1);
                let all = self.awaited[number] == 0;
                Ok(if all { Progress::Ready } else { Progress::Nothing })
            }
            Said::Publication => Err("a publication for who is idle".to_owned()),
            Said::Other => Ok(Progress::Nothing),
        }
    }

    fn outstanding(&self) -> usize {
        self.busy.outstanding()
    }
}
