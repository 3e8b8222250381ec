//! The outcome of a run.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::recorder::Measured;

/// The figures, and what they are figures of.
pub struct Report {
    pub load: Value,
    /// What is counted: `message`, `delivery`.
    pub unit: &'static str,
    pub connections: usize,
    pub opening: Duration,
    pub measured: Measured,
}

impl Report {
    pub fn json(&self) -> Value {
        let measured = &self.measured;
        json!({
            "load": self.load,
            "connections": self.connections,
            "opening_s": self.opening.as_secs_f64(),
            "handshakes_per_s": self.handshakes_per_s(),
            "unit": self.unit,
            "seconds": measured.lasted.as_secs_f64(),
            "count": measured.count,
            "per_s": self.per_s(),
            "latency_us": {
                "p50": measured.p50_us,
                "p99": measured.p99_us,
                "p99.9": measured.p999_us,
                "max": measured.max_us,
            },
            "late_p99_us": measured.late_p99_us,
        })
    }

    fn per_s(&self) -> f64 {
        self.measured.count as f64 / self.measured.lasted.as_secs_f64().max(1e-9)
    }

    fn handshakes_per_s(&self) -> f64 {
        self.connections as f64 / self.opening.as_secs_f64().max(1e-9)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Measured { count, lasted, p50_us, p99_us, p999_us, max_us, .. } = self.measured;
        writeln!(out, "{}", self.load)?;
        writeln!(out, "{:.0} handshakes/s", self.handshakes_per_s())?;
        if count == 0 {
            return write!(out, "{} connections held", self.connections);
        }
        writeln!(out, "{:.0} per second: {count} × {} in {lasted:.3?}", self.per_s(), self.unit)?;
        write!(
            out,
            "latency µs: p50 {p50_us:.0}, p99 {p99_us:.0}, p99.9 {p999_us:.0}, max {max_us:.0}"
        )
    }
}
