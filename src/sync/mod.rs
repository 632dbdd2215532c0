//! The synchronisation primitives of the whole crate, in one place so that a schedule explorer can
//! substitute its own.

#[cfg(shuttle)]
mod explored;
mod fair;

#[cfg(shuttle)]
pub(crate) use explored::{
    AtomicBool, AtomicI64, AtomicU64, Condvar, Mutex, MutexGuard, RwLock, thread,
};
#[cfg(not(shuttle))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
#[cfg(all(shuttle, feature = "transaction"))]
pub(crate) use shuttle::thread_local;
#[cfg(not(shuttle))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
#[cfg(not(shuttle))]
pub(crate) use std::thread;
#[cfg(all(not(shuttle), feature = "transaction"))]
pub(crate) use std::thread_local;

pub(crate) use fair::FairMutex;
pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::Ordering;

/// For state that is accessed under the locks of a library: no other thread may be switched in
/// there.
pub(crate) use parking_lot::Mutex as LeafMutex;
