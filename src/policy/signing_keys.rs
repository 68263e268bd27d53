//! When signing keys are made, announced, put to use and retired.

use crate::policy::CommandRefused;
use grantlog_projections::key_ring::{KeyRing, KeyState, SigningKey};
use grantlog_projections::values::{KeyId, SigningAlgorithm, Timestamp, TokenLifetime};

/// How keys live.
#[derive(Debug, Clone, Copy)]
pub struct KeyRotation {
    /// A key signs for this long, in seconds.
    pub rotate_after_seconds: i64,
    /// Its successor is published this long before it signs, in seconds: verifiers cache JWKS.
    pub announce_ahead_seconds: i64,
    /// The algorithm whose keys are named by the day alone.
    pub default_algorithm: SigningAlgorithm,
}

/// What to do with the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyStep {
    /// Make a key and announce it.
    Add {
        /// For this algorithm.
        alg: SigningAlgorithm,
        /// Let it sign at once.
        activate: bool,
        /// Why.
        reason: &'static str,
    },
    /// Let an announced key sign.
    Activate {
        /// This one.
        kid: KeyId,
        /// Of this algorithm.
        alg: SigningAlgorithm,
        /// Why.
        reason: &'static str,
    },
    /// Publish a key no longer.
    Retire {
        /// This one.
        kid: KeyId,
        /// Of this algorithm.
        alg: SigningAlgorithm,
        /// Why.
        reason: &'static str,
    },
}

/// Verifiers' clocks may be this far off, in seconds.
const CLOCK_LEEWAY_SECONDS: i64 = 300;

/// Decides what is due, for the algorithms in use.
pub fn maintain(
    key_ring: &KeyRing,
    rotation: &KeyRotation,
    algorithms: &[SigningAlgorithm],
    now: Timestamp,
) -> Vec<KeyStep> {
    let mut steps = Vec::new();
    for &alg in algorithms {
        let announced = key_ring.announced(alg);
        let Some((_, since)) = active(key_ring, alg) else {
            steps.push(match announced {
                Some(key) => KeyStep::Activate {
                    kid: key.kid.clone(),
                    alg,
                    reason: "no active key",
                },
                None => KeyStep::Add {
                    alg,
                    activate: true,
                    reason: "first key",
                },
            });
            continue;
        };
        let due = since.plus_seconds(rotation.rotate_after_seconds);
        match announced {
            None if now >= due.plus_seconds(-rotation.announce_ahead_seconds) => {
                steps.push(KeyStep::Add {
                    alg,
                    activate: rotation.announce_ahead_seconds == 0,
                    reason: "age",
                });
            }
            Some(key) if now >= due.max(key.added_at.plus_seconds(rotation.announce_ahead_seconds)) => {
                steps.push(KeyStep::Activate {
                    kid: key.kid.clone(),
                    alg,
                    reason: "age",
                });
            }
            _ => {}
        }
    }
    for key in key_ring.keys() {
        if let KeyState::Superseded { at } = key.state
            && now >= at.plus_seconds(i64::from(TokenLifetime::MAX_SECONDS) + CLOCK_LEEWAY_SECONDS)
        {
            steps.push(KeyStep::Retire {
                kid: key.kid.clone(),
                alg: key.alg,
                reason: "its last token has expired",
            });
        }
    }
    steps
}

/// Published keys that one algorithm may have before a rotation on command is refused: verifiers read them all.
pub const MAX_PUBLISHED_KEYS: usize = 128;

/// Decides a rotation on command: the announced key if there is one, for verifiers know it already.
pub fn rotate(key_ring: &KeyRing, alg: SigningAlgorithm) -> Result<KeyStep, CommandRefused> {
    if key_ring.published().filter(|key| key.alg == alg).count() >= MAX_PUBLISHED_KEYS {
        return Err(CommandRefused::Conflict(format!(
            "{MAX_PUBLISHED_KEYS} {alg} keys are published: retire old ones first, or wait until their tokens have expired"
        )));
    }
    Ok(match key_ring.announced(alg) {
        Some(key) => KeyStep::Activate {
            kid: key.kid.clone(),
            alg,
            reason: "on command",
        },
        None => KeyStep::Add {
            alg,
            activate: true,
            reason: "on command",
        },
    })
}

/// Decides a retirement on command: tokens that the key signed stop being valid at once. `algorithms` are those
/// in use: their active keys are needed.
pub fn retire(key_ring: &KeyRing, kid: &str, algorithms: &[SigningAlgorithm]) -> Result<KeyStep, CommandRefused> {
    let key = key_ring
        .key(kid)
        .ok_or_else(|| CommandRefused::NotFound(format!("there is no signing key {kid}")))?;
    match key.state {
        KeyState::Active { .. } if algorithms.contains(&key.alg) => Err(CommandRefused::Conflict(format!(
            "{kid} is the key that signs {} tokens: rotate first, then retire it",
            key.alg
        ))),
        KeyState::Retired { .. } => Err(CommandRefused::Conflict(format!("{kid} is retired already"))),
        KeyState::Announced | KeyState::Active { .. } | KeyState::Superseded { .. } => Ok(KeyStep::Retire {
            kid: key.kid.clone(),
            alg: key.alg,
            reason: "on command",
        }),
    }
}

/// The id of the next key of that algorithm: the day, the algorithm unless it is the default one, and a
/// number from the second of its kind on a day.
pub fn next_key_id(key_ring: &KeyRing, rotation: &KeyRotation, alg: SigningAlgorithm, now: Timestamp) -> String {
    let mut base = now.day();
    if alg != rotation.default_algorithm {
        base.push('-');
        base.push_str(&alg.as_str().to_ascii_lowercase());
    }
    let is_taken = |kid: &str| key_ring.key(kid).is_some();
    if !is_taken(&base) {
        return base;
    }
    let mut number = 2_u32;
    while is_taken(&format!("{base}.{number}")) {
        number += 1;
    }
    format!("{base}.{number}")
}

fn active(key_ring: &KeyRing, alg: SigningAlgorithm) -> Option<(&SigningKey, Timestamp)> {
    let key = key_ring.active(alg)?;
    match key.state {
        KeyState::Active { since } => Some((key, since)),
        _ => None,
    }
}
