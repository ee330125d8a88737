//! What streams hold: memory while their clients read nothing, and descriptors, threads and memory when they are over. Each test has a
//! dockershim of its own, as it counts what that has.

use std::time::Duration;

use dockershim::cri;
use libtest_mimic::Trial;

use crate::lab::{Case, Pod, Stage, eventually, trials};
use crate::stream_client::{Spdy, WebSocket};
use crate::streams::{V4, attach_url, container, echo, exec_of, exec_url, forward_url};
use crate::support::engine::Options;

pub(crate) fn trials() -> Vec<Trial> {
    trials![Stage::Own(Options::default());
        a_stalled_stream_holds_little,
        many_streams_leave_nothing_behind,
    ]
}

/// What a stream may hold, in KiB.
const HELD: u64 = 256;
/// What its tasks and its share of the rest may cost beside it, unoptimized.
const AROUND: u64 = 64;

/// How many connections to the Engine are kept, and, at most, how many threads rest for some seconds.
const KEPT: usize = 16;

/// What a dockershim has.
#[derive(Clone, Copy, Debug)]
struct Holdings {
    resident_kib: u64,
    threads: usize,
    files: usize,
}

fn holdings(case: &Case) -> Holdings {
    let proc = format!("/proc/{}", case.lab.shim.pid().unwrap());
    let status = std::fs::read_to_string(format!("{proc}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let number = |dir: &str| std::fs::read_dir(format!("{proc}/{dir}")).unwrap().count();
    Holdings {
        resident_kib: resident.split_whitespace().next().unwrap().parse().unwrap(),
        threads: number("task"),
        files: number("fd"),
    }
}

async fn a_stalled_stream_holds_little(case: Case) {
    const EACH: u64 = 8;
    let id = container(&case).await;
    let spdy = async |script: &str, stdin: bool| {
        let request = cri::ExecRequest { stdin, stderr: false, ..exec_of(&id, script) };
        let mut client = Spdy::connect(&exec_url(&case, request).await, V4).await;
        let [_, out] = client.open_all(["error", "stdout"]).await;
        let input = if stdin { client.open(&[("streamtype", "stdin")]).await } else { 0 };
        client.read_until(out, "up").await;
        (client, input)
    };
    let websocket = async |script: &str, stdin: bool| {
        let request = cri::ExecRequest { stdin, stderr: false, ..exec_of(&id, script) };
        let mut client = WebSocket::connect(&exec_url(&case, request).await, "v4.channel.k8s.io").await;
        client.read_until(1, "up").await;
        client
    };
    drop((spdy("echo up", true).await, websocket("echo up", true).await));
    let stuck = Duration::from_secs(1);
    let (mut spdies, mut websockets) = (Vec::new(), Vec::new());
    let mut before = holdings(&case).resident_kib;
    let mut hold_little = |what: &str| {
        let now = holdings(&case).resident_kib;
        let each = now.saturating_sub(before) / EACH;
        before = now;
        assert!(each < HELD + AROUND, "{each} KiB for each stream with {what}");
    };
    for _ in 0..EACH {
        spdies.push(spdy("echo up; exec cat /dev/zero", false).await);
    }
    tokio::time::sleep(stuck).await;
    hold_little("output that nobody reads, over SPDY");
    for _ in 0..EACH {
        websockets.push(websocket("echo up; exec cat /dev/zero", false).await);
    }
    tokio::time::sleep(stuck).await;
    hold_little("output that nobody reads, over WebSocket");
    for _ in 0..EACH {
        let (mut client, input) = spdy("echo up; exec sleep 60", true).await;
        while tokio::time::timeout(stuck, client.send(input, &[0; 32 << 10])).await.is_ok() {}
        spdies.push((client, input));
    }
    hold_little("input that nobody takes, over SPDY");
    for _ in 0..EACH {
        let mut client = websocket("echo up; exec sleep 60", true).await;
        while tokio::time::timeout(stuck, client.send(&[0; 32 << 10])).await.is_ok() {}
        websockets.push(client);
    }
    hold_little("input that nobody takes, over WebSocket");
}

/// Some of each kind at once, to their ends or, the others, broken off by the client.
async fn one_of_each(case: &Case, id: &str, pod: &Pod) {
    let with_input = cri::ExecRequest { stdin: true, ..exec_of(id, "cat; exit 3") };
    let mut spdy = Spdy::connect(&exec_url(case, with_input.clone()).await, V4).await;
    let [error, input, ..] = spdy.open_all(["error", "stdin", "stdout", "stderr"]).await;
    let mut broken = Spdy::connect(&exec_url(case, with_input.clone()).await, V4).await;
    broken.open_all(["error", "stdin", "stdout", "stderr"]).await;
    let mut half = Spdy::connect(&exec_url(case, with_input.clone()).await, V4).await;
    half.open_all(["error", "stdin"]).await;
    let mut websocket = WebSocket::connect(&exec_url(case, with_input.clone()).await, "v5.channel.k8s.io").await;
    let leaving = WebSocket::connect(&exec_url(case, with_input).await, "v4.channel.k8s.io").await;
    let mut attached = Spdy::connect(&attach_url(case, id, false).await, V4).await;
    attached.open_all(["error", "stdin", "stdout", "stderr"]).await;
    let joined = WebSocket::connect(&attach_url(case, id, false).await, "v5.channel.k8s.io").await;
    let mut forward = Spdy::connect(&forward_url(case, pod, &[]).await, "portforward.k8s.io").await;
    let mut tunnel = Spdy::through_tunnel(&forward_url(case, pod, &[]).await).await;
    let mut channels = WebSocket::connect(&forward_url(case, pod, &[7000, 7001]).await, "v4.channel.k8s.io").await;
    spdy.finish(input).await;
    assert!(spdy.read_to_end(error).await.contains("\"3\""));
    websocket.send(&[255, 0]).await;
    websocket.read_to_end().await;
    for client in [&mut forward, &mut tunnel] {
        let (_, whole) = client.open_pair(7000, "whole").await;
        let (_, open) = client.open_pair(7000, "open").await;
        let (refused, _) = client.open_pair(7001, "refused").await;
        client.finish(whole).await;
        assert_eq!(client.read_to_end(whole).await, "hello\nbye\n");
        client.read_until(open, "hello\n").await;
        assert!(client.read_to_end(refused).await.contains("refused"));
    }
    channels.read_until(0, "hello\n").await;
    drop((broken, half, leaving, attached, joined));
}

async fn many_streams_leave_nothing_behind(case: Case) {
    let (id, pod) = (container(&case).await, echo(&case).await);
    for _ in 0..5 {
        one_of_each(&case, &id, &pod).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = holdings(&case);
    // more than are kept: one of a kind that stays each time is seen
    for _ in 0..25 {
        one_of_each(&case, &id, &pod).await;
    }
    let gone = || async {
        let now = holdings(&case);
        (now.files <= before.files + KEPT && now.threads <= before.threads + KEPT).then_some(now)
    };
    let after = eventually("about as few descriptors and threads as before", Duration::from_secs(30), gone).await;
    let grown = after.resident_kib.saturating_sub(before.resident_kib);
    assert!(grown < 3 << 10, "{before:?}, then {after:?}");
}
