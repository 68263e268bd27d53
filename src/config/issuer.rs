use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use url::Url;

/// The server's name for itself: `iss` in tokens and `issuer` in metadata, compared by clients byte for
/// byte (RFC 8414 §3.3), so it is kept exactly as written and accepted only in its normal form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IssuerUrl {
    text: String,
    path_start: usize,
}

/// Why a text is no issuer: what it should be instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidIssuerUrl(String);

impl IssuerUrl {
    /// The issuer of a server that was given none: the address that it listens on.
    pub fn of_listener(tls: bool, address: SocketAddr) -> Self {
        let scheme = if tls { "https" } else { "http" };
        // A port that is the scheme's own has no place in a normal URL.
        let text = match (tls, address.port()) {
            (true, 443) | (false, 80) => match address {
                SocketAddr::V4(v4) => format!("{scheme}://{}", v4.ip()),
                SocketAddr::V6(v6) => format!("{scheme}://[{}]", v6.ip()),
            },
            _ => format!("{scheme}://{address}"),
        };
        let path_start = text.len();
        Self { text, path_start }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its path without a trailing slash: empty, or such as `/id`.
    pub fn path(&self) -> &str {
        self.text.get(self.path_start..).unwrap_or_default()
    }
}

impl FromStr for IssuerUrl {
    type Err = InvalidIssuerUrl;

    fn from_str(text: &str) -> Result<Self, InvalidIssuerUrl> {
        let explain = || InvalidIssuerUrl("an http or https URL such as \"https://id.example.com\"".to_owned());
        let url = Url::parse(text).map_err(|_| explain())?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err(explain());
        }
        // RFC 8414 §2: no query or fragment. A password in it would be published in every token.
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidIssuerUrl(
                "an http or https URL without user, query and fragment".to_owned(),
            ));
        }
        let normal = url.as_str().trim_end_matches('/');
        if text != normal {
            return Err(InvalidIssuerUrl(format!(
                "the URL in its normal form, without a trailing slash: {normal:?}"
            )));
        }
        Ok(Self {
            text: text.to_owned(),
            path_start: normal.len() - url.path().trim_end_matches('/').len(),
        })
    }
}

impl fmt::Display for IssuerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_kept_as_written_and_knows_its_path() {
        for (text, path) in [
            ("https://id.example.com", ""),
            ("http://127.0.0.1:8080", ""),
            ("https://example.com/id", "/id"),
            ("https://example.com:8443/tenants/one", "/tenants/one"),
            ("http://[::1]:8080/id", "/id"),
        ] {
            let issuer: IssuerUrl = text.parse().unwrap();
            assert_eq!((issuer.as_str(), issuer.path()), (text, path));
        }
    }

    #[test]
    fn what_is_not_a_normal_issuer_is_refused_with_what_to_write() {
        for (text, hint) in [
            ("", "an http or https URL"),
            ("id.example.com", "an http or https URL"),
            ("ftp://id.example.com", "an http or https URL"),
            ("https://", "an http or https URL"),
            ("https://id.example.com/", "\"https://id.example.com\""),
            ("HTTPS://ID.example.com", "\"https://id.example.com\""),
            ("https://id.example.com:443", "\"https://id.example.com\""),
            ("https://id.example.com/a/../b", "\"https://id.example.com/b\""),
            (" https://id.example.com", "\"https://id.example.com\""),
            ("https://id.example.com?x=1", "without user, query and fragment"),
            ("https://id.example.com#x", "without user, query and fragment"),
            ("https://user:word@id.example.com", "without user, query and fragment"),
        ] {
            let error = text.parse::<IssuerUrl>().unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn the_issuer_of_a_listener_is_itself_an_issuer() {
        for (tls, address, text) in [
            (false, "127.0.0.1:8080", "http://127.0.0.1:8080"),
            (true, "127.0.0.1:8443", "https://127.0.0.1:8443"),
            (true, "10.1.2.3:443", "https://10.1.2.3"),
            (false, "[::1]:80", "http://[::1]"),
            (false, "[::1]:8080", "http://[::1]:8080"),
        ] {
            let issuer = IssuerUrl::of_listener(tls, address.parse().unwrap());
            assert_eq!(issuer.as_str(), text);
            assert_eq!(text.parse::<IssuerUrl>().unwrap(), issuer);
        }
    }
}
