//! The plugin's page: embedded files below `/ui/`, with the cache rules of a built single-page application.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::Router;
use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use include_dir::{Dir, File};

const INDEX: &str = "index.html";

/// Files whose name holds a hash of their content never change.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// Other files are asked for again each time, and answered 304 while they are the same.
const ASK_AGAIN: &str = "no-cache";

/// Length of the hashes that bundlers put into names.
const SHORTEST_HASH: usize = 8;

/// The routes of the page. They ask for no secret: the files are the same for everybody and hold no data.
pub(crate) fn routes(assets: &'static Dir<'static>) -> Router {
    let page = move |headers: HeaderMap| async move { serve(assets, "", &headers) };
    let file =
        move |Path(path): Path<String>, headers: HeaderMap| async move { serve(assets, &path, &headers) };
    Router::new()
        // Relative, so that it holds behind any prefix.
        .route("/ui", get(|| async { (StatusCode::MOVED_PERMANENTLY, [(LOCATION, "ui/")]) }))
        .route("/ui/", get(page))
        .route("/ui/{*path}", get(file))
}

fn serve(assets: &'static Dir<'static>, path: &str, headers: &HeaderMap) -> Response {
    let Some(file) = find(assets, path) else { return StatusCode::NOT_FOUND.into_response() };
    let name = file.path().file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let cache = if is_hashed(&name) { FOR_EVER } else { ASK_AGAIN };
    let tag = tag_of(file.contents());
    let head = [(CACHE_CONTROL, cache), (ETAG, tag.as_str()), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    if headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, head).into_response();
    }
    (head, [(CONTENT_TYPE, content_type(&name))], file.contents()).into_response()
}

/// The file at `path`; for a path without extension, which is a page of the application, its index.
fn find(assets: &'static Dir<'static>, path: &str) -> Option<&'static File<'static>> {
    let path = path.trim_end_matches('/');
    let last = path.rsplit('/').next().unwrap_or_default();
    assets.get_file(path).or_else(|| if last.contains('.') { None } else { assets.get_file(INDEX) })
}

/// Whether a name like `index-DiwrgTda.js` or `app.9f86d081.css` holds a hash.
///
/// A hash has a digit or a capital, unlike most words; a hash without either is only asked for again.
fn is_hashed(name: &str) -> bool {
    let Some((stem, _)) = name.rsplit_once('.') else { return false };
    let Some((_, last)) = stem.rsplit_once(['-', '.']) else { return false };
    last.len() >= SHORTEST_HASH
        && last.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && last.bytes().any(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
}

fn tag_of(contents: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    contents.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "wasm" => "application/wasm",
        "txt" | "md" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_a_hash_are_kept_for_ever() {
        for hashed in ["index-DiwrgTda.js", "app.9f86d081.css", "logo-B4bX0f_2.svg"] {
            assert!(is_hashed(hashed), "{hashed}");
        }
        for plain in
            ["index.html", "app.js", "my-document.css", "hello-world.js", "favicon.ico", "x-1234567.js"]
        {
            assert!(!is_hashed(plain), "{plain}");
        }
    }
}
