//! Builds the sources as they are explored, with the bugs that are there only to be found.

fn main() {
    println!("cargo::rustc-cfg=shuttle");
    println!("cargo::rustc-cfg=canary");
    println!("cargo::rerun-if-changed=build.rs");
}
