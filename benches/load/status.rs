//! Where the run stands, on standard error.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use crate::usage::Watched;

/// One line a phase for a program that listens, and a line a second for a person.
pub struct Status {
    phase: &'static str,
    watched: Option<Watched>,
    shown: bool,
    last: Instant,
    last_total: u64,
}

impl Status {
    pub fn new(progress: bool, watched: Option<Watched>) -> Self {
        let shown = progress || std::io::stderr().is_terminal();
        Self { phase: "", watched, shown, last: Instant::now(), last_total: 0 }
    }

    /// A phase begins.
    pub fn enter(&mut self, phase: &'static str) {
        let clear = if self.shown { "\r\x1b[K" } else { "" };
        // Looked at here and not by the listener, who may come late on a busy machine.
        match self.watched.map(Watched::usage) {
            Some(usage) => eprintln!("{clear}{phase} {usage}"),
            None => eprintln!("{clear}{phase}"),
        }
        self.phase = phase;
    }

    /// Show the rate, if a second has passed since it was shown last.
    pub fn tick(&mut self, total: u64, open: usize) {
        if !self.shown || self.last.elapsed() < Duration::from_secs(1) {
            return;
        }
        let now = Instant::now();
        let passed = now.duration_since(self.last);
        let rate = (total - self.last_total) as f64 / passed.as_secs_f64();
        eprint!("\r\x1b[K{}: {open} open, {rate:.0} messages/s", self.phase);
        self.last = now;
        self.last_total = total;
    }

    pub fn phase(&self) -> &'static str {
        self.phase
    }
}
