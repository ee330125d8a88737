//! The reader of plugins' answers on any bytes: no panic, and a result keeps its addresses in every later version.
#![no_main]

use dockershim::cni::result::{addresses, read, refusal};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = refusal(bytes);
    let Ok(result) = read(bytes, "0.3.0") else { return };
    let Ok(found) = addresses(&result) else { return };
    let written = serde_json::to_vec(&result).unwrap();
    for later in ["0.4.0", "1.0.0", "1.1.0"] {
        assert!(addresses(&read(&written, later).unwrap()).unwrap() == found);
    }
    // old results have one address of each family
    if let Ok(old) = read(&written, "0.2.0").map(|old| addresses(&old)) {
        assert!(old.is_ok_and(|old| !old.is_empty() && old.len() <= 2));
    }
});
