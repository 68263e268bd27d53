//! The double as a process of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use eventstore::StreamState;

use crate::{client, event, expecting};

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_first_line_is_a_connection_string_that_works() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grantlog-kurrentdb-double"));
    command
        .args(["--nodes", "3", "--user", "admin:changeit"])
        .stdout(Stdio::piped());
    let mut process = Process(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.starts_with("kurrentdb://admin:changeit@127.0.0.1:"), "{line}");
    assert_eq!(line.matches(',').count(), 2);
    let client = client(line.trim());
    client
        .append_to_stream("stream", &expecting(StreamState::NoStream), event("a"))
        .await
        .unwrap();
}
