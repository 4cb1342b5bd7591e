//! Values of settings, from texts, each with what it should be when it is something else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use temps_host::config::GrantsDefault;

use super::DEFAULT_PORT;

pub(crate) fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Some(port) = text.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    Err(format!("{text:?} is not an address with a port; write for example \"127.0.0.1:{DEFAULT_PORT}\""))
}

pub(crate) fn parse_grants_default(text: &str) -> Result<GrantsDefault, String> {
    match text {
        "allow" => Ok(GrantsDefault::Allow),
        "hold" => Ok(GrantsDefault::Hold),
        other => Err(format!("{other:?} is not a policy; it is \"allow\" or \"hold\"")),
    }
}

/// Checks a URL that browsers use, and takes its trailing slash away.
pub(super) fn check_public_url(text: &str) -> Result<String, String> {
    let url: http::Uri =
        text.parse().map_err(|_| format!("{text:?} is not a URL like \"https://temps.example.com\""))?;
    let plain = matches!(url.scheme_str(), Some("http" | "https"))
        && url.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        && matches!(url.path(), "" | "/")
        && url.query().is_none();
    if !plain {
        return Err(format!(
            "{text:?} must be http:// or https:// and a host, without a path, because the daemon's paths begin at the root"
        ));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

pub(super) fn check_host(text: &str) -> Result<(), String> {
    let authority: Option<http::uri::Authority> = text.parse().ok();
    match authority {
        Some(authority) if !text.contains('@') && !authority.host().contains('*') => Ok(()),
        _ => Err(format!(
            "{text:?} is not a host name like \"temps.example.com\" or \"temps.example.com:8443\""
        )),
    }
}
