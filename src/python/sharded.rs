//! Several shards with a clock, for one event loop.

use std::os::fd::AsRawFd;
use std::time::Instant;

use pyo3::exceptions::PyOSError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt};

use crate::engine::{Failure, Handle, MOST_SHARDS, Metronome, Settings, Shards};
use crate::protocol::handshake::HeaderLine;
use crate::protocol::{Opcode, Refusal};

use super::arguments::{close_code, header_lines, message, refusal_status};
use super::client::ClientBase;
use super::clients::ClientTable;
use super::errors::UsageError;
use super::flushes::Flushes;
use super::rows::{Batches, Handlers, Row, note};
use super::settings::overlaid;
use super::splicing::{self, Splices};
use super::tls::TlsIdentity;

/// [`Engine`](super::engine::Engine) with several shards, each in a thread of its own. See the stub
/// for what is different.
#[pyclass(module = "rakit_ws._core")]
pub struct ShardedEngine {
    shards: Shards,
    metronome: Metronome,
    flushes: Flushes,
    rows: Vec<Row>,
}

#[pymethods]
impl ShardedEngine {
    #[new]
    #[pyo3(signature = (shards, **settings))]
    fn new(shards: &Bound<'_, PyInt>, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let count = shard_count(shards)?;
        let settings = overlaid(Settings::default(), settings)?;
        let now = Instant::now();
        Ok(Self {
            shards: Shards::new(&settings, count, now)?,
            metronome: Metronome::new(now),
            flushes: Flushes::default(),
            rows: Vec::new(),
        })
    }

    #[getter]
    fn shards(&self) -> usize {
        self.shards.count()
    }

    fn stop(&mut self, py: Python<'_>) {
        py.detach(|| self.shards.stop());
    }

    #[pyo3(signature = (**settings))]
    fn configure(&mut self, settings: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        let settings = overlaid(self.shards.settings().clone(), settings)?;
        self.shards.configure(settings);
        Ok(())
    }

    #[allow(clippy::needless_pass_by_value)] // PyO3 hands it over so.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.flushes.traverse(&visit)
    }

    fn __clear__(&mut self) {
        self.flushes.notify(None);
    }

    fn notify_when_queued(&mut self, callback: Option<Py<PyAny>>) {
        self.flushes.notify(callback);
    }

    #[pyo3(signature = (host, port, *, backlog = 4096))]
    fn listen(&mut self, host: &str, port: u16, backlog: i32) -> PyResult<()> {
        Ok(self.shards.listen(host, port, backlog)?)
    }

    fn use_tls(&mut self, identity: Option<&TlsIdentity>) {
        self.shards.use_tls(identity.map(TlsIdentity::settings).as_ref());
    }

    fn stop_listening(&mut self) {
        self.shards.stop_listening();
    }

    #[getter]
    fn addresses(&self) -> Vec<String> {
        self.shards.addresses().iter().map(ToString::to_string).collect()
    }

    fn fileno(&self) -> i32 {
        self.shards.as_raw_fd()
    }

    #[pyo3(signature = (clients, receive, on_event, /))]
    fn handle_batch(
        slf: &Bound<'_, Self>,
        clients: &Bound<'_, ClientTable>,
        receive: &Bound<'_, PyAny>,
        on_event: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        Handlers { clients, receive, on_event }.handle_batch(slf)
    }

    fn flush(&mut self) -> bool {
        self.send_queued();
        false // The threads have deadlines of their own.
    }

    #[getter]
    #[allow(clippy::unused_self)] // A property, as of the other engine.
    fn next_deadline_s(&self) -> Option<f64> {
        None // As above.
    }

    #[pyo3(signature = (handle, *, subprotocol = None, headers = None, first = None))]
    #[allow(clippy::needless_pass_by_value)] // What PyO3 extracts is owned.
    fn accept(
        &mut self,
        py: Python<'_>,
        handle: u64,
        subprotocol: Option<&str>,
        headers: Option<Vec<(String, String)>>,
        first: Option<&[u8]>,
    ) -> PyResult<bool> {
        let headers = header_lines(headers.as_deref())?;
        if let Some(name) = subprotocol {
            HeaderLine::new("Sec-WebSocket-Protocol", name)?;
        }
        let done = self.shards.accept(Handle::from_bits(handle), subprotocol, headers, first);
        self.request_flush(py)?;
        Ok(done)
    }

    #[pyo3(signature = (handle, status, reason, *, headers = None))]
    #[allow(clippy::needless_pass_by_value)] // What PyO3 extracts is owned.
    fn reject(
        &mut self,
        py: Python<'_>,
        handle: u64,
        status: &Bound<'_, PyInt>,
        reason: &str,
        headers: Option<Vec<(String, String)>>,
    ) -> PyResult<bool> {
        let headers = header_lines(headers.as_deref())?;
        let refusal = Refusal::new(refusal_status(status)?, reason);
        let done = self.shards.reject(Handle::from_bits(handle), refusal, headers);
        self.request_flush(py)?;
        Ok(done)
    }

    #[pyo3(
        signature = (handle, payload, opcode = None, sender = Handle::NOBODY),
        text_signature = "($self, handle, payload, opcode=None, sender=0)"
    )]
    pub fn send(
        &mut self,
        py: Python<'_>,
        handle: Handle,
        payload: &Bound<'_, PyBytes>,
        opcode: Option<&Bound<'_, PyInt>>,
        sender: Handle,
    ) -> PyResult<bool> {
        let (opcode, outgoing) = message(payload, opcode)?;
        let queued = self.shards.send(sender, handle, opcode, outgoing);
        self.request_flush(py)?;
        Ok(queued)
    }

    #[pyo3(signature = (handles, payload, sender = 0))]
    fn send_each(
        &mut self,
        py: Python<'_>,
        handles: Vec<u64>,
        payload: &[u8],
        sender: u64,
    ) -> PyResult<usize> {
        let handles: Vec<Handle> = handles.into_iter().map(Handle::from_bits).collect();
        let sender = Handle::from_bits(sender);
        let count = self.shards.send_each(sender, &handles, Opcode::Text, payload);
        self.request_flush(py)?;
        Ok(count)
    }

    #[pyo3(
        signature = (topic, payload, sender = Handle::NOBODY),
        text_signature = "($self, topic, payload, sender=0)"
    )]
    fn publish(
        &mut self,
        py: Python<'_>,
        topic: &str,
        payload: &[u8],
        sender: Handle,
    ) -> PyResult<usize> {
        let count = self.shards.publish(sender, topic, Opcode::Text, payload);
        self.request_flush(py)?;
        Ok(count)
    }

    #[pyo3(signature = (client, topic, data, openings, /))]
    fn publish_from(
        slf: &Bound<'_, Self>,
        client: &Bound<'_, ClientBase>,
        topic: &str,
        data: &Bound<'_, PyAny>,
        openings: &Bound<'_, PyAny>,
    ) -> PyResult<usize> {
        splicing::publish_from(slf, client, topic, data, openings)
    }

    #[pyo3(signature = (payload, sender = 0))]
    fn broadcast(&mut self, py: Python<'_>, payload: &[u8], sender: u64) -> PyResult<usize> {
        let sender = Handle::from_bits(sender);
        let count = self.shards.broadcast(sender, Opcode::Text, payload);
        self.request_flush(py)?;
        Ok(count)
    }

    fn broadcast_from(
        &mut self,
        py: Python<'_>,
        first: u32,
        most: usize,
        payload: &[u8],
    ) -> PyResult<(usize, Option<u32>)> {
        let result = self.shards.broadcast_from(first, most, Opcode::Text, payload);
        self.request_flush(py)?;
        Ok(result)
    }

    fn subscribe(&mut self, handle: u64, topic: &str) -> bool {
        self.shards.subscribe(Handle::from_bits(handle), topic)
    }

    fn unsubscribe(&mut self, handle: u64, topic: &str) -> bool {
        self.shards.unsubscribe(Handle::from_bits(handle), topic)
    }

    fn hears(&self, handle: u64, topic: &str) -> bool {
        self.shards.hears(Handle::from_bits(handle), topic)
    }

    fn topics_of(&self, handle: u64) -> Vec<&str> {
        self.shards.topics_of(Handle::from_bits(handle)).collect()
    }

    #[getter]
    fn topic_total(&self) -> usize {
        self.shards.topic_total()
    }

    fn has_topic(&self, topic: &str) -> bool {
        self.shards.has_topic(topic)
    }

    fn topic_count(&self, handle: u64) -> usize {
        self.shards.topic_count(Handle::from_bits(handle))
    }

    fn topics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let topics = PyDict::new(py);
        self.shards.topics().try_for_each(|(name, count)| topics.set_item(name, count))?;
        Ok(topics)
    }

    #[pyo3(signature = (topic, most = usize::MAX))]
    fn subscribers(&self, topic: &str, most: usize) -> Vec<u64> {
        self.shards.subscribers(topic).take(most).map(Handle::to_bits).collect()
    }

    fn subscriber_count(&self, topic: &str) -> usize {
        self.shards.subscriber_count(topic)
    }

    #[pyo3(signature = (handle, code, reason = ""))]
    fn close(
        &mut self,
        py: Python<'_>,
        handle: u64,
        code: &Bound<'_, PyInt>,
        reason: &str,
    ) -> PyResult<bool> {
        let done = self.shards.close(Handle::from_bits(handle), close_code(code)?, reason);
        self.request_flush(py)?;
        Ok(done)
    }

    #[pyo3(signature = (code, reason = ""))]
    fn close_all(
        &mut self,
        py: Python<'_>,
        code: &Bound<'_, PyInt>,
        reason: &str,
    ) -> PyResult<usize> {
        let count = self.shards.close_all(close_code(code)?, reason);
        self.request_flush(py)?;
        Ok(count)
    }

    fn abort_all(&mut self) {
        self.shards.abort_all();
    }

    fn pause_reading(&mut self, py: Python<'_>, handle: u64) -> PyResult<()> {
        self.shards.pause_reading(Handle::from_bits(handle));
        self.request_flush(py)
    }

    fn resume_reading(&mut self, py: Python<'_>, handle: u64) -> PyResult<()> {
        self.shards.resume_reading(Handle::from_bits(handle));
        self.request_flush(py)
    }

    #[getter]
    fn connection_count(&self) -> usize {
        self.shards.len()
    }

    #[getter]
    fn open_count(&self) -> usize {
        self.shards.open_count()
    }

    fn queued_bytes(&mut self, handle: u64) -> usize {
        self.shards.queued_bytes(Handle::from_bits(handle))
    }

    #[getter]
    fn memory_held(&self) -> usize {
        self.shards.memory_held()
    }

    fn counters<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counters = PyDict::new(py);
        self.shards.counters().iter().try_for_each(|(name, n)| counters.set_item(name, n))?;
        Ok(counters)
    }
}

impl ShardedEngine {
    fn hand_on(&mut self, py: Python<'_>) -> PyResult<Vec<Row>> {
        let mut rows = std::mem::take(&mut self.rows);
        let mut failed = None;
        let pace = self.metronome.pace();
        self.shards.set_pace(pace);
        self.shards.hand_on(pace.slice, |event| note(py, event, &mut rows, &mut failed));
        failed.map_or(Ok(rows), Err)
    }

    /// Whether there is another slice in this batch.
    fn goes_on(&mut self) -> bool {
        if !self.flushes.is_in_batch() {
            return false;
        }
        let (has_more, done) = (self.shards.has_more(), self.shards.work_done());
        if !has_more && self.metronome.is_little(done) {
            return false; // without a look at the clock
        }
        self.metronome.slice_ends(Instant::now(), done);
        has_more && self.metronome.may_go_on()
    }
}

impl Splices for ShardedEngine {
    fn publish_spliced(&mut self, sender: Handle, topic: &str, parts: [&[u8]; 2]) -> Option<usize> {
        self.shards.publish_spliced(sender, topic, parts)
    }

    fn open_topic(&mut self, topic: &str, opening: &[u8]) -> bool {
        self.shards.open_topic(topic, opening)
    }

    fn request_flush(&mut self, py: Python<'_>) -> PyResult<()> {
        self.flushes.request_if(py, || self.shards.has_queued())
    }
}

impl Batches for ShardedEngine {
    fn begin(&mut self, py: Python<'_>) -> PyResult<Vec<Row>> {
        self.metronome.begin_batch(Instant::now(), self.shards.work_done());
        self.flushes.begin_batch();
        self.shards.begin()?;
        self.hand_on(py)
    }

    fn go_on(&mut self, py: Python<'_>) -> PyResult<Option<Vec<Row>>> {
        while self.goes_on() {
            let rows = self.hand_on(py)?;
            if !rows.is_empty() {
                return Ok(Some(rows));
            }
            self.rows = rows;
        }
        self.send_queued();
        Ok(None)
    }

    fn send_queued(&mut self) {
        self.shards.flush();
        self.flushes.done();
    }

    fn take_back(&mut self, rows: Vec<Row>) {
        self.rows = rows;
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Io(..) => PyOSError::new_err(failure.to_string()),
            // As where it is the caller's thread that panics.
            Failure::Panic(..) => PanicException::new_err(failure.to_string()),
        }
    }
}

fn shard_count(count: &Bound<'_, PyInt>) -> PyResult<usize> {
    let wrong = || UsageError::new_err(format!("shards must be 1 to {MOST_SHARDS}, not {count}"));
    count.extract().ok().filter(|count| (1..=MOST_SHARDS).contains(count)).ok_or_else(wrong)
}
