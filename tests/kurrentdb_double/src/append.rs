//! An append's way: taken, perhaps held, committed by the leader, answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tonic::{Code, Status};

use crate::cluster::{Power, Shared, State};
use crate::entrance::EntranceInner;
use crate::faults::{Loss, UnderWay};
use crate::log::{Appended, ExpectedRevision, NewEvent};

/// An append as it came to a node.
pub(crate) struct Append {
    pub(crate) node: usize,
    /// Of the node, when the call came.
    pub(crate) incarnation: u64,
    pub(crate) entrance: Arc<EntranceInner>,
    pub(crate) requires_leader: bool,
    pub(crate) stream: String,
    pub(crate) expected: ExpectedRevision,
    pub(crate) events: Vec<NewEvent>,
}

/// One that was taken and is not committed.
pub(crate) struct Pending {
    append: Append,
    due: Instant,
    answer: oneshot::Sender<Outcome>,
}

/// What became of it, and how the client hears of it.
pub(crate) struct Outcome {
    pub(crate) result: Result<Appended, Status>,
    pub(crate) delay: Duration,
    pub(crate) loss: Option<Loss>,
}

impl Shared {
    /// Takes an append. What was taken is committed even when the client does not wait for it.
    pub(crate) async fn append(self: &Arc<Shared>, append: Append) -> Outcome {
        let answer = {
            let mut state = self.lock();
            if let Some(refusal) = state.faults.take_refusal() {
                return Outcome {
                    result: Err(refusal),
                    delay: Duration::ZERO,
                    loss: None,
                };
            }
            let delay = state.faults.commits.draw();
            let up = state.nodes[append.node].power == Power::Up;
            if delay.is_zero() && up && !state.faults.hold_appends {
                return self.commit(&mut state, &append);
            }
            let (answer, answered) = oneshot::channel();
            let number = state.next_pending;
            state.next_pending += 1;
            state.pending.insert(
                number,
                Pending {
                    append,
                    due: Instant::now() + delay,
                    answer,
                },
            );
            if !delay.is_zero() {
                let shared = Arc::downgrade(self);
                self.runtime.spawn(async move {
                    tokio::time::sleep(delay).await;
                    if let Some(shared) = shared.upgrade() {
                        let mut state = shared.lock();
                        shared.run_pending(&mut state);
                    }
                });
            }
            answered
        };
        answer.await.unwrap_or_else(|_| Outcome {
            result: Err(Status::unavailable("the node was killed")),
            delay: Duration::ZERO,
            loss: None,
        })
    }

    /// Commits what is due, in the order in which it came.
    pub(crate) fn run_pending(self: &Arc<Shared>, state: &mut State) {
        if state.faults.hold_appends {
            return;
        }
        let now = Instant::now();
        let due = |pending: &Pending| pending.due <= now && state.nodes[pending.append.node].power == Power::Up;
        let due: Vec<u64> = state
            .pending
            .iter()
            .filter(|(_, pending)| due(pending))
            .map(|(number, _)| *number)
            .collect();
        for number in due {
            if let Some(pending) = state.pending.remove(&number) {
                let outcome = self.commit(state, &pending.append);
                // Whoever is gone does not hear it.
                let _ = pending.answer.send(outcome);
            }
        }
    }

    /// What a killed node has taken.
    pub(crate) fn end_pending(self: &Arc<Shared>, state: &mut State, node: usize, under_way: UnderWay) {
        let of_node: Vec<u64> = state
            .pending
            .iter()
            .filter(|(_, pending)| pending.append.node == node)
            .map(|(number, _)| *number)
            .collect();
        for number in of_node {
            if let Some(pending) = state.pending.remove(&number)
                && under_way == UnderWay::Committed
            {
                // The answer goes with the node.
                let _ = self.commit(state, &pending.append);
            }
        }
    }

    fn commit(self: &Arc<Shared>, state: &mut State, append: &Append) -> Outcome {
        let before = self.log.read().len();
        let result = self.decide(state, append);
        let committed = matches!(result, Ok(Appended::Committed { .. }));
        let loss = if committed { state.faults.take_loss() } else { None };
        let confirmed_in = if committed {
            state.faults.confirmations.draw()
        } else {
            Duration::ZERO
        };
        if !confirmed_in.is_zero() {
            self.confirm_later(state, before, confirmed_in);
        }
        Outcome {
            result,
            delay: confirmed_in + state.faults.answers.draw(),
            loss,
        }
    }

    /// Nothing from `place` on is shown until this time is over.
    fn confirm_later(self: &Arc<Shared>, state: &mut State, place: usize, after: Duration) {
        let number = state.next_pending;
        state.next_pending += 1;
        state.unconfirmed.insert(number, (place, Instant::now() + after));
        let shared = Arc::downgrade(self);
        self.runtime.spawn(async move {
            tokio::time::sleep(after).await;
            if let Some(shared) = shared.upgrade() {
                shared.lock().unconfirmed.remove(&number);
                shared.touch();
            }
        });
    }

    fn decide(&self, state: &mut State, append: &Append) -> Result<Appended, Status> {
        let node = &state.nodes[append.node];
        if node.power == Power::Killed || node.incarnation != append.incarnation {
            return Err(Status::unavailable("the node was killed"));
        }
        require_leader(state, append.node, append.requires_leader, &append.entrance)?;
        if state.leader.is_none() {
            // A follower would hand it on.
            return Err(not_ready());
        }
        let remember = self.options.remember_ids;
        let appended = self
            .log
            .append(&append.stream, append.expected, &append.events, remember);
        if let Appended::Committed { repeated, .. } = appended {
            state.appends += 1;
            state.repeats += u64::from(repeated);
            if self
                .options
                .system_event_every
                .is_some_and(|every| state.appends.is_multiple_of(every.max(1)))
            {
                self.write_system_event();
            }
            self.touch();
        } else {
            *state.conflicts.entry(append.stream.clone()).or_default() += 1;
        }
        Ok(appended)
    }
}

/// Refuses a call that only the leader may answer, as the server does: with the leader's address, when there is one.
pub(crate) fn require_leader(
    state: &State,
    node: usize,
    required: bool,
    entrance: &EntranceInner,
) -> Result<(), Status> {
    if !required || state.leader == Some(node) {
        return Ok(());
    }
    let Some(leader) = state.leader else {
        return Err(not_ready());
    };
    let address = entrance.doors[leader].address();
    let mut status = Status::new(Code::NotFound, "Leader info available");
    let fields = [
        ("exception", "not-leader".to_owned()),
        ("leader-endpoint-host", address.ip().to_string()),
        ("leader-endpoint-port", address.port().to_string()),
    ];
    for (name, value) in fields {
        if let Ok(value) = value.parse() {
            status.metadata_mut().insert(name, value);
        }
    }
    Err(status)
}

fn not_ready() -> Status {
    Status::unavailable("Server Is Not Ready")
}
