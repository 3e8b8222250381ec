//! What the engine reports, as Python sees it.

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::engine::{Closed, Event, Side};
use crate::protocol::{GrowingBuffer, Kind, Opcode, Payload};

use super::buffer::BytesBuffer;
use super::frames::bytes_of;
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

/// The first element of each event of `Engine.poll`, under its name in Python.
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
