//! A caller's share of the places that there are: without it, one caller could take them all and keep everybody
//! else out.

use crate::service::ServiceError;
use grantlog_projections::values::ApplicationUri;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many places each caller has taken. Whoever has none is not in it, so it is no larger than there are places.
pub(super) struct Shares {
    most: usize,
    taken: Arc<Mutex<HashMap<ApplicationUri, usize>>>,
}

impl Shares {
    /// At most so many places for one caller.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            taken: Arc::default(),
        }
    }

    /// One place of the caller's share, which is free again when the answer is dropped. `what` names the places.
    pub fn take(&self, caller: &ApplicationUri, what: &str) -> Result<Share, ServiceError> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(caller) {
            Some(count) if *count >= self.most => {
                let most = self.most;
                return Err(ServiceError::ShareTaken(format!(
                    "one application may have {most} {what} at the same time: end one, or wait until one has ended"
                )));
            }
            Some(count) => *count += 1,
            None => {
                taken.insert(caller.clone(), 1);
            }
        }
        Ok(Share {
            caller: caller.clone(),
            taken: self.taken.clone(),
        })
    }
}

/// A place that counts for its caller until it is dropped.
pub(super) struct Share {
    caller: ApplicationUri,
    taken: Arc<Mutex<HashMap<ApplicationUri, usize>>>,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.caller) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                taken.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str) -> ApplicationUri {
        ApplicationUri::parse(name).unwrap()
    }

    #[test]
    fn a_caller_has_its_share_and_no_more_and_the_others_have_theirs() {
        let shares = Shares::new(2);
        let (one, other) = (caller("one"), caller("other"));
        let first = shares.take(&one, "tails").unwrap();
        let _second = shares.take(&one, "tails").unwrap();
        let Err(ServiceError::ShareTaken(message)) = shares.take(&one, "tails") else {
            panic!("a third place");
        };
        assert!(message.contains("2 tails"), "{message}");
        let _of_other = shares.take(&other, "tails").unwrap();
        drop(first);
        let _again = shares.take(&one, "tails").unwrap();
        assert!(shares.take(&one, "tails").is_err());
    }

    #[test]
    fn whoever_has_no_place_is_not_remembered() {
        let shares = Shares::new(2);
        for name in ["one", "other"] {
            let held = [shares.take(&caller(name), "tails"), shares.take(&caller(name), "tails")];
            assert_eq!(shares.taken.lock().unwrap().len(), 1);
            drop(held);
        }
        assert!(shares.taken.lock().unwrap().is_empty());
    }
}
