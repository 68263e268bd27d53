//! `audit tail`: the trail as it grows, across lost connections and restarted servers.

use crate::cli::audit::events_table;
use crate::cli::audit_conditions::{Conditions, fixed_time};
use crate::cli::back_off::BackOff;
use crate::cli::client::{AUDIT_READ, Client};
use crate::cli::event_rows::AuditEvent;
use crate::cli::exchange::Flow;
use crate::cli::table::Table;
use crate::cli::{CliError, Console, GlobalOptions};
use chrono::Utc;
use clap::Args;
use serde::Deserialize;
use std::time::Duration;

/// A server says every 5 seconds how far it is; when so much time passes in silence it is not there any more.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The largest frame of the stream, in bytes: an event of 65,535 bytes, and what is around it.
const MAX_FRAME_BYTES: usize = 1 << 20;

pub(super) const EXAMPLES: &str = "\
Examples:
  grantlog audit tail
  grantlog audit tail --outcome refused --since 10m
  grantlog audit tail --filter 'client_id sw \"my.trusted\"'
  grantlog audit tail --from-index 0 --json > trail.ndjson";

/// Which events, and from where on.
#[derive(Debug, Args)]
pub struct TailArguments {
    #[command(flatten)]
    conditions: Conditions,
    /// Begin with what happened since: RFC 3339, or a span back from now such as 10m
    #[arg(long, value_name = "TIME|SPAN")]
    since: Option<String>,
    /// Begin at this place in the log, instead of with what comes from now on
    #[arg(long, value_name = "INDEX")]
    from_index: Option<u64>,
}

impl TailArguments {
    pub(super) async fn run(self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<(), CliError> {
        let mut query = self.conditions.parameters();
        if let Some(since) = &self.since {
            query.push(("since", fixed_time(since, Utc::now())));
        }
        if let Some(index) = self.from_index {
            query.push(("from_index", index.to_string()));
        }
        let mut tail = Tail {
            query,
            seen: None,
            shown: None,
            table: events_table(),
            is_json: options.remote.json,
        };
        tokio::select! {
            // Control-C is how a tail ends.
            stopped = tokio::signal::ctrl_c() => stopped.map_err(CliError::Start)?,
            failed = tail.follow(console, options) => match failed {
                Ok(never) => match never {},
                Err(error) => return Err(error),
            },
        }
        Ok(())
    }
}

struct Tail {
    query: Vec<(&'static str, String)>,
    /// The last index that the server has shown or passed over.
    seen: Option<u64>,
    /// The last index that was printed.
    shown: Option<u64>,
    table: Table<7>,
    is_json: bool,
}

/// Why a stream is over.
enum Over {
    /// The server has said why.
    Said(String),
    /// The connection is gone.
    Lost(CliError),
}

impl Tail {
    /// Goes on until it cannot. What fails at first is told at once; what has worked before is tried again.
    async fn follow(
        &mut self,
        console: &mut Console<'_>,
        options: &GlobalOptions,
    ) -> Result<std::convert::Infallible, CliError> {
        let mut back_off = BackOff::new();
        let mut has_worked = false;
        loop {
            let lost = match self.open(console, options).await {
                Ok(mut flow) => {
                    if has_worked {
                        console.note("connected again");
                    }
                    has_worked = true;
                    back_off.reset();
                    match self.read(&mut flow, console).await? {
                        Over::Said(reason) => format!("the server has ended the tail ({reason})"),
                        Over::Lost(error) => error.to_string(),
                    }
                }
                Err(error) if has_worked && error.may_pass() => error.to_string(),
                Err(error) => return Err(error),
            };
            let wait = back_off.next();
            let at = self.seen.map_or(String::new(), |seen| format!(" after event {seen}"));
            console.note(&format!("{lost}; going on{at} in {:.1} s", wait.as_secs_f32()));
            tokio::time::sleep(wait).await;
        }
    }

    /// With a new token each time: the old one may be what ended the stream before.
    async fn open(&self, console: &mut Console<'_>, options: &GlobalOptions) -> Result<Flow, CliError> {
        let client = Client::sign_in(console, options, &[AUDIT_READ]).await?;
        client
            .flow(&["audit", "tail"], &self.query, self.seen, LONGEST_PAUSE)
            .await
    }

    /// Prints what comes until nothing comes any more.
    async fn read(&mut self, flow: &mut Flow, console: &mut Console<'_>) -> Result<Over, CliError> {
        let mut frames = Frames::default();
        loop {
            let bytes = match flow.next().await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Ok(Over::Said("without a reason".into())),
                Err(error) => return Ok(Over::Lost(error)),
            };
            frames.add(bytes.as_ref());
            let mut end = None;
            while let Some(frame) = frames.next() {
                match frame.name {
                    Some("end") => end = Some(reason(&frame)),
                    _ => self.take(&frame, flow, console)?,
                }
            }
            frames.forget_taken();
            if frames.is_too_large() {
                return Err(flow.unexpected(format!("an event of more than {MAX_FRAME_BYTES} bytes")));
            }
            if !self.table.is_empty() {
                self.table.print(console)?;
            }
            console.out.flush()?;
            if let Some(reason) = end {
                return Ok(Over::Said(reason));
            }
        }
    }

    fn take(&mut self, frame: &Frame<'_>, flow: &Flow, console: &mut Console<'_>) -> Result<(), CliError> {
        if let Some(data) = frame.data {
            let event: AuditEvent =
                serde_json::from_str(data).map_err(|_| flow.unexpected("an event that cannot be read"))?;
            // The server repeats nothing; were it to, nothing is printed twice.
            if self.shown.is_none_or(|shown| shown < event.index) {
                self.shown = Some(event.index);
                match self.is_json {
                    true => console.json(data)?,
                    false => self.table.row(event.row()),
                }
            }
        }
        self.seen = frame.id.or(self.seen);
        Ok(())
    }
}

fn reason(frame: &Frame<'_>) -> String {
    #[derive(Deserialize)]
    struct End {
        reason: String,
    }
    let end: Option<End> = frame.data.and_then(|data| serde_json::from_str(data).ok());
    end.map_or_else(|| "without a reason".into(), |end| end.reason.replace('_', " "))
}

/// Takes a stream of server-sent events apart (WHATWG HTML §9.2.6), as far as Grantlog writes them: lines end in
/// LF, and an event's data is one line.
#[derive(Default)]
struct Frames {
    bytes: Vec<u8>,
    taken: usize,
}

/// One block of the stream.
#[derive(Debug, PartialEq, Eq)]
struct Frame<'a> {
    id: Option<u64>,
    name: Option<&'a str>,
    data: Option<&'a str>,
}

impl Frames {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole block.
    fn next(&mut self) -> Option<Frame<'_>> {
        let rest = self.bytes.get(self.taken..)?;
        let end = memchr::memmem::find(rest, b"\n\n")?;
        self.taken += end + 2;
        let mut frame = Frame {
            id: None,
            name: None,
            data: None,
        };
        for line in rest.get(..end)?.split(|byte| *byte == b'\n') {
            let Ok(line) = std::str::from_utf8(line) else { continue };
            match line.split_once(": ") {
                Some(("id", id)) => frame.id = id.parse().ok(),
                Some(("event", name)) => frame.name = Some(name),
                Some(("data", data)) => frame.data = Some(data),
                // Comments and what is not known are passed over.
                _ => {}
            }
        }
        Some(frame)
    }

    fn forget_taken(&mut self) {
        self.bytes.drain(..self.taken.min(self.bytes.len()));
        self.taken = 0;
    }

    fn is_too_large(&self) -> bool {
        self.bytes.len() > MAX_FRAME_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_taken_apart_wherever_it_is_cut() {
        let stream =
            b"retry: 2000\n\n: indexed_through 8\nid: 7\n\nid: 8\ndata: {\"a\": 1}\n\nevent: end\ndata: {}\n\n";
        for cut in 0..stream.len() {
            let mut frames = Frames::default();
            let mut seen = Vec::new();
            for piece in [&stream[..cut], &stream[cut..]] {
                frames.add(piece);
                while let Some(frame) = frames.next() {
                    seen.push((frame.id, frame.name.map(str::to_owned), frame.data.map(str::to_owned)));
                }
                frames.forget_taken();
            }
            assert_eq!(
                seen,
                [
                    (None, None, None),
                    (Some(7), None, None),
                    (Some(8), None, Some("{\"a\": 1}".into())),
                    (None, Some("end".into()), Some("{}".into())),
                ],
                "cut at {cut}"
            );
            assert!(frames.bytes.is_empty());
        }
    }
}
