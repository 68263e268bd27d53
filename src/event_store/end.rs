//! Why a log has come to its end: no event follows.

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
