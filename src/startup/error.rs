//! Why the server did not start, or stopped.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Why the server did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A file or folder.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another server holds the data folder.
    #[error("the data folder is in use: another server holds {lock_file}; stop it, or choose another with --data-dir")]
    FolderInUse {
        /// The file that it holds locked.
        lock_file: PathBuf,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another with --listen (port 0 takes a free one)")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// TLS.
    #[error("tls: {0}")]
    Tls(String),
    /// The issuer's path is one of the server's own.
    #[error("server.issuer: the path {0} is one of the server's own; use another, such as /id")]
    IssuerPath(String),
    /// A route would hide the server's own paths, or they it.
    #[error("gateway.prefix: {0} is one of the server's own paths, or around or below one; use another, such as /api")]
    GatewayPrefix(String),
    /// A part of the server did not come up.
    #[error("{0}")]
    Part(Box<dyn std::error::Error + Send + Sync>),
    /// The event log failed while serving.
    #[error("{0}")]
    LogFailed(String),
}

impl ServeError {
    pub(super) fn part(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Part(Box::new(error))
    }

    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::File {
            path: path.to_owned(),
            source,
        }
    }
}
