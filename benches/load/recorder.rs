//! What is counted and timed.

use std::time::Duration;

use hdrhistogram::{CreationError, Histogram};

use crate::fault::Fault;

/// Counts messages all the time, and times them while it records.
pub struct Recorder {
    latencies_ns: Histogram<u64>,
    /// How long after their time messages of an open loop were sent.
    lateness_ns: Histogram<u64>,
    recording: bool,
    total: u64,
}

/// The measured part of a run.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    pub count: u64,
    pub lasted: Duration,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
    pub late_p99_us: f64,
}

impl Recorder {
    pub fn new() -> Result<Self, Fault> {
        // Three digits, from a nanosecond to a minute.
        let histogram = || {
            Histogram::new_with_max(60_000_000_000, 3)
                .map_err(|error: CreationError| Fault::System(std::io::Error::other(error)))
        };
        let (latencies_ns, lateness_ns) = (histogram()?, histogram()?);
        Ok(Self { latencies_ns, lateness_ns, recording: false, total: 0 })
    }

    /// A message has arrived.
    pub fn record(&mut self, latency_ns: u64) {
        self.total += 1;
        if self.recording {
            self.latencies_ns.saturating_record(latency_ns);
        }
    }

    /// A message that was due so long ago is sent.
    pub fn record_lateness(&mut self, lateness_ns: u64) {
        if self.recording {
            self.lateness_ns.saturating_record(lateness_ns);
        }
    }

    /// The measured part begins.
    pub fn start(&mut self) {
        self.recording = true;
    }

    /// The measured part has ended.
    pub fn stop(&mut self, lasted: Duration) -> Measured {
        self.recording = false;
        let quantile_us = |quantile| self.latencies_ns.value_at_quantile(quantile) as f64 / 1e3;
        Measured {
            count: self.latencies_ns.len(),
            lasted,
            p50_us: quantile_us(0.5),
            p99_us: quantile_us(0.99),
            p999_us: quantile_us(0.999),
            max_us: self.latencies_ns.max() as f64 / 1e3,
            late_p99_us: self.lateness_ns.value_at_quantile(0.99) as f64 / 1e3,
        }
    }

    /// All messages so far, recorded or not.
    pub fn total(&self) -> u64 {
        self.total
    }
}
