//! The first start of several nodes at the same time, on a log that has nothing yet.

use crate::node::Cluster;
use grantlog::credentials::client_secret::ClientSecret;
use grantlog::credentials::sealing::MasterKey;
use grantlog::policy::ADMINISTRATOR;
use grantlog_projections::Event;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_that_start_at_once_make_each_key_and_each_api_once() {
    let cluster = Cluster::new();
    let mut nodes = Vec::new();
    for name in ["a", "b", "c", "d"] {
        nodes.push(cluster.node(name, false).await);
    }
    // None has heard of what the others do until its own command has come second.
    let starts = nodes.iter().map(|node| {
        let service = node.service.clone();
        tokio::spawn(async move { service.start().await })
    });
    for start in starts.collect::<Vec<_>>() {
        start.await.expect("no panic").expect("it starts");
    }
    assert_eq!(cluster.count("SigningKeyAdded").await, 1);
    assert_eq!(cluster.count("SigningKeyActivated").await, 1);
    assert_eq!(cluster.count("ApiRegistered").await, 1);
    assert_eq!(cluster.count("ServiceStarted").await, 4);
    for node in &nodes {
        node.catch_up(&cluster).await;
        assert!(node.service.readiness().ready);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_behind_finds_what_it_needs_made_already_and_starts() {
    let cluster = Cluster::new();
    let late = cluster.node("late", false).await;
    late.view.hold();
    let _early = cluster.started("early").await;
    let service = late.service.clone();
    let start = tokio::spawn(async move { service.start().await });
    late.view.has_lost().await;
    late.view.release();
    start.await.expect("no panic").expect("it starts");
    assert_eq!(cluster.count("SigningKeyAdded").await, 1);
    assert_eq!(cluster.count("ApiRegistered").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_administrator_is_registered_once_and_only_the_secret_of_that_node_is_its_secret() {
    let cluster = Cluster::new();
    let (one, other) = (cluster.node("one", false).await, cluster.node("other", false).await);
    other.view.hold();
    let (secret, second) = (ClientSecret::generate().unwrap(), ClientSecret::generate().unwrap());
    assert!(one.service.register_first(&ADMINISTRATOR, &secret).await.unwrap());
    assert!(other.service.needs(&ADMINISTRATOR), "it has not heard of it");
    let (service, exposed) = (other.service.clone(), second.expose().to_owned());
    let registering = tokio::spawn(async move { service.register_first(&ADMINISTRATOR, &second).await });
    other.view.has_lost().await;
    other.view.release();
    assert!(!registering.await.unwrap().unwrap(), "another node was first");
    assert_eq!(cluster.count("ApplicationRegistered").await, 1);
    assert!(other.service.is_secret_of(&ADMINISTRATOR, secret.expose()));
    assert!(!other.service.is_secret_of(&ADMINISTRATOR, &exposed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_of_the_first_administrator_of_which_nobody_knows_may_be_repeated() {
    let cluster = Cluster::new();
    let (before, after) = (cluster.node("node", false).await, cluster.node("node", false).await);
    after.view.hold();
    let secret = ClientSecret::generate().unwrap();
    let again = ClientSecret::again(secret.expose()).unwrap();
    // The append of the run before comes late, and first.
    assert!(before.service.register_first(&ADMINISTRATOR, &secret).await.unwrap());
    let service = after.service.clone();
    let registering = tokio::spawn(async move { service.register_first(&ADMINISTRATOR, &again).await });
    after.view.has_lost().await;
    after.view.release();
    assert!(registering.await.unwrap().unwrap(), "it is its own");
    assert_eq!(cluster.count("ApplicationRegistered").await, 1);
}

#[tokio::test]
async fn a_node_with_another_master_key_stops_and_says_so() {
    let cluster = Cluster::new();
    let stranger = Arc::new(MasterKey::generate().unwrap());
    let stranger = cluster.node_with("stranger", false, stranger).await;
    let node = cluster.started("node").await;
    let _ = stranger.service.start().await;
    let failure = tokio::time::timeout(crate::node::PATIENCE, async {
        loop {
            match stranger.service.state_failure() {
                Some(failure) => return failure,
                None => tokio::time::sleep(std::time::Duration::from_millis(2)).await,
            }
        }
    });
    let failure = failure.await.expect("it fails");
    assert!(failure.contains("Every node needs the one that sealed it"), "{failure}");
    assert!(!stranger.service.readiness().ready);
    assert!(node.service.readiness().ready);
}

#[tokio::test]
async fn whether_the_last_stop_was_clean_is_asked_of_the_nodes_own_last_run() {
    let cluster = Cluster::new();
    let one = cluster.started("one").await;
    let _crashes = cluster.started("other").await;
    one.service.stop("SIGTERM").await;
    cluster.started("one").await;
    cluster.started("other").await;
    let mut starts = Vec::new();
    for recorded in cluster.events().await {
        if let Event::ServiceStarted(started) = recorded.envelope.event {
            starts.push((started.node.map(|node| node.to_string()), started.clean));
        }
    }
    let of = |name: &str, clean| (Some(name.to_owned()), clean);
    assert_eq!(
        starts,
        [of("one", true), of("other", true), of("one", true), of("other", false)]
    );
}
