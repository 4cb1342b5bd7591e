//! Plugin names: what one looks like, and which are taken by the host itself.

use serde::{Deserialize, Serialize};

/// The longest plugin name, in characters. A name is part of host names, paths and socket paths.
pub const MAX_NAME_LENGTH: usize = 63;

/// Names that no plugin may have, because they are (or may become) paths and words of the host itself.
pub const RESERVED_NAMES: &[&str] = &[
    "api", "admin", "auth", "console", "events", "health", "host", "login", "logout", "metrics", "platform",
    "plugin", "plugins", "system", "temps", "ui",
];

/// A name that was checked: `[a-z][a-z0-9-]{0,62}`, not ending in a hyphen, not reserved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct PluginName(
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$")))] String,
);

/// Why a text cannot be a plugin name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is empty.
    #[error("the name is empty; use 1 to 63 lower-case letters, digits and hyphens, beginning with a letter")]
    Empty,
    /// The name is longer than [`MAX_NAME_LENGTH`].
    #[error("the name has {0} characters; at most 63 are allowed")]
    TooLong(usize),
    /// A character is not allowed at its place.
    #[error(
        "the name {name:?} has {found:?} at position {position}; use lower-case letters, digits and inner hyphens, beginning with a letter"
    )]
    BadCharacter {
        /// The refused name.
        name: String,
        /// The first character that is not allowed.
        found: char,
        /// Where it stands, counted from 1.
        position: usize,
    },
    /// The host keeps this name for itself.
    #[error("the name {0:?} is kept for the host; choose another one")]
    Reserved(String),
}

impl PluginName {
    /// Checks `text` and makes it a name.
    ///
    /// # Errors
    /// [`NameError`] says which rule the text breaks.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        check(&text)?;
        Ok(Self(text))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    let length = text.chars().count();
    if length > MAX_NAME_LENGTH {
        return Err(NameError::TooLong(length));
    }
    for (index, found) in text.chars().enumerate() {
        let allowed = match found {
            'a'..='z' => true,
            '0'..='9' => index > 0,
            '-' => index > 0 && index + 1 < length,
            _ => false,
        };
        if !allowed {
            return Err(NameError::BadCharacter { name: text.to_owned(), found, position: index + 1 });
        }
    }
    if RESERVED_NAMES.contains(&text) {
        return Err(NameError::Reserved(text.to_owned()));
    }
    Ok(())
}

impl std::fmt::Display for PluginName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for PluginName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for PluginName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PluginName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl std::str::FromStr for PluginName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl From<PluginName> for String {
    fn from(name: PluginName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepts_ordinary_names() {
        for name in ["a", "hello", "slack-notifier", "x2", "a-1-b"] {
            assert_eq!(PluginName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn refuses_what_could_leave_its_place() {
        for name in ["", "-a", "a-", "1a", "A", "a/b", "../a", "a.b", "a b", "ä", "a\0", "plugins", "temps"]
        {
            assert!(PluginName::new(name).is_err(), "{name:?} was accepted");
        }
        assert!(PluginName::new("a".repeat(63)).is_ok());
        assert_eq!(PluginName::new("a".repeat(64)), Err(NameError::TooLong(64)));
    }

    proptest! {
        #[test]
        fn an_accepted_name_is_one_safe_path_segment(text in ".{0,70}") {
            if let Ok(name) = PluginName::new(text) {
                prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
                prop_assert!(name.as_str().len() <= MAX_NAME_LENGTH);
            }
        }
    }
}
