//! From a name to addresses. The host resolves, once for each connection, and connects to what it has checked.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::addresses::{self, NotPublic};

/// How long resolving a name may take. Plugins give up about then.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most addresses of a name that are looked at.
const MAX_ADDRESSES: usize = 32;

/// Finds the addresses of names.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// All addresses of `name`.
    ///
    /// # Errors
    /// Why there are none.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// Asks as every program of this machine does.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((name, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// Why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unresolved {
    #[error("its name cannot be resolved: {0}")]
    Failed(io::Error),
    #[error("its name has no address")]
    Empty,
    #[error("its name was not resolved within {} s", PATIENCE.as_secs())]
    TooSlow,
    #[error("its name leads to {0}, which is not public ({1})")]
    NotPublic(IpAddr, NotPublic),
}

impl Unresolved {
    /// The word in metrics and in the audit trail.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Unresolved::NotPublic(..) => "not_public",
            _ => "unresolved",
        }
    }
}

/// The addresses of a name, every one of which is public. One that is not spoils all of them: nobody mixes them by accident.
///
/// A place of `lookups` is taken for as long as the resolver is at it, also after the patience is over: the system's resolver
/// holds a thread that nobody can take back, and a plugin that asks for names of a server that never answers would hold them all.
pub(super) async fn public(
    resolver: &Arc<dyn Resolver>,
    lookups: &Arc<Semaphore>,
    name: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, Unresolved> {
    let asked = async {
        let place = Arc::clone(lookups).acquire_owned().await.map_err(io::Error::other)?;
        let (resolver, name) = (Arc::clone(resolver), name.to_owned());
        let asked = tokio::spawn(async move {
            let found = resolver.resolve(&name).await;
            drop(place);
            found
        });
        asked.await.map_err(io::Error::other)?
    };
    let found = tokio::time::timeout(PATIENCE, asked).await;
    let mut found = found.map_err(|_| Unresolved::TooSlow)?.map_err(Unresolved::Failed)?;
    if found.is_empty() {
        return Err(Unresolved::Empty);
    }
    for address in &found {
        addresses::check(*address).map_err(|why| Unresolved::NotPublic(*address, why))?;
    }
    found.truncate(MAX_ADDRESSES);
    Ok(found.into_iter().map(|address| SocketAddr::new(address, port)).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Fixed(Vec<IpAddr>);

    #[async_trait]
    impl Resolver for Fixed {
        async fn resolve(&self, _name: &str) -> io::Result<Vec<IpAddr>> {
            Ok(self.0.clone())
        }
    }

    async fn of(addresses: &[&str]) -> Result<Vec<SocketAddr>, Unresolved> {
        let fixed: Arc<dyn Resolver> =
            Arc::new(Fixed(addresses.iter().map(|a| a.parse().unwrap()).collect()));
        public(&fixed, &Arc::new(Semaphore::new(1)), "a.example", 443).await
    }

    #[tokio::test]
    async fn one_address_that_is_not_public_spoils_all() {
        assert_eq!(of(&["1.1.1.1", "2606:4700::1"]).await.unwrap().len(), 2);
        assert!(matches!(of(&["1.1.1.1", "127.0.0.1"]).await, Err(Unresolved::NotPublic(..))));
        assert!(matches!(of(&["1.1.1.1", "64:ff9b::1"]).await, Err(Unresolved::NotPublic(..))));
        assert!(matches!(of(&[]).await, Err(Unresolved::Empty)));
    }

    /// Answers once it is let go, and counts how many wait for it.
    #[derive(Default)]
    struct Held {
        asked: AtomicUsize,
        go: tokio::sync::Notify,
    }

    #[async_trait]
    impl Resolver for Held {
        async fn resolve(&self, _name: &str) -> io::Result<Vec<IpAddr>> {
            let go = self.go.notified();
            self.asked.fetch_add(1, Ordering::Relaxed);
            go.await;
            Ok(vec![IpAddr::from([1, 1, 1, 1])])
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_hangs_is_asked_by_one_plugin_a_few_times_and_no_more() {
        let held = Arc::new(Held::default());
        let (resolver, lookups): (Arc<dyn Resolver>, _) = (held.clone(), Arc::new(Semaphore::new(2)));
        for _ in 0..5 {
            let slow = public(&resolver, &lookups, "slow.example", 443).await;
            assert!(matches!(slow, Err(Unresolved::TooSlow)), "{slow:?}");
        }
        // Two hang, although nobody waits for them any more, and the others have not been asked for.
        assert_eq!(held.asked.load(Ordering::Relaxed), 2);
        held.go.notify_waiters();
        let again = tokio::spawn(async move { public(&resolver, &lookups, "a.example", 443).await.is_ok() });
        while held.asked.load(Ordering::Relaxed) < 3 {
            tokio::task::yield_now().await;
        }
        held.go.notify_waiters();
        assert!(again.await.unwrap());
    }
}
