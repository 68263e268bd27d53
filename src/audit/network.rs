//! Networks as people write them: one address, or an address with the length of its prefix.

use ipnet::{IpNet, Ipv4Net};
use std::fmt;
use std::net::IpAddr;

/// The addresses of a network; a single address is a network of one. An IPv4 network that is written as
/// IPv4-mapped IPv6 (RFC 4291 §2.5.5.2) is the IPv4 network: so are the addresses of the trail read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(IpNet);

impl Network {
    /// Reads `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32`. Bits behind the prefix are cut off.
    pub fn parse(text: &str) -> Option<Self> {
        match text.parse::<IpAddr>() {
            Ok(address) => Some(address.into()),
            Err(_) => text.parse::<IpNet>().ok().map(Self::canonical),
        }
    }

    fn canonical(network: IpNet) -> Self {
        /// Bits in front of the IPv4 address in an IPv4-mapped one.
        const MAPPED: u8 = 96;
        if let IpNet::V6(mapped) = network
            && let Some(address) = mapped.addr().to_ipv4_mapped()
            && let Some(prefix) = mapped.prefix_len().checked_sub(MAPPED)
            && let Ok(network) = Ipv4Net::new(address, prefix)
        {
            return Self(IpNet::V4(network.trunc()));
        }
        Self(network.trunc())
    }

    /// Whether the address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// Its address, if it has only one.
    pub(super) fn single_address(&self) -> Option<IpAddr> {
        (self.0.prefix_len() == self.0.max_prefix_len()).then(|| self.0.addr())
    }

    /// Its first and its last address, of the same family.
    pub(super) fn bounds(&self) -> (IpAddr, IpAddr) {
        (self.0.network(), self.0.broadcast())
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self(address.to_canonical().into())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.prefix_len() == self.0.max_prefix_len() {
            true => self.0.addr().fmt(f),
            false => self.0.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_read_in_every_form_that_people_write() {
        for (written, shown) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("2001:DB8::5/32", "2001:db8::/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
        ] {
            let network = Network::parse(written).unwrap();
            assert_eq!(network.to_string(), shown);
            assert_eq!(Network::parse(shown), Some(network));
        }
        for bad in ["", "192.0.2", "192.0.2.0/33", "192.0.2.*", "example.com"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_ipv4_address_lies_in_its_network_however_it_came_in() {
        let network = Network::parse("192.0.2.0/24").unwrap();
        assert!(network.contains("192.0.2.9".parse().unwrap()));
        assert!(network.contains("::ffff:192.0.2.9".parse().unwrap()));
        assert!(!network.contains("192.0.3.9".parse().unwrap()));
        assert!(!Network::parse("::/0").unwrap().contains("192.0.2.9".parse().unwrap()));
    }
}
