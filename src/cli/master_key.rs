//! `key master`: the one secret that every node of a shared log needs. Asks no server.

use crate::cli::{CliError, Console, NoRemoteOptions};
use crate::credentials::sealing::MasterKey;
use clap::Args;

/// Nothing to choose.
#[derive(Debug, Args)]
pub struct MasterArguments {
    /// Refuses what only clients understand.
    #[command(flatten)]
    no_remote_options: NoRemoteOptions<false>,
}

/// Makes a master key and prints it as `keys.master_key_file` and the environment take it.
pub(super) fn run(_: MasterArguments, console: &mut Console<'_>) -> Result<(), CliError> {
    let key = MasterKey::generate().map_err(|error| CliError::Start(std::io::Error::other(error)))?;
    console.line(&key.to_base64())?;
    if console.err_is_terminal {
        console.note("Keep it closed to others and apart from the log: with both, anybody can sign tokens.");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_a_master_key_and_another_one_every_time() {
        let printed = || {
            let (mut out, mut err, mut input) = (Vec::new(), Vec::new(), std::io::empty());
            let mut console = Console {
                out: &mut out,
                err: &mut err,
                input: &mut input,
                columns: None,
                input_is_terminal: false,
                err_is_terminal: false,
                variable: &|_| None,
            };
            let arguments = MasterArguments {
                no_remote_options: NoRemoteOptions::default(),
            };
            run(arguments, &mut console).unwrap();
            String::from_utf8(out).unwrap()
        };
        let (one, other) = (printed(), printed());
        assert!(MasterKey::from_base64(&one).is_ok());
        assert_ne!(one, other);
    }
}
