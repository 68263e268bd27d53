//! What the index finds events by. A new field is one line in `fields!` and one in [`values`]; the index
//! database then counts as another version's and rebuilds itself.

use grantlog_projections::audit_record::AuditRecord;
use std::net::IpAddr;

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $bytes:literal, $listed:literal;)*) => {
        /// One of the values that events are found by.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Field {
            $($(#[$doc])* $name = $number,)*
        }

        impl Field {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// How many bytes of a value are kept. Longer ones are cut: what is found by such a value may be
            /// an event of another one, and is looked at.
            pub fn max_bytes(self) -> usize {
                match self {
                    $(Self::$name => $bytes,)*
                }
            }

            /// Whether each segment has a list of its values, for questions that many values may fit.
            pub fn is_listed(self) -> bool {
                match self {
                    $(Self::$name => $listed,)*
                }
            }
        }
    };
}

fields! {
    /// Where the request came from.
    SourceIp = 1, "source.ip", 16, true;
    /// The application that the event is about.
    ClientId = 2, "client_id", 256, true;
    /// The wire name of the event's type.
    Type = 3, "type", 64, false;
    /// Whether what was asked for was done.
    Outcome = 4, "outcome", 64, false;
    /// Why something was refused or done.
    Reason = 5, "reason", 128, true;
    /// Who asked, where that is not the application that the event is about.
    Actor = 6, "actor", 256, true;
    /// The path of a call.
    Path = 7, "path", 64, true;
    /// The secret that was used, made, revoked or superseded.
    Secret = 8, "secret_id", 16, false;
}

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        /// Something that an event is or has, or not.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Flag {
            $($(#[$doc])* $name = $number,)*
        }

        impl Flag {
            /// All of them; each is at the position of its number.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

flags! {
    /// It has a source address.
    HasSource = 0;
    /// It has a client_id that is not empty.
    HasClient = 1;
    /// It has a reason that is not empty.
    HasReason = 2;
    /// It has a path that is not empty.
    HasPath = 3;
    /// It has a secret.
    HasSecret = 4;
    /// It has a token.
    HasToken = 5;
    /// It has a trace id that is not empty.
    HasTrace = 6;
    /// It has a session.
    HasSession = 7;
    /// Who asked is the application that it is about.
    ActorIsClient = 8;
}

/// Hands over every value that the event is to be found by.
pub(super) fn values(record: &AuditRecord<'_>, mut add: impl FnMut(Field, &[u8])) {
    if let Some(ip) = record.source_ip {
        address(ip, |bytes| add(Field::SourceIp, bytes));
    }
    let mut text = |field: Field, text: Option<&str>| {
        if let Some(text) = text {
            add(field, cut(field, text));
        }
    };
    text(Field::ClientId, record.client_id);
    text(Field::Type, Some(record.event_type));
    text(Field::Outcome, Some(record.outcome.as_str()));
    text(Field::Reason, record.reason);
    text(Field::Actor, Some(&*record.actor).filter(|_| !actor_is_client(record)));
    text(Field::Path, record.path);
    for secret in secrets(record) {
        add(Field::Secret, secret.as_bytes());
    }
}

/// Hands over what the event is or has.
pub(super) fn flags(record: &AuditRecord<'_>, mut add: impl FnMut(Flag)) {
    let is_there = |text: Option<&str>| text.is_some_and(|text| !text.is_empty());
    for (flag, is_set) in [
        (Flag::HasSource, record.source_ip.is_some()),
        (Flag::HasClient, is_there(record.client_id)),
        (Flag::HasReason, is_there(record.reason)),
        (Flag::HasPath, is_there(record.path)),
        (Flag::HasSecret, secrets(record).next().is_some()),
        (Flag::HasToken, record.jti.is_some()),
        (Flag::HasTrace, is_there(record.trace_id)),
        (Flag::HasSession, record.session_id.is_some()),
        (Flag::ActorIsClient, actor_is_client(record)),
    ] {
        if is_set {
            add(flag);
        }
    }
}

fn actor_is_client(record: &AuditRecord<'_>) -> bool {
    record.client_id == Some(&*record.actor)
}

fn secrets(record: &AuditRecord<'_>) -> impl Iterator<Item = uuid::Uuid> {
    let superseded = record.superseded.iter().map(|secret| secret.id.0);
    record.secret_id.map(|secret| secret.0).into_iter().chain(superseded)
}

/// As much of a text as the index keeps: whole characters.
pub(super) fn cut(field: Field, text: &str) -> &[u8] {
    let end = text.floor_char_boundary(field.max_bytes());
    text.as_bytes().get(..end).unwrap_or_default()
}

/// Whether a value that is kept with so many bytes may have been longer.
pub(super) fn may_be_cut(field: Field, length: usize) -> bool {
    const LONGEST_CHARACTER: usize = 4;
    length + LONGEST_CHARACTER > field.max_bytes()
}

/// The address's 4 or 16 octets. An IPv4 address that came in over an IPv6 socket (RFC 4291 §2.5.5.2) is the
/// IPv4 address that people search for.
pub(super) fn address(ip: IpAddr, then: impl FnOnce(&[u8])) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => then(&ip.octets()),
        IpAddr::V6(ip) => then(&ip.octets()),
    }
}

/// The address of these octets.
pub(super) fn address_of(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_is_the_same_value_when_it_came_in_over_ipv6() {
        for (text, length) in [("::ffff:192.0.2.7", 4), ("192.0.2.7", 4), ("2001:db8::1", 16)] {
            let ip: IpAddr = text.parse().unwrap();
            address(ip, |octets| {
                assert_eq!(octets.len(), length);
                assert_eq!(address_of(octets), Some(ip.to_canonical()));
            });
        }
    }

    #[test]
    fn a_long_value_is_cut_between_characters_and_known_to_be_cut() {
        let long = "ü".repeat(40);
        assert_eq!(cut(Field::Path, &long).len(), 64);
        let shifted = format!("a{long}");
        let kept = cut(Field::Path, &shifted);
        assert_eq!(kept.len(), 63);
        assert!(std::str::from_utf8(kept).is_ok() && may_be_cut(Field::Path, kept.len()));
        assert!(!may_be_cut(Field::Path, 60));
    }

    #[test]
    fn a_flag_is_at_the_position_of_its_number() {
        assert!(Flag::ALL.iter().enumerate().all(|(at, flag)| *flag as usize == at));
    }
}
