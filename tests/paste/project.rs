//! A new crate with a program for each block, built as a reader would build it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::block::{Block, Kind};
use crate::needs;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const OURS: &str = include_str!("../../Cargo.toml");
const LOCK: &str = include_str!("../../Cargo.lock");

/// The lines below a heading of our manifest, without comments, by name.
fn section(heading: &str) -> Vec<(String, String)> {
    let lines = OURS.lines().skip_while(|line| *line != heading).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let named = lines.filter_map(|line| Some((line.split_once(" = ")?.0, line)));
    let named = named.filter(|(name, _)| !name.starts_with('#') && !name.starts_with(' '));
    named.map(|(name, line)| (name.to_owned(), line.to_owned())).collect()
}

/// What a block may use besides idemstore: the dependencies of our own tests, which are in the lock
/// file.
pub fn dependencies() -> Vec<(String, String)> {
    let all = section("[dev-dependencies]");
    assert!(all.iter().any(|(name, _)| name == "tokio"), "{all:?}");
    all
}

fn manifest(blocks: &[Block]) -> String {
    let features: Vec<_> = section("[features]").into_iter().map(|(name, _)| name).collect();
    assert!(features.contains(&"tower".to_owned()), "{features:?}");
    let is_used = |name: &str| blocks.iter().any(|block| needs::uses(&block.code, name));
    let used = dependencies().into_iter().filter(|(name, _)| is_used(name));
    let used: Vec<_> = used.map(|(_, line)| line).collect();
    format!(
        "[package]\nname = \"pasted\"\nedition = \"2024\"\n\n[dependencies]\n{}\n\
         idemstore = {{ path = '{ROOT}', features = {features:?} }}\n\n\
         [lints.rust]\nwarnings = \"deny\"\n\n\
         [profile.dev]\ndebug = 0\nincremental = false\nopt-level = 0\n\n[workspace]\n",
        used.join("\n"),
    )
}

/// Writes the sources: a program for each block or for each set of files, and the blocks that
/// aren't programs as modules.
fn write_sources(source: &Path, blocks: &[Block]) {
    let _ = fs::remove_dir_all(source);
    let write = |place: String, text: &str| {
        let path = source.join(place);
        fs::create_dir_all(path.parent().expect("it is in a directory")).expect("there is room");
        fs::write(path, text).expect("there is room");
    };
    // A module's items for the rest of its program are unused here.
    let mut library = vec!["#![allow(dead_code)]".to_owned()];
    for block in blocks {
        match &block.kind {
            Kind::File(file) if file == "main.rs" => {
                for (file, code) in files(block, blocks) {
                    write(format!("bin/{}/{file}", block.name), &code);
                }
            }
            // A part of a program like that.
            Kind::File(_) | Kind::Excerpt => {}
            Kind::Whole if block.is_program() => {
                write(format!("bin/{}.rs", block.name), &block.code);
            }
            Kind::Whole => {
                write(format!("{}.rs", block.name), &block.code);
                library.push(format!("pub mod {};", block.name));
            }
        }
    }
    write("lib.rs".to_owned(), &library.join("\n"));
}

/// The files of the program with this `main.rs`: the document's other files are shared by all of
/// its programs, so one may contain what only another program needs.
fn files<'b>(main: &'b Block, blocks: &'b [Block]) -> Vec<(&'b str, String)> {
    let of_document = blocks.iter().filter(|block| block.document == main.document);
    let mut files = vec![("main.rs", format!("#![allow(dead_code)]\n{}", main.code))];
    files.extend(of_document.filter_map(|block| match &block.kind {
        Kind::File(file) if file != "main.rs" => Some((file.as_str(), block.code.clone())),
        _ => None,
    }));
    files
}

/// Checks that each block compiles without a warning, and its tests too.
pub fn check(blocks: &[Block]) {
    let project = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pasted");
    write_sources(&project.join("src"), blocks);
    fs::write(project.join("Cargo.toml"), manifest(blocks)).expect("there is room");
    fs::write(project.join("Cargo.lock"), LOCK).expect("there is room");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(&project).args(["check", "--offline", "--quiet", "--keep-going"]);
    cargo.args(["--lib", "--bins", "--tests"]);
    // A reader has none of the variables that our own builds get.
    for told in ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"]
    {
        cargo.env_remove(told);
    }
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_PROFILE_")) {
        cargo.env_remove(name);
    }
    cargo.env("CARGO_TARGET_DIR", project.join("target")).env("CARGO_INCREMENTAL", "0");
    let output = cargo.output().expect("cargo runs this test");
    let errors = String::from_utf8_lossy(&output.stderr);
    let is_named = |block: &Block| {
        [".rs:", "/"].iter().any(|end| errors.contains(&format!("/{}{end}", block.name)))
    };
    let failed = blocks.iter().filter(|block| is_named(block));
    let failed: Vec<_> = failed.map(|block| format!("{} is {}", block.name, block.at())).collect();
    assert!(output.status.success(), "{errors}\n{failed:#?}");
    check_lock(&project);
}

/// Checks that everything was built with the versions in our own lock file.
fn check_lock(project: &Path) {
    let packages = |lock: &str| -> BTreeSet<String> {
        let packages = lock.split("[[package]]").skip(1);
        let named = packages.map(|package| package.lines().skip(1).take(2));
        named.map(|lines| lines.collect::<Vec<_>>().join(" ")).collect()
    };
    let lock = fs::read_to_string(project.join("Cargo.lock")).expect("it was just used");
    let (pasted, ours) = (packages(&lock), packages(LOCK));
    let others: Vec<_> = pasted.difference(&ours).collect();
    assert_eq!(others, ["name = \"pasted\" version = \"0.0.0\""]);
}
