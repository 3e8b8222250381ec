//! What a client is to Rust, and what its messages are handed to.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyInt};

use crate::engine::Handle;

use super::engine::Engine;
use super::sharded::ShardedEngine;

/// The part of a client that is needed for each message, and what takes less memory here. See the
/// stub for its contract.
#[pyclass(module = "rakit_ws._core", subclass)]
#[allow(clippy::struct_excessive_bools)] // Python sets each by itself.
pub struct ClientBase {
    handle: Handle,
    /// An engine of either kind.
    engine: Py<PyAny>,
    #[pyo3(get, set)]
    signature: Py<PyBytes>,
    #[pyo3(get, set)]
    mailbox: Option<Py<PyAny>>,
    #[pyo3(get, set)]
    connected_at: i64,
    #[pyo3(get, set)]
    has_token: bool,
    #[pyo3(get, set)]
    is_operator: bool,
    #[pyo3(get, set)]
    may_command: bool,
    #[pyo3(get, set)]
    is_leaving: bool,
}

#[pymethods]
impl ClientBase {
    #[new]
    #[pyo3(signature = (engine, handle, connected_at, /))]
    #[pyo3(text_signature = "(engine, handle, connected_at, /)")]
    fn new(engine: &Bound<'_, PyAny>, handle: Handle, connected_at: i64) -> PyResult<Self> {
        if !engine.is_exact_instance_of::<Engine>() {
            engine.cast_exact::<ShardedEngine>()?;
        }
        Ok(Self {
            handle,
            engine: engine.clone().unbind(),
            signature: PyBytes::new(engine.py(), b"").unbind(),
            mailbox: None,
            connected_at,
            has_token: false,
            is_operator: false,
            may_command: false,
            is_leaving: false,
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.engine)?;
        visit.call(&self.mailbox)
    }

    fn __clear__(&mut self) {
        self.mailbox = None;
    }

    #[pyo3(signature = (opcode, payload))]
    fn send_frame(
        slf: &Bound<'_, Self>,
        opcode: &Bound<'_, PyInt>,
        payload: &Bound<'_, PyBytes>,
    ) -> PyResult<bool> {
        let py = slf.py();
        // Not borrowed meanwhile: the engine may call Python.
        let (to, engine) = {
            let client = slf.try_borrow()?;
            (client.handle, client.engine.clone_ref(py).into_bound(py))
        };
        let (opcode, sender) = (Some(opcode), Handle::NOBODY);
        if let Ok(engine) = engine.cast_exact::<Engine>() {
            return engine.try_borrow_mut()?.send(py, to, payload, opcode, sender);
        }
        let engine = engine.cast_exact::<ShardedEngine>()?;
        engine.try_borrow_mut()?.send(py, to, payload, opcode, sender)
    }

    fn retire(&mut self) {
        self.handle = Handle::NOBODY;
    }
}

impl ClientBase {
    /// Who it is to the engine, and the end of every message that it sends.
    pub fn voice(&self, py: Python<'_>) -> (Handle, Py<PyBytes>) {
        (self.handle, self.signature.clone_ref(py))
    }
}

/// What messages are handed to, so that the usual one is one call. See the stub for its contract.
#[pyclass(module = "rakit_ws._core", frozen)]
pub struct Receiver {
    first: Py<PyAny>,
    rest: Py<PyAny>,
    keep: Py<PyAny>,
}

#[pymethods]
impl Receiver {
    #[new]
    #[pyo3(signature = (first, rest, keep, /), text_signature = "(first, rest, keep, /)")]
    fn new(first: Py<PyAny>, rest: Py<PyAny>, keep: Py<PyAny>) -> Self {
        Self { first, rest, keep }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.first)?;
        visit.call(&self.rest)?;
        visit.call(&self.keep)
    }

    /// Handle a message.
    #[pyo3(signature = (client, opcode, payload, /))]
    pub fn __call__(
        &self,
        client: &Bound<'_, ClientBase>,
        opcode: u8,
        payload: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = client.py();
        if client.try_borrow()?.mailbox.is_some() {
            self.keep.bind(py).call1((client, opcode, payload))?;
            return Ok(());
        }
        let (result, error) = match self.first.bind(py).call1((client, opcode, payload)) {
            Ok(result) if result.is(&*PyBool::new(py, true)) => return Ok(()),
            Ok(result) => (Some(result), None),
            Err(error) => (None, Some(error.into_value(py))),
        };
        self.rest.bind(py).call1((client, opcode, payload, result, error))?;
        Ok(())
    }
}
