//! How a session's end is told on its error stream: as JSON from the fourth version of the protocol on, as text before. Pure.

use serde_json::json;

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The process ended with this code; 0 too for an attachment that is over.
    Exit(i32),
    /// It could not be run, or its streams broke.
    Failed(String),
}

/// How outcomes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `v4.channel.k8s.io` and later.
    Json,
    /// Earlier: nothing on success.
    Text,
}

impl Outcome {
    /// What the error stream says.
    pub(super) fn told_as(&self, form: Form) -> String {
        match (form, self) {
            (Form::Json, Outcome::Exit(0)) => json!({ "metadata": {}, "status": "Success" }).to_string(),
            (Form::Json, Outcome::Exit(code)) => json!({
                "metadata": {},
                "status": "Failure",
                "message": exited(*code),
                "reason": "NonZeroExitCode",
                "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
            })
            .to_string(),
            (Form::Json, Outcome::Failed(why)) => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("Internal error occurred: {why}"),
                "reason": "InternalError",
                "details": { "causes": [{ "message": why }] },
                "code": 500,
            })
            .to_string(),
            (Form::Text, Outcome::Exit(0)) => String::new(),
            (Form::Text, Outcome::Exit(code)) => exited(*code),
            (Form::Text, Outcome::Failed(why)) => why.clone(),
        }
    }
}

fn exited(code: i32) -> String {
    format!("command terminated with non-zero exit code: {code}")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn read(outcome: &Outcome) -> Value {
        serde_json::from_str(&outcome.told_as(Form::Json)).unwrap()
    }

    #[test]
    fn an_exit_code_stands_where_clients_look_for_it() {
        let status = read(&Outcome::Exit(7));
        assert_eq!((&status["status"], &status["reason"]), (&json!("Failure"), &json!("NonZeroExitCode")));
        assert_eq!(status["details"]["causes"][0], json!({ "reason": "ExitCode", "message": "7" }));
        assert_eq!(read(&Outcome::Exit(0))["status"], "Success");
    }

    #[test]
    fn a_failure_is_told_in_its_own_words() {
        let failed = Outcome::Failed("no such \"thing\"".to_owned());
        let status = read(&failed);
        assert_eq!(status["message"], "Internal error occurred: no such \"thing\"");
        assert_eq!((&status["reason"], &status["code"]), (&json!("InternalError"), &json!(500)));
        assert_eq!(failed.told_as(Form::Text), "no such \"thing\"");
    }

    #[test]
    fn success_is_silent_in_the_old_form() {
        assert_eq!(Outcome::Exit(0).told_as(Form::Text), "");
        assert_ne!(Outcome::Exit(1).told_as(Form::Text), "");
    }
}
