//! Header blocks: headers in order are read as they were written, anything else is refused for its stream alone, and bytes that
//! zlib can't read end the session. Each element is one block: headers, or bytes before compression, or after it.
#![no_main]

#[path = "../spdy/mod.rs"]
#[expect(dead_code, reason = "another target uses the rest of it")]
mod spdy;

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use spdy::{Client, open, plain, runtime};

/// Which kind it is, and what is in it.
type Block = (u8, Vec<(String, String)>, Vec<u8>);

fuzz_target!(|blocks: Vec<Block>| {
    runtime().block_on(play(&blocks));
});

async fn play(blocks: &[Block]) {
    let (mut client, mut session) = Client::connect();
    let mut expected = Vec::new();
    for (id, (kind, headers, bytes)) in (1..).step_by(2).zip(blocks) {
        let block = match kind % 4 {
            0 | 1 => {
                let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                expected.extend(in_order(&headers).map(|headers| (id, headers)));
                client.block(&plain(&headers))
            }
            2 => client.block(bytes),
            // the rest of the session can't be read then, or means something else
            _ => {
                client.send(&open(id, bytes)).await;
                break;
            }
        };
        client.send(&open(id, &block)).await;
    }
    for (id, headers) in expected {
        let incoming = loop {
            // an error is the end of a session whose last block was not zlib's
            let Ok(incoming) = session.accept().await else { return };
            if incoming.id() == id {
                break incoming;
            }
        };
        for (name, value) in headers {
            assert_eq!(incoming.headers().get(&name), value.split('\0').next());
        }
    }
    drop(session);
    client.leave().await;
}

/// Headers as they are to be read, if they may be.
fn in_order(headers: &[(&str, &str)]) -> Option<BTreeMap<String, String>> {
    let fine = |name: &str| !name.is_empty() && !name.bytes().any(|byte| byte.is_ascii_uppercase());
    let map: BTreeMap<_, _> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let all = map.len() == headers.len() && headers.len() <= 1000 && headers.iter().all(|(name, _)| fine(name));
    all.then_some(map)
}
