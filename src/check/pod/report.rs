//! What the user sees: a line per step with its milliseconds; on failure the cause and the next thing to do.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::super::finding::Finding;

/// A step's result and what is worth showing of it, or why it failed.
pub(super) type Outcome<T> = Result<(T, String), String>;

/// Why the walk ended early; a failed step has been told already.
#[derive(Debug)]
pub(super) enum Stop {
    /// A step failed.
    Failed,
    /// The user pressed Ctrl-C.
    Interrupted,
    /// The report can't be written.
    Output(io::Error),
}

/// The report as it is written.
pub(super) struct Report<'a> {
    out: &'a mut dyn Write,
    since: Instant,
    passed: usize,
    /// Of the step that failed.
    failure: Option<Finding>,
    interrupted: Arc<AtomicBool>,
}

impl<'a> Report<'a> {
    /// A report that ends before the next step once Ctrl-C is pressed: each step is bounded, and what is made is removed.
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        let interrupted = Arc::new(AtomicBool::new(false));
        let pressed = interrupted.clone();
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                pressed.store(true, Ordering::Relaxed);
            }
        });
        Report { out, since: Instant::now(), passed: 0, failure: None, interrupted }
    }

    /// Does a step and tells it; `next` is what to do when it fails.
    pub(super) async fn step<T>(
        &mut self,
        name: &str,
        next: &str,
        work: impl Future<Output = Outcome<T>>,
    ) -> Result<T, Stop> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Stop::Interrupted);
        }
        let since = Instant::now();
        let outcome = work.await;
        let ms = since.elapsed().as_millis();
        match outcome {
            Ok((value, detail)) => {
                self.passed += 1;
                let line = format!("✓ {name:<17}{ms:>6} ms   {detail}");
                writeln!(self.out, "{}", line.trim_end()).map_err(Stop::Output)?;
                Ok(value)
            }
            Err(cause) => {
                writeln!(self.out, "✗ {name:<17}{ms:>6} ms   {cause}\n  next: {next}").map_err(Stop::Output)?;
                self.failure = Some(Finding::failed(format!("{name}: {cause}"), next));
                Err(Stop::Failed)
            }
        }
    }

    /// Tells what became of the things made before the walk ended early.
    pub(super) fn cleaned(&mut self, cleaned: Result<usize, String>) -> io::Result<()> {
        match cleaned {
            Ok(0) => writeln!(self.out, "  nothing is left behind"),
            Ok(_) => writeln!(self.out, "  the pod is removed again; nothing is left behind"),
            Err(cause) => writeln!(self.out, "  something may still be there (docker ps -a): {cause}"),
        }
    }

    /// Ends a report in which all steps passed.
    pub(super) fn passed(self) -> io::Result<Finding> {
        let sum = format!("{} steps passed in {}", self.passed, ms(self.since.elapsed()));
        writeln!(self.out, "{sum}")?;
        Ok(Finding::ok(sum))
    }

    /// Ends a report early.
    pub(super) fn end(self, stop: Stop) -> io::Result<Finding> {
        let why = match stop {
            Stop::Failed => "failed",
            Stop::Interrupted => "interrupted",
            Stop::Output(error) => return Err(error),
        };
        let sum = format!("{why} after {} steps and {}", self.passed, ms(self.since.elapsed()));
        writeln!(self.out, "{sum}")?;
        Ok(self.failure.unwrap_or_else(|| Finding::failed(sum, "dockershim check --run-pod")))
    }
}

fn ms(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Verdict;
    use super::*;

    /// The report's text with its times made equal.
    fn text(out: Vec<u8>) -> String {
        let text = String::from_utf8(out).unwrap();
        let words = |line: &str| line.split_whitespace().map(fixed).collect::<Vec<_>>().join(" ");
        text.lines().map(words).collect::<Vec<_>>().join("\n")
    }

    fn fixed(word: &str) -> &str {
        if word.chars().all(|c| c.is_ascii_digit()) && word != "1" { "N" } else { word }
    }

    #[tokio::test]
    async fn steps_stand_in_one_column_and_are_counted() {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out);
        let value = report.step("Version", "-", async { Ok((7, "docker".to_owned())) }).await.unwrap();
        report.step("StopContainer", "-", async { Ok(((), String::new())) }).await.unwrap();
        assert_eq!(report.passed().unwrap().verdict, Verdict::Ok);
        assert_eq!(value, 7);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].find(" ms"), lines[1].find(" ms"));
        assert!(lines[0].ends_with("   docker") && lines[1].ends_with(" ms"));
        assert!(lines[2].starts_with("2 steps passed in "));
    }

    #[tokio::test]
    async fn a_failure_tells_its_cause_and_the_next_thing_to_do() {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out);
        let stop = report.step("Status", "look there", async { Err::<((), String), _>("not ready".to_owned()) }).await;
        report.cleaned(Ok(1)).unwrap();
        let finding = report.end(stop.unwrap_err()).unwrap();
        assert_eq!((finding.verdict, finding.cause.as_str()), (Verdict::Failed, "Status: not ready"));
        assert_eq!(finding.next.as_deref(), Some("look there"));
        let expected = "✗ Status N ms not ready\nnext: look there\n\
                        the pod is removed again; nothing is left behind\nfailed after N steps and N ms";
        assert_eq!(text(out), expected);
    }

    #[tokio::test]
    async fn nothing_is_begun_after_an_interrupt() {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out);
        report.interrupted.store(true, Ordering::Relaxed);
        let stop = report.step("Status", "-", async { panic!("begun") }).await;
        let stop: Stop = match stop {
            Ok(()) => panic!("passed"),
            Err(stop) => stop,
        };
        assert_eq!(report.end(stop).unwrap().verdict, Verdict::Failed);
        assert!(text(out).starts_with("interrupted after"));
    }
}
