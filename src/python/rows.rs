//! What the engine reports, as Python sees it.

use pyo3::IntoPyObjectExt;
use pyo3::PyClass;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::False;
use pyo3::types::PyBytes;

use crate::engine::{Closed, Event, Side};
use crate::protocol::{GrowingBuffer, Kind, Opcode, Payload};

use super::buffer::BytesBuffer;
use super::client::Receiver;
use super::clients::ClientTable;
use super::frames::bytes_of;
use super::known_text::KnownText;
use super::request::Request;

pub const TEXT: u8 = Opcode::Text as u8;
pub const BINARY: u8 = Opcode::Binary as u8;
const REQUESTED: u8 = 16;
const ABANDONED: u8 = 17;
const REFUSED: u8 = 18;
const IDLE: u8 = 19;
const CLOSED: u8 = 20;
const ACCEPT_PAUSED: u8 = 21;
const ACCEPT_RESUMED: u8 = 22;
const DROPPING: u8 = 23;
const RATE_LIMITED: u8 = 24;
const ABORTED: u8 = 25;
const MEMORY_SHORT: u8 = 26;
const MEMORY_AMPLE: u8 = 27;
const TLS_FAILED: u8 = 28;

/// The first element of each event that `Engine.handle_batch` reports, under its name in Python.
pub const KINDS: [(&str, u8); 15] = [
    ("TEXT", TEXT),
    ("BINARY", BINARY),
    ("REQUESTED", REQUESTED),
    ("ABANDONED", ABANDONED),
    ("REFUSED", REFUSED),
    ("IDLE", IDLE),
    ("CLOSED", CLOSED),
    ("ACCEPT_PAUSED", ACCEPT_PAUSED),
    ("ACCEPT_RESUMED", ACCEPT_RESUMED),
    ("DROPPING", DROPPING),
    ("RATE_LIMITED", RATE_LIMITED),
    ("ABORTED", ABORTED),
    ("MEMORY_SHORT", MEMORY_SHORT),
    ("MEMORY_AMPLE", MEMORY_AMPLE),
    ("TLS_FAILED", TLS_FAILED),
];

/// An event on its way to Python: what it is, whom it concerns, the rest.
pub type Row = (u8, u64, Py<PyAny>);

/// The memory that payloads grow in, as far as Python is concerned.
pub trait Content: Sized {
    /// A payload as `bytes`.
    fn bytes<'py>(py: Python<'py>, payload: Payload<'_, Self>) -> Bound<'py, PyBytes>;
}

impl Content for BytesBuffer {
    fn bytes<'py>(py: Python<'py>, payload: Payload<'_, Self>) -> Bound<'py, PyBytes> {
        bytes_of(py, payload)
    }
}

impl Content for GrowingBuffer {
    fn bytes<'py>(py: Python<'py>, payload: Payload<'_, Self>) -> Bound<'py, PyBytes> {
        match payload {
            Payload::Borrowed(bytes) => PyBytes::new(py, bytes),
            // Copied: a thread without the GIL could not make it a `bytes` in the first place.
            Payload::Owned(buffer) => PyBytes::new(py, &buffer.into_vec()),
        }
    }
}

/// An engine whose events come in batches, a slice at a time.
pub trait Batches {
    /// Begin a batch: its first events, if there are any.
    fn begin(&mut self, py: Python<'_>) -> PyResult<Vec<Row>>;

    /// Further events of the batch, at least one. `None` where it is over: what is queued is sent.
    fn go_on(&mut self, py: Python<'_>) -> PyResult<Option<Vec<Row>>>;

    /// Send what is queued; that ends the batch, too.
    fn send_queued(&mut self);

    /// Take back the memory of rows, which were handed over.
    fn take_back(&mut self, rows: Vec<Row>);
}

/// What a batch's events are handed to.
pub struct Handlers<'a, 'py> {
    /// The clients by handle.
    pub clients: &'a Bound<'py, ClientTable>,
    /// Called with the client, the opcode and the payload of each message.
    pub receive: &'a Bound<'py, PyAny>,
    /// Called with everything else, as it stands in a row.
    pub on_event: &'a Bound<'py, PyAny>,
}

impl<'py> Handlers<'_, 'py> {
    /// Hand a whole batch over and send what it has caused. The engine is not borrowed while a
    /// handler runs: that calls it.
    pub fn handle_batch<E: Batches + PyClass<Frozen = False>>(
        &self,
        engine: &Bound<'py, E>,
    ) -> PyResult<()> {
        let handled = self.hand_over(engine);
        if handled.is_err() {
            engine.try_borrow_mut()?.send_queued(); // what was to go before that
        }
        handled
    }

    fn hand_over<E: Batches + PyClass<Frozen = False>>(
        &self,
        engine: &Bound<'py, E>,
    ) -> PyResult<()> {
        let py = engine.py();
        let mut rows = engine.try_borrow_mut()?.begin(py)?;
        loop {
            self.handle(py, &mut rows)?;
            let mut engine = engine.try_borrow_mut()?;
            engine.take_back(rows);
            match engine.go_on(py)? {
                Some(more) => rows = more,
                None => return Ok(()),
            }
        }
    }

    /// Hand rows over, until a handler raises.
    fn handle(&self, py: Python<'py>, rows: &mut Vec<Row>) -> PyResult<()> {
        let receiver = self.receive.cast_exact::<Receiver>().ok().map(Bound::get);
        for (kind, handle, content) in rows.drain(..) {
            if kind > BINARY {
                self.on_event.call1((kind, handle, content))?;
                continue;
            }
            // The engine reports no message of a client behind its end.
            let client = self.clients.try_borrow()?.named(py, handle)?.into_bound(py);
            let content = content.bind(py);
            let _known = (kind == TEXT).then(|| KnownText::new(content));
            match receiver {
                Some(receiver) => receiver.__call__(client.cast()?, kind, content)?,
                None => drop(self.receive.call1((client, kind, content))?),
            }
        }
        Ok(())
    }
}

/// Add an event to `rows`, or its failure to become one to `failed`.
pub fn note<B: Content>(
    py: Python<'_>,
    event: Event<'_, B>,
    rows: &mut Vec<Row>,
    failed: &mut Option<PyErr>,
) {
    match row(py, event) {
        Ok(row) => rows.push(row),
        Err(error) => *failed = Some(error),
    }
}

/// An event as a row.
fn row<B: Content>(py: Python<'_>, event: Event<'_, B>) -> PyResult<Row> {
    Ok(match event {
        Event::Message { handle, kind, payload } => {
            let opcode = match kind {
                Kind::Text => TEXT,
                Kind::Binary => BINARY,
            };
            (opcode, handle.to_bits(), B::bytes(py, payload).into_any().unbind())
        }
        Event::Requested { handle, request, peer, proxy, is_secure } => {
            let request = Py::new(py, Request::new(request, peer, proxy, is_secure))?;
            (REQUESTED, handle.to_bits(), request.into_any())
        }
        Event::Abandoned { handle, reason } => (ABANDONED, handle.to_bits(), object(py, reason)?),
        Event::Refused { peer, refusal } => {
            let what = (refusal.status, refusal.reason, peer.to_string());
            (REFUSED, 0, object(py, what)?)
        }
        Event::Aborted { peer, reason } => (ABORTED, 0, object(py, (reason, peer.to_string()))?),
        Event::RateLimited { handle } => (RATE_LIMITED, handle.to_bits(), py.None()),
        Event::TlsFailed { peer, reason } => {
            (TLS_FAILED, 0, object(py, (reason, peer.to_string()))?)
        }
        Event::Idle { handle } => (IDLE, handle.to_bits(), py.None()),
        Event::Closed { handle, closed: Closed { code, reason, side } } => {
            (CLOSED, handle.to_bits(), object(py, (code.get(), reason, name_of(side)))?)
        }
        Event::Dropping { handle, queued } => (DROPPING, handle.to_bits(), object(py, queued)?),
        Event::MemoryShort { held } => (MEMORY_SHORT, 0, object(py, held)?),
        Event::MemoryAmple { held } => (MEMORY_AMPLE, 0, object(py, held)?),
        Event::AcceptPaused { error } => (ACCEPT_PAUSED, 0, object(py, error.to_string())?),
        Event::AcceptResumed => (ACCEPT_RESUMED, 0, py.None()),
    })
}

fn object<'py>(py: Python<'py>, value: impl IntoPyObjectExt<'py>) -> PyResult<Py<PyAny>> {
    value.into_py_any(py)
}

fn name_of(side: Side) -> &'static str {
    match side {
        Side::Peer => "peer",
        Side::Server => "server",
        Side::Lost => "lost",
    }
}
