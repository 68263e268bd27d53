//! A Grantlog node that is cut off from the cluster: it grants nothing, says so, and comes back by itself.

use crate::check::check;
use crate::clients::{AUDIENCE, Clients};
use crate::entered::Two;
use crate::random::{Random, rounds};
use crate::running_server::{RunningServer, request_token};
use crate::site::{PATIENCE, PATIENT, Site, readiness, ready, register, text, until};
use crate::told::Told;
use grantlog_kurrentdb_double::{Cut, Options};
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, StatusCode};
use serde_json::json;
use std::time::{Duration, Instant};

/// What the nodes are allowed here.
const MAX_STALENESS: Duration = Duration::from_secs(5);
/// A request that waits for its append would wait much longer than one that is refused at once.
const IN_STORE: &str = "max_staleness_seconds = 5\nappend_timeout_seconds = 20\n";
/// What a loaded machine may take to notice and to answer.
const LATE: Duration = Duration::from_secs(15);

fn one_kurrentdb() -> Site {
    Site::on_double(Options::default())
}

async fn ask(http: &Client, server: &RunningServer, client_id: &str, secret: &str) -> StatusCode {
    let audience = [("audience", AUDIENCE)];
    request_token(http, &server.url, client_id, secret, &audience).await.0
}

/// Waits until the node says that it is cut off, at most as long as it may grant, and holds it to that.
async fn stops(http: &Client, server: &RunningServer, since: Instant, secret: &str) {
    let body = loop {
        let (status, body) = readiness(http, server).await;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            break body;
        }
        let waited = since.elapsed();
        assert!(
            waited < MAX_STALENESS + LATE,
            "it says that it is ready after {waited:?}: {body}"
        );
        tokio::time::sleep(crate::site::LOOK_EVERY).await;
    };
    println!("not ready {:?} after it was cut off", since.elapsed());
    assert!(
        body["reasons"].to_string().contains("store.max_staleness_seconds"),
        "{body}"
    );
    // Refused at once, without another try.
    let asked = Instant::now();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "orders"),
        ("client_secret", secret),
    ];
    let answer = http
        .post(format!("{}/connect/token", server.url))
        .form(&form)
        .send()
        .await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key(RETRY_AFTER));
    let told = answer.text().await.expect("a body");
    assert!(told.contains("temporarily_unavailable"), "{told}");
    assert!(asked.elapsed() < LATE, "it took {:?} to refuse", asked.elapsed());
}

async fn a_node_behind(cut: Cut) {
    let two = Two::on(one_kurrentdb(), IN_STORE).await;
    let [other, lost] = &two.servers;
    let administrator = two.administrator(0).await;
    let made = register(&administrator, "orders").await;
    let secret = text(&made, "client_secret");
    let leaving = register(&administrator, "leaving").await;
    for client in [&made, &leaving] {
        until("the node grants", async || {
            let (client_id, secret) = (text(client, "client_id"), text(client, "client_secret"));
            ask(&two.http, lost, client_id, secret).await == StatusCode::OK
        })
        .await;
    }

    two.nodes[1].entrance().cut(cut);
    let since = Instant::now();
    // From now on it cannot record anything, so it grants nothing, whether it has noticed already or not.
    let (http, url, held) = (two.http.clone(), lost.url.clone(), secret.to_owned());
    let in_between = tokio::spawn(async move {
        request_token(&http, &url, "orders", &held, &[("audience", AUDIENCE)])
            .await
            .0
    });
    stops(&two.http, lost, since, secret).await;

    // The other goes on, and so does the world.
    for _ in 0..20 {
        assert_eq!(ask(&two.http, other, "orders", secret).await, StatusCode::OK);
    }
    let path = format!("/admin/applications/{}/disable", text(&leaving, "id"));
    let (status, body) = administrator.post(&path, &json!({})).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let (status, body) = readiness(&two.http, other).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(
        ask(&two.http, lost, "orders", secret).await,
        StatusCode::SERVICE_UNAVAILABLE
    );

    two.nodes[1].entrance().heal();
    ready(&two.http, lost).await;
    println!("ready {:?} after it was cut off", since.elapsed());
    let in_between = tokio::time::timeout(PATIENCE, in_between)
        .await
        .expect("an answer")
        .expect("no panic");
    // It was not answered before the node was healed, or with a 503.
    assert!(
        [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE].contains(&in_between),
        "{in_between}"
    );
    // An answer that was under way since before the cut makes it ready for a moment, no longer than it may be.
    until("what was changed meanwhile holds from then on", async || {
        let told = ask(&two.http, lost, "leaving", text(&leaving, "client_secret")).await;
        assert!(!told.is_success(), "it was disabled: {told}");
        told.is_client_error()
    })
    .await;
    assert_eq!(ask(&two.http, lost, "orders", secret).await, StatusCode::OK);
    two.same_checkpoint().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_cluster_is_gone_stops_says_why_and_comes_back() {
    a_node_behind(Cut::Reset).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_network_swallows_everything_stops_says_why_and_comes_back() {
    a_node_behind(Cut::BlackHole).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_hear_nothing_while_appends_go_through_stop_as_well_and_come_back() {
    let two = Two::on(one_kurrentdb(), IN_STORE).await;
    let cluster = two.site.double();
    let administrator = two.administrator(0).await;
    let made = register(&administrator, "orders").await;
    let secret = text(&made, "client_secret");
    until("the second node grants", async || {
        ask(&two.http, &two.servers[1], "orders", secret).await == StatusCode::OK
    })
    .await;

    cluster.stall_subscriptions();
    let since = Instant::now();
    let before = cluster.log().len();
    // Something that they do not hear of.
    let (http, url, held) = (two.http.clone(), two.servers[0].url.clone(), secret.to_owned());
    let unheard =
        tokio::spawn(async move { request_token(&http, &url, "orders", &held, &[("audience", AUDIENCE)]).await });
    until("the append goes through", async || cluster.log().len() > before).await;
    for server in &two.servers {
        stops(&two.http, server, since, secret).await;
    }
    assert!(!unheard.is_finished(), "it was answered without having been read back");

    cluster.release_subscriptions();
    for server in &two.servers {
        ready(&two.http, server).await;
        assert_eq!(ask(&two.http, server, "orders", secret).await, StatusCode::OK);
    }
    let (status, body) = unheard.await.expect("no panic");
    assert!(
        [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE].contains(&status),
        "{status} {body}"
    );
    two.same_checkpoint().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_that_the_server_ends_under_load_lose_nothing() {
    let mut random = Random::seeded("ended subscriptions");
    let two = Two::on(one_kurrentdb(), PATIENT).await;
    let cluster = two.site.double();
    let administrator = two.administrator(0).await;
    let applications = two.site.applications(&administrator, 4).await;
    two.same_checkpoint().await;
    let mut administrator = Some(administrator);
    let mut load = Vec::new();
    for server in &two.servers {
        let administrator = administrator.take();
        load.push(Clients::start(
            &two.http,
            &server.url,
            &applications,
            8,
            administrator,
            &mut random,
        ));
    }
    let times = rounds(20);
    for _ in 0..times {
        tokio::time::sleep(random.millis(10, 200)).await;
        cluster.end_subscriptions();
    }
    let mut told = Told::default();
    for clients in load {
        told.add_run(clients.stop().await);
    }
    check(&two.site.log().await, &told).unwrap();
    two.same_checkpoint().await;
    assert!(told.tokens.len() > times, "{}", told.tokens.len());
    assert_eq!(told.unavailable, 0, "it takes a moment to subscribe anew, and no more");
    println!(
        "{} tokens while subscriptions were ended {times} times",
        told.tokens.len()
    );
}
