//! A client that is replaced when it has failed.
//!
//! The official client gives up for good when its first connection fails, and goes on calling a leader that is gone
//! (the project's tests show both). So a client here lives until the first call that fails for another reason than
//! the call itself; the next one is made anew, asks the cluster who leads, and connects there.

use super::nodelay::send_at_once;
use super::url::KurrentDbUrl;
use eventstore::{Authentication, Client, ClientSettings, Endpoint, Error};
use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};
use tonic::Code;

/// Before the second client in a row is made; doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// A call that had less time than this and did not make it may have been good.
const JUDGING_DEADLINE: Duration = Duration::from_secs(1);
/// The longest pause before a client is made: whoever asks must have time left to connect, which may be a second in
/// all (`store.max_staleness_seconds`).
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Makes clients, one at a time.
pub(super) struct Connections {
    url: KurrentDbUrl,
    authentication: Option<Authentication>,
    runtime: Handle,
    current: Mutex<Current>,
    /// Clients made so far; each has its number.
    made: AtomicU64,
    /// The newest client that has made a call.
    seen_well: AtomicU64,
    trouble: std::sync::Mutex<Trouble>,
    /// The newest client that has failed.
    failed: watch::Sender<u64>,
}

#[derive(Default)]
struct Current {
    client: Option<Connected>,
}

/// What is known of the last failures.
#[derive(Default)]
struct Trouble {
    /// Failures since the last success.
    failures: u32,
    last: Option<String>,
    /// Who leads, in the words of a node that does not: asked once.
    leader: Option<Endpoint>,
    /// The newest client that has failed.
    failed: u64,
    /// What the KurrentDB does not let this node do.
    denied: BTreeSet<Right>,
}

impl Trouble {
    /// What keeps a node from knowing what the cluster knows, `None` when nothing does. Of the denials it is only that
    /// of reading `$all`, which is asked for all the time: another may be over, and is not known to be before somebody
    /// makes such a call.
    fn now(&self) -> Option<String> {
        let last = self.last.clone().filter(|_| self.failures > 0);
        last.or_else(|| self.denied.contains(&Right::ReadAll).then(|| denial(Right::ReadAll)))
    }
}

fn denial(right: Right) -> String {
    format!(
        "access denied: the KurrentDB does not let this node {right}; are the user and the password in store.url still \
         right, and may it?"
    )
}

#[derive(Clone)]
struct Connected {
    client: Arc<Client>,
    number: u64,
}

/// What a call needs the right to do. A user may have one and lack another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Right {
    ReadAll,
    ReadStreams,
    Append,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadAll => "read $all",
            Self::ReadStreams => "read the log's streams",
            Self::Append => "append to the log's streams",
        })
    }
}

/// Why a call has failed.
#[derive(Debug)]
pub(super) enum CallError {
    /// The connection, the node or the cluster: another try may succeed, and whether this one has is not known.
    Broken(String),
    /// The server's answer to the call: another try changes nothing.
    Refused(Error),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(why) => f.write_str(why),
            Self::Refused(Error::AccessDenied) => {
                f.write_str("access denied: are the user and the password in store.url right, and may it do this?")
            }
            Self::Refused(error) => error.fmt(f),
        }
    }
}

/// Makes a client, when the files that it needs are in order at this moment.
pub(super) fn client<E: fmt::Display>(
    url: &KurrentDbUrl,
    make: impl FnOnce() -> Result<Client, E>,
) -> Result<Client, String> {
    url.check_files()
        .map_err(|(path, why)| format!("{}: {why}", path.display()))?;
    make().map_err(|error| error.to_string())
}

/// Whether a status is about the call itself (the client has another version of the type than the rest of us).
fn is_final(status: i32) -> bool {
    [Code::InvalidArgument, Code::OutOfRange, Code::FailedPrecondition]
        .iter()
        .any(|code| *code as i32 == status)
}

impl Connections {
    /// For the KurrentDB at this URL; clients do their work on this runtime.
    pub(super) fn new(url: KurrentDbUrl, runtime: Handle) -> Self {
        Self {
            authentication: url.authentication(),
            url,
            runtime,
            current: Mutex::default(),
            made: AtomicU64::new(0),
            seen_well: AtomicU64::new(0),
            trouble: std::sync::Mutex::default(),
            failed: watch::Sender::new(0),
        }
    }

    /// Changes whenever another client has failed: what is under way on its connection will hardly be answered.
    pub(super) fn failed(&self) -> watch::Receiver<u64> {
        self.failed.subscribe()
    }

    /// Where the KurrentDB is, without its password.
    pub(super) fn url(&self) -> &KurrentDbUrl {
        &self.url
    }

    /// What goes with every call.
    pub(super) fn authentication(&self) -> Option<&Authentication> {
        self.authentication.as_ref()
    }

    /// Makes one call. It ends within the deadline, connecting included, whatever the client does.
    pub(super) async fn call<T, F>(
        &self,
        deadline: Duration,
        right: Right,
        call: impl FnOnce(Arc<Client>) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        // Whoever has hardly any time left says nothing about the connection that others use.
        let is_judged_when_late = deadline >= JUDGING_DEADLINE;
        self.made(deadline, right, is_judged_when_late, call).await
    }

    /// The same for a call that may take longer than its deadline on a connection that is good.
    pub(super) async fn long_call<T, F>(
        &self,
        deadline: Duration,
        right: Right,
        call: impl FnOnce(Arc<Client>) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.made(deadline, right, false, call).await
    }

    async fn made<T, F>(
        &self,
        deadline: Duration,
        right: Right,
        is_judged_when_late: bool,
        call: impl FnOnce(Arc<Client>) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut number = self.made.load(Ordering::Relaxed);
        let outcome = tokio::time::timeout(deadline, async {
            let connected = self.connected().await?;
            number = connected.number;
            call(connected.client).await.map_err(|error| self.judge(error))
        });
        let (outcome, is_late) = match outcome.await {
            Ok(outcome) => (outcome, false),
            Err(_) => (Err(CallError::Broken(format!("no answer within {deadline:?}"))), true),
        };
        match &outcome {
            Err(CallError::Broken(_)) if is_late && !is_judged_when_late => {}
            Err(CallError::Broken(why)) => self.discard(number, why).await,
            Err(CallError::Refused(Error::AccessDenied)) => {
                self.connection_is_well(number);
                self.denied(right);
            }
            Ok(_) | Err(CallError::Refused(_)) => {
                self.connection_is_well(number);
                self.allowed(right);
            }
        }
        outcome
    }

    /// Settings for a client that its caller looks after.
    pub(super) fn settings(&self) -> Result<ClientSettings, CallError> {
        let leader = self.trouble().leader.take();
        let settings = match leader {
            Some(leader) => {
                let port = u16::try_from(leader.port).unwrap_or_default();
                self.url.settings_of_node(&leader.host, port)
            }
            None => self.url.client_settings(),
        };
        settings.map_err(|error| CallError::Broken(error.to_string()))
    }

    /// What an error of the client means.
    pub(super) fn judge(&self, error: Error) -> CallError {
        match error {
            Error::WrongExpectedVersion { .. }
            | Error::ResourceNotFound
            | Error::ResourceDeleted
            | Error::AccessDenied
            | Error::UnsupportedFeature => CallError::Refused(error),
            Error::Grpc { code, .. } if is_final(code as i32) => CallError::Refused(error),
            Error::NotLeaderException(leader) => {
                let why = format!("the node does not lead, {}:{} does", leader.host, leader.port);
                self.trouble().leader = Some(leader);
                CallError::Broken(why)
            }
            error => CallError::Broken(error.to_string()),
        }
    }

    /// Why this node does not know what the cluster knows, `None` when it may well know it.
    pub(super) fn trouble_now(&self) -> Option<String> {
        self.trouble().now()
    }

    async fn connected(&self) -> Result<Connected, CallError> {
        let mut current = self.current.lock().await;
        if let Some(connected) = &current.client {
            return Ok(connected.clone());
        }
        let failures = self.trouble().failures;
        if failures > 1 {
            let pause = FIRST_PAUSE.saturating_mul(1 << (failures - 2).min(10));
            tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
        }
        let settings = self.settings()?;
        let runtime = self.runtime.clone();
        // It reads certificates from disk.
        let url = self.url.clone();
        let made = tokio::task::spawn_blocking(move || client(&url, || Client::with_runtime_handle(runtime, settings)));
        let client = match made.await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(CallError::Broken(error)),
            Err(panicked) => return Err(CallError::Broken(format!("no client can be made: {panicked}"))),
        };
        let connected = Connected {
            client: Arc::new(client),
            number: self.made.fetch_add(1, Ordering::Relaxed) + 1,
        };
        current.client = Some(connected.clone());
        Ok(connected)
    }

    /// Nobody gets this client any more; calls that are under way on it may end well.
    async fn discard(&self, number: u64, why: &str) {
        let is_news = {
            let mut trouble = self.trouble();
            // Of the calls that a broken connection breaks only the first says something new.
            let is_news = trouble.failures == 0;
            if number >= trouble.failed {
                trouble.failed = number + 1;
                trouble.failures = trouble.failures.saturating_add(1);
                self.failed.send_replace(number);
            }
            trouble.last = Some(why.to_owned());
            is_news
        };
        if is_news {
            tracing::warn!(url = %self.url, error = why, "the KurrentDB does not answer as it should; connecting anew");
        }
        let mut current = self.current.lock().await;
        current.client.take_if(|connected| connected.number <= number);
    }

    /// The server does not let this node in, or not there. That is said once: it will be so for every call until
    /// somebody has changed something.
    fn denied(&self, right: Right) {
        let is_news = self.trouble().denied.insert(right);
        if is_news {
            tracing::warn!(url = %self.url, "{}", denial(right));
        }
    }

    fn allowed(&self, right: Right) {
        let is_news = self.trouble().denied.remove(&right);
        if is_news {
            tracing::info!(url = %self.url, "the KurrentDB lets this node {right} again");
        }
    }

    fn connection_is_well(&self, number: u64) {
        if self.seen_well.fetch_max(number, Ordering::Relaxed) < number {
            // Its connection is there now.
            self.runtime.spawn_blocking(send_at_once);
        }
        let mut trouble = self.trouble();
        if trouble.failures > 0 {
            tracing::info!(url = %self.url, "connected to the KurrentDB again");
        }
        trouble.failures = 0;
        trouble.last = None;
    }

    fn trouble(&self) -> std::sync::MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections() -> Connections {
        let url = KurrentDbUrl::parse("kurrentdb://svc:hush@127.0.0.1:1?tls=false").unwrap();
        Connections::new(url, Handle::current())
    }

    #[tokio::test]
    async fn a_call_that_may_be_long_leaves_the_client_to_others_when_it_is_late_and_any_other_does_not() {
        let connections = connections();
        let failed = connections.failed();
        let never = |_: Arc<Client>| std::future::pending::<Result<(), Error>>();
        let late = connections.long_call(JUDGING_DEADLINE, Right::ReadAll, never).await;
        assert!(matches!(late, Err(CallError::Broken(_))));
        assert!(!failed.has_changed().unwrap() && connections.trouble_now().is_none());
        let late = connections.call(JUDGING_DEADLINE, Right::ReadAll, never).await;
        assert!(matches!(late, Err(CallError::Broken(_))));
        assert!(failed.has_changed().unwrap() && connections.trouble_now().is_some());
    }

    #[tokio::test]
    async fn what_is_denied_is_known_until_it_is_allowed_again_whatever_else_is_allowed() {
        let connections = connections();
        let deny = |_| async { Err::<(), _>(Error::AccessDenied) };
        let allow = |_| async { Ok(()) };
        let patience = Duration::from_secs(60);
        connections.call(patience, Right::ReadAll, deny).await.unwrap_err();
        connections.call(patience, Right::Append, allow).await.unwrap();
        let trouble = connections.trouble_now().expect("it is denied");
        assert!(
            trouble.contains("access denied") && trouble.contains("read $all"),
            "{trouble}"
        );
        assert!(!trouble.contains("hush"), "{trouble}");
        connections.call(patience, Right::ReadAll, allow).await.unwrap();
        assert_eq!(connections.trouble_now(), None);
    }

    #[tokio::test]
    async fn a_denial_of_what_is_seldom_done_is_not_taken_for_why_a_node_does_not_know_the_clusters_end() {
        let connections = connections();
        let deny = |_| async { Err::<(), _>(Error::AccessDenied) };
        let patience = Duration::from_secs(60);
        for right in [Right::ReadStreams, Right::Append] {
            connections.call(patience, right, deny).await.unwrap_err();
            assert_eq!(connections.trouble_now(), None, "{right}");
        }
    }
}
