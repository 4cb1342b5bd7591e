//! What the operator sets: the webhook's address, and whether it may be another host than Slack's.
//!
//! The address is a secret. It lives in a file that only this user can read, and leaves this module only for the post
//! itself; [`Settings::shown`] is what others may see of it.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::{Deserialize, Serialize};

/// The host of Slack's webhooks.
pub(crate) const SLACK_HOST: &str = "hooks.slack.com";

/// Longest address, in bytes. Slack's have about 80.
const MAX_URL: usize = 2048;

/// Largest settings file that is read, in bytes.
const MAX_FILE: u64 = 64 * 1024;

const FILE_NAME: &str = "settings.json";

/// The settings, as they are kept.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    #[serde(default)]
    webhook_url: Option<String>,
    #[serde(default)]
    allow_custom_host: bool,
}

/// A change of settings. A field that is absent stays as it is; a `webhook_url` of null is removed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    #[serde(default, deserialize_with = "present")]
    webhook_url: Option<Option<String>>,
    #[serde(default)]
    allow_custom_host: Option<bool>,
}

/// Tells `null` from absent.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(deserializer).map(Some)
}

/// Why an address is not taken. The address itself is in no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error(
        "the webhook's address is not a web address; copy it from Slack, it begins with https://hooks.slack.com/"
    )]
    NotAnAddress,
    #[error("the webhook's address is longer than {MAX_URL} bytes")]
    TooLong,
    #[error("the webhook's address must begin with https:// (http:// only for this machine itself)")]
    NotSecure,
    #[error("the webhook's host is not {SLACK_HOST}; set allow_custom_host for Mattermost and others")]
    ForeignHost,
    #[error("the webhook's address must not have a name and password in it")]
    Credentials,
}

/// Why settings could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StorageError {
    #[error("the settings file {path:?} cannot be read ({source}); set the webhook again")]
    Read { path: PathBuf, source: io::Error },
    #[error("the settings file {path:?} cannot be written ({source}); is the disk full?")]
    Write { path: PathBuf, source: io::Error },
}

impl Settings {
    /// The address to post to.
    pub(crate) fn webhook_url(&self) -> Option<&str> {
        self.webhook_url.as_deref()
    }

    /// The settings after a change, if they keep the rules.
    pub(crate) fn changed(&self, change: Change) -> Result<Self, SettingsError> {
        let settings = Self {
            webhook_url: change.webhook_url.unwrap_or_else(|| self.webhook_url.clone()),
            allow_custom_host: change.allow_custom_host.unwrap_or(self.allow_custom_host),
        };
        if let Some(url) = &settings.webhook_url {
            check(url, settings.allow_custom_host)?;
        }
        Ok(settings)
    }

    /// What may be shown: whether there is an address, and its host.
    pub(crate) fn shown(&self) -> serde_json::Value {
        let url = self.webhook_url.as_deref().and_then(|url| Url::parse(url).ok());
        let masked = url.map(|url| {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            format!("{}://{}{port}/…", url.scheme(), url.host_str().unwrap_or_default())
        });
        serde_json::json!({
            "webhook_set": self.webhook_url.is_some(),
            "webhook": masked,
            "allow_custom_host": self.allow_custom_host,
        })
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Settings").field(&self.shown()).finish()
    }
}

fn check(text: &str, allow_custom_host: bool) -> Result<(), SettingsError> {
    if text.len() > MAX_URL {
        return Err(SettingsError::TooLong);
    }
    let url = Url::parse(text).map_err(|_| SettingsError::NotAnAddress)?;
    let host = url.host_str().ok_or(SettingsError::NotAnAddress)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(SettingsError::Credentials);
    }
    let is_slack = host == SLACK_HOST && url.port().is_none();
    if !is_slack && !allow_custom_host {
        return Err(SettingsError::ForeignHost);
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(host) => Ok(()),
        "http" => Err(SettingsError::NotSecure),
        _ => Err(SettingsError::NotAnAddress),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Reads the settings; without a file they are empty.
pub(crate) fn load(data_dir: &Path) -> Result<Settings, StorageError> {
    let path = data_dir.join(FILE_NAME);
    let failed = |source| StorageError::Read { path: path.clone(), source };
    match fs::metadata(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Settings::default()),
        Err(e) => return Err(failed(e)),
        Ok(metadata) if metadata.len() > MAX_FILE => return Err(failed(io::ErrorKind::FileTooLarge.into())),
        Ok(_) => {}
    }
    let text = fs::read(&path).map_err(failed)?;
    // The parser's message could quote the secret, so only its kind is kept.
    serde_json::from_slice(&text).map_err(|_| failed(io::ErrorKind::InvalidData.into()))
}

/// Keeps the settings: written beside, made durable, then put in place in one step.
pub(crate) fn save(data_dir: &Path, settings: &Settings) -> Result<(), StorageError> {
    let path = data_dir.join(FILE_NAME);
    let beside = data_dir.join(format!("{FILE_NAME}.new"));
    let write = || {
        let text = serde_json::to_vec_pretty(settings)?;
        // One that a crash left behind could have another mode.
        if let Err(e) = fs::remove_file(&beside)
            && e.kind() != io::ErrorKind::NotFound
        {
            return Err(e);
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        fs::File::open(data_dir)?.sync_all()
    };
    write().map_err(|source| StorageError::Write { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn change(json: &str) -> Change {
        serde_json::from_str(json).unwrap()
    }

    const SLACK: &str = "https://hooks.slack.com/services/T0/B0/secret";

    #[test]
    fn only_slack_is_taken_unless_other_hosts_are_allowed() {
        let verdict = |url: &str, custom| check(url, custom);
        assert_eq!(verdict(SLACK, false), Ok(()));
        for foreign in [
            "https://hooks.slack.com.evil.example/services/x",
            "https://hooks.slack.com:8443/services/x",
            "https://example.com/hooks.slack.com",
            "http://127.0.0.1:1/x",
        ] {
            assert_eq!(verdict(foreign, false), Err(SettingsError::ForeignHost), "{foreign}");
        }
        for own in [
            "https://chat.example.com/hooks/x",
            "http://127.0.0.1:1/x",
            "http://localhost/x",
            "http://[::1]:2/x",
        ] {
            assert_eq!(verdict(own, true), Ok(()), "{own}");
        }
        assert_eq!(verdict("http://chat.example.com/x", true), Err(SettingsError::NotSecure));
        assert_eq!(verdict("http://hooks.slack.com/services/x", false), Err(SettingsError::NotSecure));
        assert_eq!(verdict("https://hooks.slack.com@evil.example/x", true), Err(SettingsError::Credentials));
        assert_eq!(verdict("file:///etc/passwd", true), Err(SettingsError::NotAnAddress));
        assert_eq!(verdict("not an address", true), Err(SettingsError::NotAnAddress));
        assert_eq!(verdict(&format!("{SLACK}{}", "x".repeat(2048)), false), Err(SettingsError::TooLong));
    }

    #[test]
    fn a_change_touches_only_what_it_names() {
        let settings =
            Settings::default().changed(change(&format!(r#"{{"webhook_url":"{SLACK}"}}"#))).unwrap();
        assert_eq!(settings.webhook_url(), Some(SLACK));
        assert_eq!(
            settings.changed(change(r#"{"allow_custom_host":true}"#)).unwrap().webhook_url(),
            Some(SLACK)
        );
        assert_eq!(settings.changed(change(r#"{"webhook_url":null}"#)).unwrap().webhook_url(), None);
        assert!(serde_json::from_str::<Change>(r#"{"webhok_url":"x"}"#).is_err());
    }

    #[test]
    fn what_is_allowed_cannot_be_forbidden_under_an_address_in_use() {
        let custom = change(r#"{"webhook_url":"https://chat.example.com/x","allow_custom_host":true}"#);
        let settings = Settings::default().changed(custom).unwrap();
        let forbidden = settings.changed(change(r#"{"allow_custom_host":false}"#));
        assert_eq!(forbidden.unwrap_err(), SettingsError::ForeignHost);
    }

    #[test]
    fn the_secret_is_in_nothing_that_is_shown() {
        let settings =
            Settings::default().changed(change(&format!(r#"{{"webhook_url":"{SLACK}"}}"#))).unwrap();
        for text in [settings.shown().to_string(), format!("{settings:?}")] {
            assert!(!text.contains("secret") && text.contains("https://hooks.slack.com/…"), "{text}");
        }
    }

    #[test]
    fn settings_are_kept_in_a_private_file_whatever_was_left_behind() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(load(directory.path()).unwrap(), Settings::default());
        fs::write(directory.path().join("settings.json.new"), "half").unwrap();
        let settings = Settings { webhook_url: Some(SLACK.into()), allow_custom_host: false };
        save(directory.path(), &settings).unwrap();
        assert_eq!(load(directory.path()).unwrap(), settings);
        let path = directory.path().join(FILE_NAME);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        fs::write(&path, r#"{"webhook_url": "https://hooks.slack.com/secret" oops"#).unwrap();
        let message = load(directory.path()).unwrap_err().to_string();
        assert!(message.contains("set the webhook again") && !message.contains("secret"), "{message}");
    }
}
