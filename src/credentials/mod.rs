//! Everything secret: client secrets, signing keys, and the master key that seals them.
//!
//! No clock and no store here. A secret has no `Display`, says nothing in `Debug`, and is wiped from
//! memory when it is dropped.

pub mod generated;

pub mod client_secret;

pub mod reference_token;

pub mod signing_key;

pub mod sealing;

pub mod log_key;

pub mod signers;

pub mod verification;

#[cfg(test)]
pub(crate) mod key_ring_fixture;

/// The source of randomness gave none. Nothing that depends on it can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's source of randomness failed")]
pub struct NoRandomness;

fn fill_random(bytes: &mut [u8]) -> Result<(), NoRandomness> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| NoRandomness)
}
