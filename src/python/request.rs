//! An opening handshake as Python sees it.

use pyo3::prelude::*;

use crate::engine::Address;
use crate::protocol;

/// What a client asked for. See the stub for its contract.
#[pyclass(frozen, module = "rakit_ws")]
#[allow(clippy::struct_field_names)] // It is what Python is shown of it.
pub struct Request {
    request: protocol::Request,
    peer: Address,
    proxy: Option<Address>,
    is_secure: bool,
}

impl Request {
    /// The request of this peer, which came through this proxy.
    pub fn new(
        request: protocol::Request,
        peer: Address,
        proxy: Option<Address>,
        is_secure: bool,
    ) -> Self {
        Self { request, peer, proxy, is_secure }
    }
}

#[pymethods]
impl Request {
    #[getter]
    fn target(&self) -> String {
        latin1(self.request.target())
    }

    #[getter]
    fn path(&self) -> String {
        latin1(self.request.path())
    }

    #[getter]
    fn headers(&self) -> Vec<(String, String)> {
        let lines = self.request.headers();
        lines.map(|(name, value)| (latin1(name).to_ascii_lowercase(), latin1(value))).collect()
    }

    fn header(&self, name: &str) -> Option<String> {
        let values: Vec<String> = self.request.values(name).map(latin1).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    #[getter]
    fn subprotocols(&self) -> Vec<String> {
        self.request.list("sec-websocket-protocol").map(latin1).collect()
    }

    #[getter]
    fn extensions(&self) -> Vec<String> {
        self.request.offered_extensions().map(str::to_owned).collect()
    }

    #[getter]
    fn agreed_extensions(&self) -> Vec<String> {
        self.request.agreement().iter().map(ToString::to_string).collect()
    }

    #[getter]
    fn peer(&self) -> String {
        self.peer.to_string()
    }

    #[getter]
    fn proxy(&self) -> Option<String> {
        self.proxy.as_ref().map(ToString::to_string)
    }

    #[getter]
    fn is_secure(&self) -> bool {
        self.is_secure
    }

    fn __repr__(&self) -> String {
        format!("<Request {} from {}>", self.target(), self.peer)
    }
}

/// Header bytes as text. RFC 9110 §5.5 gives bytes over 127 no meaning; ISO 8859-1 loses none.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}
