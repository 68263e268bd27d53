//! Running a command as `main` does, with streams and an environment of the test's own.

use crate::fake_server::{CLIENT_ID, CLIENT_SECRET, FakeServer};
use clap::Parser;
use grantlog::cli::{Cli, Command, Console, run_on};
use std::io::{self, Write};

/// What a user would have before their eyes.
#[derive(Debug)]
pub struct Ended {
    pub code: u8,
    pub out: String,
    pub err: String,
}

/// How a command is run.
#[derive(Default)]
pub struct Terminal {
    variables: Vec<(String, String)>,
    columns: Option<usize>,
    input: Option<String>,
    err_is_terminal: bool,
    breaks_after: Option<usize>,
}

impl Terminal {
    /// With credentials of the fake server in the environment.
    pub fn of(server: &FakeServer) -> Self {
        Self::default()
            .with("GRANTLOG_URL", &server.url)
            .with("GRANTLOG_CLIENT_ID", CLIENT_ID)
            .with("GRANTLOG_CLIENT_SECRET", CLIENT_SECRET)
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(0, (name.into(), value.into()));
        self
    }

    pub fn columns(self, columns: usize) -> Self {
        Self {
            columns: Some(columns),
            ..self
        }
    }

    /// A person sits there and types this.
    pub fn person(self, input: &str) -> Self {
        Self {
            input: Some(input.into()),
            ..self
        }
    }

    pub fn err_is_terminal(self) -> Self {
        Self {
            err_is_terminal: true,
            ..self
        }
    }

    /// Standard output is a pipe whose reader goes away after so many bytes.
    pub fn breaks_after(self, bytes: usize) -> Self {
        Self {
            breaks_after: Some(bytes),
            ..self
        }
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        let cli = match Cli::try_parse_from(["grantlog"].iter().chain(arguments)) {
            Ok(cli) => cli,
            Err(error) => {
                let code = u8::try_from(error.exit_code()).unwrap();
                return Ended {
                    code,
                    out: String::new(),
                    err: error.to_string(),
                };
            }
        };
        let Command::Remote(command) = cli.command else {
            panic!("{arguments:?} calls no server")
        };
        let (mut out, mut err) = (
            Pipe {
                bytes: Vec::new(),
                breaks_after: self.breaks_after,
            },
            Vec::new(),
        );
        let code = run_on(
            &mut Console {
                out: &mut out,
                err: &mut err,
                input: &mut self.input.clone().unwrap_or_default().as_bytes(),
                columns: self.columns,
                input_is_terminal: self.input.is_some(),
                err_is_terminal: self.err_is_terminal,
                variable: &|name| {
                    self.variables
                        .iter()
                        .find(|(known, _)| known == name)
                        .map(|(_, value)| value.clone())
                },
            },
            command,
            &cli.options,
        );
        let ended = Ended {
            code,
            out: String::from_utf8(out.bytes).unwrap(),
            err: String::from_utf8(err).unwrap(),
        };
        assert!(
            !ended.err.contains(CLIENT_SECRET),
            "the secret is on stderr: {}",
            ended.err
        );
        assert!(
            !ended.out.contains(CLIENT_SECRET),
            "the secret is on stdout: {}",
            ended.out
        );
        ended
    }

    /// Runs a command that must succeed without a remark.
    pub fn succeeds(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{}", ended.out);
        ended.out
    }

    /// Runs a command that must fail without a result.
    pub fn fails(&self, code: u8, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!((ended.code, ended.out.as_str()), (code, ""), "{}", ended.err);
        ended.err
    }
}

struct Pipe {
    bytes: Vec<u8>,
    breaks_after: Option<usize>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.breaks_after.is_some_and(|most| self.bytes.len() >= most) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
