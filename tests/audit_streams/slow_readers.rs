//! Readers that take nothing hold nobody up, and have everything in the end.

use crate::long_log;
use crate::running_server::{Administrator, Start};
use reqwest::{Method, Response};
use serde_json::json;
use std::time::{Duration, Instant};

/// More than sockets hold: 1 KB each.
const EVENTS: usize = 30_000;
/// Readers that take nothing.
const SLOW: usize = 8;
/// What comes at all comes well within this.
const PATIENCE: Duration = Duration::from_secs(90);

/// The ids of the events of a tail up to an index: what was there by then, and maybe more.
async fn ids_through(mut tail: Response, last: u64) -> Vec<u64> {
    let mut ids = Vec::new();
    let mut text: Vec<u8> = Vec::new();
    while ids.last().is_none_or(|id| *id < last) {
        let chunk = tokio::time::timeout(PATIENCE, tail.chunk()).await;
        text.extend(chunk.expect("something comes").expect("no break").expect("no end"));
        let whole = text.windows(2).rposition(|two| two == b"\n\n").map_or(0, |end| end + 2);
        let rest = text.split_off(whole);
        let blocks = std::str::from_utf8(&text).expect("UTF-8").split("\n\n");
        let of_events = blocks.filter(|block| block.contains("\ndata: "));
        ids.extend(of_events.map(|block| {
            let id = block.lines().find_map(|line| line.strip_prefix("id: "));
            id.expect("an id").parse::<u64>().expect("an index")
        }));
        text = rest;
    }
    ids.truncate(last as usize + 1);
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_nothing_holds_nobody_up_and_misses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("data");
    long_log::fill(&data_dir, EVENTS).await;
    let server = Start::over(&data_dir).start();
    let administrator = Administrator::of(&server).await;
    let open = async || {
        let tail = administrator
            .request(Method::GET, "/audit/tail?from_index=0")
            .send()
            .await;
        let tail = tail.expect("an answer");
        assert!(tail.status().is_success(), "{}", tail.status());
        tail
    };
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        slow.push(open().await);
    }

    // While they take nothing, changes are made and another reader has all of it.
    let quick = open().await;
    let last = long_log::read(&data_dir).await.len() as u64 - 1;
    let reading = tokio::spawn(ids_through(quick, last));
    let mut slowest = Duration::ZERO;
    for number in 0..20 {
        let begun = Instant::now();
        administrator
            .register(json!({"application_uri": format!("app-{number}"), "system_user": "svc", "scope": "read"}))
            .await;
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < Duration::from_secs(30), "{slowest:?}");
    let expected: Vec<u64> = (0..=last).collect();
    assert!(reading.await.expect("no panic") == expected);

    // Each goes on where it was, and ends with what has come meanwhile.
    let last = long_log::read(&data_dir).await.len() as u64 - 1;
    let expected: Vec<u64> = (0..=last).collect();
    for tail in slow {
        assert!(ids_through(tail, last).await == expected);
    }
}
