//! Addresses and networks of addresses, as in `10.0.0.0/8`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;
use toml::Spanned;
use toml::de::DeValue;

use super::kind::{describe, quote, refuse};
use super::section::{Kind, Mismatch};

/// A network of IP addresses; one address is a network of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// How many leading bits its addresses share.
    prefix: u8,
}

/// The text is not an address, nor a network without bits behind its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not an IP address or network")]
pub struct BadNetwork;

impl Network {
    /// Whether an address is in it. An IPv4 address counts as such in whatever form it comes.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && first_bits(address, self.prefix) == bits(self.address)
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| BadNetwork)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= longest).ok_or(BadNetwork)?,
            None => longest,
        };
        // A mapped address would never be found, and set bits behind the prefix are a typing error.
        let is_plain = address.to_canonical() == address && first_bits(address, prefix) == bits(address);
        if is_plain { Ok(Self { address, prefix }) } else { Err(BadNetwork) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// An address as a number whose highest bit is its first.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn first_bits(address: IpAddr, prefix: u8) -> u128 {
    bits(address) & u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

/// A list of networks.
pub(super) struct Networks;

impl Networks {
    const EXPECTED: &str = "an IP address or a network such as \"10.0.0.0/8\"";
}

impl Kind<Vec<Network>> for Networks {
    fn type_name(&self) -> String {
        "list of IP addresses and networks".into()
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<Network>, Vec<Mismatch>> {
        let DeValue::Array(items) = value.get_ref() else {
            return Err(refuse("a list such as [\"127.0.0.1\", \"10.0.0.0/8\"]", value));
        };
        let mut networks = Vec::with_capacity(items.len());
        let mut wrong = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match item.get_ref().as_str().and_then(|text| text.parse().ok()) {
                Some(network) => networks.push(network),
                None => {
                    let mismatch = Mismatch::new(Self::EXPECTED, describe(item.get_ref()));
                    wrong.push(mismatch.at(item).of_item(index));
                }
            }
        }
        if wrong.is_empty() { Ok(networks) } else { Err(wrong) }
    }

    fn write(&self, value: &Vec<Network>) -> String {
        let networks: Vec<String> = value.iter().map(|network| quote(&network.to_string())).collect();
        format!("[{}]", networks.join(", "))
    }

    fn check(&self, _: &Vec<Network>) -> Vec<Mismatch> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn contains(network: &str, address: &str) -> bool {
        network.parse::<Network>().unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_contains_the_addresses_that_share_its_prefix() {
        for (network, inside, outside) in [
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.168.4.0/23", "192.168.5.255", "192.168.6.0"),
            ("::1", "::1", "::2"),
            ("fd00::/8", "fdff::1", "fe00::"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "ffff::", "1.2.3.4"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
        ] {
            assert!(contains(network, inside), "{inside} in {network}");
            assert!(!contains(network, outside), "{outside} in {network}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in
            ["", "localhost", "10.0.0.0/33", "10.0.0.1/8", "::/129", "10.0.0.0/", "10.0.0.0/-1", "::ffff:10.0.0.1"]
        {
            assert_eq!(text.parse::<Network>(), Err(BadNetwork), "{text}");
        }
    }
}
