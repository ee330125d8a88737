//! The scanner and the converter on any bytes: no panic, nothing but whole CRI lines, and the same again when the bytes come in
//! other pieces.
#![no_main]

use dockershim::log::line::convert;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut whole = Vec::new();
    let damaged = convert(bytes, &mut whole);
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').count();
    assert!(damaged <= lines as u64);
    assert!(whole.is_empty() || whole.ends_with(b"\n"));
    for line in whole.split_inclusive(|byte| *byte == b'\n') {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let (_time, stream, tag) = (fields.next(), fields.next().unwrap(), fields.next().unwrap());
        assert!(matches!(stream, b"stdout" | b"stderr") && matches!(tag, b"F" | b"P") && fields.next().is_some());
    }
    let mut pieces = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        convert(line, &mut pieces);
    }
    assert!(pieces == whole);
});
