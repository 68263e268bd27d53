//! From a configuration to a running server.

mod error;
mod first_applications;
mod folder;
mod listening;
mod migrate;
mod parts;
mod stores;
mod upkeep;
mod verify;

pub use self::error::ServeError;
pub use self::first_applications::Resets;
pub use self::listening::{listen, tls_config};
pub use self::migrate::migrate;
pub use self::verify::{rebuild, verifier_key, verify, verify_projections};

use self::first_applications::begin;
use self::folder::claim;
use self::listening::reachable;
use self::parts::{build, check_sinks, forward, gateway};
use self::upkeep::{end_sessions, look_after, report, retain};
use crate::config::{Config, IssuerUrl};
use crate::forwarding::Forwarding;
use crate::http::roles::{self, Roles};
use crate::http::tls::Serving;
use crate::http::{self, Doors, Exposure, observed, routes};
use crate::metrics::Metrics;
use crate::telemetry::Telemetry;
use actix_service::IntoServiceFactory;
use actix_web::middleware::{Condition, from_fn};
use actix_web::{App, HttpServer, web};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

/// After the log has failed, requests in flight get their 503 within this time.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Serves until it is told to stop, or the log fails.
pub async fn serve(config: Config, telemetry: Telemetry, resets: Resets) -> Result<(), ServeError> {
    let listener = listen(config.server.listen)?;
    let address = listener.local_addr().map_err(|source| ServeError::Listen {
        address: config.server.listen,
        source,
    })?;
    let tls = config
        .tls
        .as_ref()
        .map(|tls| tls_config(&tls.certificate_file, &tls.key_file))
        .transpose()?;
    let issuer = config
        .server
        .issuer
        .clone()
        .unwrap_or_else(|| IssuerUrl::of_listener(tls.is_some(), address));
    let url = IssuerUrl::of_listener(tls.is_some(), reachable(address))
        .as_str()
        .to_owned();

    check_sinks(&config, &issuer).await?;
    let gateway = Arc::new(gateway(&config, &issuer).await?);
    let metrics = Metrics::new(telemetry.meter().as_ref());
    let _folder = claim(&config.data_dir)?;
    let (service, store) = build(&config, &issuer, metrics).await?;
    let service = Arc::new(service);
    let begun = begin(&service, &config.data_dir, &url, resets).await;
    // What the log says about its failure names the file and tells what to do.
    let why = || store.failure().or_else(|| service.state_failure());
    begun.map_err(|error| why().map_or(error, ServeError::LogFailed))?;

    let forwarding = Arc::new(forward(&config, &issuer, store.clone(), service.metrics().clone()).await?);
    let roles = Roles {
        token: config.node.roles.token,
        audit: config.node.roles.audit,
    };
    let doors = web::Data::new(Doors {
        service: service.clone(),
        roles,
        forwarding: forwarding.clone(),
        gateway: gateway.clone(),
        is_tls: tls.is_some(),
        issuer_path: issuer.path().to_owned(),
        trusted_proxies: config.server.trusted_proxies.clone(),
        transparency: Exposure {
            is_public: config.transparency.is_public,
            entries_are_public: config.transparency.entries_are_public,
        },
        body_timeout: config.server.client_request_timeout,
    });
    let application = move || {
        let doors = doors.clone();
        App::new()
            .app_data(doors.clone())
            .app_data(web::Data::new(gateway.connections()))
            .wrap(Condition::new(roles.are_some(), from_fn(roles::keep_to_roles)))
            .wrap(from_fn(observed::observe))
            .configure(routes(doors))
    };
    let workers = config.server.workers.get();
    let max_connections = config.server.max_connections.div_ceil(workers);
    let server = match tls {
        Some(tls) => {
            let serving = Serving {
                workers,
                max_connections,
                client_request_timeout: config.server.client_request_timeout,
                keep_alive: config.server.keep_alive,
                shutdown_timeout: config.server.shutdown_timeout,
            };
            http::tls::server(listener, tls, serving, move || application().into_factory())
        }
        None => HttpServer::new(application)
            .workers(workers)
            .max_connections(max_connections)
            // Else the end of an answer would wait until the client has acknowledged its beginning.
            .tcp_nodelay(true)
            .client_request_timeout(config.server.client_request_timeout)
            .keep_alive(config.server.keep_alive)
            .shutdown_timeout(config.server.shutdown_timeout.as_secs())
            .disable_signals()
            .listen(listener)
            .map(HttpServer::run),
    };
    let server = server.map_err(|source| ServeError::Listen { address, source })?;
    let handle = server.handle();
    let serving = tokio::spawn(server);
    // Two tasks: a flood of reports must not keep the signing keys waiting.
    let reports = tokio::spawn(report(service.clone(), forwarding.clone()));
    let upkeep = tokio::spawn(look_after(service.clone()));
    let retention = roles.audit.then(|| tokio::spawn(retain(service.clone())));
    let session_ends = tokio::spawn(end_sessions(service.clone()));
    // Whoever reads that it listens may stop it at once.
    let told_to_stop = stop_signal().map_err(ServeError::part)?;
    say(&format!("listening on {url}"))?;

    let outcome = tokio::select! {
        signal = told_to_stop => Ok(signal),
        failure = store.failed() => Err(ServeError::LogFailed(failure)),
    };
    reports.abort();
    upkeep.abort();
    if let Some(retention) = retention {
        retention.abort();
    }
    session_ends.abort();
    match outcome {
        Ok(signal) => {
            tracing::info!(signal, "stopping: finishing what is in flight");
            service.end_streams();
            handle.stop(true).await;
            let _ = serving.await;
            stop_forwarding(forwarding).await;
            service.stop(signal).await;
            stop_telemetry(telemetry).await;
            // The stop itself may be what could not be recorded.
            store
                .failure()
                .map_or(Ok(()), |failure| Err(ServeError::LogFailed(failure)))
        }
        Err(failure) => {
            // Said at once and in the log, too: it is the reason for every 503 from here on.
            tracing::error!(%failure, "stopping: nothing more can be recorded, so nothing more is granted");
            tokio::time::sleep(LAST_ANSWERS).await;
            handle.stop(false).await;
            stop_forwarding(forwarding).await;
            stop_telemetry(telemetry).await;
            Err(failure)
        }
    }
}

/// Resolves when the server is told to stop. From the call on, no such signal kills it.
fn stop_signal() -> io::Result<impl Future<Output = &'static str>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// What is on its way may take seconds to arrive.
async fn stop_forwarding(forwarding: Arc<Forwarding>) {
    let _ = tokio::task::spawn_blocking(move || forwarding.stop()).await;
}

/// Exporting what is left may take seconds, and blocks.
async fn stop_telemetry(telemetry: Telemetry) {
    let _ = tokio::task::spawn_blocking(move || telemetry.shutdown()).await;
}

/// On stdout, at once, whoever reads it.
fn say(text: &str) -> Result<(), ServeError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|source| ServeError::File {
            path: "stdout".into(),
            source,
        })
}
