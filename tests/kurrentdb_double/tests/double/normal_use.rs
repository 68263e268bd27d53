//! The official client gets from the double what it gets from the server.

use std::time::Duration;

use eventstore::{
    CurrentRevision, Error, EventData, Position, ReadAllOptions, ReadStreamOptions, StreamPosition, StreamState,
    SubscribeToAllOptions, SubscribeToStreamOptions, SubscriptionEvent, SubscriptionFilter,
};
use grantlog_kurrentdb_double::{Cluster, Options, Security};

use crate::{client, event, expecting, one_node};

#[tokio::test]
async fn what_is_appended_is_read_forwards_and_backwards() {
    let (cluster, client) = one_node();
    let events = vec![event("a"), event("b"), event("c")];
    let written = client
        .append_to_stream("stream", &expecting(StreamState::NoStream), events.clone())
        .await
        .unwrap();
    assert_eq!(written.next_expected_version, 2);

    let mut forwards = client
        .read_stream("stream", &ReadStreamOptions::default())
        .await
        .unwrap();
    let mut bodies = Vec::new();
    while let Some(read) = forwards.next().await.unwrap() {
        let read = read.get_original_event();
        assert_eq!(read.revision, bodies.len() as u64);
        assert_eq!(read.stream_id(), "stream");
        assert_eq!(read.event_type, "happened");
        bodies.push(read.data.clone());
    }
    assert_eq!(bodies, ["a", "b", "c"]);

    let options = ReadStreamOptions::default()
        .backwards()
        .position(StreamPosition::End)
        .max_count(2);
    let mut backwards = client.read_stream("stream", &options).await.unwrap();
    assert_eq!(backwards.next().await.unwrap().unwrap().get_original_event().data, "c");
    assert_eq!(backwards.next().await.unwrap().unwrap().get_original_event().data, "b");
    assert!(backwards.next().await.unwrap().is_none());

    let logged = cluster.log();
    assert_eq!(
        logged.iter().map(|event| &event.data[..]).collect::<Vec<_>>(),
        [b"a", b"b", b"c"]
    );
    assert_eq!(logged[2].position, written.position.commit);
}

#[tokio::test]
async fn a_stream_without_events_is_not_found() {
    let (_cluster, client) = one_node();
    let mut read = client
        .read_stream("nothing", &ReadStreamOptions::default())
        .await
        .unwrap();
    assert!(matches!(read.next().await, Err(Error::ResourceNotFound)));
}

#[tokio::test]
async fn an_append_that_expects_another_revision_is_refused_and_says_which_it_is() {
    let (cluster, client) = one_node();
    let refused = client
        .append_to_stream("stream", &expecting(StreamState::StreamRevision(3)), event("a"))
        .await;
    assert!(matches!(
        refused,
        Err(Error::WrongExpectedVersion {
            current: CurrentRevision::NoStream,
            ..
        })
    ));
    client
        .append_to_stream("stream", &expecting(StreamState::NoStream), event("a"))
        .await
        .unwrap();
    let refused = client
        .append_to_stream("stream", &expecting(StreamState::NoStream), event("b"))
        .await;
    assert!(matches!(
        refused,
        Err(Error::WrongExpectedVersion {
            current: CurrentRevision::Current(0),
            expected: StreamState::NoStream
        })
    ));
    assert_eq!(cluster.log().len(), 1);
}

#[tokio::test]
async fn a_repeated_append_is_recognised_by_its_ids_and_written_once() {
    let (cluster, client) = one_node();
    let events = vec![event("a"), event("b")];
    let first = client
        .append_to_stream("stream", &expecting(StreamState::NoStream), events.clone())
        .await
        .unwrap();
    client
        .append_to_stream("stream", &expecting(StreamState::StreamRevision(1)), event("c"))
        .await
        .unwrap();
    let again = client
        .append_to_stream("stream", &expecting(StreamState::NoStream), events.clone())
        .await
        .unwrap();
    assert_eq!(again.next_expected_version, first.next_expected_version);
    assert_eq!(again.position, first.position);
    assert_eq!(cluster.log().len(), 3);
    assert_eq!(cluster.repeated_appends(), 1);

    let other_order = vec![events[1].clone(), events[0].clone()];
    let refused = client
        .append_to_stream("stream", &expecting(StreamState::NoStream), other_order)
        .await;
    assert!(matches!(refused, Err(Error::WrongExpectedVersion { .. })));
    let longer = vec![events[0].clone(), events[1].clone(), event("d")];
    let refused = client
        .append_to_stream("stream", &expecting(StreamState::NoStream), longer)
        .await;
    assert!(matches!(refused, Err(Error::WrongExpectedVersion { .. })));
}

#[tokio::test]
async fn a_repeat_that_expects_any_revision_is_recognised_as_far_as_ids_are_remembered() {
    for (remember_ids, events_in_the_log) in [(true, 1), (false, 2)] {
        let cluster = Cluster::start(Options {
            remember_ids,
            ..Options::default()
        })
        .unwrap();
        let client = client(&cluster.connection_string());
        let event = event("a");
        client
            .append_to_stream("stream", &expecting(StreamState::Any), event.clone())
            .await
            .unwrap();
        client
            .append_to_stream("stream", &expecting(StreamState::Any), event)
            .await
            .unwrap();
        assert_eq!(cluster.log().len(), events_in_the_log);
    }
}

#[tokio::test]
async fn an_append_that_is_too_large_is_refused() {
    let cluster = Cluster::start(Options {
        max_append_bytes: 1000,
        ..Options::default()
    })
    .unwrap();
    let client = client(&cluster.connection_string());
    let refused = client
        .append_to_stream("stream", &expecting(StreamState::Any), event(&"x".repeat(1000)))
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("Maximum Append Size of 1000 Exceeded"),
        "{refused}"
    );
    assert!(cluster.log().is_empty());
}

#[tokio::test]
async fn positions_of_all_grow_and_a_read_from_one_starts_with_its_event() {
    let (_cluster, client) = one_node();
    let mut written = Vec::new();
    for stream in ["a.1", "b.1", "a.2"] {
        let appended = client
            .append_to_stream(stream, &expecting(StreamState::NoStream), event(stream))
            .await
            .unwrap();
        written.push(appended.position);
    }
    assert!(written.is_sorted_by(|a, b| a.commit + 1 < b.commit), "{written:?}");
    let options = ReadAllOptions::default().position(StreamPosition::Position(written[1]));
    let mut read = client.read_all(&options).await.unwrap();
    assert_eq!(read.next().await.unwrap().unwrap().get_original_event().data, "b.1");
    assert_eq!(read.next().await.unwrap().unwrap().get_original_event().data, "a.2");
    assert!(read.next().await.unwrap().is_none());

    let options = options.backwards();
    let mut read = client.read_all(&options).await.unwrap();
    assert_eq!(read.next().await.unwrap().unwrap().get_original_event().data, "a.1");

    let filter = SubscriptionFilter::on_stream_name().add_prefix("a.");
    let options = ReadAllOptions::default()
        .filter(filter)
        .backwards()
        .position(StreamPosition::End);
    let mut read = client.read_all(&options).await.unwrap();
    assert_eq!(read.next().await.unwrap().unwrap().get_original_event().data, "a.2");
    assert_eq!(read.next().await.unwrap().unwrap().get_original_event().data, "a.1");
    assert!(read.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_filtered_subscription_confirms_catches_up_and_goes_on_live() {
    let (_cluster, client) = one_node();
    let mut positions = Vec::new();
    for (stream, state) in [
        ("grantlog.a", StreamState::NoStream),
        ("other", StreamState::NoStream),
        ("grantlog.b", StreamState::NoStream),
    ] {
        positions.push(
            client
                .append_to_stream(stream, &expecting(state), event(stream))
                .await
                .unwrap()
                .position,
        );
    }
    let filter = SubscriptionFilter::on_stream_name().add_prefix("grantlog.");
    let options = SubscribeToAllOptions::default()
        .filter(filter.max(100))
        .position(StreamPosition::Position(positions[0]));
    let mut subscription = client.subscribe_to_all(&options).await;
    assert!(matches!(
        subscription.next_subscription_event().await.unwrap(),
        SubscriptionEvent::Confirmed(_)
    ));
    let SubscriptionEvent::EventAppeared(first) = subscription.next_subscription_event().await.unwrap() else {
        panic!("an event was expected")
    };
    // From a position means behind it.
    assert_eq!(first.get_original_event().data, "grantlog.b");
    let SubscriptionEvent::Checkpoint(checkpoint) = subscription.next_subscription_event().await.unwrap() else {
        panic!("a checkpoint was expected")
    };
    assert_eq!(checkpoint, positions[2]);
    let SubscriptionEvent::CaughtUp(Some(caught_up)) = subscription.next_subscription_event().await.unwrap() else {
        panic!("to be caught up was expected")
    };
    assert_eq!(caught_up.position, Some(positions[2]));

    client
        .append_to_stream("other", &expecting(StreamState::Any), event("x"))
        .await
        .unwrap();
    let last = client
        .append_to_stream("grantlog.a", &expecting(StreamState::Any), event("live"))
        .await
        .unwrap();
    let SubscriptionEvent::EventAppeared(live) = subscription.next_subscription_event().await.unwrap() else {
        panic!("an event was expected")
    };
    assert_eq!(live.get_original_event().data, "live");
    assert_eq!(live.get_original_event().position, last.position);
}

#[tokio::test]
async fn a_subscription_from_the_end_is_caught_up_at_once() {
    let (_cluster, client) = one_node();
    client
        .append_to_stream("stream", &expecting(StreamState::Any), event("before"))
        .await
        .unwrap();
    let options = SubscribeToAllOptions::default().position(StreamPosition::End);
    let mut subscription = client.subscribe_to_all(&options).await;
    assert!(matches!(
        subscription.next_subscription_event().await.unwrap(),
        SubscriptionEvent::Confirmed(_)
    ));
    assert!(matches!(
        subscription.next_subscription_event().await.unwrap(),
        SubscriptionEvent::CaughtUp(_)
    ));
    client
        .append_to_stream("stream", &expecting(StreamState::Any), event("behind"))
        .await
        .unwrap();
    assert_eq!(subscription.next().await.unwrap().get_original_event().data, "behind");
}

#[tokio::test]
async fn a_stream_is_followed_from_behind_the_revision_that_is_named() {
    let (_cluster, client) = one_node();
    let events = vec![event("a"), event("b"), event("c")];
    client
        .append_to_stream("stream", &expecting(StreamState::NoStream), events)
        .await
        .unwrap();
    client
        .append_to_stream("other", &expecting(StreamState::NoStream), event("x"))
        .await
        .unwrap();
    let options = SubscribeToStreamOptions::default().start_from(StreamPosition::Position(0));
    let mut subscription = client.subscribe_to_stream("stream", &options).await;
    assert_eq!(subscription.next().await.unwrap().get_original_event().data, "b");
    assert_eq!(subscription.next().await.unwrap().get_original_event().data, "c");
    let SubscriptionEvent::CaughtUp(Some(caught_up)) = subscription.next_subscription_event().await.unwrap() else {
        panic!("to be caught up was expected")
    };
    assert_eq!(caught_up.stream_revision, Some(2));
    client
        .append_to_stream("stream", &expecting(StreamState::StreamRevision(2)), event("d"))
        .await
        .unwrap();
    assert_eq!(subscription.next().await.unwrap().get_original_event().data, "d");
}

#[tokio::test]
async fn the_server_writes_events_of_its_own_between() {
    let cluster = Cluster::start(Options {
        system_event_every: Some(1),
        ..Options::default()
    })
    .unwrap();
    let client = client(&cluster.connection_string());
    for _ in 0..3 {
        client
            .append_to_stream("stream", &expecting(StreamState::Any), event("a"))
            .await
            .unwrap();
    }
    let mut read = client.read_all(&ReadAllOptions::default()).await.unwrap();
    let mut of_the_server = 0;
    while let Some(event) = read.next().await.unwrap() {
        of_the_server += u32::from(event.get_original_event().stream_id().starts_with('$'));
    }
    // One at the start.
    assert_eq!(of_the_server, 4);
    assert_eq!(cluster.log().len(), 3);
}

#[tokio::test]
async fn only_the_user_with_the_password_is_let_in() {
    let user = Some(("admin".to_owned(), "changeit".to_owned()));
    let cluster = Cluster::start(Options {
        security: Security { tls: false, user },
        ..Options::default()
    })
    .unwrap();
    let with_password = cluster.connection_string();
    client(&with_password)
        .append_to_stream("stream", &expecting(StreamState::Any), event("a"))
        .await
        .unwrap();
    for other in ["", "admin:wrong@"] {
        let other = with_password.replace("admin:changeit@", other);
        let refused = client(&other)
            .append_to_stream("stream", &expecting(StreamState::Any), event("a"))
            .await
            .unwrap_err();
        assert!(refused.is_access_denied(), "{refused}");
    }
}

#[tokio::test]
async fn tls_is_spoken_with_a_certificate_that_the_named_authority_has_signed() {
    let user = Some(("admin".to_owned(), "changeit".to_owned()));
    let cluster = Cluster::start(Options {
        nodes: 3,
        security: Security { tls: true, user },
        ..Options::default()
    })
    .unwrap();
    let with_password = cluster.connection_string();
    client(&with_password)
        .append_to_stream("stream", &expecting(StreamState::Any), event("a"))
        .await
        .unwrap();

    let (certificate, key) = cluster.user_certificate().unwrap();
    let with_certificate = format!(
        "{}&userCertFile={}&userKeyFile={}",
        with_password.replace("admin:changeit@", ""),
        certificate.display(),
        key.display()
    );
    client(&with_certificate)
        .append_to_stream("stream", &expecting(StreamState::Any), event("b"))
        .await
        .unwrap();

    let authority = cluster.certificate_authority().unwrap();
    let without_authority = with_password.replace(&format!("&tlsCaFile={}", authority.display()), "");
    assert_ne!(without_authority, with_password);
    client(&without_authority)
        .append_to_stream("stream", &expecting(StreamState::Any), event("c"))
        .await
        .unwrap_err();
}

#[tokio::test]
async fn a_client_that_is_given_one_node_to_ask_finds_the_leader() {
    let cluster = Cluster::start(Options {
        nodes: 3,
        ..Options::default()
    })
    .unwrap();
    cluster.demote_leader();
    let entrance = cluster.entrance("discovering").unwrap();
    let client = client(&format!(
        "{}&nodePreference=leader",
        entrance.discovering_connection_string()
    ));
    client
        .append_to_stream("stream", &expecting(StreamState::Any), event("a"))
        .await
        .unwrap();
    assert_eq!((cluster.calls(0).appends, cluster.calls(1).appends), (0, 1));
}

#[tokio::test]
async fn a_follower_says_who_leads_to_those_who_need_the_leader_and_works_for_the_others() {
    let cluster = Cluster::start(Options {
        nodes: 3,
        ..Options::default()
    })
    .unwrap();
    let entrance = cluster.entrance("mine").unwrap();
    let follower = client(&format!("kurrentdb://{}?tls=false", entrance.addresses()[2]));
    let needs_the_leader = expecting(StreamState::Any).requires_leader(true);
    let refused = follower
        .append_to_stream("stream", &needs_the_leader, event("a"))
        .await
        .unwrap_err();
    let Error::NotLeaderException(leader) = refused else {
        panic!("{refused}")
    };
    // By the same entrance.
    assert_eq!(
        format!("{}:{}", leader.host, leader.port),
        entrance.addresses()[0].to_string()
    );

    let other = client(&format!(
        "kurrentdb://{}?tls=false&nodePreference=follower",
        entrance.addresses()[2]
    ));
    other
        .append_to_stream("stream", &expecting(StreamState::Any), event("b"))
        .await
        .unwrap();
    assert_eq!(cluster.log().len(), 1);
}

#[tokio::test]
async fn a_slow_reader_stores_nothing_up_and_misses_nothing() {
    const EVENTS: usize = 5_000;
    let (cluster, client) = one_node();
    let mut subscription = client.subscribe_to_all(&SubscribeToAllOptions::default()).await;
    assert!(matches!(
        subscription.next_subscription_event().await.unwrap(),
        SubscriptionEvent::Confirmed(_)
    ));
    for _ in 0..EVENTS / 100 {
        let events: Vec<EventData> = (0..100).map(|_| event(&"x".repeat(2_000))).collect();
        client
            .append_to_stream("stream", &expecting(StreamState::Any), events)
            .await
            .unwrap();
    }
    // Ten megabytes are more than the windows of HTTP/2 hold: the rest waits in the log.
    let mut last = Position { commit: 0, prepare: 0 };
    let mut seen = 0;
    let mut fell_behind = false;
    while seen < EVENTS {
        match subscription.next_subscription_event().await.unwrap() {
            SubscriptionEvent::EventAppeared(event) if event.get_original_event().stream_id() == "stream" => {
                assert!(event.get_original_event().position > last);
                last = event.get_original_event().position;
                seen += 1;
            }
            SubscriptionEvent::FellBehind(_) => fell_behind = true,
            _ => {}
        }
    }
    assert!(fell_behind);
    assert_eq!(cluster.log().len(), EVENTS);
    tokio::time::timeout(Duration::from_millis(50), async {
        while let Ok(event) = subscription.next_subscription_event().await {
            assert!(!matches!(event, SubscriptionEvent::EventAppeared(_)));
        }
    })
    .await
    .unwrap_err();
}
