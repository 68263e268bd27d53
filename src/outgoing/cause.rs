//! What is behind an error of a connection.

use std::error::Error;
use std::io;

/// The innermost error: those around it tell where a connection was to go, which may be as good as a password.
pub fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut error = error;
    while let Some(inner) = behind(error) {
        error = inner;
    }
    error
}

/// Whether TLS is to blame: a certificate that is not trusted, say.
pub fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<rustls::Error>() {
            return true;
        }
        next = behind(error);
    }
    false
}

/// The source of an I/O error leaves out the error that it was made of.
fn behind<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_found_behind_errors_of_errors() {
        let tls = || io::Error::other(rustls::Error::DecryptError);
        assert!(is_tls(&tls()));
        assert!(is_tls(&io::Error::other(tls())));
        assert!(!is_tls(&io::Error::other(io::Error::from(io::ErrorKind::TimedOut))));
        assert_eq!(
            root_cause(&io::Error::other(tls())).to_string(),
            rustls::Error::DecryptError.to_string()
        );
    }
}
