//! `audit verify` and `audit verifier-key`: for an auditor who trusts nobody.

use crate::audit::transparency::VerifierKey;
use crate::audit::transparency::leaf::{leaf_of, remains};
use crate::audit::transparency::merkle::Hash;
use crate::audit::transparency::tiles::{TILE_HASHES, Tile, TileId};
use crate::audit::transparency::verify::findings::{Check, Findings};
use crate::audit::transparency::verify::folder::VerifiedLog;
use crate::audit::transparency::verify::tree::expected;
use crate::audit::transparency::verify::{Expected, ExportFile, GivenProof, InLog, RemovalCheck, Streams, TreeCheck};
use crate::cli::client::{AUDIT_READ, Client};
use crate::cli::connection::{Server, read_file};
use crate::cli::exchange::Exchange;
use crate::cli::{CliError, Console, GlobalOptions};
use crate::config::{CliOverrides, Config, environment};
use crate::event_store::{StoredEvent, codec};
use crate::startup;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use futures_util::{StreamExt, stream};
use reqwest::Method;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Tiles that are on their way at once.
const TILES_AT_ONCE: usize = 8;
/// Checkpoints that can be given.
const MAX_CHECKPOINTS: usize = 1_024;
/// The status of a bundle of which retention has removed an event.
const GONE: u16 = 410;
/// Events of which a server is asked for a proof: each question is on its trail.
const PROVEN_EVENTS: u64 = 16;
/// Between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

pub(super) const VERIFY_EXAMPLES: &str = "\
Without --url it reads a data folder, stopped or served, and changes nothing in
it. With --url it needs the verifier key and nothing else: it reads the hashes
that everybody may read, and with --entries (scope audit:read) every event.
With --export and --verifier-key alone it needs neither: an export of the format
log from event 0 proves itself. One in any other format, or of some events only,
is written again from the events and compared byte for byte: with a data folder,
or with --url and --entries. With --proof it needs the verifier key and the
event alone. Exit code 1 when anything fails, or an export or a proof that was
given could not be checked; what a folder has nothing of to compare is a note.

Examples:
  grantlog audit verify
  grantlog audit verify --data-dir /var/lib/grantlog --checkpoint kept.txt
  grantlog audit verify --url https://id.example.com \\
      --verifier-key id.example.com/audit+2f8a1c3d+AT1b... --checkpoint kept.txt
  grantlog audit verify --export trail.log \\
      --verifier-key id.example.com/audit+2f8a1c3d+AT1b...
  grantlog audit verify --export trail.csv --data-dir /var/lib/grantlog
  grantlog audit verify --proof token.tlog-proof --event event.json \\
      --verifier-key id.example.com/audit+2f8a1c3d+AT1b...";

pub(super) const KEY_EXAMPLES: &str = "\
Whoever has this text, and got it from somebody they trust, can verify the log.

Examples:
  grantlog audit verifier-key
  grantlog audit verifier-key --data-dir /var/lib/grantlog";

/// What to verify, and against what.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// The log's verifier key; without it the data folder's own is believed
    #[arg(long, value_name = "KEY")]
    verifier_key: Option<String>,
    /// A checkpoint that you have kept: the log must still be consistent with it. May be given again
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// An export of the log, with its manifest beside it
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// A proof of one event or token, as text or JSON: verified by the verifier key alone
    #[arg(long, value_name = "FILE", requires = "verifier_key", conflicts_with_all = ["export", "checkpoint", "entries", "config", "log_only"])]
    proof: Option<PathBuf>,
    /// The stored bytes of the proof's event, as an export of the format log has them on a line
    #[arg(long, value_name = "FILE", requires = "proof")]
    event: Option<PathBuf>,
    /// Read every event from the server too, not only the hashes
    #[arg(long, requires = "url")]
    entries: bool,
    /// Do not build the state and the audit index again to compare them
    #[arg(long, conflicts_with = "url")]
    log_only: bool,
    /// Configuration file of the server whose data folder it is
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Whose verifier key.
#[derive(Debug, Args)]
pub struct VerifierKeyArguments {
    /// Configuration file of the server whose data folder it is
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl VerifierKeyArguments {
    pub(super) fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let config = config(self.config, options)?;
        let key = startup::verifier_key(&config).map_err(|error| CliError::Verification(error.to_string()))?;
        match options.remote.json {
            true => console.json(&serde_json::json!({"verifier_key": key.to_string()}).to_string()),
            false => console.line(&key.to_string()),
        }
    }
}

/// What a verification came to.
struct Outcome {
    findings: Findings,
    /// The tree that was read; one event's proof, and an export that is no tree, are of none.
    log: Option<VerifiedLog>,
    key: VerifierKey,
    elapsed: Duration,
}

impl VerifyArguments {
    pub(super) async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        if self.checkpoint.len() > MAX_CHECKPOINTS {
            return Err(CliError::Usage(format!(
                "--checkpoint can be given {MAX_CHECKPOINTS} times"
            )));
        }
        let given = self
            .verifier_key
            .as_deref()
            .map(|text| text.trim().parse::<VerifierKey>())
            .transpose()
            .map_err(|error| CliError::Usage(format!("--verifier-key: {error}")))?;
        let is_online = options.remote.url.is_some() || options.remote.profile.is_some();
        if self.entries && !is_online {
            return Err(CliError::Usage(
                "--entries is for --url: a data folder is always read whole".into(),
            ));
        }
        let is_alone = self.export.is_some() && given.is_some() && options.data_dir.is_none() && self.config.is_none();
        let json = options.remote.json;
        let is_of_proof = self.proof.is_some();
        if is_of_proof && (is_online || options.data_dir.is_some()) {
            return Err(CliError::Usage(
                "--proof is verified by the verifier key alone: without --url, --profile and --data-dir".into(),
            ));
        }
        let outcome = match (is_online, given) {
            (_, Some(key)) if is_of_proof => self.given_proof(key)?,
            (true, Some(key)) => self.online(console, options, key).await?,
            (true, None) => {
                return Err(CliError::Usage(
                    "--verifier-key is needed: a key that the server itself gives proves nothing".into(),
                ));
            }
            (false, Some(key)) if is_alone => self.export_alone(key)?,
            (false, given) => self.offline(console, options, given).await?,
        };
        outcome.tell(console, json)?;
        let failed = |check| outcome.findings.has_failed(check);
        if outcome.findings.are_good() {
            return Ok(());
        }
        let is_of_log = outcome
            .findings
            .failures
            .iter()
            .any(|failure| failure.check != Check::Export);
        Err(CliError::Verification(
            match (is_of_proof, is_of_log) {
                (true, _) => "the proof does not verify",
                (false, true) if failed(Check::Export) => "neither the log nor the export verifies",
                (false, true) => "the log does not verify",
                (false, false) => "the export does not verify",
            }
            .into(),
        ))
    }

    /// One event is in the log: nothing else is needed than the proof, the event and the key.
    fn given_proof(self, key: VerifierKey) -> Result<Outcome, CliError> {
        let started = Instant::now();
        let Some(path) = &self.proof else {
            return Err(CliError::Usage("--proof is missing".into()));
        };
        let misshapen = || CliError::Misshapen {
            path: path.clone(),
            expected: "a proof",
        };
        let text = String::from_utf8(read_file(path)?.to_vec()).map_err(|_| misshapen())?;
        let proof = GivenProof::parse(&text).map_err(|_| misshapen())?;
        let event = self.event.as_deref().map(read_file).transpose()?;
        if event.is_none() && !proof.has_leaf() {
            return Err(CliError::Usage(
                "--event is needed: a proof as text does not say which event it is of".into(),
            ));
        }
        let mut findings = Findings::default();
        proof.verify(&key, event.as_ref().map(|bytes| bytes.as_slice()), &mut findings);
        Ok(Outcome {
            findings,
            log: None,
            key,
            elapsed: started.elapsed(),
        })
    }

    async fn offline(
        self,
        console: &mut Console<'_>,
        options: &GlobalOptions,
        given: Option<VerifierKey>,
    ) -> Result<Outcome, CliError> {
        let started = Instant::now();
        let config = config(self.config.clone(), options)?;
        let failed = |error: startup::ServeError| CliError::Verification(error.to_string());
        let is_own_key = given.is_none();
        let key = match given {
            Some(key) => key,
            None => startup::verifier_key(&config).map_err(failed)?,
        };
        let mut findings = Findings::default();
        if is_own_key {
            findings.note("the verifier key is the data folder's own: give --verifier-key with one that you have kept");
        }
        let remembered = self.remembered(&key, &mut findings)?;
        let export = self.export(&key, &mut findings)?;
        let mut expected = remembered;
        let export = export.map(|(export, claimed)| {
            expected.extend(claimed);
            export
        });
        let mut progress = Progress::new(console);
        let log = startup::verify(&config, &key, expected, export, &mut findings, |done, of| {
            progress.tell("events", done, of);
        })
        .await
        .map_err(failed)?;
        if !self.log_only {
            startup::verify_projections(&config, &mut findings).await;
        }
        Ok(Outcome {
            findings,
            log: Some(log),
            key,
            elapsed: started.elapsed(),
        })
    }

    /// An export from event 0 is the whole tree.
    fn export_alone(self, key: VerifierKey) -> Result<Outcome, CliError> {
        let started = Instant::now();
        let mut findings = Findings::default();
        let mut expected = self.remembered(&key, &mut findings)?;
        let Some((mut export, claimed)) = self.export(&key, &mut findings)? else {
            return Err(CliError::Usage("--export is missing".into()));
        };
        let through = export.manifest.through_index;
        let is_whole = export.is_leaves() && export.manifest.from_index == 0;
        expected.extend(claimed);
        let has_root = expected.iter().any(|expected| expected.size <= through);
        let mut tree = TreeCheck::new(expected);
        if is_whole {
            while tree.size() < through
                && let Some(leaf) = export.leaf(&mut findings)
            {
                tree.push(leaf, &mut findings, |_, _, _| {});
            }
        } else if export.is_leaves() {
            export.cannot_be_held("it does not begin with event 0, so the tree is needed: give --data-dir or --url");
        }
        let log = is_whole.then(|| VerifiedLog {
            size: tree.size(),
            root: tree.root(),
        });
        if is_whole {
            if !has_root {
                findings.failed(
                    Check::Export,
                    "no checkpoint says what its root must be: give one with --checkpoint",
                );
            }
            tree.finish(&mut findings);
        }
        export.finish(None, &mut findings);
        Ok(Outcome {
            findings,
            log,
            key,
            elapsed: started.elapsed(),
        })
    }

    async fn online(
        self,
        console: &mut Console<'_>,
        options: &GlobalOptions,
        key: VerifierKey,
    ) -> Result<Outcome, CliError> {
        let started = Instant::now();
        let mut findings = Findings::default();
        let mut expected_roots = self.remembered(&key, &mut findings)?;
        let export = self.export(&key, &mut findings)?;
        let export = export.map(|(export, claimed)| {
            expected_roots.extend(claimed);
            export
        });
        // As somebody only when events are wanted, or the hashes are not for everybody.
        let server = match self.entries {
            true => Source::As(Client::sign_in(console, options, &[AUDIT_READ]).await?),
            false => Source::Anybody(Exchange::new(&Server::find(console, options)?)?),
        };
        let note = server.bytes(&["checkpoint".to_owned()]).await?;
        let note = String::from_utf8(note).map_err(|_| CliError::Verification("/checkpoint is not UTF-8".into()))?;
        let newest = expected(&key, &note, "/checkpoint".into(), Check::Checkpoints, &mut findings);
        let Some(newest) = newest else {
            return Err(CliError::Verification(
                "/checkpoint is not signed by this key, so nothing that the server says can be believed".into(),
            ));
        };
        let size = newest.size;
        expected_roots.push(newest);
        let mut tree = TreeCheck::new(expected_roots);
        let mut full = BTreeMap::new();
        let mut entries = Entries {
            removals: RemovalCheck::of_entries(),
            streams: Streams::default(),
            export,
        };
        let sampled = sample(size);
        let mut sampled_leaves = Vec::new();
        let (mut fetched, mut removed) = (0_u64, 0);
        let mut progress = Progress::new(console);
        {
            let (server, wants_entries) = (&server, self.entries);
            let numbers = (0..size.div_ceil(TILE_HASHES)).map(|number| async move {
                let id = TileId { level: 0, number };
                let width = id.width_in(size);
                let tile = server.tile(id, width).await?;
                let bundle = match wants_entries {
                    true => server.bundle(number, width).await?,
                    false => None,
                };
                Ok::<_, CliError>((number, tile, bundle))
            });
            let mut tiles = stream::iter(numbers).buffered(TILES_AT_ONCE);
            while let Some(next) = tiles.next().await {
                let (number, tile, bundle) = next?;
                fetched += 1;
                let (first, width) = (number * TILE_HASHES, tile.hashes().len() as u64);
                match bundle {
                    Some(bundle) => entries.check_bundle(first, &bundle, &tile, &mut findings),
                    None if self.entries => {
                        removed += width;
                        entries.take_gone(first..first + width);
                    }
                    None => {}
                }
                for leaf in tile.hashes() {
                    if let Some(export) = &mut entries.export {
                        export.compare(tree.size(), leaf, InLog::Unknown, &mut findings);
                    }
                    if sampled.contains(&tree.size()) {
                        sampled_leaves.push((tree.size(), *leaf));
                    }
                    tree.push(*leaf, &mut findings, |id, tile, _| {
                        if id.level > 0 {
                            full.insert(id, tile);
                        }
                    });
                }
                progress.tell("events", tree.size(), size);
            }
        }
        // The incomplete tiles above, too, are what the leaves give.
        for level in 1..8 {
            let id = TileId {
                level,
                number: size.checked_shr((u32::from(level) + 1) * 8).unwrap_or(0),
            };
            if let Some(tile) = tree.edge().tile(id) {
                full.insert(id, tile);
            }
        }
        for (id, computed) in &full {
            fetched += 1;
            if server.tile(*id, computed.hashes().len() as u64).await? != *computed {
                findings.failed(Check::Tiles, format!("tile {id} is not what the tiles below it give"));
            }
        }
        let log = VerifiedLog {
            size,
            root: tree.root(),
        };
        findings.checked(
            Check::Tiles,
            fetched,
            format!("{fetched} read, each level is what the one below it gives"),
        );
        if self.entries && !findings.has_failed(Check::Events) {
            let read = size - removed;
            let what = format!("{read} read, each has its leaf hash and is understood");
            findings.checked(Check::Events, read, what);
            let streams = entries.streams.count();
            let what = format!("{streams}, no event twice in a row; their revisions a server's bundles do not say");
            findings.checked(Check::Streams, streams, what);
        }
        let Entries { removals, export, .. } = entries;
        removals.finish(&mut findings);
        if removed > 0 {
            findings.note(format!(
                "{removed} events are in bundles of which some were removed: their hashes are checked; which of them \
                 were removed, and that no others were, a data folder or an export shows"
            ));
        }
        tree.finish(&mut findings);
        if let Source::As(client) = &server {
            let newest = (size, log.root);
            check_proofs(client, &key, newest, &sampled_leaves, &mut findings).await?;
        }
        if let Some(export) = export {
            export.finish(Some(size), &mut findings);
        }
        Ok(Outcome {
            findings,
            log: Some(log),
            key,
            elapsed: started.elapsed(),
        })
    }

    fn remembered(&self, key: &VerifierKey, findings: &mut Findings) -> Result<Vec<Expected>, CliError> {
        let mut remembered = Vec::new();
        for path in &self.checkpoint {
            let text = String::from_utf8(read_file(path)?.to_vec()).map_err(|_| CliError::Misshapen {
                path: path.clone(),
                expected: "a signed checkpoint",
            })?;
            let name = path.display().to_string();
            remembered.extend(expected(key, &text, name, Check::Remembered, findings));
        }
        Ok(remembered)
    }

    /// The export, and the checkpoint that its manifest has.
    fn export(
        &self,
        key: &VerifierKey,
        findings: &mut Findings,
    ) -> Result<Option<(ExportFile, Option<Expected>)>, CliError> {
        let Some(path) = &self.export else { return Ok(None) };
        let export = ExportFile::open(path).map_err(|error| CliError::Verification(error.to_string()))?;
        let name = format!("the checkpoint of {}", path.display());
        let claimed = match &export.manifest.checkpoint {
            Some(note) => expected(key, note, name, Check::Export, findings),
            None => {
                findings.note(format!("{}: its manifest has no checkpoint", path.display()));
                None
            }
        };
        if let Some(claimed) = claimed
            .as_ref()
            .filter(|claimed| claimed.size != export.manifest.through_index)
        {
            let through = export.manifest.through_index;
            let what = format!(
                "{}: it goes to event {through}, its checkpoint to {}",
                path.display(),
                claimed.size
            );
            findings.failed(Check::Export, what);
        }
        Ok(Some((export, claimed)))
    }
}

impl Outcome {
    fn tell(&self, console: &mut Console<'_>, json: bool) -> Result<(), CliError> {
        let (findings, seconds) = (&self.findings, self.elapsed.as_secs_f64());
        if json {
            let mut document = serde_json::json!({
                "verified": findings.are_good(),
                "log": self.key.name(),
                "verifier_key": self.key.to_string(),
                "checked": findings.checked,
                "failures": findings.failures,
                "notes": findings.notes,
                "seconds": (seconds * 1_000.0).round() / 1_000.0,
            });
            if let Some(log) = &self.log {
                document["events"] = log.size.into();
                document["root"] = STANDARD.encode(log.root).into();
            }
            return console.json(&document.to_string());
        }
        for checked in &findings.checked {
            let mark = if findings.has_failed(checked.check) {
                "FAILED "
            } else {
                "ok     "
            };
            console.line(&format!("{mark}{:<12} {}", checked.check.name(), checked.what))?;
        }
        for failure in &findings.failures {
            let more = match failure.count {
                1 => String::new(),
                count => format!(" (and {} more)", count - 1),
            };
            console.line(&format!("FAILED {:<12} {}{more}", failure.check.name(), failure.first))?;
        }
        for note in &findings.notes {
            console.line(&format!("note   {note}"))?;
        }
        let verdict = if findings.are_good() {
            "verified"
        } else {
            "NOT VERIFIED"
        };
        let name = self.key.name();
        console.line(&match &self.log {
            Some(VerifiedLog { size, root }) => {
                let (root, per_second) = (STANDARD.encode(root), *size as f64 / seconds.max(1e-9));
                format!("{verdict}: {name}, {size} events, root {root}, {seconds:.1} s ({per_second:.0} events/s)")
            }
            None => format!("{verdict}: {name}"),
        })
    }
}

/// Where tiles come from.
enum Source {
    /// What everybody may read.
    Anybody(Exchange),
    /// What a client with a token may read.
    As(Client),
}

impl Source {
    async fn bytes(&self, path: &[String]) -> Result<Vec<u8>, CliError> {
        match self {
            Self::Anybody(exchange) => {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                let request = exchange.request(Method::GET, exchange.url(&path));
                exchange.bytes(request).await
            }
            Self::As(client) => {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                client.bytes(&path).await
            }
        }
    }

    async fn tile(&self, id: TileId, width: u64) -> Result<Tile, CliError> {
        let bytes = self.bytes(&path_of(&id.to_string(), width)).await?;
        Tile::from_bytes(&bytes)
            .filter(|tile| tile.hashes().len() as u64 == width)
            .ok_or_else(|| CliError::Verification(format!("tile {id} is not {width} hashes")))
    }

    /// None when retention has removed an event of it.
    async fn bundle(&self, number: u64, width: u64) -> Result<Option<Vec<u8>>, CliError> {
        let path = TileId { level: 0, number }.to_string();
        // `0/x001/000` is the bundle `entries/x001/000`.
        let path = path.replacen('0', "entries", 1);
        match self.bytes(&path_of(&path, width)).await {
            Err(CliError::Refused(problem)) if problem.status == GONE => Ok(None),
            bundle => bundle.map(Some),
        }
    }
}

/// The segments of a resource: `0/x001/067`, and of a partial one `0/x001/067.p/9`.
fn path_of(path: &str, width: u64) -> Vec<String> {
    let mut segments: Vec<String> = std::iter::once("tile")
        .chain(path.split('/'))
        .map(str::to_owned)
        .collect();
    if width < TILE_HASHES {
        if let Some(last) = segments.last_mut() {
            last.push_str(".p");
        }
        segments.push(width.to_string());
    }
    segments
}

/// Some indexes of a log of this size, the first and the last among them.
fn sample(size: u64) -> BTreeSet<u64> {
    let count = PROVEN_EVENTS.min(size);
    (0..count)
        .map(|n| n * (size - 1) / count.saturating_sub(1).max(1))
        .collect()
}

/// Asks the server to prove events, and verifies that its proofs are of the leaves that its tiles have.
async fn check_proofs(
    client: &Client,
    key: &VerifierKey,
    (size, root): (u64, Hash),
    leaves: &[(u64, Hash)],
    findings: &mut Findings,
) -> Result<(), CliError> {
    let (mut newest, mut count) = (size, 0);
    for (index, leaf) in leaves {
        let proven = match client.bytes(&["audit", "events", &index.to_string(), "proof"]).await {
            Ok(proof) => proven_size(&String::from_utf8_lossy(&proof), (*index, leaf), (size, &root), key),
            // What it had to do was something else: it says nothing about the log.
            Err(CliError::Refused(problem)) if is_for_now(problem.status) => {
                let what = format!("event {index}: the server could not be asked for a proof, try again: {problem}");
                findings.failed(Check::Proofs, what);
                break;
            }
            Err(CliError::Refused(problem)) => Err(format!("the server gives no proof of it: {problem}")),
            Err(error) => return Err(error),
        };
        count += 1;
        match proven {
            Ok(proven) => newest = newest.max(proven),
            Err(problem) => findings.failed(Check::Proofs, format!("event {index}: {problem}")),
        }
    }
    if newest > size {
        findings.note(format!(
            "proofs are of the checkpoint of {newest} events, which was published meanwhile: it is signed, and was not \
             held against the tiles"
        ));
    }
    findings.checked(
        Check::Proofs,
        count,
        format!("{count} as the server gives them, of inclusion"),
    );
    Ok(())
}

/// Whether a refusal may be another answer a moment later, or with another token.
fn is_for_now(status: u16) -> bool {
    matches!(status, 401 | 403 | 429 | 502 | 503 | 504)
}

/// The size of the signed tree in which a proof proves the leaf that the tiles have at the index, or why it does not.
fn proven_size(
    proof: &str,
    (index, leaf): (u64, &Hash),
    (size, root): (u64, &Hash),
    key: &VerifierKey,
) -> Result<u64, String> {
    match key.inclusion(proof, leaf) {
        Ok((proven, _)) if proven != index => Err(format!("its proof is of event {proven}")),
        Ok((_, checkpoint)) if checkpoint.size == size && checkpoint.root != *root => {
            Err("its proof is of another tree than the tiles".to_owned())
        }
        Ok((_, checkpoint)) => Ok(checkpoint.size),
        Err(error) => Err(format!("its proof does not prove it: {error}")),
    }
}

/// What a server's bundles of events are held against.
struct Entries {
    removals: RemovalCheck,
    streams: Streams,
    export: Option<ExportFile>,
}

impl Entries {
    /// A bundle that the server does not give, because events of it were removed.
    fn take_gone(&mut self, range: Range<u64>) {
        if let Some(export) = &mut self.export
            && range.start < export.manifest.through_index
            && export.wants_events().is_some()
        {
            let (first, last) = (range.start, range.end - 1);
            export.cannot_be_held(match range.end <= export.manifest.from_index {
                true => format!(
                    "of events {first} to {last}, before its range, some were removed, so the revisions of its own are \
                     not known from here: give --data-dir"
                ),
                false => format!(
                    "events {first} to {last} are in a bundle that the server does not give, because events of it were \
                     removed"
                ),
            });
        }
        self.removals.take_gone(range);
    }

    /// Holds an event, whose revision is the one that follows in its stream, against the export.
    fn take(&mut self, mut stored: StoredEvent, findings: &mut Findings) {
        match codec::decode(&stored) {
            Ok(recorded) => {
                let envelope = recorded.envelope;
                stored.revision = self
                    .streams
                    .follow(stored.index, &envelope.stream, envelope.id, findings);
                if let Some(export) = &mut self.export {
                    export.hold(&stored, findings);
                }
            }
            Err(error) => findings.failed(Check::Events, error.to_string()),
        }
    }

    fn check_bundle(&mut self, first: u64, bundle: &[u8], tile: &Tile, findings: &mut Findings) {
        let mut rest = bundle;
        for (index, leaf) in (first..).zip(tile.hashes()) {
            let entry = rest
                .split_first_chunk::<2>()
                .and_then(|(length, more)| more.split_at_checked(usize::from(u16::from_be_bytes(*length))));
            let Some((entry, more)) = entry else {
                findings.failed(Check::Events, format!("event {index} is missing in its bundle"));
                return;
            };
            rest = more;
            if leaf_of(entry) != *leaf {
                findings.failed(
                    Check::Events,
                    format!("event {index} is not the one that its leaf hash was made of"),
                );
                continue;
            }
            // Whose other bundles are gone would have room for any number of these: no server gives them.
            if remains(entry).is_some() {
                let what =
                    format!("event {index} is what is left of a removed one, in a bundle that should be gone (410)");
                findings.failed(Check::Removals, what);
                continue;
            }
            self.removals.add(index, entry);
            let stored = StoredEvent {
                index,
                revision: 0, // a server's bundles do not say it
                bytes: entry.into(),
            };
            self.take(stored, findings);
        }
        if !rest.is_empty() {
            findings.failed(
                Check::Events,
                format!("the bundle of event {first} has more than its tile"),
            );
        }
    }
}

/// Tells people at a terminal how far it has come.
struct Progress<'a, 'b> {
    console: &'a mut Console<'b>,
    told: Instant,
}

impl<'a, 'b> Progress<'a, 'b> {
    fn new(console: &'a mut Console<'b>) -> Self {
        let told = Instant::now();
        Self { console, told }
    }

    fn tell(&mut self, what: &str, done: u64, of: u64) {
        if self.told.elapsed() >= PROGRESS_EVERY && self.console.err_is_terminal {
            self.told = Instant::now();
            self.console.note(&format!("{done} of {of} {what}"));
        }
    }
}

fn config(file: Option<PathBuf>, options: &GlobalOptions) -> Result<Config, CliError> {
    let overrides = CliOverrides {
        data_dir: options.data_dir.clone(),
        ..CliOverrides::default()
    };
    Config::load(file.as_deref(), environment(), overrides).map_err(|error| CliError::Verification(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::transparency::merkle::{leaf_hash, node_hash};

    const EVENT: &str = r#"{"id":"0190163d-8694-739b-aea5-966c26f8ad91","stream":"service","type":"ServiceStopped","time":"2026-03-16T09:30:00.000000Z","actor":"system","data":{"version":"1","reason":"SIGTERM"}}"#;

    fn bundled(entry: &str) -> Vec<u8> {
        let length = u16::try_from(entry.len()).unwrap();
        [&length.to_be_bytes(), entry.as_bytes()].concat()
    }

    fn checked(bundle: &[u8]) -> Findings {
        let tile = Tile::from_bytes(&leaf_hash(EVENT.as_bytes())).unwrap();
        let (mut entries, mut findings) = (entries(), Findings::default());
        entries.check_bundle(7, bundle, &tile, &mut findings);
        entries.removals.finish(&mut findings);
        findings
    }

    fn entries() -> Entries {
        Entries {
            removals: RemovalCheck::of_entries(),
            streams: Streams::default(),
            export: None,
        }
    }

    #[test]
    fn a_proof_of_another_event_or_another_tree_proves_nothing() {
        use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let public = pair.public_key().as_ref().try_into().unwrap();
        let key = VerifierKey::new("id.example.com/audit", public).unwrap();
        let (left, right) = (leaf_hash(b"left"), leaf_hash(b"right"));
        let root = node_hash(&left, &right);
        let proof = |index: u64, sibling: &Hash, root: &Hash| {
            let body = format!("id.example.com/audit\n2\n{}\n", STANDARD.encode(root));
            let signature = [&key.key_id(), pair.sign(body.as_bytes()).as_ref()].concat();
            let signature = STANDARD.encode(signature);
            let sibling = STANDARD.encode(sibling);
            format!("c2sp.org/tlog-proof@v1\nindex {index}\n{sibling}\n\n{body}\n— id.example.com/audit {signature}\n")
        };
        let proven = |proof: &str| proven_size(proof, (1, &right), (2, &root), &key);
        assert_eq!(proven(&proof(1, &left, &root)), Ok(2));
        for wrong in [
            proof(0, &left, &root),
            proof(0, &left, &node_hash(&right, &left)),
            proof(1, &right, &root),
            proof(1, &right, &node_hash(&right, &right)),
            proof(1, &left, &root).replace("audit\n2\n", "audit\n3\n"),
            String::new(),
        ] {
            assert!(proven(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_first_event_and_the_last_are_among_those_that_are_proven() {
        assert!(sample(0).is_empty());
        for size in [1, 2, 3, 15, 16, 17, 1_000_003] {
            let sampled = sample(size);
            assert_eq!(sampled.len() as u64, size.min(PROVEN_EVENTS));
            assert_eq!((sampled.first(), sampled.last()), (Some(&0), Some(&(size - 1))));
        }
    }

    #[test]
    fn a_bundle_has_the_events_of_its_tile() {
        assert!(checked(&bundled(EVENT)).are_good());
        assert!(checked(&bundled(&EVENT.replace("SIGTERM", "SIGHUPP"))).has_failed(Check::Events));
        assert!(checked(&[]).has_failed(Check::Events));
    }

    #[test]
    fn a_bundle_with_what_is_left_of_an_event_is_no_server_s() {
        for stream in ["service", "audit-access"] {
            let remains = format!(
                r#"{{"id":"0190163d-8694-739b-aea5-966c26f8ad91","stream":"{stream}","type":"EventRemoved","time":"2026-03-16T09:30:00.000000Z","actor":"system","data":{{"leaf_hash":"{}"}}}}"#,
                STANDARD.encode(leaf_hash(EVENT.as_bytes()))
            );
            let findings = checked(&bundled(&remains));
            assert!(
                findings.failures[0].first.starts_with("event 7 is what is left"),
                "{findings:?}"
            );
        }
    }

    #[test]
    fn a_bundle_that_is_gone_is_on_the_record() {
        let gone = |said: Option<&str>| {
            let (mut removals, mut findings) = (RemovalCheck::of_entries(), Findings::default());
            removals.take_gone(256..512);
            if let Some(data) = said {
                let said = format!(
                    r#"{{"id":"0190163d-8694-739b-aea5-966c26f8ad91","stream":"retention","type":"EventsRemoved","time":"2026-03-16T09:30:00.000000Z","actor":"system","data":{data}}}"#
                );
                removals.add(900, said.as_bytes());
            }
            removals.finish(&mut findings);
            findings
        };
        let said =
            |from, through| format!(r#"{{"from_index":{from},"through_index":{through},"events":9,"rule":"age"}}"#);
        assert!(gone(Some(&said(0, 300))).are_good());
        // That of an earlier range can be in a bundle that is gone itself.
        assert!(gone(Some(&said(600, 800))).are_good());
        for findings in [gone(None), gone(Some(&said(0, 256)))] {
            assert!(findings.has_failed(Check::Removals), "{findings:?}");
        }
    }
}
