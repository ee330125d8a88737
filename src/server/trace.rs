//! Every RPC passes here: it is run, timed, told to the log in one line, and its result put in gRPC's form.
//! **Invariant**: neither requests nor replies reach the log, for they hold environment variables and passwords.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, unfold};
use tonic::{Response, Status};
use tracing::field::Empty;
use tracing::{Instrument, Level, Span, debug, error_span, info, warn};

use super::status;
use crate::error::{Error, Result};
use crate::service::Replies;

/// What a gRPC handler answers.
pub(super) type Reply<T> = std::result::Result<Response<T>, Status>;

/// Runs a verb for the RPC named. Whatever is logged meanwhile carries the request's number, and the pod, sandbox or container
/// that it is about as soon as the verb knows.
pub(super) async fn answer<T>(rpc: &'static str, verb: impl Future<Output = Result<T>>) -> Reply<T> {
    run(rpc, verb).instrument(span()).await
}

fn span() -> Span {
    static REQUESTS: AtomicU64 = AtomicU64::new(1);
    let request = REQUESTS.fetch_add(1, Ordering::Relaxed);
    // of the gravest level, so that no line of whatever level is without it
    error_span!("rpc", request, pod = Empty, sandbox = Empty, container = Empty)
}

async fn run<T>(rpc: &'static str, verb: impl Future<Output = Result<T>>) -> Reply<T> {
    let mut call = Call { rpc, since: Instant::now(), ended: false };
    let result = verb.await;
    call.ended(result.as_ref().err());
    result.map(Response::new).map_err(|error| status::of(&error))
}

/// What a gRPC handler streams.
pub(super) type ReplyStream<T> = BoxStream<'static, std::result::Result<T, Status>>;

/// Runs a verb that streams for the RPC named, and stays with it to the stream's end.
pub(super) async fn stream<T: Send + 'static>(
    rpc: &'static str,
    verb: impl Future<Output = Result<Replies<T>>>,
) -> Reply<ReplyStream<T>> {
    let span = span();
    let mut call = Call { rpc, since: Instant::now(), ended: false };
    let replies = verb.instrument(span.clone()).await.map_err(|error| {
        span.in_scope(|| call.ended(Some(&error)));
        status::of(&error)
    })?;
    let told = unfold(Some((call, replies)), move |state| next(state).instrument(span.clone()));
    Ok(Response::new(told.boxed()))
}

/// A stream on its way.
type Streaming<T> = (Call, Replies<T>);

async fn next<T>(streaming: Option<Streaming<T>>) -> Option<(std::result::Result<T, Status>, Option<Streaming<T>>)> {
    let (mut call, mut replies) = streaming?;
    match replies.next().await {
        Some(Ok(reply)) => Some((Ok(reply), Some((call, replies)))),
        Some(Err(error)) => {
            call.ended(Some(&error));
            Some((Err(status::of(&error)), None))
        }
        None => {
            call.ended(None);
            None
        }
    }
}

/// An RPC on its way; when it is dropped before its end, its client has gone away.
struct Call {
    rpc: &'static str,
    since: Instant,
    ended: bool,
}

impl Call {
    fn ended(&mut self, failure: Option<&Error>) {
        self.ended = true;
        let (rpc, took) = (self.rpc, self.since.elapsed());
        let Some(error) = failure else {
            debug!(rpc, ?took, "answered");
            return;
        };
        let status = status::of(error);
        let (code, message) = (status.code(), status.message());
        match weight(error) {
            Level::WARN => warn!(rpc, ?took, ?code, "{message}"),
            Level::INFO => info!(rpc, ?took, ?code, "{message}"),
            _ => debug!(rpc, ?took, ?code, "{message}"),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            debug!(rpc = self.rpc, took = ?self.since.elapsed(), "the client went away");
        }
    }
}

/// How loudly a failure is told: what a healthy node shows is for debugging, and so is a lost engine, which the index tells
/// once while the kubelet asks every second.
fn weight(error: &Error) -> Level {
    match error {
        Error::NotFound { .. } | Error::Unimplemented(_) | Error::Unavailable(_) | Error::Aborted(_) => Level::DEBUG,
        Error::InvalidArgument { .. }
        | Error::AlreadyExists(_)
        | Error::FailedPrecondition(_)
        | Error::DeadlineExceeded { .. }
        | Error::Reason(_) => Level::INFO,
        Error::ResourceExhausted(_) | Error::Internal { .. } => Level::WARN,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use futures_util::FutureExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(act: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(Level::DEBUG).with_writer(move || writer.clone());
        tracing::subscriber::with_default(subscriber.finish(), act);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn each_rpc_leaves_one_line() {
        let passed = logged(|| drop(answer("Version", async { Ok(()) }).now_or_never()));
        assert!(
            passed.contains("DEBUG") && passed.contains("rpc=\"Version\"") && passed.contains("answered"),
            "{passed}"
        );
        assert_eq!(passed.lines().count(), 1);
    }

    #[test]
    fn a_failure_is_told_as_loudly_as_it_deserves() {
        let cases = [(Error::no_container("c"), "DEBUG", "NotFound"), (Error::internal("a", "b"), "WARN", "Internal")];
        for (error, level, code) in cases {
            let words = error.to_string();
            let line = logged(|| drop(answer("Any", async { Err::<(), _>(error) }).now_or_never()));
            assert!(line.contains(level) && line.contains(code) && line.contains(&words), "{line}");
            assert_eq!(line.lines().count(), 1);
        }
    }

    #[test]
    fn what_a_verb_logs_carries_the_request_and_what_it_is_about() {
        let verb = async {
            tracing::Span::current().record("container", "c0ffee");
            info!("on its way");
            Err::<(), _>(Error::internal("a", "b"))
        };
        let lines = logged(|| drop(answer("StopContainer", verb).now_or_never()));
        assert_eq!(lines.lines().count(), 2);
        assert!(lines.lines().all(|line| line.contains("rpc{request=") && line.contains("c0ffee")), "{lines}");
    }

    #[test]
    fn a_dropped_rpc_is_told_too() {
        let line = logged(|| drop(answer("ExecSync", std::future::pending::<Result<()>>()).now_or_never()));
        assert!(line.contains("ExecSync") && line.contains("went away"), "{line}");
    }
}
