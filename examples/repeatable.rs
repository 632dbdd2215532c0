//! An effect that may be repeated: one fsync, and no doubt after a crash.
//!
//! `cargo run --example repeatable`

use idemstore::{Begin, Fingerprint, Key, Store};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path().join("store"))?;
    let text = "to be or not to be";
    println!("first:  {}", count(&store, "report-1", text)?);
    println!("again:  {}", count(&store, "report-1", text)?);
    if let Err(why) = count(&store, "report-1", "another text") {
        println!("other:  {why}");
    }
    store.close()?;
    Ok(())
}

/// Counts the words of a report. To count them twice does no harm, so nothing is stored before: a crash
/// leaves the key free, and the next caller counts again.
fn count(store: &Store, report: &str, text: &str) -> Result<String> {
    let key = Key::scoped("word counts", report)?;
    let counted = match store.begin(&key, Fingerprint::of(text))? {
        Begin::Fresh(permit) => {
            println!("        (counting)");
            permit.complete(text.split(' ').count().to_string())?
        }
        Begin::Replay(counted) => counted,
        Begin::Mismatch => return Err("this report was another text".into()),
        Begin::InFlight(_) => return Err("somebody counts it now".into()),
        Begin::NotKept(_) => return Err("counted before, and the result was too long".into()),
        // Only what was started can be interrupted.
        Begin::Interrupted(_) => return Err("this key was started by another program".into()),
    };
    Ok(String::from_utf8(counted.result().to_vec())?)
}
