//! A consumer of a queue that delivers messages more than once: one fsync for a batch.
//!
//! `cargo run --example queue_consumer`

use idemstore::{Begin, Fingerprint, Key, Store};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path().join("store"))?;
    let mut mailed = Vec::new();
    consume(&store, &["m-1", "m-2", "m-3"], &mut mailed)?;
    // The acknowledgement of two of them was lost, so that they come again.
    consume(&store, &["m-2", "m-3", "m-4"], &mut mailed)?;
    assert_eq!(
        mailed,
        ["m-1", "m-2", "m-3", "m-4"],
        "each message has its mail, and no second one"
    );
    Ok(())
}

/// Takes a batch of messages. All that it returns for may be acknowledged.
fn consume<'m>(store: &Store, batch: &[&'m str], mailed: &mut Vec<&'m str>) -> Result<()> {
    let keys = batch.iter().map(|id| Ok(Key::scoped("mails", id)?)).collect::<Result<Vec<_>>>()?;
    let (mut permits, mut names) = (Vec::new(), Vec::new());
    let asked = keys.iter().map(|key| (key, Fingerprint::NONE));
    for (name, begin) in batch.iter().zip(store.begin_many(asked)) {
        match begin? {
            Begin::Fresh(permit) => {
                permits.push(permit);
                names.push(*name);
            }
            Begin::Replay(_) | Begin::NotKept(_) => println!("{name}: done before"),
            Begin::InFlight(_) => {
                return Err("another consumer has it: leave it in the queue".into());
            }
            Begin::Mismatch => return Err("an id was used for another message".into()),
            Begin::Interrupted(_) => {
                return Err("ask the mail server, then resolve or retry".into());
            }
        }
    }
    // One fsync for all of them, then the effects, then one fsync for all results.
    let mut done = Vec::new();
    for (name, run) in names.into_iter().zip(store.start_many(permits)) {
        let run = run?;
        println!("{name}: mailed as {}..", &run.downstream_key("mail")[..8]);
        mailed.push(name);
        done.push((run, "mailed"));
    }
    for completed in store.complete_many(done) {
        completed?;
    }
    Ok(())
}
