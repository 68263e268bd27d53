//! Holds a log against what was built from it and what was published of it.

use super::error::ServeError;
use super::folder::{index_file, state_file, usage_file};
use super::parts::signers;
use super::stores::open_store_read_only;
use crate::audit::index::rebuild::{RebuildComparison, RebuildProgress, ServedIndex};
use crate::audit::transparency::verify::findings::{Check, Findings};
use crate::audit::transparency::verify::folder::{Folder, VerifiedLog};
use crate::audit::transparency::verify::{Expected, ExportFile};
use crate::audit::transparency::{Signers, VerifierKey};
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
    let compared = compare(config, progress).await?;
    Ok((compared.state?, compared.usage?, compared.index?))
}

/// What each projection came to by itself.
struct Compared {
    state: Result<StateComparison, ServeError>,
    usage: Result<UsageComparison, ServeError>,
    index: Result<RebuildComparison, ServeError>,
}

async fn compare(
    config: &Config,
    progress: impl Fn(&'static str, u64) + Clone + Send + 'static,
) -> Result<Compared, ServeError> {
    let served_index = ServedIndex::look_at(&index_file(config));
    let store = open_store_read_only(config).await?;
    let report = progress.clone();
    let state = match Checkpoint::open_existing(&state_file(config)) {
        Ok(checkpoint) => rebuild_state(&*store, checkpoint.as_ref(), move |events| report("state", events))
            .await
            .map_err(ServeError::part),
        Err(error) => Err(ServeError::part(error)),
    };
    let report = progress.clone();
    let usage_file = usage_file(config);
    let usage = rebuild_usage(&usage_file, &*store, move |events| report("usage", events)).await;
    let report = move |now: RebuildProgress| progress("audit index", now.events);
    let index = match served_index {
        Ok(served) => served.compare_with(store, report).await,
        Err(error) => Err(error),
    };
    Ok(Compared {
        state,
        usage: usage.map_err(ServeError::part),
        index: index.map_err(ServeError::part),
    })
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
    let publishes = signers(config) == Signers::One && config.node.roles.audit;
    let folder = Folder::read(&config.data_dir, key, publishes, findings)
        .await
        .map_err(ServeError::part)?;
    let store = open_store_read_only(config).await?;
    Ok(folder.verify(store, remembered, export, findings, progress).await)
}

/// Builds the projections of a data folder again and compares each with the saved one: what is wrong with one says
/// nothing of the others.
pub async fn verify_projections(config: &Config, findings: &mut Findings) {
    let Compared { state, usage, index } = match compare(config, |_, _| {}).await {
        Ok(compared) => compared,
        Err(error) => return findings.failed(Check::Events, error.to_string()),
    };
    match state {
        Err(error) => findings.failed(Check::State, error.to_string()),
        Ok(state) => {
            fail_each(Check::State, &state.differences, findings);
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
        }
    }
    match usage {
        Err(error) => findings.failed(Check::Usage, error.to_string()),
        Ok(usage) => {
            fail_each(Check::Usage, &usage.differences, findings);
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
                    "the saved uses speak of {removed} facts that were removed since: they cannot be compared with \
                     the log"
                )),
            }
        }
    }
    match index {
        Err(error) => findings.failed(Check::AuditIndex, error.to_string()),
        Ok(index) => {
            fail_each(Check::AuditIndex, &index.difference, findings);
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
    }
}

fn fail_each<'a>(check: Check, differences: impl IntoIterator<Item = &'a String>, findings: &mut Findings) {
    for difference in differences {
        findings.failed(check, difference.clone());
    }
}
