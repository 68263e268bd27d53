//! The service's own life: first start, start, upkeep, stop.

use crate::credentials::client_secret::{self, ClientSecret};
use crate::event_store::ExpectedRevision;
use crate::policy::apis::ApiPatch;
use crate::policy::applications::ApplicationPatch;
use crate::policy::secrets::{self, RotateSecret};
use crate::policy::{Authority, CommandRefused, FIRST_APPLICATIONS, FirstApplication};
use crate::service::applications::{Race, Registration, Switch};
use crate::service::record::{Circumstances, Commander};
use crate::service::{Service, ServiceError};
use grantlog_projections::event::{ClientType, IssuedSecret, ServiceStarted, ServiceStopped};
use grantlog_projections::key_ring::KeyState;
use grantlog_projections::trusted_application::TrustedApplication;
use grantlog_projections::values::{
    Actor, ApplicationUri, Audience, InvalidValue, Name, Remark, Scope, SecretId, SigningAlgorithm, StreamName,
    SystemUser,
};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long a start waits to read a registration that the log has, and how long between two looks.
const FIRST_PATIENCE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(20);

impl Service {
    /// Whether one of the first applications is still to be registered.
    pub fn needs(&self, first: &FirstApplication) -> bool {
        self.snapshot().directory.application(first.id()).is_none()
    }

    /// Registers one of the first applications with a secret that the caller has kept already: were it the
    /// other way round, a crash in between would lock everybody out. May be repeated with the same secret when nobody knows
    /// what became of it. False: another node has just done it, with a secret of its own.
    pub async fn register_first(&self, first: &FirstApplication, secret: &ClientSecret) -> Result<bool, ServiceError> {
        let invalid = |error: InvalidValue| ServiceError::Keys(error.to_string());
        let registration = Registration {
            application_uri: ApplicationUri::parse(first.client_id).map_err(invalid)?,
            attributes: first_attributes(first).map_err(invalid)?,
            is_enabled: true,
            secret_hash: Some(secret.hash()),
            secret_expires_in_seconds: None,
        };
        let registered = self
            .register_application(registration, &Commander::system(), &Circumstances::of_system())
            .await;
        match registered {
            Ok(_) => Ok(true),
            // Another was faster, or this node itself, whose own append was given up and is there after all.
            Err(error @ ServiceError::Refused(CommandRefused::Conflict(_))) => match self.gets_to_know(first).await {
                true => Ok(self.is_secret_of(first, secret.expose())),
                false => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// Waits until this node, too, has read the registration that the log has.
    async fn gets_to_know(&self, first: &FirstApplication) -> bool {
        let began = Instant::now();
        while self.needs(first) && began.elapsed() < FIRST_PATIENCE {
            tokio::time::sleep(FIRST_PAUSE).await;
        }
        !self.needs(first)
    }

    /// Whether this is a secret of one of the first applications.
    pub fn is_secret_of(&self, first: &FirstApplication, secret: &str) -> bool {
        let application = self.snapshot().directory.application(first.id()).cloned();
        let secrets = application.as_deref().map_or(&[][..], |found| &found.secrets);
        client_secret::verify(secret, secrets).secret_id().is_some()
    }

    /// Makes this the only secret of one of the first applications and puts back what it needs for its duty:
    /// for an operator at the machine, who is named by the account. The caller has kept the secret already.
    pub async fn reset_first(
        &self,
        first: &FirstApplication,
        secret: &ClientSecret,
        account: &str,
    ) -> Result<(), ServiceError> {
        let invalid = |error: InvalidValue| ServiceError::Keys(error.to_string());
        let id = first.id();
        let operator = Name::parse(account)
            .or_else(|_| Name::parse("unknown"))
            .map_err(invalid)?;
        let by = Commander {
            actor: Actor::Operator(operator),
            authority: Authority::Everything,
        };
        let reason = Remark::parse("reset by an operator").ok();
        let circumstances = Circumstances::of_system();
        let patch = ApplicationPatch {
            client_type: Some(ClientType::Confidential),
            allowed_networks: Some(Vec::new()),
            audiences: Some(self.own_audiences()),
            system_user_allowed: Some(true),
            ..first_attributes(first).map_err(invalid)?
        };
        let again = Race::DecideAgain;
        self.change_in_race(id, patch, None, reason.clone(), again, &by, &circumstances)
            .await?;
        let rotate = |application: &TrustedApplication| {
            let command = RotateSecret {
                secret: IssuedSecret {
                    id: SecretId(Uuid::now_v7()),
                    hash: secret.hash(),
                    hint: Some(secret.hint()),
                    expires_at: None,
                },
                overlap_seconds: 0,
                now: circumstances.now,
                expected_revision: None,
                reason: reason.clone(),
            };
            Ok(Some(secrets::rotate(application, command)?.into()))
        };
        self.decide_application(id, Race::DecideAgain, &by, &circumstances, rotate)
            .await?;
        self.switch_application(id, Switch::On, None, reason.clone(), &by, &circumstances)
            .await?;
        Ok(())
    }

    /// Where another audience than the issuer is the default one, the first applications name the issuer.
    fn own_audiences(&self) -> Vec<Audience> {
        let policy = &self.settings.policy;
        if policy.default_audience == policy.issuer {
            Vec::new()
        } else {
            vec![policy.issuer.clone()]
        }
    }

    /// The issuer and the default audience are the configuration's: after a change of them the first
    /// applications must still get tokens for this server.
    async fn keep_within_reach(&self, first: &FirstApplication) -> Result<(), ServiceError> {
        let Some(application) = self.snapshot().directory.application(first.id()).cloned() else {
            return Ok(());
        };
        let audiences = self.own_audiences();
        let is_reached =
            audiences == application.audiences || application.audiences.contains(&self.settings.policy.issuer);
        if is_reached || application.is_deleted() {
            return Ok(());
        }
        let patch = ApplicationPatch {
            audiences: Some(audiences),
            ..ApplicationPatch::default()
        };
        let reason = Remark::parse("the issuer or the default audience was configured anew").ok();
        self.change_in_race(
            application.id,
            patch,
            None,
            reason,
            Race::DecideAgain,
            &Commander::system(),
            &Circumstances::of_system(),
        )
        .await?;
        Ok(())
    }

    /// Makes what every start needs: a key for each algorithm in use, and an API for the issuer and the
    /// default audience; then puts the start on the record.
    pub async fn start(&self) -> Result<(), ServiceError> {
        self.maintain_keys().await?;
        let policy = &self.settings.policy;
        self.provide_api(&policy.issuer, "Grantlog").await?;
        self.provide_api(&policy.default_audience, "Default audience").await?;
        for first in &FIRST_APPLICATIONS {
            self.keep_within_reach(first).await?;
        }
        let started = ServiceStarted {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store: self.settings.store_kind.to_owned(),
            config_digest: self.settings.config_digest.clone(),
            clean: !self.snapshot().service_run.is_running(self.settings.node.as_ref()),
            node: self.settings.node.clone(),
        };
        if !started.clean {
            tracing::warn!("the run before this one did not stop in an orderly way; its log was replayed");
        }
        let stream = StreamName::service();
        let circumstances = Circumstances::of_system();
        self.record_change(
            stream,
            ExpectedRevision::Any,
            &Actor::System,
            &circumstances,
            [started.into()],
        )
        .await?;
        Ok(())
    }

    /// What is done every now and then: keys, and reports of what was suppressed.
    pub async fn upkeep(&self) {
        if let Err(error) = self.maintain_keys().await {
            tracing::error!(%error, "the signing keys could not be maintained");
        }
    }

    /// Puts the stop on the record, saves the projections and closes the log.
    pub async fn stop(&self, reason: &str) {
        self.report_suppressed(true).await;
        let stopped = ServiceStopped {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            reason: reason.to_owned(),
            node: self.settings.node.clone(),
        };
        let circumstances = Circumstances::of_system();
        let recorded = self
            .record_change(
                StreamName::service(),
                ExpectedRevision::Any,
                &Actor::System,
                &circumstances,
                [stopped.into()],
            )
            .await;
        if let Err(error) = recorded {
            tracing::error!(%error, "the stop could not be recorded");
        }
        self.live.close().await;
        if let Some(trail) = &self.trail {
            trail.close().await;
        }
        self.store.close().await;
    }

    /// Sets the gauges that are scraped.
    pub fn gauge(&self) {
        let log_size = self.store.log_size();
        self.metrics.event_store_log_size(log_size);
        self.metrics.event_store_queue_depth(self.store.queue_depth());
        let is_up = !self.store.has_ended() && self.store.failure().is_none() && self.store.cut_off().is_none();
        self.metrics.event_store_is_up(is_up);
        self.metrics.open_sessions(self.snapshot().sessions.len() as u64);
        self.metrics
            .projection_lag("state", log_size.saturating_sub(self.live.position()));
        if let Some(trail) = &self.trail {
            let lag = |through| log_size.saturating_sub(through);
            self.metrics
                .projection_lag("audit_index", lag(trail.index.indexed_through()));
            self.metrics
                .projection_lag("transparency", lag(trail.transparency.size()));
            self.metrics.projection_lag("usage", lag(trail.usage.through()));
        }
        let key_ring = self.snapshot().key_ring.clone();
        let is_in = |state: &str, key: KeyState| {
            matches!(
                (state, key),
                ("announced", KeyState::Announced)
                    | ("active", KeyState::Active { .. })
                    | ("superseded", KeyState::Superseded { .. })
            )
        };
        for alg in SigningAlgorithm::ALL {
            for state in ["announced", "active", "superseded"] {
                let keys = key_ring
                    .keys()
                    .filter(|key| key.alg == alg && is_in(state, key.state))
                    .count();
                self.metrics.signing_keys(alg, state, keys as u64);
            }
        }
    }

    async fn provide_api(&self, audience: &Audience, name: &str) -> Result<(), ServiceError> {
        let id = grantlog_projections::values::ApiId::of(audience);
        if self.snapshot().directory.api(id).is_some() {
            return Ok(());
        }
        let name = Name::parse(name).map_err(|error| ServiceError::Keys(error.to_string()))?;
        let attributes = ApiPatch {
            name: Some(name),
            ..ApiPatch::default()
        };
        let registered = self
            .register_api(
                audience.clone(),
                attributes,
                &Actor::System,
                &Circumstances::of_system(),
            )
            .await;
        match registered {
            // Another node that starts at the same time has done it.
            Err(ServiceError::Refused(CommandRefused::Conflict(_))) => Ok(()),
            registered => registered.map(drop),
        }
    }
}

fn first_attributes(first: &FirstApplication) -> Result<ApplicationPatch, InvalidValue> {
    Ok(ApplicationPatch {
        name: Some(Name::parse(first.name)?),
        scope: Some(Scope::of(first.scopes.iter().copied())),
        system_user: Some(Some(SystemUser::parse(first.client_id)?)),
        ..ApplicationPatch::default()
    })
}
