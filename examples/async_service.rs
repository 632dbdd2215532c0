//! An async service: two concurrent requests with one key make one charge.
//!
//! `cargo run --example async_service`

use std::time::Duration;

use idemstore::{Begin, Completed, Execution, Fingerprint, Key, Store};
use tokio::sync::Mutex;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The status and the body of the response.
async fn pay(store: &Store, bank: &Bank, key: &Key, body: &str) -> Result<(u16, String), Error> {
    // `begin` waits for nothing, so it need not be a future.
    let mut begin = store.begin(key, Fingerprint::of(body))?;
    if let Begin::InFlight(in_flight) = begin {
        // Another request is running it. The runtime has the timer.
        let wait = tokio::time::timeout(Duration::from_secs(2), in_flight.wait_async());
        let Ok(answer) = wait.await else { return Ok((409, "try again".to_owned())) };
        begin = answer?;
    }
    let receipt = match begin {
        Begin::Fresh(permit) => charge(permit.start_async().await?, bank, body).await?,
        Begin::Replay(receipt) => receipt,
        Begin::NotKept(_) => return Ok((409, "paid before, the receipt was too long".to_owned())),
        Begin::InFlight(_) => return Ok((409, "try again".to_owned())),
        Begin::Mismatch => return Ok((422, "this key was used before".to_owned())),
        // It was started, and its process died. Only the bank knows whether it has charged.
        Begin::Interrupted(doubt) => match bank.find(&doubt.downstream_key("charge")).await {
            Some(receipt) => doubt.resolve_async(receipt).await?,
            None => charge(doubt.retry_async().await?, bank, body).await?,
        },
    };
    Ok((200, String::from_utf8(receipt.result().to_vec())?))
}

async fn charge(run: Execution, bank: &Bank, body: &str) -> Result<Completed, Error> {
    let receipt = bank.charge(&run.downstream_key("charge"), body).await;
    Ok(run.complete_async(receipt).await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let store = Store::in_memory()?; // A service opens a directory instead.
    let (bank, key) = (Bank::default(), Key::new("payment-1")?);
    let pay = async |body| pay(&store, &bank, &key, body).await;

    let (first, second) = tokio::join!(pay("250"), pay("250"));
    let (first, second, other) = (first?, second?, pay("999").await?);
    println!("two at once:  {first:?} and {second:?}");
    println!("another body: {other:?}");
    assert_eq!(first, second);
    assert_eq!(other.0, 422);
    assert_eq!(bank.charges.lock().await.len(), 1, "it was charged once");
    Ok(())
}

/// Stands for your bank.
#[derive(Default)]
struct Bank {
    /// The key of each charge, and its receipt.
    charges: Mutex<Vec<(String, String)>>,
}

impl Bank {
    async fn charge(&self, key: &str, cents: &str) -> String {
        let receipt = format!("paid {cents}");
        self.charges.lock().await.push((key.to_owned(), receipt.clone()));
        receipt
    }

    async fn find(&self, key: &str) -> Option<String> {
        let charges = self.charges.lock().await;
        charges.iter().find(|(known, _)| known == key).map(|(_, receipt)| receipt.clone())
    }
}
