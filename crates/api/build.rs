//! Writes the messages, service stubs and clients from the wire contract.

use std::path::{Path, PathBuf};

use buffa_codegen::MapRepr;
use connectrpc_build::CodeGenConfig;

/// Every file of the contract, relative to `proto/`.
const FILES: [&str; 9] = [
    "control_plane.proto",
    "navarch/v1/agent.proto",
    "navarch/v1/dev.proto",
    "navarch/v1/event.proto",
    "navarch/v1/explain.proto",
    "navarch/v1/fleet.proto",
    "navarch/v1/incident.proto",
    "navarch/v1/policy.proto",
    "navarch/v1/pool.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={}", root.display());

    let descriptors = out.join("contract.binpb");
    std::fs::write(&descriptors, compile(&root)?)?;

    let mut messages = CodeGenConfig::default();
    messages.generate_json = true;
    // A map in the order of its keys, so that equal messages have equal bytes.
    messages.map_fields = vec![(".".to_owned(), MapRepr::BTreeMap)];
    // Nothing is passed through: what this build does not know, it drops.
    messages.preserve_unknown_fields = false;
    messages.emit_register_fn = false;
    messages.generate_with_setters = false;
    connectrpc_build::Config::new()
        .buffa_config(messages)
        .descriptor_set(&descriptors)
        .files(&FILES)
        .include_file("generated.rs")
        .emit_rerun_directives(false)
        .compile()?;
    Ok(())
}

/// The descriptors of all files, with the comments that become documentation.
fn compile(root: &Path) -> Result<Vec<u8>, protox::Error> {
    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(FILES)?;
    Ok(compiler.encode_file_descriptor_set())
}
