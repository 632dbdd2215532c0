//! The embedded engine: one process, one directory, and its threads.
//!
//! The live table ([`index`]) is the current state, in memory. The [`journal`] is what must
//! survive: it writes a [`log`], and settles that into the [`vault`]. [`codec`] defines the bytes
//! of both, and [`disk`] holds the files. The [`Engine`] reads a key, decides by the rules, and
//! claims the key.

pub(crate) mod change;
pub(crate) mod codec;
pub(crate) mod disk;
mod engine;
pub(crate) mod files;
pub(crate) mod helper;
pub(crate) mod index;
pub(crate) mod journal;
pub(crate) mod log;
mod origin;
pub(crate) mod room;
mod secret;
pub(crate) mod sweeper;
pub(crate) mod vault;
pub(crate) mod wake;
pub(crate) mod wakers;

pub(crate) use engine::{Engine, Options};
