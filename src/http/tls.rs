//! The listener for TLS: HTTP/2 or HTTP/1.1, as the client chooses (RFC 7301), both to the same application.

use crate::http::http2::{self, Idleness, Load};
use actix_http::{HttpService, Request};
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, Server, Service, ServiceFactory, ServiceResponse, fn_factory, fn_service};
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// Protocols that a client may choose, the preferred one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// How long a connection that is closed is read on, so that its last answer arrives (RFC 9112 §9.6), and how long it may
/// take to end: what actix-web gives plain connections.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// TLS handshakes that one worker has at once: each costs a signature.
const MAX_HANDSHAKES: usize = 256;

/// How it serves.
#[derive(Debug, Clone)]
pub struct Serving {
    /// Threads.
    pub workers: usize,
    /// Connections of one worker at once, and requests over HTTP/2.
    pub max_connections: usize,
    /// How long a handshake and a head may take.
    pub client_request_timeout: Duration,
    /// How long an idle connection stays open.
    pub keep_alive: Duration,
    /// How long a stop waits for the requests in flight.
    pub shutdown_timeout: Duration,
}

/// A server that is about to run. `application` makes one worker's.
pub fn server<F, A, B>(
    listener: TcpListener,
    mut tls: rustls::ServerConfig,
    serving: Serving,
    application: F,
) -> io::Result<Server>
where
    F: Fn() -> A + Clone + Send + 'static,
    A: ServiceFactory<
            Request,
            Config = AppConfig,
            Response = ServiceResponse<B>,
            Error = actix_web::Error,
            InitError = (),
        > + 'static,
    A::Service: 'static,
    <A::Service as Service<Request>>::Future: 'static,
    A::Future: 'static,
    B: MessageBody + 'static,
{
    tls.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let builder = Server::build()
        .workers(serving.workers)
        .max_concurrent_connections(serving.max_connections)
        .shutdown_timeout(serving.shutdown_timeout.as_secs())
        .disable_signals();
    let stopping = builder.graceful_shutdown_signal();
    let builder = builder.listen("grantlog-tls", listener, move || {
        let (acceptor, application, serving) = (acceptor.clone(), application.clone(), serving.clone());
        let stopping = stopping.clone();
        fn_factory(move || {
            let (acceptor, serving, stopping) = (acceptor.clone(), serving.clone(), stopping.clone());
            let (for_http1, for_http2) = (application(), application());
            async move {
                let signal = stopping.clone();
                let http1 = HttpService::build()
                    .graceful_shutdown_signal(move || {
                        let signal = signal.clone();
                        async move { signal.notified().await }
                    })
                    .keep_alive(serving.keep_alive)
                    .client_request_timeout(serving.client_request_timeout)
                    .client_disconnect_timeout(DISCONNECT_TIMEOUT)
                    .h1(actix_service::map_config(for_http1, |()| AppConfig::default()));
                let http1 = Rc::new(http1.new_service(()).await?);
                let http2 = Rc::new(for_http2.new_service(AppConfig::default()).await?);
                let handshakes = Rc::new(Semaphore::new(MAX_HANDSHAKES));
                let load = Load::new(serving.max_connections);
                let idleness = Idleness {
                    first: serving.client_request_timeout,
                    later: serving.keep_alive,
                };
                Ok::<_, ()>(fn_service(move |stream: TcpStream| {
                    let (acceptor, http1, http2) = (acceptor.clone(), http1.clone(), http2.clone());
                    let (handshakes, load, stopping) = (handshakes.clone(), load.clone(), stopping.clone());
                    async move {
                        let handshake = async {
                            let _permit = handshakes.acquire().await.ok()?;
                            // A small answer must not wait for a large one.
                            let _ = stream.set_nodelay(true);
                            let peer = stream.peer_addr().ok();
                            acceptor.accept(stream).await.ok().map(|stream| (stream, peer))
                        };
                        let done = tokio::time::timeout(serving.client_request_timeout, handshake).await;
                        // Whoever does not finish it is no client.
                        let Ok(Some((stream, peer))) = done else {
                            return Ok::<(), ()>(());
                        };
                        match stream.get_ref().1.alpn_protocol() {
                            Some(b"h2") => {
                                let stopping = async move { stopping.notified().await };
                                http2::serve(stream, peer, http2, load, idleness, stopping).await;
                            }
                            // What goes wrong on a connection is told where it happens.
                            _ => drop(http1.call((stream, peer)).await),
                        }
                        Ok(())
                    }
                }))
            }
        })
    })?;
    Ok(builder.run())
}
