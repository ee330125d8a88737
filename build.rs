//! Compiles the wire definition in `proto/` to Rust (no protoc needed), and the pause program to a static executable.
//! It must not reach the network nor write outside `OUT_DIR`.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    compile_proto(&out)?;
    compile_pause(&out)
}

/// Generates the CRI types, client and server, and keeps the descriptors for the wire test.
fn compile_proto(out: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["proto/api.proto"], ["proto"])?;
    std::fs::write(out.join("cri.descriptors"), prost::Message::encode_to_vec(&descriptors))?;
    // what a pod may use is kept in a record
    let mut builder = tonic_prost_build::configure().btree_map(".").skip_debug([".runtime.v1.AuthConfig"]);
    for kept in ["LinuxContainerResources", "HugepageLimit"] {
        let derive = "#[derive(serde::Serialize, serde::Deserialize)] #[serde(default)]";
        builder = builder.message_attribute(format!(".runtime.v1.{kept}"), derive);
    }
    builder.compile_fds(descriptors)?;
    Ok(())
}

/// Compiles the program in the sandbox image for the machine that the crate is compiled for. Only `core` is needed, which is there
/// for any target that the crate itself can be compiled for. The flags are fixed, whatever profile or RUSTFLAGS the crate has:
/// one compiler and linker give one program, and so one image.
fn compile_pause(out: &Path) -> Result<(), Box<dyn Error>> {
    const SOURCE: &str = "src/pause/program.rs";
    const FLAGS: &str = "--edition=2024 --crate-name=pause --crate-type=bin \
        -Copt-level=z -Ccodegen-units=1 -Cpanic=abort -Cstrip=symbols -Crelocation-model=static -Ctarget-feature=+crt-static \
        -Clink-arg=-nostartfiles -Clink-arg=-nostdlib -Clink-arg=-Wl,--build-id=none,-z,noseparate-code";
    println!("cargo:rerun-if-changed={SOURCE}");
    let target = env::var("TARGET")?;
    let (arch, os) = (env::var("CARGO_CFG_TARGET_ARCH")?, env::var("CARGO_CFG_TARGET_OS")?);
    if os != "linux" || !["x86_64", "aarch64"].contains(&arch.as_str()) {
        return Err(format!("dockershim is for Linux on x86_64 and aarch64, not for {target}").into());
    }
    let mut rustc = Command::new(env::var("RUSTC")?);
    rustc.args(FLAGS.split_whitespace()).args(["--target", &target, SOURCE, "-o"]).arg(out.join("pause"));
    if env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "musl") {
        // else rustc adds musl's own start files
        rustc.arg("-Clink-self-contained=no");
    }
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg(format!("-Clinker={linker}"));
    }
    if !rustc.status()?.success() {
        return Err(format!("{SOURCE} could not be compiled for {target}: {rustc:?}").into());
    }
    Ok(())
}
