//! Sessions that several nodes know of: begun by one, ended once.

use crate::node::{CLIENT, Cluster, now};
use grantlog::event_store::{Append, EventStore, EventToAppend, ExpectedRevision, codec};
use grantlog_projections::Event;
use grantlog_projections::event::{SessionStarted, TokenKind};
use grantlog_projections::recorded_event::Envelope;
use grantlog_projections::values::{Actor, ApplicationId, ApplicationUri, NodeName, StreamName};
use uuid::Uuid;

/// Longer ago than any node waits for another.
const LONG_AGO_SECONDS: i64 = 86_400;
/// Over, with the leeway of a minute at the most, and more recent than anybody takes over.
const JUST_NOW_SECONDS: i64 = 35;

/// Puts a session on the record whose token was over so many seconds ago.
async fn session_over_since(cluster: &Cluster, seconds: i64, node: &str) -> Uuid {
    let (stream, event, session_id) = session_begun(seconds, node);
    append(cluster, stream, vec![event]).await;
    session_id
}

async fn append(cluster: &Cluster, stream: StreamName, events: Vec<EventToAppend>) {
    let append = Append {
        stream: stream.as_str().to_owned(),
        expected: ExpectedRevision::Any,
        events,
    };
    cluster.log.append_to_stream(append).await.unwrap();
}

/// The beginning of a session whose token was over so many seconds ago.
fn session_begun(seconds: i64, node: &str) -> (StreamName, EventToAppend, Uuid) {
    let application_uri = ApplicationUri::parse(CLIENT).unwrap();
    let application_id = ApplicationId::of(&application_uri);
    let stream = StreamName::api_calls(Some(application_id));
    let session_id = Uuid::now_v7();
    let fact = SessionStarted {
        session_id,
        application_id,
        application_uri,
        jti: Uuid::now_v7(),
        token_kind: TokenKind::Jwt,
        system_user: None,
        token_expires_at: now().now.plus_seconds(-seconds),
        node: NodeName::parse(node).ok(),
    };
    let envelope = Envelope {
        id: Uuid::now_v7(),
        stream: stream.clone(),
        time: now().now.plus_seconds(-seconds - 60),
        actor: Actor::System,
        source: None,
        trace_id: None,
        event: fact.into(),
    };
    (stream, codec::encode(&envelope).unwrap(), session_id)
}

/// The sessions whose end is on the record, as often as it is.
async fn ended(cluster: &Cluster) -> Vec<Uuid> {
    let events = cluster.events().await;
    let ended = events.into_iter().filter_map(|recorded| match recorded.envelope.event {
        Event::SessionEnded(ended) => Some(ended.session_id),
        _ => None,
    });
    ended.collect()
}

#[tokio::test]
async fn the_node_that_began_a_session_ends_it_and_no_other_does() {
    let cluster = Cluster::new();
    let (one, other) = (cluster.started("one").await, cluster.started("other").await);
    let session = session_over_since(&cluster, JUST_NOW_SECONDS, "one").await;
    one.catch_up(&cluster).await;
    other.catch_up(&cluster).await;
    other.service.end_sessions_that_are_over().await.unwrap();
    assert!(ended(&cluster).await.is_empty(), "it is the first node's");
    one.service.end_sessions_that_are_over().await.unwrap();
    other.catch_up(&cluster).await;
    other.service.end_sessions_that_are_over().await.unwrap();
    assert_eq!(ended(&cluster).await, [session]);
}

#[tokio::test]
async fn the_sessions_of_a_node_that_is_gone_end_too_and_once() {
    let cluster = Cluster::new();
    let nodes = [cluster.started("one").await, cluster.started("other").await];
    let session = session_over_since(&cluster, LONG_AGO_SECONDS, "gone").await;
    let unnamed = session_over_since(&cluster, LONG_AGO_SECONDS, "").await;
    for node in &nodes {
        node.catch_up(&cluster).await;
        node.service.end_sessions_that_are_over().await.unwrap();
    }
    let mut ended = ended(&cluster).await;
    ended.sort();
    assert_eq!(ended, [session, unnamed]);
}

#[tokio::test]
async fn a_node_whose_state_is_late_does_not_end_what_another_has_ended() {
    let cluster = Cluster::new();
    let (one, other) = (cluster.started("one").await, cluster.started("other").await);
    let session = session_over_since(&cluster, LONG_AGO_SECONDS, "other").await;
    one.catch_up(&cluster).await;
    other.catch_up(&cluster).await;
    other.view.hold_state();
    one.service.end_sessions_that_are_over().await.unwrap();
    let shown = async { other.view.release_state() };
    let (late, ()) = tokio::join!(other.service.end_sessions_that_are_over(), shown);
    late.unwrap();
    assert_eq!(ended(&cluster).await, [session]);
}

#[tokio::test]
async fn sessions_of_others_do_not_keep_a_node_from_ending_its_own() {
    let cluster = Cluster::new();
    let one = cluster.started("one").await;
    // More than are ended in one go, all before the node's own; and recorded in a moment, for they must not be over long
    // enough for anybody to take them over.
    for _ in 0..11 {
        let begun: Vec<_> = (0..100).map(|_| session_begun(JUST_NOW_SECONDS + 1, "other")).collect();
        let stream = begun[0].0.clone();
        append(&cluster, stream, begun.into_iter().map(|(_, event, _)| event).collect()).await;
    }
    let own = session_over_since(&cluster, JUST_NOW_SECONDS, "one").await;
    one.catch_up(&cluster).await;
    one.service.end_sessions_that_are_over().await.unwrap();
    assert_eq!(ended(&cluster).await, [own]);
}

#[tokio::test]
async fn a_token_has_one_session_whichever_node_is_called() {
    let cluster = Cluster::new();
    let (one, other) = (cluster.started("one").await, cluster.started("other").await);
    let made = one.register().await;
    let token = one.ask(&made).await.unwrap();
    other.catch_up(&cluster).await;
    let begun = one.call(&token).await.unwrap().session_id;
    other.catch_up(&cluster).await;
    assert_eq!(other.call(&token).await.unwrap().session_id, begun);
    assert_eq!(cluster.count("SessionStarted").await, 1);
    let events = cluster.events().await;
    let node = events.iter().find_map(|recorded| match &recorded.envelope.event {
        Event::SessionStarted(started) => started.node.as_ref(),
        _ => None,
    });
    assert_eq!(node.map(NodeName::as_str), Some("one"));
}
