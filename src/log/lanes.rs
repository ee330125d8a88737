//! Where pumps read and write: a few blocking threads that take turns at all logs. What is asked for at one moment is done by one
//! thread in a row, so under load a round costs no switch of threads, and memory grows with the threads, not with the containers.
//!
//! What they have done is told together too, when nothing waits any more: telling one at a time would wake the runtime as often.
//!
//! While any are at work, somebody looks each [`PATIENCE`]. When nothing has been begun for so long and more waits, one more thread is
//! let in: the others are held up by a disk, which must not stop logs elsewhere. Threads that are only busy come to everything in
//! time: many logs at once are no reason for more.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// Threads at work while nothing holds them up.
const LANES: usize = 2;
/// How long work may wait while nothing is begun, before one more thread takes it; at most twice that.
const PATIENCE: Duration = Duration::from_millis(50);

/// What is read and converted into, lent to each piece of work in turn. It is empty then, and may be left with anything.
#[derive(Default)]
pub(super) struct Buffers {
    pub(super) read: Vec<u8>,
    pub(super) converted: Vec<u8>,
}

/// A piece of work; it gives what is to be called to tell that it is done, if anybody waits for that.
type Job = Box<dyn FnOnce(&mut Buffers) -> Option<Telling> + Send>;
type Telling = Box<dyn FnOnce() + Send>;

/// The threads and what waits for them.
#[derive(Default)]
pub(super) struct Lanes {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Done and not told.
    done: Vec<Telling>,
    lanes: usize,
    /// When work was begun last, or a thread let in that will.
    begun: Option<Instant>,
    /// Whether somebody looks.
    watched: bool,
}

impl Lanes {
    /// Runs something that may block. None when that has died.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce(&mut Buffers) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        let job = move |buffers: &mut Buffers| {
            let outcome = act(buffers);
            // whoever asked may have gone away
            Some(Box::new(move || drop(sender.send(outcome))) as Telling)
        };
        self.take_in(Box::new(job));
        answer.await.ok()
    }

    /// Runs something that may block, and that nobody waits for.
    pub(super) fn push(self: &Arc<Self>, act: impl FnOnce(&mut Buffers) + Send + 'static) {
        self.take_in(Box::new(|buffers| {
            act(buffers);
            None
        }));
    }

    fn take_in(self: &Arc<Self>, job: Job) {
        let mut queue = self.queue();
        queue.jobs.push_back(job);
        if queue.lanes < LANES {
            self.open_lane(&mut queue);
        }
        if !std::mem::replace(&mut queue.watched, true) {
            tokio::spawn(self.clone().watch());
        }
    }

    /// Lets in one more thread.
    fn open_lane(self: &Arc<Self>, queue: &mut Queue) {
        queue.lanes += 1;
        queue.begun = Some(Instant::now());
        let lanes = self.clone();
        tokio::task::spawn_blocking(move || lanes.work());
    }

    /// Looks after threads that are held up, as long as any are at work.
    async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(PATIENCE).await;
            self.tell();
            let mut queue = self.queue();
            if queue.lanes == 0 {
                queue.watched = false;
                return;
            }
            if !queue.jobs.is_empty() && queue.begun.is_none_or(|at| at.elapsed() >= PATIENCE) {
                self.open_lane(&mut queue);
            }
        }
    }

    /// Does what waits until nothing does.
    fn work(&self) {
        let mut buffers = Buffers::default();
        while let Some(job) = self.next() {
            // the asker of one that dies notices it
            if let Ok(Some(telling)) = catch_unwind(AssertUnwindSafe(|| job(&mut buffers))) {
                self.queue().done.push(telling);
            }
        }
        self.tell();
    }

    /// Tells what is done.
    fn tell(&self) {
        let done = std::mem::take(&mut self.queue().done);
        done.into_iter().for_each(|telling| telling());
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue();
        let job = queue.jobs.pop_front();
        match job {
            Some(_) => queue.begun = Some(Instant::now()),
            None => queue.lanes -= 1,
        }
        job
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn what_is_held_up_does_not_hold_up_the_rest() {
        let lanes = Arc::<Lanes>::default();
        let stuck: Vec<_> = (0..3 * LANES)
            .map(|_| {
                let (go, wait) = mpsc::channel::<()>();
                let lanes = lanes.clone();
                (go, tokio::spawn(async move { lanes.run(move |_| wait.recv().is_ok()).await }))
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(lanes.run(|_| 1).await, Some(1));
        for (go, task) in stuck {
            go.send(()).unwrap();
            assert_eq!(task.await.unwrap(), Some(true));
        }
        while lanes.queue().lanes > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn many_at_once_are_no_reason_for_more_threads() {
        let (lanes, at_work, most) =
            (Arc::<Lanes>::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let tasks: Vec<_> = (0..30 * LANES)
            .map(|_| {
                let (lanes, at_work, most) = (lanes.clone(), at_work.clone(), most.clone());
                let act = move |_: &mut Buffers| {
                    most.fetch_max(at_work.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    std::thread::sleep(PATIENCE / 10);
                    at_work.fetch_sub(1, Ordering::Relaxed);
                };
                tokio::spawn(async move { lanes.run(act).await })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), Some(()));
        }
        // a busy machine may look like a disk that is stuck
        assert!((1..=LANES + 2).contains(&most.load(Ordering::Relaxed)), "{most:?} threads");
    }

    #[tokio::test]
    async fn what_is_done_is_told_though_its_thread_is_held_up_by_the_next() {
        let lanes = Arc::<Lanes>::default();
        let gates: Vec<_> = (0..2 * LANES).map(|_| mpsc::channel::<()>()).collect();
        let (gates, waits): (Vec<_>, Vec<_>) = gates.into_iter().unzip();
        let mut tasks: Vec<_> = waits
            .into_iter()
            .map(|wait| {
                let lanes = lanes.clone();
                tokio::spawn(async move { lanes.run(move |_| wait.recv().is_ok()).await })
            })
            .collect();
        tokio::task::yield_now().await;
        // the first ones are done, and their threads take those that are stuck
        gates[..LANES].iter().for_each(|gate| gate.send(()).unwrap());
        for task in tasks.drain(..LANES) {
            assert_eq!(tokio::time::timeout(Duration::from_secs(5), task).await.unwrap().unwrap(), Some(true));
        }
        gates[LANES..].iter().for_each(|gate| gate.send(()).unwrap());
        for task in tasks {
            assert_eq!(task.await.unwrap(), Some(true));
        }
    }

    #[tokio::test]
    async fn work_that_dies_is_told_and_the_next_is_done() {
        let lanes = Arc::<Lanes>::default();
        assert_eq!(lanes.run(|_| assert!(std::env::args().count() == 0, "dies")).await, None);
        assert_eq!(lanes.run(|_| 1).await, Some(1));
    }
}
