//! Signing keys, from decision to durable change.

use crate::credentials::signing_key::SigningKeyPair;
use crate::event_store::{AppendError, ExpectedRevision};
use crate::policy::CommandRefused;
use crate::policy::signing_keys::{KeyStep, maintain, next_key_id, retire, rotate};
use crate::service::record::Circumstances;
use crate::service::{Service, ServiceError};
use grantlog_projections::Event;
use grantlog_projections::event::{SigningKeyActivated, SigningKeyAdded, SigningKeyRetired};
use grantlog_projections::key_ring::KeyRing;
use grantlog_projections::values::{Actor, KeyId, Remark, SigningAlgorithm, StreamName};

/// A step is decided anew this often when another one came first.
const MAX_ATTEMPTS: usize = 5;
/// Steps that are taken together, each of at most two events; what else is due is taken the next time.
const MAX_STEPS: usize = 16;

impl Service {
    /// Does what is due: first keys, announcements, rotations by age, retirements.
    pub async fn maintain_keys(&self) -> Result<(), ServiceError> {
        let circumstances = Circumstances::of_system();
        let decide = |key_ring: &KeyRing| {
            let algorithms = self.algorithms_in_use();
            Ok(maintain(
                key_ring,
                &self.settings.key_rotation,
                &algorithms,
                circumstances.now,
            ))
        };
        self.take_key_steps(None, &Actor::System, &circumstances, decide).await
    }

    /// Rotates an algorithm's key now.
    pub async fn rotate_signing_key(
        &self,
        algorithm: SigningAlgorithm,
        reason: Option<Remark>,
        actor: &Actor,
        circumstances: &Circumstances,
    ) -> Result<(), ServiceError> {
        self.state_of_now().await?;
        if !self.algorithms_in_use().contains(&algorithm) {
            let message = format!("no API uses {algorithm}: there is nothing to rotate");
            return Err(CommandRefused::invalid("alg", message).into());
        }
        // Decided once: a repetition after a lost race would rotate twice.
        let before = self.snapshot().key_ring.revision;
        let decide = |key_ring: &KeyRing| {
            if key_ring.revision != before {
                return Err(CommandRefused::Conflict(
                    "the signing keys have just changed: look, then repeat".into(),
                ));
            }
            Ok(vec![rotate(key_ring, algorithm)?])
        };
        self.take_key_steps(reason, actor, circumstances, decide).await
    }

    /// Takes a key out of the published set now: what it signed is no longer valid.
    pub async fn retire_signing_key(
        &self,
        kid: &str,
        reason: Option<Remark>,
        actor: &Actor,
        circumstances: &Circumstances,
    ) -> Result<(), ServiceError> {
        let decide = |key_ring: &KeyRing| Ok(vec![retire(key_ring, kid, &self.algorithms_in_use())?]);
        self.take_key_steps(reason, actor, circumstances, decide).await
    }

    /// Makes sure that tokens can be signed with that algorithm.
    pub(super) async fn provide_key(
        &self,
        algorithm: SigningAlgorithm,
        actor: &Actor,
        circumstances: &Circumstances,
    ) -> Result<(), ServiceError> {
        let decide = |key_ring: &KeyRing| {
            let is_missing = key_ring.active(algorithm).is_none();
            Ok(is_missing
                .then_some(KeyStep::Add {
                    alg: algorithm,
                    activate: true,
                    reason: "first key",
                })
                .into_iter()
                .collect())
        };
        self.take_key_steps(None, actor, circumstances, decide).await
    }

    /// The algorithms that some API asks for, and the default one.
    pub fn algorithms_in_use(&self) -> Vec<SigningAlgorithm> {
        let snapshot = self.snapshot();
        let mut algorithms = vec![self.settings.policy.default_algorithm];
        for api in snapshot.directory.apis_after(None).filter(|api| !api.is_deleted()) {
            algorithms.extend(api.signing_alg.filter(|alg| !algorithms.contains(alg)));
        }
        algorithms
    }

    async fn take_key_steps(
        &self,
        reason: Option<Remark>,
        actor: &Actor,
        circumstances: &Circumstances,
        decide: impl Fn(&KeyRing) -> Result<Vec<KeyStep>, CommandRefused>,
    ) -> Result<(), ServiceError> {
        self.state_of_now().await?;
        for _ in 0..MAX_ATTEMPTS {
            let key_ring = self.snapshot().key_ring.clone();
            let steps = decide(&key_ring)?;
            if steps.is_empty() {
                return Ok(());
            }
            let mut facts = Vec::new();
            for step in steps.into_iter().take(MAX_STEPS) {
                facts.extend(self.take(step, &key_ring, reason.as_ref(), circumstances).await?);
            }
            let expected = key_ring
                .revision
                .map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact);
            match self
                .record_change(StreamName::signing_keys(), expected, actor, circumstances, facts)
                .await
            {
                Ok(_) => return Ok(()),
                Err(ServiceError::NotRecorded(AppendError::WrongExpectedRevision { actual, .. })) => {
                    self.catch_up_with(&StreamName::signing_keys(), actual).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(CommandRefused::Conflict("the signing keys keep changing: try again".into()).into())
    }

    async fn take(
        &self,
        step: KeyStep,
        key_ring: &KeyRing,
        asked: Option<&Remark>,
        circumstances: &Circumstances,
    ) -> Result<Vec<Event>, ServiceError> {
        let because = |reason: &str| match asked {
            Some(asked) => Ok(asked.clone()),
            None => Remark::parse(reason).map_err(|invalid| CommandRefused::invalid("reason", invalid)),
        };
        Ok(match step {
            KeyStep::Add { alg, activate, reason } => {
                let reason = because(reason)?;
                let kid = next_key_id(key_ring, &self.settings.key_rotation, alg, circumstances.now);
                let kid = KeyId::parse(&kid).map_err(|invalid| ServiceError::Keys(invalid.to_string()))?;
                let added = self.make_key(kid.clone(), alg, reason.clone()).await?;
                let activated = activate.then(|| SigningKeyActivated { kid, alg, reason }.into());
                std::iter::once(added.into()).chain(activated).collect()
            }
            KeyStep::Activate { kid, alg, reason } => {
                vec![
                    SigningKeyActivated {
                        kid,
                        alg,
                        reason: because(reason)?,
                    }
                    .into(),
                ]
            }
            KeyStep::Retire { kid, alg, reason } => {
                vec![
                    SigningKeyRetired {
                        kid,
                        alg,
                        reason: because(reason)?,
                    }
                    .into(),
                ]
            }
        })
    }

    async fn make_key(
        &self,
        kid: KeyId,
        alg: SigningAlgorithm,
        reason: Remark,
    ) -> Result<SigningKeyAdded, ServiceError> {
        let failed = |error: &dyn std::fmt::Display| ServiceError::Keys(error.to_string());
        // An RSA key takes up to seconds: other requests of this worker go on meanwhile.
        let rsa_bits = self.settings.rsa_bits;
        let pair = tokio::task::spawn_blocking(move || SigningKeyPair::generate(alg, rsa_bits)).await;
        let pair = pair.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        let private_key = pair.to_pkcs8().map_err(|error| failed(&error))?;
        let sealed_private_key = self
            .master_key
            .seal(&kid, alg, &private_key)
            .map_err(|error| failed(&error))?;
        Ok(SigningKeyAdded {
            public_jwk: pair.public_jwk(&kid),
            kid,
            alg,
            sealed_private_key,
            reason,
        })
    }
}
