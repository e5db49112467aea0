//! The network of a client, for limits: an IPv4 address, or an IPv6 /64, within which a customer can choose addresses
//! freely.

use std::net::{IpAddr, Ipv6Addr};

/// The network of an IP address.
pub fn of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// The network of an address given as text; invalid text is a network of its own.
pub fn name_of(address: &str) -> String {
    match address.parse::<IpAddr>().map(of) {
        Ok(network @ IpAddr::V4(_)) => network.to_string(),
        Ok(network @ IpAddr::V6(_)) => format!("{network}/64"),
        Err(_) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn ipv6_addresses_count_by_their_64_bit_network() {
        assert_eq!(name_of("192.0.2.7"), "192.0.2.7");
        assert_eq!(name_of("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(name_of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(name_of("2001:db8:1:2::1"), name_of("2001:db8:1:2:ffff::"));
        assert_eq!(name_of(""), "unknown");
    }
}
