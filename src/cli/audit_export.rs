//! `audit export`: a copy of a range of the log in a file, with a manifest beside it that the server agrees with.

use crate::audit::export::ExportFormat;
use crate::audit::export::manifest::{Manifest, Tally};
use crate::cli::audit_conditions::{Conditions, fixed_time};
use crate::cli::back_off::BackOff;
use crate::cli::client::{AUDIT_EXPORT, Client};
use crate::cli::exchange::Flow;
use crate::cli::exported_file::ExportedFile;
use crate::cli::records::Records;
use crate::cli::{CliError, Console, GlobalOptions};
use chrono::Utc;
use clap::builder::PossibleValuesParser;
use clap::{Args, builder::TypedValueParser};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A selective condition may pass over many events before one is shown.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Attempts that bring nothing before the export is given up.
const MAX_FRUITLESS_ATTEMPTS: u32 = 8;
/// The largest manifest, in bytes.
const MAX_MANIFEST_BYTES: usize = 1 << 20;

pub(super) const EXAMPLES: &str = "\
Examples:
  grantlog audit export --output trail.ndjson
  grantlog audit export --format csv --since 2026-01-01T00:00:00Z \\
      --until 2026-04-01T00:00:00Z --output first-quarter.csv
  grantlog audit export --format ocsf --type TokenRefused --output -
  grantlog audit export --format log --output evidence.log";

/// Which events, how, and where to.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// log (the stored bytes, what `audit verify` checks), ndjson, csv or ocsf
    #[arg(long, default_value = "ndjson", value_parser = format_parser())]
    format: ExportFormat,
    /// The file to write; - is standard output
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
    /// From this place in the log on
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    from_index: u64,
    /// Up to, and not with, this place [default: what the log has now]
    #[arg(long, value_name = "INDEX")]
    through_index: Option<u64>,
    #[command(flatten)]
    conditions: Conditions,
    /// Only from this time on: RFC 3339, or a span back from now such as 30d
    #[arg(long, value_name = "TIME|SPAN")]
    since: Option<String>,
    /// Only before this time: RFC 3339, or a span back from now
    #[arg(long, value_name = "TIME|SPAN")]
    until: Option<String>,
}

fn format_parser() -> impl TypedValueParser<Value = ExportFormat> {
    let names = PossibleValuesParser::new(ExportFormat::ALL.map(ExportFormat::as_str));
    names.try_map(|name| name.parse::<ExportFormat>().map_err(|()| "no such format"))
}

impl ExportArguments {
    pub(super) async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let is_stdout = self.output.as_os_str() == "-";
        let file = match is_stdout {
            true => None,
            false => Some(ExportedFile::create(&self.output, self.force)?),
        };
        let now = Utc::now();
        let mut conditions = self.conditions.parameters();
        for (name, time) in [("since", &self.since), ("until", &self.until)] {
            conditions.extend(time.as_deref().map(|time| (name, fixed_time(time, now))));
        }
        let mut export = Export {
            format: self.format,
            conditions,
            from_index: self.from_index,
            through_index: self.through_index,
            has_begun: false,
            next: self.from_index,
            records: Records::of(self.format),
            tally: Tally::default(),
            file,
            progress: Progress::new(),
        };
        export.take_all(console, options).await?;
        let manifest = export.finish(console, options).await?;
        if options.remote.json && !is_stdout {
            console.json(&serde_json::to_string(&manifest).map_err(std::io::Error::from)?)?;
        }
        Ok(())
    }
}

struct Export {
    format: ExportFormat,
    conditions: Vec<(&'static str, String)>,
    from_index: u64,
    /// Known from the first answer on.
    through_index: Option<u64>,
    /// Whether there was an answer.
    has_begun: bool,
    /// Everything before this index is written.
    next: u64,
    records: Records,
    tally: Tally,
    /// None: standard output.
    file: Option<ExportedFile>,
    progress: Progress,
}

impl Export {
    /// Takes the range, and goes on behind the last whole event when a connection is lost.
    async fn take_all(&mut self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let mut back_off = BackOff::new();
        let mut fruitless = 0;
        loop {
            let before = self.tally.count();
            let error = match self.take(console, options).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if self.tally.count() > before {
                (back_off, fruitless) = (BackOff::new(), 0);
            }
            fruitless += 1;
            // What fails at the very first is told at once.
            if !error.may_pass() || !self.has_begun || fruitless > MAX_FRUITLESS_ATTEMPTS {
                return Err(error);
            }
            let wait = back_off.next();
            self.progress.clear(console);
            let (next, wait_seconds) = (self.next, wait.as_secs_f32());
            console.note(&format!("{error}; going on at event {next} in {wait_seconds:.1} s"));
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes as much as one answer brings.
    async fn take(&mut self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let client = Client::sign_in(console, options, &[AUDIT_EXPORT]).await?;
        let query = self.query(self.next);
        let mut flow = client.flow(&["audit", "export"], &query, None, LONGEST_PAUSE).await?;
        let through = flow
            .number("Grantlog-Through-Index")
            .ok_or_else(|| flow.unexpected("an export that does not say its range"))?;
        self.through_index = Some(through);
        self.has_begun = true;
        self.records.begin(self.tally.bytes() > 0);
        while let Some(bytes) = flow.next().await? {
            self.add(bytes.as_ref(), &flow, console)?;
            self.progress
                .tell(&self.tally, self.from_index..through, self.next, console);
        }
        if !self.records.is_at_an_end() {
            return Err(flow.unexpected("an export that ends within an event"));
        }
        Ok(())
    }

    /// Writes the whole events among what has come.
    fn add(&mut self, bytes: &[u8], flow: &Flow, console: &mut Console<'_>) -> Result<(), CliError> {
        let whole = self.records.add(bytes).map_err(|problem| flow.unexpected(problem))?;
        self.tally.add(whole.count, &whole.bytes);
        match &mut self.file {
            Some(file) => file.write(&whole.bytes)?,
            None => console.out.write_all(&whole.bytes)?,
        }
        if whole.count > 0 {
            self.next = match whole.last_index {
                Some(index) => index + 1,
                // A line of the log has no index: they are dense.
                None => self.next + whole.count,
            };
        }
        Ok(())
    }

    fn query(&self, from_index: u64) -> Vec<(&'static str, String)> {
        let mut query = self.conditions.clone();
        query.push(("format", self.format.as_str().to_owned()));
        query.push(("from_index", from_index.to_string()));
        query.extend(self.through_index.map(|through| ("through_index", through.to_string())));
        query
    }

    /// Compares with what the server says it sent, and gives the file its name.
    async fn finish(mut self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<Manifest, CliError> {
        self.progress.clear(console);
        console.out.flush()?;
        let through = self.through_index.unwrap_or(self.from_index);
        let manifest = self.server_manifest(console, options).await?;
        let filter = self
            .conditions
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        let count = self.tally.count();
        let own = self
            .tally
            .manifest(self.format, self.from_index..through, filter.collect());
        for (what, received, sent) in [
            ("events", own.count.to_string(), manifest.count.to_string()),
            ("bytes", own.bytes.to_string(), manifest.bytes.to_string()),
            ("SHA-256", own.sha256.clone(), manifest.sha256.clone()),
        ] {
            if received != sent {
                return Err(CliError::NotTheSame(format!(
                    "{what}: {received} came, {sent} were sent"
                )));
            }
        }
        // What was compared, and of the server's own only what nobody here can know.
        let manifest = Manifest {
            checkpoint: manifest.checkpoint,
            ..own
        };
        let rate = self.progress.rate(count);
        if manifest.checkpoint.is_none() {
            console
                .warn("the server has signed no checkpoint for this range: the copy cannot be checked against its log");
        }
        match self.file.take() {
            Some(file) => {
                let name = file.finish(&manifest)?;
                let name = name.display();
                console.note(&format!(
                    "{count} events in {name} ({rate} events/s); its manifest is beside it"
                ));
            }
            None => console.note(&format!(
                "{count} events ({rate} events/s), SHA-256 {}",
                manifest.sha256
            )),
        }
        Ok(manifest)
    }

    async fn server_manifest(&self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<Manifest, CliError> {
        let mut back_off = BackOff::new();
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.ask_for_manifest(console, options).await {
                Err(error) if error.may_pass() && attempts < MAX_FRUITLESS_ATTEMPTS => {
                    let wait = back_off.next();
                    console.note(&format!("{error}; asking again in {:.1} s", wait.as_secs_f32()));
                    tokio::time::sleep(wait).await;
                }
                manifest => return manifest,
            }
        }
    }

    async fn ask_for_manifest(&self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<Manifest, CliError> {
        let client = Client::sign_in(console, options, &[AUDIT_EXPORT]).await?;
        let query = self.query(self.from_index);
        let path = ["audit", "export", "manifest"];
        let mut flow = client.flow(&path, &query, None, LONGEST_PAUSE).await?;
        let mut text = Vec::new();
        while let Some(bytes) = flow.next().await? {
            text.extend_from_slice(bytes.as_ref());
            if text.len() > MAX_MANIFEST_BYTES {
                return Err(flow.unexpected(format!("a manifest of more than {MAX_MANIFEST_BYTES} bytes")));
            }
        }
        serde_json::from_slice(&text).map_err(|_| flow.unexpected("a manifest that cannot be read"))
    }
}

/// What a person at the terminal is told meanwhile.
struct Progress {
    begun: Instant,
    told: Instant,
    is_shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            told: Instant::now(),
            is_shown: false,
        }
    }

    fn tell(&mut self, tally: &Tally, range: std::ops::Range<u64>, next: u64, console: &mut Console<'_>) {
        if !console.err_is_terminal || self.told.elapsed() < TELL_EVERY {
            return;
        }
        self.told = Instant::now();
        self.is_shown = true;
        let (count, rate) = (tally.count(), self.rate(tally.count()));
        let done = next.saturating_sub(range.start) as f64 / range.end.saturating_sub(range.start).max(1) as f64;
        // Over the line before: whoever cannot be told this is not told either that it failed.
        let _ = write!(
            console.err,
            "\r\x1b[K{count} events, {rate} events/s, {:.0} %",
            done * 100.0
        );
        let _ = console.err.flush();
    }

    /// Takes the line away, so that another can stand there.
    fn clear(&mut self, console: &mut Console<'_>) {
        if std::mem::take(&mut self.is_shown) {
            let _ = write!(console.err, "\r\x1b[K");
        }
    }

    fn rate(&self, count: u64) -> u64 {
        (count as f64 / self.begun.elapsed().as_secs_f64().max(0.001)) as u64
    }
}
