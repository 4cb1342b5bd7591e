//! The head of a request to the proxy: `CONNECT name:port` and nothing else. Pure.

/// Longest head in bytes.
pub(super) const MAX_HEAD: usize = 8 * 1024;

/// What is said to a client that asked for something else.
pub(super) const NOT_CONNECT: &str = "this proxy knows CONNECT only; use https";

/// What a head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Head {
    /// It is not whole; read more.
    More,
    /// A connection is wanted; the head has so many bytes.
    Connect { name: String, port: u16, length: usize },
    /// It is no request that can be served.
    Bad,
}

/// Reads a head, as far as it has come. Names are not judged here but for what cannot be handed on.
pub(super) fn read(bytes: &[u8]) -> Head {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() >= MAX_HEAD { Head::Bad } else { Head::More };
    };
    connect(&bytes[..end]).map_or(Head::Bad, |(name, port)| Head::Connect { name, port, length: end + 4 })
}

fn connect(head: &[u8]) -> Option<(String, u16)> {
    let line = std::str::from_utf8(head.split(|b| *b == b'\r').next()?).ok()?;
    let words: Vec<&str> = line.split(' ').collect();
    let ["CONNECT", target, "HTTP/1.1" | "HTTP/1.0"] = words[..] else { return None };
    let (name, port) = target.rsplit_once(':')?;
    // An address of IPv6 stands in brackets.
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let good = digits && super::line::is_word(name);
    Some((name.to_owned(), port.parse().ok().filter(|port| good && *port > 0)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_connect_is_read_however_it_arrives() {
        let request = b"CONNECT hooks.slack.com:443 HTTP/1.1\r\nHost: other.example:1\r\n\r\n\x16\x03";
        let length = request.len() - 2;
        let wanted = Head::Connect { name: "hooks.slack.com".into(), port: 443, length };
        assert_eq!(read(request), wanted);
        for until in 0..length {
            assert_eq!(read(&request[..until]), Head::More, "{until}");
        }
        let six = read(b"CONNECT [::1]:443 HTTP/1.1\r\n\r\n");
        assert!(matches!(six, Head::Connect { name, port: 443, .. } if name == "::1"));
        // What is asked for goes to the host as it stands, which judges it.
        for (target, wanted) in [
            ("user@a.example:443", "user@a.example"),
            ("user:word@a.example:443", "user:word@a.example"),
            ("http://a.example:443", "http://a.example"),
            ("a.example:1:443", "a.example:1"),
            ("[::1:443", "[::1"),
            ("127.0.0.1:0443", "127.0.0.1"),
            ("A.Example.:443", "A.Example."),
        ] {
            let found = read(format!("CONNECT {target} HTTP/1.1\r\n\r\n").as_bytes());
            assert!(matches!(&found, Head::Connect { name, port: 443, .. } if name == wanted), "{found:?}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for line in [
            "GET http://a.example/ HTTP/1.1",
            "CONNECT a.example HTTP/1.1",
            "CONNECT a.example:0 HTTP/1.1",
            "CONNECT a.example:+443 HTTP/1.1",
            "CONNECT a.example:99999 HTTP/1.1",
            "CONNECT a.example:443 HTTP/2",
            "CONNECT  a.example:443 HTTP/1.1",
            "CONNECT a.example:443",
            "connect a.example:443 HTTP/1.1",
            "CONNECT a\nb:443 HTTP/1.1",
            "CONNECT \u{e4}.example:443 HTTP/1.1",
            "CONNECT :443 HTTP/1.1",
            "CONNECT a.example:65536 HTTP/1.1",
            "CONNECT a.example:-1 HTTP/1.1",
            "CONNECT a.example: HTTP/1.1",
            "CONNECT a.example:443 HTTP/1.1 ",
            "CONNECT a.example:443\tHTTP/1.1",
            " CONNECT a.example:443 HTTP/1.1",
            "POST / HTTP/1.1",
        ] {
            assert_eq!(read(format!("{line}\r\n\r\n").as_bytes()), Head::Bad, "{line}");
        }
        assert_eq!(read(&[b'a'; MAX_HEAD]), Head::Bad);
        assert_eq!(read(b"\xff\r\n\r\n"), Head::Bad);
        assert_eq!(read(format!("CONNECT {}:443 HTTP/1.1\r\n\r\n", "a".repeat(254)).as_bytes()), Head::Bad);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_accept_what_is_no_word(
            bytes in prop::collection::vec(any::<u8>(), 0..600), target in ".{0,300}"
        ) {
            let request = [b"CONNECT ", target.as_bytes(), b" HTTP/1.1\r\n\r\n", &bytes].concat();
            for bytes in [&bytes[..], &request] {
                if let Head::Connect { name, port, length } = read(bytes) {
                    prop_assert!(crate::egress::line::is_word(&name) && port > 0 && length <= bytes.len());
                }
            }
        }
    }
}
