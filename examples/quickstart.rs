//! Charges at most once for each order, however often the order is sent.
//!
//! `cargo run --example quickstart`

use std::time::Duration;

use idemstore::{Begin, Fingerprint, Key, Store};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path().join("store"))?;

    let body = r#"{"apples": 2, "cents": 340}"#;
    println!("the order:           {}", charge(&store, "order-1", body)?);
    println!("the same once more:  {}", charge(&store, "order-1", body)?);
    println!("with a changed body: {}", charge(&store, "order-1", r#"{"apples": 9}"#)?);

    store.close()?;
    Ok(())
}

/// What a handler of `POST /orders` does, and the answer that it sends.
fn charge(store: &Store, order_id: &str, body: &str) -> Result<String> {
    let key = Key::scoped("orders", order_id)?;
    let mut begin = store.begin(&key, Fingerprint::of(body))?;
    // Another request is running it now. Wait briefly, and return its answer.
    if let Begin::InFlight(in_flight) = begin {
        begin = in_flight.wait(Duration::from_secs(2))?;
    }
    let receipt = match begin {
        // The key is unused. Check the order before `start`: a permit that is dropped leaves no
        // trace.
        Begin::Fresh(permit) => {
            let execution = permit.start()?;
            execution.complete(provider::charge(order_id))?
        }
        // It has been paid: return the same answer, without a second charge.
        Begin::Replay(receipt) => receipt,
        Begin::NotKept(_) => {
            return Ok("409 done before, and its receipt was too long to keep".into());
        }
        Begin::InFlight(_) => return Ok("409 the order is being processed, try again".into()),
        // The key belongs to an order with another body.
        Begin::Mismatch => return Ok("422 this key was used for another order".into()),
        // It was started, and the process died: only the provider knows whether it has charged. To
        // give up instead of trying again, call `abandon`: the key is then free.
        Begin::Interrupted(interrupted) => match provider::find(order_id) {
            Some(receipt) => interrupted.resolve(receipt)?,
            None => interrupted.retry()?.complete(provider::charge(order_id))?,
        },
    };
    Ok(format!("200 {}", String::from_utf8_lossy(receipt.result())))
}

/// Stands for your payment provider.
mod provider {
    pub(crate) fn charge(order_id: &str) -> String {
        println!("                     (charging for {order_id})");
        format!("receipt for {order_id}")
    }

    pub(crate) fn find(_order_id: &str) -> Option<String> {
        None
    }
}
