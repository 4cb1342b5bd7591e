//! What texts of a request may be: slugs, names, URLs, and their bounds.

use super::Refusal;

/// Longest slug in characters: it is a label of host names elsewhere.
pub(super) const MAX_SLUG: usize = 63;

/// Longest name of a project or environment in characters.
pub const MAX_NAME: usize = 100;

/// Longest text of a deployment (branch, tag, author, reporter's id) in characters.
pub(super) const MAX_WORD: usize = 200;

/// Longest message (commit, error) that is kept, in characters; the rest is cut off.
pub(super) const MAX_MESSAGE: usize = 1000;

/// Longest URL in bytes; browsers and servers agree on about this much.
const MAX_URL: usize = 2048;

/// Whether `text` is a slug: lower-case letters, digits and inner hyphens, and not only digits (those are ids).
pub(super) fn is_slug(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_SLUG
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.bytes().all(|b| b.is_ascii_digit())
}

/// The slug that is nearest to a name; empty when nothing of the name can stay.
pub(super) fn slug_of(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() >= MAX_SLUG {
            break;
        }
    }
    slug.trim_end_matches('-').to_owned()
}

/// Checks a slug and says what would be right.
pub(super) fn check_slug(field: &'static str, text: &str) -> Result<(), Refusal> {
    if is_slug(text) {
        return Ok(());
    }
    let nearest = slug_of(text);
    let hint = if is_slug(&nearest) { format!("; try {nearest:?}") } else { String::new() };
    let message = format!(
        "{:?} is not a slug: 1 to {MAX_SLUG} lower-case letters, digits and inner hyphens, not only digits{hint}",
        shortened(text)
    );
    Err(Refusal::Invalid { field, message })
}

/// Checks a text that must have something in it, fit, and be printable.
pub(super) fn check_text(field: &'static str, text: &str, max: usize) -> Result<(), Refusal> {
    let length = text.chars().count();
    let message = if text.trim().is_empty() {
        "must not be empty".to_owned()
    } else if length > max {
        format!("has {length} characters; at most {max} are allowed")
    } else if text.chars().any(char::is_control) {
        "must not have control characters".to_owned()
    } else {
        return Ok(());
    };
    Err(Refusal::Invalid { field, message })
}

/// Checks a URL that browsers open and the daemon may probe.
pub(super) fn check_url(text: &str) -> Result<(), Refusal> {
    let wrong = |message: &str| Err(Refusal::Invalid { field: "url", message: message.to_owned() });
    if text.len() > MAX_URL {
        return wrong("has more than 2048 bytes");
    }
    match reqwest::Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => wrong("must begin with http:// or https://"),
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            wrong("must not carry a user name or a password")
        }
        Ok(url) if url.host().is_some() => Ok(()),
        _ => wrong("is not a URL like \"https://shop.example.com/\""),
    }
}

/// The first line of a message, cut to what is kept.
pub(super) fn first_line(text: &str) -> String {
    cut(text.lines().next().unwrap_or_default())
}

/// A message without characters that would garble a terminal, cut to what is kept.
pub(super) fn cut(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE).collect()
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slugs_are_told_from_ids_and_from_names() {
        for good in ["shop", "my-app", "a", "2fast", "x-1"] {
            assert!(is_slug(good), "{good}");
        }
        for bad in ["", "42", "My-App", "-a", "a-", "a_b", "a b", "ä"] {
            assert!(!is_slug(bad), "{bad}");
        }
        let refusal = check_slug("project", "My App!").unwrap_err().to_string();
        assert!(refusal.contains("try \"my-app\""), "{refusal}");
    }

    #[test]
    fn only_web_addresses_without_credentials_are_urls() {
        for good in ["http://127.0.0.1:3000/", "https://shop.example.com/a?b=c"] {
            assert!(check_url(good).is_ok(), "{good}");
        }
        for bad in ["", "shop", "file:///etc/passwd", "gopher://a/", "http://u:p@a.example/", "http://"] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_made_slug_is_a_slug_or_nothing_usable(name in "\\PC{0,80}") {
            let slug = slug_of(&name);
            prop_assert!(slug.is_empty() || is_slug(&slug) || slug.bytes().all(|b| b.is_ascii_digit()));
        }
    }
}
