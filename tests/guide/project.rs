//! The programs of the chapter, as separate projects that are built with this crate.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use super::chapter::{block, blocks};

const CHAPTER: &str = include_str!("../../docs/guide/axum-service.md");

const TODAY: &str = "The service today";
const TESTS: &str = "10. Test it";
const WHOLE: &str = "The whole program";

/// Both programs, built one after the other: they share their dependencies.
pub struct Programs {
    pub without: PathBuf,
    pub with: PathBuf,
    project: Project,
}

pub static PROGRAMS: LazyLock<Programs> = LazyLock::new(|| {
    let bank = block(CHAPTER, TODAY, "// src/bank.rs");
    let program = |heading| block(CHAPTER, heading, "// src/main.rs");
    let manifest = |heading| block(CHAPTER, heading, "[package]");

    let without = Project::new("without");
    without.write("Cargo.toml", &(manifest(TODAY) + "\n[workspace]\n"));
    without.write("src/main.rs", &program(TODAY));
    without.write("src/bank.rs", &bank);

    let with = Project::new("with");
    with.write("Cargo.toml", &(on_this_crate(&manifest(WHOLE)) + "\n[workspace]\n"));
    with.write("src/main.rs", &program(WHOLE));
    with.write("src/bank.rs", &bank);
    with.write("src/tests.rs", &block(CHAPTER, TESTS, "// src/tests.rs"));

    Programs { without: without.build(), with: with.build(), project: with }
});

/// The manifest, with this crate in the role of the published one.
fn on_this_crate(manifest: &str) -> String {
    let version = env!("CARGO_PKG_VERSION").rsplit_once('.').expect("it has three numbers").0;
    let published = format!("idemstore = {{ version = \"{version}\", ");
    assert_eq!(manifest.matches(&published).count(), 1, "the chapter has the version {version}");
    manifest.replace(&published, &format!("idemstore = {{ path = {HERE:?}, "))
}

const HERE: &str = env!("CARGO_MANIFEST_DIR");

struct Project {
    directory: PathBuf,
}

impl Project {
    fn new(name: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guide").join(name);
        fs::create_dir_all(directory.join("src")).expect("there is room");
        let project = Self { directory };
        // The same versions, which are all on this machine.
        let lock = fs::read_to_string(Path::new(HERE).join("Cargo.lock")).expect("it is there");
        project.write("Cargo.lock", &lock);
        project
    }

    /// Writes a file, unless it already has these contents: an unchanged file isn't built again.
    fn write(&self, name: &str, text: &str) {
        let path = self.directory.join(name);
        if fs::read_to_string(&path).ok().as_deref() != Some(text) {
            fs::write(path, text).expect("there is room");
        }
    }

    /// Builds the program without a warning. Both have the same name, so it is copied away.
    fn build(&self) -> PathBuf {
        self.cargo(&["build"]);
        let program = self.directory.join("payments");
        fs::copy(target().join("debug/payments"), &program).expect("it was built");
        program
    }

    fn cargo(&self, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO"))
            .args(arguments)
            .arg("--offline")
            .current_dir(&self.directory)
            .env("CARGO_TARGET_DIR", target())
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", "0")
            .env_remove("CARGO_BUILD_TARGET")
            .env_remove("RUSTC_WORKSPACE_WRAPPER")
            .output()
            .expect("cargo starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}{told}", self.directory.display());
        assert!(!told.contains("warning: `payments`"), "{told}");
        said
    }
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("guide/target")
}

#[test]
fn the_tests_of_the_chapter_hold() {
    let tested = PROGRAMS.project.cargo(&["test"]);
    let count = block(CHAPTER, TESTS, "// src/tests.rs").matches("\n#[t").count();
    assert!(tested.contains(&format!("test result: ok. {count} passed; 0 failed")), "{tested}");
}

/// The code in the steps is what the program has in the end, except for the examples that are
/// tested separately.
#[test]
fn the_steps_are_parts_of_the_whole() {
    let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
    let whole = lines(&block(CHAPTER, WHOLE, "// src/main.rs"));
    let mut parts = 0;
    for step in blocks(CHAPTER) {
        let is_step = step.heading.starts_with(|first: char| first.is_ascii_digit());
        if is_step && step.info == "rust,ignore" && step.heading != TESTS {
            let part = lines(&step.text);
            let is_there = whole.windows(part.len()).any(|window| window == part);
            assert!(is_there, "of {}:\n{}", step.heading, step.text);
            parts += 1;
        }
    }
    assert!(9 < parts, "only {parts} parts were found");
}
