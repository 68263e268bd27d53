//! Commands on APIs, from decision to durable change.

use crate::event_store::{AppendError, ExpectedRevision};
use crate::policy::CommandRefused;
use crate::policy::apis::{self, ApiPatch};
use crate::service::applications::{AsOf, Race};
use crate::service::record::Circumstances;
use crate::service::{Service, ServiceError};
use grantlog_projections::Event;
use grantlog_projections::api::Api;
use grantlog_projections::recorded_event::RecordedEvent;
use grantlog_projections::values::{Actor, ApiId, Audience, Remark, StreamName};
use std::sync::Arc;

/// A deletion without `If-Match` is decided anew this often when others change the same thing meanwhile.
const MAX_ATTEMPTS: usize = 5;

impl Service {
    /// Registers an API, and makes sure that there is a key for its algorithm.
    pub async fn register_api(
        &self,
        audience: Audience,
        attributes: ApiPatch,
        actor: &Actor,
        circumstances: &Circumstances,
    ) -> Result<Arc<Api>, ServiceError> {
        let fact = apis::register(audience, attributes)?;
        let id = fact.api_id;
        self.state_of_now().await?;
        let is_new = self.snapshot().directory.api(id).is_none();
        if let Some(algorithm) = fact.signing_alg.filter(|_| is_new) {
            self.provide_key(algorithm, actor, circumstances).await?;
        }
        let what = format!("an API with the audience {}", fact.audience);
        let (stream, expected) = (StreamName::api(id), ExpectedRevision::NoStream);
        let recorded = self
            .record_change(stream.clone(), expected, actor, circumstances, [fact.into()])
            .await;
        match recorded {
            Ok(_) => self.api(id),
            Err(error) => Err(self.not_registered(&stream, error, &what).await),
        }
    }

    /// The API as it is now, unless it was deleted.
    pub fn api(&self, id: ApiId) -> Result<Arc<Api>, ServiceError> {
        let found = self
            .snapshot()
            .directory
            .api(id)
            .filter(|api| !api.is_deleted())
            .cloned();
        found.ok_or_else(|| CommandRefused::NotFound(format!("there is no API {id}")).into())
    }

    /// As far as this node knows it, deleted or not.
    pub(super) fn revision_of_api(&self, id: ApiId) -> Option<u64> {
        self.snapshot().directory.api(id).map(|api| api.revision)
    }

    /// The API as it was then.
    pub async fn api_as_of(&self, id: ApiId, as_of: AsOf) -> Result<Api, ServiceError> {
        let history = self.history(&StreamName::api(id), self.revision_of_api(id)).await?;
        history
            .iter()
            .take_while(|recorded| as_of.includes(recorded))
            .fold(None, Api::fold)
            .ok_or_else(|| CommandRefused::NotFound(not_yet_registered(id, &history)).into())
    }

    /// Changes attributes.
    pub async fn change_api(
        &self,
        id: ApiId,
        patch: ApiPatch,
        expected_revision: Option<u64>,
        reason: Option<Remark>,
        actor: &Actor,
        circumstances: &Circumstances,
    ) -> Result<Arc<Api>, ServiceError> {
        let policy = &self.settings.policy;
        let decide = |api: &Api| {
            Ok(apis::change(policy, api, patch.clone(), expected_revision, reason.clone())?.map(Event::from))
        };
        self.state_of_now().await?;
        // Only a change that will be made needs a key.
        if let (Some(Some(algorithm)), Some(_)) = (patch.signing_alg, decide(&*self.api(id)?)?) {
            self.provide_key(algorithm, actor, circumstances).await?;
        }
        self.decide_api(id, Race::Refuse, actor, circumstances, decide).await?;
        self.api(id)
    }

    /// Deletes the API; its audience is not given out again.
    pub async fn delete_api(
        &self,
        id: ApiId,
        expected_revision: Option<u64>,
        reason: Option<Remark>,
        actor: &Actor,
        circumstances: &Circumstances,
    ) -> Result<(), ServiceError> {
        let decide = |api: &Api| {
            crate::policy::check_revision(expected_revision, api.revision)?;
            let directory = &self.snapshot().directory;
            Ok(Some(
                apis::delete(directory, &self.settings.policy, api, reason.clone())?.into(),
            ))
        };
        self.decide_api(id, Race::DecideAgain, actor, circumstances, decide)
            .await
    }

    async fn decide_api(
        &self,
        id: ApiId,
        race: Race,
        actor: &Actor,
        circumstances: &Circumstances,
        decide: impl Fn(&Api) -> Result<Option<Event>, CommandRefused>,
    ) -> Result<(), ServiceError> {
        self.state_of_now().await?;
        for _ in 0..MAX_ATTEMPTS {
            let api = self.api(id)?;
            let Some(fact) = decide(&api)? else { return Ok(()) };
            let expected = ExpectedRevision::Exact(api.revision);
            let stream = StreamName::api(id);
            match self
                .record_change(stream.clone(), expected, actor, circumstances, [fact])
                .await
            {
                Ok(_) => return Ok(()),
                Err(ServiceError::NotRecorded(AppendError::WrongExpectedRevision { actual, .. })) => {
                    self.catch_up_with(&stream, actual).await?;
                    if race == Race::Refuse {
                        // Whoever named a revision is told that it is another one now.
                        decide(&*self.api(id)?)?;
                        let message = "somebody else changed it at the same time: look, then repeat";
                        return Err(CommandRefused::Conflict(message.into()).into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(CommandRefused::Conflict("others keep changing it: try again".into()).into())
    }
}

/// That the API was not there then, and since when it is.
fn not_yet_registered(id: ApiId, history: &[RecordedEvent]) -> String {
    let first = history.first();
    match first.and_then(|first| Some((first, Api::fold(None, first)?.audience))) {
        Some((first, audience)) => format!(
            "there was no API {audience} then: it was registered at {}, by event {}",
            first.envelope.time, first.index
        ),
        None => format!("there is no API {id}"),
    }
}
