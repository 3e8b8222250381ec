//! The border between Python and the engine, the module `rakit_ws._core`.
//!
//! Every function here converts, calls and converts back. `python/rakit_ws/_core.pyi` says what
//! each means; a test holds the two together.

mod arguments;
mod buffer;
mod client;
mod clients;
mod engine;
mod errors;
mod flushes;
mod frames;
mod json;
mod known_text;
mod request;
mod rows;
mod settings;
mod sharded;
mod splicing;
mod tls;

use pyo3::prelude::*;

/// The native module.
#[pymodule(gil_used = true)]
mod _core {
    use super::{Bound, PyModule, PyModuleMethods, PyResult};

    #[pymodule_export]
    use super::client::{ClientBase, Receiver};
    #[pymodule_export]
    use super::clients::ClientTable;
    #[pymodule_export]
    use super::engine::Engine;
    #[pymodule_export]
    use super::frames::{
        Close, Failed, FrameDecoder, Message, Ping, Pong, apply_mask, encode_frame,
    };
    #[pymodule_export]
    use super::json::is_deeper;
    #[pymodule_export]
    use super::request::Request;
    #[pymodule_export]
    use super::sharded::ShardedEngine;
    #[pymodule_export]
    use super::tls::TlsIdentity;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("MOST_SHARDS", crate::engine::MOST_SHARDS)?;
        super::rows::KINDS.iter().try_for_each(|(name, kind)| module.add(*name, *kind))
    }
}
