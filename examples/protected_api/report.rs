//! Tells Grantlog of calls.

use crate::settings::Settings;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;
use tokio::sync::mpsc;

/// Calls that wait for their report; beyond it calls are refused, for they would be on no record.
pub const MAX_WAITING_CALLS: usize = 10_000;
/// An exchange with Grantlog takes much less.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Calls in one report.
const MAX_BATCH_CALLS: usize = 500;
/// How long the first of a batch waits for others.
const BATCH_WITHIN: Duration = Duration::from_millis(500);
/// Pauses between attempts to report: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// In batches, until there are none left and nobody who could make one. A batch is sent again until it is
/// acknowledged; each call keeps its id, so that one that was acknowledged already is no second event.
pub async fn report(settings: Settings, http: reqwest::Client, mut waiting: mpsc::Receiver<Value>) {
    let mut token = None;
    let mut batch = Vec::new();
    loop {
        if waiting.recv_many(&mut batch, MAX_BATCH_CALLS).await == 0 {
            return;
        }
        tokio::time::sleep(BATCH_WITHIN).await;
        while batch.len() < MAX_BATCH_CALLS
            && let Ok(call) = waiting.try_recv()
        {
            batch.push(call);
        }
        let mut pause = PAUSES.0;
        let mut most = batch.len();
        while !batch.is_empty() {
            most = most.min(batch.len());
            match send(&settings, &http, &mut token, &batch[..most]).await {
                Ok(()) => {
                    batch.drain(..most);
                    (pause, most) = (PAUSES.0, MAX_BATCH_CALLS);
                    continue;
                }
                // None of them is taken: halves, down to the one that is refused, which would keep all others waiting.
                Err(NotReported::Refused(why)) if most == 1 => {
                    eprintln!("a call cannot be reported, {why}: {}", batch.remove(0));
                    most = MAX_BATCH_CALLS;
                    continue;
                }
                Err(NotReported::Refused(_)) => {
                    most /= 2;
                    continue;
                }
                Err(NotReported::Later(why)) => eprintln!("calls could not be reported yet: {why}"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// What Grantlog answers, as far as it matters here.
#[derive(Deserialize)]
struct Reported {
    /// Calls that it does not take, each with the reason.
    #[serde(default)]
    rejected: Vec<Value>,
}

enum NotReported {
    /// Something in it is not acceptable.
    Refused(String),
    /// It may be next time.
    Later(String),
}

async fn send(
    settings: &Settings,
    http: &reqwest::Client,
    token: &mut Option<String>,
    calls: &[Value],
) -> Result<(), NotReported> {
    let later = |error: reqwest::Error| NotReported::Later(error.to_string());
    let bearer = match token {
        Some(token) => token.clone(),
        None => request_token(settings, http).await.map_err(later)?,
    };
    let lines: String = calls.iter().map(|call| format!("{call}\n")).collect();
    let request = http
        .post(format!("{}/audit/api-calls", settings.issuer))
        .bearer_auth(&bearer);
    let answer = request
        .header(CONTENT_TYPE, "application/x-ndjson")
        .body(lines)
        .send()
        .await;
    let answer = answer.map_err(later)?;
    let status = answer.status();
    // It is kept until it is refused: then it has expired, or was revoked.
    *token = (status != reqwest::StatusCode::UNAUTHORIZED).then_some(bearer);
    match status.as_u16() {
        200 => {
            let reported: Reported = answer.json().await.map_err(later)?;
            reported
                .rejected
                .iter()
                .for_each(|call| eprintln!("a call was not recorded: {call}"));
            Ok(())
        }
        400 | 413 => Err(NotReported::Refused(answer.text().await.unwrap_or_default())),
        _ => Err(NotReported::Later(format!("Grantlog answered {status}"))),
    }
}

async fn request_token(settings: &Settings, http: &reqwest::Client) -> reqwest::Result<String> {
    #[derive(Deserialize)]
    struct Granted {
        access_token: String,
    }
    let form = [
        ("grant_type", "client_credentials"),
        ("scope", "calls:report"),
        ("audience", settings.issuer.as_str()),
    ];
    let request = http.post(format!("{}/connect/token", settings.issuer)).form(&form);
    let request = request.basic_auth(&settings.client_id, Some(&settings.client_secret));
    let granted: Granted = request.send().await?.error_for_status()?.json().await?;
    Ok(granted.access_token)
}
