//! A process of its own that appends and tells what was acknowledged. It is this very test program, which
//! is started again to run [`a_child_process_appends_as_its_parent_tells_it`] alone.

use crate::acknowledged::Acknowledged;
use crate::shim::Disk;
use grantlog::event_store::sqlite::{Durability, SqliteEventStore, SqliteOptions};
use grantlog::event_store::{Append, AppendError, Appended, EventStore, EventToAppend, ExpectedRevision};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// Concurrent appenders in the child.
const APPENDERS: usize = 16;
/// What the child's words begin with, so that they are told from those of the test harness.
const WORD: &str = "child: ";

const LOG: &str = "GRANTLOG_CHILD_LOG";
const APPENDS: &str = "GRANTLOG_CHILD_APPENDS";
const DURABILITY: &str = "GRANTLOG_CHILD_DURABILITY";
const ACKNOWLEDGES: &str = "GRANTLOG_CHILD_ACKNOWLEDGES";

/// When the child says that an event is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledges {
    /// As a service must.
    AfterTheCommit,
    /// As a service must not, to show that the check notices.
    BeforeTheCommit,
}

/// A child that is about to be started.
pub struct Child {
    command: Command,
}

/// A child that is running.
pub struct Running {
    process: std::process::Child,
    words: BufReader<std::process::ChildStdout>,
    told: Told,
}

/// What the child has said.
#[derive(Debug, Default)]
pub struct Told {
    /// Why it could not open the log.
    pub not_opened: Option<String>,
    /// The events that are in the log, by its word.
    pub acknowledged: Vec<Acknowledged>,
    /// What its store said to the operator when it failed.
    pub failed: Option<String>,
    /// Appends accepted although the store had failed.
    pub acknowledged_after_the_failure: usize,
    /// Appends refused because the store had failed.
    pub refused_as_closed: usize,
    /// Whether it did all that it was asked to, or met the failure.
    pub finished: bool,
    /// What it wrote on stderr, the shim's words among it.
    pub stderr: String,
}

impl Child {
    pub fn new(log: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "--exact",
                "appending_child::a_child_process_appends_as_its_parent_tells_it",
                "--nocapture",
            ])
            .env(LOG, log)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self { command }
    }

    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Under this fault of the shim.
    pub fn under(mut self, fault: &str) -> Self {
        self.command.env("GRANTLOG_FAULT", fault);
        self
    }

    /// With a control file for the shim.
    pub fn steered_by(mut self, control: &Path) -> Self {
        self.command.env("GRANTLOG_FAULT_CONTROL", control);
        self
    }

    pub fn on(mut self, disk: &Disk) -> Self {
        disk.attach(&mut self.command);
        self
    }

    /// So many appends; without it the child goes on until it is killed or fails.
    pub fn appends(mut self, count: usize) -> Self {
        self.command.env(APPENDS, count.to_string());
        self
    }

    pub fn with(mut self, durability: Durability) -> Self {
        self.command.env(DURABILITY, format!("{durability:?}"));
        self
    }

    pub fn acknowledging(mut self, when: Acknowledges) -> Self {
        self.command.env(ACKNOWLEDGES, format!("{when:?}"));
        self
    }

    pub fn start(mut self) -> Running {
        let mut process = self.command.spawn().unwrap();
        let words = BufReader::new(process.stdout.take().unwrap());
        Running {
            process,
            words,
            told: Told::default(),
        }
    }

    /// Starts it and waits until it ends by itself.
    pub fn run(self) -> Told {
        self.start().wait()
    }

    /// Starts it and kills it when it has finished, before it can close the log.
    pub fn run_and_kill(self) -> Told {
        let mut running = self.start();
        while !running.told.finished && running.hear() {}
        running.kill()
    }
}

impl Running {
    pub fn wait_for_acknowledgements(&mut self, count: usize) {
        while self.told.acknowledged.len() < count && self.hear() {}
        assert!(self.told.acknowledged.len() >= count, "{:?}", self.told);
    }

    /// Kills it, and hears what it has said until then: an acknowledgement on its way counts.
    pub fn kill(mut self) -> Told {
        self.process.kill().unwrap();
        self.wait()
    }

    pub fn wait(mut self) -> Told {
        while self.hear() {}
        self.process
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut self.told.stderr)
            .unwrap();
        let status = self.process.wait().unwrap();
        // Exit code 99: the shim did not understand what it was asked for.
        assert!(status.success() || status.code().is_none(), "{status}: {:?}", self.told);
        self.told
    }

    /// Hears one line; `false` when there is no further.
    fn hear(&mut self) -> bool {
        let mut line = String::new();
        if self.words.read_line(&mut line).unwrap() == 0 {
            return false;
        }
        // A line without an end was cut off by the kill.
        let Some((_, word)) = line.strip_suffix('\n').and_then(|line| line.split_once(WORD)) else {
            return true;
        };
        let (kind, rest) = word.split_once(' ').unwrap_or((word, ""));
        match kind {
            "acknowledged" => {
                let (id, index) = rest.split_once(' ').unwrap();
                self.told
                    .acknowledged
                    .push((id.parse().unwrap(), index.parse().unwrap()));
            }
            "not-opened" => self.told.not_opened = Some(rest.to_owned()),
            "failed" => self.told.failed = Some(rest.to_owned()),
            "acknowledged-after-the-failure" => self.told.acknowledged_after_the_failure += 1,
            "closed" => self.told.refused_as_closed += 1,
            "finished" => self.told.finished = true,
            other => panic!("the child says {other}"),
        }
        true
    }
}

fn say(word: std::fmt::Arguments<'_>) {
    // One write per line: a kill cuts between lines or within the last.
    let line = format!("{WORD}{word}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}

/// With a log in its environment it is such a child; else it holds the words that parents use.
#[test]
fn a_child_process_appends_as_its_parent_tells_it() {
    let Some(log) = std::env::var_os(LOG) else {
        for durability in [Durability::Full, Durability::UnsafeNormal] {
            assert_eq!(durability_told(&format!("{durability:?}")), durability);
        }
        for when in [Acknowledges::AfterTheCommit, Acknowledges::BeforeTheCommit] {
            assert_eq!(acknowledges_told(&format!("{when:?}")), when);
        }
        return;
    };
    let told = |name| std::env::var(name).ok();
    let appends = told(APPENDS).map_or(usize::MAX, |text| text.parse().unwrap());
    let mut options = SqliteOptions::new(log);
    options.durability = told(DURABILITY).map_or(Durability::Full, |text| durability_told(&text));
    let when = told(ACKNOWLEDGES).map_or(Acknowledges::AfterTheCommit, |text| acknowledges_told(&text));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(append_all(options, appends, when));
}

fn durability_told(text: &str) -> Durability {
    match text {
        "Full" => Durability::Full,
        "UnsafeNormal" => Durability::UnsafeNormal,
        _ => panic!("{text} is no durability"),
    }
}

fn acknowledges_told(text: &str) -> Acknowledges {
    match text {
        "AfterTheCommit" => Acknowledges::AfterTheCommit,
        "BeforeTheCommit" => Acknowledges::BeforeTheCommit,
        _ => panic!("{text} is no moment"),
    }
}

async fn append_all(options: SqliteOptions, appends: usize, when: Acknowledges) {
    let store = match SqliteEventStore::open(options) {
        Ok(store) => Arc::new(store),
        Err(refused) => return say(format_args!("not-opened {refused}")),
    };
    match when {
        Acknowledges::AfterTheCommit => {
            let begun = Arc::new(AtomicUsize::new(0));
            let appenders =
                (0..APPENDERS).map(|n| tokio::spawn(append_while_it_works(store.clone(), begun.clone(), appends, n)));
            for appender in appenders.collect::<Vec<_>>() {
                appender.await.unwrap();
            }
        }
        Acknowledges::BeforeTheCommit => {
            let mut outcomes = Vec::new();
            for n in 0..appends {
                let append = numbered(n, 1);
                say(format_args!("acknowledged {} {}", append.events[0].id, n));
                outcomes.push(store.append_to_stream(append));
            }
            for outcome in outcomes {
                let _ = outcome.await;
            }
        }
    }
    // A moment for the failure, if there is one, to be told.
    if let Ok(message) = tokio::time::timeout(Duration::from_millis(20), store.failed()).await {
        say(format_args!("failed {message}"));
        for n in 0..50 {
            match store.append_to_stream(numbered(n, 1)).await {
                Ok(_) => say(format_args!("acknowledged-after-the-failure")),
                Err(AppendError::Closed(_)) => say(format_args!("closed")),
                Err(other) => panic!("{other}"),
            }
        }
        say(format_args!("finished"));
    } else {
        say(format_args!("finished"));
        // Time to be killed; whoever does not want to kill waits for a tidy end.
        if std::env::var_os("GRANTLOG_DISK").is_some() {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    }
    store.close().await;
}

async fn append_while_it_works(store: Arc<SqliteEventStore>, begun: Arc<AtomicUsize>, appends: usize, appender: usize) {
    loop {
        let n = begun.fetch_add(1, Ordering::Relaxed);
        if n >= appends {
            return;
        }
        let append = numbered(n, 1 + (n + appender) % 3);
        let ids: Vec<Uuid> = append.events.iter().map(|event| event.id).collect();
        match store.append_to_stream(append).await {
            Ok(Appended { first_index, .. }) => {
                for (id, index) in ids.into_iter().zip(first_index..) {
                    say(format_args!("acknowledged {id} {index}"));
                }
            }
            Err(AppendError::Indeterminate(_) | AppendError::Closed(_)) => return,
            Err(other) => panic!("{other}"),
        }
    }
}

/// So many events of some 600 bytes, to one of ten streams.
fn numbered(n: usize, events: usize) -> Append {
    let stream = format!("stream-{}", n % 10);
    let events = (0..events).map(|_| {
        let id = Uuid::now_v7();
        let bytes = format!(r#"{{"id":"{id}","stream":"{stream}","padding":"{:500}"}}"#, n).into_bytes();
        EventToAppend {
            id,
            event_type: "Numbered",
            bytes: bytes.into(),
        }
    });
    let events = events.collect();
    Append {
        stream,
        expected: ExpectedRevision::Any,
        events,
    }
}
