//! A node that has heard of what others changed, and whose state does not show it yet.

use crate::node::{Cluster, Node, PATIENCE, now};
use grantlog::policy::applications::ApplicationPatch;
use grantlog::service::ServiceError;
use grantlog::service::applications::{Switch, WithSecret};
use grantlog::service::record::Commander;
use grantlog_projections::trusted_application::TrustedApplication;
use grantlog_projections::values::Scope;
use std::sync::Arc;

const OFF: Switch = Switch::Off { revoke_tokens: false };

async fn switch(node: &Node, made: &WithSecret, switch: Switch) -> Result<Arc<TrustedApplication>, ServiceError> {
    let (id, by) = (made.application.id, Commander::system());
    node.service
        .switch_application(id, switch, None, None, &by, &now())
        .await
}

/// What becomes of a command that comes before the node's state shows what the log has.
async fn before_its_state<T>(node: &Node, command: impl Future<Output = T>) -> T {
    let shown = async { node.view.release_state() };
    tokio::time::timeout(PATIENCE, async { tokio::join!(command, shown).0 })
        .await
        .expect("it is decided")
}

#[tokio::test]
async fn an_application_that_another_node_has_just_enabled_is_disabled_again() {
    let cluster = Cluster::new();
    let (one, other) = (cluster.started("one").await, cluster.started("other").await);
    let made = one.register().await;
    switch(&one, &made, OFF).await.expect("it is disabled");
    other.catch_up(&cluster).await;
    other.view.hold_state();
    switch(&one, &made, Switch::On).await.expect("it is enabled");
    let disabled = before_its_state(&other, switch(&other, &made, OFF)).await;
    assert!(!disabled.expect("it is disabled").is_enabled);
    assert_eq!(
        cluster.count("ApplicationDisabled").await,
        2,
        "and not said to be so already"
    );
}

#[tokio::test]
async fn a_change_that_another_node_has_just_undone_is_made_again() {
    let cluster = Cluster::new();
    let (one, other) = (cluster.started("one").await, cluster.started("other").await);
    let made = one.register().await;
    let narrow = async |node: &Node, scope: &str| {
        let patch = ApplicationPatch {
            scope: Scope::parse(scope).ok(),
            ..ApplicationPatch::default()
        };
        let (id, by) = (made.application.id, Commander::system());
        node.service
            .change_application(id, patch, None, None, &by, &now())
            .await
    };
    narrow(&one, "read").await.expect("it is narrowed");
    other.catch_up(&cluster).await;
    other.view.hold_state();
    narrow(&one, "read update").await.expect("it is widened");
    let narrowed = before_its_state(&other, narrow(&other, "read")).await;
    assert_eq!(narrowed.expect("it is narrowed").scope.as_str(), "read");
    assert_eq!(cluster.count("ApplicationChanged").await, 3);
}

#[tokio::test]
async fn what_another_node_has_just_registered_is_found_by_a_command() {
    let cluster = Cluster::new();
    let (one, other) = (cluster.started("one").await, cluster.started("other").await);
    other.view.hold_state();
    let made = one.register().await;
    let (id, by, circumstances) = (made.application.id, Commander::system(), now());
    let rotated = other
        .service
        .rotate_secret(id, None, None, None, None, &by, &circumstances);
    before_its_state(&other, rotated).await.expect("it is there");
}

#[tokio::test]
async fn a_command_to_a_node_whose_state_does_not_come_to_where_the_log_is_is_not_done() {
    let cluster = Cluster::new();
    let (one, other) = (cluster.started("one").await, cluster.started("other").await);
    let made = one.register().await;
    other.catch_up(&cluster).await;
    other.view.hold_state();
    switch(&one, &made, OFF).await.expect("it is disabled");
    let refused = switch(&other, &made, OFF).await;
    assert!(matches!(refused, Err(ServiceError::Busy(_))), "{refused:?}");
    assert_eq!(cluster.count("ApplicationDisabled").await, 1);
}
