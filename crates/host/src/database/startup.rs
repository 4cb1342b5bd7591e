//! The first words of a client of the relay: what they mean, and what of them may go on to the server.
//!
//! Pure: bytes go in, a decision comes out. The user and the database that a client names are not even looked at; the relay
//! puts its own in their place.

/// Longest first message in bytes, as PostgreSQL itself has it.
pub(super) const MAX_STARTUP: usize = 10_000;

/// The two halves of a request for encryption, and a request to cancel: numbers that no protocol version has.
const CANCEL: u32 = 80_877_102;
const TLS: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// The protocol that the relay speaks, whatever its minor version.
const MAJOR: u32 = 3;

/// What a client may set when it connects, in lower case. None of these gives a right or lifts a bound.
const ALLOWED: &[&str] = &[
    "application_name",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "extra_float_digits",
    "geqo",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "lock_timeout",
    "search_path",
    "standard_conforming_strings",
    "timezone",
];

/// What the relay puts its own values in the place of.
const REPLACED: [&str; 2] = ["user", "database"];

/// Proves that whoever cancels a statement is whoever began it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct CancelKey {
    pub(super) process: i32,
    pub(super) secret: i32,
}

/// What a client wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// To encrypt, which a socket of one machine does not need.
    Encryption,
    /// To cancel a statement of another connection.
    Cancel(CancelKey),
    /// A session.
    Session(Wishes),
}

/// What a client wants of its session.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// Settings that may go on to the server.
    pub(super) settings: Vec<(String, String)>,
    /// Options of the protocol that the relay does not have; `Some` (perhaps empty) when the client has to be told so.
    pub(super) unknown: Option<Vec<String>>,
}

/// Why a client is sent away.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// It does not speak the protocol.
    #[error("the first message is not one of PostgreSQL's protocol: {0}")]
    Malformed(&'static str),
    /// It speaks another one.
    #[error("protocol version {0} is not spoken here, use 3.0")]
    Version(u32),
    /// It wants the server's log of changes.
    #[error("replication is not given to plugins")]
    Replication,
    /// It wants to set what it may not.
    #[error(
        "{0:?} cannot be set when connecting; leave it out, and SET it once connected where that is allowed"
    )]
    Setting(String),
}

impl Refusal {
    /// PostgreSQL's code for it.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Refusal::Malformed(_) | Refusal::Version(_) => "08P01",
            Refusal::Replication => "42501",
            Refusal::Setting(_) => "22023",
        }
    }
}

/// Reads a first message, without the four bytes of its length.
pub(super) fn parse(body: &[u8]) -> Result<Request, Refusal> {
    let (code, rest) = number(body).ok_or(Refusal::Malformed("it is too short"))?;
    match code {
        TLS | GSS if rest.is_empty() => Ok(Request::Encryption),
        CANCEL => {
            let key = number(rest).and_then(|(process, rest)| Some((process, number(rest)?)));
            match key {
                Some((process, (secret, []))) => Ok(Request::Cancel(CancelKey {
                    process: process.cast_signed(),
                    secret: secret.cast_signed(),
                })),
                _ => Err(Refusal::Malformed("a cancel request has another length")),
            }
        }
        version if version >> 16 == MAJOR => session(rest, version & 0xffff),
        other => Err(Refusal::Version(other >> 16)),
    }
}

fn session(body: &[u8], minor: u32) -> Result<Request, Refusal> {
    let mut wishes = Wishes { unknown: (minor > 0).then(Vec::new), ..Wishes::default() };
    let mut words = body.split(|byte| *byte == 0);
    loop {
        let name = words.next().ok_or(Refusal::Malformed("it ends too early"))?;
        if name.is_empty() {
            break;
        }
        let value = words.next().ok_or(Refusal::Malformed("a setting has no value"))?;
        let (name, value) = (text(name)?, text(value)?);
        let lower = name.to_ascii_lowercase();
        if name.starts_with("_pq_.") {
            wishes.unknown.get_or_insert_default().push(name);
        } else if lower == "replication" {
            if !["false", "off", "no", "0"].contains(&value.to_ascii_lowercase().as_str()) {
                return Err(Refusal::Replication);
            }
        } else if ALLOWED.contains(&lower.as_str()) {
            wishes.settings.push((name, value));
        } else if lower == "options" && value.trim().is_empty() || REPLACED.contains(&lower.as_str()) {
            // An empty list of options asks for nothing.
        } else {
            return Err(Refusal::Setting(name.chars().take(60).collect()));
        }
    }
    // The zero that ends the list leaves one empty word behind it.
    match (words.next(), words.next()) {
        (Some([]), None) => Ok(Request::Session(wishes)),
        _ => Err(Refusal::Malformed("something follows its end")),
    }
}

fn text(bytes: &[u8]) -> Result<String, Refusal> {
    String::from_utf8(bytes.to_owned()).map_err(|_| Refusal::Malformed("a setting is not UTF-8"))
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*number), rest))
}

impl std::fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelKey").field("process", &self.process).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(version: u32, pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut body = version.to_be_bytes().to_vec();
        for (name, value) in pairs {
            body.extend([name.as_bytes(), &[0], value.as_bytes(), &[0]].concat());
        }
        body.push(0);
        body
    }

    const V3: u32 = 3 << 16;

    #[test]
    fn the_user_and_the_database_that_a_client_names_do_not_go_on() {
        let body = message(V3, &[("user", "postgres"), ("Database", "host"), ("TimeZone", "UTC")]);
        let Ok(Request::Session(wishes)) = parse(&body) else { panic!("it is a session") };
        assert_eq!(wishes.settings, [("TimeZone".to_owned(), "UTC".to_owned())]);
        assert_eq!(wishes.unknown, None);
    }

    #[test]
    fn what_gives_a_right_or_lifts_a_bound_is_refused() {
        for name in
            ["options", "role", "session_authorization", "statement_timeout", "STATEMENT_TIMEOUT", "x"]
        {
            let refused = parse(&message(V3, &[("user", "a"), (name, "-c statement_timeout=0")]));
            assert_eq!(refused, Err(Refusal::Setting(name.to_owned())), "{name}");
        }
        for value in ["true", "database", "on", "1", ""] {
            assert_eq!(parse(&message(V3, &[("replication", value)])), Err(Refusal::Replication));
        }
        assert!(parse(&message(V3, &[("replication", "false"), ("options", " ")])).is_ok());
    }

    #[test]
    fn newer_protocols_are_told_what_is_not_there_and_older_ones_refused() {
        let Ok(Request::Session(wishes)) = parse(&message(V3 + 2, &[("_pq_.x", "1")])) else { panic!() };
        assert_eq!(wishes.unknown, Some(vec!["_pq_.x".to_owned()]));
        assert_eq!(parse(&message(2 << 16, &[])), Err(Refusal::Version(2)));
    }

    #[test]
    fn requests_without_a_session_are_known() {
        assert_eq!(parse(&TLS.to_be_bytes()), Ok(Request::Encryption));
        assert_eq!(parse(&GSS.to_be_bytes()), Ok(Request::Encryption));
        let cancel = [CANCEL.to_be_bytes(), 7u32.to_be_bytes(), u32::MAX.to_be_bytes()].concat();
        assert_eq!(parse(&cancel), Ok(Request::Cancel(CancelKey { process: 7, secret: -1 })));
        assert!(parse(&cancel[..11]).is_err());
    }

    proptest! {
        #[test]
        fn no_first_message_breaks_the_reader(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&body);
        }

        #[test]
        fn nothing_but_allowed_settings_goes_on(
            pairs in prop::collection::vec(("[a-zA-Z_.]{1,12}", "[^\0]{0,8}"), 0..6),
            allowed in prop::sample::subsequence(ALLOWED.to_vec(), 0..4),
        ) {
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
                .chain(allowed.iter().map(|name| (*name, "v"))).collect();
            if let Ok(Request::Session(wishes)) = parse(&message(V3, &pairs)) {
                for (name, _) in wishes.settings {
                    prop_assert!(ALLOWED.contains(&name.to_ascii_lowercase().as_str()));
                }
            }
        }
    }
}
