//! Syslog over TCP with octet counting (RFC 6587 §3.4.1) and over TLS (RFC 5425).
//!
//! Syslog has no acknowledgement. What comes nearest to one: a delivery is one connection, which we end for writing
//! when all is written; a server that has read everything up to that end closes in turn, and one that has died, or
//! closes with something unread or still on its way, resets the connection instead (RFC 9293 §3.10.7, RFC 1122
//! §4.2.2.13). So a delivery counts as acknowledged when both ends are closed and there was no reset, and never before:
//! `write` alone only tells that the kernel has it. It does not tell that the server has stored anything.

pub mod message;

use super::forwarded_event::ForwardedEvent;
use super::settings::SyslogTarget;
use super::sink::{DeliveryError, FailureClass, Receipt};
use super::trust::{TrustError, client_config};
use futures_util::FutureExt;
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
/// How often to look whether the connection is closed at both ends, once the server has closed: most are at once.
const STILL_OPEN: Duration = Duration::from_millis(5);
/// A syslog server has nothing to say; one that says more than this before it closes is something else.
const MAX_ANSWER_BYTES: usize = 4_096;

/// A syslog server.
pub struct SyslogSink {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    header: Header,
    /// What a delivery writes, bounded as it is. Kept, because a megabyte of fresh memory for each costs more than to
    /// fill it.
    frames: Vec<u8>,
}

impl SyslogSink {
    /// Connects with each delivery.
    pub fn new(target: &SyslogTarget) -> Result<Self, TrustError> {
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
            frames: Vec::new(),
        })
    }

    /// One connection; acknowledged when the server has read all of it and closed.
    pub async fn deliver(&mut self, events: &[&ForwardedEvent]) -> Result<Receipt, DeliveryError> {
        self.frames.clear();
        for event in events {
            write_frame(&mut self.frames, &self.header, event);
        }
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| DeliveryError::connection(&error))?;
        // What is written is written at once, or there is no use in it.
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => send(stream, &self.frames, |stream| stream).await,
            Some((connector, name)) => {
                let stream = connector
                    .connect(name.clone(), stream)
                    .await
                    .map_err(|error| DeliveryError::connection(&error))?;
                send(stream, &self.frames, |stream| stream.get_ref().0).await
            }
        }
    }
}

async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    frames: &[u8],
    tcp: fn(&S) -> &TcpStream,
) -> Result<Receipt, DeliveryError> {
    let broken = |error: io::Error| DeliveryError::connection(&error);
    let mut said = 0;
    {
        let (mut reader, mut writer) = tokio::io::split(&mut stream);
        let end = read_to_end(&mut reader, &mut said);
        tokio::pin!(end);
        tokio::select! {
            biased;
            // A server that closes before it has everything has not read everything.
            ended = &mut end => return Err(ended.err().unwrap_or_else(closed_too_early)),
            written = writer.write_all(frames) => written.map_err(broken)?,
        }
        if let Some(ended) = end.now_or_never() {
            return Err(ended.err().unwrap_or_else(closed_too_early));
        }
    }
    // The end of what we write: FIN, and before it close_notify (RFC 5425 §4.4).
    stream.shutdown().await.map_err(broken)?;
    read_to_end(&mut stream, &mut said).await?;
    let tcp = tcp(&stream);
    // The server's end may have crossed with what was still on its way to it. Then a reset follows, and until it
    // comes, or our own end is acknowledged, there is still a connection.
    while tcp.peer_addr().is_ok() {
        tokio::time::sleep(STILL_OPEN).await;
    }
    match tcp.take_error() {
        Ok(None) => Ok(Receipt::default()),
        Ok(Some(error)) | Err(error) => Err(broken(error)),
    }
}

async fn read_to_end(reader: &mut (impl AsyncRead + Unpin), said: &mut usize) -> Result<(), DeliveryError> {
    let mut buffer = [0; 512];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(bytes) => *said += bytes,
            Err(error) => return Err(DeliveryError::connection(&error)),
        }
        if *said > MAX_ANSWER_BYTES {
            return Err(DeliveryError::new(
                FailureClass::Protocol,
                "the server answers, which a syslog server does not",
            ));
        }
    }
}

fn closed_too_early() -> DeliveryError {
    DeliveryError::new(FailureClass::Connection, "the server closed before it had everything")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_store::StoredEvent;
    use crate::forwarding::settings::{Facility, TlsFiles};
    use std::io::{ErrorKind, Read};
    use std::net::TcpListener;
    use std::sync::mpsc;

    fn event() -> ForwardedEvent {
        let reason = "r".repeat(3_000);
        let bytes = format!(
            r#"{{"id":"01890000-0000-7000-8000-000000000001","stream":"service","type":"ServiceStopped","time":"2026-03-16T09:30:00.000001Z","actor":"system","data":{{"version":"0.1.0","reason":"{reason}"}}}}"#
        );
        let stored = StoredEvent {
            index: 0,
            revision: 0,
            bytes: bytes.as_bytes().into(),
        };
        ForwardedEvent::read(&stored).unwrap()
    }

    fn sink_for(listener: &TcpListener) -> SyslogSink {
        SyslogSink::new(&SyslogTarget {
            url: format!("tcp://{}", listener.local_addr().unwrap()).parse().unwrap(),
            tls: TlsFiles::default(),
            facility: Facility::AUTHPRIV,
            hostname: "-".into(),
        })
        .unwrap()
    }

    #[tokio::test]
    async fn an_end_that_crosses_with_what_is_still_on_its_way_is_no_acknowledgement() {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        // So little fits in there that most of the delivery is still on our side.
        socket.set_recv_buffer_size(2_048).unwrap();
        socket
            .bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        socket.listen(1).unwrap();
        let listener = TcpListener::from(socket);
        let mut sink = sink_for(&listener);
        let pause = Duration::from_millis(200);
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            std::thread::sleep(pause);
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            std::thread::sleep(pause);
        });
        let started = std::time::Instant::now();
        let error = sink.deliver(&[&event(); 10]).await.unwrap_err();
        assert!(started.elapsed() >= pause * 2, "it was still open: {error}");
        assert_eq!(error.class, FailureClass::Connection);
        assert_ne!(error.message, closed_too_early().message, "all of it had been written");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_delivery_is_acknowledged_only_by_a_server_that_has_read_all_of_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sink = sink_for(&listener);
        let (reads, read) = mpsc::channel();
        // Each time it closes at another place, at a moment when everything that has arrived is read: its end is an
        // orderly one, and crosses with what is still on its way.
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let enough = number * 20_000;
                let (mut all, mut buffer) = (0, [0; 8_192]);
                stream.set_nonblocking(true).unwrap();
                let has_ended = loop {
                    match stream.read(&mut buffer) {
                        Ok(0) => break true,
                        Ok(bytes) => all += bytes,
                        Err(error) if error.kind() == ErrorKind::WouldBlock && all >= enough => break false,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                };
                drop(stream);
                reads.send((all, has_ended)).unwrap();
            }
        });
        let event = event();
        let events = [&event; 300];
        let mut frames = Vec::new();
        for event in events {
            write_frame(&mut frames, &sink.header, event);
        }
        let (mut acknowledged, mut failed) = (0, 0);
        for _ in 0..100 {
            let outcome = sink.deliver(&events).await;
            let (bytes, has_ended) = read.recv().unwrap();
            match outcome {
                // It may also close between our last byte and our end: then it has read everything, too.
                Ok(_) => assert_eq!(bytes, frames.len(), "at our end: {has_ended}"),
                Err(_) => failed += 1,
            }
            acknowledged += u32::from(has_ended);
        }
        assert!(
            acknowledged > 0 && failed > 0,
            "{acknowledged} acknowledged, {failed} failed"
        );
    }
}
