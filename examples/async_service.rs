//! The same calls as futures: requests at once, and one of them runs.
//!
//! `cargo run --example async_service`

use std::time::Duration;

use idemstore::{Begin, Fingerprint, Key, Store};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path().join("store"))?;
    let requests: Vec<_> = (0..4).map(|number| tokio::spawn(pay(store.clone(), number))).collect();
    let mut runs = 0;
    for request in requests {
        runs += usize::from(request.await??);
    }
    assert_eq!(runs, 1, "four requests of one key are one charge");
    tokio::task::spawn_blocking(|| store.close()).await??;
    Ok(())
}

/// Pays, and says whether this request has done it. The others wait for its outcome.
async fn pay(store: Store, number: u32) -> Result<bool, Error> {
    let key = Key::scoped("payments", "order-1")?;
    // `begin` waits for nobody, so it need not be a future.
    let mut begin = store.begin(&key, Fingerprint::of("2 apples"))?;
    if let Begin::InFlight(in_flight) = begin {
        begin = tokio::time::timeout(Duration::from_secs(5), in_flight.wait_async()).await??;
    }
    match begin {
        Begin::Fresh(permit) => {
            let run = permit.start_async().await?;
            let receipt = charge(&run.downstream_key("charge")).await;
            println!("request {number} has charged");
            run.complete_async(receipt).await?;
            Ok(true)
        }
        Begin::Replay(receipt) => {
            let receipt = String::from_utf8_lossy(receipt.result()).into_owned();
            println!("request {number} has the {receipt}");
            Ok(false)
        }
        Begin::Interrupted(_) => Err("ask the bank, then resolve or retry".into()),
        Begin::InFlight(_) | Begin::Mismatch | Begin::NotKept(_) => Err("not now".into()),
    }
}

/// Stands for the bank.
async fn charge(key: &str) -> String {
    tokio::time::sleep(Duration::from_millis(50)).await;
    format!("receipt for {}..", &key[..8])
}
