//! Three KurrentDB nodes and everything that can happen to their leader, while two Grantlog nodes are under load.

use crate::check::check;
use crate::clients::{AUDIENCE, Clients};
use crate::entered::Two;
use crate::log::Log;
use crate::random::{Random, rounds};
use crate::running_server::request_token;
use crate::site::{Site, register, text, until};
use crate::told::Told;
use grantlog_kurrentdb_double::{Cluster, Code, Delay, Loss, Options, Status, UnderWay};
use reqwest::StatusCode;
use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

/// The figure, from the moment at which there is a new leader.
const FLOWS_AGAIN: Duration = Duration::from_secs(5);
/// So often a leader may be late before that is believed.
const ATTEMPTS: usize = 3;
/// Clients of each node.
const CLIENTS: usize = 12;

fn three_nodes() -> Site {
    Site::on_double(Options {
        nodes: 3,
        election_delay: Duration::from_millis(500),
        system_event_every: Some(7),
        ..Options::default()
    })
}

/// What is done to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Killed(UnderWay),
    Demoted,
    Paused,
    ConnectionsCut,
    AnswersLost(Loss),
    AnswersReordered,
    CommitsDelayed,
    AppendsRefused,
    SubscriptionsEnded,
}

/// All of them, those first that there is a figure for.
const FAULTS: [Fault; 11] = [
    Fault::Killed(UnderWay::Committed),
    Fault::Killed(UnderWay::NotCommitted),
    Fault::Paused,
    Fault::Demoted,
    Fault::ConnectionsCut,
    Fault::AnswersLost(Loss::Reset),
    Fault::AnswersLost(Loss::Silence),
    Fault::AnswersReordered,
    Fault::CommitsDelayed,
    Fault::AppendsRefused,
    Fault::SubscriptionsEnded,
];

impl Fault {
    /// Does it, and undoes what would last. Gives the moment from which on there is a leader that nothing happens to,
    /// and a node that has to be brought back.
    async fn happen(self, cluster: &Cluster, random: &mut Random) -> (Instant, Option<usize>) {
        let mut to_restart = None;
        match self {
            Self::Killed(under_way) => {
                // So that there are appends under way, of whose end nobody is told.
                cluster.hold_appends();
                until("appends are under way", async || cluster.appends_under_way() > 0).await;
                to_restart = Some(cluster.kill_leader(under_way));
                cluster.release_appends();
                tokio::task::block_in_place(|| cluster.wait_for_leader());
            }
            Self::Demoted => {
                cluster.demote_leader();
            }
            Self::Paused => {
                let leader = cluster.wait_for_leader();
                cluster.pause(leader);
                to_restart = Some(leader);
                tokio::task::block_in_place(|| cluster.wait_for_leader());
            }
            Self::ConnectionsCut => cluster.cut_connections(),
            Self::AnswersLost(loss) => {
                cluster.lose_answers(1 + random.below(20), loss);
                tokio::time::sleep(random.millis(100, 400)).await;
                cluster.lose_answers(0, loss);
            }
            Self::AnswersReordered => {
                cluster.delay_answers(Delay::Random(Duration::ZERO..Duration::from_millis(60)));
                tokio::time::sleep(random.millis(200, 600)).await;
                cluster.delay_answers(Delay::None);
            }
            Self::CommitsDelayed => {
                cluster.delay_commits(Delay::Fixed(Duration::from_millis(30)));
                tokio::time::sleep(random.millis(200, 600)).await;
                cluster.delay_commits(Delay::None);
            }
            Self::AppendsRefused => {
                cluster.refuse_appends(1 + random.below(20), Status::new(Code::Unavailable, "not now"));
                tokio::time::sleep(random.millis(50, 200)).await;
                cluster.refuse_appends(0, Status::new(Code::Unavailable, "not now"));
            }
            Self::SubscriptionsEnded => cluster.end_subscriptions(),
        }
        (Instant::now(), to_restart)
    }

    /// Whether it makes a new leader.
    fn is_about_the_leader(self) -> bool {
        matches!(self, Self::Killed(_) | Self::Demoted | Self::Paused)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_becomes_of_the_leader_no_token_lacks_its_event_and_no_event_is_there_twice() {
    let mut random = Random::seeded("leader");
    let rounds = rounds(FAULTS.len() + 5);
    let two = Two::on(three_nodes(), "").await;
    let cluster = two.site.double();
    let administrator = two.administrator(0).await;
    let applications = two.site.applications(&administrator, 6).await;
    let made = register(&administrator, "probe").await;
    let secret = text(&made, "client_secret");
    let flows = async |at: usize| {
        let url = &two.servers[at].url;
        let answer = request_token(&two.http, url, "probe", secret, &[("audience", AUDIENCE)]).await;
        answer.0 == StatusCode::OK
    };
    until("the second node knows all", async || flows(1).await).await;

    let mut administrator = Some(administrator);
    let load: Vec<Clients> = [0, 1]
        .map(|at| {
            let url = &two.servers[at].url;
            Clients::start(
                &two.http,
                url,
                &applications,
                CLIENTS,
                administrator.take(),
                &mut random,
            )
        })
        .into();
    let mut times = Vec::new();
    let mut faults: VecDeque<Fault> = FAULTS.into();
    faults.extend((FAULTS.len()..rounds).map(|_| *random.pick(&FAULTS)));
    while let Some(fault) = faults.pop_front() {
        tokio::time::sleep(random.millis(50, 300)).await;
        let (since, to_restart) = fault.happen(cluster, &mut random).await;
        for at in [0, 1] {
            until("tokens flow again", async || flows(at).await).await;
        }
        let took = since.elapsed();
        times.push((fault, took));
        if let Some(node) = to_restart {
            cluster.restart(node);
        }
        // A machine with other work may be late once; what does not come back by itself is late each time.
        if fault.is_about_the_leader() && took >= FLOWS_AGAIN {
            let attempts = times
                .iter()
                .filter(|(of, took)| *of == fault && *took >= FLOWS_AGAIN)
                .count();
            assert!(
                attempts < ATTEMPTS,
                "{fault:?}: tokens flow {took:?} after there was a leader: {times:?}"
            );
            faults.push_front(fault);
        }
    }
    let mut told = Told::default();
    for clients in load {
        told.add_run(clients.stop().await);
    }
    for (fault, took) in &times {
        println!("{fault:?}: tokens flow after {took:?}");
    }

    let ids: Vec<_> = cluster.log().iter().map(|event| event.id).collect();
    assert_eq!(
        ids.iter().collect::<HashSet<_>>().len(),
        ids.len(),
        "an event is there twice"
    );
    let log: Log = two.site.log().await;
    check(&log, &told).unwrap_or_else(|problems| panic!("{problems}\n{times:?}"));
    // Both count every event as the double does, one after the other.
    two.same_checkpoint().await;
    println!(
        "{rounds} rounds: {} tokens, {} refusals, {} changes, {} answers 503, {} events, {} repeated appends",
        told.tokens.len(),
        told.refusals.len(),
        told.changes.len(),
        told.unavailable,
        log.events.len(),
        cluster.repeated_appends()
    );
    assert!(told.tokens.len() > rounds && told.changes.len() > rounds / 2);
    assert_eq!(told.broken_off, 0, "no Grantlog node has gone");
    for server in two.servers {
        assert_eq!(tokio::task::block_in_place(|| server.stop()).code(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_granted_and_with_it_tokens_flow_again() {
    let two = Two::on(three_nodes(), "max_staleness_seconds = 2\nappend_timeout_seconds = 2\n").await;
    let cluster = two.site.double();
    let administrator = two.administrator(0).await;
    let made = register(&administrator, "probe").await;
    let secret = text(&made, "client_secret");
    let ask = async |at: usize| {
        let url = &two.servers[at].url;
        request_token(&two.http, url, "probe", secret, &[("audience", AUDIENCE)])
            .await
            .0
    };
    for at in [0, 1] {
        until("tokens flow", async || ask(at).await == StatusCode::OK).await;
    }
    let first = cluster.kill_leader(UnderWay::NotCommitted);
    let second = cluster.wait_for_leader();
    cluster.kill(second, UnderWay::NotCommitted);
    let before = cluster.log().len();
    for at in [0, 1] {
        assert_eq!(ask(at).await, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(cluster.log().len(), before);
    cluster.restart(first);
    tokio::task::block_in_place(|| cluster.wait_for_leader());
    let since = Instant::now();
    for at in [0, 1] {
        until("tokens flow again", async || ask(at).await == StatusCode::OK).await;
    }
    println!("tokens flow {:?} after there is a majority", since.elapsed());
    two.same_checkpoint().await;
}
