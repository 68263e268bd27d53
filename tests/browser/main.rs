//! Reports in a real browser: it shows what they say, runs nothing, asks nobody for anything, and prints them.

#[path = "../running_server/mod.rs"]
mod running_server;

mod chromium;

use chromium::{Chromium, Served};
use reqwest::{Client, Method, StatusCode};
use running_server::{Administrator, RunningServer, Start, request_token};
use serde_json::json;
use std::path::Path;
use tempfile::TempDir;

/// What a name from outside may try.
const HOSTILE: &str =
    "<img src=//evil.example/i onerror=\"document.title='owned'\"><script src=//evil.example/s></script>";
const STYLED: &str = "<style>@import url(//evil.example/c)</style><a href='javascript:alert(1)'>&amp;";

struct Scene {
    administrator: Administrator,
    _server: RunningServer,
    _folder: TempDir,
}

/// A server with something to report.
async fn scene() -> Scene {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Start::over(&folder.path().join("data")).start();
    let http = Client::new();
    let administrator = Administrator::with(http.clone(), &server).await;
    for (client_id, name, owner, scope) in [
        ("orders-worker", "Orders", "team-orders", "read update DomainApi"),
        ("billing/eu", "Billing, Europe", "team-billing", "read"),
        ("hostile.app", HOSTILE, STYLED, "read"),
    ] {
        let made = administrator
            .register(json!({
                "application_uri": client_id, "name": name, "owner": owner, "scope": scope, "system_user": "svc.integration",
            }))
            .await;
        let secret = made["client_secret"].as_str().expect("a secret").to_owned();
        for secret in [secret.as_str(), "wrong", "guess", &secret] {
            request_token(&http, &server.url, client_id, secret, &[]).await;
        }
    }
    Scene {
        administrator,
        _server: server,
        _folder: folder,
    }
}

impl Scene {
    /// A report as the server answers it: its policy and the page.
    async fn report(&self, name: &str) -> Served {
        let path = format!("/audit/reports/{name}?format=html");
        let answer = self
            .administrator
            .request(Method::GET, &path)
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK, "{name}");
        let policy = answer.headers()["content-security-policy"]
            .to_str()
            .expect("text")
            .to_owned();
        let page = answer.text().await.expect("a page");
        Served { policy, page }
    }
}

#[tokio::test]
async fn a_browser_shows_what_a_report_says_runs_nothing_and_asks_nobody() {
    let scene = scene().await;
    for name in ["access-review", "inventory"] {
        let shown = Chromium::found().open(scene.report(name).await).await;
        assert_eq!(
            shown.requests,
            ["/report"],
            "{name}: whatever a name contains, nothing else is asked for"
        );
        let dom = &shown.dom;
        assert!(!dom.contains("<title>owned"), "{name}: nothing was run");
        for visible in [
            "orders-worker",
            "billing/eu",
            "team-orders",
            "read, update, DomainApi",
            "Controls that this serves",
        ] {
            assert!(dom.contains(visible), "{name} does not show {visible}:\n{dom}");
        }
        assert!(
            !dom.contains("<img") && !dom.contains("<script") && !dom.contains("<a "),
            "{name}: names are text"
        );
        assert_eq!(
            dom.matches("<style").count(),
            1,
            "{name}: the page has its own style alone"
        );
    }
}

#[tokio::test]
async fn every_report_is_drawn_and_printed() {
    let scene = scene().await;
    let (_, list) = scene.administrator.get("/audit/reports").await;
    let keep = std::env::var_os("GRANTLOG_KEEP_PAGES");
    for report in list["reports"].as_array().expect("a list") {
        let name = report["name"].as_str().expect("a name");
        let served = scene.report(name).await;
        if let Some(folder) = &keep {
            let path = Path::new(folder).join(name).with_extension("html");
            std::fs::write(path, &served.page).expect("the page can be kept");
        }
        let printed = Chromium::found().print(served).await;
        assert!(printed.starts_with(b"%PDF-"), "{name}");
        assert!(
            printed.len() > 10_000,
            "{name}: {} bytes are an empty page",
            printed.len()
        );
        if let Some(folder) = &keep {
            let path = Path::new(folder).join(name).with_extension("pdf");
            std::fs::write(path, printed).expect("the print can be kept");
        }
    }
}
