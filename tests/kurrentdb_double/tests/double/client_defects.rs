//! What the official client, version 1.2, does not survive. Each test shows the bare client fail: it is what
//! Grantlog's supervision is for, and when one of them fails with a newer client, its part can go.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use eventstore::{
    BatchAppendOptions, Error, StreamPosition, StreamState, SubscribeToAllOptions, SubscriptionEvent,
    SubscriptionFilter,
};
use grantlog_kurrentdb_double::{Cluster, Options, UnderWay};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::{client, event, expecting, one_node};

#[tokio::test]
async fn a_failed_first_connect_kills_the_client_for_good() {
    let cluster = Cluster::start(Options::default()).unwrap();
    cluster.kill(0, UnderWay::NotCommitted);
    let unlucky = client(&cluster.connection_string());
    let failed = unlucky
        .append_to_stream("stream", &expecting(StreamState::Any), event("a"))
        .await
        .unwrap_err();
    assert!(matches!(failed, Error::GrpcConnectionError(_)), "{failed}");

    cluster.restart(0);
    cluster.wait_for_leader();
    client(&cluster.connection_string())
        .append_to_stream("stream", &expecting(StreamState::Any), event("b"))
        .await
        .unwrap();
    for _ in 0..3 {
        let closed = unlucky
            .append_to_stream("stream", &expecting(StreamState::Any), event("c"))
            .await
            .unwrap_err();
        assert!(matches!(closed, Error::ConnectionClosed), "{closed}");
    }
}

#[tokio::test]
async fn a_client_that_has_lost_its_leader_keeps_calling_the_dead_node_and_asks_nobody() {
    let cluster = Cluster::start(Options {
        nodes: 3,
        ..Options::default()
    })
    .unwrap();
    let client = client(&cluster.connection_string());
    client
        .append_to_stream("stream", &expecting(StreamState::Any), event("a"))
        .await
        .unwrap();

    cluster.kill_leader(UnderWay::NotCommitted);
    cluster.wait_for_leader();
    let before = [cluster.calls(1), cluster.calls(2)];
    for _ in 0..5 {
        let failed = client
            .append_to_stream("stream", &expecting(StreamState::Any), event("b"))
            .await
            .unwrap_err();
        assert!(matches!(failed, Error::ServerError(_)), "{failed}");
    }
    assert_eq!([cluster.calls(1), cluster.calls(2)], before);
    assert_eq!(cluster.log().len(), 1);
}

#[tokio::test]
async fn a_deadline_is_kept_by_the_server_alone_so_that_a_silent_one_is_waited_for() {
    const DEADLINE: Duration = Duration::from_millis(50);
    let (cluster, client) = one_node();
    client
        .append_to_stream("stream", &expecting(StreamState::Any), event("a"))
        .await
        .unwrap();
    let options = expecting(StreamState::Any).deadline(DEADLINE);
    cluster.hold_appends();
    let by_the_server = client
        .append_to_stream("stream", &options, event("b"))
        .await
        .unwrap_err();
    assert!(matches!(by_the_server, Error::DeadlineExceeded), "{by_the_server}");
    cluster.pause(0);
    let asked = client.append_to_stream("stream", &options, event("c"));
    // It is the keep-alive of the connection, twenty seconds by default, that ends this.
    tokio::time::timeout(20 * DEADLINE, asked)
        .await
        .expect_err("the client keeps its deadline by itself");
}

/// How a wait with a timeout of its own ended.
#[derive(Debug, PartialEq)]
enum Ended {
    ByTheTimeout,
    ByTheServer,
    /// Torn out of one poll that did not end, long after the timeout was due.
    TornOut,
}

#[test]
fn next_spins_for_ever_on_a_subscription_that_the_server_has_ended() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let cluster = Cluster::start(Options::default()).unwrap();
    let connection_string = cluster.connection_string();
    let (subscribed, is_subscribed) = mpsc::channel();
    let (go_on, told_to_go_on) = mpsc::channel();
    let spinning = Arc::new(Spinning::default());
    let seen = Arc::clone(&spinning);
    // Of its own: the loop takes the whole thread, and no timer of its runtime fires.
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (mut subscription, client) = runtime.block_on(async {
            let client = client(&connection_string);
            let mut subscription = client.subscribe_to_all(&SubscribeToAllOptions::default()).await;
            while !matches!(
                subscription.next_subscription_event().await.unwrap(),
                SubscriptionEvent::CaughtUp(_)
            ) {}
            (subscription, client)
        });
        subscribed.send(()).unwrap();
        told_to_go_on.recv().unwrap();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            tracing::dispatcher::with_default(&tracing::Dispatch::new(TearOut(seen)), || {
                runtime.block_on(async { tokio::time::timeout(TIMEOUT, subscription.next()).await })
            })
        }));
        drop(client);
        match ended {
            Ok(Err(_)) => Ended::ByTheTimeout,
            Ok(Ok(_)) => Ended::ByTheServer,
            Err(_) => Ended::TornOut,
        }
    });
    is_subscribed.recv().unwrap();
    cluster.end_subscriptions();
    go_on.send(()).unwrap();
    assert_eq!(thread.join().unwrap(), Ended::TornOut);
    assert!(spinning.rounds.load(Ordering::Relaxed) > 1);
}

#[derive(Default)]
struct Spinning {
    rounds: AtomicU64,
}

/// Unwinds out of the loop by the only thing in it that can be taken hold of: the warning that it logs each round.
struct TearOut(Arc<Spinning>);

/// Three times the timeout that should have ended the wait: no timer is served in one poll, however long it takes.
const LONG_AFTER: Duration = Duration::from_secs(3);

impl Subscriber for TearOut {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN && metadata.target() == "kurrentdb::commands"
    }

    fn event(&self, event: &Event<'_>) {
        thread_local!(static FIRST: std::cell::Cell<Option<Instant>> = const { std::cell::Cell::new(None) });
        let mut message = Message::default();
        event.record(&mut message);
        if message.0 == "Received an unknown subscription message" {
            self.0.rounds.fetch_add(1, Ordering::Relaxed);
            let first = FIRST.get().unwrap_or_else(Instant::now);
            FIRST.set(Some(first));
            if first.elapsed() > LONG_AFTER {
                resume_unwind(Box::new("torn out"));
            }
        }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[tokio::test]
async fn one_refused_batch_append_kills_the_session_and_does_not_say_why_it_was_refused() {
    let (cluster, client) = one_node();
    let session = client.batch_append(&BatchAppendOptions::default()).await.unwrap();
    session
        .append_to_stream("stream", StreamState::NoStream, vec![event("a")])
        .await
        .unwrap();
    let refused = session
        .append_to_stream("stream", StreamState::NoStream, vec![event("b")])
        .await
        .unwrap_err();
    assert!(!matches!(refused, Error::WrongExpectedVersion { .. }), "{refused}");
    let closed = session
        .append_to_stream("stream", StreamState::StreamRevision(0), vec![event("c")])
        .await
        .unwrap_err();
    assert!(closed.to_string().contains("closed"), "{closed}");
    assert_eq!(cluster.log().len(), 1);
}

#[tokio::test]
async fn a_checkpoint_comes_with_every_window_whatever_the_interval_should_be() {
    for (window, checkpoints) in [(10, 10), (1000, 0)] {
        let (_cluster, client) = one_node();
        let filter = SubscriptionFilter::on_stream_name().add_prefix("mine").max(window);
        let options = SubscribeToAllOptions::default()
            .filter(filter)
            .position(StreamPosition::End);
        let mut subscription = client.subscribe_to_all(&options).await;
        while !matches!(
            subscription.next_subscription_event().await.unwrap(),
            SubscriptionEvent::CaughtUp(_)
        ) {}
        let others = (0..100).map(|_| event("other")).collect::<Vec<_>>();
        client
            .append_to_stream("theirs", &expecting(StreamState::Any), others)
            .await
            .unwrap();
        client
            .append_to_stream("mine", &expecting(StreamState::Any), event("mine"))
            .await
            .unwrap();
        let mut seen = 0;
        loop {
            match subscription.next_subscription_event().await.unwrap() {
                SubscriptionEvent::Checkpoint(_) => seen += 1,
                SubscriptionEvent::EventAppeared(_) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen, checkpoints, "window {window}");
    }
}
