//! A node that has not heard of the log for too long.

use crate::node::{Cluster, now};
use grantlog::oauth::OAuthError;
use grantlog::policy::CommandRefused;
use grantlog::service::ServiceError;
use grantlog::service::applications::Switch;
use grantlog::service::authorize_call::CallRefused;
use grantlog::service::record::Commander;
use grantlog_projections::values::Actor;

const REASON: &str = "nothing heard for 5 s";

#[tokio::test]
async fn a_node_that_is_cut_off_grants_allows_and_changes_nothing_and_comes_back_by_itself() {
    let cluster = Cluster::new();
    let (one, other) = (cluster.started("one").await, cluster.started("other").await);
    let made = one.register().await;
    let token = one.ask(&made).await.expect("a token");
    other.catch_up(&cluster).await;
    one.call(&token).await.expect("the call is allowed");
    let size = cluster.events().await.len();

    one.view.cut(Some(REASON));
    let refused = one.ask(&made).await.expect_err("no token");
    assert!(
        matches!(refused, OAuthError::TemporarilyUnavailable { .. }),
        "{refused}"
    );
    let refused = one.call(&token).await.expect_err("no call");
    assert!(
        matches!(&refused, CallRefused::NotRecorded(ServiceError::Busy(reason)) if reason.contains(REASON)),
        "{refused}"
    );
    let (id, by) = (made.application.id, Commander::system());
    let off = Switch::Off { revoke_tokens: true };
    let refused = one.service.switch_application(id, off, None, None, &by, &now()).await;
    assert!(matches!(refused, Err(ServiceError::CutOff(_))), "{refused:?}");
    let refused = one.service.revoke_tokens_of(id, None, &Actor::System, &now()).await;
    assert!(matches!(refused, Err(ServiceError::CutOff(_))), "{refused:?}");
    let readiness = one.service.readiness();
    assert!(!readiness.ready && readiness.reasons.iter().any(|reason| reason.contains(REASON)));
    assert_eq!(cluster.events().await.len(), size, "nothing was recorded");

    other.ask(&made).await.expect("the other node goes on");
    assert!(other.service.readiness().ready);

    one.view.cut(None);
    one.is_ready().await;
    one.ask(&made).await.expect("a token again");
    one.call(&token).await.expect("a call again");
}

#[tokio::test]
async fn what_another_node_has_disabled_is_refused_once_this_one_has_heard_of_it() {
    let cluster = Cluster::new();
    let (one, other) = (cluster.started("one").await, cluster.started("other").await);
    let made = one.register().await;
    other.catch_up(&cluster).await;
    let token = other.ask(&made).await.expect("a secret of one node works on the other");
    let off = Switch::Off { revoke_tokens: true };
    let (id, by) = (made.application.id, Commander::system());
    let disabled = one.service.switch_application(id, off, None, None, &by, &now()).await;
    disabled.expect("it is disabled");
    other.catch_up(&cluster).await;
    assert_eq!(other.ask(&made).await.err(), Some(OAuthError::InvalidClient));
    assert!(other.call(&token).await.is_err());
    let gone = other.service.delete_application(id, Some(0), None, &by, &now()).await;
    assert!(matches!(
        gone,
        Err(ServiceError::Refused(CommandRefused::PreconditionFailed { .. }))
    ));
}

#[tokio::test]
async fn a_node_that_is_back_decides_nothing_before_its_state_has_what_it_missed() {
    let cluster = Cluster::new();
    let (one, other) = (cluster.started("one").await, cluster.started("other").await);
    let made = one.register().await;
    other.catch_up(&cluster).await;
    let token = other.ask(&made).await.expect("a token");
    other.view.cut(Some(REASON));
    other.view.hold_state();
    assert!(!other.service.readiness().ready);
    let off = Switch::Off { revoke_tokens: true };
    let (id, by) = (made.application.id, Commander::system());
    let disabled = one.service.switch_application(id, off, None, None, &by, &now()).await;
    disabled.expect("it is disabled");
    let size = cluster.events().await.len();

    other.view.cut(None);
    let refused = other.ask(&made).await.expect_err("no token");
    assert!(
        matches!(refused, OAuthError::TemporarilyUnavailable { .. }),
        "{refused}"
    );
    let refused = other.call(&token).await.expect_err("no call");
    assert!(
        matches!(refused, CallRefused::NotRecorded(ServiceError::Busy(_))),
        "{refused}"
    );
    assert!(!other.service.readiness().ready);
    let ended = other.service.end_sessions_that_are_over().await;
    ended.expect("that is for later");
    assert_eq!(cluster.events().await.len(), size, "nothing was recorded");

    other.view.release_state();
    other.is_ready().await;
    assert_eq!(other.ask(&made).await.err(), Some(OAuthError::InvalidClient));
}
