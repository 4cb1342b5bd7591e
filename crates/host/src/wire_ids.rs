//! Ids on the wire are 32-bit integers; a platform whose own ids are texts keeps the two together with this table.

use std::sync::Arc;

use temps_store::{HostStore, StoreError};

/// What an id belongs to. Ids of different kinds do not get into each other's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntityKind {
    /// A project.
    Project,
    /// An environment.
    Environment,
    /// A deployment.
    Deployment,
}

impl EntityKind {
    fn as_str(self) -> &'static str {
        match self {
            EntityKind::Project => "project",
            EntityKind::Environment => "environment",
            EntityKind::Deployment => "deployment",
        }
    }
}

/// The table of a platform's own ids and the integers that stand for them on the wire. Cheap to clone.
///
/// A platform with integer ids below 2³¹ does not need it. Others ask [`WireIds::wire`] when they answer or publish, put their
/// own id into `external_id`, and ask [`WireIds::external`] when a plugin names an integer. An integer that was given once
/// stands for the same id for ever.
#[derive(Clone)]
pub struct WireIds {
    store: Arc<dyn HostStore>,
}

impl WireIds {
    /// The table in a store, best the one that the host is built with.
    #[must_use]
    pub fn new(store: Arc<dyn HostStore>) -> Self {
        Self { store }
    }

    /// The integer for a platform's own id, made if there is none yet.
    ///
    /// # Errors
    /// What the store says.
    pub async fn wire(&self, kind: EntityKind, external_id: &str) -> Result<i32, StoreError> {
        self.store.wire_id(kind.as_str(), external_id).await
    }

    /// The platform's own id behind an integer; `None` for one that was never given.
    ///
    /// # Errors
    /// What the store says.
    pub async fn external(&self, kind: EntityKind, wire_id: i32) -> Result<Option<String>, StoreError> {
        self.store.external_id(kind.as_str(), wire_id).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use temps_store::sqlite::SqliteStore;

    #[tokio::test]
    async fn an_id_keeps_its_integer_for_ever_and_kinds_stay_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("temps.db");
        let store = SqliteStore::open(&path).unwrap();
        let ids = WireIds::new(store.clone());
        let project = ids.wire(EntityKind::Project, "prj_9f").await.unwrap();
        let other = ids.wire(EntityKind::Project, "prj_a0").await.unwrap();
        assert_ne!(project, other);
        assert_eq!(ids.external(EntityKind::Environment, other).await.unwrap(), None);
        drop(ids);
        store.close().await;
        let ids = WireIds::new(SqliteStore::open(&path).unwrap());
        assert_eq!(ids.wire(EntityKind::Project, "prj_9f").await.unwrap(), project);
        assert_eq!(ids.external(EntityKind::Project, other).await.unwrap().as_deref(), Some("prj_a0"));
    }
}
