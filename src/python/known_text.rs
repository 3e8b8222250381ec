//! Text that need not be validated again.

use std::cell::Cell;
use std::ptr;

use pyo3::prelude::*;

thread_local! {
    static BEING_HANDLED: Cell<*const ()> = const { Cell::new(ptr::null()) };
}

/// A text message that this thread is handling. It was validated on its way in, so that one that is
/// passed on as it came is not validated twice (benches/load.py, echo of 64 B text: 6 % of the
/// server's time). Ends with the value, which borrows the message: nothing else has its address.
pub struct KnownText<'a, 'py>(#[allow(dead_code)] &'a Bound<'py, PyAny>);

impl<'a, 'py> KnownText<'a, 'py> {
    pub fn new(message: &'a Bound<'py, PyAny>) -> Self {
        BEING_HANDLED.set(message.as_ptr().cast());
        Self(message)
    }
}

impl Drop for KnownText<'_, '_> {
    fn drop(&mut self) {
        BEING_HANDLED.set(ptr::null());
    }
}

/// Whether this is the text that is being handled.
pub fn is_known(payload: &Bound<'_, PyAny>) -> bool {
    BEING_HANDLED.get() == payload.as_ptr().cast()
}
