//! What a request is about, known to its verb only once it has looked: noted for the request's lines in the log, and for the list of
//! failures. A verb's own task takes it along.

use std::sync::{Arc, Mutex, PoisonError};

use super::Daemon;
use crate::figures::Failure;
use crate::translate::sandbox::pod_name;

tokio::task_local! {
    static SUBJECT: Subject;
}

/// The subject of one request. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    about: Arc<Mutex<About>>,
}

#[derive(Clone, Debug, Default)]
struct About {
    pod: String,
    sandbox: String,
    container: String,
}

/// What a subject is known by; the names are those of the span's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Namespace and name.
    Pod,
    /// Id, or its beginning.
    Sandbox,
    /// Id, or its beginning.
    Container,
}

impl Subject {
    /// Runs a verb whose subject this is.
    pub async fn of<T>(&self, verb: impl Future<Output = T>) -> T {
        SUBJECT.scope(self.clone(), verb).await
    }

    /// That of the verb that runs.
    pub(super) fn current() -> Subject {
        SUBJECT.try_with(Subject::clone).unwrap_or_default()
    }
}

/// Notes what the running verb's request is about. What is logged on its behalf carries it from now on.
pub(super) fn is_about(known: Known, value: &str) {
    let subject = Subject::current();
    let mut about = subject.about.lock().unwrap_or_else(PoisonError::into_inner);
    let (field, place) = match known {
        Known::Pod => ("pod", &mut about.pod),
        Known::Sandbox => ("sandbox", &mut about.sandbox),
        Known::Container => ("container", &mut about.container),
    };
    tracing::Span::current().record(field, value);
    value.clone_into(place);
}

impl Daemon {
    /// Names the pod and the container that a failed request was about, as far as they are still known.
    pub fn name_subject(&self, subject: &Subject, failure: &mut Failure) {
        let About { mut pod, mut sandbox, mut container } =
            subject.about.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let table = self.index.table();
        if let Ok(known) = table.container(&container) {
            container = known.name.to_string();
            sandbox = known.sandbox_id.to_string();
        }
        if let (true, Ok(known)) = (pod.is_empty(), table.sandbox(&sandbox)) {
            pod = pod_name(Some(&known.metadata));
        }
        (failure.pod, failure.container) = (if pod.is_empty() { sandbox } else { pod }, container);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_verbs_own_task_notes_for_its_request() {
        let subject = Subject::default();
        let noting = async { is_about(Known::Container, "c0ffee") };
        let verb = async {
            is_about(Known::Pod, "default/web");
            let taken_along = Subject::current();
            tokio::spawn(async move { taken_along.of(noting).await }).await.unwrap();
        };
        subject.of(verb).await;
        let about = subject.about.lock().unwrap().clone();
        assert_eq!((about.pod.as_str(), about.container.as_str()), ("default/web", "c0ffee"));
        is_about(Known::Pod, "nobody's");
        assert_eq!(subject.about.lock().unwrap().pod, "default/web");
    }
}
