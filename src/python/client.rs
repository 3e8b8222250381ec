//! What a client is to Rust, and what its messages are handed to.

use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyInt};

use crate::engine::Handle;

use super::engine::Engine;
use super::sharded::ShardedEngine;

/// An engine of either kind.
enum AnyEngine {
    Inline(Py<Engine>),
    Sharded(Py<ShardedEngine>),
}

impl AnyEngine {
    fn of(engine: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(engine) = engine.cast::<Engine>() {
            return Ok(Self::Inline(engine.clone().unbind()));
        }
        match engine.cast::<ShardedEngine>() {
            Ok(engine) => Ok(Self::Sharded(engine.clone().unbind())),
            Err(_) => Err(PyTypeError::new_err("not an engine")),
        }
    }

    fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Inline(engine) => Self::Inline(engine.clone_ref(py)),
            Self::Sharded(engine) => Self::Sharded(engine.clone_ref(py)),
        }
    }

    fn send(
        &self,
        py: Python<'_>,
        to: Handle,
        payload: &Bound<'_, PyBytes>,
        opcode: &Bound<'_, PyInt>,
    ) -> PyResult<bool> {
        match self {
            Self::Inline(engine) => {
                engine.try_borrow_mut(py)?.send(py, to, payload, Some(opcode), Handle::NOBODY)
            }
            Self::Sharded(engine) => {
                engine.try_borrow_mut(py)?.send(py, to, payload, Some(opcode), Handle::NOBODY)
            }
        }
    }
}

/// The part of a client that is needed for each message. See the stub for its contract.
#[pyclass(module = "rakit_ws._core", subclass)]
pub struct ClientBase {
    handle: Handle,
    engine: AnyEngine,
    #[pyo3(get, set)]
    mailbox: Option<Py<PyAny>>,
}

#[pymethods]
impl ClientBase {
    #[new]
    #[pyo3(signature = (engine, handle, /), text_signature = "(engine, handle, /)")]
    fn new(engine: &Bound<'_, PyAny>, handle: Handle) -> PyResult<Self> {
        Ok(Self { handle, engine: AnyEngine::of(engine)?, mailbox: None })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.engine {
            AnyEngine::Inline(engine) => visit.call(engine)?,
            AnyEngine::Sharded(engine) => visit.call(engine)?,
        }
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
        let (handle, engine) = {
            let client = slf.try_borrow()?;
            (client.handle, client.engine.clone_ref(py))
        };
        engine.send(py, handle, payload, opcode)
    }

    fn retire(&mut self) {
        self.handle = Handle::NOBODY;
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
