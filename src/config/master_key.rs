use crate::credentials::sealing::MasterKey;
use std::path::PathBuf;
use std::sync::Arc;

/// Where the master key comes from.
#[derive(Debug, Clone)]
pub enum MasterKeySource {
    /// The environment gave it.
    Environment(Arc<MasterKey>),
    /// A file that the operator named: it must exist.
    File(PathBuf),
    /// The file in the data folder, made on the first start.
    DataFolder(PathBuf),
}
