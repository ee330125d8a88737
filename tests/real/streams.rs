//! Exec, attach and port-forward as the kubelet's clients speak them: SPDY/3.1 and WebSocket, in order and out of order.

use std::path::Path;
use std::time::{Duration, Instant};

use dockershim::cri;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::Code;

use crate::lab::{Case, Pod, Stage, eventually, runtime_ready, sh, sleeper, trials, words};
use crate::stream_client::{Spdy, WebSocket, ask};
use crate::support::engine::Options;
use crate::support::shim::Shim;

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = trials![Stage::Own(Options::default()); limits_of_time_and_number_hold];
    all.extend(trials![Stage::Shared;
        exec_tells_outputs_and_exit_code_apart,
        input_goes_in_and_its_end_too,
        a_terminal_has_the_clients_size,
        a_client_that_goes_away_ends_the_input,
        a_client_that_leaves_a_full_input_behind_is_noticed,
        a_stalled_client_stalls_the_process_and_loses_nothing,
        input_goes_in_while_nobody_reads_the_output,
        a_command_that_cannot_be_run_is_told,
        older_subprotocols_are_told_in_text,
        attach_joins_a_container_from_now_on,
        attach_to_a_terminal_takes_both_outputs_for_one,
        ports_are_forwarded_both_ways_and_end_by_halves,
        a_port_of_ipv6_alone_is_reached,
        a_port_that_nobody_listens_on_harms_no_other,
        a_tunnel_carries_what_spdy_does,
        an_answer_comes_whole_though_no_more_is_taken,
        a_client_of_npm_is_served,
        a_websocket_ends_its_input_and_learns_the_exit_code,
        a_websocket_message_of_any_length_goes_through_and_a_ping_is_answered,
        a_websocket_of_base64_is_text,
        a_websocket_has_a_terminal_of_the_clients_size,
        a_websocket_joins_a_container_from_now_on,
        a_websocket_forwards_the_ports_that_were_named,
        what_is_not_a_message_closes_the_websocket,
        a_token_is_good_once_and_only_where_it_was_given_for,
        an_upgrade_that_is_not_in_order_is_refused,
        frames_that_break_spdy_end_the_connection_alone,
        requests_that_cannot_be_met_are_refused,
    ]);
    all
}

pub(crate) const V4: &str = "v5.channel.k8s.io, v4.channel.k8s.io, v3.channel.k8s.io";

/// A running container of the test's own.
pub(crate) async fn container(case: &Case) -> String {
    let pod = case.run_pod("streams").await;
    case.start(&pod, &sleeper("main")).await
}

pub(crate) fn exec_of(id: &str, script: &str) -> cri::ExecRequest {
    let (container_id, cmd) = (id.to_owned(), words(&["/bin/sh", "-c", script]));
    cri::ExecRequest { container_id, cmd, tty: false, stdin: false, stdout: true, stderr: true }
}

pub(crate) async fn exec_url(case: &Case, request: cri::ExecRequest) -> String {
    case.cri.runtime().exec(request).await.unwrap().into_inner().url
}

pub(crate) async fn attach_url(case: &Case, id: &str, tty: bool) -> String {
    let request = cri::AttachRequest { container_id: id.to_owned(), stdin: true, tty, stdout: true, stderr: true };
    case.cri.runtime().attach(request).await.unwrap().into_inner().url
}

pub(crate) async fn forward_url(case: &Case, pod: &Pod, port: &[i32]) -> String {
    let request = cri::PortForwardRequest { pod_sandbox_id: pod.id.clone(), port: port.to_vec() };
    case.cri.runtime().port_forward(request).await.unwrap().into_inner().url
}

async fn exec_tells_outputs_and_exit_code_apart(case: Case) {
    let id = container(&case).await;
    let url = exec_url(&case, exec_of(&id, "echo out; echo err >&2; exit 7")).await;
    assert!(url.starts_with("http://127.0.0.1:") && url.contains("/exec/"), "{url}");
    let mut client = Spdy::connect(&url, V4).await;
    let [error, out, err] = client.open_all(["error", "stdout", "stderr"]).await;
    let status = client.read_to_end(error).await;
    assert!(status.contains(r#""reason":"ExitCode""#) && status.contains(r#""message":"7""#), "{status}");
    assert_eq!((client.read_to_end(out).await, client.read_to_end(err).await), ("out\n".into(), "err\n".into()));
    let mut client = Spdy::connect(&exec_url(&case, exec_of(&id, "true")).await, V4).await;
    let [error, ..] = client.open_all(["error", "stdout", "stderr"]).await;
    assert!(client.read_to_end(error).await.contains(r#""status":"Success""#));
}

async fn input_goes_in_and_its_end_too(case: Case) {
    let id = container(&case).await;
    let request = cri::ExecRequest { stdin: true, ..exec_of(&id, "md5sum") };
    let mut client = Spdy::connect(&exec_url(&case, request).await, V4).await;
    let [error, input, out, _] = client.open_all(["error", "stdin", "stdout", "stderr"]).await;
    client.send(input, &vec![b'x'; 5_000_000]).await;
    client.finish(input).await;
    assert_eq!(client.read_to_end(out).await, "9dff3479548c346bbeeeab2c23af22fd  -\n");
    assert!(client.read_to_end(error).await.contains("Success"));
}

async fn a_terminal_has_the_clients_size(case: Case) {
    let id = container(&case).await;
    let script = r#"while [ "$(stty size)" != "33 101" ]; do sleep 0.1; done; echo sized; read word; echo "<$word>""#;
    let request = cri::ExecRequest { tty: true, stdin: true, stderr: false, ..exec_of(&id, script) };
    let mut client = Spdy::connect(&exec_url(&case, request).await, V4).await;
    let [resize] = client.open_all(["resize"]).await;
    client.send(resize, br#"{"Width":101,"Height":33}"#).await;
    let [error, input, out] = client.open_all(["error", "stdin", "stdout"]).await;
    client.read_until(out, "sized\r\n").await;
    // ctrl-p is the process's to see: by default the Engine would hold it back
    client.send(input, b"a\x10b\n").await;
    client.read_until(out, "<a\x10b>").await;
    assert!(client.read_to_end(error).await.contains("Success"));
}

async fn a_client_that_goes_away_ends_the_input(case: Case) {
    let id = container(&case).await;
    let request = cri::ExecRequest { stdin: true, ..exec_of(&id, "echo up; cat; touch /tmp/input-ended") };
    let mut client = Spdy::connect(&exec_url(&case, request).await, V4).await;
    let [_, _, out, _] = client.open_all(["error", "stdin", "stdout", "stderr"]).await;
    client.read_until(out, "up").await;
    drop(client);
    let ended = || async {
        case.cri.exec(&id, &["test", "-e", "/tmp/input-ended"], 5).await.ok()?.exit_code.eq(&0).then_some(())
    };
    eventually("the input has ended", Duration::from_secs(5), ended).await;
}

/// Whether anybody on this machine still holds the other end of a client's connection.
fn is_held(port: u16) -> bool {
    let peer = format!(" 0100007F:{port:04X} ");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let others = table.lines().filter_map(|line| line.split_once(": ").map(|(_, rest)| rest));
    // the client's own end has the port on the left; 06 is the memory of a connection that is closed
    others.filter(|rest| rest[13..].starts_with(&peer)).any(|rest| !rest[13 + peer.len()..].starts_with("06"))
}

async fn a_client_that_leaves_a_full_input_behind_is_noticed(case: Case) {
    let id = container(&case).await;
    let request = cri::ExecRequest { stdin: true, ..exec_of(&id, "echo up; sleep 60") };
    let full = Duration::from_secs(1);
    let mut client = Spdy::connect(&exec_url(&case, request.clone()).await, V4).await;
    let [_, input, out, _] = client.open_all(["error", "stdin", "stdout", "stderr"]).await;
    client.read_until(out, "up").await;
    while tokio::time::timeout(full, client.send(input, &[0; 32 << 10])).await.is_ok() {}
    let spdy = client.port();
    drop(client);
    let mut client = WebSocket::connect(&exec_url(&case, request).await, "v4.channel.k8s.io").await;
    while client.text(1).is_empty() {
        assert!(client.read_message().await);
    }
    while tokio::time::timeout(full, client.send(&[0; 32 << 10])).await.is_ok() {}
    let websocket = client.port();
    assert!(is_held(websocket));
    drop(client);
    for port in [spdy, websocket] {
        let ended = || async { (!is_held(port)).then_some(()) };
        eventually("the connection is closed", Duration::from_secs(10), ended).await;
    }
}

async fn a_stalled_client_stalls_the_process_and_loses_nothing(case: Case) {
    let id = container(&case).await;
    let script = "head -c 30000000 /dev/zero; touch /tmp/written";
    let mut client = Spdy::connect(&exec_url(&case, exec_of(&id, script)).await, V4).await;
    let [error, out, _] = client.open_all(["error", "stdout", "stderr"]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let written = case.cri.exec(&id, &["test", "-e", "/tmp/written"], 5).await.unwrap();
    assert_eq!(written.exit_code, 1, "30 MB went somewhere while nobody read them");
    assert!(client.read_to_end(error).await.contains("Success"));
    assert_eq!(client.come[&out].bytes.len(), 30_000_000);
}

async fn input_goes_in_while_nobody_reads_the_output(case: Case) {
    let id = container(&case).await;
    // it takes nothing until both ways are full
    let script = |name: &str| format!("cat /dev/zero & sleep 3; head -c 30000000 >/dev/null; touch /tmp/{name}; wait");
    let request = |name| cri::ExecRequest { stdin: true, stderr: false, ..exec_of(&id, &script(name)) };
    let input = vec![0; 30_000_000];
    let mut spdy = Spdy::connect(&exec_url(&case, request("spdy")).await, V4).await;
    let [_, stdin, _] = spdy.open_all(["error", "stdin", "stdout"]).await;
    let mut websocket = WebSocket::connect(&exec_url(&case, request("websocket")).await, "v4.channel.k8s.io").await;
    let (over_spdy, over_websocket) = (spdy.send(stdin, &input), async {
        for piece in input.chunks(32 << 10) {
            websocket.send(&[&[0], piece].concat()).await;
        }
    });
    let sent = timeout(Duration::from_secs(20), async { tokio::join!(over_spdy, over_websocket) });
    sent.await.expect("all that is taken can be sent");
    let taken = || async {
        let found = case.cri.exec(&id, &["test", "-e", "/tmp/spdy", "-a", "-e", "/tmp/websocket"], 5).await.ok()?;
        (found.exit_code == 0).then_some(())
    };
    eventually("all input is taken", Duration::from_secs(10), taken).await;
}

async fn a_command_that_cannot_be_run_is_told(case: Case) {
    let id = container(&case).await;
    let request = cri::ExecRequest { cmd: words(&["/no/such/program"]), ..exec_of(&id, "") };
    let mut client = Spdy::connect(&exec_url(&case, request).await, V4).await;
    let [error, ..] = client.open_all(["error", "stdout", "stderr"]).await;
    assert!(client.read_to_end(error).await.contains("Failure"));
}

async fn older_subprotocols_are_told_in_text(case: Case) {
    let id = container(&case).await;
    for protocol in ["v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"] {
        let mut client = Spdy::connect(&exec_url(&case, exec_of(&id, "exit 3")).await, protocol).await;
        let [error, ..] = client.open_all(["error", "stdout", "stderr"]).await;
        let told = client.read_to_end(error).await;
        assert!(told.ends_with("exit code: 3"), "{protocol}: {told}");
    }
}

/// A container that has printed something already, and answers each line.
async fn answering(case: &Case) -> String {
    let pod = case.run_pod("attach").await;
    let mut config = sh("main", "echo before; while read word; do echo \"got $word\"; done; echo over >&2; exit 4");
    (config.stdin, config.stdin_once) = (true, true);
    let id = case.start(&pod, &config).await;
    let logged = || async { std::fs::read_to_string(pod.log(&config)).ok()?.contains("before").then_some(()) };
    eventually("the container has begun", Duration::from_secs(5), logged).await;
    id
}

async fn attach_joins_a_container_from_now_on(case: Case) {
    let id = answering(&case).await;
    let mut client = Spdy::connect(&attach_url(&case, &id, false).await, V4).await;
    let [error, input, out, err] = client.open_all(["error", "stdin", "stdout", "stderr"]).await;
    client.send(input, b"a\n").await;
    client.read_until(out, "got a\n").await;
    client.finish(input).await;
    assert_eq!((client.read_to_end(out).await, client.read_to_end(err).await), ("got a\n".into(), "over\n".into()));
    assert!(client.read_to_end(error).await.contains("Success"));
    assert_eq!(case.exited(&id).await.exit_code, 4);
}

async fn attach_to_a_terminal_takes_both_outputs_for_one(case: Case) {
    let pod = case.run_pod("attach").await;
    let mut config = sh("main", "while read word; do echo \"got $word\"; done");
    (config.stdin, config.tty) = (true, true);
    let id = case.start(&pod, &config).await;
    let mut client = Spdy::connect(&attach_url(&case, &id, true).await, V4).await;
    let [_, input, out, _] = client.open_all(["error", "stdin", "stdout", "resize"]).await;
    client.send(input, b"a\n").await;
    client.read_until(out, "got a\r\n").await;
    // the end of this client's input is not that of the container's
    client.finish(input).await;
    let mut second = Spdy::connect(&attach_url(&case, &id, true).await, V4).await;
    let [_, input, out_of_second, _] = second.open_all(["error", "stdin", "stdout", "resize"]).await;
    second.send(input, b"b\n").await;
    second.read_until(out_of_second, "got b\r\n").await;
    client.read_until(out, "got b\r\n").await;
    // kubectl whose own terminal isn't raw opens stderr, and sends no sizes
    let mut piped = Spdy::connect(&attach_url(&case, &id, true).await, V4).await;
    let [_, input, out_of_piped, _] = piped.open_all(["error", "stdin", "stdout", "stderr"]).await;
    piped.send(input, b"c\n").await;
    piped.read_until(out_of_piped, "got c\r\n").await;
}

/// A pod in which each connection to port 7000 is answered with what it sent, once it has ended its half.
pub(crate) async fn echo(case: &Case) -> Pod {
    let pod = case.run_pod("forward").await;
    let id = case.start(&pod, &sh("main", "nc -ll -p 7000 -e /bin/sh -c 'echo hello; cat; echo bye'")).await;
    let listening = || async {
        let tried = case.cri.exec(&id, &["/bin/sh", "-c", "grep -q ':1B58 ' /proc/net/tcp /proc/net/tcp6"], 5).await;
        (tried.ok()?.exit_code == 0).then_some(())
    };
    eventually("the server listens", Duration::from_secs(5), listening).await;
    pod
}

async fn ports_are_forwarded_both_ways_and_end_by_halves(case: Case) {
    let pod = echo(&case).await;
    let mut client = Spdy::connect(&forward_url(&case, &pod, &[]).await, "portforward.k8s.io").await;
    let pairs = [client.open_pair(7000, "0").await, client.open_pair(7000, "1").await];
    for (number, (_, data)) in (0..).zip(pairs) {
        client.send(data, format!("{number}\n").as_bytes()).await;
        client.read_until(data, &format!("hello\n{number}\n")).await;
    }
    for (number, (error, data)) in (0..).zip(pairs) {
        client.finish(data).await;
        assert_eq!(client.read_to_end(data).await, format!("hello\n{number}\nbye\n"));
        assert_eq!(client.read_to_end(error).await, "");
    }
}

/// A pod on the host's network: the test can be who listens.
async fn on_host(case: &Case) -> Pod {
    let mut config = case.pod("forward");
    let options = cri::NamespaceOption { network: cri::NamespaceMode::Node.into(), ..Default::default() };
    let context = cri::LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() };
    config.linux = Some(cri::LinuxPodSandboxConfig { security_context: Some(context), ..Default::default() });
    case.run(config).await
}

async fn a_port_of_ipv6_alone_is_reached(case: Case) {
    let pod = on_host(&case).await;
    let listener = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut client = Spdy::connect(&forward_url(&case, &pod, &[]).await, "portforward.k8s.io").await;
    let (_, data) = client.open_pair(port, "0").await;
    let (mut accepted, _) = listener.accept().await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut accepted, b"six").await.unwrap();
    client.read_until(data, "six").await;
}

async fn a_port_that_nobody_listens_on_harms_no_other(case: Case) {
    let pod = echo(&case).await;
    let mut client = Spdy::connect(&forward_url(&case, &pod, &[7000]).await, "portforward.k8s.io").await;
    let (_, good) = client.open_pair(7000, "good").await;
    client.read_until(good, "hello\n").await;
    let (error, _) = client.open_pair(7001, "bad").await;
    let told = client.read_to_end(error).await;
    assert!(told.contains("7001") && told.contains("refused"), "{told}");
    let (_, broken) = client.open_pair(7000, "broken").await;
    client.read_until(broken, "hello\n").await;
    client.reset(broken).await;
    let lonely = client.open(&[("streamtype", "data"), ("port", "0"), ("requestid", "x")]).await;
    client.read_to_end(lonely).await;
    assert!(client.come[&lonely].reset);
    client.send(good, b"still here\n").await;
    client.read_until(good, "still here\n").await;
}

async fn a_tunnel_carries_what_spdy_does(case: Case) {
    let pod = echo(&case).await;
    let mut client = Spdy::through_tunnel(&forward_url(&case, &pod, &[7000]).await).await;
    let (error, bad) = client.open_pair(7001, "bad").await;
    assert!(client.read_to_end(error).await.contains("refused"));
    client.finish(bad).await;
    let (error, data) = client.open_pair(7000, "good").await;
    let said: String = (0..30_000).map(|number| format!("{number}\n")).collect();
    client.send(data, said.as_bytes()).await;
    client.finish(data).await;
    let heard = client.read_to_end(data).await;
    assert!(heard == format!("hello\n{said}bye\n"), "{} bytes came back of {}", heard.len(), said.len());
    assert_eq!(client.read_to_end(error).await, "");
}

async fn an_answer_comes_whole_though_no_more_is_taken(case: Case) {
    let pod = on_host(&case).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut client = Spdy::connect(&forward_url(&case, &pod, &[]).await, "portforward.k8s.io").await;
    for round in 0..30 {
        let (error, data) = client.open_pair(port, &round.to_string()).await;
        client.send(data, &[b'x'; 1000]).await;
        let (mut accepted, _) = listener.accept().await.unwrap();
        tokio::io::AsyncReadExt::read_u8(&mut accepted).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut accepted, b"too much").await.unwrap();
        // closed with something unread: the connection is reset
        drop(accepted);
        client.send(data, &[b'x'; 100_000]).await;
        assert_eq!(client.read_to_end(data).await, "too much", "round {round}");
        // a word of an error would make kubectl end all its connections
        assert_eq!(client.read_to_end(error).await, "", "round {round}");
    }
}

async fn a_client_of_npm_is_served(case: Case) {
    let (id, pod) = (container(&case).await, echo(&case).await);
    let script = "cat; head -c 300000 /dev/zero; exit 3";
    let request = cri::ExecRequest { stdin: true, stderr: false, ..exec_of(&id, script) };
    let (exec, forward) = (exec_url(&case, request).await, forward_url(&case, &pod, &[]).await);
    let modules = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("npm").join("node_modules");
    let mut node = tokio::process::Command::new("node");
    node.arg("tests/real/npm_client.js").args([exec.as_str(), &forward, "7000"]);
    let done = node.env("NODE_PATH", modules).kill_on_drop(true).output();
    let done = timeout(Duration::from_secs(30), done).await.expect("node has not ended");
    let done = done.expect("node (scripts/install-test-tools.sh installs it)");
    let why = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "npm's spdy-transport (scripts/install-test-tools.sh installs it): {why}");
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(told["exec"]["output"], format!("said by npm\n{}", "\0".repeat(300_000)));
    assert_eq!(told["exec"]["status"]["reason"], "NonZeroExitCode");
    assert_eq!(told["exec"]["status"]["details"]["causes"][0]["message"], "3");
    assert_eq!(told["forward"], json!({"output": "hello\nsaid by npm\nbye\n", "failure": ""}));
}

async fn a_websocket_ends_its_input_and_learns_the_exit_code(case: Case) {
    let id = container(&case).await;
    let request = cri::ExecRequest { stdin: true, ..exec_of(&id, "cat; echo err >&2; exit 9") };
    let mut client = WebSocket::connect(&exec_url(&case, request).await, "v5.channel.k8s.io").await;
    client.send(b"\x00in").await;
    client.send(&[255, 0]).await;
    client.read_to_end().await;
    assert_eq!((client.text(1), client.text(2)), ("in".into(), "err\n".into()));
    assert!(client.text(3).contains(r#""message":"9""#), "{}", client.text(3));
    assert_eq!(client.closed, Some(1000));
}

async fn a_websocket_message_of_any_length_goes_through_and_a_ping_is_answered(case: Case) {
    let id = container(&case).await;
    let request = cri::ExecRequest { stdin: true, ..exec_of(&id, "wc -c") };
    let mut client = WebSocket::connect(&exec_url(&case, request).await, "v5.channel.k8s.io").await;
    client.ping(b"there?").await;
    while client.pongs.is_empty() {
        assert!(client.read_message().await, "the connection ended before a pong");
    }
    assert_eq!(client.pongs, [&b"there?"[..]]);
    client.send(&vec![0; 3_000_001]).await;
    client.send(&[255, 0]).await;
    client.read_to_end().await;
    assert_eq!((client.text(1).trim(), client.closed), ("3000000", Some(1000)));
}

async fn a_websocket_of_base64_is_text(case: Case) {
    let id = container(&case).await;
    let request = cri::ExecRequest { stdin: true, ..exec_of(&id, "read word; echo \"got $word\"") };
    let mut client = WebSocket::connect(&exec_url(&case, request).await, "v4.base64.channel.k8s.io").await;
    client.send_text("0YQo=").await;
    client.read_to_end().await;
    assert_eq!(client.text(b'1'), "Z290IGEK");
    assert!(!client.text(b'3').is_empty());
    // in the old form, which tells a failure in words
    let request = cri::ExecRequest { stdin: true, ..exec_of(&id, "read word; exit 3") };
    let mut client = WebSocket::connect(&exec_url(&case, request).await, "base64.channel.k8s.io").await;
    client.send_text("0YQo=").await;
    client.read_to_end().await;
    assert_eq!(client.text(b'3'), "Y29tbWFuZCB0ZXJtaW5hdGVkIHdpdGggbm9uLXplcm8gZXhpdCBjb2RlOiAz");
    // a message that comes in several pieces is read whole
    let request = cri::ExecRequest { stdin: true, ..exec_of(&id, "head -c 99999 | wc -c") };
    let mut client = WebSocket::connect(&exec_url(&case, request).await, "v4.base64.channel.k8s.io").await;
    client.send_text(&format!("0{}", "AAAA".repeat(33_333))).await;
    client.read_to_end().await;
    assert_eq!(client.text(b'1'), "OTk5OTkK");
}

async fn a_websocket_has_a_terminal_of_the_clients_size(case: Case) {
    let id = container(&case).await;
    let script =
        r#"while [ "$(stty size)" != "33 101" ]; do sleep 0.1; done; echo sized; read word; echo "<$word>"; exit 5"#;
    let request = cri::ExecRequest { tty: true, stdin: true, stderr: false, ..exec_of(&id, script) };
    for protocol in ["v5.channel.k8s.io", "v4.channel.k8s.io"] {
        let mut client = WebSocket::connect(&exec_url(&case, request.clone()).await, protocol).await;
        client.send(b"\x04{\"Width\":101,").await;
        client.send(b"\x04\"Height\":33}").await;
        client.read_until(1, "sized\r\n").await;
        client.send(b"\x00a\x10b\n").await;
        client.read_to_end().await;
        assert!(client.text(1).ends_with("<a\x10b>\r\n"), "{:?}", client.text(1));
        assert!(client.text(3).contains(r#""message":"5""#), "{}", client.text(3));
    }
}

async fn a_websocket_joins_a_container_from_now_on(case: Case) {
    let id = answering(&case).await;
    let mut client = WebSocket::connect(&attach_url(&case, &id, false).await, "v5.channel.k8s.io").await;
    client.send(b"\x00a\n").await;
    client.read_until(1, "got a\n").await;
    client.send(&[255, 0]).await;
    client.read_to_end().await;
    assert_eq!((client.text(1), client.text(2)), ("got a\n".into(), "over\n".into()));
    assert!(client.text(3).contains("Success"), "{}", client.text(3));
    assert_eq!((client.closed, case.exited(&id).await.exit_code), (Some(1000), 4));
}

async fn a_websocket_forwards_the_ports_that_were_named(case: Case) {
    let pod = echo(&case).await;
    let mut client = WebSocket::connect(&forward_url(&case, &pod, &[7000]).await, "v4.base64.channel.k8s.io").await;
    client.send_text("0d29yZAo=").await;
    client.read_until(b'0', "WBs=aGVsbG8Kd29yZAo=").await;
    let url = forward_url(&case, &pod, &[7000, 7001]).await;
    let mut client = WebSocket::connect(&url, "v4.channel.k8s.io").await;
    client.send(b"\x00word\n").await;
    let wanted = format!("{}hello\nword\n", String::from_utf8_lossy(&7000u16.to_le_bytes()));
    while client.text(0) != wanted || client.text(3).len() < 10 {
        assert!(client.read_message().await, "{:?}", client.come);
    }
    assert!(client.text(3).contains("refused"), "{}", client.text(3));
    assert_eq!(client.come[&2], 7001u16.to_le_bytes());
}

async fn what_is_not_a_message_closes_the_websocket(case: Case) {
    let id = container(&case).await;
    let request = cri::ExecRequest { stdin: true, ..exec_of(&id, "cat") };
    let cases: [(&str, &[u8], u16); 4] = [
        ("v5.channel.k8s.io", b"\x09x", 1002),
        ("v5.channel.k8s.io", b"", 1002),
        ("v5.channel.k8s.io", &[255, 77], 1002),
        ("v4.base64.channel.k8s.io", &[b'0'; 300_000], 1009),
    ];
    for (protocol, payload, code) in cases {
        let mut client = WebSocket::connect(&exec_url(&case, request.clone()).await, protocol).await;
        client.send(payload).await;
        client.read_to_end().await;
        assert_eq!(client.closed, Some(code), "{} bytes", payload.len());
    }
    // an unmasked frame
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let headers = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", key];
    let (mut stream, head) = ask(&exec_url(&case, request).await, "GET", &headers).await;
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"\x82\x02\x00x").await.unwrap();
    let mut rest = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await.unwrap();
    let close = rest.windows(4).any(|frame| frame[0] == 0x88 && frame[2..] == 1002u16.to_be_bytes());
    assert!(close, "no close with 1002: {rest:02x?}");
}

async fn a_token_is_good_once_and_only_where_it_was_given_for(case: Case) {
    let id = container(&case).await;
    let url = exec_url(&case, exec_of(&id, "true")).await;
    let headers = ["Connection: Upgrade", "Upgrade: SPDY/3.1", "X-Stream-Protocol-Version: v4.channel.k8s.io"];
    let status = async |url: &str| ask(url, "POST", &headers).await.1.split(' ').nth(1).map(str::to_owned).unwrap();
    assert_eq!(status(&url.replace("/exec/", "/attach/")).await, "404");
    assert_eq!(status(&format!("{url}x")).await, "404");
    assert_eq!(status(url.rsplit_once('/').unwrap().0).await, "404");
    assert_eq!(status(&url).await, "101");
    assert_eq!(status(&url).await, "404");
}

async fn an_upgrade_that_is_not_in_order_is_refused(case: Case) {
    let id = container(&case).await;
    let spdy = ["Connection: Upgrade", "Upgrade: SPDY/3.1"];
    let version = |protocol: &'static str| [spdy[0], spdy[1], protocol];
    let cases: [(&str, &[&str], &str); 5] = [
        ("PUT", &version("X-Stream-Protocol-Version: v4.channel.k8s.io"), "405"),
        ("POST", &[], "400"),
        ("POST", &spdy, "400"),
        ("POST", &["X-Stream-Protocol-Version: v4.channel.k8s.io"], "400"),
        ("GET", &version("X-Stream-Protocol-Version: portforward.k8s.io"), "403"),
    ];
    for (method, headers, status) in cases {
        let (_, head) = ask(&exec_url(&case, exec_of(&id, "true")).await, method, headers).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {headers:?}: {head}");
    }
}

async fn frames_that_break_spdy_end_the_connection_alone(case: Case) {
    let id = container(&case).await;
    let mut good = Spdy::connect(&exec_url(&case, exec_of(&id, "sleep 2; echo good")).await, V4).await;
    let [_, out, _] = good.open_all(["error", "stdout", "stderr"]).await;
    // another version, a header block that is not compressed, a frame too short for what it is
    let block = [&[0x80, 3, 0, 1, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[0xee; 10]].concat();
    let broken: [&[u8]; 3] = [&[0x80, 2, 0, 1, 0, 0, 0, 0], &block, &[0x80, 3, 0, 3, 0, 0, 0, 1, 0]];
    for bytes in broken {
        let mut bad = Spdy::connect(&exec_url(&case, exec_of(&id, "true")).await, V4).await;
        bad.send_raw(bytes).await;
        bad.send_raw(&[255; 64]).await;
        let start = Instant::now();
        while bad.read_frame().await {}
        assert!(start.elapsed() < Duration::from_secs(5), "{bytes:?}");
    }
    good.read_until(out, "good\n").await;
}

async fn requests_that_cannot_be_met_are_refused(case: Case) {
    let pod = case.run_pod("streams").await;
    let created = case.create(&pod, &sleeper("created")).await;
    let running = case.start(&pod, &sleeper("main")).await;
    let ask = exec_of(&running, "true");
    let none = cri::ExecRequest { stdout: false, stderr: false, ..ask.clone() };
    let no_command = cri::ExecRequest { cmd: Vec::new(), ..ask.clone() };
    let two_outputs = cri::ExecRequest { tty: true, ..ask.clone() };
    let of = |id: &str| cri::ExecRequest { container_id: id.to_owned(), ..ask.clone() };
    let cases = [
        (none, Code::InvalidArgument),
        (no_command, Code::InvalidArgument),
        (two_outputs, Code::InvalidArgument),
        (of(""), Code::InvalidArgument),
        (of("unknown"), Code::NotFound),
        (of(&created), Code::FailedPrecondition),
    ];
    for (request, code) in cases {
        let refused = case.cri.runtime().exec(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), code, "{request:?}: {}", refused.message());
    }
    let attach = cri::AttachRequest { container_id: running, ..cri::AttachRequest::default() };
    assert_eq!(case.cri.runtime().attach(attach).await.unwrap_err().code(), Code::InvalidArgument);
    let forward = |id: &str, port| cri::PortForwardRequest { pod_sandbox_id: id.to_owned(), port: vec![port] };
    for (request, code) in [
        (forward("unknown", 80), Code::NotFound),
        (forward(&pod.id, 0), Code::InvalidArgument),
        (forward(&pod.id, 65536), Code::InvalidArgument),
    ] {
        assert_eq!(case.cri.runtime().port_forward(request).await.unwrap_err().code(), code);
    }
    case.cri.stop_pod(&pod.id).await.unwrap();
    let refused = case.cri.runtime().port_forward(forward(&pod.id, 80)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

async fn limits_of_time_and_number_hold(mut case: Case) {
    let id = container(&case).await;
    case.lab.shim.stop();
    let flags = ["--network-plugin=bridge", "--streaming-creation-timeout=500ms", "--streaming-idle-timeout=1500ms"];
    let shim = Shim::start_with(&case.lab.engine.socket(), &flags);
    case.cri = shim.cri();
    runtime_ready(&case.cri, true).await;
    let within = |start: Instant, what: &str| {
        assert!((Duration::from_millis(400)..Duration::from_secs(6)).contains(&start.elapsed()), "{what}");
    };
    let start = Instant::now();
    let mut half = Spdy::connect(&exec_url(&case, exec_of(&id, "true")).await, V4).await;
    half.open_all(["error", "stdout"]).await;
    while half.read_frame().await {}
    within(start, "a stream is missing");
    let pod = case.run_pod("forward").await;
    let mut client = Spdy::connect(&forward_url(&case, &pod, &[]).await, "portforward.k8s.io").await;
    let lonely = client.open(&[("streamtype", "error"), ("port", "1"), ("requestid", "lonely")]).await;
    for round in 0..20 {
        let (error, _) = client.open_pair(1, &round.to_string()).await;
        client.read_to_end(error).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(client.come[&lonely].reset, "half a pair waits as long as others are opened");
    let start = Instant::now();
    let mut resting = Spdy::connect(&exec_url(&case, exec_of(&id, "sleep 60")).await, V4).await;
    resting.open_all(["error", "stdout", "stderr"]).await;
    while resting.read_frame().await {}
    within(start, "nothing moves over SPDY");
    let start = Instant::now();
    let url = exec_url(&case, exec_of(&id, "sleep 60")).await;
    let mut resting = WebSocket::connect(&url, "v4.channel.k8s.io").await;
    resting.read_to_end().await;
    within(start, "nothing moves over a WebSocket");
    assert_eq!(resting.closed, Some(1001));
    let start = Instant::now();
    let request = cri::ExecRequest { stdin: true, ..exec_of(&id, "sleep 60") };
    let mut stalled = WebSocket::connect(&exec_url(&case, request).await, "v4.channel.k8s.io").await;
    while timeout(Duration::from_millis(500), stalled.send(&[0; 32 << 10])).await.is_ok() {}
    stalled.read_to_end().await;
    within(start, "nobody takes what comes over a WebSocket");
    let mut refused = None;
    for _ in 0..=1000 {
        refused = case.cri.runtime().exec(exec_of(&id, "true")).await.err().or(refused);
    }
    assert_eq!(refused.unwrap().code(), Code::ResourceExhausted);
}
