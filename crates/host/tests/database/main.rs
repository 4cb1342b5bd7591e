//! Databases of plugins' own under a real host: a real plugin with PostgreSQL's own client, and a real server.

#[path = "../lifecycle/rig.rs"]
#[expect(dead_code, reason = "these tests need a part of it")]
mod rig;

mod bounds;
mod file;
mod killed_host;
mod scene;
mod server;
