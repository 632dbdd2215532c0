//! Bugs that exist only to be found: with `--cfg canary`, the environment variable `CANARY` names
//! the bug to enable, and `tests/it/canaries.rs` contains the test that must then fail. A harness
//! that does not notice its canary would not notice anything else either.
//!
//! Without that flag, none of them is compiled into the crate.

/// Returns whether the bug of this name is enabled.
#[cfg(canary)]
pub(crate) fn sings(name: &str) -> bool {
    use std::sync::OnceLock;
    static OUT: OnceLock<Option<String>> = OnceLock::new();
    OUT.get_or_init(|| std::env::var("CANARY").ok()).as_deref() == Some(name)
}

#[cfg(not(canary))]
pub(crate) const fn sings(_: &str) -> bool {
    false
}
