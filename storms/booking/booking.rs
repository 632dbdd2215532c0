//! The operation: three steps, with a checkpoint after each.

use std::io;
use std::path::Path;
use std::process;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use idemstore::{
    CheckpointError, Effect, Execution, Fingerprint, Key, KeyError, LOG_BYTES_MIN, OpenError,
    Outcome, Store,
};

use crate::provider::{Failure, Provider};
use crate::{Args, Result};

/// Bookings that are under way at one time, and that one kill interrupts.
const THREADS: usize = 8;

/// The steps of a booking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Reserve,
    Charge,
    Send,
}

impl Step {
    /// In the order in which they must happen.
    pub(crate) const ALL: [Self; 3] = [Self::Reserve, Self::Charge, Self::Send];

    /// Is written to checkpoints and to the journal, so it must not change.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reserve => "reserve",
            Self::Charge => "charge",
            Self::Send => "send",
        }
    }

    /// How many steps a checkpoint covers. A checkpoint is the name of the last completed step.
    fn covered_by(checkpoint: Option<&[u8]>) -> Result<usize, Stop> {
        let Some(checkpoint) = checkpoint else { return Ok(0) };
        let last = Self::ALL.iter().position(|step| step.name().as_bytes() == checkpoint);
        last.map(|last| last + 1).ok_or_else(|| Stop::Broken("a checkpoint is not known".into()))
    }
}

/// Why an attempt ended early.
#[derive(Debug)]
enum Stop {
    /// A step may have happened or not.
    NoAnswer,
    /// The store or the journal has failed: this process can do nothing more.
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

impl From<CheckpointError> for Stop {
    fn from(error: CheckpointError) -> Self {
        Self::Broken(error.into())
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.into())
    }
}

/// Makes the bookings.
struct Agency {
    store: Store,
    provider: Provider,
    sabotage: bool,
}

impl Agency {
    /// Makes a booking, or finds it already made, in as many attempts as it takes.
    fn book(&self, booking: u32) -> Result<()> {
        let (key, request) = (key(booking)?, fingerprint(booking));
        let attempt = |execution: &mut Execution| self.attempt(booking, execution);
        loop {
            let outcome = match self.store.run(&key, request, attempt)? {
                Outcome::Interrupted(interrupted) => interrupted.run(attempt)?,
                outcome => outcome,
            };
            match outcome {
                Outcome::Done(_) | Outcome::Replay(_) => return Ok(()),
                // The next round finds it interrupted, and resumes from its last checkpoint.
                Outcome::Unknown(Stop::NoAnswer) => {}
                Outcome::Unknown(Stop::Broken(error)) => return Err(error),
                other => return Err(format!("a booking has ended as {other:?}").into()),
            }
        }
    }

    /// An attempt that ends early leaves the booking interrupted: some of its steps have happened,
    /// so `DidNotHappen` would be wrong for the booking as a whole.
    fn attempt(&self, booking: u32, execution: &mut Execution) -> Effect<String, Stop> {
        match self.go_on(booking, execution) {
            Ok(()) => Effect::Done(ticket(booking)),
            Err(stop) => Effect::Unknown(stop),
        }
    }

    /// Does all steps that aren't done yet.
    fn go_on(&self, booking: u32, execution: &mut Execution) -> Result<(), Stop> {
        let mut covered = Step::covered_by(execution.last_checkpoint())?;
        // The previous attempt may have done the first step that no checkpoint covers. It didn't
        // reach any later one.
        let mut in_doubt = 1 < execution.attempt();
        if self.sabotage {
            (covered, in_doubt) = (0, false);
        }
        for step in Step::ALL.into_iter().skip(covered) {
            if !(in_doubt && self.provider.has_done(booking, step)?) {
                self.request(booking, step)?;
            }
            in_doubt = false;
            // The completion covers the last step.
            if step != Step::Send {
                execution.checkpoint(step.name())?;
            }
        }
        Ok(())
    }

    /// A refused step did not happen, so it is safe to ask for it again at once.
    fn request(&self, booking: u32, step: Step) -> Result<(), Stop> {
        loop {
            match self.provider.request(booking, step) {
                Ok(()) => return Ok(()),
                Err(Failure::Refused) => {}
                Err(Failure::NoAnswer) => return Err(Stop::NoAnswer),
                Err(Failure::Io(error)) => return Err(error.into()),
            }
        }
    }
}

/// The store, with the smallest log there is, so that it is settled while the process is killed.
pub(crate) fn open(place: &Path) -> Result<Store, OpenError> {
    Store::builder().log_bytes(LOG_BYTES_MIN).result_len_max(1024).open(place.join("store"))
}

pub(crate) fn key(booking: u32) -> Result<Key, KeyError> {
    Key::scoped("bookings", booking.to_string())
}

pub(crate) fn fingerprint(booking: u32) -> Fingerprint {
    Fingerprint::of_parts(["POST", "/bookings", &format!("seat {}", booking % 300)])
}

/// The result of a booking.
pub(crate) fn ticket(booking: u32) -> String {
    format!("ticket of booking {booking}")
}

/// The process that is killed: it works through all bookings, including those already made.
pub(crate) fn child(args: &Args, place: &Path, generation: u32) -> Result<()> {
    end_with_parent();
    let agency = Agency {
        store: open(place)?,
        provider: Provider::open(place, args.seed, generation)?,
        sabotage: args.sabotage,
    };
    let (next, failure) = (AtomicU32::new(0), Mutex::new(Ok(())));
    let work = || {
        loop {
            let booking = next.fetch_add(1, Ordering::Relaxed);
            if args.bookings <= booking {
                return;
            }
            if let Err(error) = agency.book(booking) {
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Err(error);
                return;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(work);
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner)?;
    agency.store.close()?;
    Ok(())
}

/// If the parent is gone, nothing will kill this process any more. The parent holds the other end
/// of our standard input, which closes however the parent ends.
fn end_with_parent() {
    thread::spawn(|| {
        // Whether this ends well or not, there is nothing left to work for.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        process::exit(3);
    });
}
