//! Syslog over TCP with octet counting (RFC 6587 §3.4.1) and over TLS (RFC 5425).
//!
//! Syslog has no acknowledgement. What comes nearest to one: a delivery is one connection, which we end for writing
//! when all is written; a server that has read everything up to that end closes in turn, and one that has died, or
//! closes with something unread, resets the connection instead (RFC 9293 §3.6). So a delivery counts as acknowledged when the
//! server has closed its side in an orderly way, and never before: `write` alone only tells that the kernel has it.
//! It does not tell that the server has stored anything.

pub mod message;

use super::forwarded_event::ForwardedEvent;
use super::settings::SyslogTarget;
use super::sink::{DeliveryError, FailureClass, Receipt};
use super::trust::{TrustError, client_config};
use message::{Header, write_frame};
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long to wait for more before a delivery that is not full: each one is a connection.
pub const GATHER: Duration = Duration::from_millis(250);
/// A syslog server has nothing to say; one that says more than this before it closes is something else.
const MAX_ANSWER_BYTES: usize = 4_096;

/// A syslog server.
pub struct SyslogSink {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    header: Header,
}

impl SyslogSink {
    /// Connects with each delivery.
    pub fn new(target: &SyslogTarget, _timeout: Duration) -> Result<Self, TrustError> {
        // An IPv6 address stands in brackets in a URL.
        let host = target.url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = match target.url.scheme() {
            "tls" => {
                let name = ServerName::try_from(host.clone())
                    .map_err(|_| TrustError::Tls(format!("{host} is no name that a certificate can have")))?;
                Some((TlsConnector::from(Arc::new(client_config(&target.tls)?)), name))
            }
            _ => None,
        };
        Ok(Self {
            port: target.url.port().unwrap_or(if tls.is_some() { 6_514 } else { 514 }),
            host,
            tls,
            header: Header {
                facility: target.facility,
                hostname: target.hostname.clone(),
                process: std::process::id(),
            },
        })
    }

    /// One connection; acknowledged when the server has read all of it and closed.
    pub async fn deliver(&mut self, events: &[ForwardedEvent]) -> Result<Receipt, DeliveryError> {
        let mut frames = Vec::new();
        for event in events {
            write_frame(&mut frames, &self.header, event);
        }
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| DeliveryError::connection(&error))?;
        // What is written is written at once, or there is no use in it.
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => send(stream, &frames).await,
            Some((connector, name)) => {
                let stream = connector
                    .connect(name.clone(), stream)
                    .await
                    .map_err(|error| DeliveryError::connection(&error))?;
                send(stream, &frames).await
            }
        }
    }
}

async fn send(stream: impl AsyncRead + AsyncWrite, frames: &[u8]) -> Result<Receipt, DeliveryError> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let broken = |error: io::Error| DeliveryError::connection(&error);
    let write = async {
        writer.write_all(frames).await.map_err(broken)?;
        // The end of what we write: FIN, and before it close_notify (RFC 5425 §4.4).
        writer.shutdown().await.map_err(broken)
    };
    let mut has_said = 0;
    let read = async {
        let mut buffer = [0; 512];
        loop {
            match reader.read(&mut buffer).await {
                Ok(0) => return Ok(()),
                Ok(bytes) if has_said + bytes > MAX_ANSWER_BYTES => {
                    return Err(DeliveryError::new(
                        FailureClass::Protocol,
                        "the server answers, which a syslog server does not",
                    ));
                }
                Ok(bytes) => has_said += bytes,
                Err(error) => return Err(broken(error)),
            }
        }
    };
    tokio::pin!(write, read);
    // A server that closes before it has everything has not read everything.
    tokio::select! {
        biased;
        written = &mut write => written?,
        closed = &mut read => {
            closed?;
            return Err(DeliveryError::new(FailureClass::Connection, "the server closed before it had everything"));
        }
    }
    read.await?;
    Ok(Receipt::default())
}
