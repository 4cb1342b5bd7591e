//! Which addresses a plugin may be connected to: public ones and nothing else. Pure.
//!
//! The table is our own. Libraries that say "global" take in addresses that lead back into a private network through a
//! translator (NAT64, 6to4, Teredo, mapped ones), and know nothing of what clouds put where every machine can reach it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is refused, as a word that tells operators where it would lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NotPublic(&'static str);

impl NotPublic {
    /// What kind of address it is.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for NotPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A range of IPv4: network, length of its prefix, what it is.
type Range4 = ([u8; 4], u32, &'static str);

/// A range of IPv6: first segments (the rest is zero), length of its prefix, what it is.
type Range6 = (&'static [u16], u32, &'static str);

/// Everything in IPv4 that is no public host.
const REFUSED_4: &[Range4] = &[
    ([0, 0, 0, 0], 8, "this network"),
    ([10, 0, 0, 0], 8, "private"),
    ([100, 64, 0, 0], 10, "shared by a provider's customers"),
    ([127, 0, 0, 0], 8, "loopback"),
    ([168, 63, 129, 16], 32, "a cloud's metadata"),
    ([169, 254, 0, 0], 16, "link-local or a cloud's metadata"),
    ([172, 16, 0, 0], 12, "private"),
    ([192, 0, 0, 0], 24, "set aside for protocols"),
    ([192, 0, 2, 0], 24, "documentation"),
    ([192, 31, 196, 0], 24, "set aside for protocols"),
    ([192, 52, 193, 0], 24, "set aside for protocols"),
    ([192, 88, 99, 0], 24, "a 6to4 relay"),
    ([192, 168, 0, 0], 16, "private"),
    ([192, 175, 48, 0], 24, "set aside for protocols"),
    ([198, 18, 0, 0], 15, "benchmarks"),
    ([198, 51, 100, 0], 24, "documentation"),
    ([203, 0, 113, 0], 24, "documentation"),
    ([224, 0, 0, 0], 4, "multicast"),
    ([240, 0, 0, 0], 4, "reserved or broadcast"),
];

/// The one part of IPv6 that holds public hosts; everything else is refused before the list is looked at.
const PUBLIC_6: Range6 = (&[0x2000], 3, "public");

/// What inside of [`PUBLIC_6`] is no public host, or leads to an address of IPv4 through somebody's translator.
const REFUSED_6: &[Range6] = &[
    // Teredo, benchmarks, ORCHID and others; what is public among them are relays.
    (&[0x2001, 0x0000], 23, "set aside for protocols or a Teredo tunnel"),
    (&[0x2001, 0x0db8], 32, "documentation"),
    (&[0x2002], 16, "a 6to4 tunnel"),
    (&[0x2620, 0x004f, 0x8000], 48, "set aside for protocols"),
    // The older test network and the newer documentation range.
    (&[0x3ffe], 16, "a test network"),
    (&[0x3fff], 20, "documentation"),
];

/// What lies outside of [`PUBLIC_6`], only to be called by its name.
const NAMED_6: &[Range6] = &[
    (&[0, 0, 0, 0, 0, 0, 0, 1], 128, "loopback"),
    (&[0, 0, 0, 0, 0, 0xffff], 96, "an IPv4 address in IPv6"),
    (&[0, 0, 0, 0, 0xffff], 96, "a translated IPv4 address"),
    (&[], 96, "this network or an IPv4 address in IPv6"),
    (&[0x0064, 0xff9b], 96, "a NAT64 translator"),
    (&[0x0064, 0xff9b, 0x0001], 48, "a NAT64 translator"),
    (&[0x0100], 64, "discarded"),
    (&[0x5f00], 16, "segment routing"),
    (&[0xfc00], 7, "private"),
    (&[0xfe80], 10, "link-local"),
    (&[0xfec0], 10, "private (site-local)"),
    (&[0xff00], 8, "multicast"),
];

/// Identifiers of interfaces that carry an address of IPv4 (ISATAP), whatever the network in front of them is.
const ISATAP: [u32; 2] = [0x0000_5efe, 0x0200_5efe];

/// Whether a plugin may be connected to `address`.
///
/// # Errors
/// What the address is instead of public.
pub(super) fn check(address: IpAddr) -> Result<(), NotPublic> {
    match address {
        IpAddr::V4(address) => check_4(address),
        IpAddr::V6(address) => check_6(address),
    }
}

fn check_4(address: Ipv4Addr) -> Result<(), NotPublic> {
    let found = REFUSED_4.iter().find(|(network, length, _)| {
        let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
        u32::from(address) & mask == u32::from_be_bytes(*network)
    });
    found.map_or(Ok(()), |(_, _, what)| Err(NotPublic(what)))
}

fn check_6(address: Ipv6Addr) -> Result<(), NotPublic> {
    if !is_in(address, &PUBLIC_6) {
        let named = NAMED_6.iter().find(|range| is_in(address, range));
        return Err(NotPublic(named.map_or("reserved", |(_, _, what)| what)));
    }
    if let Some((_, _, what)) = REFUSED_6.iter().find(|range| is_in(address, range)) {
        return Err(NotPublic(what));
    }
    let segments = address.segments();
    if ISATAP.contains(&(u32::from(segments[4]) << 16 | u32::from(segments[5]))) {
        return Err(NotPublic("an ISATAP tunnel"));
    }
    Ok(())
}

fn is_in(address: Ipv6Addr, (network, length, _): &Range6) -> bool {
    let mut segments = [0_u16; 8];
    for (to, from) in segments.iter_mut().zip(*network) {
        *to = *from;
    }
    let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
    u128::from(address) & mask == u128::from(Ipv6Addr::from(segments)) & mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn verdict(text: &str) -> Result<(), &'static str> {
        check(text.parse().unwrap()).map_err(NotPublic::as_str)
    }

    #[test]
    fn public_addresses_are_public() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "168.63.129.17",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4001::1",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2620:4f:8001::1",
        ] {
            assert_eq!(verdict(public), Ok(()), "{public}");
        }
    }

    #[test]
    fn every_way_back_into_a_private_network_is_refused() {
        for (address, what) in [
            ("0.0.0.0", "this network"),
            ("0.1.2.3", "this network"),
            ("10.0.0.1", "private"),
            ("10.255.255.255", "private"),
            ("100.64.0.1", "shared by a provider's customers"),
            ("100.100.100.200", "shared by a provider's customers"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.254", "loopback"),
            ("168.63.129.16", "a cloud's metadata"),
            ("169.254.169.254", "link-local or a cloud's metadata"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.0.0.8", "set aside for protocols"),
            ("192.0.2.1", "documentation"),
            ("192.88.99.1", "a 6to4 relay"),
            ("192.168.1.1", "private"),
            ("198.19.0.1", "benchmarks"),
            ("203.0.113.9", "documentation"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "reserved or broadcast"),
            ("::", "this network or an IPv4 address in IPv6"),
            ("::1", "loopback"),
            ("::127.0.0.1", "this network or an IPv4 address in IPv6"),
            ("::ffff:127.0.0.1", "an IPv4 address in IPv6"),
            ("::ffff:8.8.8.8", "an IPv4 address in IPv6"),
            ("::ffff:0:127.0.0.1", "a translated IPv4 address"),
            ("64:ff9b::7f00:1", "a NAT64 translator"),
            ("64:ff9b::8.8.8.8", "a NAT64 translator"),
            ("64:ff9b:1::1", "a NAT64 translator"),
            ("100::1", "discarded"),
            ("2001::1", "set aside for protocols or a Teredo tunnel"),
            ("2001:10::1", "set aside for protocols or a Teredo tunnel"),
            ("2001:db8::1", "documentation"),
            ("2002:7f00:1::", "a 6to4 tunnel"),
            ("2002:808:808::1", "a 6to4 tunnel"),
            ("2606:4700::5efe:10.0.0.1", "an ISATAP tunnel"),
            ("2606:4700::200:5efe:10.0.0.1", "an ISATAP tunnel"),
            ("3ffe::1", "a test network"),
            ("3fff:fff::1", "documentation"),
            ("4000::1", "reserved"),
            ("fc00::1", "private"),
            ("fd00:ec2::254", "private"),
            ("fe80::1", "link-local"),
            ("fec0::1", "private (site-local)"),
            ("ff02::1", "multicast"),
        ] {
            assert_eq!(verdict(address), Err(what), "{address}");
        }
    }

    #[test]
    fn the_lists_are_whole_networks() {
        for (network, length, what) in REFUSED_4 {
            let rest = u32::MAX.checked_shr(*length).unwrap_or(0);
            assert_eq!(u32::from_be_bytes(*network) & rest, 0, "{what} {network:?}/{length}");
        }
        for (network, length, what) in REFUSED_6.iter().chain(NAMED_6) {
            assert!(network.len() <= 8 && *length <= 128, "{what}");
        }
    }

    proptest! {
        #[test]
        fn what_the_standard_library_calls_local_is_never_public(bits in any::<u32>()) {
            let address = Ipv4Addr::from(bits);
            let local = address.is_private() || address.is_loopback() || address.is_link_local()
                || address.is_multicast() || address.is_broadcast() || address.is_unspecified()
                || address.is_documentation();
            prop_assert!(!(local && check_4(address).is_ok()), "{address}");
        }

        #[test]
        fn no_address_of_ipv4_passes_in_the_clothes_of_ipv6(bits in any::<u32>()) {
            let four = Ipv4Addr::from(bits);
            let [a, b] = [(bits >> 16) as u16, bits as u16];
            for six in [
                four.to_ipv6_mapped(),
                four.to_ipv6_compatible(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b),
                Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, a, b),
                Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, a, b),
                Ipv6Addr::new(0x2002, a, b, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0, a, b, 0, 0, !a, !b),
                Ipv6Addr::new(0x2a00, 1, 2, 3, 0, 0x5efe, a, b),
            ] {
                prop_assert!(check_6(six).is_err(), "{}", six);
            }
        }

        #[test]
        fn nothing_outside_of_global_unicast_is_public(bits in any::<u128>()) {
            let address = Ipv6Addr::from(bits);
            prop_assert!(check_6(address).is_err() || (bits >> 125) == 1, "{}", address);
        }
    }
}
