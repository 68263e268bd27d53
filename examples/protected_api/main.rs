//! An API that checks Grantlog's access tokens itself, and reports its calls. With actix-web and jsonwebtoken.
//!
//! ```sh
//! GRANTLOG_ISSUER=http://127.0.0.1:8080 API_AUDIENCE=https://orders.example \
//! GRANTLOG_CLIENT_ID=orders-api GRANTLOG_CLIENT_SECRET=gls_… cargo run --example protected_api
//! ```
//!
//! The credentials are this API's own: an application with the scope `calls:report` and no other. A token is checked
//! without asking anybody, so a revocation is felt when the token is over: where that is too late, ask Grantlog about
//! each call instead (docs/forward-auth.md, docs/introspection.md).

mod guard;
mod keys;
mod report;
mod settings;
mod verify;

use actix_web::dev::ServerHandle;
use actix_web::web::{self, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use guard::Guard;
use serde_json::json;
use settings::Settings;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/orders", web::get().to(list_orders))
        .route("/orders", web::post().to(place_order))
        .route("/orgs/{org}/orders", web::get().to(orders_of_organisation))
        .route("/token", web::get().to(inspect));
}

async fn list_orders(request: HttpRequest, guard: Data<Guard>) -> HttpResponse {
    guard
        .call(&request, "read", None, |caller| {
            HttpResponse::Ok().json(json!({"orders": [7, 8], "for": caller.claims["client_id"]}))
        })
        .await
}

async fn place_order(request: HttpRequest, guard: Data<Guard>) -> HttpResponse {
    guard
        .call(&request, "update", None, |_| {
            HttpResponse::Created().json(json!({"order": 9}))
        })
        .await
}

/// Only tokens that are bound to the organisation of the path see its orders.
async fn orders_of_organisation(request: HttpRequest, path: web::Path<String>, guard: Data<Guard>) -> HttpResponse {
    let org = path.into_inner();
    guard
        .call(&request, "read", Some(&org), |_| {
            HttpResponse::Ok().json(json!({"org": org, "orders": [7]}))
        })
        .await
}

/// Any token for this API will do: what does it say?
async fn inspect(request: HttpRequest, guard: Data<Guard>) -> HttpResponse {
    guard
        .call(&request, "", None, |caller| HttpResponse::Ok().json(&caller.claims))
        .await
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::from_environment()?;
    let http = reqwest::Client::builder().timeout(report::PATIENCE).build()?;
    let (calls, waiting) = mpsc::channel(report::MAX_WAITING_CALLS);
    let reporter = tokio::spawn(report::report(settings.clone(), http.clone(), waiting));
    let guard = Data::new(Guard::new(settings, http, calls));
    let serving = {
        let guard = guard.clone();
        let app = move || App::new().app_data(guard.clone()).configure(routes);
        HttpServer::new(app)
            .workers(2)
            .disable_signals()
            .bind(std::env::var("LISTEN").unwrap_or("127.0.0.1:0".into()))?
    };
    println!("listening on http://{}", serving.addrs()[0]); // bind was given one address
    let serving = serving.run();
    tokio::spawn(stop_on_signal(serving.handle()));
    serving.await?;
    // With the last sender gone, the reporter ends when everything has been acknowledged.
    drop(guard);
    reporter.await?;
    Ok(())
}

async fn stop_on_signal(server: ServerHandle) {
    // Only a runtime without its signal driver has none.
    let mut terminate = signal(SignalKind::terminate()).expect("a handler");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    server.stop(true).await;
}
