//! The JSON dialect's body: one object of strings.

use super::parameters::{BrokenBody, MalformedBody, Parameter, Parameters, has_control_character};
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// Reads a JSON object into `parameters`, up to its end or to the first member that breaks it. A
/// null is an omitted member, as most serializers write one. What an unknown member holds is skipped
/// without recursion, so depth costs no stack, and memory is bounded by the body's size.
pub(super) fn read<'a>(body: &'a [u8], parameters: &mut Parameters<'a>) -> Result<(), BrokenBody> {
    // serde_json would not look at the UTF-8 of what it skips.
    let body = std::str::from_utf8(body).map_err(|_| MalformedBody::NotUtf8)?;
    let mut deserializer = serde_json::Deserializer::from_str(body);
    let mut broken = None;
    let object = ObjectVisitor {
        parameters,
        broken: &mut broken,
    };
    let read = (&mut deserializer)
        .deserialize_map(object)
        .and_then(|()| deserializer.end());
    match (broken, read) {
        (Some(broken), _) => Err(broken),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) if error.is_data() => Err(MalformedBody::WrongType.into()),
        (None, Err(_)) => Err(MalformedBody::NotJson.into()),
    }
}

struct ObjectVisitor<'p, 'a> {
    parameters: &'p mut Parameters<'a>,
    /// Why the visitor gave up: serde's own errors carry text only.
    broken: &'p mut Option<BrokenBody>,
}

impl<'a> Visitor<'a> for ObjectVisitor<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut members: M) -> Result<(), M::Error> {
        while let Some(Text(name)) = members.next_key()? {
            let parameter = parameter(&name);
            let value = match parameter {
                Some(_) => members.next_value::<Option<Text<'a>>>()?.map(|Text(value)| value),
                None => members.next_value::<IgnoredAny>().map(|_| None)?,
            };
            let received = if value.as_deref().is_some_and(has_control_character) {
                Err(MalformedBody::ControlCharacter.into())
            } else {
                self.parameters.receive(parameter, name, value)
            };
            if let Err(broken) = received {
                *self.broken = Some(broken);
                return Err(M::Error::custom("broken"));
            }
        }
        Ok(())
    }
}

fn parameter(name: &str) -> Option<Parameter> {
    Some(match name {
        "grantType" => Parameter::GrantType,
        "clientId" => Parameter::ClientId,
        "clientSecret" => Parameter::ClientSecret,
        "scope" => Parameter::Scope,
        "audience" => Parameter::Audience,
        _ => return None,
    })
}

/// A string that borrows from the body when it has no escapes; serde's own `Cow` always copies.
struct Text<'a>(Cow<'a, str>);

impl<'a> Deserialize<'a> for Text<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'a> Visitor<'a> for TextVisitor {
    type Value = Text<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Text<'a>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'a>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::client_authentication::PresentedSecret;
    use crate::oauth::displayable::Displayable;
    use crate::oauth::parameters::MAX_PARAMETERS;

    fn broken(body: impl AsRef<[u8]>) -> BrokenBody {
        read(body.as_ref(), &mut Parameters::default()).expect_err("the body is broken")
    }

    #[test]
    fn the_five_members_are_read_and_others_are_ignored() {
        let mut parameters = Parameters::default();
        let body = br#" {"grantType":"client_credentials","clientId":"a\/b","clientSecret":"s",
            "scope":"read","audience":"x y","extra":{"clientId":[1,{"a":null}]},"resource":"r","n":-1.5e9} "#;
        assert_eq!(read(body, &mut parameters), Ok(()));
        assert_eq!(parameters.grant_type.as_deref(), Some("client_credentials"));
        assert_eq!(parameters.client_id.as_deref(), Some("a/b"));
        assert_eq!(
            parameters.client_secret.as_ref().map(PresentedSecret::expose),
            Some("s")
        );
        assert_eq!(parameters.scope.as_deref(), Some("read"));
        assert_eq!(parameters.audience.as_deref(), Some("x y"));
        assert!(parameters.resources.is_empty());
    }

    #[test]
    fn a_null_member_is_an_omitted_one() {
        let mut parameters = Parameters::default();
        assert_eq!(read(br#"{"clientId":null,"scope":null}"#, &mut parameters), Ok(()));
        assert_eq!((parameters.client_id, parameters.scope), (None, None));
    }

    #[test]
    fn a_repeated_member_is_named_known_or_not_null_or_not_escaped_or_not() {
        for (body, name) in [
            (r#"{"clientId":"a","clientId":"a"}"#, "clientId"),
            (r#"{"clientId":null,"clientId":"a"}"#, "clientId"),
            (r#"{"clientId":"a","client\u0049d":"b"}"#, "clientId"),
            (r#"{"x":1,"x":2}"#, "x"),
            (r#"{"x\"y":1,"x\"y":[]}"#, "x?y"),
        ] {
            assert_eq!(
                broken(body),
                BrokenBody::Duplicate {
                    name: Displayable::of(name)
                },
                "{body}"
            );
        }
    }

    #[test]
    fn a_member_of_another_type_is_malformed() {
        for value in ["1", "true", "[]", "[\"read\"]", "{}", "{\"a\":1}", "1e999"] {
            for name in ["grantType", "clientId", "clientSecret", "scope", "audience"] {
                let body = format!(r#"{{"{name}":{value}}}"#);
                assert!(matches!(broken(&body), BrokenBody::Malformed(_)), "{body}");
            }
        }
        assert_eq!(broken(r#"{"clientId":1}"#), MalformedBody::WrongType.into());
    }

    #[test]
    fn what_is_not_one_json_object_is_malformed() {
        for body in [
            "",
            " ",
            "[]",
            "\"a\"",
            "null",
            "{",
            "{}{}",
            "{} x",
            "{\"a\":1,}",
            "{'a':1}",
            "\u{feff}{}",
            "{\"a\":01}",
        ] {
            assert!(matches!(broken(body), BrokenBody::Malformed(_)), "{body:?}");
        }
    }

    #[test]
    fn control_characters_are_refused_escaped_or_not() {
        assert_eq!(
            broken(r#"{"clientId":"a\u0000b"}"#),
            MalformedBody::ControlCharacter.into()
        );
        assert_eq!(
            broken(r#"{"scope":"a\r\nSet-Cookie: x"}"#),
            MalformedBody::ControlCharacter.into()
        );
        assert_eq!(broken("{\"scope\":\"a\nb\"}"), MalformedBody::NotJson.into());
    }

    #[test]
    fn what_is_not_utf_8_is_refused_even_where_it_would_be_ignored() {
        assert_eq!(broken(b"{\"clientId\":\"\xff\"}"), MalformedBody::NotUtf8.into());
        assert_eq!(broken(b"{\"ignored\":[\"\xc0\xaf\"]}"), MalformedBody::NotUtf8.into());
        assert!(matches!(broken(br#"{"clientId":"\ud800"}"#), BrokenBody::Malformed(_)));
    }

    #[test]
    fn depth_does_not_exhaust_the_stack() {
        let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
        assert_eq!(read(deep.as_bytes(), &mut Parameters::default()), Ok(()));
        let unclosed = format!(r#"{{"x":{}"#, "{\"x\":".repeat(10_000));
        assert_eq!(broken(unclosed), MalformedBody::NotJson.into());
    }

    #[test]
    fn too_many_members_are_malformed() {
        let members = |count: usize| {
            let members: Vec<String> = (0..count).map(|n| format!("\"m{n}\":{n}")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert_eq!(
            read(members(MAX_PARAMETERS).as_bytes(), &mut Parameters::default()),
            Ok(())
        );
        assert_eq!(
            broken(members(MAX_PARAMETERS + 1)),
            MalformedBody::TooManyParameters.into()
        );
    }
}
