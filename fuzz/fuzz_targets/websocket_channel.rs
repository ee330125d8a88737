//! Messages of `channel.k8s.io` in every variant: no panic, and what is read is read the same when it is written again.
#![no_main]

use dockershim::stream::websocket::{PORT_FORWARD, Payload, SESSION, Said};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let message = bytes.to_vec().into();
    for protocol in SESSION.iter().chain(&PORT_FORWARD) {
        let Some(said) = protocol.read(&message) else { continue };
        if let Said::Data(channel, data) = &said {
            let written = match protocol.write(*channel, data.clone()) {
                Payload::Binary(channel, bytes) => [&channel[..], &bytes].concat(),
                Payload::Text(text) => text.into_bytes(),
            };
            // channel 255 of the fifth version is how a channel is ended
            assert!(*channel == 255 || protocol.read(&written.into()) == Some(said));
        }
    }
});
