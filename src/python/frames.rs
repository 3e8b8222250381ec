//! The frame core on its own: a decoder and an encoder without sockets.

use std::mem::MaybeUninit;

use pyo3::IntoPyObjectExt;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyList, PyTuple};

use crate::protocol::{
    CloseCode, Decoder, Event, Failure, Limits, Opcode, Payload, Role, encoder, frame, mask,
};

use super::buffer::BytesBuffer;
use super::errors::UsageError;

/// How much of the input is unmasked at a time: it stays in the processor's cache.
const STEP_BYTES: usize = 64 * 1024;

/// Where at least this much of a frame is missing, it is copied straight to where it will stay.
const DIRECT_FROM_BYTES: u64 = 4096;

/// An event class: frozen, comparable, with a readable `repr`, usable in `match`.
macro_rules! event_class {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $python:ty => $rust:ty),+ }) => {
        $(#[$doc])*
        #[pyclass(frozen, get_all, module = "rakit_ws")]
        pub struct $name {
            $($field: $rust),+
        }

        #[pymethods]
        impl $name {
            #[classattr]
            #[allow(non_upper_case_globals)]
            fn __match_args__() -> ($(event_class!(@name $field),)+) {
                ($(stringify!($field),)+)
            }

            #[new]
            fn new($($field: $python),+) -> Self {
                Self { $($field: $field.into()),+ }
            }

            fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<bool> {
                match other.cast::<Self>() {
                    Ok(other) => self.fields(py)?.eq(other.get().fields(py)?),
                    Err(_) => Ok(false),
                }
            }

            fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
                self.fields(py)?.hash()
            }

            fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
                let names = [$(stringify!($field)),+];
                let fields = self.fields(py)?;
                let parts: PyResult<Vec<String>> = names
                    .iter()
                    .zip(fields.iter())
                    .map(|(name, value)| Ok(format!("{name}={}", value.repr()?)))
                    .collect();
                Ok(format!("{}({})", stringify!($name), parts?.join(", ")))
            }
        }

        impl $name {
            fn fields<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
                PyTuple::new(py, [$((&self.$field).into_py_any(py)?),+])
            }
        }
    };
    (@name $field:ident) => { &'static str };
}

event_class! {
    /// A whole message: opcode 1 (text, valid UTF-8) or 2 (binary) and its payload.
    Message { opcode: u8 => u8, payload: Bound<'_, PyBytes> => Py<PyBytes> }
}
event_class! {
    /// A Ping; it wants a Pong with the same payload.
    Ping { payload: Bound<'_, PyBytes> => Py<PyBytes> }
}
event_class! {
    /// A Pong.
    Pong { payload: Bound<'_, PyBytes> => Py<PyBytes> }
}
event_class! {
    /// A Close: its status code, 1005 if it had none, and its reason.
    Close { code: u16 => u16, reason: String => String }
}
event_class! {
    /// The connection fails: the status code to close it with, and why.
    Failed { code: u16 => u16, reason: String => String }
}

/// Whether more may come.
///
/// ```text
/// Open ─Close or Failed─► Over ─eof─► Ended
///   └─eof: Failed(1006)──────────────► Ended
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    Over,
    Ended,
}

/// Decodes what one peer sends, without a socket. See the stub for its contract.
#[pyclass(module = "rakit_ws")]
pub struct FrameDecoder {
    decoder: Decoder<BytesBuffer>,
    limits: Limits,
    tail: Vec<u8>,
    stage: Stage,
}

#[pymethods]
impl FrameDecoder {
    #[new]
    #[pyo3(signature = (*, max_message_bytes = 1_048_576, max_fragments = 65_536, role = "server"))]
    fn new(max_message_bytes: u64, max_fragments: u32, role: &str) -> PyResult<Self> {
        let role = match role {
            "server" => Role::Server,
            "client" => Role::Client,
            other => {
                let message = format!("role must be 'server' or 'client', not {other:?}");
                return Err(UsageError::new_err(message));
            }
        };
        Ok(Self {
            decoder: Decoder::new(role),
            limits: Limits { max_message_bytes, max_fragments },
            tail: Vec::new(),
            stage: Stage::Open,
        })
    }

    fn receive_data<'py>(&mut self, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        if self.stage == Stage::Ended {
            return Err(UsageError::new_err("receive_data() after receive_eof()"));
        }
        let py = data.py();
        let events = PyList::empty(py);
        with_bytes(data, |data| self.receive(py, data, &events))??;
        Ok(events)
    }

    fn receive_eof<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let before = std::mem::replace(&mut self.stage, Stage::Ended);
        self.tail = Vec::new();
        self.decoder.end();
        match before {
            Stage::Open => {
                let code = CloseCode::ABNORMAL.get();
                let lost = Failed { code, reason: "connection lost".to_owned() };
                PyList::new(py, [Bound::new(py, lost)?])
            }
            Stage::Over | Stage::Ended => Ok(PyList::empty(py)),
        }
    }

    #[getter]
    fn buffered_bytes(&self) -> usize {
        self.decoder.buffered() + self.tail.len()
    }
}

impl FrameDecoder {
    fn receive(
        &mut self,
        py: Python<'_>,
        mut data: &[u8],
        events: &Bound<'_, PyList>,
    ) -> PyResult<()> {
        while !data.is_empty() && self.stage == Stage::Open {
            if let Some(room) = self.decoder.room(DIRECT_FROM_BYTES) {
                let count = room.len().min(data.len());
                let (now, later) = data.split_at(count);
                data = later;
                room.split_at_mut(count).0.copy_from_slice(now);
                let result = self.decoder.received(count);
                self.stage = append(py, events, result)?.1;
            } else {
                let (now, later) = data.split_at(STEP_BYTES.min(data.len()));
                data = later;
                self.step(py, now, events)?;
            }
        }
        Ok(())
    }

    fn step(&mut self, py: Python<'_>, piece: &[u8], events: &Bound<'_, PyList>) -> PyResult<()> {
        let mut scratch = std::mem::take(&mut self.tail);
        scratch.extend_from_slice(piece);
        let mut input = scratch.as_mut_slice();
        loop {
            let result = self.decoder.next(&mut input, &self.limits);
            let (more, stage) = append(py, events, result)?;
            self.stage = stage;
            if !more {
                break;
            }
        }
        if self.stage == Stage::Open {
            self.tail = input.to_vec();
        }
        Ok(())
    }
}

/// Append what was decoded to `events`. Returns whether to go on, and the stage reached.
fn append(
    py: Python<'_>,
    events: &Bound<'_, PyList>,
    result: Result<Option<Event<'_, BytesBuffer>>, Failure>,
) -> PyResult<(bool, Stage)> {
    match result {
        Ok(None) => return Ok((false, Stage::Open)),
        Ok(Some(Event::Message(kind, payload))) => {
            let payload = bytes_of(py, payload).unbind();
            events.append(Message { opcode: kind.opcode() as u8, payload })?;
        }
        Ok(Some(Event::Ping(payload))) => {
            events.append(Ping { payload: PyBytes::new(py, payload).unbind() })?;
        }
        Ok(Some(Event::Pong(payload))) => {
            events.append(Pong { payload: PyBytes::new(py, payload).unbind() })?;
        }
        Ok(Some(Event::Close(code, reason))) => {
            events.append(Close { code: code.get(), reason: reason.to_owned() })?;
            return Ok((false, Stage::Over));
        }
        Err(failure) => {
            let reason = failure.reason.to_owned();
            events.append(Failed { code: failure.code.get(), reason })?;
            return Ok((false, Stage::Over));
        }
    }
    Ok((true, Stage::Open))
}

/// A payload as `bytes`; copied where it was borrowed.
pub fn bytes_of<'py>(py: Python<'py>, payload: Payload<'_, BytesBuffer>) -> Bound<'py, PyBytes> {
    match payload {
        Payload::Borrowed(bytes) => PyBytes::new(py, bytes),
        Payload::Owned(buffer) => buffer.into_bytes(py),
    }
}

/// One frame, masked if a key is given.
#[pyfunction]
#[pyo3(signature = (opcode, payload, *, fin = true, mask = None))]
pub fn encode_frame<'py>(
    opcode: &Bound<'py, PyInt>,
    payload: &Bound<'py, PyAny>,
    fin: bool,
    mask: Option<&[u8]>,
) -> PyResult<Bound<'py, PyBytes>> {
    let Some(opcode) = opcode.extract().ok().and_then(Opcode::from_bits) else {
        return Err(UsageError::new_err(format!("no such opcode: {opcode}")));
    };
    let mask = mask.map(masking_key).transpose()?;
    let frame = with_bytes(payload, |bytes| {
        if opcode.is_control() && (!fin || bytes.len() > frame::MAX_CONTROL_PAYLOAD) {
            let message = "a control frame is never fragmented and has at most 125 bytes";
            return Err(UsageError::new_err(message));
        }
        Ok(encoder::any_frame(fin, opcode, mask, bytes))
    })??;
    Ok(PyBytes::new(payload.py(), &frame))
}

/// `data` masked, or unmasked, with a key of four bytes.
#[pyfunction]
pub fn apply_mask<'py>(data: &Bound<'py, PyAny>, key: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let key = masking_key(key)?;
    with_bytes(data, |bytes| {
        new_bytes(data.py(), bytes.len(), |target| mask::copy(bytes, key, target))
    })?
}

/// `bytes` of this length whose every byte `fill` writes. Unlike `PyBytes::new_with` it clears nothing
/// before: one pass over the memory instead of three in all (benches/decode.py, mask).
fn new_bytes(
    py: Python<'_>,
    len: usize,
    fill: impl FnOnce(&mut [MaybeUninit<u8>]),
) -> PyResult<Bound<'_, PyBytes>> {
    let size = ffi::Py_ssize_t::try_from(len)?;
    // SAFETY: the GIL is held (`py`). A new `bytes` of `size` (the shared empty one, of which
    // nothing is written) is ours alone until it is returned, and holds room for that many bytes,
    // which `MaybeUninit` lets nobody read before `fill` has written them; `fill` is called once, with all of them. Null is turned into the exception that
    // was set.
    unsafe {
        let object = ffi::PyBytes_FromStringAndSize(std::ptr::null(), size);
        let bytes = Bound::from_owned_ptr_or_err(py, object)?.cast_into_unchecked();
        let start = ffi::PyBytes_AsString(object).cast::<MaybeUninit<u8>>();
        fill(std::slice::from_raw_parts_mut(start, len));
        Ok(bytes)
    }
}

fn masking_key(key: &[u8]) -> PyResult<[u8; 4]> {
    let wrong = |_| UsageError::new_err("a masking key has four bytes");
    key.try_into().map_err(wrong)
}

/// Call `use_them` with the bytes of a bytes-like object; only `bytes` is not copied first.
fn with_bytes<T>(data: &Bound<'_, PyAny>, use_them: impl FnOnce(&[u8]) -> T) -> PyResult<T> {
    if let Ok(bytes) = data.cast::<PyBytes>() {
        return Ok(use_them(bytes.as_bytes()));
    }
    let buffer = PyBuffer::<u8>::get(data)
        .map_err(|_| PyTypeError::new_err("a bytes-like object is needed"))?;
    Ok(use_them(&buffer.to_vec(data.py())?))
}
