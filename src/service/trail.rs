//! What a node keeps to answer auditors: the index, the uses and the transparent log. A node that is there for tokens
//! alone keeps none of it: its state is all that decisions need.

use crate::audit::AuditIndex;
use crate::audit::transparency::Transparency;
use crate::audit::usage::UsageProjection;
use crate::service::{Service, ServiceError};

/// The projections for auditors, each with a file and a thread of its own.
pub struct Trail {
    /// What searches read.
    pub index: AuditIndex,
    /// What applications use.
    pub usage: UsageProjection,
    /// Tiles and checkpoints.
    pub transparency: Transparency,
}

impl Trail {
    /// Why a part of it has stopped.
    pub(super) fn failures(&self) -> impl Iterator<Item = String> {
        self.index.failed().into_iter().chain(self.transparency.failed())
    }

    pub(super) async fn close(&self) {
        self.index.close().await;
        self.usage.close().await;
        self.transparency.close().await;
    }
}

impl Service {
    /// What this node keeps for auditors.
    pub(super) fn trail(&self) -> Result<&Trail, ServiceError> {
        self.trail.as_ref().ok_or(ServiceError::NoTrail)
    }

    /// How many events the audit index has read; none where there is no index.
    pub fn indexed_through(&self) -> Option<u64> {
        self.trail.as_ref().map(|trail| trail.index.indexed_through())
    }

    /// What searches read.
    pub(super) fn index(&self) -> Result<&AuditIndex, ServiceError> {
        Ok(&self.trail()?.index)
    }

    /// The log as outsiders check it.
    pub fn transparency(&self) -> Result<&Transparency, ServiceError> {
        Ok(&self.trail()?.transparency)
    }

    /// What applications use; none where the node does not keep it.
    pub fn usage(&self) -> Option<&UsageProjection> {
        self.trail.as_ref().map(|trail| &trail.usage)
    }
}
