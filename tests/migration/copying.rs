//! What holds between any two stores.

use crate::events::{append, begin_copy, event, event_of_type, fill, root, whole_log};
use crate::{Place, migrated};
use grantlog::audit::transparency::merkle::empty_root;
use grantlog::event_store::EventToAppend;
use grantlog::service::migrate::{Migrated, MigrationError};
use uuid::Uuid;

type New<'a> = &'a (dyn Fn() -> Box<dyn Place> + Sync);

pub async fn an_empty_log_is_copied_by_doing_nothing(new_source: New<'_>, new_target: New<'_>) {
    let (source, to) = (new_source(), new_target());
    let target = to.open().await;
    let migrated = migrated(&*source.open().await, &*target, to.order()).await.unwrap();
    assert_eq!((migrated.events, migrated.root), (0, empty_root()));
    assert_eq!(target.log_size(), 0);
}

pub async fn every_event_arrives_byte_for_byte_at_its_index_and_revision(new_source: New<'_>, new_target: New<'_>) {
    let (from, to) = (new_source(), new_target());
    let (source, target) = (from.open().await, to.open().await);
    // More than is read at a time.
    fill(&*source, 3_000).await;
    let migrated = migrated(&*source, &*target, to.order()).await.unwrap();
    let log = whole_log(&*source).await;
    assert_eq!((migrated.events, migrated.found, log.len()), (3_000, 0, 3_000));
    assert_eq!(whole_log(&*target).await, log);
    assert_eq!(migrated.root, root(&log));
    // Streams too: the copy goes on where the original would.
    for stream in ["service", "application-1", "token-requests-1"] {
        let both = (
            source.read_stream(stream, 0, 4_000).await.unwrap(),
            target.read_stream(stream, 0, 4_000).await.unwrap(),
        );
        assert_eq!(both.0, both.1, "{stream}");
    }
}

pub async fn it_goes_on_wherever_it_was_cut_off(new_source: New<'_>, new_target: New<'_>) {
    let from = new_source();
    let source = from.open().await;
    fill(&*source, 24).await;
    let log = whole_log(&*source).await;
    for cut in 0..=log.len() {
        let to = new_target();
        let target = to.open().await;
        begin_copy(&*target, &log[..cut]).await;
        // Its events are known to be durable when it is opened again, as after a kill.
        target.close().await;
        let target = to.open().await;
        let migrated = migrated(&*source, &*target, to.order()).await.unwrap();
        assert_eq!((migrated.found, migrated.events), (cut as u64, 24));
        assert_eq!(whole_log(&*target).await, log, "cut off after {cut} events");
        assert_eq!(migrated.root, root(&log));
    }
}

pub async fn a_migration_that_is_done_is_only_verified(new_source: New<'_>, new_target: New<'_>) {
    let (from, to) = (new_source(), new_target());
    let (source, target) = (from.open().await, to.open().await);
    fill(&*source, 30).await;
    let first = migrated(&*source, &*target, to.order()).await.unwrap();
    let again = migrated(&*source, &*target, to.order()).await.unwrap();
    assert_eq!((again.found, again.events, again.root), (30, 30, first.root));
    // And back, which is the same.
    let back = migrated(&*target, &*source, from.order()).await.unwrap();
    assert_eq!((back.found, back.root), (30, first.root));
}

pub async fn what_is_left_of_removed_events_is_copied_and_the_root_is_that_of_the_whole_log(
    new_source: New<'_>,
    new_target: New<'_>,
) {
    let (from, to) = (new_source(), new_target());
    let (source, target) = (from.open().await, to.open().await);
    fill(&*source, 20).await;
    let whole = root(&whole_log(&*source).await);
    let removed = whole_log(&*source).await[3..12].iter().map(left_of).collect::<Vec<_>>();
    // A store that cannot remove can have been migrated to from one that can.
    if source.remove(removed.clone()).await.is_err() {
        return;
    }
    let migrated: Migrated = migrated(&*source, &*target, to.order()).await.unwrap();
    assert_eq!(migrated.root, whole);
    assert_eq!(whole_log(&*target).await[3..12], removed);
}

/// What retention leaves of an event.
fn left_of(stored: &grantlog::event_store::StoredEvent) -> grantlog::event_store::StoredEvent {
    use base64::Engine;
    let leaf = grantlog::audit::transparency::merkle::leaf_hash(&stored.bytes);
    let event: serde_json::Value = serde_json::from_slice(&stored.bytes).unwrap();
    let (id, stream) = (event["id"].as_str().unwrap(), event["stream"].as_str().unwrap());
    let text = format!(
        r#"{{"id":"{id}","stream":"{stream}","type":"EventRemoved","time":"2026-03-16T09:30:00.000001Z","actor":"system","data":{{"leaf_hash":"{}"}}}}"#,
        base64::engine::general_purpose::STANDARD.encode(leaf)
    );
    grantlog::event_store::StoredEvent {
        bytes: text.into_bytes().into(),
        ..*stored
    }
}

pub async fn a_target_with_another_log_is_refused_and_left_as_it_is(new_source: New<'_>, new_target: New<'_>) {
    let from = new_source();
    let source = from.open().await;
    fill(&*source, 20).await;
    let log = whole_log(&*source).await;
    for differs_at in [0, 7] {
        let to = new_target();
        let target = to.open().await;
        begin_copy(&*target, &log[..differs_at]).await;
        append(&*target, "service", vec![event("service", 200)]).await;
        let before = whole_log(&*target).await;
        let refused = migrated(&*source, &*target, to.order()).await;
        let index = differs_at as u64;
        assert_eq!(refused, Err(MigrationError::AnotherLog { index }));
        assert_eq!(whole_log(&*target).await, before);
    }
}

pub async fn a_target_that_differs_in_a_revision_alone_is_refused(new_source: New<'_>, new_target: New<'_>) {
    let (from, to) = (new_source(), new_target());
    let (source, target) = (from.open().await, to.open().await);
    append(&*source, "service", vec![event("service", 200), event("service", 200)]).await;
    let log = whole_log(&*source).await;
    begin_copy(&*target, &log[..1]).await;
    // The same bytes in another stream, whose first event they are.
    let second = EventToAppend {
        id: Uuid::now_v7(),
        event_type: "TokenRefused",
        bytes: log[1].bytes.clone(),
    };
    append(&*target, "application-1", vec![second]).await;
    let refused = migrated(&*source, &*target, to.order()).await;
    assert_eq!(refused, Err(MigrationError::AnotherLog { index: 1 }));
}

pub async fn a_target_that_holds_more_is_refused(new_source: New<'_>, new_target: New<'_>) {
    let (from, to) = (new_source(), new_target());
    let (source, target) = (from.open().await, to.open().await);
    fill(&*source, 5).await;
    migrated(&*source, &*target, to.order()).await.unwrap();
    append(&*target, "service", vec![event("service", 200)]).await;
    let refused = migrated(&*source, &*target, to.order()).await;
    assert_eq!(refused, Err(MigrationError::TargetIsLonger { target: 6, origin: 5 }));
    assert_eq!(target.log_size(), 6);
}

pub async fn large_events_are_copied_in_appends_of_bounded_size(new_source: New<'_>, new_target: New<'_>) {
    let (from, to) = (new_source(), new_target());
    let (source, target) = (from.open().await, to.open().await);
    for _ in 0..40 {
        // KurrentDB accepts 1 MiB in one append: 40 of these are more.
        append(&*source, "service", vec![event("service", 60_000)]).await;
    }
    let (watched, seen) = crate::misbehaving::watched(target.clone());
    migrated(&*source, &watched, to.order()).await.unwrap();
    assert_eq!(whole_log(&*target).await, whole_log(&*source).await);
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.iter().map(|append| append.events).sum::<usize>(), 40);
    assert!(seen.iter().all(|append| append.bytes <= 512 * 1024), "{seen:?}");
    assert!(seen.iter().any(|append| append.events > 1), "{seen:?}");
}

pub async fn an_event_that_is_none_stops_it_before_anything_that_follows_is_written(
    new_source: New<'_>,
    new_target: New<'_>,
) {
    let (from, to) = (new_source(), new_target());
    let (source, target) = (from.open().await, to.open().await);
    fill(&*source, 4).await;
    let none = EventToAppend {
        id: Uuid::now_v7(),
        event_type: "TokenRefused",
        bytes: br#"{"no":"envelope"}"#.as_slice().into(),
    };
    append(&*source, "service", vec![none]).await;
    append(&*source, "service", vec![event("service", 200)]).await;
    let stopped = migrated(&*source, &*target, to.order()).await;
    assert!(
        matches!(stopped, Err(MigrationError::NotAnEvent { index: 4, .. })),
        "{stopped:?}"
    );
    target.close().await;
    let written = whole_log(&*to.open().await).await;
    assert_eq!(written, whole_log(&*source).await[..written.len()]);
    assert!(written.len() <= 4, "{}", written.len());
}

pub async fn an_event_of_an_unknown_type_stops_it(new_source: New<'_>, new_target: New<'_>) {
    let (from, to) = (new_source(), new_target());
    let (source, target) = (from.open().await, to.open().await);
    append(
        &*source,
        "service",
        vec![event_of_type("FromTheFuture", "service", 200)],
    )
    .await;
    let stopped = migrated(&*source, &*target, to.order()).await;
    let event_type = "FromTheFuture".to_owned();
    assert_eq!(stopped, Err(MigrationError::UnknownType { index: 0, event_type }));
    assert_eq!(target.log_size(), 0);
}
