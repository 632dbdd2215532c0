//! An operation of several steps goes on where it has stopped.
//!
//! `cargo run --example saga`

use idemstore::{Begin, Execution, Fingerprint, Key, Store};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const STEPS: [&str; 3] = ["reserve the seat", "charge the card", "send the ticket"];

fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path().join("store"))?;
    let key = Key::scoped("bookings", "booking-1")?;
    let mut made = Vec::new();

    println!("the first attempt stops before its third step:");
    let Begin::Fresh(permit) = store.begin(&key, Fingerprint::of("seat 4"))? else {
        return Err("the key is new".into());
    };
    go_on(permit.start()?, &mut made, 2)?;

    println!("the next request finds it interrupted, and goes on:");
    let Begin::Interrupted(interrupted) = store.begin(&key, Fingerprint::of("seat 4"))? else {
        return Err("it was started and has no result".into());
    };
    go_on(interrupted.retry()?, &mut made, STEPS.len())?;

    let Begin::Replay(booking) = store.begin(&key, Fingerprint::of("seat 4"))? else {
        return Err("it is completed".into());
    };
    println!("{}", String::from_utf8_lossy(booking.result()));
    assert_eq!(made, STEPS, "each step was made once");
    Ok(())
}

/// Makes the steps that are left, up to this one. A crash stands for the end: the execution is dropped.
fn go_on(mut run: Execution, made: &mut Vec<&'static str>, until: usize) -> Result<()> {
    let done = run.last_checkpoint().map_or(Ok(0), |done| String::from_utf8_lossy(done).parse())?;
    for (at, step) in STEPS.into_iter().enumerate().take(until).skip(done) {
        // A step that was cut off is asked for again by the same key, and its callee knows it by that.
        println!("  {step} ({}..)", &run.downstream_key(step)[..8]);
        made.push(step);
        run.checkpoint((at + 1).to_string())?;
    }
    if until == STEPS.len() {
        run.complete("booked: seat 4")?;
    }
    Ok(())
}
