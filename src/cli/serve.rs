//! The arguments of `serve`.

use crate::cli::NoRemoteOptions;
use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  grantlog serve
  grantlog serve --data-dir /var/lib/grantlog --listen 0.0.0.0:8080 \\
      --issuer https://id.example.com
  grantlog serve --config grantlog.toml

The first start on an empty data folder registers the administrator
grantlog.admin and the auditor grantlog.auditor, shows their secrets once, and
saves them there in admin.json and auditor.json, so that the other commands work
on this machine. --reset-administrator and --reset-auditor are for whoever may
read the data folder: they end the old secret at once, switch the application on
if it is off, give it back the scopes of its duty (those of a newer version,
too), and are on the record as operator:<account>.";

/// The arguments of `serve`; the data folder is a global option. A flag wins over the environment
/// (`GRANTLOG__SECTION__KEY`), and that over the file.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeArguments {
    /// Configuration file; grantlog.example.toml explains each key
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The server's name for itself, `iss` in its tokens [default: http(s)://<listen>]
    #[arg(long, value_name = "URL")]
    pub issuer: Option<String>,
    /// Give grantlog.admin a new secret and save it in admin.json: when the old one is lost or leaked
    #[arg(long)]
    pub reset_administrator: bool,
    /// Give grantlog.auditor a new secret and save it in auditor.json
    #[arg(long)]
    pub reset_auditor: bool,
    /// Refuses what only clients understand.
    #[command(flatten)]
    pub no_remote_options: NoRemoteOptions<false>,
}
