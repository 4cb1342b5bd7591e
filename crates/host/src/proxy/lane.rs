//! Lanes: what the proxy holds for one plugin from start to start: its places, its connections, its counters.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::Semaphore;

use super::bounds::{Bounds, MAX_IN_FLIGHT};
use super::connection::{Flight, Pool};
use super::refusal::Refusal;
use super::traffic::Traffic;
use crate::metrics::Metrics;
use crate::plugin::Link;

/// What the proxy holds for one plugin.
#[derive(Debug)]
pub(super) struct Lane {
    places: Arc<Semaphore>,
    traffic: Arc<Traffic>,
    pool: Mutex<Option<Arc<Pool>>>,
}

impl Lane {
    pub(super) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Takes one of the plugin's places, and work that a stop of the plugin waits for.
    pub(super) fn enter(&self, link: &Link) -> Result<Flight, Refusal> {
        let permit = self.places.clone().try_acquire_owned().map_err(|_| Refusal::Busy)?;
        Ok(Flight { work: Some(link.work.token()), _permit: permit, _counted: self.traffic.begin() })
    }

    /// The connections to this start of the plugin; those to an earlier one are closed.
    pub(super) fn pool(&self, link: &Arc<Link>, bounds: Bounds) -> Arc<Pool> {
        let mut held = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        match &*held {
            Some(pool) if Arc::ptr_eq(pool.link(), link) => pool.clone(),
            _ => {
                let pool = Arc::new(Pool::new(link.clone(), bounds, self.traffic.clone()));
                *held = Some(pool.clone());
                pool
            }
        }
    }
}

/// The lanes of all plugins.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: RwLock<HashMap<String, Arc<Lane>>>,
}

impl Lanes {
    /// The lane of a plugin that exists.
    pub(super) fn of(&self, plugin: &str, metrics: &Metrics) -> Arc<Lane> {
        let read = self.lanes.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = read.get(plugin) {
            return found.clone();
        }
        drop(read);
        let mut write = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
        let lane = write.entry(plugin.to_owned()).or_insert_with(|| {
            Arc::new(Lane {
                places: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
                traffic: Arc::new(Traffic::of(plugin, metrics)),
                pool: Mutex::new(None),
            })
        });
        lane.clone()
    }
}
