//! A payment whose outcome arrives by webhook: after a restart, and twice.
//!
//! `cargo run --example webhook`

use idemstore::{Begin, Fingerprint, FinishError, Key, Store};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("store");
    let mut provider = Provider { asked_for: Vec::new() };

    let store = Store::open(&path)?;
    println!("the order:          {}", post_order(&store, &mut provider, "order-1")?);
    println!("the same again:     {}", post_order(&store, &mut provider, "order-1")?);
    store.close()?;
    let store = Store::open(&path)?;
    println!("after a restart:    {}", post_order(&store, &mut provider, "order-1")?);
    println!("the webhook:        {}", webhook(&store, "order-1", "paid")?);
    println!("the webhook again:  {}", webhook(&store, "order-1", "paid")?);
    let answer = post_order(&store, &mut provider, "order-1")?;
    println!("the order:          {answer}");

    assert_eq!(answer, "200 paid");
    assert_eq!(provider.asked_for, ["order-1"], "one payment was asked for");
    store.close()?;
    Ok(())
}

/// What a handler of `POST /orders` does, and the answer that it sends.
fn post_order(store: &Store, provider: &mut Provider, order: &str) -> Result<String> {
    let key = Key::scoped("orders", order)?;
    Ok(match store.begin(&key, Fingerprint::NONE)? {
        Begin::Fresh(permit) => {
            // Before the provider is asked: its webhook may be faster than its answer.
            permit.start()?.detach();
            provider.ask_for(order);
            "202 in progress".into()
        }
        // After a restart the key is interrupted, and the webhook still finishes it.
        Begin::InFlight(_) | Begin::Interrupted(_) => "202 in progress".into(),
        Begin::Replay(outcome) => format!("200 {}", String::from_utf8_lossy(outcome.result())),
        Begin::Mismatch => "422 this key was used for another order".into(),
        Begin::NotKept(_) => "409 done before, and its outcome was too long to keep".into(),
    })
}

/// What a handler for the provider's events does, once their signature is verified.
fn webhook(store: &Store, order: &str, outcome: &str) -> Result<&'static str> {
    match store.complete(&Key::scoped("orders", order)?, outcome) {
        Ok(_) => Ok("200 stored"),
        // The event is a duplicate, or too late. Sending it again wouldn't help.
        Err(FinishError::NotExecuting) => Ok("200 nothing to do"),
        // Another caller holds the key for a moment. The provider should send the event again.
        Err(FinishError::Held) => Ok("503 try again"),
        Err(error) => Err(error.into()),
    }
}

/// Stands for your payment provider.
struct Provider {
    asked_for: Vec<String>,
}

impl Provider {
    fn ask_for(&mut self, order: &str) {
        println!("                    (asking for the payment of {order})");
        self.asked_for.push(order.to_owned());
    }
}
