//! Two administrators, two nodes, one application.

use crate::node::{Cluster, Node, PATIENCE, now};
use grantlog::policy::CommandRefused;
use grantlog::policy::applications::ApplicationPatch;
use grantlog::service::ServiceError;
use grantlog::service::applications::{Switch, WithSecret};
use grantlog::service::record::Commander;
use grantlog_projections::Event;
use grantlog_projections::trusted_application::TrustedApplication;
use grantlog_projections::values::{Remark, Scope};
use std::sync::Arc;

type Changed = Result<Arc<TrustedApplication>, ServiceError>;

/// Two nodes and an application; the second node hears of nothing until it has come second.
struct Scene {
    cluster: Cluster,
    first: Node,
    second: Node,
    made: WithSecret,
}

impl Scene {
    async fn new() -> Self {
        let cluster = Cluster::new();
        let (first, second) = (cluster.started("first").await, cluster.started("second").await);
        let made = first.register().await;
        second.catch_up(&cluster).await;
        second.view.hold();
        let scene = Self {
            cluster,
            first,
            second,
            made,
        };
        scene.narrow(&scene.first, None).await.expect("the first is first");
        scene
    }

    async fn narrow(&self, node: &Node, expected_revision: Option<u64>) -> Changed {
        let patch = ApplicationPatch {
            scope: Scope::parse("read").ok(),
            ..ApplicationPatch::default()
        };
        self.change(node, patch, expected_revision).await
    }

    async fn describe(&self, node: &Node, expected_revision: Option<u64>) -> Changed {
        let patch = ApplicationPatch {
            owner: Some(Remark::parse("another team").ok()),
            ..ApplicationPatch::default()
        };
        self.change(node, patch, expected_revision).await
    }

    async fn change(&self, node: &Node, patch: ApplicationPatch, expected_revision: Option<u64>) -> Changed {
        let id = self.made.application.id;
        node.service
            .change_application(id, patch, expected_revision, None, &Commander::system(), &now())
            .await
    }

    /// What becomes of a command of the second node, which it decides on what was before the first's.
    async fn second<T>(&self, command: impl Future<Output = T>) -> T {
        let heard = async {
            self.second.view.has_lost().await;
            self.second.view.release();
        };
        tokio::time::timeout(PATIENCE, async { tokio::join!(command, heard).0 })
            .await
            .expect("the second command comes second")
    }

    /// What happened to the application after its registration.
    async fn changes(&self) -> Vec<&'static str> {
        let events = self.cluster.events().await;
        let of_application = events.iter().map(|recorded| &recorded.envelope);
        of_application
            .filter(|envelope| envelope.stream.as_str().starts_with("application-"))
            .filter(|envelope| !matches!(envelope.event, Event::ApplicationRegistered(_)))
            .map(|envelope| envelope.event.type_name())
            .collect()
    }
}

#[tokio::test]
async fn a_change_that_was_decided_on_an_old_state_is_refused_and_not_merged() {
    let scene = Scene::new().await;
    let refused = scene.second(scene.describe(&scene.second, None)).await;
    assert!(
        matches!(refused, Err(ServiceError::Refused(CommandRefused::Conflict(_)))),
        "{refused:?}"
    );
    assert_eq!(scene.changes().await, ["ApplicationChanged"]);
    let application = scene.second.service.application(scene.made.application.id).unwrap();
    assert_eq!(
        application.scope.as_str(),
        "read",
        "whoever looks again sees the other's change"
    );
    assert_eq!(application.owner, None);
    scene.describe(&scene.second, None).await.expect("and may repeat it");
}

#[tokio::test]
async fn a_change_that_names_the_revision_that_it_saw_is_told_that_it_is_another_one_now() {
    let scene = Scene::new().await;
    let refused = scene.second(scene.describe(&scene.second, Some(0))).await;
    assert!(
        matches!(
            refused,
            Err(ServiceError::Refused(CommandRefused::PreconditionFailed { .. }))
        ),
        "{refused:?}"
    );
    assert_eq!(scene.changes().await, ["ApplicationChanged"]);
}

#[tokio::test]
async fn two_rotations_at_once_give_one_secret_and_one_refusal() {
    let scene = Scene::new().await;
    let (id, by) = (scene.made.application.id, Commander::system());
    let circumstances = now();
    let rotation = scene
        .second
        .service
        .rotate_secret(id, None, None, None, None, &by, &circumstances);
    let refused = scene.second(rotation).await.err();
    assert!(
        matches!(refused, Some(ServiceError::Refused(CommandRefused::Conflict(_)))),
        "{refused:?}"
    );
    assert_eq!(scene.changes().await, ["ApplicationChanged"]);
}

#[tokio::test]
async fn nobody_is_kept_from_disabling_an_application_by_those_who_change_it() {
    let scene = Scene::new().await;
    let (id, by) = (scene.made.application.id, Commander::system());
    let (off, circumstances) = (Switch::Off { revoke_tokens: false }, now());
    let disabling = scene
        .second
        .service
        .switch_application(id, off, None, None, &by, &circumstances);
    let disabled = scene.second(disabling).await.expect("it is disabled");
    assert!(!disabled.is_enabled);
    assert_eq!(disabled.scope.as_str(), "read", "it is the application of now");
    assert_eq!(scene.changes().await, ["ApplicationChanged", "ApplicationDisabled"]);
}

#[tokio::test]
async fn a_secret_that_was_rotated_on_one_node_works_on_the_other() {
    let cluster = Cluster::new();
    let (one, other) = (cluster.started("one").await, cluster.started("other").await);
    let made = one.register().await;
    let (id, by) = (made.application.id, Commander::system());
    let rotated = one
        .service
        .rotate_secret(id, Some(0), None, None, None, &by, &now())
        .await
        .expect("a new secret");
    other.catch_up(&cluster).await;
    other.ask(&rotated).await.expect("the new secret works");
    assert!(other.ask(&made).await.is_err(), "the old one does not");
}
