//! Whom a sink's connection trusts, and who we say we are.

use super::settings::{SecretError, SecretSource, TlsFiles};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// A file with certificates or a key may be at most this many bytes.
const MAX_PEM_BYTES: u64 = 1024 * 1024;
/// The longest bearer token.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("{path}: not {expected} in PEM", path = path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// TLS cannot be set up with what there is.
    #[error("tls: {0}")]
    Tls(String),
}

/// A bounded file.
pub fn read_pem(path: &Path) -> Result<Zeroizing<Vec<u8>>, TrustError> {
    let failed = |source| TrustError::File {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)
        .and_then(|file| file.take(MAX_PEM_BYTES).read_to_end(&mut bytes))
        .map_err(failed)?;
    Ok(bytes)
}

/// TLS as a client, with these files.
pub fn client_config(files: &TlsFiles) -> Result<rustls::ClientConfig, TrustError> {
    let mut roots = rustls::RootCertStore::empty();
    match &files.ca_file {
        Some(path) => {
            let not_certificates = || TrustError::Pem {
                path: path.clone(),
                expected: "certificates",
            };
            for certificate in certificates(path, &read_pem(path)?)? {
                roots.add(certificate).map_err(|_| not_certificates())?;
            }
        }
        None => {
            // What the system has and cannot be read is not trusted; with none left every handshake fails and says so.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TrustError::Tls(error.to_string()))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = &files.client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(certificate, &read_pem(certificate)?)?;
    let key = PrivateKeyDer::from_pem_slice(&read_pem(key)?).map_err(|_| TrustError::Pem {
        path: key.clone(),
        expected: "a private key",
    })?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| TrustError::Tls(error.to_string()))
}

/// Reads a bearer token: RFC 6750 §2.1's characters, so that it fits any header.
pub fn bearer(source: &SecretSource) -> Result<Zeroizing<String>, SecretError> {
    let token = source.read()?;
    let is_fit = token.len() <= MAX_TOKEN_BYTES && token.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_fit {
        return Err(source.unfit("a bearer token of visible ASCII characters"));
    }
    Ok(Zeroizing::new(format!("Bearer {}", *token)))
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .unwrap_or_default();
    if found.is_empty() {
        return Err(TrustError::Pem {
            path: path.to_owned(),
            expected: "certificates",
        });
    }
    Ok(found)
}
