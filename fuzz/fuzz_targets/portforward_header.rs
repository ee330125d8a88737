//! Streams of port-forward under any headers: those that make a pair do so once, those that can't are reset, nothing else happens.
#![no_main]

#[path = "../spdy/mod.rs"]
#[expect(dead_code, reason = "another target uses the rest of it")]
mod spdy;

use std::time::Duration;

use dockershim::stream::pairs::Halves;
use libfuzzer_sys::fuzz_target;
use spdy::{Client, open, plain, runtime};
use tokio::time::timeout;

/// Its type, its port and its request, or none of it.
type Stream = (Option<bool>, Option<String>, Option<u16>, Option<String>);

fuzz_target!(|streams: Vec<Stream>| {
    runtime().block_on(play(&streams));
});

async fn play(streams: &[Stream]) {
    let (mut client, mut session) = Client::connect();
    for (id, (role, text, number, request)) in (1..).step_by(2).zip(streams) {
        let port = number.map(|port| port.to_string()).or_else(|| text.clone());
        let role = role.map(|data| if data { "data" } else { "error" });
        let headers = [("streamtype", role), ("port", port.as_deref()), ("requestid", request.as_deref())];
        let headers: Vec<_> = headers.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let block = client.block(&plain(&headers));
        client.send(&open(id, &block)).await;
    }
    let (mut halves, mut pairs) = (Halves::default(), Vec::new());
    while let Ok(Ok(incoming)) = timeout(Duration::ZERO, session.accept()).await {
        pairs.extend(halves.take(incoming));
    }
    assert!(pairs.len() <= streams.len() / 2 && pairs.iter().all(|pair| pair.port != 0));
    drop((pairs, halves, session));
    client.leave().await;
}
