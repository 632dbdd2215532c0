//! An effect that may be repeated: one fsync per operation, and a crash leaves no doubt.
//!
//! `cargo run --example repeatable`

use idemstore::{Begin, Fingerprint, Key, Store};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path().join("store"))?;
    let mut printer = Printer { printed: Vec::new(), has_paper: false };

    let fails = print(&store, &mut printer, "report-1", "to be or not to be").is_err();
    println!("without paper:       nothing is stored, and the key is free: {fails}");
    assert!(fails, "there was no paper");
    printer.has_paper = true;
    println!(
        "the next attempt:    {}",
        print(&store, &mut printer, "report-1", "to be or not to be")?
    );
    println!(
        "the same once more:  {}",
        print(&store, &mut printer, "report-1", "to be or not to be")?
    );
    assert!(print(&store, &mut printer, "report-1", "another text").is_err());

    assert_eq!(printer.printed, ["report-1"], "it was printed once");
    store.close()?;
    Ok(())
}

/// Prints a report. A second copy would do no harm, so there's no `start`: if a process dies before
/// `complete` has returned, the key stays free, and the next caller prints the report again.
fn print(store: &Store, printer: &mut Printer, report: &str, text: &str) -> Result<String> {
    let key = Key::scoped("reports", report)?;
    let sheets = match store.begin(&key, Fingerprint::of(text))? {
        // If the printer fails, the permit is dropped, which frees the key.
        Begin::Fresh(permit) => permit.complete(printer.print(report, text)?)?,
        Begin::Replay(sheets) => sheets,
        Begin::InFlight(_) => return Err("it is being printed: ask again".into()),
        Begin::Mismatch => return Err("this key was used for another text".into()),
        Begin::NotKept(_) => return Err("printed before, and the result was too long".into()),
        // Only a started operation can be interrupted, and nothing is started here.
        Begin::Interrupted(_) => return Err("this key was started by another program".into()),
    };
    Ok(String::from_utf8(sheets.result().to_vec())?)
}

/// Stands for the effect.
struct Printer {
    printed: Vec<String>,
    has_paper: bool,
}

impl Printer {
    fn print(&mut self, report: &str, text: &str) -> Result<String> {
        if !self.has_paper {
            return Err("no paper".into());
        }
        self.printed.push(report.to_owned());
        println!("                     (printing {report})");
        Ok(format!("{} words on paper", text.split(' ').count()))
    }
}
