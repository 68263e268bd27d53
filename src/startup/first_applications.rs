//! The first administrator and the first auditor: registered on the first start, their secrets kept for the command line.

use super::error::ServeError;
use super::say;
use crate::credentials::client_secret::ClientSecret;
use crate::policy::{ADMINISTRATOR, AUDITOR, FIRST_APPLICATIONS, FirstApplication};
use crate::service::Service;
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// What the command line needs to reach this server; kept in the data folder, closed to others.
#[derive(Serialize, Deserialize)]
struct Profile {
    url: String,
    client_id: String,
    client_secret: String,
}

impl Profile {
    fn new(url: &str, first: &FirstApplication, secret: &ClientSecret) -> Self {
        Self {
            url: url.to_owned(),
            client_id: first.client_id.to_owned(),
            client_secret: secret.expose().to_owned(),
        }
    }
}

/// Whose secret is to be made anew, on the word of an operator at the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resets {
    /// The first administrator's.
    pub administrator: bool,
    /// The first auditor's.
    pub auditor: bool,
}

/// What has to be on the record before anybody is served.
pub(super) async fn begin(service: &Service, folder: &Path, url: &str, resets: Resets) -> Result<(), ServeError> {
    for first in &FIRST_APPLICATIONS {
        first_application(service, first, folder, url).await?;
    }
    service.start().await.map_err(ServeError::part)?;
    for (first, wanted) in [(&ADMINISTRATOR, resets.administrator), (&AUDITOR, resets.auditor)] {
        if wanted {
            new_secret(service, first, folder, url).await?;
        }
    }
    Ok(())
}

/// Where a first application's secret is kept for the command line.
fn profile_name(first: &FirstApplication) -> &'static str {
    match first.client_id == AUDITOR.client_id {
        true => "auditor.json",
        false => "admin.json",
    }
}

/// Registers one of the first applications and keeps its secret in its profile; on every start the profile is
/// told where the server is now.
///
/// The secret is kept before the registration, for a crash in between would lose it, and under another name, for
/// another node may register the same application at the same time: then that secret opens nothing. One that an earlier
/// start has kept is registered again, for its registration may still be on its way to the log.
async fn first_application(
    service: &Service,
    first: &FirstApplication,
    folder: &Path,
    url: &str,
) -> Result<(), ServeError> {
    let path = folder.join(profile_name(first));
    let unproven = path.with_extension("json.unproven");
    if service.needs(first) {
        let secret = match kept(&unproven)?.and_then(|profile| ClientSecret::again(&profile.client_secret)) {
            Some(secret) => secret,
            None => ClientSecret::generate().map_err(ServeError::part)?,
        };
        write_profile(&unproven, &Profile::new(url, first, &secret))?;
        let is_ours = service.register_first(first, &secret).await.map_err(ServeError::part)?;
        settle(&unproven, &path, is_ours)?;
        let (article, reset, what_for) = match first.client_id == AUDITOR.client_id {
            true => (
                "auditor",
                "--reset-auditor",
                "`grantlog audit export` uses it: an administrator cannot take the audit trail out",
            ),
            false => (
                "administrator",
                "--reset-administrator",
                "the other commands work on this machine: try `grantlog app list` and `grantlog token request`",
            ),
        };
        if !is_ours {
            return say(&format!(
                "first start: another node has just registered the {article} application, {}: its secret is shown there, \
                 once; should nobody have it, `grantlog serve {reset}` makes another",
                first.client_id
            ));
        }
        return say(&format!(
            "first start: the {article} application is registered\n  client_id:     {}\n  client_secret: {}\n  \
             This secret is shown once; it is also in {} (mode 0600),\n  so that {what_for}",
            first.client_id,
            secret.expose(),
            path.display(),
        ));
    }
    prove(service, first, &unproven, &path)?;
    // An operator may have moved the profile elsewhere: then there is nothing to keep up to date.
    let Ok(text) = fs::read(&path) else { return Ok(()) };
    match serde_json::from_slice::<Profile>(&text) {
        Ok(profile) if profile.url == url => Ok(()),
        Ok(profile) => write_profile(
            &path,
            &Profile {
                url: url.to_owned(),
                ..profile
            },
        ),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the administrator's profile cannot be read; left as it is");
            Ok(())
        }
    }
}

/// A profile that was kept before its registration becomes the profile when the log has that very secret; else another
/// node's registration came first, or none, and it is of no use.
fn prove(service: &Service, first: &FirstApplication, unproven: &Path, path: &Path) -> Result<(), ServeError> {
    if !unproven.exists() {
        return Ok(());
    }
    let is_proven = kept(unproven)?.is_some_and(|profile| service.is_secret_of(first, &profile.client_secret));
    settle(unproven, path, is_proven)
}

/// The profile in this file, if there is one.
fn kept(path: &Path) -> Result<Option<Profile>, ServeError> {
    match fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ServeError::file(path)(error)),
    }
}

fn settle(unproven: &Path, path: &Path, is_proven: bool) -> Result<(), ServeError> {
    match is_proven {
        true => fs::rename(unproven, path),
        false => fs::remove_file(unproven),
    }
    .and_then(|()| {
        path.parent()
            .map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    })
    .map_err(ServeError::file(unproven))
}

/// On the word of whoever may read the data folder. The secret is kept before it counts: were it the other
/// way round, a crash in between would lose it.
async fn new_secret(service: &Service, first: &FirstApplication, folder: &Path, url: &str) -> Result<(), ServeError> {
    let secret = ClientSecret::generate().map_err(ServeError::part)?;
    let path = folder.join(profile_name(first));
    write_profile(&path, &Profile::new(url, first, &secret))?;
    service
        .reset_first(first, &secret, &account())
        .await
        .map_err(ServeError::part)?;
    say(&format!(
        "{} has a new secret, the old ones are refused (tokens that are out live until they expire)\n  \
         client_secret: {}\n  It is shown once; it is also in {} (mode 0600)",
        first.client_id,
        secret.expose(),
        path.display(),
    ))
}

/// The account that this process runs as: by its number, and its name where the machine knows one.
fn account() -> String {
    let Ok(process) = fs::metadata("/proc/self") else {
        return "unknown".into();
    };
    let number = process.uid().to_string();
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    });
    name.unwrap_or(number)
}

/// Whole or not at all, and closed to others from its first byte on.
fn write_profile(path: &Path, profile: &Profile) -> Result<(), ServeError> {
    let beside = path.with_extension("json.new");
    let mut text = serde_json::to_vec_pretty(profile).map_err(ServeError::part)?;
    text.push(b'\n');
    let write = || {
        if let Err(error) = fs::remove_file(&beside)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        // Else a power failure could take the profile and leave the registration of its secret.
        path.parent()
            .map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    };
    write().map_err(ServeError::file(path))
}
