//! Commands on Trusted Applications, from decision to durable change.

use crate::credentials::client_secret::ClientSecret;
use crate::event_store::stream::{check_reaches, read_stream};
use crate::event_store::{AppendError, ExpectedRevision, MAX_EVENTS_PER_READ, StoredEvent, codec};
use crate::policy::applications::{ApplicationPatch, RegisterApplication};
use crate::policy::secrets::{MAX_EXPIRY_SECONDS, RotateSecret};
use crate::policy::{CommandRefused, applications, check_revision, secrets};
use crate::service::record::{Circumstances, Commander};
use crate::service::{Service, ServiceError};
use grantlog_projections::Event;
use grantlog_projections::event::{ClientType, IssuedSecret};
use grantlog_projections::recorded_event::RecordedEvent;
use grantlog_projections::trusted_application::TrustedApplication;
use grantlog_projections::values::{
    ApplicationId, ApplicationUri, Remark, SecretHash, SecretId, StreamName, Timestamp,
};
use std::sync::Arc;
use uuid::Uuid;

/// A change without `If-Match` is decided anew this often when others change the same thing meanwhile.
const MAX_ATTEMPTS: usize = 5;

/// Register an application, as a caller puts it.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Its OAuth client_id.
    pub application_uri: ApplicationUri,
    /// Its attributes.
    pub attributes: ApplicationPatch,
    /// Whether it may ask for tokens at once.
    pub is_enabled: bool,
    /// The hash of a secret that exists elsewhere; none: one is made.
    pub secret_hash: Option<SecretHash>,
    /// How long the secret is valid; none: until further notice.
    pub secret_expires_in_seconds: Option<i64>,
}

/// Whether an application may ask for tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// It may.
    On,
    /// It may not, and nothing opens with the tokens that it has.
    Off {
        /// Whether those stay refused when it is switched on again.
        revoke_tokens: bool,
    },
}

/// An application, and its new secret in the clear: shown once, stored nowhere.
pub struct WithSecret {
    /// The application.
    pub application: Arc<TrustedApplication>,
    /// The secret's id.
    pub secret_id: Option<SecretId>,
    /// The secret; none when only its hash was given.
    pub secret: Option<ClientSecret>,
}

/// What becomes of a command when somebody else changes the same thing at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Race {
    /// It is refused: its caller decided by what was there before, and two changes are never merged silently.
    Refuse,
    /// It is decided again on what is there now: to disable, to delete and to revoke mean the same whatever else was
    /// changed, and nobody who has to stop an application may be kept from it by those who change it.
    DecideAgain,
}

/// A point in the log's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// After everything decided up to then.
    Time(Timestamp),
    /// After the event at this index.
    Index(u64),
}

impl AsOf {
    /// Whether the event had happened by then.
    pub fn includes(self, recorded: &RecordedEvent) -> bool {
        match self {
            Self::Time(time) => recorded.envelope.time <= time,
            Self::Index(index) => recorded.index <= index,
        }
    }
}

impl Service {
    /// Registers an application.
    pub async fn register_application(
        &self,
        registration: Registration,
        by: &Commander,
        circumstances: &Circumstances,
    ) -> Result<WithSecret, ServiceError> {
        let is_public = registration.attributes.client_type == Some(ClientType::Public);
        let expires_at = expiry(
            "secret_expires_in_seconds",
            registration.secret_expires_in_seconds,
            circumstances.now,
        )?;
        let secret = match registration.secret_hash {
            None if !is_public => Some(ClientSecret::generate()?),
            _ => None,
        };
        let issued = match (&secret, registration.secret_hash) {
            (Some(secret), _) => Some(issued(secret, expires_at)),
            (None, Some(hash)) => Some(IssuedSecret {
                id: SecretId(Uuid::now_v7()),
                hash,
                hint: None,
                expires_at,
            }),
            (None, None) => None,
        };
        let secret_id = issued.as_ref().map(|secret| secret.id);
        let uri = registration.application_uri.clone();
        let command = RegisterApplication {
            application_uri: registration.application_uri,
            attributes: registration.attributes,
            is_enabled: registration.is_enabled,
            secret: issued,
        };
        self.state_of_now().await?;
        let fact = applications::register(&self.snapshot().directory, &self.settings.policy, command)?;
        by.authority.check(&fact.scope)?;
        let id = fact.application_id;
        let (stream, expected) = (StreamName::application(id), ExpectedRevision::NoStream);
        let recorded = self
            .record_change(stream.clone(), expected, &by.actor, circumstances, [fact.into()])
            .await;
        let application = match recorded {
            Ok(_) => self.application(id),
            Err(error) => {
                let what = format!("an application named {uri}");
                Err(self.not_registered(&stream, error, &what).await)
            }
        };
        let application = self.or_from_the_log(id, application).await?;
        Ok(WithSecret {
            application,
            secret_id,
            secret,
        })
    }

    /// A durable secret must reach its caller, for it is shown once: when this node is late to show the change,
    /// the application is read from the log.
    async fn or_from_the_log(
        &self,
        id: ApplicationId,
        changed: Result<Arc<TrustedApplication>, ServiceError>,
    ) -> Result<Arc<TrustedApplication>, ServiceError> {
        match changed {
            Err(ServiceError::NotReached(late)) => {
                tracing::warn!(%late, %id, "a new secret is answered before this node accepts it");
                Ok(Arc::new(self.application_as_of(id, AsOf::Index(u64::MAX)).await?))
            }
            changed => changed,
        }
    }

    /// The application as it is now, unless it was deleted.
    pub fn application(&self, id: ApplicationId) -> Result<Arc<TrustedApplication>, ServiceError> {
        let found = self
            .snapshot()
            .directory
            .application(id)
            .filter(|application| !application.is_deleted())
            .cloned();
        found.ok_or_else(|| CommandRefused::NotFound(format!("there is no application {id}")).into())
    }

    /// As far as this node knows it, deleted or not.
    pub(super) fn revision_of_application(&self, id: ApplicationId) -> Option<u64> {
        let snapshot = self.snapshot();
        let application = snapshot.directory.application(id);
        application.map(|application| application.revision)
    }

    /// Refuses a point that is yet to come: what will be the case then, nobody knows.
    pub fn check_past(&self, field: &str, as_of: AsOf, now: Timestamp) -> Result<(), CommandRefused> {
        let log_size = self.store.log_size();
        match as_of {
            AsOf::Index(index) if index >= log_size => Err(CommandRefused::invalid(
                field,
                format!("the log has {log_size} events: there is no event {index} yet"),
            )),
            AsOf::Time(time) if time > now => Err(CommandRefused::invalid(
                field,
                format!("{time} is yet to come: it is {now} now"),
            )),
            AsOf::Index(_) | AsOf::Time(_) => Ok(()),
        }
    }

    /// The application as it was then.
    pub async fn application_as_of(&self, id: ApplicationId, as_of: AsOf) -> Result<TrustedApplication, ServiceError> {
        let known = self.revision_of_application(id);
        let history = self.history(&StreamName::application(id), known).await?;
        history
            .iter()
            .take_while(|recorded| as_of.includes(recorded))
            .fold(None, TrustedApplication::fold)
            .ok_or_else(|| CommandRefused::NotFound(not_yet_registered(id, &history)).into())
    }

    /// Changes attributes.
    pub async fn change_application(
        &self,
        id: ApplicationId,
        patch: ApplicationPatch,
        expected_revision: Option<u64>,
        reason: Option<Remark>,
        by: &Commander,
        circumstances: &Circumstances,
    ) -> Result<Arc<TrustedApplication>, ServiceError> {
        self.change_in_race(id, patch, expected_revision, reason, Race::Refuse, by, circumstances)
            .await
    }

    /// The same, with what becomes of it when somebody else is faster.
    #[allow(clippy::too_many_arguments)] // a command's fields, who gives it and where
    pub(super) async fn change_in_race(
        &self,
        id: ApplicationId,
        patch: ApplicationPatch,
        expected_revision: Option<u64>,
        reason: Option<Remark>,
        race: Race,
        by: &Commander,
        circumstances: &Circumstances,
    ) -> Result<Arc<TrustedApplication>, ServiceError> {
        let decide = |application: &TrustedApplication| {
            let snapshot = self.snapshot();
            let (patch, reason) = (patch.clone(), reason.clone());
            let (directory, policy) = (&snapshot.directory, &self.settings.policy);
            by.authority.check(&application.scope)?;
            if let Some(scope) = &patch.scope {
                by.authority.check(scope)?;
            }
            let change = applications::change(directory, policy, application, patch, expected_revision, reason)?;
            Ok(change.map(Event::from))
        };
        self.decide_application(id, race, by, circumstances, decide).await
    }

    /// Switches the application on or off.
    pub async fn switch_application(
        &self,
        id: ApplicationId,
        switch: Switch,
        expected_revision: Option<u64>,
        reason: Option<Remark>,
        by: &Commander,
        circumstances: &Circumstances,
    ) -> Result<Arc<TrustedApplication>, ServiceError> {
        let decide = |application: &TrustedApplication| {
            check_revision(expected_revision, application.revision)?;
            Ok(match switch {
                Switch::On => {
                    by.authority.check(&application.scope)?;
                    applications::enable(application, reason.clone()).map(Event::from)
                }
                Switch::Off { revoke_tokens } => {
                    applications::disable(application, revoke_tokens, reason.clone()).map(Event::from)
                }
            })
        };
        let switched = self
            .decide_application(id, Race::DecideAgain, by, circumstances, decide)
            .await?;
        if let Switch::Off { .. } = switch {
            self.end_sessions_of_revoked_tokens(id, &by.actor, circumstances).await;
        }
        Ok(switched)
    }

    /// Deletes the application; its name is not given out again.
    pub async fn delete_application(
        &self,
        id: ApplicationId,
        expected_revision: Option<u64>,
        reason: Option<Remark>,
        by: &Commander,
        circumstances: &Circumstances,
    ) -> Result<(), ServiceError> {
        let decide = |application: &TrustedApplication| {
            check_revision(expected_revision, application.revision)?;
            Ok(Some(applications::delete(application, reason.clone())?.into()))
        };
        let is_gone = || {
            self.snapshot()
                .directory
                .application(id)
                .is_some_and(|found| found.is_deleted())
        };
        match self
            .decide_application(id, Race::DecideAgain, by, circumstances, decide)
            .await
        {
            // It is gone already: that is what was asked for.
            Err(ServiceError::Refused(CommandRefused::NotFound(_))) if is_gone() => return Ok(()),
            outcome => outcome?,
        };
        self.end_sessions_of_revoked_tokens(id, &by.actor, circumstances).await;
        Ok(())
    }

    /// Gives the application a new secret; those of now stay valid for the overlap.
    #[allow(clippy::too_many_arguments)] // a command's fields, who gives it and where
    pub async fn rotate_secret(
        &self,
        id: ApplicationId,
        overlap_seconds: Option<i64>,
        expires_in_seconds: Option<i64>,
        expected_revision: Option<u64>,
        reason: Option<Remark>,
        by: &Commander,
        circumstances: &Circumstances,
    ) -> Result<WithSecret, ServiceError> {
        let expires_at = expiry("expires_in_seconds", expires_in_seconds, circumstances.now)?;
        let secret = ClientSecret::generate()?;
        let new = issued(&secret, expires_at);
        let overlap_seconds = overlap_seconds.unwrap_or(self.settings.default_overlap_seconds);
        let decide = |application: &TrustedApplication| {
            by.authority.check(&application.scope)?;
            let command = RotateSecret {
                secret: new.clone(),
                overlap_seconds,
                now: circumstances.now,
                expected_revision,
                reason: reason.clone(),
            };
            Ok(Some(secrets::rotate(application, command)?.into()))
        };
        let rotated = self
            .decide_application(id, Race::Refuse, by, circumstances, decide)
            .await;
        let application = self.or_from_the_log(id, rotated).await?;
        Ok(WithSecret {
            application,
            secret_id: Some(new.id),
            secret: Some(secret),
        })
    }

    /// Ends a secret at once, and with `revoke_tokens` the tokens that were asked for with it.
    #[allow(clippy::too_many_arguments)] // a command's fields, who gives it and where
    pub async fn revoke_secret(
        &self,
        id: ApplicationId,
        secret_id: SecretId,
        revoke_tokens: bool,
        expected_revision: Option<u64>,
        reason: Option<Remark>,
        by: &Commander,
        circumstances: &Circumstances,
    ) -> Result<Arc<TrustedApplication>, ServiceError> {
        let decide = |application: &TrustedApplication| {
            check_revision(expected_revision, application.revision)?;
            Ok(secrets::revoke(application, secret_id, revoke_tokens, reason.clone())?.map(Event::from))
        };
        let revoked = self
            .decide_application(id, Race::DecideAgain, by, circumstances, decide)
            .await?;
        if revoke_tokens {
            self.end_sessions_of_revoked_tokens(id, &by.actor, circumstances).await;
        }
        Ok(revoked)
    }

    /// Reads, decides and appends. When somebody else was faster, here or on another node, what was decided on is no
    /// more: nothing is merged with what they did unless the command means the same whatever they did.
    pub(super) async fn decide_application(
        &self,
        id: ApplicationId,
        race: Race,
        by: &Commander,
        circumstances: &Circumstances,
        decide: impl Fn(&TrustedApplication) -> Result<Option<Event>, CommandRefused>,
    ) -> Result<Arc<TrustedApplication>, ServiceError> {
        self.state_of_now().await?;
        for _ in 0..MAX_ATTEMPTS {
            let application = self.application(id)?;
            let Some(fact) = decide(&application)? else {
                return Ok(application);
            };
            let stream = StreamName::application(id);
            let expected = ExpectedRevision::Exact(application.revision);
            let is_deletion = matches!(fact, Event::ApplicationDeleted(_));
            match self
                .record_change(stream.clone(), expected, &by.actor, circumstances, [fact])
                .await
            {
                Ok(_) if is_deletion => return Ok(application),
                Ok(_) => return self.application(id),
                Err(ServiceError::NotRecorded(AppendError::WrongExpectedRevision { actual, .. })) => {
                    self.catch_up_with(&stream, actual).await?;
                    if race == Race::Refuse {
                        // Whoever named a revision is told that it is another one now.
                        decide(&*self.application(id)?)?;
                        let message = "somebody else changed it at the same time: look, then repeat";
                        return Err(CommandRefused::Conflict(message.into()).into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(CommandRefused::Conflict("others keep changing it: try again".into()).into())
    }

    /// The events of a configuration stream, which reaches to the revision that is `known` already.
    pub(super) async fn history(
        &self,
        stream: &StreamName,
        known: Option<u64>,
    ) -> Result<Vec<RecordedEvent>, ServiceError> {
        let stored = self.stored_history(stream, known).await?;
        Ok(stored.iter().map(codec::decode).collect::<Result<_, _>>()?)
    }

    /// The same as they are stored.
    pub(super) async fn stored_history(
        &self,
        stream: &StreamName,
        known: Option<u64>,
    ) -> Result<Vec<StoredEvent>, ServiceError> {
        let mut history = Vec::new();
        loop {
            let read = read_stream(&*self.store, stream, history.len() as u64, MAX_EVENTS_PER_READ).await?;
            let is_last = read.len() < MAX_EVENTS_PER_READ;
            history.extend(read);
            if is_last {
                check_reaches(stream, &history, known)?;
                return Ok(history);
            }
        }
    }

    /// After a lost race: waits until this node shows what won it. That may be another node's, and not even read here.
    pub(super) async fn catch_up_with(&self, stream: &StreamName, actual: Option<u64>) -> Result<(), ServiceError> {
        let Some(actual) = actual else { return Ok(()) };
        let won = read_stream(&*self.store, stream, actual, 1).await?;
        if let Some(won) = won.first() {
            self.live.reached(won.index).await?;
        }
        Ok(())
    }

    /// What to answer when something was not registered. A name that exists, or has existed, is not given out again;
    /// whoever looks next sees who has it.
    pub(super) async fn not_registered(&self, stream: &StreamName, error: ServiceError, what: &str) -> ServiceError {
        let ServiceError::NotRecorded(AppendError::WrongExpectedRevision { actual, .. }) = error else {
            return error;
        };
        if let Err(late) = self.catch_up_with(stream, actual).await {
            tracing::warn!(error = %late, stream = stream.as_str(), "a name is taken, and this node does not show by whom");
        }
        CommandRefused::Conflict(format!("there is, or was, {what}: a name is never given out again")).into()
    }
}

fn issued(secret: &ClientSecret, expires_at: Option<Timestamp>) -> IssuedSecret {
    IssuedSecret {
        id: SecretId(Uuid::now_v7()),
        hash: secret.hash(),
        hint: Some(secret.hint()),
        expires_at,
    }
}

fn expiry(field: &str, seconds: Option<i64>, now: Timestamp) -> Result<Option<Timestamp>, CommandRefused> {
    match seconds {
        None => Ok(None),
        Some(seconds) if (1..=MAX_EXPIRY_SECONDS).contains(&seconds) => Ok(Some(now.plus_seconds(seconds))),
        Some(_) => Err(CommandRefused::invalid(field, format!("1 to {MAX_EXPIRY_SECONDS}"))),
    }
}

/// That the application was not there then, and since when it is.
pub(super) fn not_yet_registered(id: ApplicationId, history: &[RecordedEvent]) -> String {
    let first = history.first();
    let known = first.and_then(|first| Some((first, TrustedApplication::fold(None, first)?.uri)));
    match known {
        Some((first, uri)) => format!(
            "there was no application {uri} then: it was registered at {}, by event {}",
            first.envelope.time, first.index
        ),
        None => format!("there is no application {id}"),
    }
}
