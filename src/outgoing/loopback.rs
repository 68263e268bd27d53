//! Whether what is sent stays on this machine, so that it needs no encryption and no proxy.

use url::{Host, Url};

/// Whether a URL's host is this machine. Of the names only `localhost` is: those below it (RFC 6761 §6.3) are asked
/// of a name server wherever the resolver does not know better.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_this_machine() {
        for (url, is) in [
            ("http://127.0.0.1:1/", true),
            ("http://127.8.9.1:1", true),
            ("http://[::1]/", true),
            ("http://localhost:8080/", true),
            ("http://id.localhost/", false),
            ("https://localhost.example.com/", false),
            ("http://10.0.0.1/", false),
            ("http://0.0.0.0/", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), is, "{url}");
        }
    }
}
