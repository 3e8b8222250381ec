//! Publications of clients, put together where they are sent.

use pyo3::PyClass;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::False;
use pyo3::types::PyBytes;

use crate::engine::Handle;

use super::client::ClientBase;

/// An engine that knows what messages in a topic begin with.
pub trait Splices {
    /// Queue what a topic's messages begin with and these parts behind it; `None` where that is
    /// not known, or nobody hears the topic.
    fn publish_spliced(&mut self, sender: Handle, topic: &str, parts: [&[u8]; 2]) -> Option<usize>;

    /// Say what a topic's messages begin with, as long as it has a subscriber. False where it has
    /// none.
    fn open_topic(&mut self, topic: &str, opening: &[u8]) -> bool;

    /// Outside a batch, tell the caller once that something waits to be flushed.
    fn request_flush(&mut self, py: Python<'_>) -> PyResult<()>;
}

/// The `publish_from` of an engine; see the stub for its contract.
pub fn publish_from<E: Splices + PyClass<Frozen = False>>(
    engine: &Bound<'_, E>,
    client: &Bound<'_, ClientBase>,
    topic: &str,
    data: &Bound<'_, PyAny>,
    openings: &Bound<'_, PyAny>,
) -> PyResult<usize> {
    let py = engine.py();
    let (sender, end) = client.try_borrow()?.voice(py);
    let publish = || -> PyResult<Option<usize>> {
        with_buffer(data, |data| {
            let mut engine = engine.try_borrow_mut()?;
            Ok(engine.publish_spliced(sender, topic, [data, end.as_bytes(py)]))
        })?
    };
    let count = if let Some(count) = publish()? {
        count
    } else {
        // The engine is not borrowed meanwhile: that may run any code.
        let opening = openings.get_item(topic)?;
        let opening = opening.cast::<PyBytes>()?.as_bytes();
        let is_heard = engine.try_borrow_mut()?.open_topic(topic, opening);
        if is_heard { publish()?.unwrap_or_default() } else { 0 }
    };
    engine.try_borrow_mut()?.request_flush(py)?;
    Ok(count)
}

/// A view of the bytes of an object, which is released when it is dropped.
struct View(ffi::Py_buffer);

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: the GIL is held, as it was where `with_buffer` filled the view, which ends there.
        unsafe { ffi::PyBuffer_Release(&raw mut self.0) };
    }
}

/// Call `use_them` with the bytes of a read-only bytes-like object, which are not copied.
///
/// `PyBuffer` would take memory of its own for each message, and copy what it holds.
fn with_buffer<T>(data: &Bound<'_, PyAny>, use_them: impl FnOnce(&[u8]) -> T) -> PyResult<T> {
    let mut view = View(ffi::Py_buffer::new());
    // SAFETY: the GIL is held (`data`). The view is filled where it stays until it is released; one
    // that was not filled holds no object, and releasing it does nothing.
    let failed =
        unsafe { ffi::PyObject_GetBuffer(data.as_ptr(), &raw mut view.0, ffi::PyBUF_SIMPLE) != 0 };
    if failed {
        return Err(PyErr::fetch(data.py()));
    }
    if view.0.readonly == 0 {
        return Err(PyTypeError::new_err("what others may change can't be published"));
    }
    let len = usize::try_from(view.0.len)?;
    // The pointer of an empty buffer may be null.
    let bytes = if len == 0 {
        &[]
    } else {
        // SAFETY: a view that was filled for PyBUF_SIMPLE has `len` contiguous bytes, which live
        // until it is released, behind the last use of the slice. It is read-only, so that they
        // don't change meanwhile.
        unsafe { std::slice::from_raw_parts(view.0.buf.cast::<u8>().cast_const(), len) }
    };
    Ok(use_them(bytes))
}
