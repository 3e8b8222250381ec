//! Faults of the caller, as the exceptions that `rakit_ws.errors` declares.

use pyo3::prelude::*;

use crate::engine::{ListenError, TlsError};
use crate::protocol::handshake::InvalidHeader;

pyo3::import_exception!(rakit_ws.errors, UsageError);

mod declared {
    pyo3::import_exception!(rakit_ws.errors, ConfigError);
    pyo3::import_exception!(rakit_ws.errors, ListenError);
}

impl From<ListenError> for PyErr {
    fn from(error: ListenError) -> Self {
        declared::ListenError::new_err(error.to_string())
    }
}

impl From<TlsError> for PyErr {
    fn from(error: TlsError) -> Self {
        declared::ConfigError::new_err(error.to_string())
    }
}

impl From<InvalidHeader> for PyErr {
    fn from(error: InvalidHeader) -> Self {
        UsageError::new_err(error.to_string())
    }
}
