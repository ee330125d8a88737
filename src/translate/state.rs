//! Where a container stands: Docker's words into CRI's, with reason and times. Pure.

use super::time;
use crate::engine::model::ContainerInspect;
use crate::index::model::{Container, Exit, State};

/// The state of a listed container; `running` as inspect tells it, or as the listing's state says.
pub fn state(status: &str, running: bool) -> State {
    match status {
        _ if running => State::Running,
        "running" | "paused" => State::Running,
        "exited" => State::Exited,
        "created" => State::Created,
        _ => State::Unknown,
    }
}

/// How a container came to where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) state: State,
    pub(super) started_at_ns: i64,
    pub(super) finished_at_ns: i64,
    pub(super) exit_code: i32,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// Reads an inspect. One that the engine could not start is EXITED with reason `ContainerCannotRun`, as dockershim told it:
/// Docker leaves it `created` with an exit code.
pub(super) fn life(inspect: &ContainerInspect, created_at_ns: i64) -> Life {
    let said = &inspect.state;
    let (started, finished) = (time::parse_ns(&said.started_at), time::parse_ns(&said.finished_at));
    let mut life = Life {
        state: state(&said.status, said.running),
        started_at_ns: started,
        finished_at_ns: 0,
        exit_code: 0,
        reason: "",
        message: String::new(),
    };
    let never_ran = life.state == State::Created && said.exit_code != 0;
    let ended = life.state == State::Exited || (life.state == State::Unknown && finished > 0);
    if never_ran || ended {
        life.state = State::Exited;
        life.finished_at_ns = if finished > 0 { finished } else { created_at_ns };
        life.started_at_ns = if started > 0 { started } else { created_at_ns };
        // of one that ends at once the Engine may tell an end before the start
        life.finished_at_ns = life.finished_at_ns.max(life.started_at_ns);
        life.exit_code = said.exit_code;
        life.reason = reason(said.exit_code, said.oom_killed, never_ran);
        life.message.clone_from(&said.error);
    }
    life
}

/// A container that ran, with its end.
pub fn ended(mut container: Container, exit: Exit, oom_killed: bool) -> Container {
    container.state = State::Exited;
    container.pid = 0;
    container.finished_at_ns = exit.at_ns;
    container.exit_code = exit.code;
    container.reason = reason(exit.code, oom_killed, false);
    container
}

fn reason(exit_code: i32, oom_killed: bool, never_ran: bool) -> &'static str {
    match exit_code {
        _ if oom_killed => "OOMKilled",
        _ if never_ran => "ContainerCannotRun",
        0 => "Completed",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model::ContainerState;

    const START: &str = "2023-11-14T22:13:20Z";
    const END: &str = "2023-11-14T22:13:21Z";
    const NEVER: &str = "0001-01-01T00:00:00Z";

    fn life_of(status: &str, exit_code: i32, oom_killed: bool, times: (&str, &str)) -> Life {
        let said = ContainerState {
            status: status.to_owned(),
            running: status == "running",
            exit_code,
            oom_killed,
            started_at: times.0.to_owned(),
            finished_at: times.1.to_owned(),
            ..ContainerState::default()
        };
        life(&ContainerInspect { state: said, ..ContainerInspect::default() }, 7)
    }

    #[test]
    fn each_ending_has_its_reason() {
        for (code, oom, reason) in [(0, false, "Completed"), (1, false, "Error"), (137, true, "OOMKilled")] {
            let life = life_of("exited", code, oom, (START, END));
            assert_eq!((life.state, life.reason, life.exit_code), (State::Exited, reason, code));
            assert!(life.finished_at_ns > life.started_at_ns);
        }
    }

    #[test]
    fn a_running_container_has_no_ending_even_after_an_earlier_run() {
        let life = life_of("running", 0, false, (END, START));
        assert_eq!((life.state, life.finished_at_ns, life.reason), (State::Running, 0, ""));
    }

    #[test]
    fn one_that_could_not_start_has_ended() {
        let life = life_of("created", 127, false, (NEVER, NEVER));
        assert_eq!((life.state, life.reason), (State::Exited, "ContainerCannotRun"));
        assert_eq!((life.started_at_ns, life.finished_at_ns), (7, 7));
        assert_eq!(life_of("created", 0, false, (NEVER, NEVER)).state, State::Created);
    }

    #[test]
    fn words_of_newer_engines_are_unknown_not_errors() {
        assert_eq!(state("hibernating", false), State::Unknown);
        assert_eq!(state("paused", true), State::Running);
        assert_eq!(life_of("dead", 1, false, (START, END)).state, State::Exited);
    }
}
