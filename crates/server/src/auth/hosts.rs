//! Which host names are ours, and whether a request comes from one of our own pages.
//!
//! A page on the internet can make a browser send requests here, under a name that it pointed at this machine (DNS
//! rebinding) or with the browser's cookies (cross-site requests). The first is refused by its `Host`, the second by its
//! `Origin`. Both checks are pure.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderName};
use http::uri::Authority;
use http::{HeaderMap, Method, Uri};

/// Which `Host` names are ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPolicy {
    listen: SocketAddr,
    configured: Vec<(String, Option<u16>)>,
    public_origin: Option<String>,
}

/// A request that must not be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misdirected {
    /// The request names no host, or more than one.
    #[error("the request does not name exactly one host")]
    NoHost,
    /// The request names a host that is not ours.
    #[error("the host {0:?} is not ours")]
    ForeignHost(String),
    /// The request would change something with a cookie, and does not come from one of our pages.
    #[error("the request carries a cookie and comes from {0}")]
    ForeignOrigin(String),
}

impl HostPolicy {
    /// The policy for an address that is listened on, with the names that an operator added.
    #[must_use]
    pub fn new(listen: SocketAddr, public_url: Option<&str>, allowed_hosts: &[String]) -> Self {
        let public: Option<Uri> = public_url.and_then(|url| url.parse().ok());
        let public_authority = public.as_ref().and_then(|url| url.authority().map(Authority::as_str));
        let names = allowed_hosts.iter().map(String::as_str).chain(public_authority);
        let configured = names.filter_map(split).collect();
        Self { listen, configured, public_origin: public_url.map(str::to_ascii_lowercase) }
    }

    /// Checks a request before anything else looks at it.
    ///
    /// # Errors
    /// [`Misdirected`] says why it must not be answered.
    pub fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Misdirected> {
        let host = match uri.authority() {
            Some(authority) => authority.as_str(),
            None => only(headers, &header::HOST).ok_or(Misdirected::NoHost)?,
        };
        if !self.is_ours(host) {
            return Err(Misdirected::ForeignHost(host.chars().take(100).collect()));
        }
        let acts = !method.is_safe() || headers.contains_key(header::UPGRADE);
        if !acts || !headers.contains_key(header::COOKIE) {
            return Ok(());
        }
        match only(headers, &header::ORIGIN) {
            Some(origin) if self.is_our_origin(origin) => Ok(()),
            Some(origin) => Err(Misdirected::ForeignOrigin(origin.chars().take(100).collect())),
            None => Err(Misdirected::ForeignOrigin("no page of ours (there is no Origin)".into())),
        }
    }

    /// Whether `https` is how browsers reach this host, so that its cookies can be kept from plain connections.
    #[must_use]
    pub fn is_secure(&self, headers: &HeaderMap) -> bool {
        let host = only(headers, &header::HOST).unwrap_or_default();
        self.public_origin.as_deref().and_then(|origin| origin.strip_prefix("https://")) == Some(host)
    }

    fn is_ours(&self, host: &str) -> bool {
        let Some((name, port)) = split(host) else { return false };
        let listening = port.unwrap_or(80) == self.listen.port();
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        let own = match address {
            // An address cannot be pointed elsewhere by a name server, so each one that reaches us is ours.
            Some(address) => {
                address.is_loopback() || self.listen.ip().is_unspecified() || address == self.listen.ip()
            }
            None => name == "localhost",
        };
        (own && listening) || self.configured.iter().any(|entry| self.matches(entry, &name, port))
    }

    fn matches(&self, (name, port): &(String, Option<u16>), host: &str, host_port: Option<u16>) -> bool {
        let port_matches = match port {
            Some(_) => *port == host_port,
            None => host_port.is_none_or(|port| matches!(port, 80 | 443) || port == self.listen.port()),
        };
        name == host && port_matches
    }

    fn is_our_origin(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        let plain = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        self.public_origin.as_ref() == Some(&origin) || plain.is_some_and(|host| self.is_ours(host))
    }
}

/// Splits `name:port`, in lower case. `None` when it is not an authority without credentials.
fn split(host: &str) -> Option<(String, Option<u16>)> {
    let authority: Authority = host.parse().ok()?;
    let plain = !host.contains('@') && !authority.host().is_empty();
    plain.then(|| (authority.host().trim_end_matches('.').to_ascii_lowercase(), authority.port_u16()))
}

/// The value of a header that must stand exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(listen: &str) -> HostPolicy {
        let allowed = ["temps.internal".to_owned(), "other.internal:8443".to_owned()];
        HostPolicy::new(listen.parse().unwrap(), Some("https://temps.example.com"), &allowed)
    }

    fn check(host: &str, method: &Method, more: &[(HeaderName, &str)]) -> Result<(), Misdirected> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        for (name, value) in more {
            headers.insert(name.clone(), value.parse().unwrap());
        }
        policy("127.0.0.1:6160").check(method, &Uri::from_static("/api/plugins"), &headers)
    }

    #[test]
    fn this_machine_and_configured_names_are_ours_and_nothing_else() {
        let ours = policy("127.0.0.1:6160");
        for host in [
            "127.0.0.1:6160",
            "localhost:6160",
            "LOCALHOST:6160",
            "[::1]:6160",
            "temps.example.com",
            "temps.example.com:443",
            "temps.internal:6160",
            "other.internal:8443",
        ] {
            assert!(ours.is_ours(host), "{host}");
        }
        for host in [
            "",
            "127.0.0.1",
            "localhost:80",
            "evil.example:6160",
            "127.0.0.1.evil.example:6160",
            "10.0.0.1:6160",
            "temps.internal:9",
            "other.internal",
            "user@localhost:6160",
            "localhost:6160.evil.example",
            "localhost.evil:6160",
        ] {
            assert!(!ours.is_ours(host), "{host}");
        }
    }

    #[test]
    fn a_daemon_on_all_addresses_takes_addresses_and_no_foreign_names() {
        let all = policy("0.0.0.0:6160");
        assert!(all.is_ours("192.168.1.5:6160") && all.is_ours("127.0.0.1:6160"));
        assert!(!all.is_ours("evil.example:6160"));
    }

    #[test]
    fn a_name_that_was_pointed_at_us_is_refused() {
        assert_eq!(
            check("evil.example:6160", &Method::GET, &[]),
            Err(Misdirected::ForeignHost("evil.example:6160".into()))
        );
    }

    #[test]
    fn a_cookie_acts_only_from_our_own_pages() {
        let cookie = (header::COOKIE, "temps_session=x");
        let us = "127.0.0.1:6160";
        assert!(check(us, &Method::GET, std::slice::from_ref(&cookie)).is_ok(), "looking is not acting");
        for origin in ["http://evil.example", "null", "http://127.0.0.1:3000", "http://localhost", "file://"]
        {
            let refused = check(us, &Method::POST, &[cookie.clone(), (header::ORIGIN, origin)]);
            assert!(matches!(refused, Err(Misdirected::ForeignOrigin(_))), "{origin}");
        }
        assert!(check(us, &Method::POST, std::slice::from_ref(&cookie)).is_err(), "no Origin at all");
        for origin in ["http://127.0.0.1:6160", "https://temps.example.com"] {
            assert!(
                check(us, &Method::POST, &[cookie.clone(), (header::ORIGIN, origin)]).is_ok(),
                "{origin}"
            );
        }
        let upgrade = (header::UPGRADE, "websocket");
        let foreign = (header::ORIGIN, "http://evil.example");
        assert!(check(us, &Method::GET, &[cookie, upgrade.clone(), foreign.clone()]).is_err());
        assert!(
            check(us, &Method::GET, &[upgrade, foreign]).is_ok(),
            "without a cookie nobody is impersonated"
        );
    }

    #[test]
    fn a_plugins_page_without_an_origin_passes_with_its_own_token() {
        let sent = [(header::ORIGIN, "null"), (header::AUTHORIZATION, "Bearer page-token")];
        assert!(check("127.0.0.1:6160", &Method::POST, &sent).is_ok());
    }

    #[test]
    fn a_request_names_exactly_one_host() {
        let mut headers = HeaderMap::new();
        let ours = policy("127.0.0.1:6160");
        assert_eq!(ours.check(&Method::GET, &Uri::from_static("/"), &headers), Err(Misdirected::NoHost));
        headers.append(header::HOST, "localhost:6160".parse().unwrap());
        headers.append(header::HOST, "evil.example".parse().unwrap());
        assert_eq!(ours.check(&Method::GET, &Uri::from_static("/"), &headers), Err(Misdirected::NoHost));
        let absolute = Uri::from_static("http://evil.example/");
        assert!(
            ours.check(&Method::GET, &absolute, &headers).is_err(),
            "the address in the request line counts"
        );
    }
}
