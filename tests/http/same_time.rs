//! An unknown client and a wrong secret take the same time, so that nobody finds out by a clock which clients there
//! are.
//!
//! Why they do: in both cases the presented secret is hashed once and compared, in constant time, with
//! `MAX_SECRETS` slots, which are empty where there is no secret (`credentials::client_secret::verify`); both are
//! looked up in the same map by an id that is hashed from the name; both lead to one event of nearly the same size in
//! one commit, and to the same answer. What differs is the reason in the event and which stream it goes to.
//!
//! The statistics below would notice what is usually forgotten: a look-up that returns before the hash (which is most
//! of the time that the decision takes), or a second commit.

use crate::scene::{Answer, Scene};
use grantlog::credentials::client_secret::{self, ClientSecret};
use grantlog::policy::PolicySettings;
use grantlog::policy::issue_token::{IssueToken, issue_token};
use grantlog_projections::trusted_application;
use grantlog_projections::values::{Audience, SecretId, SigningAlgorithm, Timestamp, TokenLifetime};
use serde_json::json;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// The medians of two kinds of work may differ by this factor. Medians are not moved by the outliers of a busy
/// machine, and the two kinds alternate, so that a slow minute slows both.
const MOST_DIFFERENT: f64 = 1.25;
/// A noisy machine gets another chance; a real difference shows in every one.
const CHANCES: usize = 4;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The medians of both, from measurements that alternate; the order within a pair alternates too.
async fn alternating(pairs: usize, mut measure: impl AsyncFnMut(bool) -> Duration) -> (Duration, Duration) {
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        for first in [pair % 2 == 0, pair % 2 != 0] {
            let took = measure(first).await;
            if first { &mut one } else { &mut other }.push(took);
        }
    }
    (median(one), median(other))
}

async fn assert_alike(what: &str, pairs: usize, mut measure: impl AsyncFnMut(bool) -> Duration) {
    let mut seen = Vec::new();
    for _ in 0..CHANCES {
        let (unknown, wrong) = alternating(pairs, &mut measure).await;
        let ratio = unknown.as_secs_f64() / wrong.as_secs_f64();
        seen.push((unknown, wrong));
        if (1.0 / MOST_DIFFERENT..MOST_DIFFERENT).contains(&ratio) {
            return;
        }
    }
    panic!("{what}: an unknown client and a wrong secret take different times: {seen:?}");
}

#[tokio::test]
async fn looking_for_a_secret_takes_the_same_time_whether_there_is_an_application_or_not() {
    let secrets: Vec<trusted_application::ClientSecret> = (0..3)
        .map(|number| trusted_application::ClientSecret {
            id: SecretId(uuid::Uuid::from_u128(number)),
            hash: ClientSecret::generate().unwrap().hash(),
            hint: None,
            created_at: Timestamp::from_unix_micros(0),
            expires_at: None,
            revoked_at: None,
        })
        .collect();
    let presented = ClientSecret::generate().unwrap();
    assert_alike("client_secret::verify", 2_000, async |is_unknown| {
        let stored: &[trusted_application::ClientSecret] = if is_unknown { &[] } else { &secrets };
        let started = Instant::now();
        for _ in 0..5 {
            black_box(client_secret::verify(black_box(presented.expose()), black_box(stored)));
        }
        started.elapsed()
    })
    .await;
}

#[tokio::test]
async fn the_test_would_notice_a_look_up_that_does_not_hash() {
    let presented = ClientSecret::generate().unwrap();
    let (unknown, wrong) = alternating(500, async |is_unknown| {
        let started = Instant::now();
        if !is_unknown {
            black_box(client_secret::verify(black_box(presented.expose()), &[]));
        }
        started.elapsed()
    })
    .await;
    assert!(
        wrong.as_secs_f64() / unknown.as_secs_f64() > MOST_DIFFERENT * 2.0,
        "{unknown:?} {wrong:?}"
    );
}

#[tokio::test]
async fn a_refusal_over_http_takes_the_same_time_whether_there_is_an_application_or_not() {
    let scene = Scene::with_config("[lockout]\nmax_failures = 1000000\n").await;
    for number in 0..50 {
        scene.register(&format!("application-{number}"), json!({})).await;
    }
    let url = format!("{}/connect/token", scene.url);
    let mut number = 0_usize;
    assert_alike("POST /connect/token", 250, async |is_unknown| {
        number += 1;
        // As many different names on either side.
        let name = if is_unknown { "nobody-here" } else { "application" };
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &*format!("{name}-{}", number / 2 % 50)),
            ("client_secret", "gls_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA000000"),
        ];
        let request = scene.http.post(&url).form(&form);
        let started = Instant::now();
        let answer = request.send().await.expect("an answer");
        let took = started.elapsed();
        assert_eq!(Answer::of(answer).await.status.as_u16(), 401);
        took
    })
    .await;
}

/// What the two decide differs in nothing but the reason.
#[test]
fn the_two_refusals_tell_the_caller_the_same() {
    let audience = Audience::parse("https://id.example.com").unwrap();
    let settings = PolicySettings {
        issuer: audience.clone(),
        default_audience: audience,
        default_lifetime: TokenLifetime::parse(3_600).unwrap(),
        default_algorithm: SigningAlgorithm::Es256,
    };
    let command = IssueToken {
        matching_secret: None,
        source_ip: "192.0.2.1".parse().unwrap(),
        scope: None,
        audiences: &[],
        resources: &[],
        now: Timestamp::from_unix_micros(0),
    };
    let refused = issue_token(&Default::default(), &settings, None, &command).unwrap_err();
    assert_eq!(refused.error.description(), "Invalid client_id or client_secret");
    assert_eq!(refused.detail, None);
}
