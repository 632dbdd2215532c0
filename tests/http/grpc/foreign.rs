//! A third-party client: Python's grpcio, with the usual retry policy.

use super::bank::Bank;
use super::programs::{python, said};
use idemstore::http::Decision;

#[tokio::test(flavor = "multi_thread")]
async fn grpcio_retries_by_its_policy_and_pays_once_for_each_key() {
    let Some(python) = python("grpc") else { return };
    // A call that its policy retries after `UNAVAILABLE` may run again.
    let bank = Bank::new(|layer| layer.on_interrupted(|_| async { Decision::Retry })).await;
    let script = "tests/http/grpc/grpcio_client.py";
    let address = bank.address.to_string();
    let run = tokio::task::spawn_blocking(move || said(python, script, &address));
    assert_eq!(run.await.expect("the client ends well").trim(), "one payment for each key");
    // Eight keys, one that was aborted, one that failed four times.
    assert_eq!(bank.desk.runs(), 8 + 1 + 4);
}
