//! Runs one plugin: the only place in the crate that starts a process of the host.
//!
//! **Invariant**: whatever a plugin does, the call ends at its deadline, and what it started in its process group ends with it. One that
//! starts itself without end, as a plugin does that is configured to be its own IPAM plugin, ends long before.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::args::Verb;
use super::error::Failure;
use super::{Calls, result};
use crate::process;

/// The most that a plugin's result may have.
const OUTPUT_LIMIT: u64 = 1 << 20;
/// How much of a plugin's own log is kept for the error.
const LOG_LIMIT: usize = 64 << 10;
/// How much of a plugin's output an error tells.
const TOLD_LIMIT: usize = 1024;
/// Plugins start a few processes, one after the other.
const PROCESSES_LIMIT: usize = 100;
/// When they are counted for the first time; then after twice as long each time.
const FIRST_COUNT: Duration = Duration::from_millis(200);
/// An executable that is being replaced can't be started; it is tried again so often,
const BUSY_TRIES: usize = 5;
/// after so long.
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// The one cause that failed runs are counted by: why is told where it matters.
const FAILED: &str = "failed";

/// The time that the plugins of one network have together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    at: Instant,
    after: Duration,
}

impl Deadline {
    /// Ends so long from now.
    pub(super) fn within(after: Duration) -> Self {
        Deadline { at: Instant::now() + after, after }
    }
}

/// Where plugins are, and what is counted of their runs.
#[derive(Clone, Copy)]
pub(super) struct Plugins<'a> {
    /// Their directories, in order.
    pub(super) bin: &'a [PathBuf],
    /// How long they have taken.
    pub(super) calls: &'a Calls,
}

impl Plugins<'_> {
    /// Finds a plugin and runs it; see [`run`].
    pub(super) async fn call(
        &self,
        (kind, verb): (&str, Verb),
        environment: impl IntoIterator<Item = (&'static str, OsString)>,
        request: &[u8],
        deadline: Deadline,
    ) -> Result<Vec<u8>, Failure> {
        let path = find(kind, self.bin)?;
        let begun = Instant::now();
        let ended = run(&path, environment, request, deadline).await;
        let failure = ended.as_ref().err().map(|_| FAILED);
        self.calls.note(&(kind.to_owned(), verb), begun.elapsed(), failure);
        ended
    }
}

/// Finds a plugin's executable in the first directory that has it.
pub(super) fn find(kind: &str, dirs: &[PathBuf]) -> Result<PathBuf, Failure> {
    let found = dirs.iter().map(|dir| dir.join(kind)).find(|path| path.is_file());
    found.ok_or_else(|| Failure::NotFound { dirs: dirs.to_vec() })
}

/// Runs a plugin with a request on its stdin, and gives what it wrote to its stdout.
async fn run(
    path: &Path,
    environment: impl IntoIterator<Item = (&'static str, OsString)>,
    request: &[u8],
    deadline: Deadline,
) -> Result<Vec<u8>, Failure> {
    let mut command = Command::new(path);
    command.envs(environment).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = start(&mut command).await.map_err(|source| Failure::Start { path: path.to_owned(), source })?;
    let multiplies = multiplies(child.id());
    let talked = tokio::select! {
        talked = tokio::time::timeout_at(deadline.at, talk(&mut child, request)) => talked,
        () = multiplies => Ok(Err(Failure::Multiplied { limit: PROCESSES_LIMIT })),
    };
    match talked.unwrap_or(Err(Failure::Timeout { after: deadline.after })) {
        Ok(ended) => judge(path, ended),
        Err(failure) => {
            end(&mut child).await;
            Err(failure)
        }
    }
}

async fn start(command: &mut Command) -> io::Result<Child> {
    for _ in 1..BUSY_TRIES {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => tokio::time::sleep(BUSY_PAUSE).await,
            started => return started,
        }
    }
    command.spawn()
}

/// Returns once a plugin has started more processes than plugins do.
async fn multiplies(pid: Option<u32>) {
    let Some(pid) = pid else { return std::future::pending().await };
    let mut pause = FIRST_COUNT;
    loop {
        tokio::time::sleep(pause).await;
        let count = tokio::task::spawn_blocking(move || process::descendants(pid, PROCESSES_LIMIT)).await;
        if count.is_ok_and(|count| count > PROCESSES_LIMIT) {
            return;
        }
        pause *= 2;
    }
}

/// How a plugin ended, and what it wrote.
struct Ended {
    status: ExitStatus,
    output: Vec<u8>,
    log: Vec<u8>,
}

/// All three streams at once, so that neither side waits for the other with a full pipe.
async fn talk(child: &mut Child, request: &[u8]) -> Result<Ended, Failure> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let ask = async {
        if let Some(mut stdin) = stdin {
            // a plugin need not read its request; whether it could do without is for its answer to say
            let _ = stdin.write_all(request).await;
        }
        Ok(())
    };
    let ((), output, log) = tokio::try_join!(ask, read_output(stdout), read_log(stderr))?;
    let status = child.wait().await.map_err(|source| Failure::Read { source })?;
    Ok(Ended { status, output, log })
}

async fn read_output(stdout: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, Failure> {
    let mut output = Vec::new();
    if let Some(stdout) = stdout {
        let read = stdout.take(OUTPUT_LIMIT + 1).read_to_end(&mut output).await;
        read.map_err(|source| Failure::Read { source })?;
    }
    let too_much = u64::try_from(output.len()).is_ok_and(|length| length > OUTPUT_LIMIT);
    if too_much { Err(Failure::TooMuch { limit: OUTPUT_LIMIT }) } else { Ok(output) }
}

/// Keeps the beginning; the rest is read too, so that the plugin isn't held up.
async fn read_log(stderr: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, Failure> {
    let mut log = Vec::new();
    let Some(mut stderr) = stderr else { return Ok(log) };
    let mut chunk = [0; 4096];
    loop {
        let length = stderr.read(&mut chunk).await.map_err(|source| Failure::Read { source })?;
        if length == 0 {
            return Ok(log);
        }
        let room = LOG_LIMIT - log.len();
        log.extend_from_slice(&chunk[..length.min(room)]);
    }
}

/// Kills the plugin with what it has started, such as its IPAM plugin.
async fn end(child: &mut Child) {
    let group = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(group) = group {
        // gone already is as good
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.kill().await;
}

fn judge(path: &Path, ended: Ended) -> Result<Vec<u8>, Failure> {
    if !ended.log.is_empty() {
        tracing::debug!(plugin = %path.display(), log = readable(&ended.log), "plugin's own log");
    }
    if ended.status.success() {
        return Ok(ended.output);
    }
    match result::refusal(&ended.output) {
        Some(result::Refusal { code, msg, details }) => Err(Failure::Refused { code, msg, details }),
        None => {
            let said = if ended.output.is_empty() { &ended.log } else { &ended.output };
            Err(Failure::Died { status: ended.status, output: readable(said) })
        }
    }
}

/// The beginning of what was written, on one line.
fn readable(written: &[u8]) -> String {
    let beginning = &written[..written.len().min(TOLD_LIMIT)];
    let text = String::from_utf8_lossy(beginning);
    text.split(|c: char| c.is_control()).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::testing::Dir;
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    async fn run_script(script: &str, request: &[u8], limit: Duration) -> Result<Vec<u8>, Failure> {
        let dir = Dir::new();
        let path = dir.script("plugin", script);
        run(&path, [("CNI_COMMAND", "ADD".into())], request, Deadline::within(limit)).await
    }

    async fn failure(script: &str, limit: Duration) -> Failure {
        run_script(script, b"{}", limit).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_plugin_gets_environment_and_request_and_answers() {
        let answer = run_script(r#"printf '%s ' "$CNI_COMMAND"; cat"#, b"{\"a\": 1}", LONG).await.unwrap();
        assert_eq!(answer, b"ADD {\"a\": 1}");
    }

    #[tokio::test]
    async fn a_plugin_that_reads_nothing_is_not_waited_for() {
        let request = vec![b' '; 1 << 20];
        assert_eq!(run_script("echo done", &request, LONG).await.unwrap(), b"done\n");
    }

    #[tokio::test]
    async fn a_refusal_is_carried_whole() {
        let script = r#"echo '{"code": 11, "msg": "later", "details": "the pool is full"}'; exit 1"#;
        match failure(script, LONG).await {
            Failure::Refused { code: 11, msg, details } => {
                assert_eq!((msg.as_str(), details.as_str()), ("later", "the pool is full"));
            }
            other => panic!("{other}"),
        }
    }

    #[tokio::test]
    async fn a_death_without_a_refusal_tells_status_and_words() {
        let cases = [
            ("echo 'no such\nbridge' >&2; exit 3", "ended with exit status: 3: no such bridge"),
            ("echo garbage; echo log >&2; exit 1", "ended with exit status: 1: garbage"),
            ("exit 2", "ended with exit status: 2 and said nothing"),
            ("kill -9 $$", "ended with signal: 9 (SIGKILL) and said nothing"),
        ];
        for (script, expected) in cases {
            assert_eq!(failure(script, LONG).await.to_string(), expected);
        }
    }

    #[tokio::test]
    async fn a_plugin_that_hangs_is_killed_with_what_it_started() {
        let dir = Dir::new();
        let pid_file = dir.path("pid");
        let path = dir.script("plugin", &format!("sleep 600 & echo $! >{}; wait", pid_file.display()));
        let began = Instant::now();
        let run = run(&path, [], b"{}", Deadline::within(Duration::from_secs(2))).await;
        assert!(matches!(run, Err(Failure::Timeout { .. })), "{run:?}");
        assert!(began.elapsed() < Duration::from_secs(30));
        let child = std::fs::read_to_string(pid_file).unwrap();
        // killed: gone, or a zombie that nobody has waited for yet
        for _ in 0..100 {
            let state = std::fs::read_to_string(format!("/proc/{}/stat", child.trim()));
            if state.map_or(true, |stat| stat.contains(") Z ")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("process {child} still runs");
    }

    #[tokio::test]
    async fn a_plugin_that_starts_itself_without_end_is_killed_with_all_of_it() {
        let dir = Dir::new();
        let pids = dir.path("pids");
        let path = dir.script("plugin", &format!("echo $$ >>{}; sleep 0.001; \"$0\"; exit 1", pids.display()));
        let failed = run(&path, [], b"{}", Deadline::within(LONG)).await.unwrap_err();
        assert!(failed.to_string().contains("more than 100 processes"), "{failed}");
        let pids = std::fs::read_to_string(pids).unwrap();
        assert!(pids.lines().count() > PROCESSES_LIMIT);
        let runs =
            |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        for _ in 0..500 {
            if !pids.lines().any(runs) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("some still run");
    }

    #[tokio::test]
    async fn a_plugin_that_writes_without_end_is_killed() {
        assert!(matches!(failure("exec cat /dev/zero", LONG).await, Failure::TooMuch { .. }));
    }

    #[tokio::test]
    async fn a_long_log_of_a_plugin_holds_nothing_up() {
        let script = "head -c 1000000 /dev/zero >&2; echo done";
        assert_eq!(run_script(script, b"{}", LONG).await.unwrap(), b"done\n");
    }

    #[tokio::test]
    async fn what_cannot_be_started_is_named() {
        let dir = Dir::new();
        std::fs::write(dir.path("plain"), "").unwrap();
        let failure = run(&dir.path("plain"), [], b"{}", Deadline::within(LONG)).await.unwrap_err();
        assert!(failure.to_string().contains("plain"), "{failure}");
    }

    #[test]
    fn a_plugin_is_found_in_the_first_directory_that_has_it() {
        let (empty, first, second) = (Dir::new(), Dir::new(), Dir::new());
        first.script("bridge", "");
        second.script("bridge", "");
        let dirs = [empty.path("gone"), empty.path("."), first.path("."), second.path(".")];
        assert_eq!(find("bridge", &dirs).unwrap(), first.path("./bridge"));
        let failure = find("ptp", &dirs).unwrap_err().to_string();
        assert!(failure.contains(&dirs[3].display().to_string()), "{failure}");
    }
}
