//! The client's connections: plain, or TLS by rustls.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use connectrpc::client::{ClientBody, ServiceTransport};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::{ClientConfig, RootCertStore};

/// How long one address of a host may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// The connections of one client.
pub(super) type Transport = ServiceTransport<Client<HttpsConnector<HttpConnector>, ClientBody>>;

/// Why a client can trust nobody.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file with certificate authorities cannot be used.
    #[error("cannot use the certificate authorities in {}: {problem}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The system has no certificate authorities.
    #[error(
        "this system lists no certificate authorities{}; name a file with --ca-file or \
         NAVARCH_CA_FILE",
        .0.as_ref().map(|why| format!(" ({why})")).unwrap_or_default()
    )]
    System(Option<String>),
}

/// What connects, plain or by TLS.
pub type Connector = HttpsConnector<HttpConnector>;

/// Makes the connections for an address. With TLS, the certificates of `authorities` are trusted,
/// and nothing else; without that file, those of the system.
pub(super) fn transport(tls: bool, authorities: Option<&Path>) -> Result<Transport, TrustError> {
    let client = Client::builder(TokioExecutor::new()).build(connector(tls, authorities)?);
    Ok(ServiceTransport::new(client))
}

/// Makes what connects. With TLS, the certificates of `authorities` are trusted, and nothing else;
/// without that file, those of the system.
///
/// # Errors
///
/// See [`TrustError`].
pub fn connector(tls: bool, authorities: Option<&Path>) -> Result<Connector, TrustError> {
    // An address without TLS needs no trust, and loading the system's costs time and memory.
    let roots = match (tls, authorities) {
        (false, _) => RootCertStore::empty(),
        (true, Some(path)) => from_file(path)?,
        (true, None) => from_system()?,
    };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions of TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT));
    http.enforce_http(false);
    Ok(HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http))
}

fn from_file(path: &Path) -> Result<RootCertStore, TrustError> {
    let failed = |problem: String| TrustError::File {
        path: path.to_owned(),
        problem,
    };
    let read = |error: pem::Error| match error {
        pem::Error::Io(error) => failed(error.to_string()),
        error => failed(format!("it is not PEM: {error}")),
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(read)? {
        let certificate = certificate.map_err(read)?;
        roots
            .add(certificate)
            .map_err(|error| failed(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(failed("it has no certificate".to_owned()));
    }
    Ok(roots)
}

fn from_system() -> Result<RootCertStore, TrustError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // One bad certificate among the system's must not cost the others.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(ToString::to_string);
        return Err(TrustError::System(why));
    }
    Ok(roots)
}

/// What is wrong with the TLS of a connection, if that is what an error says.
pub(super) fn tls_problem(error: &(dyn std::error::Error + 'static)) -> Option<rustls::Error> {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(error.clone());
    }
    // An `io::Error` is not the source of what it holds, and may hold another one.
    tls_problem(error.downcast_ref::<io::Error>()?.get_ref()?)
}
