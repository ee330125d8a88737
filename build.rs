//! Compiles the wire definition in `proto/` to Rust (no protoc needed).
//! It must not reach the network nor write outside `OUT_DIR`.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    compile_proto()
}

/// Generates the CRI types, client and server, and keeps the descriptors for the wire test.
fn compile_proto() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let descriptors = protox::compile(["proto/api.proto"], ["proto"])?;
    std::fs::write(out.join("cri.descriptors"), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure()
        .btree_map(".")
        .skip_debug([".runtime.v1.AuthConfig"])
        .compile_fds(descriptors)?;
    Ok(())
}
