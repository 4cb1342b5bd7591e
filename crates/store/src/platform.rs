//! The door of the reference platform: projects, environments, deployments, sessions and tokens.

use async_trait::async_trait;

/// What the reference platform keeps. Each change and its event are one transaction.
#[async_trait]
pub trait PlatformStore: Send + Sync + 'static {}
