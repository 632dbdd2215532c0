//! Bugs that are there only to be found: with `--cfg canary`, the environment variable `CANARY`
//! names the one that is let out, and `tests/it/canaries.rs` has the test that must fail then. A
//! harness that does not notice its canary would notice nothing else either.
//!
//! Without that flag none of it is compiled into the crate.

/// Whether the bug of this name is out.
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
