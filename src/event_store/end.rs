//! Why a log has come to its end: no event follows.

use crate::event_store::BoxFuture;
use tokio::sync::watch;

/// Why a log has come to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// It cannot go on; the text is for the operator.
    Failed(String),
    Closed,
    ReadOnly,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(message) => f.write_str(message),
            Self::Closed => f.write_str("it is closed"),
            Self::ReadOnly => f.write_str("it was opened for reading only"),
        }
    }
}

/// See [`crate::event_store::EventStore::failed`].
pub(super) fn failed(end: &watch::Sender<Option<End>>) -> BoxFuture<'static, String> {
    let mut end = end.subscribe();
    Box::pin(async move {
        loop {
            if let Some(End::Failed(message)) = &*end.borrow_and_update() {
                return message.clone();
            }
            if end.changed().await.is_err() {
                // The store is gone without having failed.
                std::future::pending::<()>().await;
            }
        }
    })
}

/// See [`crate::event_store::EventStore::failure`].
pub(super) fn failure(end: &watch::Sender<Option<End>>) -> Option<String> {
    match &*end.borrow() {
        Some(End::Failed(message)) => Some(message.clone()),
        _ => None,
    }
}
