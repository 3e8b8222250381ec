//! The clients of a hub, by handle.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use pyo3::exceptions::PyKeyError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

/// What a dict would be, for one use: found without a Python number for each message
/// (benches/load.py, echo of 64 bytes: 7 % of the server's time). See the stub for its contract.
#[pyclass(module = "rakit_ws._core")]
#[derive(Default)]
pub struct ClientTable {
    clients: HashMap<u64, Py<PyAny>, BuildHasherDefault<HandleHasher>>,
}

#[pymethods]
impl ClientTable {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.clients.values().try_for_each(|client| visit.call(client))
    }

    fn __clear__(&mut self) {
        self.clients = HashMap::default();
    }

    fn __len__(&self) -> usize {
        self.clients.len()
    }

    fn __contains__(&self, handle: u64) -> bool {
        self.clients.contains_key(&handle)
    }

    fn __getitem__(&self, py: Python<'_>, handle: u64) -> PyResult<Py<PyAny>> {
        self.named(py, handle)
    }

    fn __setitem__(slf: &Bound<'_, Self>, handle: u64, client: Py<PyAny>) {
        // What was there is dropped when the table is free again: that may run any code.
        let before = slf.borrow_mut().clients.insert(handle, client);
        drop(before);
    }

    #[pyo3(signature = (handle, /))]
    fn get(&self, py: Python<'_>, handle: u64) -> Option<Py<PyAny>> {
        self.clients.get(&handle).map(|client| client.clone_ref(py))
    }

    #[pyo3(signature = (handle, /))]
    fn take(&mut self, handle: u64) -> Option<Py<PyAny>> {
        self.clients.remove(&handle)
    }

    fn clear(slf: &Bound<'_, Self>) {
        let before = std::mem::take(&mut slf.borrow_mut().clients);
        drop(before);
    }
}

impl ClientTable {
    /// The client with this handle; a `KeyError` where there is none.
    pub fn named(&self, py: Python<'_>, handle: u64) -> PyResult<Py<PyAny>> {
        self.get(py, handle).ok_or_else(|| PyKeyError::new_err(handle))
    }
}

/// Handles are given by the engine: nobody chooses them so that they collide. Slots differ in their
/// low bits.
#[derive(Default)]
struct HandleHasher(u64);

impl Hasher for HandleHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0.rotate_left(8) ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, handle: u64) {
        self.0 = (handle ^ handle >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}
