//! JSON, before Python reads it.

use pyo3::prelude::*;

use crate::json;

/// Whether arrays and objects are nested too deep. See the stub for its contract.
#[pyfunction]
#[pyo3(signature = (text, max_depth, /))]
pub fn is_deeper(text: &[u8], max_depth: usize) -> bool {
    json::is_deeper(text, max_depth)
}
