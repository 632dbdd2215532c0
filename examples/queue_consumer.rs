//! A consumer of a queue that delivers messages more than once: one fsync to start a batch, and one
//! to complete it.
//!
//! `cargo run --example queue_consumer`

use idemstore::{Begin, Fingerprint, Interrupted, Key, Store};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path().join("store"))?;
    let mut mailer = Mailer { sent: Vec::new() };
    let message = |id| Ok::<_, idemstore::KeyError>((id, Key::scoped("mails", id)?));

    let batch = [message("1")?, message("2")?, message("3")?];
    println!("acknowledged: {:?}", consume(&store, &mut mailer, &batch));
    // The acknowledgement of message 2 was lost, and message 3 got none. From here on all of them
    // are lost.
    let batch = [message("2")?, message("3")?, message("4")?];
    for _ in 0..2 {
        let acknowledged = consume(&store, &mut mailer, &batch);
        println!("acknowledged: {acknowledged:?}");
        assert_eq!(acknowledged.len(), batch.len());
    }

    assert_eq!(mailer.sent.len(), 4, "there is one mail for each message");
    store.close()?;
    Ok(())
}

/// Sends a mail for each message. Returns the messages to acknowledge: the queue delivers all
/// others again.
fn consume<'m>(store: &Store, mailer: &mut Mailer, batch: &[(&'m str, Key)]) -> Vec<&'m str> {
    let (mut acknowledged, mut permits, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
    let requests = batch.iter().map(|(_, key)| (key, Fingerprint::NONE));
    for ((id, _), begin) in batch.iter().zip(store.begin_many(requests)) {
        match begin {
            Ok(Begin::Fresh(permit)) => {
                permits.push(permit);
                fresh.push(*id);
            }
            Ok(Begin::Replay(_) | Begin::NotKept(_)) => acknowledged.push(*id),
            Ok(Begin::Interrupted(interrupted)) => {
                if find_out(interrupted, mailer).is_ok_and(|was_sent| was_sent) {
                    acknowledged.push(*id);
                }
            }
            // A message that can't be answered doesn't hold up the others.
            Ok(Begin::InFlight(_) | Begin::Mismatch) | Err(_) => {}
        }
    }
    let (mut ids, mut runs) = (Vec::new(), Vec::new());
    for (id, run) in fresh.into_iter().zip(store.start_many(permits)) {
        // Without an answer, the mail may have been sent: dropping `run` leaves the key
        // interrupted.
        if let Ok(run) = run
            && mailer.send(run.downstream_key("mail")).is_ok()
        {
            ids.push(id);
            runs.push((run, ""));
        }
    }
    let completed = ids.into_iter().zip(store.complete_many(runs));
    acknowledged.extend(completed.filter_map(|(id, completed)| completed.ok().map(|_| id)));
    acknowledged
}

/// The process that was sending this mail is gone. Only the mailer knows whether it was sent.
fn find_out(interrupted: Interrupted, mailer: &Mailer) -> Result<bool> {
    let was_sent = mailer.sent.contains(&interrupted.downstream_key("mail"));
    if was_sent {
        interrupted.resolve("")?;
    } else {
        interrupted.abandon()?;
    }
    Ok(was_sent)
}

/// Stands for a mail service. Its third answer is lost.
struct Mailer {
    sent: Vec<String>,
}

impl Mailer {
    fn send(&mut self, key: String) -> Result<()> {
        self.sent.push(key);
        println!("  (mail {} is sent)", self.sent.len());
        if self.sent.len() == 3 {
            return Err("no answer".into());
        }
        Ok(())
    }
}
