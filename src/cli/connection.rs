//! Which server to call, and as whom.

use crate::cli::{CliError, Console, GlobalOptions};
use serde::Deserialize;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use url::Url;
use zeroize::Zeroizing;

/// The largest profile or CA file, in bytes.
pub(super) const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// The data folder when none is named.
const DEFAULT_DATA_DIR: &str = "./data";
/// The administrator's profile in the data folder.
pub const ADMINISTRATOR_PROFILE: &str = "admin.json";
/// The auditor's profile in the data folder, for what an administrator may not do.
pub const AUDITOR_PROFILE: &str = "auditor.json";
const VARIABLE_URL: &str = "GRANTLOG_URL";
const VARIABLE_CLIENT_ID: &str = "GRANTLOG_CLIENT_ID";
const VARIABLE_CLIENT_SECRET: &str = "GRANTLOG_CLIENT_SECRET";
const VARIABLE_CA_FILE: &str = "GRANTLOG_CA_FILE";

/// Which server to call.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its URL; what is called lies below its path.
    pub url: Url,
    /// The only certificate authorities to trust; `None`: the system's.
    pub ca_file: Option<PathBuf>,
}

/// As whom to call it.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The OAuth client_id.
    pub client_id: String,
    /// The secret that goes with it.
    pub client_secret: SecretText,
}

/// A secret; `Debug` does not show it, and its memory is wiped.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Credentials {
    /// Those given explicitly, half by half: an id and a secret that come from different places without
    /// anybody having said that they belong together would be sent as a wrong secret, and count as one.
    pub fn given(
        client_id: Option<(&'static str, String)>,
        client_secret: Option<(&'static str, SecretText)>,
        missing: [&'static str; 2],
    ) -> Result<Option<Self>, CliError> {
        let [missing_id, missing_secret] = missing;
        match (client_id, client_secret) {
            (None, None) => Ok(None),
            (Some((_, client_id)), Some((_, client_secret))) => Ok(Some(Self {
                client_id,
                client_secret,
            })),
            (Some((given, _)), None) => Err(CliError::HalfCredentials {
                given,
                missing: missing_secret,
            }),
            (None, Some((given, _))) => Err(CliError::HalfCredentials {
                given,
                missing: missing_id,
            }),
        }
    }

    /// Those of the environment.
    pub fn of_environment(console: &Console<'_>) -> Result<Option<Self>, CliError> {
        let id = (console.variable)(VARIABLE_CLIENT_ID).map(|id| (VARIABLE_CLIENT_ID, id));
        let secret = (console.variable)(VARIABLE_CLIENT_SECRET).map(|secret| (VARIABLE_CLIENT_SECRET, secret.into()));
        Self::given(id, secret, [VARIABLE_CLIENT_ID, VARIABLE_CLIENT_SECRET])
    }
}

/// Server and credentials.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Which server.
    pub server: Server,
    /// As whom.
    pub credentials: Credentials,
}

impl Server {
    /// The server that `--url`, or the profile that `--profile` names, says; who asks is nobody's business.
    pub fn find(console: &mut Console<'_>, options: &GlobalOptions) -> Result<Self, CliError> {
        let remote = &options.remote;
        let url = match (&remote.url, &remote.profile) {
            (Some(url), _) => url.clone(),
            (None, Some(path)) => Profile::read(path, console)?.parts().0,
            (None, None) => return Err(CliError::Usage("--url is missing".into())),
        };
        Self::at(&url, console, options)
    }

    /// The same, and where nobody has said, the server that `GRANTLOG_URL` or the profile in the data folder names.
    pub fn find_anywhere(console: &mut Console<'_>, options: &GlobalOptions) -> Result<Self, CliError> {
        if options.remote.url.is_some() || options.remote.profile.is_some() {
            return Self::find(console, options);
        }
        let url = match (console.variable)(VARIABLE_URL) {
            Some(url) => url,
            None => {
                Profile::of_folder(ADMINISTRATOR_PROFILE, console, options)
                    .map_err(|error| match error {
                        CliError::Unreadable { path, source } if source.kind() == io::ErrorKind::NotFound => {
                            CliError::NoUrl { profile: path }
                        }
                        error => error,
                    })?
                    .parts()
                    .0
            }
        };
        Self::at(&url, console, options)
    }

    fn at(url: &str, console: &Console<'_>, options: &GlobalOptions) -> Result<Self, CliError> {
        let ca_file = options.remote.ca_file.clone();
        Ok(Self {
            url: server_url(url)?,
            ca_file: ca_file.or_else(|| console.path_variable(VARIABLE_CA_FILE)),
        })
    }
}

impl Connection {
    /// Finds both, with the administrator's profile; see [`Connection::find_with`].
    pub fn find(
        console: &mut Console<'_>,
        options: &GlobalOptions,
        own: Option<Credentials>,
    ) -> Result<Self, CliError> {
        Self::find_with(ADMINISTRATOR_PROFILE, console, options, own)
    }

    /// Finds both. The URL is the first of `--url`, the URL of the profile that `--profile` names,
    /// `GRANTLOG_URL`, the URL of the profile in the data folder. The credentials are the first of
    /// `own`, those of the profile that `--profile` names, `GRANTLOG_CLIENT_ID` together with
    /// `GRANTLOG_CLIENT_SECRET`, those of the profile in the data folder, whose name is given.
    pub fn find_with(
        profile_name: &str,
        console: &mut Console<'_>,
        options: &GlobalOptions,
        own: Option<Credentials>,
    ) -> Result<Self, CliError> {
        let remote = &options.remote;
        let named = match &remote.profile {
            Some(path) => Some(Profile::read(path, console)?),
            None => None,
        };
        let (url, credentials) = match named {
            Some(profile) => {
                let (url, credentials) = profile.parts();
                (Some(url), Some(credentials))
            }
            None => ((console.variable)(VARIABLE_URL), None),
        };
        let url = remote.url.clone().or(url);
        let credentials = match own.or(credentials) {
            Some(credentials) => Some(credentials),
            None => Credentials::of_environment(console)?,
        };
        let (url, credentials) = match (url, credentials) {
            (Some(url), Some(credentials)) => (url, credentials),
            (url, credentials) => {
                let profile = match Profile::of_folder(profile_name, console, options) {
                    Err(CliError::Unreadable { path, source }) if source.kind() == io::ErrorKind::NotFound => {
                        return Err(match credentials {
                            None => CliError::NoCredentials { profile: path },
                            Some(_) => CliError::NoUrl { profile: path },
                        });
                    }
                    profile => profile?,
                };
                let (profile_url, profile_credentials) = profile.parts();
                (url.unwrap_or(profile_url), credentials.unwrap_or(profile_credentials))
            }
        };
        let ca_file = remote
            .ca_file
            .clone()
            .or_else(|| console.path_variable(VARIABLE_CA_FILE));
        Ok(Self {
            server: Server {
                url: server_url(&url)?,
                ca_file,
            },
            credentials,
        })
    }
}

/// What the first `serve` leaves for the other commands.
#[derive(Deserialize)]
struct Profile {
    url: String,
    client_id: String,
    client_secret: SecretText,
}

impl Profile {
    /// That of this name in the data folder.
    fn of_folder(name: &str, console: &mut Console<'_>, options: &GlobalOptions) -> Result<Self, CliError> {
        let folder = options.data_dir.as_deref().unwrap_or(Path::new(DEFAULT_DATA_DIR));
        Self::read(&folder.join(name), console)
    }

    fn read(path: &Path, console: &mut Console<'_>) -> Result<Self, CliError> {
        let bytes = read_file(path)?;
        warn_when_others_may_read(path, console);
        // The parser's own message could repeat what is in the file.
        serde_json::from_slice(&bytes).map_err(|_| CliError::Misshapen {
            path: path.to_owned(),
            expected: "a profile: {\"url\": …, \"client_id\": …, \"client_secret\": …}",
        })
    }

    fn parts(self) -> (String, Credentials) {
        (
            self.url,
            Credentials {
                client_id: self.client_id,
                client_secret: self.client_secret,
            },
        )
    }
}

/// A file as a whole, if it is no larger than [`MAX_FILE_BYTES`].
pub(super) fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let unreadable = |source| CliError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Zeroizing::new(Vec::new());
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(unreadable(io::Error::other(format!(
            "it is larger than {MAX_FILE_BYTES} bytes"
        ))));
    }
    Ok(bytes)
}

#[cfg(unix)]
fn warn_when_others_may_read(path: &Path, console: &mut Console<'_>) {
    use std::os::unix::fs::PermissionsExt;
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
        let path = path.display();
        console.warn(&format!(
            "others on this machine may read the secret in {path}: chmod 600 {path}"
        ));
    }
}

#[cfg(not(unix))]
fn warn_when_others_may_read(_: &Path, _: &mut Console<'_>) {}

fn server_url(text: &str) -> Result<Url, CliError> {
    let invalid = |problem| CliError::InvalidUrl {
        url: text.to_owned(),
        problem,
    };
    let url = Url::parse(text).map_err(|_| invalid("it cannot be read as one"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(invalid("it must begin with https:// or http://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // Not repeated: there is a password in it.
        return Err(CliError::InvalidUrl {
            url: url.host_str().unwrap_or_default().to_owned(),
            problem: "it must not hold a user or a password",
        });
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("it must have no query and no fragment"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_http_url_with_or_without_a_path() {
        for url in [
            "http://127.0.0.1:8080",
            "https://example.com/id",
            "https://example.com/id/",
            "http://[::1]:1",
        ] {
            assert!(server_url(url).is_ok(), "{url}");
        }
        for url in [
            "",
            "localhost:8080",
            "ftp://x",
            "http://",
            "http://x?y",
            "http://x#y",
            "/id",
        ] {
            assert!(server_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn no_secret_is_in_an_error_or_in_debug() {
        let error = server_url("https://user:hunter2@example.com").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        let credentials = Credentials {
            client_id: "a".into(),
            client_secret: "hunter2".into(),
        };
        assert_eq!(
            format!("{credentials:?}"),
            r#"Credentials { client_id: "a", client_secret: [secret] }"#
        );
    }
}
