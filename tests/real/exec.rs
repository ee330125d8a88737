//! ExecSync: what exec probes and lifecycle hooks are made of.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use libtest_mimic::Trial;
use tonic::Code;

use crate::lab::{Case, Stage, eventually, sh, sleeper, trials};

pub(crate) fn trials() -> Vec<Trial> {
    trials![Stage::Shared;
        output_and_exit_code_come_back,
        a_timeout_kills_the_process_and_is_deadline_exceeded,
        output_is_capped_at_16_mib_per_stream,
        a_child_left_in_the_background_does_not_hang_it,
        a_command_that_is_not_there_has_an_exit_code_or_an_error,
        a_container_that_does_not_run_is_a_failed_precondition,
        many_at_once_do_not_mix_up_their_output,
        it_runs_as_the_containers_user_and_in_its_directory,
    ]
}

/// A running container of the test's own.
async fn container(case: &Case) -> String {
    let pod = case.run_pod("exec").await;
    case.start(&pod, &sleeper("main")).await
}

async fn output_and_exit_code_come_back(case: Case) {
    let id = container(&case).await;
    let answer = case.cri.exec(&id, &["/bin/sh", "-c", "echo out; echo err >&2; exit 7"], 10).await.unwrap();
    assert_eq!((answer.stdout.as_slice(), answer.stderr.as_slice()), (b"out\n".as_slice(), b"err\n".as_slice()));
    assert_eq!(answer.exit_code, 7);
    let answer = case.cri.exec(&id, &["echo", "a b", "$HOME", ""], 0).await.unwrap();
    assert_eq!((answer.stdout.as_slice(), answer.exit_code), (b"a b $HOME \n".as_slice(), 0));
    let answer = case.cri.exec(&id, &["/bin/sh", "-c", "printf '\\000\\377\\001'"], 10).await.unwrap();
    assert_eq!(answer.stdout, [0, 255, 1]);
    let answer = case.cri.exec(&id, &["true"], 10).await.unwrap();
    assert_eq!((answer.stdout.len(), answer.stderr.len(), answer.exit_code), (0, 0, 0));
}

async fn a_timeout_kills_the_process_and_is_deadline_exceeded(case: Case) {
    let id = container(&case).await;
    let start = Instant::now();
    let script = "trap '' TERM; sleep 4711 & while :; do sleep 4712; done";
    let refused = case.cri.exec(&id, &["/bin/sh", "-c", script], 1).await.unwrap_err();
    assert_eq!(refused.code(), Code::DeadlineExceeded);
    assert!((Duration::from_secs(1)..Duration::from_secs(10)).contains(&start.elapsed()), "{:?}", start.elapsed());
    // the brackets keep the search from finding itself
    let gone = || async { case.output(&id, "ps -o args | grep 'sleep 471[12]'; true").await.is_empty().then_some(()) };
    eventually("the process is gone", Duration::from_secs(10), gone).await;
}

async fn output_is_capped_at_16_mib_per_stream(case: Case) {
    let id = container(&case).await;
    let script = "head -c 18000000 /dev/zero; head -c 17000000 /dev/zero >&2; exit 5";
    let answer = case.cri.exec(&id, &["/bin/sh", "-c", script], 60).await.unwrap();
    assert_eq!((answer.stdout.len(), answer.stderr.len(), answer.exit_code), (16 << 20, 16 << 20, 5));
}

async fn a_child_left_in_the_background_does_not_hang_it(case: Case) {
    let id = container(&case).await;
    let start = Instant::now();
    let answer = case.cri.exec(&id, &["/bin/sh", "-c", "sleep 60 & echo done"], 30).await.unwrap();
    assert_eq!((answer.stdout.as_slice(), answer.exit_code), (b"done\n".as_slice(), 0));
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

async fn a_command_that_is_not_there_has_an_exit_code_or_an_error(case: Case) {
    let id = container(&case).await;
    match case.cri.exec(&id, &["/no/such/program"], 10).await {
        Ok(answer) => assert!([126, 127].contains(&answer.exit_code), "{answer:?}"),
        Err(status) => assert!(status.message().contains("/no/such/program"), "{}", status.message()),
    }
}

async fn a_container_that_does_not_run_is_a_failed_precondition(case: Case) {
    let pod = case.run_pod("idle").await;
    let created = case.create(&pod, &sleeper("created")).await;
    let exited = case.start(&pod, &sh("exited", "true")).await;
    case.exited(&exited).await;
    for id in [created, exited] {
        let refused = case.cri.exec(&id, &["true"], 10).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{}", refused.message());
    }
}

async fn many_at_once_do_not_mix_up_their_output(case: Case) {
    let id = container(&case).await;
    let answers = join_all((0..12).map(|number| {
        let (cri, id) = (case.cri.clone(), id.clone());
        async move {
            let script = format!("echo {number}; echo {number} >&2; exit {number}");
            cri.exec(&id, &["/bin/sh", "-c", &script], 30).await.unwrap()
        }
    }));
    for (number, answer) in (0..).zip(answers.await) {
        let text = format!("{number}\n").into_bytes();
        assert_eq!((answer.stdout, answer.stderr, answer.exit_code), (text.clone(), text, number));
    }
}

async fn it_runs_as_the_containers_user_and_in_its_directory(case: Case) {
    let pod = case.run_pod("user").await;
    let mut config = sleeper("main");
    config.working_dir = "/tmp".to_owned();
    config.linux.as_mut().unwrap().security_context = Some(dockershim::cri::LinuxContainerSecurityContext {
        run_as_user: Some(dockershim::cri::Int64Value { value: 1000 }),
        ..Default::default()
    });
    let id = case.start(&pod, &config).await;
    assert_eq!(case.output(&id, "id -u; pwd").await, "1000\n/tmp\n");
}
