//! The first message of a TLS client: for which host is it meant? Pure.
//!
//! The parser is strict: what it does not understand whole is refused, because a server might understand it otherwise. It reads
//! nothing but the name. The rest of the conversation is encrypted from end to end and is nobody's business here.

/// Longest beginning of a connection that is looked at, in bytes. Hellos with post-quantum keys have about 2 KiB.
pub(super) const MAX_HELLO_BYTES: usize = 16 * 1024;

/// Longest content of one record, in bytes, as TLS says.
const MAX_RECORD: usize = 1 << 14;

/// Most records that a hello comes in. Clients use one or a few; looking at thousands of crumbs again with each byte that comes
/// would be work that a plugin makes for the host.
const MAX_RECORDS: usize = 64;

/// Longest name in a hello, in bytes; longer ones do not exist.
const MAX_NAME: usize = 253;

const RECORD_HANDSHAKE: u8 = 22;
const MESSAGE_CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ENCRYPTED_HELLO: [u16; 2] = [0xfe0d, 0xffce];
const NAME_OF_HOST: u8 = 0;

/// What a beginning of a connection says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hello {
    /// It is not whole; read more.
    More,
    /// It is meant for this host, in lower case.
    For(String),
}

/// Why a beginning of a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HelloError {
    #[error("it does not begin with TLS")]
    NotTls,
    #[error("its TLS hello cannot be read")]
    Malformed,
    #[error("its TLS hello is longer than {MAX_HELLO_BYTES} bytes")]
    TooLong,
    #[error("its TLS hello comes in more than {MAX_RECORDS} records")]
    Crumbs,
    #[error("its TLS hello names no host")]
    NoName,
    #[error("its TLS hello hides the host (encrypted client hello)")]
    Hidden,
}

/// Reads the beginning of a connection, as far as it has come.
pub(super) fn read(bytes: &[u8]) -> Result<Hello, HelloError> {
    let Some(message) = gather(bytes)? else {
        return if bytes.len() >= MAX_HELLO_BYTES { Err(HelloError::TooLong) } else { Ok(Hello::More) };
    };
    let mut body = Reader(&message);
    let (extensions, rest) = client_hello(&mut body).ok_or(HelloError::Malformed)?;
    if !rest.is_empty() {
        return Err(HelloError::Malformed);
    }
    name_of(extensions).map(Hello::For)
}

/// The body of the first message, put together from its records; `None` while it is not whole.
fn gather(bytes: &[u8]) -> Result<Option<Vec<u8>>, HelloError> {
    let (mut records, mut message, mut count) = (Reader(bytes), Vec::new(), 0);
    while let Some(kind) = records.byte() {
        count += 1;
        if count > MAX_RECORDS {
            return Err(HelloError::Crumbs);
        }
        // The version in a record's head has been 3.1 to 3.3, and means nothing since.
        if kind != RECORD_HANDSHAKE || records.byte().is_some_and(|major| major != 3) {
            return Err(HelloError::NotTls);
        }
        let Some(length) = records.byte().and_then(|_minor| records.number(2)) else { return Ok(None) };
        if length == 0 || length > MAX_RECORD {
            return Err(HelloError::Malformed);
        }
        let part = records.0.get(..length.min(records.0.len())).unwrap_or_default();
        message.extend_from_slice(part);
        let wanted = match message[..] {
            [] | [_] | [_, _] | [_, _, _] => None,
            [kind, a, b, c, ..] if kind == MESSAGE_CLIENT_HELLO => {
                Some(usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c))
            }
            _ => return Err(HelloError::NotTls),
        };
        if let Some(wanted) = wanted {
            if wanted > MAX_HELLO_BYTES {
                return Err(HelloError::TooLong);
            }
            // A message behind it in the same record would be a second one before the server has answered.
            if message.len() > wanted + 4 {
                return Err(HelloError::Malformed);
            }
            if message.len() == wanted + 4 {
                return Ok(Some(message.split_off(4)));
            }
        }
        if part.len() < length {
            return Ok(None);
        }
        records.0 = records.0.get(length..).unwrap_or_default();
    }
    Ok(None)
}

/// The extensions of a hello, and what stands behind them.
fn client_hello<'a>(body: &mut Reader<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let _version = body.take(2)?;
    let _random = body.take(32)?;
    let session = body.vector(1)?;
    let suites = body.vector(2)?;
    let compressions = body.vector(1)?;
    if session.len() > 32 || suites.is_empty() || suites.len() % 2 != 0 || compressions.is_empty() {
        return None;
    }
    let extensions = if body.0.is_empty() { &[][..] } else { body.vector(2)? };
    Some((extensions, body.0))
}

fn name_of(extensions: &[u8]) -> Result<String, HelloError> {
    let (mut all, mut name) = (Reader(extensions), None);
    while !all.0.is_empty() {
        let kind = all.number(2).and_then(|kind| u16::try_from(kind).ok()).ok_or(HelloError::Malformed)?;
        let content = all.vector(2).ok_or(HelloError::Malformed)?;
        if EXTENSION_ENCRYPTED_HELLO.contains(&kind) {
            return Err(HelloError::Hidden);
        }
        if kind == EXTENSION_SERVER_NAME {
            // Which of two a server takes is the server's choice.
            if name.is_some() {
                return Err(HelloError::Malformed);
            }
            name = Some(single_name(content).ok_or(HelloError::Malformed)?);
        }
    }
    name.ok_or(HelloError::NoName)
}

/// The list of names, which must hold one.
fn single_name(content: &[u8]) -> Option<String> {
    let mut content = Reader(content);
    let mut list = Reader(content.vector(2)?);
    let kind = list.byte()?;
    let name = list.vector(2)?;
    let good = kind == NAME_OF_HOST
        && list.0.is_empty()
        && content.0.is_empty()
        && !name.is_empty()
        && name.len() <= MAX_NAME
        && name.iter().all(|b| b.is_ascii_graphic());
    good.then(|| String::from_utf8_lossy(name).to_ascii_lowercase())
}

/// Bytes that are taken from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (front, back) = self.0.split_at_checked(length)?;
        self.0 = back;
        Some(front)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).and_then(|bytes| bytes.first().copied())
    }

    fn number(&mut self, length: usize) -> Option<usize> {
        Some(self.take(length)?.iter().fold(0, |all, byte| all << 8 | usize::from(*byte)))
    }

    /// A list of bytes behind its length, which has so many bytes itself.
    fn vector(&mut self, length: usize) -> Option<&'a [u8]> {
        let length = self.number(length)?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// What a real client sends first.
    fn real(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = name.to_owned().try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut sent = Vec::new();
        client.write_tls(&mut sent).unwrap();
        sent
    }

    fn vector(length: usize, content: &[u8]) -> Vec<u8> {
        let all = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&all[4 - length..], content].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vector(2, content)].concat()
    }

    fn names(names: &[&str]) -> Vec<u8> {
        let list: Vec<u8> =
            names.iter().flat_map(|name| [vec![NAME_OF_HOST], vector(2, name.as_bytes())].concat()).collect();
        extension(EXTENSION_SERVER_NAME, &vector(2, &list))
    }

    fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend(vector(1, &[]));
        body.extend(vector(2, &[0x13, 0x01]));
        body.extend(vector(1, &[0]));
        body.extend(vector(2, &extensions.concat()));
        [vec![MESSAGE_CLIENT_HELLO], vector(3, &body)].concat()
    }

    fn record(content: &[u8]) -> Vec<u8> {
        [&[RECORD_HANDSHAKE, 3, 1][..], &vector(2, content)].concat()
    }

    fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
        record(&message(extensions))
    }

    fn named(name: &str) -> Result<Hello, HelloError> {
        Ok(Hello::For(name.to_owned()))
    }

    #[test]
    fn the_name_of_a_real_hello_is_found_however_it_arrives() {
        let sent = real("Hooks.Slack.com");
        assert_eq!(read(&sent), named("hooks.slack.com"));
        for until in 0..sent.len() {
            assert_eq!(read(&sent[..until]), Ok(Hello::More), "{until}");
        }
        let early = [&sent[..], &[RECORD_HANDSHAKE + 1, 3, 3, 0, 1, 0]].concat();
        assert_eq!(read(&early), named("hooks.slack.com"));
        for size in [3, 50] {
            let whole = message(&[names(&["a.example"])]);
            let split: Vec<u8> = whole.chunks(size).flat_map(record).collect();
            assert_eq!(read(&split), named("a.example"), "records of {size}");
        }
    }

    #[test]
    fn a_hello_that_could_be_read_in_two_ways_is_refused() {
        let twice = [names(&["a.example"]), names(&["b.example"])];
        assert_eq!(read(&hello(&twice)), Err(HelloError::Malformed));
        assert_eq!(read(&hello(&[names(&["a.example", "b.example"])])), Err(HelloError::Malformed));
        assert_eq!(read(&hello(&[names(&[])])), Err(HelloError::Malformed));
        assert_eq!(read(&hello(&[names(&["a.exa\0mple"])])), Err(HelloError::Malformed));
        assert_eq!(read(&hello(&[names(&[""])])), Err(HelloError::Malformed));
        let two_messages = [message(&[names(&["a.example"])]), message(&[names(&["b.example"])])].concat();
        assert_eq!(read(&record(&two_messages)), Err(HelloError::Malformed));
        let mut long = message(&[names(&["a.example"])]);
        long[3] -= 1;
        assert_eq!(read(&record(&long)), Err(HelloError::Malformed));
    }

    #[test]
    fn a_name_is_taken_as_clients_write_it_and_in_no_other_form() {
        let label = "a".repeat(63);
        let longest = [&label[..], &label, &label, &label[2..]].join(".");
        for (written, found) in [
            ("Hooks.SLACK.com", "hooks.slack.com"),
            ("hooks.slack.com.", "hooks.slack.com."),
            ("XN--bcher-kva.example", "xn--bcher-kva.example"),
            ("45.90.28.10", "45.90.28.10"),
            (&longest, &longest),
        ] {
            assert_eq!(read(&hello(&[names(&[written])])), named(found));
        }
        for odd in ["b\u{fc}cher.example", "a .example", "a.example\n", "a.example\0", &"a".repeat(254)] {
            assert_eq!(read(&hello(&[names(&[odd])])), Err(HelloError::Malformed), "{odd:?}");
        }
        // A name of a kind that nobody knows.
        let other =
            extension(EXTENSION_SERVER_NAME, &vector(2, &[&[1][..], &vector(2, b"a.example")].concat()));
        assert_eq!(read(&hello(&[other])), Err(HelloError::Malformed));
    }

    #[test]
    fn a_name_that_is_missing_or_hidden_is_refused() {
        assert_eq!(read(&hello(&[])), Err(HelloError::NoName));
        for hidden in EXTENSION_ENCRYPTED_HELLO {
            // The name outside may well be one that was granted.
            for order in [[0, 1], [1, 0]] {
                let both = [names(&["a.example"]), extension(hidden, &[0])];
                assert_eq!(read(&hello(&order.map(|at| both[at].clone()))), Err(HelloError::Hidden));
            }
        }
    }

    #[test]
    fn what_is_not_tls_is_refused_at_its_first_bytes() {
        for other in [&b"GET / HTTP/1.1"[..], b"SSH-2.0-x", &[0x16, 2], &[0x80, 0x2e, 1], &[21, 3, 1]] {
            assert_eq!(read(other), Err(HelloError::NotTls), "{other:?}");
        }
        assert_eq!(read(&record(&[2, 0, 0, 1, 0])), Err(HelloError::NotTls));
        assert_eq!(read(&[0x16, 3, 1, 0, 0]), Err(HelloError::Malformed));
    }

    #[test]
    fn a_hello_without_an_end_is_given_up() {
        assert_eq!(read(&record(&[1, 0xff, 0xff, 0xff])), Err(HelloError::TooLong));
        let crumbs: Vec<Vec<u8>> =
            message(&[names(&["a.example"])]).iter().map(|byte| record(&[*byte])).collect();
        assert_eq!(read(&crumbs[..MAX_RECORDS].concat()), Ok(Hello::More));
        assert_eq!(read(&crumbs[..=MAX_RECORDS].concat()), Err(HelloError::Crumbs));
        let padded = hello(&[names(&["a.example"]), extension(21, &[0; MAX_HELLO_BYTES - 200])]);
        assert_eq!(read(&padded), named("a.example"));
        let whole = message(&[names(&["a.example"]), extension(21, &[0; 65_000])]);
        let huge: Vec<u8> = whole.chunks(MAX_RECORD).flat_map(record).collect();
        assert_eq!(read(&huge), Err(HelloError::TooLong));
        assert_eq!(read(&huge[..20]), Err(HelloError::TooLong), "it is not waited for");
        let endless = record(&[&[1, 0, 0x3f, 0xff][..], &[0; MAX_HELLO_BYTES - 9]].concat());
        assert_eq!(read(&endless), Err(HelloError::TooLong));
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_within_the_bounds_however_it_was_cut(
            name in "[a-zA-Z0-9.-]{1,300}", padding in 0_usize..20_000, size in 1_usize..MAX_RECORD
        ) {
            let whole = message(&[names(&[&name]), extension(21, &vec![0; padding])]);
            let records: Vec<Vec<u8>> = whole.chunks(size).map(record).collect();
            let sent = records.concat();
            // No more than this is ever looked at.
            let found = read(&sent[..sent.len().min(MAX_HELLO_BYTES)]);
            if sent.len() <= MAX_HELLO_BYTES && records.len() <= MAX_RECORDS && name.len() <= MAX_NAME {
                prop_assert_eq!(found, named(&name.to_ascii_lowercase()));
            } else {
                prop_assert!(found.is_err(), "{:?}", found);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = read(&bytes);
            let _ = read(&record(&bytes));
            let _ = read(&record(&[&[MESSAGE_CLIENT_HELLO][..], &vector(3, &bytes)].concat()));
        }

        #[test]
        fn a_damaged_hello_never_names_another_host_unless_the_name_itself_was_changed(
            at in 0_usize..200, to in any::<u8>()
        ) {
            let name = b"hooks.slack.com";
            let mut sent = real("hooks.slack.com");
            let start = sent.windows(name.len()).position(|part| part == name).unwrap();
            let at = at % sent.len();
            sent[at] = to;
            if !(start..start + name.len()).contains(&at) && let Ok(Hello::For(found)) = read(&sent) {
                prop_assert_eq!(found, "hooks.slack.com");
            }
        }
    }
}
