//! What the index finds events by. A new field is one line in `fields!` and one in [`values`]; the index
//! database then counts as another version's and rebuilds itself.

use grantlog_projections::audit_record::{AuditRecord, Outcome};
use std::net::IpAddr;

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// One of the values that events are found by.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Field {
            $($(#[$doc])* $name = $number,)*
        }

        impl Field {
            /// All of them, the ones with the rarer values first: a search intersects in this order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name, as the plain query parameter has it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

fields! {
    /// Where the request came from.
    SourceIp = 1, "source_ip";
    /// The application that the event is about.
    ClientId = 2, "client_id";
    /// The wire name of the event's type.
    Type = 3, "type";
    /// Whether what was asked for was done.
    Outcome = 4, "outcome";
}

/// A value of a field, as the index keeps it: bytes that sort as the values do, so that a prefix or a
/// network is a range of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::audit) struct Term {
    pub field: Field,
    pub value: Box<[u8]>,
}

impl Term {
    pub fn text(field: Field, text: &str) -> Self {
        Self {
            field,
            value: text.as_bytes().into(),
        }
    }

    pub fn outcome(outcome: Outcome) -> Self {
        Self::text(Field::Outcome, outcome.as_str())
    }

    pub fn source_ip(ip: IpAddr) -> Self {
        let mut value = Box::default();
        address(ip, |bytes| value = bytes.into());
        Self {
            field: Field::SourceIp,
            value,
        }
    }
}

/// Hands over every value that the event is to be found by.
pub(super) fn values(record: &AuditRecord<'_>, mut add: impl FnMut(Field, &[u8])) {
    if let Some(ip) = record.source_ip {
        address(ip, |bytes| add(Field::SourceIp, bytes));
    }
    if let Some(client_id) = record.client_id {
        add(Field::ClientId, client_id.as_bytes());
    }
    add(Field::Type, record.event_type.as_bytes());
    add(Field::Outcome, record.outcome.as_str().as_bytes());
}

/// The address's 4 or 16 octets. An IPv4 address that came in over an IPv6 socket (RFC 4291 §2.5.5.2) is the
/// IPv4 address that people search for.
fn address(ip: IpAddr, then: impl FnOnce(&[u8])) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => then(&ip.octets()),
        IpAddr::V6(ip) => then(&ip.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_is_the_same_value_when_it_came_in_over_ipv6() {
        let mapped = Term::source_ip("::ffff:192.0.2.7".parse().unwrap());
        assert_eq!(mapped, Term::source_ip("192.0.2.7".parse().unwrap()));
        assert_eq!(*mapped.value, [192, 0, 2, 7]);
        assert_eq!(Term::source_ip("2001:db8::1".parse().unwrap()).value.len(), 16);
    }
}
