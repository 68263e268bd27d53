//! Holds a log against what was built from it and what was published of it.

use super::error::ServeError;
use super::folder::{index_file, state_file, usage_file};
use super::stores::open_store_read_only;
use crate::audit::index::rebuild::{RebuildComparison, RebuildProgress, ServedIndex};
use crate::audit::transparency::VerifierKey;
use crate::audit::transparency::verify::findings::{Check, Findings};
use crate::audit::transparency::verify::folder::{Folder, VerifiedLog};
use crate::audit::transparency::verify::{Expected, ExportFile};
use crate::audit::usage::rebuild::{UsageComparison, rebuild_usage};
use crate::config::Config;
use crate::credentials::log_key::{LogKeyError, PublicLogKey};
use crate::service::checkpoint::Checkpoint;
use crate::service::rebuild::{StateComparison, rebuild_state};

/// Builds the projections of a data folder from zero and compares them with the saved ones. Only reads:
/// a server may be serving from the folder.
pub async fn rebuild(
    config: &Config,
    progress: impl Fn(&'static str, u64) + Clone + Send + 'static,
) -> Result<(StateComparison, UsageComparison, RebuildComparison), ServeError> {
    let served_index = ServedIndex::look_at(&index_file(config)).map_err(ServeError::part)?;
    let store = open_store_read_only(config).await?;
    let checkpoint = Checkpoint::open_existing(&state_file(config)).map_err(ServeError::part)?;
    let report = progress.clone();
    let state = rebuild_state(&*store, checkpoint.as_ref(), move |events| report("state", events));
    let state = state.await.map_err(ServeError::part)?;
    let report = progress.clone();
    let usage_file = usage_file(config);
    let usage = rebuild_usage(&usage_file, &*store, move |events| report("usage", events));
    let usage = usage.await.map_err(ServeError::part)?;
    let report = move |now: RebuildProgress| progress("audit index", now.events);
    let index = served_index
        .compare_with(store, report)
        .await
        .map_err(ServeError::part)?;
    Ok((state, usage, index))
}

/// The key that verifies the log of a data folder.
pub fn verifier_key(config: &Config) -> Result<VerifierKey, ServeError> {
    let path = &config.transparency.key_file;
    let key = PublicLogKey::load(path).map_err(ServeError::part)?;
    VerifierKey::new(&key.name, key.public_key).ok_or_else(|| ServeError::part(LogKeyError::NotAKey(path.clone())))
}

/// Reads the whole log of a data folder and holds it against its tiles, its checkpoints, those that somebody has
/// kept, and an export. Only reads: a server may be serving from the folder.
pub async fn verify(
    config: &Config,
    key: &VerifierKey,
    remembered: Vec<Expected>,
    export: Option<ExportFile>,
    findings: &mut Findings,
    progress: impl FnMut(u64, u64),
) -> Result<VerifiedLog, ServeError> {
    // The folder first: a server that is running publishes nothing that the log does not hold by then.
    let folder = Folder::read(&config.data_dir, key, findings)
        .await
        .map_err(ServeError::part)?;
    let store = open_store_read_only(config).await?;
    Ok(folder.verify(store, remembered, export, findings, progress).await)
}

/// Builds the projections of a data folder again and compares them with the saved ones.
pub async fn verify_projections(config: &Config, findings: &mut Findings) {
    let (state, usage, index) = match rebuild(config, |_, _| {}).await {
        Ok(compared) => compared,
        Err(error) => return findings.failed(Check::State, error.to_string()),
    };
    let differences = state.differences.iter().map(|difference| (Check::State, difference));
    let differences = differences
        .chain(usage.differences.iter().map(|difference| (Check::Usage, difference)))
        .chain(
            index
                .difference
                .iter()
                .map(|difference| (Check::AuditIndex, difference)),
        );
    for (check, difference) in differences {
        findings.failed(check, difference.clone());
    }
    match state.is_compared {
        true => findings.checked(
            Check::State,
            state.events,
            format!(
                "{} applications, folded from {} events",
                state.applications, state.events
            ),
        ),
        false => findings.note("no state is saved to compare with"),
    }
    match (usage.is_compared, usage.removed) {
        (false, _) => findings.note("no uses are saved to compare with"),
        (true, 0) => findings.checked(
            Check::Usage,
            usage.applications as u64,
            format!(
                "{} applications, folded from {} events",
                usage.applications, usage.events
            ),
        ),
        (true, removed) => findings.note(format!(
            "the saved uses speak of {removed} facts that were removed since: they cannot be compared with the log"
        )),
    }
    match index.is_compared {
        true => findings.checked(
            Check::AuditIndex,
            index.compared_rows,
            format!(
                "{} rows, of the first {} events",
                index.compared_rows, index.compared_events
            ),
        ),
        false => findings.note("no audit index is saved to compare with"),
    }
}
