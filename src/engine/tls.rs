//! What TLS begins with: a certificate chain and its key, checked before anybody is served.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::{InconsistentKeys, ServerConfig};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

/// The one protocol spoken inside of TLS (RFC 7301 §6).
const ALPN: &[u8] = b"http/1.1";

/// Tickets for each connection: a client of ours comes back with one connection, not with several
/// at a time as for the parts of a page.
const TICKETS: usize = 1;

/// What TLS connections are made with: TLS 1.2 and 1.3, one certificate.
///
/// Resumption is by encrypted tickets (RFC 8446 §4.6.1), whose key is this value's own and changes
/// every six hours: nothing is kept for a client that is gone. There is no early data, which could
/// be replayed.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    pub(super) config: Arc<ServerConfig>,
    not_after: i64,
}

impl TlsSettings {
    /// Read a chain, the server's own certificate first, and its key, both PEM.
    ///
    /// `now`, in seconds of Unix time, must be within what the first certificate says. What the
    /// others say is their issuers' business: an expired cross-signature is no fault.
    pub fn load(certificate: &Path, key: &Path, now: i64) -> Result<Self, TlsError> {
        let of_certificate =
            |problem| TlsError { file: TlsFile::Certificate, path: certificate.into(), problem };
        let of_key = |problem| TlsError { file: TlsFile::Key, path: key.into(), problem };
        let chain = read_chain(certificate).map_err(of_certificate)?;
        let not_after = check_validity(&chain, now).map_err(of_certificate)?;
        let private = read_key(key).map_err(of_key)?;
        let config = configure(chain, private).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                of_key(TlsProblem::Mismatch { certificate: certificate.into() })
            }
            rustls::Error::InvalidCertificate(error) => {
                of_certificate(TlsProblem::InvalidCertificate(format!("{error:?}")))
            }
            error => of_key(TlsProblem::UnusableKey(error.to_string())),
        })?;
        Ok(Self { config: Arc::new(config), not_after })
    }

    /// The last second, in Unix time, at which the certificate is valid.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }
}

/// Which file is at fault; shown as the option that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFile {
    /// The chain.
    Certificate,
    /// The private key.
    Key,
}

impl fmt::Display for TlsFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Certificate => "tls.certificate",
            Self::Key => "tls.key",
        })
    }
}

/// Why TLS cannot be spoken with these files.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {}: {problem}", .path.display())]
pub struct TlsError {
    /// The file at fault.
    pub file: TlsFile,
    /// Where that is.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: TlsProblem,
}

/// What can be wrong with a certificate or a key.
#[derive(Debug, thiserror::Error)]
pub enum TlsProblem {
    /// It is not there, or not for us to read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// It breaks off, or what stands between its markers is no base64.
    #[error("not PEM: {0}")]
    NotPem(pem::Error),
    /// No `BEGIN CERTIFICATE`.
    #[error("no certificate in it (PEM, \"BEGIN CERTIFICATE\")")]
    NoCertificate,
    /// No `BEGIN PRIVATE KEY` of any kind.
    #[error("no private key in it (PEM, \"BEGIN PRIVATE KEY\")")]
    NoKey,
    /// It needs a passphrase.
    #[error("the key is encrypted; `openssl pkey -in … -out …` writes it without a passphrase")]
    EncryptedKey,
    /// No X.509, or one that TLS does not take.
    #[error("not a certificate that can be used: {0}")]
    InvalidCertificate(String),
    /// A kind of key, or a size, that TLS does not take.
    #[error("not a key that can be used: {0}")]
    UnusableKey(String),
    /// A pair that is none.
    #[error("not the key of {}", .certificate.display())]
    Mismatch {
        /// The other file.
        certificate: PathBuf,
    },
    /// Its time is over.
    #[error("the certificate has expired on {0}")]
    Expired(String),
    /// Its time has not come; or this machine's clock is wrong.
    #[error("the certificate is not valid before {0}; is the clock right?")]
    NotYetValid(String),
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsProblem> {
    let pem = std::fs::read(path).map_err(TlsProblem::Unreadable)?;
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    match chain.map_err(TlsProblem::NotPem)? {
        chain if chain.is_empty() => Err(TlsProblem::NoCertificate),
        chain => Ok(chain),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsProblem> {
    let pem = std::fs::read(path).map_err(TlsProblem::Unreadable)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        // PKCS #8's label says so, and the older kinds a header (RFC 1421 §4.6.1.1).
        _ if pem.windows(9).any(|word| word == b"ENCRYPTED") => TlsProblem::EncryptedKey,
        pem::Error::NoItemsFound => TlsProblem::NoKey,
        error => TlsProblem::NotPem(error),
    })
}

/// The end of the first certificate's time, if `now` is within it.
fn check_validity(chain: &[CertificateDer<'_>], now: i64) -> Result<i64, TlsProblem> {
    let first = chain.first().ok_or(TlsProblem::NoCertificate)?;
    let (_, certificate) = X509Certificate::from_der(first)
        .map_err(|error| TlsProblem::InvalidCertificate(error.to_string()))?;
    let validity = certificate.validity();
    if now < validity.not_before.timestamp() {
        return Err(TlsProblem::NotYetValid(date(validity.not_before)));
    }
    if now > validity.not_after.timestamp() {
        return Err(TlsProblem::Expired(date(validity.not_after)));
    }
    Ok(validity.not_after.timestamp())
}

fn date(time: ASN1Time) -> String {
    time.to_datetime().date().to_string()
}

fn configure(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    // `ring` rather than `aws-lc-rs`: it needs a C compiler and nothing else to be built, and it
    // has assembly for the same ciphers.
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = ring::Ticketer::new()?;
    config.send_tls13_tickets = TICKETS;
    Ok(config)
}
