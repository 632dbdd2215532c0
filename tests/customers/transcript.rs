//! The transcript in the example's README, replayed command by command with the real curl.

use std::process::Command;

use super::process::Service;

const README: &str = include_str!("../../examples/customers_api/README.md");
const START: &str = "$ cargo run --features tower --example customers_api --";

/// A command and its output.
#[derive(Debug, Default)]
struct Said {
    command: String,
    lines: Vec<String>,
}

/// The transcripts: the flags of the service, and the commands.
fn transcripts() -> Vec<(String, Vec<Said>)> {
    let blocks = README.split("```console\n").skip(1);
    let blocks = blocks.filter_map(|block| block.split("```").next());
    blocks.map(|block| read(block).expect("it begins with the start of the service")).collect()
}

fn read(block: &str) -> Option<(String, Vec<Said>)> {
    let block = block.replace("\\\n", " ");
    let mut lines = block.lines();
    let flags = lines.next()?.strip_prefix(START)?.trim().to_owned();
    let mut said: Vec<Said> = Vec::new();
    for line in lines {
        if let Some(command) = line.strip_prefix("$ ") {
            said.push(Said { command: command.to_owned(), lines: Vec::new() });
        } else {
            said.last_mut()?.lines.push(line.to_owned());
        }
    }
    Some((flags, said))
}

/// The output of a command, without the time and the empty line after the headers.
fn run(command: &str) -> Vec<String> {
    let output = Command::new("sh").args(["-c", command]).output().expect("there is a shell");
    assert!(output.status.success(), "{command}: {output:?}");
    let text = String::from_utf8(output.stdout).expect("it is text").replace('\r', "");
    let lines = text.lines().filter(|line| !line.starts_with("date: ") && !line.is_empty());
    lines.map(str::to_owned).collect()
}

#[test]
fn the_transcript_of_the_readme_is_what_curl_says() {
    let curl = Command::new("curl").arg("--version").output();
    curl.expect("curl is needed: the package `curl` of your system has it");
    let transcripts = transcripts();
    assert_eq!(transcripts.len(), 3, "{transcripts:#?}");
    let mut statuses = std::collections::BTreeSet::new();
    for (flags, said) in transcripts {
        let directory = tempfile::tempdir().expect("there is room");
        let service = Service::start(directory.path(), &flags);
        for Said { command, lines } in said {
            let command = command.replace("127.0.0.1:8080", &service.address.to_string());
            let told = run(&command);
            let expected: Vec<_> = lines.into_iter().filter(|line| !line.is_empty()).collect();
            assert_eq!(told, expected, "{command}");
            statuses
                .extend(told.first().and_then(|line| line.split(' ').nth(1)?.parse::<u16>().ok()));
        }
    }
    // Every status that the layer and the service can answer with is among them.
    let all = [200, 201, 202, 204, 400, 401, 404, 409, 413, 422];
    assert!(all.iter().all(|status| statuses.contains(status)), "{statuses:?}");
}
