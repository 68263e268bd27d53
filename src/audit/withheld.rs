//! What stays behind when events go to other systems.

use serde_json::Value;
use serde_json::value::RawValue;

/// What stands where something stays behind.
pub const WITHHELD: &str = "withheld";

/// What stays behind, as JSON pointers into the data: hashes of secrets and sealed private keys are of no use to
/// whoever watches, and of much to whoever breaks in there and one day has the master key, or guesses an imported
/// secret that was weak. Their places, ids and hints leave with the rest.
pub(crate) const STAYS_BEHIND: [&str; 3] = ["/sealed_private_key", "/secret/hash", "/hash"];

/// The data without what stays behind, `None` when all of it may leave.
pub fn without_secrets(data: &str) -> Option<Box<RawValue>> {
    if !data.contains("\"hash\"") && !data.contains("\"sealed_private_key\"") {
        return None;
    }
    let mut value: Value = serde_json::from_str(data).ok()?;
    let mut found = false;
    for place in STAYS_BEHIND {
        if let Some(secret) = value.pointer_mut(place)
            && !secret.is_null()
        {
            *secret = Value::from(WITHHELD);
            found = true;
        }
    }
    if !found {
        return None;
    }
    serde_json::value::to_raw_value(&value).ok()
}
