//! What the host tells a plugin when it starts it: three arguments and a few environment variables.
//!
//! Arguments are read by hand: there are three of them, and a library for that would be larger than the rest of
//! a small plugin.

use std::ffi::OsString;
use std::path::PathBuf;

use temps_protocol::Feature;

use crate::auth::Secret;

/// What older hosts give to every plugin: the platform's own database, which no plugin needs.
const OLDER_HOSTS: &str = "--database-url";

/// How the host started this plugin.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) socket_path: PathBuf,
    pub(crate) secret: Secret,
    pub(crate) data_dir: PathBuf,
    pub(crate) environment: Environment,
}

/// What the host said by environment; other hosts say nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    /// Version of the protocol that the host speaks.
    pub(crate) api_version: Option<String>,
    /// Optional abilities that the host has.
    pub(crate) features: Vec<Feature>,
    /// The name under which the host knows the plugin.
    pub(crate) plugin_name: Option<String>,
    /// Where the plugin's own database is.
    pub(crate) database_url: Option<String>,
}

/// Why the arguments are not those of a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UsageError {
    #[error(
        "{0} is missing. This is a temps plugin: a host starts it. Put it into the plugins directory of a host, by default \
         ~/.temps/plugins, and see it with `temps plugin list`. By hand: PLUGIN --socket-path PATH --auth-secret SECRET \
         --data-dir DIRECTORY"
    )]
    Missing(&'static str),
    #[error("unknown argument {0}: a host gives --socket-path, --auth-secret and --data-dir")]
    Unknown(String),
    #[error("{0} needs a value after it")]
    NoValue(String),
    #[error("the value of --auth-secret must be text, 1 byte at least")]
    BadSecret,
}

impl Launch {
    /// Reads the arguments after the program's name. Unknown ones are refused, so that a mistake is seen at once; the one that
    /// older hosts give to every plugin is passed over.
    pub(crate) fn parse(
        arguments: impl IntoIterator<Item = OsString>,
        environment: Environment,
    ) -> Result<Self, UsageError> {
        let (mut socket_path, mut secret, mut data_dir, mut passed_over) = (None, None, None, None);
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let text = argument.to_string_lossy().into_owned();
            let (flag, inline) = match text.split_once('=') {
                Some((flag, value)) => (flag.to_owned(), Some(OsString::from(value))),
                None => (text, None),
            };
            let slot = match flag.as_str() {
                "--socket-path" => &mut socket_path,
                "--auth-secret" => &mut secret,
                "--data-dir" => &mut data_dir,
                OLDER_HOSTS => &mut passed_over,
                _ => return Err(UsageError::Unknown(flag)),
            };
            let value = inline.or_else(|| arguments.next()).ok_or(UsageError::NoValue(flag))?;
            *slot = Some(value);
        }
        let secret = secret.ok_or(UsageError::Missing("--auth-secret"))?;
        let secret =
            secret.into_string().ok().filter(|text| !text.is_empty()).ok_or(UsageError::BadSecret)?;
        Ok(Self {
            socket_path: socket_path.ok_or(UsageError::Missing("--socket-path"))?.into(),
            secret: Secret::new(secret),
            data_dir: data_dir.ok_or(UsageError::Missing("--data-dir"))?.into(),
            environment,
        })
    }
}

impl Environment {
    /// Reads this process's environment.
    pub(crate) fn read() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        Self {
            api_version: text("TEMPS_API_VERSION"),
            features: text("TEMPS_FEATURES").map(|list| Feature::parse_list(&list)).unwrap_or_default(),
            plugin_name: text("TEMPS_PLUGIN_NAME"),
            database_url: text("TEMPS_DATABASE_URL"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Launch, UsageError> {
        Launch::parse(line.split_whitespace().map(OsString::from), Environment::default())
    }

    #[test]
    fn the_articles_command_line_is_read() {
        let launch = parse("--socket-path /run/x.sock --auth-secret s3 --data-dir /var/lib/x/").unwrap();
        assert_eq!(launch.socket_path, PathBuf::from("/run/x.sock"));
        assert_eq!(launch.data_dir, PathBuf::from("/var/lib/x/"));
        assert!(launch.secret.matches("s3"));
    }

    #[test]
    fn what_older_hosts_give_is_passed_over_wherever_it_stands() {
        for database in ["--database-url postgres://u:p@h/d", "--database-url=postgres://u:p@h/d"] {
            let launch =
                parse(&format!("{database} --socket-path=/s --auth-secret a=b --data-dir /d")).unwrap();
            assert_eq!(launch.socket_path, PathBuf::from("/s"));
            assert!(launch.secret.matches("a=b"));
            assert_eq!(launch.environment.database_url, None);
        }
    }

    #[test]
    fn unknown_arguments_are_refused() {
        for unknown in ["--verbose", "--new=x", "word"] {
            let line = format!("--socket-path /s --auth-secret a --data-dir /d {unknown}");
            assert!(parse(&line).unwrap_err().to_string().starts_with("unknown argument"), "{unknown}");
        }
    }

    #[test]
    fn a_start_by_hand_is_told_what_this_is() {
        let message = parse("").unwrap_err().to_string();
        assert!(message.contains("temps plugin list") && message.contains("plugins directory"), "{message}");
        assert_eq!(parse("--auth-secret").unwrap_err(), UsageError::NoValue("--auth-secret".into()));
        assert_eq!(parse("--auth-secret s --data-dir d").unwrap_err(), UsageError::Missing("--socket-path"));
        assert_eq!(parse("--auth-secret= --data-dir d").unwrap_err(), UsageError::BadSecret);
    }

    #[test]
    fn the_secret_is_not_in_what_is_logged() {
        let launch = parse("--socket-path /s --auth-secret hunter2 --data-dir /d").unwrap();
        assert!(!format!("{launch:?}").contains("hunter2"));
    }
}
