use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The file is larger than [`MAX_FILE_BYTES`](super::MAX_FILE_BYTES).
    #[error("the configuration file {path} is larger than {limit} bytes", path = path.display(), limit = super::MAX_FILE_BYTES)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not TOML.
    #[error("{path}, line {line}, column {column}: {message}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
        /// What the parser expected.
        message: String,
    },
    /// Keys that nobody knows or values that are not accepted: all of them.
    #[error("{}", Listed(.0))]
    Invalid(Vec<Problem>),
}

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The key does not exist.
    #[error("{origin}: unknown key {key}; {hint}")]
    UnknownKey {
        /// Its full path.
        key: String,
        /// Where it was found.
        origin: Origin,
        /// The nearest key that does exist, or those of its section.
        hint: String,
    },
    /// The value is of the wrong type, out of range or malformed.
    #[error("{origin}: {key}: found {found}; accepted is {accepted}")]
    InvalidValue {
        /// The key's full path.
        key: String,
        /// Where it was found.
        origin: Origin,
        /// What stands there, cut when long.
        found: String,
        /// What could.
        accepted: String,
    },
    /// Values that are each accepted but not together, or not in that place.
    #[error("{origin}: {message}")]
    Contradiction {
        /// Where one of them was found.
        origin: Origin,
        /// What to do about it.
        message: String,
    },
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// A variable of the environment.
    Environment(String),
    /// A flag of `serve`.
    Flag(&'static str),
    /// Nothing was given: the default holds.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
            Self::Default => f.write_str("default"),
        }
    }
}

struct Listed<'a>(&'a [Problem]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [problem] => problem.fmt(f),
            problems => {
                write!(f, "{} problems in the configuration:", problems.len())?;
                problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}
