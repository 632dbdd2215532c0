//! An operation of several steps, which resumes where it was cut off.
//!
//! `cargo run --example saga`

use idemstore::{Begin, Fingerprint, Key, Store};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const STEPS: [&str; 3] = ["reserve a seat", "charge the card", "send the ticket"];

fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("store");
    let mut systems =
        Systems { loses_the_answer_of: Some("charge the card"), ..Systems::default() };

    let store = Store::open(&path)?;
    println!("the first request:");
    let error = book(&store, &mut systems, "trip-1").expect_err("an answer is lost");
    println!("  {error}");
    // The process ends here, and another one opens the store.
    store.close()?;
    let store = Store::open(&path)?;
    println!("the next request:");
    println!("  {}", book(&store, &mut systems, "trip-1")?);
    println!("one more:");
    println!("  {}", book(&store, &mut systems, "trip-1")?);

    let done: Vec<_> = systems.done.iter().map(|(step, _)| *step).collect();
    assert_eq!(done, STEPS, "each step has happened once");
    let asked_again = systems.asked_again;
    assert_eq!(asked_again, ["charge the card"], "only the step in doubt was asked for again");
    store.close()?;
    Ok(())
}

/// Books a trip, or does the rest of a trip that was cut off.
fn book(store: &Store, systems: &mut Systems, trip: &str) -> Result<String> {
    let key = Key::scoped("trips", trip)?;
    let mut run = match store.begin(&key, Fingerprint::NONE)? {
        Begin::Fresh(permit) => permit.start()?,
        Begin::Interrupted(interrupted) => interrupted.retry()?,
        Begin::Replay(booked) => return Ok(String::from_utf8(booked.result().to_vec())?),
        Begin::InFlight(_) => return Err("it is being booked: ask again".into()),
        Begin::Mismatch => return Err("this key was used for another trip".into()),
        Begin::NotKept(_) => return Err("booked before, and the answer was too long".into()),
    };
    let done: usize = match run.last_checkpoint() {
        Some(done) => str::from_utf8(done)?.parse()?,
        None => 0,
    };
    for (number, step) in (1..).zip(STEPS).skip(done) {
        // Send the step that no checkpoint covers again. Its system recognises it by this key,
        // which is the same in each attempt. An error drops the execution, and leaves the trip
        // interrupted.
        systems.ask(step, run.downstream_key(step))?;
        run.checkpoint(number.to_string())?;
    }
    let booked = run.complete("booked: seat 12A")?;
    Ok(String::from_utf8(booked.result().to_vec())?)
}

/// Stands for systems that do a step once per key.
#[derive(Default)]
struct Systems {
    done: Vec<(&'static str, String)>,
    asked_again: Vec<&'static str>,
    loses_the_answer_of: Option<&'static str>,
}

impl Systems {
    fn ask(&mut self, step: &'static str, key: String) -> Result<()> {
        if self.done.iter().any(|(_, known)| *known == key) {
            self.asked_again.push(step);
            println!("  {step}: was done before");
            return Ok(());
        }
        self.done.push((step, key));
        println!("  {step}: done");
        if self.loses_the_answer_of.take_if(|lost| *lost == step).is_some() {
            return Err(format!("no answer: {step}").into());
        }
        Ok(())
    }
}
