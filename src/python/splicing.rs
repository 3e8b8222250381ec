//! Publications of clients, put together where they are sent.

use std::mem::MaybeUninit;

use pyo3::PyClass;
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

    /// Say what a topic's messages begin with, as long as it has a subscriber.
    fn open_topic(&mut self, topic: &str, opening: &[u8]);

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
        engine.try_borrow_mut()?.open_topic(topic, opening.cast::<PyBytes>()?.as_bytes());
        publish()?.unwrap_or_default()
    };
    engine.try_borrow_mut()?.request_flush(py)?;
    Ok(count)
}

/// Call `use_them` with the bytes of a bytes-like object, which are not copied. It must not run code
/// of Python, which might change them.
fn with_buffer<T>(data: &Bound<'_, PyAny>, use_them: impl FnOnce(&[u8]) -> T) -> PyResult<T> {
    let mut view = MaybeUninit::<ffi::Py_buffer>::uninit();
    // SAFETY: the GIL is held (`data`). Where `PyObject_GetBuffer` returns 0 it has filled the view
    // with `len` contiguous bytes, which live until the view is released, behind the last use of
    // the slice; they may be changed by nobody but code of Python, which does not run meanwhile.
    // The pointer of an empty buffer may be null: then there is no slice of it.
    unsafe {
        if ffi::PyObject_GetBuffer(data.as_ptr(), view.as_mut_ptr(), ffi::PyBUF_SIMPLE) != 0 {
            return Err(PyErr::fetch(data.py()));
        }
        let mut view = view.assume_init();
        let len = usize::try_from(view.len).unwrap_or_default();
        let bytes = if len == 0 {
            &[]
        } else {
            std::slice::from_raw_parts(view.buf.cast::<u8>().cast_const(), len)
        };
        let result = use_them(bytes);
        ffi::PyBuffer_Release(&raw mut view);
        Ok(result)
    }
}
