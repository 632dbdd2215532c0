//! Calls with one message in each direction.

use idemstore::http::Decision;
use idemstore::{Effect, Status as Kept};
use tonic::Code;

use super::bank::{Bank, Count, is_replay};

#[tokio::test]
async fn a_call_that_is_sent_again_gets_the_first_answer() {
    let bank = Bank::new(|layer| layer.require_key(true)).await;
    let (mut one, mut other) = (bank.client().await, bank.client().await);
    let first = one.pay("abc", "apples").await.expect("it is paid");
    assert!(!is_replay(&first));
    for client in [&mut one, &mut other] {
        let again = client.pay("abc", "apples").await.expect("it is replayed");
        assert!(is_replay(&again));
        assert_eq!(again.get_ref(), first.get_ref());
        assert_eq!(again.metadata().get("receipt"), first.metadata().get("receipt"));
    }
    assert_eq!(one.pay("def", "apples").await.expect("it is paid").into_inner(), "order 2");
    assert_eq!(bank.desk.runs(), 2);
}

#[tokio::test]
async fn what_became_of_a_call_is_told_by_its_status() {
    for code in 1..=16 {
        let bank = Bank::new(|layer| layer).await;
        let mut client = bank.client().await;
        let text = format!("status {code}");
        let mut errors = Vec::new();
        for _ in 0..2 {
            errors.push(client.pay("abc", &text).await.expect_err("it is told to fail"));
        }
        assert_eq!(errors[0].code(), Code::from(code));
        assert_eq!((errors[0].message(), errors[0].details()), ("as told", &b"details"[..]));
        let (kept, runs, again) = match code {
            3 | 5 | 7..=12 | 16 => (None, 2, Code::from(code)),
            1 | 2 | 4 | 14 => (Some(Kept::Interrupted), 1, Code::FailedPrecondition),
            _ => (Some(Kept::Completed), 1, Code::from(code)),
        };
        assert_eq!((bank.status("abc"), bank.desk.runs()), (kept, runs), "status {code}");
        assert_eq!(errors[1].code(), again);
        if kept == Some(Kept::Completed) {
            assert_eq!((errors[1].message(), errors[1].details()), ("as told", &b"details"[..]));
        }
    }
}

#[tokio::test]
async fn a_handler_can_say_what_its_status_cannot() {
    let bank = Bank::new(|layer| layer).await;
    let mut client = bank.client().await;
    assert_eq!(client.pay("abc", "unknown").await.expect_err("it fails").code(), Code::Internal);
    assert_eq!(bank.status("abc"), Some(Kept::Interrupted), "`INTERNAL` alone would be an answer");
}

#[tokio::test]
async fn a_predicate_sees_the_status_wherever_it_stands() {
    let seen = Count::default();
    let ours = seen.clone();
    let bank = Bank::new(|layer| {
        layer.effect_of(move |head| {
            ours.add();
            match head.headers.get("grpc-status").map(http::HeaderValue::as_bytes) {
                // In the trailers.
                Some(b"0") => Effect::Unknown(()),
                // In the headers.
                Some(b"13") => Effect::DidNotHappen(()),
                other => panic!("{other:?}"),
            }
        })
    })
    .await;
    let mut client = bank.client().await;
    client.pay("abc", "apples").await.expect("it is paid");
    client.pay("def", "status 13").await.expect_err("it is told to fail");
    assert_eq!((bank.status("abc"), bank.status("def")), (Some(Kept::Interrupted), None));
    assert_eq!(seen.get(), 2);
}

#[tokio::test]
async fn a_client_that_leaves_finds_its_answer_later() {
    let bank = Bank::new(|layer| layer).await;
    let mut client = bank.client().await;
    let mut leaves = client.clone();
    let call = tokio::spawn(async move { leaves.pay("abc", "held apples").await });
    bank.desk.entered().await;
    call.abort();
    assert!(call.await.expect_err("it has left").is_cancelled());
    bank.desk.let_go();
    let answer = loop {
        match client.pay("abc", "held apples").await {
            Ok(answer) => break answer,
            Err(status) => assert_eq!(status.code(), Code::Aborted, "{status:?}"),
        }
    };
    assert!(is_replay(&answer));
    assert_eq!((answer.into_inner(), bank.desk.runs()), ("order 1".to_owned(), 1));
}

#[tokio::test]
async fn a_hook_decides_about_a_call_that_was_interrupted() {
    let bank = Bank::new(|layer| layer.on_interrupted(|_| async { Decision::Retry })).await;
    let mut client = bank.client().await;
    // Each attempt ends like this, so it says nothing about the previous one.
    for _ in 0..2 {
        let failed = client.pay("abc", "status 14").await.expect_err("it is told to fail");
        assert_eq!(failed.code(), Code::Unavailable);
    }
    assert_eq!(bank.desk.runs(), 2);
}
