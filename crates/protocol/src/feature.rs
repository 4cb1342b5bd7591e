//! Optional abilities that both sides must announce before either may use them.

/// An optional ability of the protocol.
///
/// The host announces its list in the environment variable `TEMPS_FEATURES` (separated by commas), the plugin
/// its own in the ready line. A feature is in force when both did. An unknown word is ignored, so an old peer
/// survives a new feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// The plugin confirms each event once it has handled it.
    Ack,
    /// The plugin accepts a new channel after the first one was lost.
    Reconnect,
    /// The host sends the plugin's configuration over the channel.
    Config,
    /// The plugin may use key-value storage over the channel.
    Kv,
}

impl Feature {
    /// All features that this version of the protocol knows.
    pub const ALL: [Feature; 4] = [Feature::Ack, Feature::Reconnect, Feature::Config, Feature::Kv];

    /// The word that stands for the feature on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Feature::Ack => "ack",
            Feature::Reconnect => "reconnect",
            Feature::Config => "config",
            Feature::Kv => "kv",
        }
    }

    /// The feature that a word on the wire stands for, or `None` for a word of a later version.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|feature| feature.as_str() == word.trim())
    }

    /// Reads the value of `TEMPS_FEATURES`; unknown words are left out.
    #[must_use]
    pub fn parse_list(list: &str) -> Vec<Self> {
        list.split(',').filter_map(Self::parse).collect()
    }

    /// Writes the value of `TEMPS_FEATURES`.
    #[must_use]
    pub fn format_list(features: &[Self]) -> String {
        features.iter().map(|feature| feature.as_str()).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_survives_the_wire_and_unknown_words_are_ignored() {
        assert_eq!(Feature::parse_list(&Feature::format_list(&Feature::ALL)), Feature::ALL);
        assert_eq!(Feature::parse_list("teleport, reconnect,"), [Feature::Reconnect]);
    }
}
