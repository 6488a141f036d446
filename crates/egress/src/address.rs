//! Where an address leads: out into the public network, into a private one, or nowhere that anyone may go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// What kind of place an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Public,
    /// Reached only by names that the operator lets lead there.
    Private(&'static str),
    /// Never reached.
    Barred(&'static str),
}

/// Services that hand a machine's own credentials to whoever asks, at addresses that are not link-local.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// The place of `address`, whether or not it is one of this host's own.
pub(crate) fn place(address: IpAddr) -> Place {
    if METADATA.contains(&address.to_canonical()) {
        return Place::Barred("a metadata service");
    }
    match address.to_canonical() {
        IpAddr::V4(address) => v4(address),
        IpAddr::V6(address) => v6(address),
    }
}

/// By the registry of special addresses, RFC 6890 and its successors.
fn v4(address: Ipv4Addr) -> Place {
    match address.octets() {
        [0, ..] => Place::Barred("an unspecified address"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Place::Private("a private address"),
        [100, 64..=127, ..] => Place::Private("an address of a carrier's network"),
        [127, ..] => Place::Private("a loopback address"),
        [169, 254, ..] => Place::Barred("a link-local address"),
        // Some networks put these to use of their own.
        [198, 18..=19, ..] => Place::Private("an address for benchmarks"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Place::Private("an address for documentation"),
        [192, 0, 0, _] | [192, 88, 99, _] => Place::Barred("a reserved address"),
        [224..=239, ..] => Place::Barred("a multicast address"),
        [240..=255, ..] => Place::Barred("a reserved address"),
        _ => Place::Public,
    }
}

fn v6(address: Ipv6Addr) -> Place {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Place::Barred("an unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Place::Private("a loopback address"),
        // NAT64: the IPv4 address in it is where it leads.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            place(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
        }
        [0xfc00..=0xfdff, ..] => Place::Private("a private address"),
        [0xfe80..=0xfebf, ..] => Place::Barred("a link-local address"),
        [0xff00..=0xffff, ..] => Place::Barred("a multicast address"),
        // Teredo and its neighbours, documentation, 6to4: all obsolete or for other uses.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => {
            Place::Barred("a reserved address")
        }
        [0x2000..=0x3fff, ..] => Place::Public,
        _ => Place::Barred("a reserved address"),
    }
}

/// Whether `address` is one of this host's own: only those can be bound. Where the system lets any address be bound, this cannot
/// be told, and the answer is no.
pub(crate) fn is_own(address: IpAddr) -> bool {
    let bound = |address: IpAddr| UdpSocket::bind((address, 0)).is_ok();
    let nobodys = match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    };
    bound(address) && !bound(nobodys)
}

#[cfg(test)]
mod tests {
    use super::{Place, is_own, place};

    #[test]
    fn only_the_public_network_is_public() {
        for text in [
            "1.1.1.1",
            "93.184.215.14",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "2606:4700::1111",
            "64:ff9b::1.1.1.1",
            "::ffff:1.1.1.1",
        ] {
            assert_eq!(place(text.parse().unwrap()), Place::Public, "{text}");
        }
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "198.18.0.1",
            "192.0.2.1",
            "203.0.113.1",
            "::1",
            "fd12::1",
            "fc00::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::10.0.0.1",
        ] {
            assert!(matches!(place(text.parse().unwrap()), Place::Private(_)), "{text}");
        }
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "192.0.0.192",
            "168.63.129.16",
            "100.100.100.200",
            "fd00:ec2::254",
            "::",
            "fe80::1",
            "ff02::1",
            "::127.0.0.1",
            "2002:7f00:1::",
            "2001:0:1::",
            "2001:db8::1",
            "64:ff9b:1::1",
            "64:ff9b::169.254.169.254",
            "::ffff:169.254.169.254",
            "::ffff:0:127.0.0.1",
            "fec0::1",
            "4000::1",
        ] {
            assert!(matches!(place(text.parse().unwrap()), Place::Barred(_)), "{text}");
        }
    }

    #[test]
    fn own_addresses_are_known() {
        assert!(is_own("127.0.0.1".parse().unwrap()));
        assert!(!is_own("1.1.1.1".parse().unwrap()));
    }
}
