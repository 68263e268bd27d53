//! What the official client does wrong (`tests/kurrentdb_double/tests/double/client_defects.rs` shows each), and that
//! the store survives it: the same cluster, the same faults, and no client in sight.

use crate::entered::Two;
use crate::running_server::{json, request_token};
use crate::site::{LOOK_EVERY, PATIENCE, Site, readiness, ready, register, text, until};
use grantlog::event_store::kurrentdb::{KurrentDbEventStore, KurrentDbOptions, KurrentDbUrl, OpenError};
use grantlog::event_store::{
    Append, AppendError, Appended, Direction, EventStore, EventToAppend, ExpectedRevision, MAX_EVENT_BYTES,
};
use grantlog_kurrentdb_double::{
    Cluster, Code, Cut, Delay, ExpectedRevision as Expecting, LoggedEvent, Loss, NewEvent, Options, Security, Status,
    UnderWay,
};
use reqwest::header::IF_MATCH;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use uuid::Uuid;

/// Appends may wait this long for a cluster that is being repaired.
const APPEND_TIMEOUT: Duration = Duration::from_secs(40);
/// Rounds in which two nodes change the same at once.
const ROUNDS: usize = 20;
/// So long a majority of the cluster's nodes takes to confirm an append.
const UNCONFIRMED: Duration = Duration::from_millis(400);
/// A node that does not find its last event believes that after half a minute of being told so, without counting what
/// a loaded machine puts between.
const LOST_WITHIN: Duration = Duration::from_secs(180);
/// What a loaded machine may take to notice.
const LATE: Duration = Duration::from_secs(30);

/// A data folder, of which only the positions matter here.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn options(&self, url: &str) -> KurrentDbOptions {
        let url = KurrentDbUrl::parse(url).expect("a connection string");
        KurrentDbOptions {
            append_timeout: APPEND_TIMEOUT,
            ..KurrentDbOptions::new(url, self.0.path().join("positions.db"))
        }
    }

    async fn open(&self, url: &str) -> KurrentDbEventStore {
        KurrentDbEventStore::open(self.options(url))
            .await
            .expect("the log opens")
    }
}

fn cluster(nodes: usize) -> Cluster {
    Cluster::start(Options {
        nodes,
        election_delay: Duration::from_millis(300),
        ..Options::default()
    })
    .expect("the double starts")
}

fn event(bytes: usize) -> EventToAppend {
    let id = Uuid::now_v7();
    EventToAppend {
        id,
        event_type: "TokenIssued",
        bytes: format!(r#"{{"id":"{id}","padding":"{}"}}"#, "x".repeat(bytes))
            .into_bytes()
            .into(),
    }
}

fn one(stream: &str, expected: ExpectedRevision, event: EventToAppend) -> Append {
    Append {
        stream: stream.to_owned(),
        expected,
        events: vec![event],
    }
}

async fn append(store: &dyn EventStore, stream: &str) -> Result<Appended, AppendError> {
    store
        .append_to_stream(one(stream, ExpectedRevision::Any, event(10)))
        .await
}

/// All events are there, once, at their places, in the store's eyes and in the cluster's.
async fn is_whole(store: &dyn EventStore, cluster: &Cluster, size: u64) {
    let in_cluster: Vec<_> = cluster
        .log()
        .into_iter()
        .filter(|event| event.stream.starts_with("grantlog."))
        .collect();
    assert_eq!((store.log_size(), in_cluster.len() as u64), (size, size));
    let read = store
        .read_all(0, Direction::Forwards, in_cluster.len().max(1))
        .await
        .expect("it can be read");
    for (at, (read, written)) in read.iter().zip(&in_cluster).enumerate() {
        assert_eq!((read.index, &read.bytes[..]), (at as u64, &written.data[..]));
    }
    assert_eq!(read.len(), in_cluster.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_opened_before_the_cluster_is_up_opens_when_it_is() {
    let cluster = cluster(1);
    let url = cluster.connection_string();
    cluster.kill(0, UnderWay::NotCommitted);
    let folder = Folder::new();
    let impatient = KurrentDbOptions {
        connect_timeout: Duration::from_millis(500),
        ..folder.options(&url)
    };
    let refused = KurrentDbEventStore::open(impatient)
        .await
        .err()
        .expect("there is no cluster");
    assert!(matches!(refused, OpenError::Unreachable { .. }), "{refused}");

    let options = folder.options(&url);
    let opening = tokio::spawn(KurrentDbEventStore::open(options));
    // Long enough for the first connections to fail.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(!opening.is_finished());
    cluster.restart(0);
    let store = opening.await.expect("no panic").expect("the log opens");
    append(&store, "stream").await.unwrap();
    is_whole(&store, &cluster, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_gone_is_replaced_by_the_one_that_gossip_names() {
    let cluster = cluster(3);
    let store = Folder::new().open(&cluster.connection_string()).await;
    append(&store, "stream").await.unwrap();
    for (round, under_way) in [UnderWay::NotCommitted, UnderWay::Committed].into_iter().enumerate() {
        let killed = cluster.kill_leader(under_way);
        append(&store, "stream").await.unwrap();
        assert_eq!(store.read_stream("stream", 0, 10).await.unwrap().len(), round + 2);
        cluster.restart(killed);
    }
    is_whole(&store, &cluster, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_demoted_names_the_new_one_and_one_that_is_silent_is_left() {
    let cluster = cluster(3);
    let store = Folder::new().open(&cluster.connection_string()).await;
    append(&store, "stream").await.unwrap();
    for _ in 0..3 {
        cluster.demote_leader();
        append(&store, "stream").await.unwrap();
    }
    let silent = cluster.wait_for_leader();
    cluster.pause(silent);
    append(&store, "stream").await.unwrap();
    cluster.resume(silent);
    is_whole(&store, &cluster, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_answer_is_lost_is_made_again_and_written_once() {
    let cluster = cluster(1);
    let store = Arc::new(Folder::new().open(&cluster.connection_string()).await);
    append(&*store, "stream").await.unwrap();
    let expectations = [ExpectedRevision::Any, ExpectedRevision::Exact(1), ExpectedRevision::Any];
    for (before, (expected, loss)) in expectations
        .into_iter()
        .zip([Loss::Reset, Loss::Silence, Loss::Reset])
        .enumerate()
    {
        // As long as nothing is read back, the answer alone could tell that the event is there.
        cluster.stall_subscriptions();
        cluster.lose_answers(1, loss);
        let appending = store.append_to_stream(one("stream", expected, event(10)));
        let appending = tokio::spawn(appending);
        until("it is made again and recognised", async || {
            cluster.repeated_appends() as usize > before
        })
        .await;
        cluster.release_subscriptions();
        let appended = appending.await.expect("no panic").unwrap();
        assert_eq!(appended.revision, before as u64 + 1);
    }
    is_whole(&*store, &cluster, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_append_harms_none_of_those_beside_it() {
    let cluster = Cluster::start(Options {
        max_append_bytes: 8 * 1024,
        ..Options::default()
    })
    .expect("the double starts");
    let store = Arc::new(Folder::new().open(&cluster.connection_string()).await);
    append(&*store, "stream").await.unwrap();
    // The first calls meet a server that is not ready.
    cluster.refuse_appends(3, Status::new(Code::Unavailable, "not now"));
    let mut appends = Vec::new();
    for round in 0..60 {
        let (expected, bytes) = match round % 6 {
            0 => (ExpectedRevision::Exact(1_000), 10),
            1 => (ExpectedRevision::NoStream, 10),
            // More than this server takes.
            2 => (ExpectedRevision::Exact(0), 20 * 1024),
            _ => (ExpectedRevision::Any, 10),
        };
        let stream = if round % 2 == 0 { "stream" } else { "stream-2" };
        let append = one(stream, expected, event(bytes));
        let (store, is_good) = (store.clone(), expected == ExpectedRevision::Any);
        appends.push((
            is_good,
            tokio::spawn(async move { store.append_to_stream(append).await }),
        ));
    }
    let mut good = 1;
    for (is_good, appended) in appends {
        match appended.await.expect("no panic") {
            Ok(_) => good += 1,
            Err(error) => assert!(
                !is_good
                    && matches!(
                        error,
                        AppendError::WrongExpectedRevision { .. } | AppendError::OutOfBounds(_)
                    ),
                "{error}"
            ),
        }
    }
    assert!(
        (31..=32).contains(&good),
        "{good}: one of those that expect no stream may be the first in it"
    );
    is_whole(&*store, &cluster, good).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_write_between_is_passed_over_and_not_counted() {
    let cluster = cluster(1);
    let folder = Folder::new();
    let noise = |count: usize| {
        for _ in 0..count / 500 {
            let of_server: Vec<NewEvent> = (0..500).map(|_| foreign("{}")).collect();
            cluster.append("$stats", Expecting::Any, &of_server);
            cluster.append("another-application", Expecting::Any, &[foreign("{}")]);
        }
    };
    noise(20_000);
    let store = folder.open(&cluster.connection_string()).await;
    for _ in 0..3 {
        append(&store, "stream").await.unwrap();
        noise(20_000);
    }
    append(&store, "stream").await.unwrap();
    noise(20_000);
    is_whole(&store, &cluster, 4).await;
    until("it knows that it has read all", async || store.cut_off().is_none()).await;
    store.close().await;
    drop(store);
    let store = folder.open(&cluster.connection_string()).await;
    append(&store, "stream").await.unwrap();
    is_whole(&store, &cluster, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_write_costs_few_messages() {
    /// Events between two messages, at least. Where the client leaves it open, the server takes 32.
    const AT_LEAST_BETWEEN: u64 = 1_000;
    const OF_OTHERS: u64 = 50_000;
    let cluster = cluster(1);
    for _ in 0..OF_OTHERS / 500 {
        let of_others: Vec<NewEvent> = (0..500).map(|_| foreign("{}")).collect();
        cluster.append("others", Expecting::Any, &of_others);
    }
    let store = Folder::new().open(&cluster.connection_string()).await;
    append(&store, "stream").await.unwrap();
    let messages = cluster.checkpoints();
    assert!(
        (1..=OF_OTHERS / AT_LEAST_BETWEEN).contains(&messages),
        "{messages} messages for {OF_OTHERS} events of others"
    );
}

fn foreign(data: &str) -> NewEvent {
    NewEvent {
        id: Uuid::now_v7(),
        event_type: "SomethingElse".to_owned(),
        content_type: "application/json".to_owned(),
        data: data.to_owned().into(),
        custom_metadata: Default::default(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_the_one_that_comes_second_is_told_so_when_it_can_read_what_came_first() {
    let cluster = cluster(1);
    let (here, there) = (Folder::new(), Folder::new());
    let url = cluster.connection_string();
    let stores = [here.open(&url).await, there.open(&url).await];
    for round in 0..50 {
        let stream = format!("stream-{round}");
        let append = |at: usize| stores[at].append_to_stream(one(&stream, ExpectedRevision::NoStream, event(10)));
        let (one, other) = tokio::join!(append(0), append(1));
        for (store, outcome) in stores.iter().zip([&one, &other]) {
            if let Err(error) = outcome {
                assert!(
                    matches!(error, AppendError::WrongExpectedRevision { actual: Some(0), .. }),
                    "{error}"
                );
                assert_eq!(store.read_stream(&stream, 0, 10).await.unwrap().len(), 1);
            }
        }
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_second_is_told_so_when_it_can_read_a_winner_that_the_cluster_does_not_show_yet() {
    let cluster = cluster(1);
    let (here, there) = (Folder::new(), Folder::new());
    let url = cluster.connection_string();
    let stores = [here.open(&url).await, there.open(&url).await];
    // KurrentDB refuses the second at once, and shows the first when a majority of its nodes has it.
    cluster.delay_confirmations(Delay::Fixed(UNCONFIRMED));
    for round in 0..5 {
        let stream = format!("stream-{round}");
        let append = |at: usize| stores[at].append_to_stream(one(&stream, ExpectedRevision::NoStream, event(10)));
        let first = tokio::spawn(append(0));
        let before = round + 1;
        until("the first is written", async || cluster.log().len() == before).await;
        let refused = append(1).await.expect_err("it comes second");
        assert!(
            matches!(refused, AppendError::WrongExpectedRevision { actual: Some(0), .. }),
            "{refused}"
        );
        assert_eq!(stores[1].read_stream(&stream, 0, 10).await.unwrap().len(), 1);
        first.await.expect("no panic").expect("it came first");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disabling_goes_through_and_a_stale_if_match_is_412_while_what_came_first_is_not_shown_yet() {
    let two = Two::on(Site::on_double(Options::default()), "").await;
    let (first, second) = (two.administrator(0).await, two.administrator(1).await);
    let made = register(&first, "orders").await;
    let path = format!("/admin/applications/{}", text(&made, "id"));
    let cluster = two.site.double();
    let of_type = |name: &'static str| {
        let events = cluster.log().into_iter();
        events
            .filter(move |event| &*event.event_type == name)
            .map(|event| event.stream.to_string())
    };
    let stream = of_type("ApplicationRegistered").last().expect("it is in the log");
    let with_if_match = async |revision: &Value| {
        let request = second
            .request(Method::PATCH, &path)
            .header(IF_MATCH, format!("\"{revision}\""));
        let answer = request.json(&json!({"owner": "of the second"})).send().await;
        json(answer.expect("an answer")).await
    };
    for is_disabled in [true, false] {
        let conflicts = cluster.conflicts(&stream);
        // Who is first is a matter of luck, so until the second node was.
        for round in 0..ROUNDS {
            two.same_checkpoint().await;
            let revision = &second.get(&path).await.1["revision"];
            cluster.delay_confirmations(Delay::Fixed(UNCONFIRMED));
            let calls = of_type("ApiCallAuthorized").count();
            let owner = json!({"owner": format!("{is_disabled} {round}")});
            let changing = tokio::spawn(first.request(Method::PATCH, &path).json(&owner).send());
            until("the first node is at it", async || {
                of_type("ApiCallAuthorized").count() > calls
            })
            .await;
            let (status, answer) = match is_disabled {
                true => second.post(&format!("{path}/disable"), &json!({})).await,
                false => with_if_match(revision).await,
            };
            let changed = changing.await.expect("no panic").expect("an answer").status();
            match (status, is_disabled) {
                (StatusCode::OK, true) => {}
                (StatusCode::PRECONDITION_FAILED, false) => assert_eq!(changed, StatusCode::OK),
                (StatusCode::OK, false) => assert_eq!(changed, StatusCode::CONFLICT),
                _ => panic!("{status} {answer}"),
            }
            cluster.delay_confirmations(Delay::None);
            let (status, answer) = first.post(&format!("{path}/enable"), &json!({})).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
            if changed == StatusCode::OK && cluster.conflicts(&stream) > conflicts {
                break;
            }
        }
        assert!(cluster.conflicts(&stream) > conflicts, "no race in {ROUNDS} rounds");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_to_a_silent_server_ends_and_the_node_says_that_it_is_cut_off() {
    let cluster = cluster(1);
    let entrance = cluster.entrance("silent").expect("an entrance");
    let folder = Folder::new();
    let options = KurrentDbOptions {
        append_timeout: Duration::from_secs(1),
        max_staleness: Duration::from_secs(1),
        ..folder.options(&entrance.connection_string())
    };
    let store = KurrentDbEventStore::open(options).await.expect("the log opens");
    until("it is well", async || {
        append(&store, "stream").await.is_ok() && store.cut_off().is_none()
    })
    .await;
    entrance.cut(Cut::BlackHole);
    let since = Instant::now();
    let unknown = append(&store, "stream").await.unwrap_err();
    assert!(matches!(unknown, AppendError::Indeterminate(_)), "{unknown}");
    assert!(since.elapsed() < Duration::from_secs(1) + LATE, "{:?}", since.elapsed());
    until("it says so", async || store.cut_off().is_some()).await;
    let why = store.cut_off().expect("it is cut off");
    assert!(why.contains("store.max_staleness_seconds"), "{why}");
    // Reads are tried again and again, and end all the same.
    let read = tokio::time::timeout(2 * PATIENCE, store.read_stream("stream", 0, 10)).await;
    read.expect("it ends").unwrap_err();
    entrance.heal();
    until("it is well again", async || {
        store.cut_off().is_none() && append(&store, "stream").await.is_ok()
    })
    .await;
    assert_eq!(store.failure(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_reads_of_a_server_that_reads_nothing_do_not_wait_for_one_another() {
    /// Three times as many as are made at once: one after the other they would take longer than anybody waits.
    const READS: usize = 48;
    let cluster = cluster(1);
    let store = Arc::new(Folder::new().open(&cluster.connection_string()).await);
    append(&*store, "stream").await.unwrap();
    cluster.delay_reads(Delay::Fixed(2 * PATIENCE));
    let reads: Vec<_> = (0..READS)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.read_stream("stream", 0, 10).await })
        })
        .collect();
    let all = tokio::time::timeout(PATIENCE, futures_util::future::join_all(reads));
    for read in all.await.expect("they end") {
        read.expect("no panic").unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_has_all_it_asked_for_does_not_wait_for_what_the_server_looks_through_behind_it() {
    let cluster = cluster(1);
    let folder = Folder::new();
    let url = cluster.connection_string();
    let store = folder.open(&url).await;
    for _ in 0..5 {
        append(&store, "stream").await.unwrap();
    }
    store.close().await;
    drop(store);
    // Of what was there before it was opened, it has nothing in memory.
    let store = folder.open(&url).await;
    cluster.hold_ends_of_reads();
    for (from, limit) in [(0, 5), (1, 3), (4, 1)] {
        let read = store.read_all(from, Direction::Forwards, limit).await;
        assert_eq!(read.expect("it can be read").len(), limit);
    }
    is_whole(&store, &cluster, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_and_a_user_whose_name_and_password_need_encoding_open_the_log_and_nothing_else_does() {
    let (name, password) = ("gr@nt/log", "p%20a/ss:w\u{f6}rd?#&+@ ");
    let cluster = Cluster::start(Options {
        nodes: 3,
        election_delay: Duration::from_millis(300),
        security: Security {
            tls: true,
            user: Some((name.to_owned(), password.to_owned())),
        },
        ..Options::default()
    })
    .expect("the double starts");
    let hosts: Vec<String> = cluster
        .main_entrance()
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    let authority = cluster.certificate_authority().expect("there is TLS");
    let encoded =
        |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let url = |user: &str, more: &str| {
        format!(
            "kurrentdb://{user}{}?tls=true&tlsCAFile={}{more}",
            hosts.join(","),
            authority.display()
        )
    };
    let with_password = url(&format!("{}:{}@", encoded(name), encoded(password)), "");
    let folder = Folder::new();
    let store = folder.open(&with_password).await;
    append(&store, "stream").await.unwrap();
    let killed = cluster.kill_leader(UnderWay::NotCommitted);
    append(&store, "stream").await.unwrap();
    cluster.restart(killed);
    is_whole(&store, &cluster, 2).await;
    store.close().await;
    drop(store);

    let (certificate, key) = cluster.user_certificate().expect("there is TLS");
    let files = format!("&userCertFile={}&userKeyFile={}", certificate.display(), key.display());
    let store = folder.open(&url("", &files)).await;
    append(&store, "stream").await.unwrap();
    store.close().await;
    drop(store);

    let wrong = url(&format!("{}:{}@", encoded(name), encoded("guessed")), "");
    // A node that is being started knows no user yet, so it is given this time.
    let options = KurrentDbOptions {
        connect_timeout: Duration::from_secs(6),
        ..folder.options(&wrong)
    };
    let refused = KurrentDbEventStore::open(options).await.err();
    let refused = refused.expect("nobody is let in");
    assert!(matches!(refused, OpenError::AccessDenied { .. }), "{refused}");
    assert!(!refused.to_string().contains("guessed"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_password_no_longer_holds_says_so_and_goes_on_when_it_does() {
    let cluster = Cluster::start(Options {
        security: Security {
            tls: false,
            user: Some(("grantlog".to_owned(), "first".to_owned())),
        },
        ..Options::default()
    })
    .expect("the double starts");
    let folder = Folder::new();
    let options = KurrentDbOptions {
        max_staleness: Duration::from_secs(1),
        ..folder.options(&cluster.connection_string())
    };
    let store = KurrentDbEventStore::open(options).await.expect("the log opens");
    append(&store, "stream").await.unwrap();
    cluster.change_password("second");
    let mut said = None;
    until("it is cut off and says why", async || {
        said = store.cut_off();
        said.as_ref().is_some_and(|why| why.contains("access denied"))
    })
    .await;
    let why = said.expect("it is cut off");
    assert!(why.contains("read $all") && !why.contains("first"), "{why}");
    cluster.change_password("first");
    until("it is well again", async || {
        store.cut_off().is_none() && append(&store, "stream").await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_of_another_log_are_not_believed() {
    let folder = Folder::new();
    {
        let cluster = cluster(1);
        let store = folder.open(&cluster.connection_string()).await;
        for _ in 0..10 {
            append(&store, "stream").await.unwrap();
        }
        store.close().await;
    }
    // A log that is shorter, one that is longer, and one that is empty.
    for (events, bytes) in [(3, 10), (30, 77), (0, 0)] {
        let other = cluster(1);
        let writer = Folder::new().open(&other.connection_string()).await;
        for _ in 0..events {
            let append = one("stream", ExpectedRevision::Any, event(bytes));
            writer.append_to_stream(append).await.unwrap();
        }
        // A leader that is new may not show all yet, so it is given this time.
        let options = KurrentDbOptions {
            connect_timeout: Duration::from_secs(6),
            ..folder.options(&other.connection_string())
        };
        let refused = KurrentDbEventStore::open(options).await.err();
        let refused = refused.unwrap_or_else(|| panic!("a log of {events} events was taken for the one of 10"));
        assert!(matches!(refused, OpenError::AnotherLog { .. }), "{refused}");
    }
}

/// A server at the place of one that is gone, with a log of its own. Whoever comes there finds it complete.
async fn in_its_place(port: u16, restored: Vec<(String, NewEvent)>) -> Cluster {
    let options = Options {
        port_base: port,
        restored,
        ..Options::default()
    };
    let begun = Instant::now();
    loop {
        match Cluster::start(options.clone()) {
            Ok(cluster) => return cluster,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error:#}"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The port of a cluster's first node.
fn port_of(cluster: &Cluster) -> u16 {
    cluster.main_entrance().addresses()[0].port()
}

/// What a log has, as a backup of it has it.
fn backup_of(cluster: &Cluster) -> Vec<(String, NewEvent)> {
    let again = |event: LoggedEvent| NewEvent {
        id: event.id,
        event_type: event.event_type.to_string(),
        content_type: "application/json".to_owned(),
        data: event.data,
        custom_metadata: Default::default(),
    };
    let events = cluster.log().into_iter();
    events.map(|event| (event.stream.to_string(), again(event))).collect()
}

/// Where a log's last event is.
fn end_of(cluster: &Cluster) -> u64 {
    cluster.log().last().map_or(0, |event| event.position)
}

/// The log of an old backup takes the place of one of ten events, and has these events since.
async fn is_noticed_when_rolled_back_with(since: Vec<NewEvent>, new_end: Ordering) {
    let before = cluster(1);
    let port = port_of(&before);
    let store = Folder::new().open(&before.connection_string()).await;
    for _ in 0..10 {
        append(&store, "stream").await.unwrap();
    }
    let last = end_of(&before);
    drop(before);
    let since = since.into_iter().map(|event| ("grantlog.stream".to_owned(), event));
    let after = in_its_place(port, since.collect()).await;
    assert_eq!(end_of(&after).cmp(&last), new_end);
    assert!(after.log().iter().all(|event| event.position != last));
    let why = tokio::time::timeout(LOST_WITHIN, store.failed())
        .await
        .expect("it is noticed");
    assert!(why.contains("restored from a backup"), "{why}");
    append(&store, "stream").await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_rolled_back_while_it_is_followed_is_noticed() {
    is_noticed_when_rolled_back_with(Vec::new(), Ordering::Less).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_rolled_back_and_has_grown_past_what_was_read_is_noticed() {
    let padding = format!("\"{}\"", "x".repeat(77));
    let since = (0..100).map(|_| foreign(&padding)).collect();
    is_noticed_when_rolled_back_with(since, Ordering::Greater).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_finds_another_event_in_the_place_of_its_last_is_cut_off_until_it_stops() {
    let before = cluster(1);
    let port = port_of(&before);
    let folder = Folder::new();
    let options = KurrentDbOptions {
        max_staleness: Duration::from_secs(2),
        ..folder.options(&before.connection_string())
    };
    let store = KurrentDbEventStore::open(options).await.expect("the log opens");
    for _ in 0..10 {
        append(&store, "stream").await.unwrap();
    }
    // As long as the log was: who asks for nothing but its end finds nothing amiss.
    let (mut others, end) = (backup_of(&before), end_of(&before));
    for (_, event) in &mut others {
        event.id = Uuid::now_v7();
    }
    drop(before);
    let after = in_its_place(port, others).await;
    assert_eq!(end_of(&after), end);
    let mut was_cut_off = false;
    let begun = Instant::now();
    loop {
        let is_cut_off = store.cut_off().is_some();
        if store.failure().is_some() {
            break;
        }
        was_cut_off = is_cut_off;
        assert!(begun.elapsed() < LOST_WITHIN, "it is not noticed");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    assert!(was_cut_off);
}

/// A log of ten events, and behind them so much of others that a node has looked through some of it: the node, the
/// ten events, how far it looked, and the port. The cluster is gone.
async fn having_looked_through_what_is_gone(
    folder: &Folder,
) -> (KurrentDbEventStore, Vec<(String, NewEvent)>, u64, u16) {
    let before = cluster(1);
    let port = port_of(&before);
    let store = folder.open(&before.connection_string()).await;
    for _ in 0..10 {
        append(&store, "stream").await.unwrap();
    }
    let ours = backup_of(&before);
    let checkpoints = before.checkpoints();
    until("it has looked through much that others wrote", async || {
        let of_others: Vec<NewEvent> = (0..500).map(|_| foreign("{}")).collect();
        before.append("others", Expecting::Any, &of_others);
        before.checkpoints() > checkpoints
    })
    .await;
    let through = before.last_checkpoint();
    (store, ours, through, port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_that_has_lost_nothing_of_this_log_is_gone_on_from_though_what_was_looked_through_is_not_there() {
    let folder = Folder::new();
    let (store, mut restored, through, port) = having_looked_through_what_is_gone(&folder).await;
    let padding = format!("\"{}\"", "x".repeat(77));
    restored.extend((0..20_000).map(|_| ("others".to_owned(), foreign(&padding))));
    let after = in_its_place(port, restored).await;
    assert!(end_of(&after) > through && after.log().iter().all(|event| event.position != through));
    append(&store, "stream").await.unwrap();
    is_whole(&store, &after, 11).await;
    assert_eq!(store.failure(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_write_to_a_log_that_was_rolled_back_to_before_what_was_looked_through_is_not_passed_over() {
    let folder = Folder::new();
    let (store, ours, through, port) = having_looked_through_what_is_gone(&folder).await;
    let after = in_its_place(port, ours).await;
    until("it follows", async || after.subscriptions() == 1).await;
    let other = Folder::new();
    let other = other.open(&after.connection_string()).await;
    append(&other, "stream").await.unwrap();
    assert!(end_of(&after) < through);
    until("it has read that", async || store.log_size() == 11).await;
    assert_eq!(append(&store, "stream").await.unwrap().last_index, 11);
    is_whole(&store, &after, 12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_grantlog_cannot_have_written_to_its_streams_stops_it_with_a_message() {
    let cluster = cluster(1);
    let folder = Folder::new();
    let store = folder.open(&cluster.connection_string()).await;
    append(&store, "stream").await.unwrap();
    let large = format!("\"{}\"", "x".repeat(MAX_EVENT_BYTES));
    cluster.append("grantlog.foreign", Expecting::Any, &[foreign(&large)]);
    let why = tokio::time::timeout(PATIENCE, store.failed())
        .await
        .expect("it is noticed");
    assert!(
        why.contains("grantlog.foreign") && why.contains("nobody else may write"),
        "{why}"
    );
    drop(store);
    let refused = KurrentDbEventStore::open(folder.options(&cluster.connection_string()))
        .await
        .err();
    let refused = refused.expect("it does not open either").to_string();
    assert!(refused.contains("grantlog.foreign"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_that_the_server_has_ended_cost_no_processor_and_are_begun_anew() {
    /// For so long it is measured.
    const MEASURED: Duration = Duration::from_secs(2);
    /// Hundredths of a second, as Linux counts them: a thread that spins takes most of the 200, even on a loaded
    /// machine many more than these; one that waits takes none.
    const MOST_TICKS: u64 = 20;
    let site = Site::on_double(Options::default());
    let node = site.node("one");
    let server = node.start();
    let http = reqwest::Client::new();
    let cluster = site.double();
    let (client_id, secret) = server.administrator();
    for _ in 0..3 {
        cluster.end_subscriptions();
        // Each needs an append that the follower reads back.
        let (status, told) = request_token(&http, &server.url, &client_id, &secret, &[]).await;
        assert_eq!(status, StatusCode::OK, "{told}");
    }
    cluster.end_subscriptions();
    let before = follower_ticks(server.pid());
    tokio::time::sleep(MEASURED).await;
    let spent = follower_ticks(server.pid()) - before;
    assert!(
        spent <= MOST_TICKS,
        "its follower has used {spent} ticks of {MEASURED:?}"
    );
    ready(&http, &server).await;
    assert_eq!(tokio::task::block_in_place(|| server.stop()).code(), Some(0));
}

/// What the follower's thread of a process has used of a processor.
fn follower_ticks(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let of_follower = threads.flatten().find_map(|thread| {
        let name = std::fs::read_to_string(thread.path().join("comm")).ok()?;
        // Linux keeps 15 characters.
        "kurrentdb-follower".starts_with(name.trim()).then_some(())?;
        (name.trim().len() > "kurrentdb".len()).then_some(())?;
        let stat = std::fs::read_to_string(thread.path().join("stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // proc_pid_stat(5): utime and stime are the 14th and 15th, the state behind the name is the 3rd.
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    });
    of_follower.expect("it has a follower")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_of_somebody_else_among_its_own_takes_a_node_out_of_service_and_it_says_why() {
    let site = Site::on_double(Options::default());
    let node = site.node("one");
    let server = node.start();
    let http = reqwest::Client::new();
    ready(&http, &server).await;
    let ours = site.double().log();
    let stream = ours.last().expect("its own events").stream.to_string();
    let prefix = stream.split_once('.').expect("a prefix").0;
    let foreign = foreign(r#"{"hello": "world"}"#);
    site.double()
        .append(&format!("{prefix}.foreign"), Expecting::Any, &[foreign]);
    let mut told = serde_json::Value::Null;
    until("it is not ready", async || {
        let (status, body) = readiness(&http, &server).await;
        told = body;
        status == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    println!("{told}");
    let place = (ours.len()).to_string();
    assert!(
        told["reasons"].to_string().contains(&place),
        "the event's index is named: {told}"
    );
}
