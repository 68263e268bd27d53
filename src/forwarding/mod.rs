//! The audit trail leaves as it happens: to OTLP receivers, syslog servers and webhooks.
//!
//! Every sink follows the log by itself, in order, and remembers the last event that it acknowledged: at least
//! once, whatever stops in between. A sink that is down holds up nobody but itself: what it has not had stays in
//! the log. `settings` is what the operator sets, `sink` a place to deliver to, `follower` what brings the log
//! there, `checkpoint` how far it has come.

pub mod settings;

pub mod sink;

pub mod forwarded_event;

pub mod otlp;

pub mod syslog;

pub mod webhook;

pub mod trust;

pub mod cause;

pub mod backoff;

pub mod checkpoint;

pub mod progress;

pub mod follower;

pub use progress::SinkStatus;
pub use settings::SinkSettings;

use crate::event_store::EventStore;
use crate::metrics::Metrics;
use crate::priority;
use checkpoint::{CheckpointError, CheckpointFile};
use follower::Follower;
use progress::Progress;
use settings::SecretError;
use sink::{Origin, Sink};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use trust::TrustError;

/// Sinks at the most.
pub const MAX_SINKS: usize = 16;

/// Why forwarding did not start.
#[derive(Debug, thiserror::Error)]
pub enum ForwardingError {
    /// A secret of a sink cannot be had.
    #[error("forwarding to {sink}: {source}")]
    Secret {
        /// Which sink.
        sink: String,
        /// What is wrong.
        source: SecretError,
    },
    /// A sink's certificates cannot be used.
    #[error("forwarding to {sink}: {source}")]
    Trust {
        /// Which sink.
        sink: String,
        /// What is wrong.
        source: TrustError,
    },
    /// How far a sink has come cannot be read or kept.
    #[error("forwarding to {sink}: {source}")]
    Checkpoint {
        /// Which sink.
        sink: String,
        /// What is wrong.
        source: CheckpointError,
    },
    /// The folder of the checkpoints cannot be made.
    #[error("forwarding: {path}: {source}", path = path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No thread or runtime.
    #[error("forwarding: no thread: {0}")]
    Thread(io::Error),
}

/// All sinks, at work until they are stopped.
pub struct Forwarding {
    store: Arc<dyn EventStore>,
    metrics: Metrics,
    sinks: Vec<Arc<Progress>>,
    stop: watch::Sender<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Forwarding {
    /// Opens every sink's checkpoint in `folder` and begins to deliver, on a thread of its own: however much there
    /// is to forward, it takes one core at the most, and none of the threads that serve requests.
    ///
    /// Blocks: it reads files. `origin` is who says it.
    pub fn start(
        sinks: Vec<SinkSettings>,
        folder: &Path,
        origin: &Origin,
        store: Arc<dyn EventStore>,
        metrics: Metrics,
    ) -> Result<Self, ForwardingError> {
        let (stop, stopped) = watch::channel(false);
        let mut followers = Vec::new();
        let mut all_progress = Vec::new();
        if !sinks.is_empty() {
            make_folder(folder).map_err(|source| ForwardingError::Folder {
                path: folder.to_owned(),
                source,
            })?;
        }
        for settings in sinks.into_iter().take(MAX_SINKS) {
            let sink = Sink::new(&settings, origin)?;
            let checkpoint = CheckpointFile::of(folder, &settings.name);
            let progress = Arc::new(Progress::new(&settings));
            all_progress.push(progress.clone());
            followers.push(Follower::new(
                settings,
                sink,
                checkpoint,
                store.clone(),
                progress,
                metrics.clone(),
                stopped.clone(),
            )?);
        }
        let thread = if followers.is_empty() {
            None
        } else {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(ForwardingError::Thread)?;
            let thread = std::thread::Builder::new().name("forwarding".into());
            let work = move || {
                priority::give_way();
                runtime.block_on(run(followers));
                // A name that is still being looked up does not hold up the end.
                runtime.shutdown_background();
            };
            Some(thread.spawn(work).map_err(ForwardingError::Thread)?)
        };
        let forwarding = Self {
            store,
            metrics,
            sinks: all_progress,
            stop,
            thread: Mutex::new(thread),
        };
        forwarding.gauge();
        Ok(forwarding)
    }

    /// How every sink is doing, in the order of the configuration.
    pub fn status(&self) -> Vec<SinkStatus> {
        let log_size = self.store.log_size();
        self.sinks.iter().map(|sink| sink.status(log_size)).collect()
    }

    /// Sets the figures that have to be read to be known.
    pub fn gauge(&self) {
        for sink in self.status() {
            self.metrics.forwarding_lag(&sink.name, sink.lag);
            self.metrics.forwarding_is_up(&sink.name, sink.state.is_up());
        }
    }

    /// Lets every sink finish what is on its way, for [`follower::STOP_GRACE`] at the most, and saves how far it has
    /// come. Idempotent; blocks.
    pub fn stop(&self) {
        self.stop.send_replace(true);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("forwarding panicked: this is a bug");
        }
    }
}

async fn run(followers: Vec<Follower>) {
    let mut tasks = JoinSet::new();
    for follower in followers {
        let progress = follower.progress();
        tasks.spawn(async move {
            // Whatever ends the task, also a panic, is on the sink's status.
            let _ended = Ended(progress);
            follower.run().await;
        });
    }
    while let Some(ended) = tasks.join_next().await {
        if ended.is_err() {
            tracing::error!("forwarding to a sink panicked: this is a bug; the others go on");
        }
    }
}

struct Ended(Arc<Progress>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.ended();
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
