//! Key-value storage of a plugin: looked at and cleared.

use axum::extract::State;
use axum::{Extension, Json};
use temps_host::protocol::limits::{MAX_KV_ENTRIES, MAX_KV_TOTAL_BYTES};
use temps_store::{KvEntry, KvQuery};

use super::answer::{Answer, Failure};
use super::extract::{Path, Query};
use super::paging;
use crate::api::storage::{Cleared, Storage, StorageEntry, StorageKey, StorageQuery};
use crate::app::App;
use crate::auth::Identity;

/// How much a plugin keeps, and some of its entries.
#[utoipa::path(get, path = "/api/plugins/{name}/storage", tag = "plugins", operation_id = "listPluginStorage",
    params(("name" = String, Path, description = "Name of the plugin"), StorageQuery),
    responses((status = 200, description = "A page of entries, by key", body = Storage)))]
pub(super) async fn list(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<StorageQuery>,
) -> Answer<Json<Storage>> {
    let limit = paging::limit(query.limit)? as usize;
    let wanted = KvQuery {
        prefix: query.prefix.unwrap_or_default(),
        after: query.cursor,
        limit,
        values: query.values.unwrap_or(false),
    };
    let usage = app.host().storage_usage(&name).await?;
    let page = app.host().storage_entries(&name, wanted).await?;
    let next_cursor = page.entries.last().filter(|_| page.more).map(|entry| entry.key.clone());
    Ok(Json(Storage {
        entries: usage.entries,
        bytes: usage.bytes,
        max_entries: MAX_KV_ENTRIES,
        max_bytes: MAX_KV_TOTAL_BYTES,
        items: page.entries.into_iter().map(entry).collect(),
        next_cursor,
    }))
}

/// One entry with its value.
#[utoipa::path(get, path = "/api/plugins/{name}/storage/entry", tag = "plugins", operation_id = "getPluginStorageEntry",
    params(("name" = String, Path, description = "Name of the plugin"), StorageKey),
    responses((status = 200, description = "The entry", body = StorageEntry)))]
pub(super) async fn get(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(StorageKey { key }): Query<StorageKey>,
) -> Answer<Json<StorageEntry>> {
    match app.host().storage_entry(&name, &key).await? {
        Some(found) => Ok(Json(entry(found))),
        None => Err(Failure::not_found(format!("{name} keeps nothing under {key:?}"))),
    }
}

/// Deletes everything that a plugin keeps.
#[utoipa::path(delete, path = "/api/plugins/{name}/storage", tag = "plugins", operation_id = "clearPluginStorage",
    params(("name" = String, Path, description = "Name of the plugin")),
    responses((status = 200, description = "It is empty", body = Cleared)))]
pub(super) async fn clear(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(name): Path<String>,
) -> Answer<Json<Cleared>> {
    let entries = app.host().clear_storage(&name, &identity.actor()).await?;
    Ok(Json(Cleared { entries }))
}

fn entry(entry: KvEntry) -> StorageEntry {
    StorageEntry {
        key: entry.key,
        value: entry.value.and_then(|text| serde_json::from_str(&text).ok()),
        revision: entry.revision,
        updated_at: entry.updated_at,
        expires_at: entry.expires_at,
    }
}
