//! The check behind every test here: is what clients were told in the log, once?

use crate::log::Log;
use crate::told::{Change, ForwardedCall, Refusal, RequestName, Token, Told};
use grantlog_projections::Event;
use grantlog_projections::event::Via;
use grantlog_projections::recorded_event::RecordedEvent;

/// Problems that are listed.
const MOST: usize = 10;

/// `Err` says what is missing or too much.
pub fn check(log: &Log, told: &Told) -> Result<(), String> {
    let mut problems = told.wrong.clone();
    problems.extend(told.tokens.iter().filter_map(|token| token_problem(log, token)));
    problems.extend(told.refusals.iter().filter_map(|refusal| refusal_problem(log, refusal)));
    problems.extend(told.changes.iter().filter_map(|change| change_problem(log, change)));
    problems.extend(told.forwarded.iter().filter_map(|call| forwarded_problem(log, call)));
    problems.extend(told.first_unavailable.iter().flat_map(|failure| {
        let later = told
            .forwarded
            .iter()
            .filter(|call| call.asked > *failure && call.reached > 0);
        later.map(|call| format!("{} reached the API after the log had failed", call.request.0))
    }));
    problems.extend(told.first_unavailable.iter().flat_map(|failure| {
        let later = told.tokens.iter().filter(|token| token.asked > *failure);
        later.map(|token| format!("{} was granted a token after the log had failed", token.request.0))
    }));
    let (count, told) = (
        problems.len(),
        (told.tokens.len(), told.refusals.len(), told.changes.len()),
    );
    if count == 0 {
        return Ok(());
    }
    problems.truncate(MOST);
    let (tokens, refusals, changes) = told;
    Err(format!(
        "{count} problems; {tokens} tokens, {refusals} refusals and {changes} changes were answered, the log has {} \
         events:\n{}",
        log.events.len(),
        problems.join("\n")
    ))
}

fn token_problem(log: &Log, token: &Token) -> Option<String> {
    let about = |what: &str| Some(format!("the token {} of {} {what}", token.jti, token.client_id));
    match log.issued(token.jti) {
        [] => about("was received and is not in the log"),
        [index] => {
            let recorded = &log.events[*index as usize];
            match &recorded.envelope.event {
                Event::TokenIssued(issued)
                    if issued.application_uri.as_str() == token.client_id
                        && issued.token_hint == token.hint
                        && is_of(recorded, &token.request) =>
                {
                    None
                }
                _ => about(&format!("is recorded otherwise at {index}")),
            }
        }
        several => about(&format!("is in the log at {several:?}")),
    }
}

fn forwarded_problem(log: &Log, call: &ForwardedCall) -> Option<String> {
    let name = &call.request.0;
    let (mut authorized, mut denied) = (0, 0);
    for recorded in log.of_request(name) {
        match &recorded.envelope.event {
            Event::ApiCallAuthorized(fact) if fact.via == Via::Gateway => authorized += 1,
            Event::ApiCallDenied(fact) if fact.via == Via::Gateway => denied += 1,
            _ => {}
        }
    }
    match (call.reached, call.is_let_through, authorized, denied) {
        // Once is the most that it may have reached the API, and never without its event.
        (0 | 1, Some(true), 1, 0) | (0, Some(false), _, 1) => None,
        (1, None, 1, 0) => None,
        // Without an answer it may have ended anywhere before the API: as a call that was let through, and lost its
        // token while that was being recorded, with both on the record (that one would have been answered 401).
        (0, None, 0 | 1, 0 | 1) => None,
        (reached, is_let_through, ..) => Some(format!(
            "the call {name} reached the API {reached} times, was answered {is_let_through:?}, and is in the log as \
             let through {authorized} times and as denied {denied} times"
        )),
    }
}

fn refusal_problem(log: &Log, refusal: &Refusal) -> Option<String> {
    let recorded = log.of_request(&refusal.request.0).filter(
        |recorded| matches!(&recorded.envelope.event, Event::TokenRefused(refused) if refused.error == refusal.error),
    );
    match recorded.count() {
        1 => None,
        count => Some(format!(
            "the refusal of {} ({}) is in the log {count} times",
            refusal.request.0, refusal.error
        )),
    }
}

fn change_problem(log: &Log, change: &Change) -> Option<String> {
    let name = &change.request.0;
    let calls = log
        .of_request(name)
        .filter(|recorded| matches!(recorded.envelope.event, Event::ApiCallAuthorized(_)));
    let calls: Vec<u64> = calls.map(|recorded| recorded.index).collect();
    let [call] = calls[..] else {
        return Some(format!(
            "the call {name} was answered and is in the log {} times",
            calls.len()
        ));
    };
    let event_type = change.event_type?;
    let changes: Vec<&RecordedEvent> = log
        .of_request(name)
        .filter(|recorded| recorded.envelope.event.type_name() == event_type)
        .collect();
    match changes[..] {
        [recorded] if recorded.index < call => Some(format!("the {event_type} of {name} comes before its call")),
        [recorded] if change.revision.is_some_and(|revision| revision != recorded.revision) => Some(format!(
            "the {event_type} of {name} was answered as revision {:?} and is {}",
            change.revision, recorded.revision
        )),
        [_] => None,
        _ => Some(format!(
            "the {event_type} of {name} was answered and is in the log {} times",
            changes.len()
        )),
    }
}

fn is_of(recorded: &RecordedEvent, request: &RequestName) -> bool {
    let source = recorded.envelope.source.as_ref();
    source.and_then(|source| source.user_agent.as_deref()) == Some(request.0.as_str())
}

#[test]
fn a_call_that_reached_the_api_without_its_event_or_twice_is_noticed() {
    let call = |reached, is_let_through| Told {
        forwarded: vec![ForwardedCall {
            request: RequestName::next(),
            reached,
            is_let_through,
            asked: std::time::Instant::now(),
        }],
        ..Told::default()
    };
    let log = Log::default();
    for (reached, is_let_through) in [(1, None), (1, Some(true)), (2, None), (0, Some(true)), (1, Some(false))] {
        assert!(
            check(&log, &call(reached, is_let_through)).is_err(),
            "{reached} {is_let_through:?}"
        );
    }
    assert_eq!(check(&log, &call(0, None)), Ok(()));
}
