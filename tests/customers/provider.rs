//! A provider of verifications, played by the test: it sees each question, and answers as the test
//! wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::client::{Answer, request, send};
use super::example::verification::{Question, WEBHOOK_PATH};

const SECRET: &str = "a-secret-of-both";

pub struct Provider {
    address: SocketAddr,
    questions: Receiver<Asked>,
}

/// A question to which the service awaits an answer.
pub struct Asked {
    pub operation: String,
    pub email: String,
    stream: TcpStream,
}

impl Provider {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let address = listener.local_addr().expect("it is bound");
        let (sender, questions) = mpsc::channel();
        thread::spawn(move || {
            // It ends when the test needs no more questions.
            for stream in listener.incoming().map_while(Result::ok) {
                let asked = read(stream);
                // A service that was killed halfway has asked nothing.
                if asked.is_some_and(|asked| sender.send(asked).is_err()) {
                    return;
                }
            }
        });
        Self { address, questions }
    }

    /// The flags of a service in this directory that uses this provider.
    pub fn flags(&self, directory: &Path) -> String {
        let secret = directory.join("secret");
        std::fs::write(&secret, format!("{SECRET}\n")).expect("there is room");
        format!("--provider {} --secret-file {}", self.address, secret.display())
    }

    /// The next question.
    pub fn asked(&self) -> Asked {
        self.questions.recv_timeout(Duration::from_secs(60)).expect("the provider is asked")
    }

    /// No question was asked beyond those already seen.
    pub fn expect_no_question(&self) {
        assert!(self.questions.try_recv().is_err());
    }
}

impl Asked {
    /// Answers the question: a 202 means that an event will come.
    pub fn answer(mut self, status: u16) -> String {
        let answer = format!("HTTP/1.1 {status} -\r\nContent-Length: 0\r\n\r\n");
        self.stream.write_all(answer.as_bytes()).expect("the service waits");
        self.operation
    }

    /// Ends without an answer.
    pub fn hang_up(self) -> String {
        self.operation
    }
}

fn read(stream: TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(&stream);
    let (mut line, mut len, mut is_known) = (String::new(), 0, false);
    while reader.read_line(&mut line).ok()? != 0 && line != "\r\n" {
        let (name, value) = line.trim_end().split_once(": ").unwrap_or_default();
        match name.to_lowercase().as_str() {
            "content-length" => len = value.parse().ok()?,
            "verification-secret" => is_known = value == SECRET,
            _ => {}
        }
        line.clear();
    }
    assert!(is_known, "the service says the secret");
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    let Question { operation, email } = serde_json::from_slice(&body).expect("it is a question");
    Some(Asked { operation, email, stream })
}

/// Sends an event to the webhook of a service.
pub fn tell(service: SocketAddr, operation: &str, outcome: &str) -> Option<Answer> {
    tell_with(service, SECRET, &json!({ "operation": operation, "outcome": outcome }).to_string())
}

pub fn tell_with(service: SocketAddr, secret: &str, event: &str) -> Option<Answer> {
    send(service, &request("POST", WEBHOOK_PATH, &[("Verification-Secret", secret)], event))
}
