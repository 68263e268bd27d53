//! The way back from the writer. Each append is answered for itself, but a thread on which many of them are
//! waited for is woken once per commit: to wake a sleeping thread is a system call, and more expensive than
//! everything else that an answer takes.
//!
//! ```text
//! writer ─> answers of one commit ─┬─> the mailbox of each waiting thread ─> its postman ─> the waiting tasks
//!                                  └─> a single answer, or no tokio runtime: straight to the waiting task
//! ```

use crate::event_store::{AppendError, Appended};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::runtime::{self, Handle};

pub(super) type Outcome = Result<Appended, AppendError>;

/// Both ends of one answer.
pub(super) fn answer() -> (Reply, Answer) {
    let pending = Arc::new(Mutex::new(Pending::Open(None)));
    (Reply(Some(pending.clone())), Answer(pending))
}

/// The writer's end.
pub(super) struct Reply(Option<Arc<Mutex<Pending>>>);

/// The caller's end. It may be dropped: the append takes place all the same.
pub(super) struct Answer(Arc<Mutex<Pending>>);

enum Pending {
    /// Not answered; who waits, if anybody does yet.
    Open(Option<Waiting>),
    Answered(Outcome),
    /// The answer has been taken, or nobody waits for it any more.
    Closed,
}

struct Waiting {
    task: Waker,
    mailbox: Option<Arc<Mailbox>>,
}

impl Reply {
    /// Answers, and leaves it to `wake_ups` to wake who waits.
    pub(super) fn send(mut self, outcome: Outcome, wake_ups: &mut WakeUps) {
        wake_ups.extend(self.take().and_then(|pending| settle(&pending, outcome)));
    }

    fn take(&mut self) -> Option<Arc<Mutex<Pending>>> {
        self.0.take()
    }
}

/// The writer answers whatever it has taken; it can only fail to by panicking.
impl Drop for Reply {
    fn drop(&mut self) {
        let unanswered = || Err(AppendError::Indeterminate("its writer has stopped".to_owned()));
        if let Some(waiting) = self.take().and_then(|pending| settle(&pending, unanswered())) {
            waiting.task.wake();
        }
    }
}

fn settle(pending: &Mutex<Pending>, outcome: Outcome) -> Option<Waiting> {
    let mut pending = lock(pending);
    match std::mem::replace(&mut *pending, Pending::Closed) {
        Pending::Open(waiting) => {
            *pending = Pending::Answered(outcome);
            waiting
        }
        Pending::Answered(_) | Pending::Closed => None,
    }
}

impl Future for Answer {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let mut pending = lock(&self.0);
        match std::mem::replace(&mut *pending, Pending::Closed) {
            Pending::Answered(outcome) => Poll::Ready(outcome),
            Pending::Open(waiting) => {
                *pending = Pending::Open(Some(match waiting {
                    Some(waiting) if waiting.task.will_wake(context.waker()) => waiting,
                    _ => Waiting {
                        task: context.waker().clone(),
                        mailbox: Mailbox::of_this_thread(),
                    },
                }));
                Poll::Pending
            }
            // A future that is polled after it was ready may do as it likes, but panic.
            Pending::Closed => Poll::Pending,
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        *lock(&self.0) = Pending::Closed;
    }
}

/// Who is to be woken after a commit.
#[derive(Default)]
pub(super) struct WakeUps {
    /// As many as there are threads that wait.
    by_mailbox: Vec<(Arc<Mailbox>, Vec<Waker>)>,
    without_mailbox: Vec<Waker>,
}

impl WakeUps {
    fn extend(&mut self, waiting: Option<Waiting>) {
        let Some(Waiting { task, mailbox }) = waiting else {
            return;
        };
        let Some(mailbox) = mailbox else {
            return self.without_mailbox.push(task);
        };
        match self
            .by_mailbox
            .iter_mut()
            .find(|(known, _)| Arc::ptr_eq(known, &mailbox))
        {
            Some((_, tasks)) => tasks.push(task),
            None => self.by_mailbox.push((mailbox, vec![task])),
        }
    }

    /// Wakes everybody.
    pub(super) fn wake(self) {
        self.without_mailbox.into_iter().for_each(Waker::wake);
        for (mailbox, tasks) in self.by_mailbox {
            mailbox.deliver(tasks);
        }
    }
}

/// Tasks to be woken by a thread itself: by the postman, a task that runs there.
struct Mailbox(Mutex<Mail>);

#[derive(Default)]
struct Mail {
    tasks: Vec<Waker>,
    postman: Option<Waker>,
    /// The runtime has ended and its postman with it.
    is_closed: bool,
}

thread_local! {
    /// The mailbox of the runtime that last waited on this thread.
    static MAILBOX: RefCell<Option<(runtime::Id, Arc<Mailbox>)>> = const { RefCell::new(None) };
}

impl Mailbox {
    /// `None` outside of a tokio runtime.
    fn of_this_thread() -> Option<Arc<Self>> {
        let handle = Handle::try_current().ok()?;
        // Fails only while the thread ends.
        MAILBOX
            .try_with(|known| Self::known_or_new(&mut known.borrow_mut(), &handle))
            .ok()
    }

    fn known_or_new(known: &mut Option<(runtime::Id, Arc<Self>)>, handle: &Handle) -> Arc<Self> {
        if let Some((runtime, mailbox)) = known
            && *runtime == handle.id()
            && !lock(&mailbox.0).is_closed
        {
            return mailbox.clone();
        }
        let mailbox = Arc::new(Self(Mutex::default()));
        handle.spawn(Postman(mailbox.clone()));
        *known = Some((handle.id(), mailbox.clone()));
        mailbox
    }

    fn deliver(&self, mut tasks: Vec<Waker>) {
        let mut mail = lock(&self.0);
        // One alone is not worth the detour.
        if mail.is_closed || tasks.len() == 1 {
            drop(mail);
            return tasks.into_iter().for_each(Waker::wake);
        }
        mail.tasks.append(&mut tasks);
        // A postman that has not run yet finds the mail when it does.
        if let Some(postman) = mail.postman.take() {
            drop(mail);
            postman.wake();
        }
    }
}

/// Wakes the tasks in the mailbox for as long as its runtime lives.
struct Postman(Arc<Mailbox>);

impl Future for Postman {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let tasks = {
            let mut mail = lock(&self.0.0);
            mail.postman = Some(context.waker().clone());
            std::mem::take(&mut mail.tasks)
        };
        tasks.into_iter().for_each(Waker::wake);
        Poll::Pending
    }
}

impl Drop for Postman {
    fn drop(&mut self) {
        let tasks = {
            let mut mail = lock(&self.0.0);
            mail.is_closed = true;
            std::mem::take(&mut mail.tasks)
        };
        tasks.into_iter().for_each(Waker::wake);
    }
}

/// Nobody panics with one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    const OUTCOME: Outcome = Ok(Appended {
        first_index: 7,
        last_index: 7,
        revision: 3,
    });

    fn send(replies: Vec<Reply>) {
        let mut wake_ups = WakeUps::default();
        replies.into_iter().for_each(|reply| reply.send(OUTCOME, &mut wake_ups));
        wake_ups.wake();
    }

    /// Answers that tasks of their own wait for, and the replies.
    async fn awaited(count: usize) -> (Vec<tokio::task::JoinHandle<Outcome>>, Vec<Reply>) {
        let (replies, answers): (Vec<_>, Vec<_>) = (0..count).map(|_| answer()).unzip();
        let tasks = answers.into_iter().map(tokio::spawn).collect();
        tokio::time::sleep(Duration::from_millis(20)).await;
        (tasks, replies)
    }

    async fn every_task_is_answered() {
        for count in [1, 2, 100] {
            let (tasks, replies) = awaited(count).await;
            std::thread::spawn(|| send(replies)).join().unwrap();
            for task in tasks {
                assert_eq!(task.await.unwrap(), OUTCOME);
            }
        }
    }

    #[tokio::test]
    async fn every_waiting_task_of_one_thread_is_answered() {
        every_task_is_answered().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn every_waiting_task_of_several_threads_is_answered() {
        every_task_is_answered().await;
    }

    #[tokio::test]
    async fn an_answer_that_was_there_before_anybody_asked_is_found() {
        let (reply, answer) = answer();
        send(vec![reply]);
        assert_eq!(answer.await, OUTCOME);
    }

    #[tokio::test]
    async fn tasks_that_have_given_up_keep_no_other_waiting() {
        let (mut tasks, replies) = awaited(8).await;
        for gone in tasks.drain(..7) {
            gone.abort();
            assert!(gone.await.unwrap_err().is_cancelled());
        }
        std::thread::spawn(|| send(replies)).join().unwrap();
        assert_eq!(tasks.remove(0).await.unwrap(), OUTCOME);
    }

    #[test]
    fn a_runtime_that_ends_takes_nobody_elses_answers_along() {
        let runtime = || {
            tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap()
        };
        for _ in 0..3 {
            // On one thread: each runtime needs a postman of its own.
            runtime().block_on(every_task_is_answered());
        }
        let (replies, answers): (Vec<_>, Vec<_>) = (0..3).map(|_| answer()).unzip();
        let counter = Arc::new(Counter::default());
        let mut answers: Vec<_> = answers.into_iter().map(Box::pin).collect();
        let ended = runtime();
        ended.block_on(async {
            for answer in &mut answers {
                assert!(
                    answer
                        .as_mut()
                        .poll(&mut Context::from_waker(&counter.clone().into()))
                        .is_pending()
                );
            }
        });
        drop(ended);
        send(replies);
        assert_eq!(counter.0.load(Ordering::SeqCst), 3);
        assert!(answers.into_iter().all(|answer| answer.now_or_never() == Some(OUTCOME)));
    }

    #[test]
    fn without_a_runtime_the_task_is_woken_directly() {
        let (reply, answer) = answer();
        let mut answer = Box::pin(answer);
        let counter = Arc::new(Counter::default());
        assert!(
            answer
                .as_mut()
                .poll(&mut Context::from_waker(&counter.clone().into()))
                .is_pending()
        );
        send(vec![reply]);
        assert_eq!(counter.0.load(Ordering::SeqCst), 1);
        assert_eq!(answer.now_or_never(), Some(OUTCOME));
    }

    #[tokio::test]
    async fn a_writer_that_is_gone_leaves_the_outcome_open() {
        let (tasks, replies) = awaited(2).await;
        drop(replies);
        for task in tasks {
            assert!(matches!(task.await.unwrap(), Err(AppendError::Indeterminate(_))));
        }
    }

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}
