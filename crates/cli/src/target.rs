//! Which daemon a command talks to, and with which token.
//!
//! A command on the daemon's own machine needs neither address nor token: both are read where the daemon keeps them.
//! The token of this machine is never sent to another one.

use std::path::{Path, PathBuf};

use reqwest::Url;
use temps_server::config::{Config, Overrides, Surroundings};

use crate::arguments::Global;
use crate::client::is_loopback;
use crate::exit::{Exit, Failure};

/// Longest token file that is read, in bytes.
const MAX_TOKEN_FILE: u64 = 4096;

/// A daemon's address, and the token for it if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) url: Url,
    pub(crate) token: Option<String>,
}

impl Target {
    /// Finds out from the command line, the environment, and the settings of this machine.
    pub(crate) fn find(global: &Global) -> Result<Self, Failure> {
        let named = global.url.as_deref().map(parse_url).transpose()?;
        let given = global.token.clone().filter(|token| !token.is_empty());
        // With both given, this machine's settings do not matter, and a mistake in them should not get in the way.
        if let (Some(url), Some(token)) = (&named, &given) {
            return Ok(Self { url: url.clone(), token: Some(token.clone()) });
        }
        let config = settings(global, Overrides::default());
        let (url, config) = match (named, config) {
            (Some(url), config) => (url, config.ok()),
            (None, config) => {
                let config = config?;
                (own_url(&config)?, Some(config))
            }
        };
        let token = match (given, config) {
            (Some(token), _) => Some(token),
            (None, Some(config)) if is_loopback(&url) => read_token(&config.places.admin_token_file())?,
            (None, _) => None,
        };
        Ok(Self { url, token })
    }
}

/// This machine's settings, with `--home` and `--config` taken into account.
pub(crate) fn settings(global: &Global, mut overrides: Overrides) -> Result<Config, Failure> {
    overrides.config_file = global.config.clone();
    let root = rustix::process::geteuid().is_root();
    let mut surroundings = Surroundings::of_process(root, overrides);
    if let Some(home) = &global.home {
        surroundings.env.insert("TEMPS_HOME".into(), absolute(home)?);
    }
    Config::load(&surroundings).map_err(|error| {
        Failure::new(Exit::Usage, "settings", format!("the settings cannot be used: {error}"))
    })
}

fn absolute(path: &Path) -> Result<String, Failure> {
    let absolute: PathBuf = std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("cannot use the directory {}: {error}", path.display())))?;
    absolute
        .into_os_string()
        .into_string()
        .map_err(|path| Failure::usage(format!("the directory {} is not valid UTF-8", path.display())))
}

fn parse_url(text: &str) -> Result<Url, Failure> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.host().is_some() => Ok(url),
        _ => Err(Failure::usage(format!("{text:?} is not the address of a daemon"))
            .hint("write it like http://127.0.0.1:6160")),
    }
}

/// Where a daemon with these settings listens, as seen from this machine.
fn own_url(config: &Config) -> Result<Url, Failure> {
    let mut address = config.listen;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    parse_url(&format!("http://{address}"))
}

/// The token in `file`, or `None` where there is no such file. A file that may not be read is said, because the answer
/// without a token would only confuse.
fn read_token(file: &Path) -> Result<Option<String>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::new(
            Exit::Auth,
            "token_unreadable",
            format!("cannot read the admin token in {}: {error}", file.display()),
        )
        .hint("run as the user that runs the daemon, or give a token with --token or TEMPS_TOKEN")
    };
    match std::fs::metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
        Ok(metadata) if metadata.len() > MAX_TOKEN_FILE => {
            return Err(Failure::new(
                Exit::Auth,
                "token_unreadable",
                format!("{} is not a token", file.display()),
            ));
        }
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    Ok(Some(text.trim().to_owned()).filter(|token| !token.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global(home: &Path) -> Global {
        Global {
            json: false,
            quiet: false,
            url: None,
            token: None,
            home: Some(home.to_path_buf()),
            config: None,
            timeout: None,
        }
    }

    fn home_with_token() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("state")).unwrap();
        std::fs::write(home.path().join("state/admin-token"), "tmp_secret\n").unwrap();
        home
    }

    #[test]
    fn on_the_daemons_machine_nothing_needs_to_be_given() {
        let home = home_with_token();
        std::fs::write(home.path().join("temps.toml"), "listen = \"0.0.0.0:7001\"\n").unwrap();
        let target = Target::find(&global(home.path())).unwrap();
        assert_eq!(target.url.as_str(), "http://127.0.0.1:7001/");
        assert_eq!(target.token.as_deref(), Some("tmp_secret"));
    }

    #[test]
    fn the_token_of_this_machine_is_never_sent_to_another_one() {
        let home = home_with_token();
        let mut elsewhere = global(home.path());
        elsewhere.url = Some("https://temps.example.com".into());
        assert_eq!(Target::find(&elsewhere).unwrap().token, None);
        let mut here = global(home.path());
        here.url = Some("http://127.0.0.1:9".into());
        assert_eq!(Target::find(&here).unwrap().token.as_deref(), Some("tmp_secret"));
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        let home = home_with_token();
        for text in ["nonsense", "ftp://127.0.0.1", "127.0.0.1:6160"] {
            let mut wrong = global(home.path());
            wrong.url = Some(text.into());
            assert_eq!(Target::find(&wrong).unwrap_err().exit, Exit::Usage, "{text}");
        }
    }
}
