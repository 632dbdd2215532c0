//! A disk that stands still for as long as a test wants.

use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::disk::SimDisk;

/// Longer than any test takes: a wait that reaches it has failed.
pub const LONG: Duration = Duration::from_secs(120);

/// A door that blocks everything that changes the disk.
#[derive(Clone, Default)]
pub struct Door(Arc<(Mutex<Doors>, Condvar)>);

#[derive(Default)]
struct Doors {
    is_closed: bool,
    /// Whether a call is waiting at it.
    is_waited_at: bool,
}

impl Door {
    pub fn on(disk: &SimDisk) -> Self {
        let door = Self::default();
        let of_disk = door.clone();
        disk.observe(move |_| of_disk.pass());
        door
    }

    fn pass(&self) {
        let (doors, changed) = &*self.0;
        let mut doors = doors.lock().expect("no thread panics");
        while doors.is_closed {
            doors.is_waited_at = true;
            changed.notify_all();
            doors = changed.wait(doors).expect("no thread panics");
        }
    }

    pub fn close(&self) {
        let mut doors = self.0.0.lock().expect("no thread panics");
        *doors = Doors { is_closed: true, is_waited_at: false };
    }

    pub fn open(&self) {
        self.0.0.lock().expect("no thread panics").is_closed = false;
        self.0.1.notify_all();
    }

    /// Returns once the disk stands still in the middle of an operation.
    pub fn wait_for_a_stall(&self) {
        let (doors, changed) = &*self.0;
        let doors = doors.lock().expect("no thread panics");
        let waited = changed.wait_timeout_while(doors, LONG, |doors| !doors.is_waited_at);
        assert!(!waited.expect("no thread panics").1.timed_out(), "nobody uses the disk");
    }
}

/// Opens the door if a test fails early, so that its threads end.
impl Drop for Door {
    fn drop(&mut self) {
        if thread::panicking() {
            self.open();
        }
    }
}
