//! Secrets: made fresh for each spawn, compared in constant time, never shown.

use subtle::ConstantTimeEq;

/// A secret text that never appears in debug output.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// A fresh secret of 256 bits from the operating system.
    ///
    /// # Errors
    /// Only when the operating system has no randomness to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        use base64::Engine;
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Wraps a text that is a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself. Every call is a place where it could leak.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `other` is the same text, in a time that depends on its length only.
    #[must_use]
    pub fn matches(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// `text` with the secret masked wherever it stands. With `cut`, the text is the beginning of a longer one, and a
    /// beginning of the secret at its very end is masked as well.
    #[must_use]
    pub fn mask(&self, text: &str, cut: bool) -> String {
        const MASK: &str = "[masked]";
        if self.0.is_empty() {
            return text.to_owned();
        }
        let mut masked = text.replace(&self.0, MASK);
        if cut {
            let longest = (1..self.0.len())
                .rev()
                .find(|length| self.0.is_char_boundary(*length) && masked.ends_with(&self.0[..*length]));
            if let Some(length) = longest {
                masked.truncate(masked.len() - length);
                masked.push_str(MASK);
            }
        }
        masked
    }
}
