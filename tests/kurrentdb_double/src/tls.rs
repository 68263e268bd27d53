//! Certificates for a cluster, made when it starts, in a folder that goes with it.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::connection::{Connection, Handle};

/// A certificate authority, a certificate for `127.0.0.1` and `localhost`, and one for a user.
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    folder: TempDir,
}

impl Tls {
    pub(crate) fn generate() -> anyhow::Result<Tls> {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority
            .distinguished_name
            .push(DnType::CommonName, "KurrentDB double");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

        let node_key = KeyPair::generate()?;
        let node = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()])?
            .signed_by(&node_key, &authority)?;

        let user_key = KeyPair::generate()?;
        let mut user = CertificateParams::default();
        // KurrentDB takes the user's name from here.
        user.distinguished_name.push(DnType::CommonName, "grantlog");
        let user = user.signed_by(&user_key, &authority)?;

        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join(AUTHORITY), authority.pem())?;
        std::fs::write(folder.path().join(USER_CERTIFICATE), user.pem())?;
        std::fs::write(folder.path().join(USER_KEY), user_key.serialize_pem())?;

        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![node.der().clone()],
                PrivateKeyDer::from_pem_slice(node_key.serialize_pem().as_bytes())?,
            )?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Tls {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            folder,
        })
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join(AUTHORITY)
    }

    pub(crate) fn user_certificate(&self) -> PathBuf {
        self.folder.path().join(USER_CERTIFICATE)
    }

    pub(crate) fn user_key(&self) -> PathBuf {
        self.folder.path().join(USER_KEY)
    }
}

const AUTHORITY: &str = "ca.pem";
const USER_CERTIFICATE: &str = "user.pem";
const USER_KEY: &str = "user.key";

/// As a query parameter of a connection string.
pub(crate) fn as_parameter(path: &Path) -> String {
    path.display()
        .to_string()
        .replace('%', "%25")
        .replace('&', "%26")
        .replace('+', "%2B")
        .replace(' ', "%20")
}

/// What is served: a connection, with TLS around it or without.
pub(crate) enum Stream {
    Plain(Connection),
    Tls(Box<TlsStream<Connection>>),
}

/// What a call knows of its connection.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) handle: Arc<Handle>,
    /// Whether it showed a certificate of the authority: that is a user's.
    pub(crate) has_certificate: bool,
}

impl Connected for Stream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        match self {
            Stream::Plain(connection) => Peer {
                handle: connection.handle(),
                has_certificate: false,
            },
            Stream::Tls(stream) => {
                let (connection, session) = stream.get_ref();
                Peer {
                    handle: connection.handle(),
                    has_certificate: session.peer_certificates().is_some(),
                }
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(inner) => Pin::new(inner).poll_read(context, buffer),
            Stream::Tls(inner) => Pin::new(inner).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(inner) => Pin::new(inner).poll_write(context, bytes),
            Stream::Tls(inner) => Pin::new(inner).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(inner) => Pin::new(inner).poll_flush(context),
            Stream::Tls(inner) => Pin::new(inner).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(inner) => Pin::new(inner).poll_shutdown(context),
            Stream::Tls(inner) => Pin::new(inner).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(inner) => Pin::new(inner).poll_write_vectored(context, slices),
            Stream::Tls(inner) => Pin::new(inner).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(inner) => inner.is_write_vectored(),
            Stream::Tls(inner) => inner.is_write_vectored(),
        }
    }
}
