//! The streams that a command reads and writes, and what is known about the terminal behind them.

use crate::cli::error::CliError;
use crate::cli::printable::{printable, printable_json};
use std::io::{self, BufRead, BufWriter, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// The longest line that is read from standard input, in bytes.
const MAX_LINE_BYTES: u64 = 4 * 1024;

/// The streams that a command reads and writes.
pub struct Console<'a> {
    /// Results.
    pub out: &'a mut dyn Write,
    /// Errors and remarks.
    pub err: &'a mut dyn Write,
    /// Answers to questions, secrets.
    pub input: &'a mut dyn BufRead,
    /// How many columns the terminal behind `out` has; `None` when there is no terminal: nothing is
    /// wrapped then, so that `grep` and `awk` find whole rows.
    pub columns: Option<usize>,
    /// Whether there is a person at `input` who can answer.
    pub input_is_terminal: bool,
    /// Whether a person reads `err`.
    pub err_is_terminal: bool,
    /// The environment: the value of a variable, `None` when it is not set or empty.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Console<'_> {
    /// Prints a line of a result; whatever is in it, the terminal shows it and does not obey it.
    pub fn line(&mut self, text: &str) -> Result<(), CliError> {
        Ok(writeln!(self.out, "{}", printable(text))?)
    }

    /// Prints a JSON document as one line.
    pub fn json(&mut self, document: &str) -> Result<(), CliError> {
        Ok(writeln!(self.out, "{}", printable_json(document))?)
    }

    /// Tells the person at the terminal, and no program, something about the result.
    pub fn note(&mut self, text: &str) {
        // What was printed before comes first where both streams go to one place. Whoever cannot be told
        // this is not told either that it failed.
        let _ = self.out.flush();
        let _ = writeln!(self.err, "{}", printable(text));
    }

    /// Tells of a danger.
    pub fn warn(&mut self, text: &str) {
        self.note(&format!("warning: {text}"));
    }

    /// Asks a person for a yes; anything else is a no.
    pub fn confirm(&mut self, question: &str) -> Result<bool, CliError> {
        self.out.flush()?;
        write!(self.err, "{} [y/N] ", printable(question))?;
        self.err.flush()?;
        let answer = self.read_line()?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes" | "YES"))
    }

    /// Reads a line from standard input, without its end.
    pub fn read_line(&mut self) -> Result<String, CliError> {
        let mut line = String::new();
        let read = self
            .input
            .take(MAX_LINE_BYTES)
            .read_line(&mut line)
            .map_err(CliError::Input)?;
        if read as u64 == MAX_LINE_BYTES {
            return Err(CliError::Input(io::Error::other(format!(
                "a line of more than {MAX_LINE_BYTES} bytes"
            ))));
        }
        while line.ends_with(['\n', '\r']) {
            line.pop();
        }
        Ok(line)
    }

    /// A variable that names a file.
    pub fn path_variable(&self, name: &str) -> Option<PathBuf> {
        (self.variable)(name).map(PathBuf::from)
    }
}

/// Runs on the standard streams of this process. The code is what `run` returns.
pub fn on_standard_streams(run: impl FnOnce(&mut Console<'_>) -> u8) -> ExitCode {
    let stdout = io::stdout();
    let columns = stdout
        .is_terminal()
        .then(|| terminal_size::terminal_size_of(&stdout))
        .flatten()
        .map(|(terminal_size::Width(columns), _)| usize::from(columns));
    let code = run(&mut Console {
        // Not by lines: an export of a million events is written in blocks.
        out: &mut BufWriter::new(stdout.lock()),
        err: &mut io::stderr().lock(),
        input: &mut io::stdin().lock(),
        columns,
        input_is_terminal: io::stdin().is_terminal() && io::stderr().is_terminal(),
        err_is_terminal: io::stderr().is_terminal(),
        variable: &variable,
    });
    ExitCode::from(code)
}

fn variable(name: &str) -> Option<String> {
    // What is not UTF-8 arrives with U+FFFD and is refused where it is used; it is not as if unset.
    std::env::var_os(name)
        .map(|value| value.to_string_lossy().into_owned())
        .filter(|value| !value.is_empty())
}
