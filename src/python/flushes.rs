//! Who sends what is queued, and when.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

/// Whether a flush is on its way.
#[derive(Default, PartialEq, Eq)]
enum State {
    /// Nothing waits.
    #[default]
    Idle,
    /// A batch is being handled; its handler flushes at the end.
    InBatch,
    /// The caller was told that something waits.
    Requested,
}

/// The flushes of an engine: at the end of each batch, and where the caller was asked for one.
#[derive(Default)]
pub struct Flushes {
    state: State,
    on_queued: Option<Py<PyAny>>,
}

impl Flushes {
    /// Whom to ask.
    pub fn notify(&mut self, callback: Option<Py<PyAny>>) {
        self.on_queued = callback;
    }

    /// A batch begins, which ends with a flush.
    pub fn begin_batch(&mut self) {
        self.state = State::InBatch;
    }

    /// Whether nothing was flushed since the batch began.
    pub fn is_in_batch(&self) -> bool {
        self.state == State::InBatch
    }

    /// What was queued is sent.
    pub fn done(&mut self) {
        self.state = State::Idle;
    }

    /// Ask for a flush, once, where something is queued outside a batch.
    pub fn request_if(&mut self, py: Python<'_>, is_queued: impl FnOnce() -> bool) -> PyResult<()> {
        if self.state == State::Idle && is_queued() { self.request(py) } else { Ok(()) }
    }

    /// Ask for a flush.
    pub fn request(&mut self, py: Python<'_>) -> PyResult<()> {
        if let Some(on_queued) = &self.on_queued {
            self.state = State::Requested;
            on_queued.call0(py)?;
        }
        Ok(())
    }

    /// Let the collector see whom it asks.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.on_queued)
    }
}
