//! Wakes a pump when its spool changes: one inotify instance for all (a user may have only 128), one watch for each container's
//! directory, where Docker's rotations show as well. A watch tells once and is gone; a pump sets it again before it reads, so a
//! busy container costs one event for each round of its pump, not one for each line.
//!
//! A thread of its own waits for events, lets more gather, and tells them all together. So pumps look at the same moments, and one
//! wake-up serves many of them; the runtime would be woken by each event.

use std::collections::HashMap;
use std::io::{self, PipeReader, PipeWriter};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::runtime::Handle;

/// How long changes gather before they are told together, and lines before they are moved together: a round costs nearly the same
/// however much it moves, and a line may come 50 ms late.
const GATHER: Duration = Duration::from_millis(30);

/// Who waits for a change.
pub(super) trait Woken: Send + Sync {
    /// Called by the watcher's thread, in the runtime's context; it must not block.
    fn wake(self: Arc<Self>);
}

/// The shared instance.
pub(super) struct Watcher {
    shared: Arc<Shared>,
    /// Closed when nobody watches any more, which ends the thread.
    _alive: PipeWriter,
}

struct Shared {
    inotify: OwnedFd,
    /// Who is to be woken, by watch.
    waiting: Mutex<HashMap<i32, Weak<dyn Woken>>>,
}

impl Watcher {
    /// Starts watching, for those who are in this runtime.
    pub(super) fn start() -> io::Result<Arc<Self>> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let (end, alive) = io::pipe()?;
        let shared = Arc::new(Shared { inotify, waiting: Mutex::default() });
        let (watching, runtime) = (shared.clone(), Handle::current());
        thread::Builder::new().name("log-watch".to_owned()).spawn(move || {
            let _entered = runtime.enter();
            watching.run(&end);
        })?;
        Ok(Arc::new(Watcher { shared, _alive: alive }))
    }

    /// Wakes who waits at the next change of a file in the directory; each directory has one. Set again before that, the watch is
    /// the same.
    pub(super) fn arm(&self, directory: &Path, who: Weak<dyn Woken>) -> io::Result<i32> {
        let flags =
            WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONESHOT | WatchFlags::ONLYDIR;
        // held meanwhile: the event must not be read before it is known whose it is
        let mut waiting = self.shared.waiting();
        let watch = inotify::add_watch(&self.shared.inotify, directory, flags)?;
        waiting.insert(watch, who);
        Ok(watch)
    }

    /// Ends a watch that may not have told yet; not one that somebody else has set on the same directory since.
    pub(super) fn disarm(&self, watch: i32, who: &Weak<dyn Woken>) {
        let mut waiting = self.shared.waiting();
        if waiting.get(&watch).is_none_or(|set| !Weak::ptr_eq(set, who)) {
            return;
        }
        waiting.remove(&watch);
        // one that has told is gone already
        let _ = inotify::remove_watch(&self.shared.inotify, watch);
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, HashMap<i32, Weak<dyn Woken>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells changes until the other end of the pipe is closed.
    fn run(&self, end: &PipeReader) {
        while self.wait(end) {
            thread::sleep(GATHER);
            match self.read_events() {
                Errno::WOULDBLOCK | Errno::INTR => {}
                errno => {
                    tracing::error!(error = %io::Error::from(errno), "inotify can't be read; logs are looked at each second");
                    thread::sleep(Duration::from_secs(1));
                    self.wake_all();
                }
            }
        }
    }

    /// Waits for a change; false when there is nothing to wait for any more.
    fn wait(&self, end: &PipeReader) -> bool {
        let mut fds = [PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
        // when that fails, reading tells why
        let _ = poll(&mut fds, None);
        fds[1].revents().is_empty()
    }

    /// Reads what there is; says why no more.
    fn read_events(&self) -> Errno {
        let mut buffer = [const { MaybeUninit::uninit() }; 16 << 10];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => self.wake_all(),
                Ok(event) => {
                    let woken = self.waiting().remove(&event.wd());
                    if let Some(woken) = woken.and_then(|woken| woken.upgrade()) {
                        woken.wake();
                    }
                }
                Err(errno) => return errno,
            }
        }
    }

    fn wake_all(&self) {
        let all: Vec<_> = self.waiting().drain().filter_map(|(_, woken)| woken.upgrade()).collect();
        all.into_iter().for_each(Woken::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::sync::Notify;

    use super::*;
    use crate::log::tests::Temp;

    /// Longer than changes ever gather.
    const LONG_MS: u64 = 300;

    impl Woken for Notify {
        fn wake(self: Arc<Self>) {
            self.notify_one();
        }
    }

    fn weak(wake: &Arc<Notify>) -> Weak<dyn Woken> {
        let weak: Weak<Notify> = Arc::downgrade(wake);
        weak
    }

    async fn is_woken(wake: &Notify, within_ms: u64) -> bool {
        tokio::time::timeout(Duration::from_millis(within_ms), wake.notified()).await.is_ok()
    }

    #[tokio::test]
    async fn a_watch_tells_once_of_a_write_and_of_a_rotation() {
        let temp = Temp::new();
        let (watcher, wake) = (Watcher::start().unwrap(), Arc::new(Notify::new()));
        let (old, new) = (temp.path().join("X"), temp.path().join("X.1"));
        fs::write(&old, "").unwrap();
        watcher.arm(temp.path(), weak(&wake)).unwrap();
        assert!(!is_woken(&wake, 20).await);
        fs::write(&old, "line").unwrap();
        assert!(is_woken(&wake, 5000).await);
        fs::write(&old, "line").unwrap();
        assert!(!is_woken(&wake, LONG_MS).await);
        watcher.arm(temp.path(), weak(&wake)).unwrap();
        fs::rename(&old, &new).unwrap();
        assert!(is_woken(&wake, 5000).await);
        watcher.arm(temp.path(), weak(&wake)).unwrap();
        fs::File::create(&old).unwrap();
        assert!(is_woken(&wake, 5000).await);
        assert!(watcher.shared.waiting().is_empty());
    }

    #[tokio::test]
    async fn a_watch_that_was_ended_tells_nothing() {
        let temp = Temp::new();
        let (watcher, wake) = (Watcher::start().unwrap(), Arc::new(Notify::new()));
        let watch = watcher.arm(temp.path(), weak(&wake)).unwrap();
        // somebody else's end is not this one's
        watcher.disarm(watch, &weak(&Arc::default()));
        fs::write(temp.path().join("X"), "line").unwrap();
        assert!(is_woken(&wake, 5000).await);
        let watch = watcher.arm(temp.path(), weak(&wake)).unwrap();
        watcher.disarm(watch, &weak(&wake));
        watcher.disarm(watch, &weak(&wake));
        fs::write(temp.path().join("X"), "line").unwrap();
        assert!(!is_woken(&wake, LONG_MS).await);
        assert!(watcher.arm(&temp.path().join("missing"), weak(&wake)).is_err());
    }
}
