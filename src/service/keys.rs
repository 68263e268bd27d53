//! The signing keys as requests use them: those that sign, those that verify, and the published set.

use crate::credentials::sealing::{MasterKey, SealError};
use crate::credentials::signers::{Signer, Signers, jwks};
use crate::credentials::verification::VerificationKeys;
use arc_swap::ArcSwap;
use grantlog_projections::key_ring::KeyRing;
use grantlog_projections::values::SigningAlgorithm;
use std::sync::Arc;

/// Follows the key ring.
pub struct Keys {
    master_key: Arc<MasterKey>,
    signers: Signers,
    verification: ArcSwap<VerificationKeys>,
    jwks: ArcSwap<Vec<u8>>,
}

impl Keys {
    /// No keys yet.
    pub fn new(master_key: Arc<MasterKey>) -> Self {
        let none = KeyRing::default();
        Self {
            master_key,
            signers: Signers::new(),
            verification: ArcSwap::from_pointee(VerificationKeys::from(&none)),
            jwks: ArcSwap::from_pointee(jwks(&none).to_string().into_bytes()),
        }
    }

    /// Takes over the key ring's state.
    pub fn refresh(&self, key_ring: &KeyRing) -> Result<(), SealError> {
        self.verification.store(Arc::new(VerificationKeys::from(key_ring)));
        self.jwks.store(Arc::new(jwks(key_ring).to_string().into_bytes()));
        self.signers.refresh(key_ring, &self.master_key)
    }

    /// What signs tokens with this algorithm.
    pub fn signer(&self, algorithm: SigningAlgorithm) -> Option<Arc<Signer>> {
        self.signers.signer(algorithm)
    }

    /// What verifies tokens.
    pub fn verification(&self) -> Arc<VerificationKeys> {
        self.verification.load_full()
    }

    /// The JSON Web Key Set (RFC 7517 §5), as it is published.
    pub fn jwks(&self) -> Arc<Vec<u8>> {
        self.jwks.load_full()
    }
}
