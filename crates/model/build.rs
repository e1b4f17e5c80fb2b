//! Writes the vocabularies as plain Rust enums from the wire contract's descriptors.

use std::fmt::Write as _;
use std::path::PathBuf;

use prost_types::EnumDescriptorProto;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!(
        "cargo:rerun-if-changed={}",
        root.join("control_plane.proto").display()
    );
    let set = protox::compile(["control_plane.proto"], [&root])?;
    let file = set
        .file
        .iter()
        .find(|file| file.name() == "control_plane.proto")
        .ok_or("control_plane.proto is missing from its own descriptor set")?;
    let mut code = String::new();
    for (index, vocabulary) in file.enum_type.iter().enumerate() {
        // Path of a top-level enum in SourceCodeInfo: field 5 of the file, then its index.
        let doc = file
            .source_code_info
            .iter()
            .flat_map(|info| &info.location)
            .find(|location| location.path == [5, i32::try_from(index).unwrap_or(-1)])
            .map_or("", |location| location.leading_comments().trim());
        write_enum(&mut code, vocabulary, doc)?;
    }
    std::fs::write(
        PathBuf::from(std::env::var("OUT_DIR")?).join("vocabulary.rs"),
        code,
    )?;
    Ok(())
}

fn write_enum(code: &mut String, vocabulary: &EnumDescriptorProto, doc: &str) -> std::fmt::Result {
    let name = vocabulary.name();
    let prefix = format!("{}_", upper_snake(name));
    let variants: Vec<(String, String, i32)> = vocabulary
        .value
        .iter()
        .map(|value| {
            let full = value.name().to_owned();
            let short = full
                .strip_prefix(&prefix)
                .unwrap_or(&full)
                .to_ascii_lowercase();
            (full, short, value.number())
        })
        .collect();
    writeln!(code, "vocabulary! {{\n    #[doc = {doc:?}]\n    {name} {{")?;
    for (full, short, number) in &variants {
        let variant = camel(short);
        writeln!(
            code,
            "        #[doc = \"`{full}`.\"] {variant} = {number}, {full:?}, {short:?};"
        )?;
    }
    writeln!(code, "    }}\n}}")
}

fn upper_snake(camel: &str) -> String {
    let mut out = String::new();
    for (at, letter) in camel.char_indices() {
        if at > 0 && letter.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(letter.to_ascii_uppercase());
    }
    out
}

fn camel(snake: &str) -> String {
    snake
        .split('_')
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map_or_else(String::new, |first| {
                first.to_ascii_uppercase().to_string() + letters.as_str()
            })
        })
        .collect()
}
