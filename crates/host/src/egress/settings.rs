//! What operators set about the ways out of plugins, beside grants.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use crate::grants;

/// Most development targets and most targets without TLS of one plugin. More is a mistake.
const MAX_TARGETS: usize = 16;

/// What operators set about egress, for single plugins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EgressSettings {
    /// By name of the plugin.
    pub plugins: BTreeMap<String, PluginEgress>,
}

/// What is set about the egress of one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PluginEgress {
    /// For development: addresses of this machine's loopback that the plugin may reach, with any protocol.
    pub allow_loopback: Vec<SocketAddrV4>,
    /// Granted targets (`name:port`) that may speak other protocols than TLS. Nobody then checks whom the plugin talks to there.
    pub without_tls: Vec<String>,
}

impl EgressSettings {
    /// What is set for a plugin.
    #[must_use]
    pub fn of(&self, plugin: &str) -> PluginEgress {
        self.plugins.get(plugin).cloned().unwrap_or_default()
    }

    /// Checks what cannot work.
    ///
    /// # Errors
    /// Which setting is wrong, and what would be right.
    pub fn check(&self) -> Result<(), String> {
        self.plugins
            .iter()
            .try_for_each(|(plugin, set)| set.check().map_err(|why| format!("egress.plugins.{plugin}.{why}")))
    }
}

impl PluginEgress {
    fn check(&self) -> Result<(), String> {
        if let Some(address) = self.allow_loopback.iter().find(|a| !a.ip().is_loopback() || a.port() == 0) {
            return Err(format!(
                "allow_loopback: {address} is no address of this machine's loopback; use for example 127.0.0.1:8080"
            ));
        }
        if let Some(target) = self.without_tls.iter().find(|target| !grants::is_exact_target(target)) {
            return Err(format!("without_tls: {target:?} is no target; use `name:port`"));
        }
        if self.allow_loopback.len() > MAX_TARGETS || self.without_tls.len() > MAX_TARGETS {
            return Err(format!("allow_loopback, without_tls: at most {MAX_TARGETS} entries are possible"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(loopback: &[&str], without_tls: &[&str]) -> EgressSettings {
        let set = PluginEgress {
            allow_loopback: loopback.iter().map(|address| address.parse().unwrap()).collect(),
            without_tls: without_tls.iter().map(ToString::to_string).collect(),
        };
        EgressSettings { plugins: BTreeMap::from([("hello".to_owned(), set)]) }
    }

    #[test]
    fn only_loopback_and_exact_names_can_be_set() {
        assert_eq!(set(&["127.0.0.1:8080"], &["db.example.com:5432"]).check(), Ok(()));
        for (loopback, without_tls) in [
            (&["10.0.0.1:80"][..], &[][..]),
            (&["127.0.0.1:0"], &[]),
            (&[], &["*:25"]),
            (&[], &["*.example.com:25"]),
            (&[], &["db.example.com"]),
            (&[], &["127.0.0.1:25"]),
        ] {
            let why = set(loopback, without_tls).check().unwrap_err();
            assert!(why.starts_with("egress.plugins.hello."), "{why}");
        }
    }
}
