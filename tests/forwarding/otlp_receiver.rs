//! An OTLP receiver.

use crate::receiver::{Received, Receiver};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::runtime::Runtime;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

pub struct OtlpReceiver {
    seen: Seen,
    /// Of its own, so that its connections end with it.
    runtime: Option<Runtime>,
}

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<ExportLogsServiceRequest>>>);

impl OtlpReceiver {
    /// Over TLS with this certificate and key, for clients with a certificate that this one has signed.
    pub fn over_tls(port: u16, certificate: &str, key: &str) -> Self {
        // Another test may have chosen it already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(certificate, key))
            .client_ca_root(Certificate::from_pem(certificate));
        Self::run(port, Server::builder().tls_config(tls).expect("TLS"))
    }

    fn run(port: u16, mut server: Server) -> Self {
        let seen = Seen::default();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        listener.set_nonblocking(true).expect("it does not block");
        let router = server.add_service(LogsServiceServer::new(seen.clone()));
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            router
                .serve_with_incoming(TcpIncoming::from(listener))
                .await
                .expect("it serves");
        });
        Self {
            seen,
            runtime: Some(runtime),
        }
    }

    pub fn records(&self) -> Vec<LogRecord> {
        let seen = self.seen.0.lock().unwrap();
        let scopes = seen
            .iter()
            .flat_map(|request| &request.resource_logs)
            .flat_map(|resource| &resource.scope_logs);
        scopes.flat_map(|scope| scope.log_records.clone()).collect()
    }

    pub fn requests(&self) -> Vec<ExportLogsServiceRequest> {
        self.seen.0.lock().unwrap().clone()
    }
}

/// The event in a record's body.
pub fn event_of(record: &LogRecord) -> serde_json::Value {
    let Some(Value::StringValue(json)) = record.body.as_ref().and_then(|body| body.value.as_ref()) else {
        panic!("the body is a text: {record:?}");
    };
    serde_json::from_str(json).expect("JSON")
}

impl Receiver for OtlpReceiver {
    fn config(port: u16, _: &Path) -> String {
        format!(
            "[[forwarding]]\nname = \"collector\"\nkind = \"otlp\"\nurl = \"http://127.0.0.1:{port}\"\n\
             from = \"beginning\"\nretry_max_seconds = 1\n"
        )
    }

    async fn start(port: u16, _: &Path) -> Self {
        Self::run(port, Server::builder())
    }

    fn received(&self) -> Vec<Received> {
        self.records()
            .iter()
            .map(|record| Received::of(&event_of(record)))
            .collect()
    }

    async fn stop(self) {}
}

impl Drop for OtlpReceiver {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[tonic::async_trait]
impl LogsService for Seen {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let token = request.metadata().get("authorization");
        if token.is_some_and(|token| token != "Bearer collector-token") {
            return Err(Status::unauthenticated("whatever it was: collector-token"));
        }
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}
