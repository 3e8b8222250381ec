//! A certificate and its key as Python holds them.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use pyo3::prelude::*;

use crate::engine::TlsSettings;

/// What a server proves who it is with. See the stub for its contract.
#[pyclass(frozen, module = "rakit_ws._core")]
pub struct TlsIdentity {
    settings: TlsSettings,
}

impl TlsIdentity {
    /// For the engine; shared.
    pub fn settings(&self) -> TlsSettings {
        self.settings.clone()
    }
}

#[pymethods]
impl TlsIdentity {
    #[new]
    #[allow(clippy::needless_pass_by_value)] // What PyO3 extracts is owned.
    fn new(certificate: PathBuf, key: PathBuf) -> PyResult<Self> {
        Ok(Self { settings: TlsSettings::load(&certificate, &key, unix_time())? })
    }

    #[getter]
    fn not_after(&self) -> i64 {
        self.settings.not_after()
    }
}

/// Seconds since 1970; a clock that stands before that is as good as at 1970.
fn unix_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
