//! Builds the sources for exploration, with the planted bugs.

fn main() {
    println!("cargo::rustc-cfg=shuttle");
    println!("cargo::rustc-cfg=canary");
    println!("cargo::rerun-if-changed=build.rs");
}
