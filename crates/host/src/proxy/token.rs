//! Page tokens: how a plugin's page, which has no cookies, proves whose page it is.
//!
//! A token is random, lives for minutes, is kept in memory only, and is bound to one plugin and one caller. It is good
//! for that plugin's routes and for nothing else of the host. A restart of the host ends all of them.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::bounds::MAX_PAGE_TOKENS;
use crate::platform::Caller;
use crate::secrets::Secret;

/// How every page token begins, so that one is never taken for a token of the platform.
pub(super) const TOKEN_PREFIX: &str = "tpu_";

/// All page tokens that are valid now. Only their hashes are kept.
#[derive(Debug, Default)]
pub(super) struct PageTokens {
    held: Mutex<HashMap<[u8; 32], Held>>,
}

#[derive(Debug)]
struct Held {
    plugin: String,
    caller: Caller,
    ends: Instant,
}

impl PageTokens {
    /// Makes a token for a caller's page of a plugin.
    ///
    /// # Errors
    /// Only when the operating system has no randomness to give.
    pub(super) fn issue(
        &self,
        plugin: &str,
        caller: Caller,
        lifetime: Duration,
        now: Instant,
    ) -> Result<String, getrandom::Error> {
        let token = format!("{TOKEN_PREFIX}{}", Secret::generate()?.expose());
        let mut held = self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if held.len() >= MAX_PAGE_TOKENS {
            held.retain(|_, token| token.ends > now);
        }
        if held.len() >= MAX_PAGE_TOKENS
            && let Some(first) = held.iter().min_by_key(|(_, token)| token.ends).map(|(key, _)| *key)
        {
            held.remove(&first);
        }
        held.insert(hash(&token), Held { plugin: plugin.to_owned(), caller, ends: now + lifetime });
        Ok(token)
    }

    /// Whose page a token stands for, if it is valid for this plugin now.
    pub(super) fn caller(&self, token: &str, plugin: &str, now: Instant) -> Option<Caller> {
        let held = self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let found = held.get(&hash(token))?;
        (found.plugin == plugin && found.ends > now).then(|| found.caller.clone())
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Role;
    use crate::proxy::bounds::PAGE_TOKEN_LIFETIME;

    fn caller() -> Caller {
        Caller { id: "7".into(), name: "Ada".into(), email: None, role: Role::Viewer }
    }

    #[test]
    fn a_token_is_good_for_one_plugin_and_until_its_end() {
        let tokens = PageTokens::default();
        let now = Instant::now();
        let token = tokens.issue("hello", caller(), PAGE_TOKEN_LIFETIME, now).unwrap();
        assert!(token.starts_with(TOKEN_PREFIX));
        assert_eq!(tokens.caller(&token, "hello", now), Some(caller()));
        assert_eq!(tokens.caller(&token, "other", now), None);
        assert_eq!(tokens.caller(&token[..20], "hello", now), None);
        assert_eq!(tokens.caller(&token, "hello", now + PAGE_TOKEN_LIFETIME), None);
    }

    #[test]
    fn there_are_never_more_tokens_than_the_bound_and_the_newest_is_kept() {
        let tokens = PageTokens::default();
        let now = Instant::now();
        let first = tokens.issue("hello", caller(), Duration::from_secs(1), now).unwrap();
        let mut last = String::new();
        for second in 2..MAX_PAGE_TOKENS as u64 + 3 {
            last = tokens.issue("hello", caller(), Duration::from_secs(second), now).unwrap();
        }
        assert_eq!(tokens.held.lock().unwrap().len(), MAX_PAGE_TOKENS);
        assert_eq!(tokens.caller(&first, "hello", now), None);
        assert!(tokens.caller(&last, "hello", now).is_some());
    }
}
