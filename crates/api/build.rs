//! Writes the messages from the wire contract.

use std::path::{Path, PathBuf};

use buffa_codegen::generated::descriptor::FileDescriptorSet;
use buffa_codegen::{CodeGenConfig, GeneratedFileKind, IncludeMode, MapRepr};

/// Every file of the contract, relative to `proto/`.
const FILES: [&str; 11] = [
    "control_plane.proto",
    "navarch/v1/agent.proto",
    "navarch/v1/dev.proto",
    "navarch/v1/event.proto",
    "navarch/v1/explain.proto",
    "navarch/v1/fleet.proto",
    "navarch/v1/hold.proto",
    "navarch/v1/incident.proto",
    "navarch/v1/instance.proto",
    "navarch/v1/policy.proto",
    "navarch/v1/pool.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={}", root.display());

    let descriptors = compile(&root)?;
    // Tests read it.
    std::fs::write(out.join("contract.binpb"), &descriptors)?;

    let mut messages = CodeGenConfig::default();
    messages.generate_json = true;
    // A map in the order of its keys, so that equal messages have equal bytes.
    messages.map_fields = vec![(".".to_owned(), MapRepr::BTreeMap)];
    // Nothing is passed through: what this build does not know, it drops.
    messages.preserve_unknown_fields = false;
    messages.emit_register_fn = false;
    messages.generate_with_setters = false;

    let set: FileDescriptorSet =
        buffa_codegen::tooling_decode_options()?.decode_from_slice(&descriptors)?;
    let mut packages = Vec::new();
    for file in buffa_codegen::generate(&set.file, &FILES.map(str::to_owned), &messages)? {
        std::fs::write(out.join(&file.name), &file.content)?;
        if file.kind == GeneratedFileKind::PackageMod {
            packages.push((file.name, file.package));
        }
    }
    let tree = buffa_codegen::generate_module_tree(&packages, IncludeMode::OutDir, false);
    std::fs::write(out.join("generated.rs"), tree)?;
    Ok(())
}

/// The descriptors of all files, with the comments that become documentation.
fn compile(root: &Path) -> Result<Vec<u8>, protox::Error> {
    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(FILES)?;
    Ok(compiler.encode_file_descriptor_set())
}
