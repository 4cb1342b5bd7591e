//! Where a database is: a file, or a PostgreSQL server by URL. An address may hold a password, so it is shown masked
//! wherever it is shown.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Longest address in bytes; more is no address.
const MAX_LEN: usize = 4096;

/// Where the database is.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseAddress {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL server and a database on it.
    Postgres(PostgresUrl),
}

/// A `postgres://` URL. Its password is in no `Debug` and no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(String);

/// Why a text is no address of a database. It does not repeat the text, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It begins with no scheme that is known.
    #[error(
        "it must begin with postgres://, postgresql:// or sqlite:, for example postgres://temps@db.example.com/temps"
    )]
    Scheme,
    /// There is nothing behind the scheme.
    #[error("there is nothing behind its scheme; for example sqlite:/var/lib/temps/temps.db")]
    Empty,
    /// It is longer than any address.
    #[error("it is longer than 4096 bytes")]
    TooLong,
    /// It has control characters or spaces.
    #[error("it has spaces or control characters; write them as %20 and so on")]
    Characters,
}

impl FromStr for DatabaseAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.len() > MAX_LEN {
            return Err(AddressError::TooLong);
        }
        if let Some(path) = text.strip_prefix("sqlite:") {
            // Both forms are usual: sqlite:/path and sqlite:///path.
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(AddressError::Empty) } else { Ok(Self::Sqlite(path.into())) };
        }
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        match rest {
            None => Err(AddressError::Scheme),
            Some("") => Err(AddressError::Empty),
            Some(rest) if rest.chars().any(|c| c.is_control() || c.is_whitespace()) => {
                Err(AddressError::Characters)
            }
            Some(_) => Ok(Self::Postgres(PostgresUrl(text.to_owned()))),
        }
    }
}

impl PostgresUrl {
    /// The URL with its password, for whoever connects. It must not be shown.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the URL holds a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.masked() != self.0
    }

    /// The URL without its password, for people.
    #[must_use]
    pub fn masked(&self) -> String {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("postgres", &self.0));
        let (base, query) = rest.split_once('?').unwrap_or((rest, ""));
        // The last @ ends the user's part: a password that was not encoded may hold one.
        let base = match base.rsplit_once('@') {
            Some((user, place)) => match user.split_once(':') {
                Some((user, _)) => format!("{user}:***@{place}"),
                None => base.to_owned(),
            },
            None => base.to_owned(),
        };
        let shown: Vec<_> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| match pair.split_once('=') {
                Some((name, _)) if name.contains("pass") => format!("{name}=***"),
                _ => pair.to_owned(),
            })
            .collect();
        let query = if shown.is_empty() { String::new() } else { format!("?{}", shown.join("&")) };
        format!("{scheme}://{base}{query}")
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({})", self.masked())
    }
}

impl fmt::Display for DatabaseAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres(url) => write!(f, "{url}"),
        }
    }
}

impl fmt::Debug for DatabaseAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Postgres(url) => f.debug_tuple("Postgres").field(url).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_shown_nowhere() {
        for text in [
            "postgres://temps:hunter2@db.example.com:5433/temps?sslmode=verify-full",
            "postgresql://temps:hun@hunter2@db/temps",
            "postgres://temps:hunter2@%2Frun%2Fpostgresql/temps",
            "postgres://db/temps?user=temps&password=hunter2&sslmode=require",
        ] {
            let address: DatabaseAddress = text.parse().unwrap();
            for shown in [format!("{address}"), format!("{address:?}")] {
                assert!(!shown.contains("hunter2"), "{shown}");
                assert!(shown.contains("***") && shown.contains("temps"), "{shown}");
            }
        }
        let plain: DatabaseAddress = "postgres://temps@db/temps?sslmode=require".parse().unwrap();
        assert_eq!(plain.to_string(), "postgres://temps@db/temps?sslmode=require");
        let has_password = |address: &DatabaseAddress| matches!(address, DatabaseAddress::Postgres(url) if url.has_password());
        assert!(!has_password(&plain) && has_password(&"postgres://temps:hunter2@db/temps".parse().unwrap()));
    }

    #[test]
    fn an_address_is_a_file_or_a_server_and_anything_else_is_refused_with_words() {
        let file = |path: &str| Ok(DatabaseAddress::Sqlite(path.into()));
        assert_eq!("sqlite:/var/lib/temps.db".parse(), file("/var/lib/temps.db"));
        assert_eq!("sqlite:///var/lib/temps.db".parse(), file("/var/lib/temps.db"));
        let refused = |text: &str| text.parse::<DatabaseAddress>().unwrap_err();
        assert_eq!(refused("mysql://db/temps"), AddressError::Scheme);
        assert_eq!(refused("/var/lib/temps.db"), AddressError::Scheme);
        assert_eq!(refused("postgres://"), AddressError::Empty);
        assert_eq!(refused("sqlite:"), AddressError::Empty);
        assert_eq!(refused("postgres://a b/c"), AddressError::Characters);
        assert_eq!(refused(&format!("postgres://{}", "a".repeat(5_000))), AddressError::TooLong);
    }
}
