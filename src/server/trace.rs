//! Every RPC passes here: it is run, timed, told to the log in one line, and its result put in gRPC's form.
//! **Invariant**: neither requests nor replies reach the log, for they hold environment variables and passwords.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, unfold};
use tonic::{Response, Status};
use tracing::field::Empty;
use tracing::{Instrument, Level, Span, debug, error_span, info, warn};

use super::{Service, status};
use crate::error::{Error, Result};
use crate::figures::{Failure, Timings};
use crate::service::{Daemon, Replies, Subject, now_ns};

/// What a gRPC handler answers.
pub(super) type Reply<T> = std::result::Result<Response<T>, Status>;
/// What a gRPC handler streams.
pub(super) type ReplyStream<T> = BoxStream<'static, std::result::Result<T, Status>>;

/// Where it is written down what became of RPCs.
trait Book: Send + Sync {
    /// How long they take.
    fn rpcs(&self) -> &Timings<&'static str>;

    /// Keeps a failure for whoever asks what is wrong.
    fn keep(&self, failure: Failure, subject: &Subject);
}

impl Book for Daemon {
    fn rpcs(&self) -> &Timings<&'static str> {
        &self.rpcs
    }

    fn keep(&self, mut failure: Failure, subject: &Subject) {
        self.name_subject(subject, &mut failure);
        self.failures.note(failure);
    }
}

impl Service {
    /// Runs a verb for the RPC named. Whatever is logged meanwhile carries the request's number, and the pod, sandbox or container
    /// that it is about as soon as the verb knows.
    pub(super) async fn answer<T>(&self, rpc: &'static str, verb: impl Future<Output = Result<T>>) -> Reply<T> {
        answer(self.daemon.clone(), rpc, verb).await
    }

    /// Runs a verb that streams for the RPC named, and stays with it to the stream's end.
    pub(super) async fn stream<T: Send + 'static>(
        &self,
        rpc: &'static str,
        verb: impl Future<Output = Result<Replies<T>>>,
    ) -> Reply<ReplyStream<T>> {
        let (span, mut call) = (span(), Call::begin(self.daemon.clone(), rpc));
        let replies = call.subject.clone().of(verb).instrument(span.clone()).await.map_err(|error| {
            span.in_scope(|| call.ended(Some(&error)));
            status::of(&error)
        })?;
        let told = unfold(Some((call, replies)), move |state| next(state).instrument(span.clone()));
        Ok(Response::new(told.boxed()))
    }
}

async fn answer<T>(book: Arc<dyn Book>, rpc: &'static str, verb: impl Future<Output = Result<T>>) -> Reply<T> {
    let answered = async {
        let mut call = Call::begin(book, rpc);
        let result = call.subject.clone().of(verb).await;
        call.ended(result.as_ref().err());
        result.map(Response::new).map_err(|error| status::of(&error))
    };
    answered.instrument(span()).await
}

fn span() -> Span {
    static REQUESTS: AtomicU64 = AtomicU64::new(1);
    let request = REQUESTS.fetch_add(1, Ordering::Relaxed);
    // of the gravest level, so that no line of whatever level is without it
    error_span!("rpc", request, pod = Empty, sandbox = Empty, container = Empty)
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
    book: Arc<dyn Book>,
    rpc: &'static str,
    subject: Subject,
    since: Instant,
    ended: bool,
}

impl Call {
    fn begin(book: Arc<dyn Book>, rpc: &'static str) -> Call {
        Call { book, rpc, subject: Subject::default(), since: Instant::now(), ended: false }
    }

    fn ended(&mut self, failure: Option<&Error>) {
        self.ended = true;
        let (rpc, took) = (self.rpc, self.since.elapsed());
        let Some(error) = failure else {
            self.book.rpcs().note(&rpc, took, None);
            debug!(rpc, ?took, "answered");
            return;
        };
        let status = status::of(error);
        let (code, message) = (format!("{:?}", status.code()), status.message());
        self.book.rpcs().note(&rpc, took, Some(&code));
        match weight(error) {
            Level::WARN => warn!(rpc, ?took, code, "{message}"),
            Level::INFO => info!(rpc, ?took, code, "{message}"),
            _ => debug!(rpc, ?took, code, "{message}"),
        }
        if is_kept(error) {
            let (rpc, message) = (rpc.to_owned(), message.to_owned());
            let failure = Failure { at_ns: now_ns(), rpc, code, message, ..Failure::default() };
            self.book.keep(failure, &self.subject);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            let took = self.since.elapsed();
            self.book.rpcs().note(&self.rpc, took, Some("Cancelled"));
            debug!(rpc = self.rpc, ?took, "the client went away");
        }
    }
}

/// Whether a failure may be what an operator looks for: the kubelet asks for what is gone on a healthy node too.
fn is_kept(error: &Error) -> bool {
    !matches!(error, Error::NotFound { .. } | Error::Unimplemented(_))
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
    use std::sync::Mutex;

    use futures_util::FutureExt;

    use super::*;
    use crate::figures::Failures;

    /// Keeps what it is told.
    #[derive(Default)]
    struct Kept {
        rpcs: Timings<&'static str>,
        failures: Failures,
    }

    impl Book for Kept {
        fn rpcs(&self) -> &Timings<&'static str> {
            &self.rpcs
        }

        fn keep(&self, failure: Failure, _: &Subject) {
            self.failures.note(failure);
        }
    }

    async fn answer<T>(rpc: &'static str, verb: impl Future<Output = Result<T>>) -> Reply<T> {
        super::answer(Arc::new(Kept::default()), rpc, verb).await
    }

    #[test]
    fn each_rpc_is_counted_and_what_may_matter_is_kept() {
        let book = Arc::new(Kept::default());
        let run = |rpc, error: Option<Error>| {
            let verb = async { error.map_or(Ok(()), Err) };
            drop(super::answer(book.clone(), rpc, verb).now_or_never());
        };
        run("Version", None);
        run("StartContainer", Some(Error::no_container("c")));
        run("StartContainer", Some(Error::internal("start", "no space left")));
        let pending = super::answer(book.clone(), "ExecSync", std::future::pending::<Result<()>>());
        drop(pending.now_or_never());
        let told: Vec<_> = book.rpcs.read().into_iter().map(|it| (it.name, it.took.count(), it.failures)).collect();
        let causes = |causes: &[&str]| causes.iter().map(|cause| ((*cause).to_owned(), 1)).collect();
        let wanted = [
            ("ExecSync", 1, causes(&["Cancelled"])),
            ("StartContainer", 2, causes(&["Internal", "NotFound"])),
            ("Version", 1, causes(&[])),
        ];
        assert_eq!(told, wanted);
        let kept = book.failures.read();
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].rpc.as_str(), kept[0].code.as_str()), ("StartContainer", "Internal"));
        assert!(kept[0].message.contains("no space left") && kept[0].at_ns > 0);
    }

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
