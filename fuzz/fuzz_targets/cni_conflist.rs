//! The reader of network configurations on any bytes, in both forms: no panic, and what is taken for a network is the same when it
//! is read again from what is kept of it.
#![no_main]

use dockershim::cni::conflist::{NetworkList, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for file in ["10-a.conflist", "10-a.conf"] {
        if let Ok(list) = read(file, bytes) {
            let kept = serde_json::to_vec(&list).unwrap();
            assert!(serde_json::from_slice::<NetworkList>(&kept).unwrap() == list);
        }
    }
});
