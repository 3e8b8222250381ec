//! What Python says to an engine, checked.

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyInt};

use crate::engine::{Handle, Millis, Outgoing, SHARE_FROM_BYTES};
use crate::protocol::handshake::HeaderLine;
use crate::protocol::{CloseCode, Opcode, utf8};

use super::errors::UsageError;
use super::known_text::is_known;
use super::rows::{BINARY, TEXT};

/// The opcode of a message; text, if there is none.
fn data_opcode(opcode: Option<&Bound<'_, PyInt>>) -> PyResult<Opcode> {
    let Some(opcode) = opcode else { return Ok(Opcode::Text) };
    match opcode.extract() {
        Ok(TEXT) => Ok(Opcode::Text),
        Ok(BINARY) => Ok(Opcode::Binary),
        _ => Err(UsageError::new_err(format!("opcode must be 1 or 2, not {opcode}"))),
    }
}

/// A message for one client: small ones to be copied, others shared with Python.
pub fn message<'a>(
    payload: &'a Bound<'_, PyBytes>,
    opcode: Option<&Bound<'_, PyInt>>,
) -> PyResult<(Opcode, Outgoing<'a>)> {
    let opcode = data_opcode(opcode)?;
    let bytes = payload.as_bytes();
    if opcode == Opcode::Text && !is_known(payload) && !utf8::is_valid(bytes) {
        return Err(UsageError::new_err("a text message must be UTF-8"));
    }
    if bytes.len() < SHARE_FROM_BYTES {
        return Ok((opcode, Outgoing::Copy(bytes)));
    }
    let shared = Bytes::from_owner(PyBackedBytes::from(payload.clone()));
    Ok((opcode, Outgoing::Share(shared)))
}

/// A code that may be in a Close frame.
pub fn close_code(code: &Bound<'_, PyInt>) -> PyResult<CloseCode> {
    let wrong = || UsageError::new_err(format!("{code} must not be in a Close frame"));
    code.extract().ok().and_then(CloseCode::on_wire).ok_or_else(wrong)
}

/// The status of a refused handshake.
pub fn refusal_status(status: &Bound<'_, PyInt>) -> PyResult<u16> {
    let wrong = || UsageError::new_err(format!("status must be 400 to 599, not {status}"));
    status.extract().ok().filter(|status| (400..600).contains(status)).ok_or_else(wrong)
}

/// Header lines that may be sent.
pub fn header_lines(headers: Option<&[(String, String)]>) -> PyResult<Vec<HeaderLine>> {
    headers
        .unwrap_or_default()
        .iter()
        .map(|(name, value)| Ok(HeaderLine::new(name, value)?))
        .collect()
}

/// A time for Python.
#[allow(clippy::cast_precision_loss)] // Exact up to 285,000 years.
pub fn seconds(millis: Millis) -> f64 {
    millis as f64 / 1000.0
}

impl<'a, 'py> FromPyObject<'a, 'py> for Handle {
    type Error = PyErr;

    fn extract(number: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        // Python hands signed numbers over in a fifth of the time, and nearly all handles fit.
        let signed: Result<i64, _> = number.extract();
        match signed.map(u64::try_from) {
            Ok(Ok(bits)) => Ok(Self::from_bits(bits)),
            _ => number.extract().map(Self::from_bits),
        }
    }
}
