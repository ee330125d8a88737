//! Whoever started us and wants to know how we are: systemd, or what speaks its protocol. Datagrams to the socket that
//! `NOTIFY_SOCKET` names; without one, every word goes nowhere.
//!
//! ```text
//! (started) ─▶ READY=1 ─▶ WATCHDOG=1, STATUS=… again and again ─▶ STOPPING=1
//!                 ▲ └──▶ RELOADING=1 ─┐
//!                 └───────────────────┘
//! ```
//!
//! **Invariant**: nothing here waits, neither for the supervisor nor for the engine: an engine that is down is told in the status,
//! and is no reason to be restarted.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::MissedTickBehavior;

use crate::service::Daemon;

/// The status is looked at so often.
const LOOK: Duration = Duration::from_secs(5);

/// Who started us. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    inner: Option<Arc<Inner>>,
}

#[derive(Debug)]
struct Inner {
    socket: UnixDatagram,
    /// Without a sign of life for so long we are restarted.
    watchdog: Option<Duration>,
    /// Whether READY=1 has been told: before that, a reload is nothing to tell.
    ready: AtomicBool,
}

impl Supervisor {
    /// As the environment says. One that can't be reached is told to the log, and done without.
    pub fn from_environment() -> Supervisor {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Supervisor::default();
        };
        let socket = match connect(&name) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(socket = ?name, %error, "the service manager can't be told how we are");
                return Supervisor::default();
            }
        };
        let variable = |name: &str| env::var(name).ok();
        let watchdog = watchdog(variable("WATCHDOG_USEC").as_deref(), variable("WATCHDOG_PID").as_deref());
        Supervisor { inner: Some(Arc::new(Inner { socket, watchdog, ready: AtomicBool::new(false) })) }
    }

    /// Calls are taken from now on.
    pub(super) fn ready(&self) {
        if let Some(inner) = &self.inner {
            inner.ready.store(true, Ordering::Relaxed);
        }
        self.tell("READY=1\nSTATUS=serving");
    }

    /// The configuration is read again; ends with [`Supervisor::reloaded`].
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let usec = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell_if_ready(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    /// The configuration has been read, whatever came of it.
    pub fn reloaded(&self) {
        self.tell_if_ready("READY=1");
    }

    /// The end has begun.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=finishing the calls that are on their way");
    }

    /// Tells how we are until it is dropped. That it comes to run shows that the runtime does, and looking at the index that its
    /// lock is not held for ever.
    pub(super) async fn keep_telling(self, daemon: Arc<Daemon>) {
        let Some(inner) = &self.inner else { return };
        let mut ticks = tokio::time::interval(inner.watchdog.map_or(LOOK, |limit| LOOK.min(limit / 2)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = String::new();
        loop {
            ticks.tick().await;
            let trouble = daemon.index.health().trouble(Instant::now());
            let status = trouble.map_or_else(|| "serving".to_owned(), |trouble| format!("not ready: {trouble}"));
            if status != told {
                self.tell(&format!("STATUS={}", status.replace('\n', " ")));
                told = status;
            }
            if inner.watchdog.is_some() {
                self.tell("WATCHDOG=1");
            }
        }
    }

    fn tell_if_ready(&self, words: &str) {
        if self.inner.as_ref().is_some_and(|inner| inner.ready.load(Ordering::Relaxed)) {
            self.tell(words);
        }
    }

    fn tell(&self, words: &str) {
        let Some(inner) = &self.inner else { return };
        if let Err(error) = inner.socket.send(words.as_bytes()) {
            tracing::debug!(%error, words, "not told to the service manager");
        }
    }
}

/// A path, or a name in the abstract namespace behind an `@`. Sending never waits: a full queue is the supervisor's trouble.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// How long we may be silent, if that is looked at and meant for this process.
fn watchdog(usec: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let ours = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    let usec = usec?.parse().ok().filter(|usec| *usec > 0 && ours)?;
    Some(Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_is_one_that_is_meant_for_us() {
        let (us, other) = (std::process::id().to_string(), (std::process::id() + 1).to_string());
        let limit = Some(Duration::from_secs(30));
        assert_eq!(watchdog(Some("30000000"), None), limit);
        assert_eq!(watchdog(Some("30000000"), Some(&us)), limit);
        assert_eq!(watchdog(Some("30000000"), Some(&other)), None);
        for usec in [None, Some("0"), Some(""), Some("-5"), Some("soon")] {
            assert_eq!(watchdog(usec, None), None, "{usec:?}");
        }
    }

    #[test]
    fn a_name_may_be_abstract() {
        let name = format!("dockershim-notify-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        connect(OsStr::new(&format!("@{name}"))).unwrap().send(b"READY=1").unwrap();
        let mut words = [0; 16];
        assert_eq!(manager.recv(&mut words).unwrap(), 7);
        assert!(connect(OsStr::new("/nowhere/notify")).is_err());
    }
}
