//! Calls that stream.

use std::time::Duration;

use idemstore::Status as Kept;
use tokio::sync::mpsc;
use tonic::{Code, Streaming};

use super::bank::{Bank, is_replay};

async fn all(mut stream: Streaming<String>) -> (Vec<String>, Option<Code>) {
    let mut texts = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(text)) => texts.push(text),
            Ok(None) => return (texts, None),
            Err(status) => return (texts, Some(status.code())),
        }
    }
}

#[tokio::test]
async fn messages_come_as_they_are_sent_and_are_replayed_as_they_were() {
    let bank = Bank::new(|layer| layer).await;
    let mut client = bank.client().await;
    let mut first = client.statement("abc", "all").await.expect("it begins").into_inner();
    // The second is not there yet.
    assert_eq!(first.message().await.expect("it comes").as_deref(), Some("first"));
    let meanwhile = client.statement("abc", "all").await.expect_err("it is in flight");
    assert_eq!(meanwhile.code(), Code::Aborted);
    bank.desk.let_go();
    assert_eq!(all(first).await, (vec!["last".to_owned()], None));
    assert_eq!(bank.status("abc"), Some(Kept::Completed), "it is stored before its end is told");
    let again = client.statement("abc", "all").await.expect("it is replayed");
    assert!(is_replay(&again));
    assert_eq!(all(again.into_inner()).await, (vec!["first".to_owned(), "last".to_owned()], None));
    assert_eq!(bank.desk.runs(), 1);
}

#[tokio::test]
async fn a_stream_says_at_its_end_what_became_of_the_effect() {
    for (code, kept) in [(3, None), (14, Some(Kept::Interrupted)), (13, Some(Kept::Completed))] {
        let bank = Bank::new(|layer| layer).await;
        let mut client = bank.client().await;
        bank.desk.let_go();
        let text = format!("status {code}");
        let stream = client.statement("abc", &text).await.expect("it begins").into_inner();
        let expected = (vec!["first".to_owned()], Some(Code::from(code)));
        assert_eq!(all(stream).await, expected);
        assert_eq!(bank.status("abc"), kept, "status {code}");
    }
}

#[tokio::test]
async fn a_stream_whose_client_leaves_is_interrupted() {
    let bank = Bank::new(|layer| layer).await;
    let mut client = bank.client().await;
    let mut stream = client.statement("abc", "all").await.expect("it begins").into_inner();
    assert_eq!(stream.message().await.expect("it comes").as_deref(), Some("first"));
    drop((stream, client));
    while bank.status("abc") != Some(Kept::Interrupted) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_end_that_could_not_be_stored_is_told_as_unknown() {
    let bank = Bank::new(|layer| layer).await;
    let mut client = bank.client().await;
    let mut stream = client.statement("abc", "all").await.expect("it begins").into_inner();
    assert_eq!(stream.message().await.expect("it comes").as_deref(), Some("first"));
    bank.store.clone().close().expect("it closes");
    bank.desk.let_go();
    assert_eq!(all(stream).await, (vec!["last".to_owned()], Some(Code::Unknown)));
}

#[tokio::test]
async fn what_a_client_streams_counts_as_one_request() {
    let bank = Bank::new(|layer| layer).await;
    let mut client = bank.client().await;
    for is_again in [false, true] {
        let answer = client.deposit("abc", &["1", "2"]).await.expect("it is taken");
        assert_eq!((is_replay(&answer), answer.get_ref().as_str()), (is_again, "1+2"));
    }
    // The same bytes in other messages are another request.
    let other = client.deposit("abc", &["12"]).await.expect_err("its key is used");
    assert_eq!(other.code(), Code::InvalidArgument);
    assert_eq!(bank.desk.runs(), 1);
}

#[tokio::test]
async fn a_call_in_which_both_take_turns_is_let_pass() {
    let bank = Bank::new(|layer| layer.skip(|head| head.uri.path().ends_with("/Negotiate"))).await;
    let mut client = bank.client().await;
    let (send, texts) = mpsc::unbounded_channel();
    send.send("ten".to_owned()).expect("it is open");
    let mut stream = client.negotiate("abc", texts).await.expect("it begins").into_inner();
    for (heard, said) in [("ten?", Some("nine")), ("nine?", None)] {
        assert_eq!(stream.message().await.expect("it comes").as_deref(), Some(heard));
        if let Some(said) = said {
            send.send(said.to_owned()).expect("it is open");
        }
    }
    drop(send);
    assert_eq!(all(stream).await, (Vec::new(), None));
    assert_eq!(bank.status("abc"), None, "it is not protected");
}

#[tokio::test]
async fn one_that_was_not_let_pass_is_refused_in_the_end() {
    let bank = Bank::new(|layer| layer.request_time_max(Duration::from_millis(100))).await;
    let mut client = bank.client().await;
    let (send, texts) = mpsc::unbounded_channel();
    send.send("ten".to_owned()).expect("it is open");
    let refused = client.negotiate("abc", texts).await.expect_err("each waits for the other");
    assert_eq!(refused.code(), Code::DeadlineExceeded);
    assert_eq!((bank.status("abc"), bank.desk.runs()), (None, 0));
    drop(send);
}
