//! Tokens in queries (RFC 6750 §2.3): not ours to take, one too many beside one that is, and nothing for the record.

use url::form_urlencoded;

/// The parameter that is a token, and what the record has in its place.
const TOKEN_PARAMETER: &str = "access_token";
/// What stands between parameters: to older servers a semicolon does, too.
const SEPARATORS: [char; 2] = ['&', ';'];

/// Whether some server would find a token in a query.
pub fn has_token(query: &str) -> bool {
    query.split(SEPARATORS).any(is_token)
}

/// A query as the record may have it: of a token no more than that there was one.
pub fn without_tokens(query: &str) -> String {
    query
        .split_inclusive(SEPARATORS)
        .map(|parameter| {
            let (parameter, separator) = match parameter.strip_suffix(SEPARATORS) {
                Some(bare) => (bare, parameter.get(bare.len()..).unwrap_or_default()),
                None => (parameter, ""),
            };
            match is_token(parameter) {
                true => TOKEN_PARAMETER.to_owned() + separator,
                false => parameter.to_owned() + separator,
            }
        })
        .collect()
}

/// Whether a parameter, `name=value` as it came, is a token to some server: some take upper and lower case for the
/// same, PHP writes `_` for a dot, a blank and a bracket, and forgets blanks in front and what follows a zero byte, and
/// `access_token[]` is a list of them.
fn is_token(parameter: &str) -> bool {
    let Some((name, _)) = form_urlencoded::parse(parameter.as_bytes()).next() else {
        return false;
    };
    let of_a_list = || name.split(['[', '\0']).next().unwrap_or_default();
    is_token_name(&name) || is_token_name(of_a_list())
}

fn is_token_name(name: &str) -> bool {
    let alike = name.trim_start_matches(' ').replace([' ', '.', '['], "_");
    alike.eq_ignore_ascii_case(TOKEN_PARAMETER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_every_spelling_that_some_server_reads() {
        for query in [
            "access_token=x",
            "access_token",
            "a=b&access_token=x",
            "a=b;access_token=x",
            "access%5Ftoken=x",
            "%61ccess_token=x",
            "Access_Token=x",
            "ACCESS_TOKEN=x",
            "access.token=x",
            "access+token=x",
            "access%20token=x",
            "access%2Etoken=x",
            "access[token=x",
            "+access_token=x",
            "access_token[]=x",
            "access_token%5B0%5D=x",
            "access_token%00y=x",
        ] {
            assert!(has_token(query), "{query}");
            assert!(!without_tokens(query).contains('x'), "{query}");
        }
        for query in [
            "",
            "&&",
            "a=access_token",
            "access=token",
            "token=x",
            "access_token_hint=x",
            "access-token=x",
            "$access_token=x",
            "%ff=x",
        ] {
            assert!(!has_token(query), "{query}");
            assert_eq!(without_tokens(query), query);
        }
    }

    #[test]
    fn all_else_is_recorded_as_it_came() {
        assert_eq!(
            without_tokens("$top=10&Access%5Ftoken=secret&&access.token=secret;b&$expand=Lines($top=1;$skip=2)"),
            "$top=10&access_token&&access_token;b&$expand=Lines($top=1;$skip=2)"
        );
    }
}
