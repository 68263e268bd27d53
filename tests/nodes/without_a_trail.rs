//! Nodes that keep no index: what needs one works without, or says where to ask; and nodes that keep one agree.

use crate::node::{Cluster, now};
use grantlog::event_store::EventStore;
use grantlog::service::ServiceError;
use grantlog::service::authorize_call::CallRefused;
use grantlog::service::record::Commander;
use grantlog_projections::values::{Actor, ApplicationUri};
use uuid::Uuid;

fn jti(token: &str) -> Uuid {
    use base64::Engine;
    let claims = token.split('.').nth(1).expect("claims");
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims);
    let claims: serde_json::Value = serde_json::from_slice(&claims.expect("base64url")).expect("JSON");
    claims["jti"].as_str().expect("a jti").parse().expect("a UUID")
}

#[tokio::test]
async fn tokens_of_a_revoked_secret_are_refused_where_there_is_no_index() {
    let cluster = Cluster::new();
    let (one, other) = (cluster.started("one").await, cluster.started("other").await);
    let made = one.register().await;
    let (id, by) = (made.application.id, Commander::system());
    let of_old = one.ask(&made).await.unwrap();
    let rotated = one
        .service
        .rotate_secret(id, Some(3_600), None, None, None, &by, &now())
        .await
        .unwrap();
    let of_new = one.ask(&rotated).await.unwrap();
    let old = made.secret_id.expect("the first secret's id");
    one.service
        .revoke_secret(id, old, true, None, None, &by, &now())
        .await
        .unwrap();
    other.catch_up(&cluster).await;
    for node in [&one, &other] {
        assert!(matches!(node.call(&of_old).await, Err(CallRefused::InvalidToken(_))));
        node.call(&of_new).await.expect("the token of the new secret is good");
    }
}

#[tokio::test]
async fn an_administrator_revokes_a_token_by_its_id_where_there_is_no_index() {
    let cluster = Cluster::new();
    let node = cluster.started("one").await;
    let made = node.register().await;
    let token = node.ask(&made).await.unwrap();
    node.service
        .revoke_token(jti(&token), None, &Actor::System, &now())
        .await
        .expect("it is revoked");
    assert!(matches!(node.call(&token).await, Err(CallRefused::InvalidToken(_))));
    let unknown = node
        .service
        .revoke_token(Uuid::now_v7(), None, &Actor::System, &now())
        .await;
    assert!(matches!(unknown, Err(ServiceError::Refused(_))));
}

#[tokio::test]
async fn what_only_the_trail_can_answer_is_said_to_be_elsewhere() {
    let cluster = Cluster::new();
    let node = cluster.started("one").await;
    let made = node.register().await;
    let reader = ApplicationUri::parse("reader").unwrap();
    let used = node
        .service
        .application_usage(made.application.id, 7, &reader, &now())
        .await;
    assert!(matches!(used, Err(ServiceError::NoTrail)));
    let shown = node.service.show_token(Uuid::now_v7(), &reader, &now()).await;
    assert!(matches!(shown, Err(ServiceError::NoTrail)));
    assert!(matches!(
        node.service.latest_checkpoint().await,
        Err(ServiceError::NoTrail)
    ));
    node.service.retain().await.expect("others see to it");
    node.service.gauge();
    assert_eq!(node.service.readiness().indexed_through, None);
    assert!(node.service.readiness().ready);
}

#[tokio::test]
async fn two_nodes_with_a_trail_sign_the_same_checkpoint_with_the_same_key() {
    let cluster = Cluster::new();
    let (one, other) = (cluster.node("one", true).await, cluster.node("other", true).await);
    one.service.start().await.unwrap();
    other.service.start().await.unwrap();
    let made = one.register().await;
    one.ask(&made).await.unwrap();
    one.catch_up(&cluster).await;
    other.catch_up(&cluster).await;
    let size = cluster.log.log_size();
    let of_one = one.service.checkpoint_at(size).await.unwrap();
    let of_other = other.service.checkpoint_at(size).await.unwrap();
    assert_eq!(of_one.text, of_other.text);
    assert!(one.service.readiness().ready && other.service.readiness().ready);
}
