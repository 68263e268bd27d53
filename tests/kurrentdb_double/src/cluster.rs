//! A cluster and everything that can be done to it while it runs.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::Status;
use uuid::Uuid;

use crate::append::Pending;
use crate::door::{Access, Closing};
use crate::entrance::{Entrance, EntranceInner};
use crate::faults::{Delay, Faults, Loss, UnderWay};
use crate::log::{Appended, ExpectedRevision, Log, LoggedEvent, NewEvent};
use crate::tls::Tls;

/// How long [`Cluster::wait_for_leader`] waits before it panics.
const PATIENCE: Duration = Duration::from_secs(60);

/// Threads that serve all nodes.
const SERVING_THREADS: usize = 2;

/// How a cluster starts.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many nodes. More than half of them must be up for there to be a leader.
    pub nodes: usize,
    /// The first node's port, the others follow it; 0 for any that are free.
    pub port_base: u16,
    /// Whether connections are encrypted and who may make them.
    pub security: Security,
    /// From the loss of a leader to the next one. For the first half of it, gossip has not noticed.
    pub election_delay: Duration,
    /// The most that one append may hold, in bytes of event bodies and types.
    pub max_append_bytes: usize,
    /// Calls that a client may have open on one connection, subscriptions among them.
    pub max_calls_per_connection: u32,
    /// Whether a repeated append that expects any revision is recognised, as far as the ids are remembered. The real
    /// server does its best and promises nothing.
    pub remember_ids: bool,
    /// After how many appends the server writes an event of its own, as the real one writes statistics.
    pub system_event_every: Option<u64>,
    /// Whether TCP may take its time to acknowledge, as it does for the real server. The client leaves Nagle's
    /// algorithm on, and the two of them together hold appends on a busy connection up for 40 ms each.
    pub delayed_acknowledgements: bool,
    /// What the log begins with, behind the server's own first event: each stream's name and an event for it. It is
    /// there before anybody can connect, as after a backup was restored.
    pub restored: Vec<(String, NewEvent)>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            nodes: 1,
            port_base: 0,
            security: Security::default(),
            election_delay: Duration::from_secs(1),
            max_append_bytes: 1024 * 1024,
            max_calls_per_connection: 100,
            remember_ids: true,
            system_event_every: None,
            delayed_acknowledgements: false,
            restored: Vec::new(),
        }
    }
}

/// Whether connections are encrypted and who may make them.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// TLS, with certificates made for this cluster.
    pub tls: bool,
    /// The one user and its password; with TLS, the user's certificate does as well. `None` lets everyone in.
    pub user: Option<(String, String)>,
}

/// How often a node was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// For the members of the cluster.
    pub gossip: u64,
    /// For what it can do, which a client asks when it connects.
    pub server_features: u64,
    /// To append.
    pub appends: u64,
    /// To read or to follow.
    pub reads: u64,
}

/// Nodes on `127.0.0.1` with one log in memory, served by threads of their own until it is dropped.
pub struct Cluster {
    shared: Arc<Shared>,
    main: Entrance,
    runtime: Option<Runtime>,
}

impl Cluster {
    /// Starts the nodes; the first one is the leader. They are served when this returns.
    pub fn start(options: Options) -> anyhow::Result<Cluster> {
        anyhow::ensure!(options.nodes > 0, "a cluster has at least one node");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(SERVING_THREADS)
            .thread_name("kurrentdb-double")
            .enable_all()
            .build()?;
        let tls = options
            .security
            .tls
            .then(Tls::generate)
            .transpose()
            .context("generating certificates")?;
        let nodes = (0..options.nodes).map(|_| Node::default()).collect();
        let shared = Arc::new(Shared {
            log: Log::default(),
            state: Mutex::new(State {
                nodes,
                leader: Some(0),
                election: None,
                elections: 0,
                election_delay: None,
                lost: None,
                faults: Faults::default(),
                pending: std::collections::BTreeMap::new(),
                unconfirmed: std::collections::BTreeMap::new(),
                next_pending: 0,
                appends: 0,
                repeats: 0,
                conflicts: HashMap::new(),
                entrances: Vec::new(),
                password: None,
            }),
            counters: (0..options.nodes).map(|_| Counters::default()).collect(),
            changed: watch::channel(0).0,
            subscriptions: AtomicU64::new(0),
            checkpoints: AtomicU64::new(0),
            last_checkpoint: AtomicU64::new(0),
            runtime: runtime.handle().clone(),
            tls,
            options,
        });
        shared.write_system_event();
        for (stream, event) in &shared.options.restored {
            let event = std::slice::from_ref(event);
            let remember = shared.options.remember_ids;
            shared.log.append(stream, ExpectedRevision::Any, event, remember);
        }
        let main = EntranceInner::open(&shared, "main", shared.options.port_base)?;
        Ok(Cluster {
            shared,
            main,
            runtime: Some(runtime),
        })
    }

    /// Names all nodes, with what else a client needs: TLS, user, certificate authority.
    pub fn connection_string(&self) -> String {
        self.main.connection_string()
    }

    /// The addresses that [`Cluster::connection_string`] names, with those who come by them.
    pub fn main_entrance(&self) -> Entrance {
        self.main.clone()
    }

    /// Further addresses of the same nodes. Gossip and not-leader errors that come through it name its own addresses
    /// alone, so that whoever uses it can be cut off without touching anybody else.
    pub fn entrance(&self, name: &str) -> anyhow::Result<Entrance> {
        EntranceInner::open(&self.shared, name, 0)
    }

    /// The authority's certificate, with TLS.
    pub fn certificate_authority(&self) -> Option<PathBuf> {
        self.shared.tls.as_ref().map(Tls::authority)
    }

    /// A user's certificate and its key, with TLS.
    pub fn user_certificate(&self) -> Option<(PathBuf, PathBuf)> {
        self.shared
            .tls
            .as_ref()
            .map(|tls| (tls.user_certificate(), tls.user_key()))
    }

    /// How many nodes there are, up or not.
    pub fn nodes(&self) -> usize {
        self.shared.options.nodes
    }

    /// The present leader, when there is one.
    pub fn leader(&self) -> Option<usize> {
        self.shared.lock().leader
    }

    /// Waits until there is a leader.
    pub fn wait_for_leader(&self) -> usize {
        let started = Instant::now();
        loop {
            if let Some(leader) = self.leader() {
                return leader;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "no leader was elected: is more than half of the nodes up?"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends a node: its connections are reset, new ones are refused, what it has taken and not answered is committed
    /// or not.
    pub fn kill(&self, node: usize, under_way: UnderWay) {
        self.shared.change_power(node, Power::Killed, under_way);
    }

    /// Kills the leader and says which one it was.
    ///
    /// # Panics
    /// When there is none.
    pub fn kill_leader(&self, under_way: UnderWay) -> usize {
        let leader = self.leader().expect("there is a leader to be killed");
        self.kill(leader, under_way);
        leader
    }

    /// Stops a node as a stopped process is: it accepts connections and never answers. A leader that is paused loses
    /// its office.
    pub fn pause(&self, node: usize) {
        self.shared.change_power(node, Power::Paused, UnderWay::NotCommitted);
    }

    /// Lets a paused node go on, where it stood.
    pub fn resume(&self, node: usize) {
        self.shared.change_power(node, Power::Up, UnderWay::NotCommitted);
    }

    /// Starts a killed node again, at its old address.
    pub fn restart(&self, node: usize) {
        self.shared.change_power(node, Power::Up, UnderWay::NotCommitted);
    }

    /// Makes another node the leader at once. The old one stays as a follower and answers `not-leader`.
    ///
    /// # Panics
    /// When no other node could lead.
    pub fn demote_leader(&self) -> usize {
        let mut state = self.shared.lock();
        let old = state.leader.take();
        let new = state
            .candidate(old)
            .filter(|new| Some(*new) != old)
            .expect("another node is up and has everything");
        state.leader = Some(new);
        self.shared.run_pending(&mut state);
        drop(state);
        self.shared.touch();
        new
    }

    /// Stops a follower from seeing what is committed from now on.
    pub fn hold_replication(&self, node: usize) {
        let len = self.shared.log.read().len();
        self.shared.lock().nodes[node].replicated = Some(len);
    }

    /// Lets it see everything again.
    pub fn release_replication(&self, node: usize) {
        let mut state = self.shared.lock();
        state.nodes[node].replicated = None;
        self.shared.settle(&mut state);
        drop(state);
        self.shared.touch();
    }

    /// Resets all connections, at all entrances. Clients may connect again at once.
    pub fn cut_connections(&self) {
        (0..self.nodes()).for_each(|node| self.cut_connections_of(node));
    }

    /// Resets the connections of one node.
    pub fn cut_connections_of(&self, node: usize) {
        for entrance in &self.shared.lock().entrances {
            entrance.doors[node].cut();
        }
    }

    /// How long each append waits before it is committed, as for other nodes to confirm it. With a fixed delay the
    /// order stays.
    pub fn delay_commits(&self, delay: Delay) {
        self.shared.lock().faults.commits = delay;
    }

    /// How long each append waits for other nodes to confirm it after the leader has written it: it is neither shown
    /// nor answered so long, and another append that expects the same revision is refused at once because of it, as by
    /// the server.
    pub fn delay_confirmations(&self, delay: Delay) {
        self.shared.lock().faults.confirmations = delay;
    }

    /// How long the answer of each append waits after it was committed.
    pub fn delay_answers(&self, delay: Delay) {
        self.shared.lock().faults.answers = delay;
    }

    /// How long each read waits, and each subscription before it is confirmed.
    pub fn delay_reads(&self, delay: Delay) {
        self.shared.lock().faults.reads = delay;
    }

    /// From now on a filtered read of `$all` that has delivered all it was asked for does not end: the server first
    /// looks through what is behind for one event more, and that may be much.
    pub fn hold_ends_of_reads(&self) {
        self.shared.lock().faults.hold_ends_of_reads = true;
    }

    /// Appends are taken and neither committed nor answered until they are released.
    pub fn hold_appends(&self) {
        self.shared.lock().faults.hold_appends = true;
    }

    /// Commits the held appends in the order in which they came.
    pub fn release_appends(&self) {
        let mut state = self.shared.lock();
        state.faults.hold_appends = false;
        self.shared.run_pending(&mut state);
        drop(state);
        self.shared.touch();
    }

    /// How many appends were taken and are not committed.
    pub fn appends_under_way(&self) -> usize {
        self.shared.lock().pending.len()
    }

    /// Commits the next `times` appends and loses their answers.
    pub fn lose_answers(&self, times: usize, loss: Loss) {
        self.shared.lock().faults.lose_answers = (times > 0).then_some((times, loss));
    }

    /// Answers the next `times` appends with this status and does not commit them.
    pub fn refuse_appends(&self, times: usize, status: Status) {
        self.shared.lock().faults.refuse_appends = (times > 0).then_some((times, status));
    }

    /// Ends every subscription that there is, without an error: a server that shuts down does so.
    pub fn end_subscriptions(&self) {
        self.shared.lock().faults.ended_subscriptions += 1;
        self.shared.touch();
    }

    /// From now on subscriptions stay open and silent, while appends and reads work.
    pub fn stall_subscriptions(&self) {
        self.shared.lock().faults.stall_subscriptions = true;
    }

    /// Lets them go on where they stood.
    pub fn release_subscriptions(&self) {
        self.shared.lock().faults.stall_subscriptions = false;
        self.shared.touch();
    }

    /// How long the next elections take.
    pub fn set_election_delay(&self, delay: Duration) {
        self.shared.lock().election_delay = Some(delay);
    }

    /// Every event that clients have appended, in the order of the log. What the server wrote itself is left out.
    pub fn log(&self) -> Vec<LoggedEvent> {
        let reader = self.shared.log.read();
        let events = (0..reader.len()).filter_map(|place| reader.logged(place));
        events.filter(|event| !event.stream.starts_with('$')).collect()
    }

    /// Appends without a connection, as when a test needs a log that is there already.
    pub fn append(&self, stream: &str, expected: ExpectedRevision, events: &[NewEvent]) -> Appended {
        let appended = self
            .shared
            .log
            .append(stream, expected, events, self.shared.options.remember_ids);
        self.shared.touch();
        appended
    }

    /// How many repeated appends were recognised and not written again.
    pub fn repeated_appends(&self) -> u64 {
        self.shared.lock().repeats
    }

    /// How many appends to a stream were refused because it was at another revision.
    pub fn conflicts(&self, stream: &str) -> u64 {
        self.shared.lock().conflicts.get(stream).copied().unwrap_or(0)
    }

    /// Gives the one user another password: from now on nobody is let in with the old one.
    pub fn change_password(&self, password: &str) {
        self.shared.lock().password = Some(password.to_owned());
    }

    /// How many places without an event subscriptions were told of, all together.
    pub fn checkpoints(&self) -> u64 {
        self.shared.checkpoints.load(Ordering::SeqCst)
    }

    /// The newest of these places, by position; 0 before the first.
    pub fn last_checkpoint(&self) -> u64 {
        self.shared.last_checkpoint.load(Ordering::SeqCst)
    }

    /// How many subscriptions there are.
    pub fn subscriptions(&self) -> u64 {
        self.shared.subscriptions.load(Ordering::SeqCst)
    }

    /// How often a node was asked since the start.
    pub fn calls(&self, node: usize) -> Calls {
        self.shared.counters[node].read()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let entrances: Vec<_> = self.shared.lock().entrances.drain(..).collect();
        let doors = entrances.iter().flat_map(|entrance| &entrance.doors);
        let closing: Vec<Closing> = doors.filter_map(|door| door.set(Access::Shut).ok()).collect();
        closing.into_iter().for_each(Closing::wait);
        if let Some(runtime) = self.runtime.take() {
            // Also where waiting is not allowed, as in a test that is asynchronous.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Cluster")
            .field("nodes", &self.nodes())
            .finish_non_exhaustive()
    }
}

/// What all nodes and entrances share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) log: Log,
    pub(crate) counters: Vec<Counters>,
    /// Told whenever something has changed that a subscription may wait for.
    pub(crate) changed: watch::Sender<u64>,
    pub(crate) subscriptions: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    /// The newest of them.
    pub(crate) last_checkpoint: AtomicU64,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) tls: Option<Tls>,
    state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) nodes: Vec<Node>,
    pub(crate) leader: Option<usize>,
    /// The election that is going on.
    election: Option<u64>,
    elections: u64,
    election_delay: Option<Duration>,
    /// The leader that was lost last, and when.
    lost: Option<(usize, Instant)>,
    pub(crate) faults: Faults,
    /// Appends that were taken and are not committed, in the order in which they came.
    pub(crate) pending: std::collections::BTreeMap<u64, Pending>,
    pub(crate) next_pending: u64,
    /// Appends that the leader has written and no other node has confirmed: by number, where they begin in the log and
    /// until when that is so.
    pub(crate) unconfirmed: std::collections::BTreeMap<u64, (usize, Instant)>,
    pub(crate) appends: u64,
    pub(crate) repeats: u64,
    /// How often an append was refused because its stream was at another revision.
    pub(crate) conflicts: HashMap<String, u64>,
    pub(crate) entrances: Vec<Arc<EntranceInner>>,
    /// The user's, when it is no longer the one of the start.
    pub(crate) password: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) id: Uuid,
    pub(crate) power: Power,
    /// How often it was started.
    pub(crate) incarnation: u64,
    /// How much of the log it sees; `None` is all.
    pub(crate) replicated: Option<usize>,
}

impl Default for Node {
    fn default() -> Node {
        Node {
            id: Uuid::new_v4(),
            power: Power::Up,
            incarnation: 0,
            replicated: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Power {
    Up,
    Paused,
    Killed,
}

/// What gossip says of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Leader,
    Follower,
    CatchingUp,
    /// There is no leader.
    Unknown,
    Dead,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) gossip: AtomicU64,
    pub(crate) server_features: AtomicU64,
    pub(crate) appends: AtomicU64,
    pub(crate) reads: AtomicU64,
}

impl Counters {
    fn read(&self) -> Calls {
        Calls {
            gossip: self.gossip.load(Ordering::Relaxed),
            server_features: self.server_features.load(Ordering::Relaxed),
            appends: self.appends.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed),
        }
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it was held has failed the test already.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn touch(&self) {
        self.changed.send_modify(|times| *times = times.wrapping_add(1));
    }

    pub(crate) fn write_system_event(&self) {
        let event = NewEvent {
            id: Uuid::new_v4(),
            event_type: "$statsCollected".into(),
            content_type: "application/json".into(),
            data: "{}".into(),
            custom_metadata: Default::default(),
        };
        self.log
            .append("$stats-127.0.0.1:2113", ExpectedRevision::Any, &[event], false);
    }

    fn change_power(self: &Arc<Shared>, node: usize, power: Power, under_way: UnderWay) {
        let mut state = self.lock();
        if power == Power::Killed {
            self.end_pending(&mut state, node, under_way);
        }
        let of_node = &mut state.nodes[node];
        if of_node.power == Power::Killed && power == Power::Up {
            of_node.incarnation += 1;
        }
        of_node.power = power;
        self.settle(&mut state);
        let entrances = state.entrances.clone();
        let closing: Vec<Closing> = entrances.iter().map(|entrance| entrance.apply(node, power)).collect();
        self.run_pending(&mut state);
        drop(state);
        closing.into_iter().for_each(Closing::wait);
        self.touch();
    }

    /// Ends the leader's office when it cannot lead any longer, and has another one elected when one can.
    pub(crate) fn settle(self: &Arc<Shared>, state: &mut State) {
        let quorum = state.has_quorum();
        if let Some(leader) = state.leader
            && !(quorum && state.nodes[leader].power == Power::Up)
        {
            state.leader = None;
            state.lost = Some((leader, Instant::now()));
        }
        if state.leader.is_some() || !quorum {
            state.election = None;
        } else if state.election.is_none() && state.candidate(None).is_some() {
            state.elections += 1;
            let election = state.elections;
            state.election = Some(election);
            let delay = self.election_delay(state);
            let shared = Arc::downgrade(self);
            self.runtime.spawn(async move {
                tokio::time::sleep(delay).await;
                if let Some(shared) = shared.upgrade() {
                    shared.elect(election);
                }
            });
        }
    }

    fn elect(&self, election: u64) {
        let mut state = self.lock();
        if state.election == Some(election) {
            state.election = None;
            let before = state.lost.map(|(leader, _)| leader);
            state.leader = state.candidate(before);
            drop(state);
            self.touch();
        }
    }

    fn election_delay(&self, state: &State) -> Duration {
        state.election_delay.unwrap_or(self.options.election_delay)
    }

    /// What the nodes know of a node.
    pub(crate) fn standing(&self, state: &State, node: usize) -> Standing {
        let unnoticed = self.election_delay(state) / 2;
        if state.leader.is_none()
            && let Some((lost, since)) = state.lost
            && since.elapsed() < unnoticed
        {
            return if node == lost {
                Standing::Leader
            } else {
                Standing::Follower
            };
        }
        let of_node = &state.nodes[node];
        match (of_node.power, state.leader) {
            (Power::Paused | Power::Killed, _) => Standing::Dead,
            (Power::Up, Some(leader)) if leader == node => Standing::Leader,
            (Power::Up, _) if of_node.replicated.is_some() => Standing::CatchingUp,
            (Power::Up, Some(_)) => Standing::Follower,
            (Power::Up, None) => Standing::Unknown,
        }
    }
}

impl State {
    /// How much of the log a node shows: what it has, up to the first append that is not confirmed.
    pub(crate) fn shown(&self, node: usize) -> usize {
        let replicated = self.nodes[node].replicated.unwrap_or(usize::MAX);
        let now = Instant::now();
        let unconfirmed = self.unconfirmed.values().filter(|(_, until)| *until > now);
        unconfirmed.map(|(place, _)| *place).fold(replicated, usize::min)
    }

    fn has_quorum(&self) -> bool {
        let up = self.nodes.iter().filter(|node| node.power == Power::Up).count();
        up * 2 > self.nodes.len()
    }

    /// Who would lead now: the next one behind `old` that is up and has the whole log.
    fn candidate(&self, old: Option<usize>) -> Option<usize> {
        let count = self.nodes.len();
        let first = old.map_or(0, |old| old + 1);
        (first..first + count)
            .map(|node| node % count)
            .find(|node| self.nodes[*node].power == Power::Up && self.nodes[*node].replicated.is_none())
    }
}
