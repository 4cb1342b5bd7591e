//! Who may be reached: from what is granted and set to a permit or a refusal. Pure.

use std::fmt;
use std::net::{IpAddr, SocketAddrV4};

use super::settings::PluginEgress;
use crate::grants;

/// Longest name in bytes.
const MAX_NAME: usize = 253;

/// Longest label of a name in bytes.
const MAX_LABEL: usize = 63;

/// Most ports of one name that are served.
const MAX_PORTS: usize = 8;

/// What may be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Permit {
    /// Connect to a public address of this name.
    Name {
        /// The name in lower case, without a dot at its end.
        name: String,
        port: u16,
        /// Whether the connection must begin with a TLS hello for this name.
        tls: bool,
    },
    /// Connect to this address of the machine's loopback, which the operator opened for development.
    Loopback(SocketAddrV4),
}

impl fmt::Display for Permit {
    /// The target in the form in which it is recorded, however it was written when it was asked for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Permit::Name { name, port, .. } => write!(f, "{name}:{port}"),
            Permit::Loopback(address) => address.fmt(f),
        }
    }
}

/// Why something may not be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An address stands where a name should.
    #[error("addresses cannot be reached, only names")]
    Address,
    /// It is no name of a public host.
    #[error("it is no name of a public host")]
    NotAName,
    /// Nothing that was granted takes it in.
    #[error("it was not granted")]
    NotGranted,
    /// The name was granted, with other ports.
    #[error("the name was granted, and this port was not")]
    OtherPort,
}

impl Refusal {
    /// The word in metrics and in the audit trail.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Address => "address",
            Refusal::NotAName => "not_a_name",
            Refusal::NotGranted => "not_granted",
            Refusal::OtherPort => "other_port",
        }
    }
}

/// The ports at which a name may be reached, at least one.
pub(super) fn ports(name: &str, granted: &[String]) -> Result<Vec<u16>, Refusal> {
    let name = normal(name)?;
    let fits = |target: &String| {
        let (_, port) = target.rsplit_once(':')?;
        grants::target_covers(target, &format!("{name}:{port}")).then(|| port.parse().ok()).flatten()
    };
    let mut ports: Vec<u16> = granted.iter().filter_map(fits).collect();
    ports.sort_unstable();
    ports.dedup();
    ports.truncate(MAX_PORTS);
    if ports.is_empty() { Err(Refusal::NotGranted) } else { Ok(ports) }
}

/// Whether `host` may be reached at `port`.
pub(super) fn decide(
    host: &str,
    port: u16,
    granted: &[String],
    set: &PluginEgress,
) -> Result<Permit, Refusal> {
    let opened =
        set.allow_loopback.iter().find(|target| target.ip().to_string() == host && target.port() == port);
    if let Some(target) = opened {
        return Ok(Permit::Loopback(*target));
    }
    let name = normal(host)?;
    let target = format!("{name}:{port}");
    if !granted.iter().any(|wide| grants::target_covers(wide, &target)) {
        return Err(if ports(&name, granted).is_ok() { Refusal::OtherPort } else { Refusal::NotGranted });
    }
    let tls = !set.without_tls.contains(&target);
    Ok(Permit::Name { name, port, tls })
}

/// A name as it is compared: lower case, without the dot that may stand at its end.
///
/// International names come in their ASCII form (`xn--…`), as clients send them. What is not ASCII, has no dot inside, or could be
/// taken for an address in any of its notations is no name.
fn normal(host: &str) -> Result<String, Refusal> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<IpAddr>().is_ok() || host.contains(':') {
        return Err(Refusal::Address);
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    // `127.1`, `0x7f.1` and `017700000001` are addresses for the C library.
    if last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") {
        return Err(if last.is_empty() { Refusal::NotAName } else { Refusal::Address });
    }
    let local = name == "localhost" || name.ends_with(".localhost");
    let good = name.len() <= MAX_NAME && name.contains('.') && !local && name.split('.').all(label);
    if good { Ok(name) } else { Err(Refusal::NotAName) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn granted(targets: &[&str]) -> Vec<String> {
        targets.iter().map(ToString::to_string).collect()
    }

    fn decided(host: &str, port: u16, targets: &[&str]) -> Result<Permit, Refusal> {
        decide(host, port, &granted(targets), &PluginEgress::default())
    }

    fn by_tls(name: &str, port: u16) -> Result<Permit, Refusal> {
        Ok(Permit::Name { name: name.to_owned(), port, tls: true })
    }

    #[test]
    fn what_is_granted_is_reached_and_nothing_beside_it() {
        let slack = ["hooks.slack.com:443"];
        for same in ["hooks.slack.com", "Hooks.SLACK.com", "hooks.slack.com."] {
            let permit = decided(same, 443, &slack);
            assert_eq!(permit.as_ref().unwrap().to_string(), "hooks.slack.com:443");
            assert_eq!(permit, by_tls("hooks.slack.com", 443), "{same}");
        }
        assert_eq!(decided("hooks.slack.com", 80, &slack), Err(Refusal::OtherPort));
        for other in ["slack.com", "evil.example", "hooks.slack.com.evil.example", "xhooks.slack.com"] {
            assert_eq!(decided(other, 443, &slack), Err(Refusal::NotGranted), "{other}");
        }
        let wild = ["*.example.com:443", "*.example.com:8443"];
        assert_eq!(decided("a.b.example.com", 8443, &wild), by_tls("a.b.example.com", 8443));
        assert_eq!(decided("example.com", 443, &wild), Err(Refusal::NotGranted));
        assert_eq!(decided("evilexample.com", 443, &wild), Err(Refusal::NotGranted));
        assert_eq!(ports("a.example.com", &granted(&wild)), Ok(vec![443, 8443]));
        assert_eq!(ports("example.org", &granted(&wild)), Err(Refusal::NotGranted));
        assert_eq!(decided("any.example", 443, &["*:443"]), by_tls("any.example", 443));
        assert_eq!(decided("any.example", 443, &[]), Err(Refusal::NotGranted));
    }

    #[test]
    fn no_notation_of_an_address_is_a_name() {
        for address in [
            "127.0.0.1",
            "127.0.0.1.",
            "1.1.1.1",
            "[::1]",
            "::1",
            "::ffff:127.0.0.1",
            "fe80::1%eth0",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.0.0.1",
            "0x7f.1",
            "017700000001",
            "a.example.1",
            "a.example:443",
        ] {
            assert_eq!(decided(address, 443, &["*:443"]), Err(Refusal::Address), "{address}");
        }
    }

    #[test]
    fn odd_names_are_refused() {
        for odd in [
            "",
            ".",
            "..",
            "localhost",
            "a.localhost",
            "localhost.",
            "intranet",
            "a..example",
            ".a.example",
            "a.example..",
            "-a.example",
            "a-.example",
            "a_b.example",
            "user@a.example",
            "a.example/x",
            "a.example\0",
            "a .example",
            "*.example",
            "*",
            "b\u{fc}cher.example",
            "\u{ff41}.example",
            "a\u{3002}example",
        ] {
            assert_eq!(decided(odd, 443, &["*:443"]), Err(Refusal::NotAName), "{odd:?}");
        }
        let long = format!("{}.example", "a".repeat(64));
        assert_eq!(decided(&long, 443, &["*:443"]), Err(Refusal::NotAName));
        assert_eq!(decided("xn--bcher-kva.example", 443, &["*:443"]), by_tls("xn--bcher-kva.example", 443));
    }

    #[test]
    fn what_an_operator_opens_is_that_and_no_more() {
        let set = PluginEgress {
            allow_loopback: vec!["127.0.0.1:8080".parse().unwrap()],
            without_tls: vec!["db.example.com:5432".to_owned()],
        };
        let granted = granted(&["db.example.com:5432", "db.example.com:443"]);
        let decided = |host: &str, port| decide(host, port, &granted, &set);
        assert_eq!(decided("127.0.0.1", 8080), Ok(Permit::Loopback(set.allow_loopback[0])));
        for (host, port) in [("127.0.0.1", 8081), ("127.0.0.2", 8080), ("[127.0.0.1]", 8080), ("::1", 8080)] {
            assert_eq!(decided(host, port), Err(Refusal::Address), "{host}:{port}");
        }
        let name = |port, tls| Ok(Permit::Name { name: "db.example.com".to_owned(), port, tls });
        assert_eq!(decided("db.example.com", 5432), name(5432, false));
        assert_eq!(decided("db.example.com", 443), name(443, true));
        // Opening a target is not granting it.
        assert_eq!(decide("db.example.com", 5432, &[], &set), Err(Refusal::NotGranted));
    }

    proptest! {
        #[test]
        fn whatever_is_asked_only_names_are_permitted(host in ".{0,80}", port in any::<u16>()) {
            if let Ok(Permit::Name { name, .. }) = decided(&host, port, &[&format!("*:{port}")]) {
                prop_assert!(name.parse::<IpAddr>().is_err());
                prop_assert!(name.contains('.') && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.'));
            }
        }

        #[test]
        fn a_name_is_permitted_exactly_at_the_ports_that_are_told(
            name in "[a-z]{1,8}(\\.[a-z]{1,8}){1,3}",
            targets in prop::collection::vec("(\\*|\\*\\.[a-z]{1,2}|[a-z]{1,2}\\.[a-z]{1,2}):(443|80|5432)", 0..6),
            port in prop::sample::select(vec![443_u16, 80, 5432, 22]),
        ) {
            let told = ports(&name, &targets).unwrap_or_default();
            let permitted = decide(&name, port, &targets, &PluginEgress::default()).is_ok();
            prop_assert_eq!(told.contains(&port), permitted);
        }
    }
}
