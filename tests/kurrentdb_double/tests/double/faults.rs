//! What can be done to the double, and what a client sees of it.

use std::time::Duration;

use eventstore::{
    AppendToStreamOptions, Client, Error, Position, ReadAllOptions, ReadStreamOptions, StreamPosition, StreamState,
    SubscribeToAllOptions, SubscriptionEvent,
};
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use grantlog_kurrentdb_double::{
    Cluster, Code, Cut, Delay, ExpectedRevision, Loss, NewEvent, Options, Status, UnderWay,
};
use uuid::Uuid;

use crate::{client, event, expecting, one_node};

/// For what must not happen, as far as one can wait for that; and for calls that are to run into it.
const A_WHILE: Duration = Duration::from_millis(300);

fn three_nodes() -> Cluster {
    Cluster::start(Options {
        nodes: 3,
        election_delay: Duration::from_millis(50),
        ..Options::default()
    })
    .unwrap()
}

fn soon(state: StreamState) -> AppendToStreamOptions {
    expecting(state).deadline(A_WHILE)
}

async fn append(client: &Client, stream: &str) -> eventstore::Result<()> {
    client
        .append_to_stream(stream, &expecting(StreamState::Any), event("a"))
        .await
        .map(drop)
}

async fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn what_a_killed_leader_had_taken_is_committed_or_not_and_nobody_is_told() {
    for (under_way, events) in [(UnderWay::Committed, 1), (UnderWay::NotCommitted, 0)] {
        let cluster = three_nodes();
        let first = client(&cluster.connection_string());
        cluster.hold_appends();
        let (lost, ()) = tokio::join!(append(&first, "stream"), async {
            wait_until(|| cluster.appends_under_way() == 1).await;
            assert_eq!(cluster.kill_leader(under_way), 0);
        });
        assert!(matches!(lost, Err(Error::ServerError(_))), "{lost:?}");
        assert_eq!(cluster.log().len(), events);
        cluster.release_appends();
        assert_eq!(cluster.wait_for_leader(), 1);
        append(&client(&cluster.connection_string()), "stream").await.unwrap();
        assert_eq!(cluster.log().len(), events + 1);
    }
}

#[tokio::test]
async fn a_node_that_starts_again_follows_at_its_old_address() {
    let cluster = three_nodes();
    cluster.kill_leader(UnderWay::NotCommitted);
    let address = cluster.main_entrance().addresses()[0];
    assert_eq!(
        std::net::TcpStream::connect(address).unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    cluster.wait_for_leader();
    cluster.restart(0);
    assert_eq!(cluster.leader(), Some(1));
    let follower = client(&format!("kurrentdb://{address}?tls=false&nodePreference=follower"));
    append(&follower, "stream").await.unwrap();
    assert_eq!(cluster.log().len(), 1);
}

#[tokio::test]
async fn without_more_than_half_of_the_nodes_nothing_is_appended() {
    let cluster = three_nodes();
    cluster.kill(1, UnderWay::NotCommitted);
    cluster.kill(2, UnderWay::NotCommitted);
    assert_eq!(cluster.leader(), None);
    let alone = client(&format!(
        "kurrentdb://{}?tls=false",
        cluster.main_entrance().addresses()[0]
    ));
    let refused = append(&alone, "stream").await.unwrap_err();
    assert!(refused.to_string().contains("Server Is Not Ready"), "{refused}");
    cluster.restart(1);
    let leader = cluster.main_entrance().addresses()[cluster.wait_for_leader()];
    append(&client(&format!("kurrentdb://{leader}?tls=false")), "stream")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_paused_node_takes_connections_and_goes_on_where_it_stood() {
    let cluster = three_nodes();
    let address = cluster.main_entrance().addresses()[2];
    let follower = client(&format!("kurrentdb://{address}?tls=false&nodePreference=follower"));
    append(&follower, "stream").await.unwrap();
    cluster.pause(2);
    std::net::TcpStream::connect(address).unwrap();
    let mut asked = std::pin::pin!(append(&follower, "stream"));
    tokio::time::timeout(A_WHILE, &mut asked).await.unwrap_err();
    assert_eq!(cluster.log().len(), 1);
    cluster.resume(2);
    asked.await.unwrap();
    assert_eq!(cluster.log().len(), 2);
}

#[tokio::test]
async fn a_paused_leader_is_replaced_and_comes_back_as_a_follower() {
    let cluster = three_nodes();
    cluster.pause(0);
    assert_eq!(cluster.wait_for_leader(), 1);
    cluster.resume(0);
    assert_eq!(cluster.leader(), Some(1));
    let old = client(&format!(
        "kurrentdb://{}?tls=false",
        cluster.main_entrance().addresses()[0]
    ));
    assert!(matches!(
        append(&old, "stream").await,
        Err(Error::NotLeaderException(_))
    ));
}

#[tokio::test]
async fn a_demoted_leader_stays_and_names_the_new_one() {
    let cluster = three_nodes();
    let client = client(&cluster.connection_string());
    append(&client, "stream").await.unwrap();
    assert_eq!(cluster.demote_leader(), 1);
    let refused = append(&client, "stream").await.unwrap_err();
    let Error::NotLeaderException(leader) = refused else {
        panic!("{refused}")
    };
    assert_eq!(leader.port, u32::from(cluster.main_entrance().addresses()[1].port()));
    // The client goes where it was sent to.
    append(&client, "stream").await.unwrap();
}

#[tokio::test]
async fn an_entrance_is_cut_and_healed_without_touching_the_others() {
    let cluster = three_nodes();
    let mine = cluster.entrance("mine").unwrap();
    let others = client(&cluster.connection_string());
    append(&others, "others").await.unwrap();
    let client = client(&mine.connection_string());
    append(&client, "mine").await.unwrap();

    mine.cut(Cut::Reset);
    let failed = append(&client, "lost").await.unwrap_err();
    assert!(matches!(failed, Error::ServerError(_)), "{failed}");
    append(&others, "others").await.unwrap();
    mine.heal();
    append(&client, "mine").await.unwrap();

    mine.cut(Cut::BlackHole);
    let mut asked = std::pin::pin!(append(&client, "late"));
    tokio::time::timeout(A_WHILE, &mut asked).await.unwrap_err();
    append(&others, "others").await.unwrap();
    assert_eq!(cluster.log().len(), 5);
    mine.heal();
    asked.await.unwrap();
    let streams: Vec<_> = cluster.log().iter().map(|event| event.stream.to_string()).collect();
    assert_eq!(streams, ["others", "mine", "others", "mine", "others", "late"]);
}

#[tokio::test]
async fn cut_connections_are_reset_and_new_ones_are_taken() {
    let (cluster, client) = one_node();
    cluster.hold_appends();
    let (cut, ()) = tokio::join!(append(&client, "stream"), async {
        wait_until(|| cluster.appends_under_way() == 1).await;
        cluster.cut_connections();
    });
    assert!(matches!(cut, Err(Error::ServerError(_))), "{cut:?}");
    // What was taken is committed, whether or not anybody waits for it.
    cluster.release_appends();
    assert_eq!(cluster.log().len(), 1);
    append(&client, "stream").await.unwrap();
}

#[tokio::test]
async fn held_appends_are_committed_in_the_order_in_which_they_came() {
    let (cluster, client) = one_node();
    append(&client, "first").await.unwrap();
    cluster.hold_appends();
    let mut answers = FuturesUnordered::new();
    for number in 0..20 {
        let client = client.clone();
        answers.push(tokio::spawn(async move { append(&client, &number.to_string()).await }));
        wait_until(|| cluster.appends_under_way() == number + 1).await;
    }
    assert_eq!(cluster.log().len(), 1);
    cluster.release_appends();
    while let Some(answer) = answers.next().await {
        answer.unwrap().unwrap();
    }
    let order: Vec<_> = cluster.log()[1..]
        .iter()
        .map(|event| event.stream.to_string())
        .collect();
    assert_eq!(order, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn random_delays_change_the_order_of_answers() {
    let (cluster, client) = one_node();
    append(&client, "first").await.unwrap();
    cluster.delay_answers(Delay::Random(Duration::ZERO..Duration::from_millis(200)));
    let answered = std::sync::Mutex::new(Vec::new());
    join_all((0..50).map(|number| {
        let (client, answered) = (&client, &answered);
        async move {
            append(client, &number.to_string()).await.unwrap();
            answered.lock().unwrap().push(number.to_string());
        }
    }))
    .await;
    let committed: Vec<_> = cluster.log()[1..]
        .iter()
        .map(|event| event.stream.to_string())
        .collect();
    assert_eq!(committed.len(), 50);
    assert_ne!(*answered.lock().unwrap(), committed);
}

#[tokio::test]
async fn an_append_whose_answer_is_lost_is_recognised_when_it_is_repeated() {
    for loss in [Loss::Silence, Loss::Reset] {
        let (cluster, client) = one_node();
        append(&client, "other").await.unwrap();
        cluster.lose_answers(1, loss);
        let event = event("once");
        let first = client
            .append_to_stream("stream", &soon(StreamState::NoStream), event.clone())
            .await;
        assert!(first.is_err());
        assert_eq!(cluster.log().len(), 2);
        let again = client
            .append_to_stream("stream", &expecting(StreamState::NoStream), event)
            .await
            .unwrap();
        assert_eq!(again.position.commit, cluster.log()[1].position);
        assert_eq!((cluster.log().len(), cluster.repeated_appends()), (2, 1));
    }
}

#[tokio::test]
async fn refused_appends_are_not_committed() {
    let (cluster, client) = one_node();
    cluster.refuse_appends(2, Status::new(Code::ResourceExhausted, "Server Is Too Busy"));
    for _ in 0..2 {
        let refused = append(&client, "stream").await.unwrap_err();
        assert!(
            matches!(&refused, Error::Grpc { message, .. } if message == "Server Is Too Busy"),
            "{refused}"
        );
    }
    append(&client, "stream").await.unwrap();
    assert_eq!(cluster.log().len(), 1);
}

#[tokio::test]
async fn stalled_subscriptions_are_silent_until_they_are_released() {
    let (cluster, client) = one_node();
    let mut subscription = client.subscribe_to_all(&SubscribeToAllOptions::default()).await;
    while !matches!(
        subscription.next_subscription_event().await.unwrap(),
        SubscriptionEvent::CaughtUp(_)
    ) {}
    assert_eq!(cluster.subscriptions(), 1);
    cluster.stall_subscriptions();
    append(&client, "stream").await.unwrap();
    tokio::time::timeout(A_WHILE, subscription.next()).await.unwrap_err();
    cluster.release_subscriptions();
    assert_eq!(
        subscription.next().await.unwrap().get_original_event().stream_id(),
        "stream"
    );
    drop(subscription);
    wait_until(|| cluster.subscriptions() == 0).await;
}

#[tokio::test]
async fn a_follower_that_is_held_back_does_not_see_what_is_committed_and_is_not_elected() {
    let cluster = three_nodes();
    let new_event = NewEvent {
        id: Uuid::new_v4(),
        event_type: "happened".into(),
        content_type: "application/octet-stream".into(),
        data: "a".into(),
        custom_metadata: Default::default(),
    };
    cluster.hold_replication(1);
    cluster.append("stream", ExpectedRevision::NoStream, &[new_event]);
    let address = cluster.main_entrance().addresses()[1];
    let follower = client(&format!("kurrentdb://{address}?tls=false&nodePreference=follower"));
    let mut read = follower
        .read_stream("stream", &ReadStreamOptions::default())
        .await
        .unwrap();
    assert!(matches!(read.next().await, Err(Error::ResourceNotFound)));
    cluster.kill_leader(UnderWay::NotCommitted);
    assert_eq!(cluster.wait_for_leader(), 2);
    cluster.release_replication(1);
    let mut read = follower
        .read_stream("stream", &ReadStreamOptions::default())
        .await
        .unwrap();
    assert_eq!(read.next().await.unwrap().unwrap().get_original_event().data, "a");
}

#[tokio::test]
async fn an_append_that_is_not_confirmed_is_not_shown_and_others_are_refused_because_of_it() {
    let (cluster, client) = one_node();
    cluster.delay_confirmations(Delay::Fixed(2 * A_WHILE));
    let options = expecting(StreamState::NoStream);
    let first = client.append_to_stream("stream", &options, event("first"));
    let (first, ()) = tokio::join!(first, async {
        wait_until(|| cluster.log().len() == 1).await;
        let second = client.append_to_stream("stream", &options, event("second")).await;
        assert!(matches!(second, Err(Error::WrongExpectedVersion { .. })), "{second:?}");
        assert_eq!(cluster.conflicts("stream"), 1);
    });
    first.unwrap();
    let mut shown = client
        .read_stream("stream", &ReadStreamOptions::default())
        .await
        .unwrap();
    assert!(shown.next().await.unwrap().is_some());
}

#[tokio::test]
async fn nothing_is_read_from_inside_a_record_and_no_subscription_begins_there() {
    let (cluster, client) = one_node();
    append(&client, "stream").await.unwrap();
    let place = cluster.log()[0].position;
    for (place, is_good) in [(place, true), (place + 1, false), (place - 1, false)] {
        let position = StreamPosition::Position(Position {
            commit: place,
            prepare: place,
        });
        let options = ReadAllOptions::default().position(position).max_count(1);
        let read = match client.read_all(&options).await {
            Ok(mut reading) => reading.next().await.map(drop),
            Err(error) => Err(error),
        };
        assert_eq!(read.is_ok(), is_good, "{read:?}");
        let is_named = |why: &String| why.contains("Unexpected ReadAllResult: InvalidPosition");
        assert!(
            is_good || matches!(&read, Err(Error::ServerError(why)) if is_named(why)),
            "{read:?}"
        );
        let options = SubscribeToAllOptions::default().position(position);
        let mut following = client.subscribe_to_all(&options).await;
        let confirmed = following.next_subscription_event().await;
        assert!(
            matches!(confirmed, Ok(SubscriptionEvent::Confirmed(_))),
            "{confirmed:?}"
        );
        let next = following.next_subscription_event().await;
        assert_eq!(next.is_ok(), is_good, "{next:?}");
        let is_invalid =
            |error: &Error| matches!(error, Error::Grpc { code, .. } if *code as i32 == Code::InvalidArgument as i32);
        assert!(next.as_ref().err().is_none_or(is_invalid), "{next:?}");
    }
}
