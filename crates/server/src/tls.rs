//! TLS: the certificate that is shown to callers, read again when its files change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use navarch_config::TlsConfig;
use navarch_model::Time;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

/// Why a certificate cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error("cannot use {}: {problem}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The files do not belong together.
    #[error("the key in {} is not that of the certificate in {}: {problem}", .key.display(), .cert.display())]
    Mismatch {
        /// The file with the certificate.
        cert: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// What the library says.
        problem: String,
    },
}

/// The server's certificate.
pub struct Certificate {
    files: TlsConfig,
    provider: Arc<CryptoProvider>,
    shown: RwLock<Shown>,
}

/// A certificate with its key, and when the first of its chain expires, if that can be read.
struct Shown {
    key: Arc<CertifiedKey>,
    expires: Option<i64>,
}

impl Shown {
    fn new(key: CertifiedKey) -> Self {
        let expires = key.cert.iter().filter_map(|der| expiry(der)).min();
        if expires.is_none() {
            tracing::warn!("it cannot be read when the certificate expires");
        }
        Self {
            key: Arc::new(key),
            expires,
        }
    }
}

/// When a certificate expires, in Unix seconds.
fn expiry(der: &[u8]) -> Option<i64> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Certificate").field(&self.files).finish()
    }
}

impl Certificate {
    /// Reads the certificate and its key.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or they do not belong together.
    pub fn open(files: TlsConfig) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let shown = read(&files, &provider)?;
        Ok(Arc::new(Self {
            files,
            provider,
            shown: RwLock::new(Shown::new(shown)),
        }))
    }

    /// Reads both files again, and answers whether the certificate changed. Connections that are
    /// open keep the one that they were shown.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); the old certificate then stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let new = read(&self.files, &self.provider)?;
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        let changed = shown.key.cert != new.cert;
        *shown = Shown::new(new);
        Ok(changed)
    }

    /// Seconds until the first certificate of the chain expires, negative if it has.
    pub(crate) fn left(&self, wall: Time) -> Option<i64> {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        let now = wall.0.div_euclid(1_000_000);
        Some(shown.expires?.saturating_sub(now))
    }

    /// The file with the chain.
    pub(crate) fn file(&self) -> &Path {
        &self.files.cert_file
    }

    /// What makes TLS of accepted connections.
    pub fn acceptor(self: &Arc<Self>) -> TlsAcceptor {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions of TLS")
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Self>::clone(self));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&shown.key))
    }
}

fn read(files: &TlsConfig, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let (cert_file, key_file) = (&files.cert_file, &files.key_file);
    let chain = CertificateDer::pem_file_iter(cert_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(cert_file, error, "certificate"))?;
    if chain.is_empty() {
        return Err(unusable(cert_file, pem::Error::NoItemsFound, "certificate"));
    }
    let key = PrivateKeyDer::from_pem_file(key_file)
        .map_err(|error| unusable(key_file, error, "private key"))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| TlsError::Mismatch {
        cert: cert_file.clone(),
        key: key_file.clone(),
        problem: error.to_string(),
    })
}

fn unusable(path: &Path, error: pem::Error, wanted: &str) -> TlsError {
    let problem = match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => format!("it has no {wanted} in PEM"),
        // The library's own words have lines of the file, which may be the key.
        pem::Error::MissingSectionEnd { .. } => "it is not PEM: an END line is missing".to_owned(),
        pem::Error::IllegalSectionStart { .. } => {
            "it is not PEM: a BEGIN line is not whole".to_owned()
        }
        pem::Error::Base64Decode(_) => "it is not PEM: its text is no base64".to_owned(),
        pem::Error::SectionTooLarge => "it is not PEM: it is too large".to_owned(),
        _ => "it is not PEM".to_owned(),
    };
    TlsError::File {
        path: path.to_owned(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    const YEAR: i64 = 365 * 24 * 3600;
    /// The first moment of 2025 in Unix seconds.
    const NEW_YEAR_2025: i64 = 1_735_689_600;

    /// Writes a certificate that is good until the first day of each year, in one chain.
    fn issue(files: &TlsConfig, years: &[i32]) {
        let key = KeyPair::generate().unwrap();
        let chain = years.iter().map(|year| {
            let mut params = CertificateParams::new(vec!["fleet.example".to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(*year, 1, 1);
            params.self_signed(&key).unwrap().pem()
        });
        std::fs::write(&files.cert_file, chain.collect::<String>()).unwrap();
        std::fs::write(&files.key_file, key.serialize_pem()).unwrap();
    }

    #[test]
    fn the_first_of_the_chain_to_expire_counts_and_a_new_one_from_its_reload() {
        let home = tempfile::tempdir().unwrap();
        let files = files_in(home.path());
        issue(&files, &[2027, 2026, 2080]);
        let certificate = Certificate::open(files.clone()).unwrap();
        let at = |seconds: i64| Time(seconds * 1_000_000);
        assert_eq!(certificate.left(at(NEW_YEAR_2025)), Some(YEAR));
        assert_eq!(certificate.left(at(NEW_YEAR_2025 + YEAR + 7)), Some(-7));
        issue(&files, &[2027]);
        assert_eq!(certificate.left(at(NEW_YEAR_2025)), Some(YEAR));
        assert!(certificate.reload().unwrap());
        assert_eq!(certificate.left(at(NEW_YEAR_2025)), Some(2 * YEAR));
    }

    /// The files of a certificate.
    static ISSUED: LazyLock<[String; 2]> = LazyLock::new(|| {
        let home = tempfile::tempdir().unwrap();
        let files = files_in(home.path());
        issue(&files, &[2027, 2030]);
        [&files.cert_file, &files.key_file].map(|file| std::fs::read_to_string(file).unwrap())
    });

    fn files_in(home: &Path) -> TlsConfig {
        TlsConfig {
            cert_file: home.join("cert"),
            key_file: home.join("key"),
            ca_file: None,
        }
    }

    /// Any bytes, or a file of [`ISSUED`] with a piece cut out and another put in.
    fn damaged(which: usize) -> impl Strategy<Value = Vec<u8>> {
        let piece = (
            any::<prop::sample::Index>(),
            0..80_usize,
            vec(any::<u8>(), 0..40),
        );
        let pieces = piece.prop_map(move |(at, cut, put)| {
            let mut bytes = ISSUED[which].clone().into_bytes();
            let at = at.index(bytes.len());
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, put);
            bytes
        });
        prop_oneof![
            1 => vec(any::<u8>(), 0..600),
            1 => Just(ISSUED[which].clone().into_bytes()),
            // All of it on the line that should only begin it.
            1 => Just(ISSUED[which].replace('\n', "").into_bytes()),
            4 => pieces,
        ]
    }

    proptest! {
        /// What is refused is told in few words that have nothing of the key, and the certificate
        /// before goes on to be shown.
        #[test]
        fn any_bytes_are_a_certificate_or_refused(cert in damaged(0), key in damaged(1)) {
            let home = tempfile::tempdir().unwrap();
            let files = files_in(home.path());
            std::fs::write(&files.cert_file, &ISSUED[0]).unwrap();
            std::fs::write(&files.key_file, &ISSUED[1]).unwrap();
            let certificate = Certificate::open(files.clone()).unwrap();
            let left = certificate.left(Time(0));
            std::fs::write(&files.cert_file, &cert).unwrap();
            std::fs::write(&files.key_file, &key).unwrap();
            if let Err(error) = certificate.reload() {
                let told = error.to_string();
                prop_assert!(told.len() < 400 && !told.contains(char::is_control), "{}", told);
                prop_assert_eq!(certificate.left(Time(0)), left);
            }
        }
    }

    #[test]
    fn bytes_that_are_no_certificate_have_no_expiry() {
        let mut bytes = Vec::new();
        for length in 0..300_u32 {
            assert_eq!(expiry(&bytes), None);
            bytes.push(length.wrapping_mul(0x9e37_79b9).to_be_bytes()[0]);
        }
        let key = KeyPair::generate().unwrap();
        let whole = CertificateParams::default().self_signed(&key).unwrap();
        assert!(expiry(whole.der()).is_some());
        for cut in 0..whole.der().len() {
            assert_eq!(expiry(&whole.der()[..cut]), None, "{cut}");
        }
    }
}
