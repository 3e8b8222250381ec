//! A message buffer that becomes Python `bytes` without a copy.

use std::alloc::{Layout, handle_alloc_error};
use std::ffi::c_int;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::protocol::MessageBuffer;
use crate::protocol::buffer::capacity_for;

unsafe extern "C" {
    /// <https://docs.python.org/3/c-api/bytes.html#c._PyBytes_Resize>; pyo3-ffi leaves it out.
    fn _PyBytes_Resize(bytes: *mut *mut ffi::PyObject, size: ffi::Py_ssize_t) -> c_int;
}

/// A `bytes` object that nobody else has seen yet, so that it may still change.
///
/// The copy that it saves is the difference between 1 and 2 passes over every large message
/// (benches/load.py, mode echo, 1 MiB).
#[derive(Default)]
pub struct BytesBuffer {
    bytes: Option<Py<PyBytes>>,
    capacity: usize,
    len: usize,
}

impl BytesBuffer {
    /// What has arrived, as `bytes`.
    pub fn into_bytes(mut self, py: Python<'_>) -> Bound<'_, PyBytes> {
        self.resize(py, self.len);
        match self.bytes {
            Some(bytes) => bytes.into_bound(py),
            None => PyBytes::new(py, b""),
        }
    }

    /// Give the object `capacity` bytes; those that are new are zero.
    fn resize(&mut self, py: Python<'_>, capacity: usize) {
        if capacity == self.capacity {
            return;
        }
        let Ok(size) = ffi::Py_ssize_t::try_from(capacity) else { out_of_memory(capacity) };
        let mut object = self.bytes.take().map_or(std::ptr::null_mut(), Py::into_ptr);
        // SAFETY: the GIL is held (`py`). `object` is null or a `bytes` whose only reference is
        // ours: it is made here, kept private, and leaves through `into_bytes`, which consumes
        // the buffer. That is what `_PyBytes_Resize` needs; it leaves null when it fails. Its new
        // part, zeroed here, lies within the size that was just asked for.
        self.bytes = unsafe {
            if object.is_null() {
                object = ffi::PyBytes_FromStringAndSize(std::ptr::null(), size);
            } else {
                _PyBytes_Resize(&raw mut object, size);
            }
            if object.is_null() {
                out_of_memory(capacity);
            }
            let start = ffi::PyBytes_AsString(object).cast::<u8>();
            if let Some(new) = capacity.checked_sub(self.capacity) {
                start.add(self.capacity).write_bytes(0, new);
            }
            Some(Bound::from_owned_ptr(py, object).cast_into_unchecked().unbind())
        };
        self.capacity = capacity;
    }
}

impl MessageBuffer for BytesBuffer {
    fn len(&self) -> usize {
        self.len
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn room(&mut self, at_least: usize, expected: usize) -> &mut [u8] {
        if self.capacity < self.len + at_least {
            let capacity = capacity_for(self.len + at_least, expected);
            Python::attach(|py| self.resize(py, capacity));
        }
        let end = self.capacity.min(expected.max(self.len + at_least));
        let Some(bytes) = &self.bytes else { return &mut [] };
        // SAFETY: the object is ours alone (see `resize`), so nobody else reads or writes these
        // initialised bytes, and they live as long as `self` is borrowed. `len <= end <= capacity`.
        // `PyBytes_AsString` only looks at the object's type, so the GIL is not needed.
        unsafe {
            let start = ffi::PyBytes_AsString(bytes.as_ptr()).cast::<u8>();
            std::slice::from_raw_parts_mut(start.add(self.len), end - self.len)
        }
    }

    fn advance(&mut self, count: usize) {
        self.len += count;
    }
}

fn out_of_memory(capacity: usize) -> ! {
    handle_alloc_error(Layout::array::<u8>(capacity).unwrap_or(Layout::new::<u8>()))
}
