//! A shard with a clock, for one event loop.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt};

use crate::engine::{Handle, Metronome, Millis, Settings, Shard};
use crate::protocol::handshake::HeaderLine;
use crate::protocol::{Opcode, Refusal};

use super::arguments::{close_code, header_lines, message, refusal_status, seconds};
use super::buffer::BytesBuffer;
use super::client::ClientBase;
use super::clients::ClientTable;
use super::flushes::Flushes;
use super::rows::{Batches, Handlers, Row, note};
use super::settings::overlaid;
use super::splicing::{self, Splices};
use super::tls::TlsIdentity;

/// For fewer, it need not be known how long a flush takes.
const MANY_RECIPIENTS: usize = 16;

/// Sockets, queues, channels and time of one server. See the stub for its contract.
#[pyclass(module = "rakit_ws._core")]
pub struct Engine {
    shard: Shard<BytesBuffer>,
    started: Instant,
    metronome: Metronome,
    flushes: Flushes,
    /// The deadline that the caller was told last.
    known_deadline: Millis,
    rows: Vec<Row>,
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (**settings))]
    fn new(settings: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let settings = overlaid(Settings::default(), settings)?;
        let now = Instant::now();
        Ok(Self {
            shard: Shard::new(settings, 0)?,
            started: now,
            metronome: Metronome::new(now),
            flushes: Flushes::default(),
            known_deadline: Millis::MAX,
            rows: Vec::new(),
        })
    }

    #[pyo3(signature = (**settings))]
    fn configure(&mut self, settings: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        let settings = overlaid(self.shard.settings().clone(), settings)?;
        let now = self.now();
        self.shard.at(now).configure(settings);
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
        Ok(self.shard.listen(host, port, backlog)?)
    }

    fn use_tls(&mut self, identity: Option<&TlsIdentity>) {
        self.shard.use_tls(identity.map(TlsIdentity::settings));
    }

    fn stop_listening(&mut self) {
        self.shard.stop_listening();
    }

    #[getter]
    fn addresses(&self) -> Vec<String> {
        self.shard.addresses().map(ToString::to_string).collect()
    }

    fn fileno(&self) -> i32 {
        self.shard.as_raw_fd()
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
        self.is_due_sooner()
    }

    #[getter]
    fn next_deadline_s(&mut self) -> Option<f64> {
        let now = self.now();
        let deadline = self.shard.next_deadline();
        self.known_deadline = deadline.unwrap_or(Millis::MAX);
        deadline.map(|at| seconds(at.saturating_sub(now)))
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
        let now = self.now();
        let done =
            self.shard.at(now).accept(Handle::from_bits(handle), subprotocol, &headers, first);
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
        let done = self.shard.reject(Handle::from_bits(handle), &refusal, &headers);
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
        let send = |shard: &mut Shard<_>| shard.send(handle, opcode, outgoing);
        let queued = self.shard.because_of(sender, send);
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
        let send = |shard: &mut Shard<_>| shard.send_each(&handles, Opcode::Text, payload);
        let count = self.shard.because_of(sender, send);
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
        let publish = |shard: &mut Shard<_>| shard.publish(topic, Opcode::Text, payload);
        let count = self.shard.because_of(sender, publish);
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
        let broadcast = |shard: &mut Shard<_>| shard.broadcast(Opcode::Text, payload);
        let count = self.shard.because_of(sender, broadcast);
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
        let result = self.shard.broadcast_from(first, most, Opcode::Text, payload);
        self.request_flush(py)?;
        Ok(result)
    }

    fn subscribe(&mut self, handle: u64, topic: &str) -> bool {
        self.shard.subscribe(Handle::from_bits(handle), topic)
    }

    fn unsubscribe(&mut self, handle: u64, topic: &str) -> bool {
        self.shard.unsubscribe(Handle::from_bits(handle), topic)
    }

    fn hears(&self, handle: u64, topic: &str) -> bool {
        self.shard.hears(Handle::from_bits(handle), topic)
    }

    fn topics_of(&self, handle: u64) -> Vec<&str> {
        self.shard.topics_of(Handle::from_bits(handle)).collect()
    }

    #[getter]
    fn topic_total(&self) -> usize {
        self.shard.topic_total()
    }

    fn has_topic(&self, topic: &str) -> bool {
        self.shard.has_topic(topic)
    }

    fn topic_count(&self, handle: u64) -> usize {
        self.shard.topic_count(Handle::from_bits(handle))
    }

    fn topics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let topics = PyDict::new(py);
        self.shard.topics().try_for_each(|(name, count)| topics.set_item(name, count))?;
        Ok(topics)
    }

    #[pyo3(signature = (topic, most = usize::MAX))]
    fn subscribers(&self, topic: &str, most: usize) -> Vec<u64> {
        self.shard.subscribers(topic).take(most).map(Handle::to_bits).collect()
    }

    fn subscriber_count(&self, topic: &str) -> usize {
        self.shard.subscriber_count(topic)
    }

    #[pyo3(signature = (handle, code, reason = ""))]
    fn close(
        &mut self,
        py: Python<'_>,
        handle: u64,
        code: &Bound<'_, PyInt>,
        reason: &str,
    ) -> PyResult<bool> {
        let done = self.shard.close(Handle::from_bits(handle), close_code(code)?, reason);
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
        let count = self.shard.close_all(close_code(code)?, reason);
        self.request_flush(py)?;
        Ok(count)
    }

    fn abort_all(&mut self) {
        let now = self.now();
        self.shard.at(now).abort_all();
    }

    fn pause_reading(&mut self, py: Python<'_>, handle: u64) -> PyResult<()> {
        let now = self.now();
        self.shard.at(now).pause_reading(Handle::from_bits(handle));
        self.request_flush(py)
    }

    fn resume_reading(&mut self, py: Python<'_>, handle: u64) -> PyResult<()> {
        let now = self.now();
        self.shard.at(now).resume_reading(Handle::from_bits(handle));
        self.request_flush(py)
    }

    #[getter]
    fn connection_count(&self) -> usize {
        self.shard.len()
    }

    #[getter]
    fn open_count(&self) -> usize {
        self.shard.open_count()
    }

    fn queued_bytes(&self, handle: u64) -> usize {
        self.shard.queued_bytes(Handle::from_bits(handle))
    }

    #[getter]
    fn memory_held(&self) -> usize {
        self.shard.memory_held()
    }

    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counters = PyDict::new(py);
        self.shard.counters().iter().try_for_each(|(name, n)| counters.set_item(name, n))?;
        Ok(counters)
    }
}

impl Engine {
    fn now(&self) -> Millis {
        self.millis_at(Instant::now())
    }

    #[allow(clippy::cast_possible_truncation)] // 2⁶⁴ milliseconds are 584 million years.
    fn millis_at(&self, now: Instant) -> Millis {
        now.saturating_duration_since(self.started).as_millis() as Millis
    }

    /// Whether there is another slice in this batch.
    fn goes_on(&mut self) -> bool {
        if !self.flushes.is_in_batch() {
            return false;
        }
        let (is_in_round, done) = (self.shard.is_in_round(), self.shard.work_done());
        let has_more = is_in_round || self.shard.has_backlogs();
        if !has_more && self.metronome.is_little(done) {
            return false; // without a look at the clock
        }
        self.metronome.slice_ends(Instant::now(), done);
        if is_in_round {
            self.metronome.may_go_on()
        } else {
            has_more && self.metronome.may_begin_another_round()
        }
    }

    fn end_batch(&mut self, py: Python<'_>) -> PyResult<()> {
        self.send_queued();
        // The flush that this asks for says so.
        if self.is_due_sooner() { self.flushes.request(py) } else { Ok(()) }
    }

    fn is_due_sooner(&self) -> bool {
        self.shard.urgent_deadline().is_some_and(|at| at < self.known_deadline)
    }
}

impl Splices for Engine {
    fn publish_spliced(&mut self, sender: Handle, topic: &str, parts: [&[u8]; 2]) -> Option<usize> {
        let publish = |shard: &mut Shard<_>| shard.publish_spliced(topic, parts);
        self.shard.because_of(sender, publish)
    }

    fn open_topic(&mut self, topic: &str, opening: &[u8]) -> bool {
        self.shard.open_topic(topic, opening)
    }

    fn request_flush(&mut self, py: Python<'_>) -> PyResult<()> {
        self.flushes.request_if(py, || self.shard.has_queued())
    }
}

impl Batches for Engine {
    fn begin(&mut self, py: Python<'_>) -> PyResult<Vec<Row>> {
        let mut rows = std::mem::take(&mut self.rows);
        let mut failed = None;
        let now = Instant::now();
        self.metronome.begin_batch(now, self.shard.work_done());
        self.shard.set_pace(self.metronome.pace());
        let millis = self.millis_at(now);
        self.shard.poll(millis, |event| note(py, event, &mut rows, &mut failed))?;
        self.flushes.begin_batch();
        failed.map_or(Ok(rows), Err)
    }

    fn go_on(&mut self, py: Python<'_>) -> PyResult<Option<Vec<Row>>> {
        while self.goes_on() {
            let mut rows = std::mem::take(&mut self.rows);
            let mut failed = None;
            self.shard.set_pace(self.metronome.pace());
            self.shard.go_on(|event| note(py, event, &mut rows, &mut failed));
            if let Some(error) = failed {
                return Err(error);
            }
            if !rows.is_empty() {
                return Ok(Some(rows));
            }
            self.rows = rows;
        }
        self.end_batch(py)?;
        Ok(None)
    }

    fn send_queued(&mut self) {
        if self.shard.queued_count() < MANY_RECIPIENTS {
            self.shard.flush();
            self.metronome.flushed(Duration::ZERO);
        } else {
            let began = Instant::now();
            self.shard.flush();
            self.metronome.flushed(began.elapsed());
        }
        self.flushes.done();
    }

    fn take_back(&mut self, rows: Vec<Row>) {
        self.rows = rows;
    }
}
