//! What a scripted engine does otherwise than usual, and the calls that reached it.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::http::Request;

/// How long a step or a call is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What happens to a call.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// This answer; nothing is done.
    Answer(u16, Value),
    /// 200 and these lines, then an end.
    Lines(Vec<Value>, End),
    /// 200 and these lines with a pause after each but the last, then an end.
    Trickle(Vec<Value>, Duration),
    /// 101 with this content type, these bytes, then an end.
    Upgrade(&'static str, Vec<u8>),
    /// Nothing, until the client goes away.
    Hang,
    /// The connection is closed without an answer.
    Cut,
    /// What is usual, later.
    Delay(Duration),
}

impl Act {
    /// A failure in Docker's form.
    pub(crate) fn refuse(status: u16, message: &str) -> Act {
        Act::Answer(status, json!({ "message": message }))
    }
}

/// How lines end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Whole,
    /// The connection is closed in the middle.
    Cut,
    /// No more comes, until the client goes away.
    Hang,
}

/// Steps and calls. A step is for the next call that fits it, or for all of them.
#[derive(Default)]
pub(crate) struct Script {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    steps: Vec<Step>,
    calls: Vec<Request>,
}

#[derive(Debug)]
struct Step {
    method: &'static str,
    path: String,
    act: Act,
    always: bool,
    played: bool,
}

impl Script {
    pub(crate) fn add(&self, method: &'static str, path: &str, act: Act, always: bool) {
        let step = Step { method, path: path.to_owned(), act, always, played: false };
        self.inner.lock().unwrap().steps.push(step);
    }

    /// Takes back what was for all calls.
    pub(crate) fn take_back(&self, method: &'static str, path: &str) {
        self.inner.lock().unwrap().steps.retain(|step| !(step.always && step.method == method && step.path == path));
    }

    /// Records a call, and tells what is to happen to it if not what is usual.
    pub(crate) fn play(&self, request: &Request) -> Option<Act> {
        let mut inner = self.inner.lock().unwrap();
        inner.calls.push(request.clone());
        let fits = |step: &&mut Step| (step.always || !step.played) && is_call(request, step.method, &step.path);
        let act = inner.steps.iter_mut().find(fits).map(|step| {
            step.played = true;
            step.act.clone()
        });
        self.changed.notify_all();
        act
    }

    /// The calls so far; `*` in a path stands for anything.
    pub(crate) fn calls(&self, method: &str, path: &str) -> Vec<Request> {
        let inner = self.inner.lock().unwrap();
        inner.calls.iter().filter(|call| is_call(call, method, path)).cloned().collect()
    }

    /// Every call, for a failure's message.
    pub(crate) fn all(&self) -> Vec<String> {
        let inner = self.inner.lock().unwrap();
        inner.calls.iter().map(|call| format!("{} {}", call.method, call.target)).collect()
    }

    /// Waits until there have been so many calls.
    pub(crate) fn wait_for_calls(&self, count: usize, method: &str, path: &str) {
        let enough = |inner: &mut Inner| inner.calls.iter().filter(|call| is_call(call, method, path)).count() >= count;
        let inner = self.inner.lock().unwrap();
        let (inner, timeout) = self.changed.wait_timeout_while(inner, PATIENCE, |inner| !enough(inner)).unwrap();
        drop(inner);
        assert!(!timeout.timed_out(), "{method} {path} did not come {count} times, but: {:#?}", self.all());
    }

    /// Waits until every step has been played.
    pub(crate) fn wait_for_end(&self) {
        let unplayed = |inner: &mut Inner| inner.steps.iter().any(|step| !step.played);
        let inner = self.inner.lock().unwrap();
        let (inner, timeout) = self.changed.wait_timeout_while(inner, PATIENCE, unplayed).unwrap();
        let left: Vec<_> = inner.steps.iter().filter(|step| !step.played).collect();
        assert!(!timeout.timed_out(), "not played: {left:#?}");
    }
}

fn is_call(call: &Request, method: &str, path: &str) -> bool {
    call.method == method && fits(path, call.path())
}

/// `/containers/*/start` against a path.
fn fits(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((head, tail)) => path
            .strip_prefix(head)
            .is_some_and(|rest| (0..=rest.len()).any(|at| rest.is_char_boundary(at) && fits(tail, &rest[at..]))),
    }
}

#[test]
fn a_star_stands_for_anything() {
    assert!(fits("/containers/*/start", "/containers/abc/start"));
    assert!(fits("/images/*/json", "/images/a/b:1/json"));
    assert!(!fits("/containers/*/start", "/containers/abc/stop"));
    assert!(!fits("/containers/json", "/containers/json2"));
}
