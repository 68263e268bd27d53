//! Answers that go on: tails and exports of the audit trail. They are few, each waits for its own reader and for
//! nobody else, and all end when the server stops or their caller may no longer read.

use crate::policy::authorize_call::{Demand, authorize_call};
use crate::service::authorize_call::{Caller, LEEWAY_SECONDS, Revocation};
use crate::service::shares::{Share, Shares};
use crate::service::{Service, ServiceError, now};
use grantlog_projections::values::ApplicationUri;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// Tails at the same time.
pub const MAX_TAILS: usize = 64;
/// Tails of one caller at the same time.
pub const MAX_TAILS_OF_ONE_CALLER: usize = 16;
/// Exports, and manifests of them, at the same time: each keeps a processor busy while its reader is quick.
pub const MAX_EXPORTS: usize = 4;
/// Exports and manifests of one caller at the same time.
pub const MAX_EXPORTS_OF_ONE_CALLER: usize = 2;
/// How often it is asked whether the caller may still read.
pub const CHECK_EVERY: Duration = Duration::from_secs(2);
/// A reader that takes nothing for so long gives its place up; it can go on later where it was.
const LONGEST_STALL: Duration = Duration::from_secs(300);
/// Parts that wait for the reader.
const MAX_WAITING_PARTS: usize = 1;

/// Why a stream ended before its reader did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The token has expired: come back with a new one.
    TokenExpired,
    /// The token was revoked, or the application is disabled or deleted, or lost the scope.
    NotAuthorized,
    /// The server stops: come back when it is there again.
    ServerStopping,
    /// The log cannot be read any further.
    LogEnded,
    /// The reader took nothing for too long.
    ReaderTooSlow,
}

/// The places for streams, and the sign that all have to end.
pub(super) struct Streams {
    pub tails: Places,
    pub exports: Places,
    closing: watch::Sender<bool>,
}

impl Streams {
    pub fn new() -> Self {
        Self {
            tails: Places::new("tails", MAX_TAILS, MAX_TAILS_OF_ONE_CALLER),
            exports: Places::new("exports", MAX_EXPORTS, MAX_EXPORTS_OF_ONE_CALLER),
            closing: watch::Sender::new(false),
        }
    }

    /// A stream's two ends.
    pub fn open<T>(&self, place: Arc<Place>) -> (Outlet<T>, mpsc::Receiver<T>) {
        let (parts, reader) = mpsc::channel(MAX_WAITING_PARTS);
        let outlet = Outlet {
            parts,
            closing: self.closing.subscribe(),
            _place: place,
        };
        (outlet, reader)
    }
}

/// The places for streams of a kind.
pub(super) struct Places {
    what: &'static str,
    all: Arc<Semaphore>,
    shares: Shares,
}

/// A place, which is free again when the last who works there drops it.
pub(super) struct Place {
    _place: OwnedSemaphorePermit,
    _share: Share,
}

impl Places {
    fn new(what: &'static str, most: usize, most_of_one_caller: usize) -> Self {
        Self {
            what,
            all: Arc::new(Semaphore::new(most)),
            shares: Shares::new(most_of_one_caller),
        }
    }

    /// A place, if there is one and the caller has not had its share.
    pub fn take(&self, caller: &ApplicationUri) -> Result<Arc<Place>, ServiceError> {
        let what = self.what;
        let share = self.shares.take(caller, what)?;
        let place = self
            .all
            .clone()
            .try_acquire_owned()
            .map_err(|_| ServiceError::Busy(format!("there are as many {what} as this server serves at a time")))?;
        Ok(Arc::new(Place {
            _place: place,
            _share: share,
        }))
    }
}

/// Where a stream's parts go to. Its place is free again when it, and whatever works for it, is done.
pub(super) struct Outlet<T> {
    parts: mpsc::Sender<T>,
    closing: watch::Receiver<bool>,
    _place: Arc<Place>,
}

/// The stream has no reader any more, or must have none.
pub(super) enum Ended {
    /// The reader has gone.
    ReaderGone,
    /// It has to end.
    Because(EndReason),
}

impl<T> Outlet<T> {
    /// Hands a part over as soon as the reader has taken the one before.
    pub async fn send(&mut self, part: T) -> Result<(), Ended> {
        tokio::select! {
            biased;
            _ = self.closing.wait_for(|closing| *closing) => Err(Ended::Because(EndReason::ServerStopping)),
            sent = self.parts.send(part) => sent.map_err(|_| Ended::ReaderGone),
            () = tokio::time::sleep(LONGEST_STALL) => Err(Ended::Because(EndReason::ReaderTooSlow)),
        }
    }

    /// Hands a last part over if the reader is ready for it.
    pub fn send_last(self, part: T) {
        // Whoever is not there to hear it sees that the stream has ended.
        let _ = self.parts.try_send(part);
    }

    /// Resolves when the stream has to end, and not before.
    pub async fn must_end(&mut self) -> Ended {
        tokio::select! {
            _ = self.closing.wait_for(|closing| *closing) => Ended::Because(EndReason::ServerStopping),
            () = self.parts.closed() => Ended::ReaderGone,
        }
    }
}

impl Service {
    /// Ends all tails and exports: they would keep the server from stopping.
    pub fn end_streams(&self) {
        self.streams.closing.send_replace(true);
    }

    /// Whether who was let through would still be.
    pub(super) fn may_still(&self, caller: &Caller, required_scope: &str) -> Result<(), EndReason> {
        if now() >= caller.token_expires_at.plus_seconds(i64::from(LEEWAY_SECONDS)) {
            return Err(EndReason::TokenExpired);
        }
        let (kind, issued_at) = (caller.token_kind, caller.token_issued_at);
        // A token that may have been revoked with its secret is looked at when its holder comes again.
        match self.revocation(kind, caller.application_id, caller.token_id, issued_at) {
            Revocation::None => {}
            Revocation::Certain | Revocation::WithSecret(_) => return Err(EndReason::NotAuthorized),
        }
        let snapshot = self.snapshot();
        let application = snapshot.directory.application(caller.application_id);
        let policy = &self.settings.policy;
        let demand = Demand {
            audience: Some(&policy.issuer),
            scope: required_scope,
            org_code: None,
        };
        let application = application.map(|found| &**found);
        authorize_call(application, caller.presented(), demand, &policy.default_audience)
            .map_err(|_| EndReason::NotAuthorized)
    }
}
