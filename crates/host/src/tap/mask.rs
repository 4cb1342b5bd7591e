//! Secrets are found and masked here, however they are written. Pure; it must not know where a text goes.

use std::borrow::Cow;

use serde_json::Value;

/// What stands in the place of a secret.
pub(super) const MASK: &str = "[masked]";

/// Shortest secret setting that is masked wherever it stands. Shorter ones (`1`, `on`) are part of everything, and are masked
/// only where their setting stands.
pub(super) const SHORTEST_MASKED: usize = 4;

/// Words in the names of headers, parameters and fields whose values are secrets, without hyphens and underscores.
const SECRET_NAMES: [&str; 12] = [
    "apikey",
    "authorization",
    "cookie",
    "credential",
    "csrf",
    "passwd",
    "password",
    "privatekey",
    "secret",
    "session",
    "signature",
    "token",
];

/// Schemes of the header Authorization whose credentials are masked wherever they stand.
const SCHEMES: [&str; 2] = ["bearer ", "basic "];

/// Whether what has this name is a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    let folded: String =
        name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    SECRET_NAMES.iter().any(|word| folded.contains(word))
}

/// A text that may be JSON, without secrets: JSON is looked through value by value, so that no way to write a character hides
/// one. What holds no secret stays exactly as it was.
pub(super) fn text(text: &str, secrets: &[String], more: impl FnOnce(&mut Value)) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(text) else {
        return plain(text, secrets).into_owned();
    };
    let before = value.clone();
    json(&mut value, secrets);
    more(&mut value);
    if value == before { text.to_owned() } else { value.to_string() }
}

/// A text of any kind without secrets, also where they are percent-encoded, or escaped for JSON or HTML.
pub(super) fn plain<'a>(text: &'a str, secrets: &[String]) -> Cow<'a, str> {
    let mut masked = Cow::Borrowed(text);
    for secret in secrets {
        for written in ways_to_write(secret) {
            if masked.contains(&written) {
                masked = masked.replace(&written, MASK).into();
            }
        }
    }
    if masked.contains('%') || masked.contains('\\') {
        masked = encoded(&masked, secrets).into();
    }
    credentials(masked)
}

fn ways_to_write(secret: &str) -> Vec<String> {
    let json = Value::from(secret).to_string();
    let html = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let mut ways = vec![secret.to_owned(), json[1..json.len() - 1].to_owned(), html];
    ways.dedup();
    ways
}

/// Words in which a secret shows once they are decoded.
fn encoded(text: &str, secrets: &[String]) -> String {
    let ends_word = |c: char| c.is_whitespace() || matches!(c, '&' | '"' | '<' | '>' | '=' | '?' | '\'');
    let hides = |word: &str| {
        let percent = decoded(word);
        let json = serde_json::from_str::<String>(&format!("\"{word}\"")).unwrap_or_default();
        secrets.iter().any(|secret| percent.contains(secret) || json.contains(secret))
    };
    text.split_inclusive(ends_word)
        .map(|piece| {
            let word = piece.trim_end_matches(ends_word);
            if hides(word) { Cow::Owned(format!("{MASK}{}", &piece[word.len()..])) } else { piece.into() }
        })
        .collect()
}

fn decoded(word: &str) -> String {
    let bytes = word.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What follows the name of an authentication scheme.
fn credentials(text: Cow<'_, str>) -> Cow<'_, str> {
    let lower = text.to_ascii_lowercase();
    let in_token = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    let mut found: Vec<(usize, usize)> = SCHEMES
        .iter()
        .flat_map(|scheme| lower.match_indices(scheme).map(|(at, _)| at + scheme.len()))
        .map(|begin| (begin, begin + text[begin..].find(|c| !in_token(c)).unwrap_or(text.len() - begin)))
        .filter(|(begin, end)| end - begin >= 8)
        .collect();
    if found.is_empty() {
        return text;
    }
    found.sort_unstable();
    let mut masked = text.into_owned();
    for (begin, end) in found.into_iter().rev() {
        masked.replace_range(begin..end, MASK);
    }
    masked.into()
}

/// A path, whose parameters have names.
pub(super) fn path(path: &str, secrets: &[String]) -> String {
    let Some((before, query)) = path.split_once('?') else { return plain(path, secrets).into_owned() };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_secret_name(&decoded(name)) => format!("{name}={MASK}"),
        _ => pair.to_owned(),
    });
    plain(&format!("{before}?{}", pairs.collect::<Vec<_>>().join("&")), secrets).into_owned()
}

/// Secrets in a JSON value, wherever they stand.
pub(super) fn json(value: &mut Value, secrets: &[String]) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(masked) = plain(text, secrets) {
                *text = masked;
            }
        }
        Value::Number(number) if secrets.contains(&number.to_string()) => *value = MASK.into(),
        Value::Array(values) => values.iter_mut().for_each(|value| json(value, secrets)),
        Value::Object(values) => {
            let kept = std::mem::take(values);
            for (name, mut inner) in kept {
                json(&mut inner, secrets);
                values.insert(plain(&name, secrets).into_owned(), inner);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Fields of a body that are secrets by their names.
pub(super) fn secret_fields(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(secret_fields),
        Value::Object(values) => {
            for (name, inner) in values.iter_mut() {
                match inner {
                    Value::String(text) if is_secret_name(name) => *text = MASK.into(),
                    inner => secret_fields(inner),
                }
            }
        }
        _ => {}
    }
}

/// Secrets in bytes that are no text.
pub(super) fn bytes(bytes: &[u8], secrets: &[String]) -> Vec<u8> {
    let mut masked = bytes.to_vec();
    for secret in secrets.iter().map(|secret| secret.as_bytes()) {
        let mut from = 0;
        // Behind the mask, which may hold a secret like `mask` itself.
        while let Some(at) = masked[from..].windows(secret.len()).position(|window| window == secret) {
            masked.splice(from + at..from + at + secret.len(), MASK.bytes());
            from += at + MASK.len();
        }
    }
    masked
}

/// How many bytes at the end may be the beginning of a secret that was cut there.
pub(super) fn begun_at_the_end(bytes: &[u8], secrets: &[String]) -> usize {
    // Percent-encoded, each byte of a secret has three; escaped for JSON, six.
    let longest = secrets.iter().map(|secret| secret.len() * 6).max().unwrap_or(0).min(bytes.len());
    let tail = &bytes[bytes.len() - longest..];
    let ways: Vec<String> = secrets.iter().flat_map(|secret| ways_to_write(secret)).collect();
    // Most places are told by one byte; to decode what follows each of them would take long.
    let may_begin = |byte: &u8| *byte == b'%' || ways.iter().any(|way| way.as_bytes().first() == Some(byte));
    let begins = |from: &[u8]| {
        let seen = decoded(&String::from_utf8_lossy(from));
        seen.len() >= 2 && ways.iter().any(|way| way.starts_with(&seen))
    };
    let at = (0..tail.len()).find(|&at| may_begin(&tail[at]) && begins(&tail[at..]));
    at.map_or(0, |at| tail.len() - at)
}
