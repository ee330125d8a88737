//! Any bytes in any pieces as a client's frames: no panic, an end when the client ends, nothing but frames in return. The server
//! accepts all streams and sends back what comes.
#![no_main]

#[path = "../spdy/mod.rs"]
#[expect(dead_code, reason = "another target uses the rest of it")]
mod spdy;

use libfuzzer_sys::fuzz_target;
use spdy::{Client, frames, runtime};

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    runtime().block_on(async {
        let (mut client, mut session) = Client::connect();
        let server = tokio::spawn(async move {
            while let Ok(incoming) = session.accept().await {
                let (mut reader, mut writer) = incoming.reply();
                tokio::spawn(async move {
                    while let Ok(Some(bytes)) = reader.read().await {
                        if writer.write(bytes).await.is_err() {
                            return;
                        }
                    }
                    writer.finish();
                });
            }
        });
        for piece in bytes.chunks(usize::from(cut) + 1) {
            client.send(piece).await;
        }
        let sent = client.leave().await;
        assert!(sent.len() <= 64 * (bytes.len() + 1), "{} bytes in return for {}", sent.len(), bytes.len());
        frames(&sent);
        server.await.unwrap();
    });
});
