//! CRI log files: there when StartContainer answers, both streams, partial lines, reopening.

use std::fs;
use std::time::Duration;

use dockershim::cri;
use libtest_mimic::Trial;
use tonic::Code;

use crate::lab::{Case, Line, Stage, eventually, lines, sh, sleeper, trials};

pub(crate) fn trials() -> Vec<Trial> {
    trials![Stage::Shared;
        the_file_is_there_when_start_answers,
        both_streams_are_written_line_by_line,
        a_line_without_an_end_and_a_long_one_are_partial,
        bytes_that_are_no_text_do_not_break_the_log,
        an_exited_containers_log_is_complete,
        a_running_containers_lines_come_soon,
        reopening_goes_on_in_a_new_file,
        reopening_needs_a_running_container,
        a_terminal_logs_to_stdout,
        without_a_path_there_is_no_log,
        docker_logs_works_as_ever,
    ]
}

fn line(stream: &str, tag: &str, text: &str) -> Line {
    (stream.to_owned(), tag.to_owned(), text.to_owned())
}

async fn the_file_is_there_when_start_answers(case: Case) {
    let pod = case.run_pod("early").await;
    for number in 0..5 {
        let config = sleeper(&format!("quiet-{number}"));
        case.start(&pod, &config).await;
        assert!(pod.log(&config).exists());
    }
}

async fn both_streams_are_written_line_by_line(case: Case) {
    let pod = case.run_pod("streams").await;
    let script = "echo one; sleep 0.2; echo two >&2; sleep 0.2; echo; echo ' F 漢字 \"quoted\" \\ '";
    let (_, lines) = case.run_to_end(&pod, &sh("main", script)).await;
    let expected = [
        line("stdout", "F", "one"),
        line("stderr", "F", "two"),
        line("stdout", "F", ""),
        line("stdout", "F", " F 漢字 \"quoted\" \\ "),
    ];
    assert_eq!(lines, expected);
}

async fn a_line_without_an_end_and_a_long_one_are_partial(case: Case) {
    let pod = case.run_pod("partial").await;
    let script = "head -c 100000 /dev/zero | tr '\\0' x; echo; printf 'no end'";
    let (_, lines) = case.run_to_end(&pod, &sh("main", script)).await;
    let (last, long) = lines.split_last().unwrap();
    assert_eq!((last.1.as_str(), last.2.as_str()), ("P", "no end"));
    let (end, parts) = long.split_last().unwrap();
    assert_eq!(end.1, "F");
    assert!(!parts.is_empty() && parts.iter().all(|part| part.1 == "P"));
    let whole: String = long.iter().map(|part| part.2.as_str()).collect();
    assert!(whole == "x".repeat(100_000), "{} bytes", whole.len());
}

async fn bytes_that_are_no_text_do_not_break_the_log(case: Case) {
    let pod = case.run_pod("bytes").await;
    let config = sh("main", "printf 'a\\377\\000b\\rc\\n'; echo after");
    let id = case.start(&pod, &config).await;
    case.exited(&id).await;
    let log = fs::read(pod.log(&config)).unwrap();
    let rows: Vec<_> = log.split(|byte| *byte == b'\n').filter(|row| !row.is_empty()).collect();
    assert_eq!(rows.len(), 2, "{}", String::from_utf8_lossy(&log));
    assert!(rows[1].ends_with(b" stdout F after"));
    assert!(rows[0].ends_with(b"b\rc"));
}

async fn an_exited_containers_log_is_complete(case: Case) {
    let pod = case.run_pod("whole").await;
    let (_, lines) =
        case.run_to_end(&pod, &sh("main", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done")).await;
    assert_eq!(lines.len(), 20_000);
    for (number, row) in lines.iter().enumerate() {
        assert_eq!(row.2, format!("line {number}"));
    }
}

async fn a_running_containers_lines_come_soon(case: Case) {
    let pod = case.run_pod("soon").await;
    let config = sh("main", "echo hello; exec sleep 3600");
    case.start(&pod, &config).await;
    let log = pod.log(&config);
    let look = || async { fs::read_to_string(&log).unwrap().ends_with(" stdout F hello\n").then_some(()) };
    eventually("the line is in the log", Duration::from_secs(2), look).await;
}

async fn reopening_goes_on_in_a_new_file(case: Case) {
    let pod = case.run_pod("rotated").await;
    let config = sh("main", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done");
    let id = case.start(&pod, &config).await;
    let log = pod.log(&config);
    let grown = |least: usize| {
        let log = log.clone();
        move || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            async move { (text.lines().count() >= least).then_some(()) }
        }
    };
    eventually("there are lines", Duration::from_secs(10), grown(20)).await;
    let rotated = log.with_extension("log.1");
    fs::rename(&log, &rotated).unwrap();
    case.cri.reopen_log(&id).await.unwrap();
    assert!(log.exists(), "at once");
    let before = fs::read_to_string(&rotated).unwrap();
    eventually("there are new lines", Duration::from_secs(10), grown(20)).await;
    assert_eq!(fs::read_to_string(&rotated).unwrap(), before, "the old file is left alone");
    case.cri.stop(&id, 0).await.unwrap();
    let whole = before + &fs::read_to_string(&log).unwrap();
    for (number, row) in lines(&whole).iter().enumerate() {
        assert_eq!(row.2, number.to_string(), "nothing is lost and nothing comes twice");
    }
}

async fn reopening_needs_a_running_container(case: Case) {
    let pod = case.run_pod("idle").await;
    let created = case.create(&pod, &sleeper("created")).await;
    assert_eq!(case.cri.reopen_log(&created).await.unwrap_err().code(), Code::FailedPrecondition);
    let exited = case.start(&pod, &sh("exited", "true")).await;
    case.exited(&exited).await;
    assert_eq!(case.cri.reopen_log(&exited).await.unwrap_err().code(), Code::FailedPrecondition);
}

async fn a_terminal_logs_to_stdout(case: Case) {
    let pod = case.run_pod("terminal").await;
    let config = cri::ContainerConfig { tty: true, ..sh("main", "test -t 1 && echo terminal; echo error >&2") };
    let (_, lines) = case.run_to_end(&pod, &config).await;
    let texts: Vec<_> = lines.iter().map(|row| (row.0.as_str(), row.2.trim_end())).collect();
    assert_eq!(texts, [("stdout", "terminal"), ("stdout", "error")]);
}

async fn without_a_path_there_is_no_log(case: Case) {
    let pod = case.run_pod("pathless").await;
    let config = cri::ContainerConfig { log_path: String::new(), ..sh("main", "echo nowhere") };
    let id = case.cri.create(&pod.id, &config, &pod.config).await.unwrap();
    case.cri.start(&id).await.unwrap();
    let status = case.exited(&id).await;
    assert_eq!((status.exit_code, status.log_path.as_str()), (0, ""));
    assert_eq!(fs::read_dir(&pod.config.log_directory).unwrap().count(), 0);
}

async fn docker_logs_works_as_ever(case: Case) {
    let pod = case.run_pod("docker").await;
    let id = case.start(&pod, &sh("main", "echo for the operator")).await;
    case.exited(&id).await;
    let path = format!("/containers/{id}/logs?stdout=1");
    let (_, log) = case.lab.engine.docker.call("GET", &path, "", b"").unwrap();
    assert!(String::from_utf8_lossy(&log).contains("for the operator"));
}
