//! A request whose outcome is learnt later, by a webhook that may come twice.
//!
//! `cargo run --example webhook`

use idemstore::{Begin, Fingerprint, FinishError, Key, Store};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path().join("store"))?;
    println!("the client:  {}", request(&store, "order-1")?);
    println!("a retry:     {}", request(&store, "order-1")?);
    println!("the webhook: {}", event(&store, "order-1", "paid")?);
    println!("once more:   {}", event(&store, "order-1", "paid")?);
    println!("a retry:     {}", request(&store, "order-1")?);
    assert_eq!(request(&store, "order-1")?, "200 paid");
    Ok(())
}

/// Asks the provider, and answers before it does.
fn request(store: &Store, order: &str) -> Result<String> {
    let key = Key::scoped("orders", order)?;
    Ok(match store.begin(&key, Fingerprint::of(order))? {
        Begin::Fresh(permit) => {
            let run = permit.start()?;
            let reference = run.downstream_key("payment");
            // Before the provider is asked: its webhook may be faster than its answer.
            run.detach();
            println!("             (asking the provider for {}..)", &reference[..8]);
            "202 in progress".to_owned()
        }
        // After a restart it is interrupted, and the webhook completes it then too.
        Begin::InFlight(_) | Begin::Interrupted(_) => "202 in progress".to_owned(),
        Begin::Replay(paid) => format!("200 {}", String::from_utf8_lossy(paid.result())),
        Begin::Mismatch => "422 used before".to_owned(),
        Begin::NotKept(_) => "409 not kept".to_owned(),
    })
}

/// Takes what the provider says in the end.
fn event(store: &Store, order: &str, outcome: &str) -> Result<&'static str> {
    match store.complete(&Key::scoped("orders", order)?, outcome) {
        Ok(_) => Ok("204 taken"),
        // It was completed before: the provider need not send this again.
        Err(FinishError::NotExecuting) => Ok("204 known"),
        Err(error) => Err(error.into()),
    }
}
