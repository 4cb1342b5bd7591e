//! The plugin's HTTP: who may ask, how connections and bodies come, and its pages.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::CONNECTION;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::Value;

use super::{HEALTH_TIMEOUT, Scene, Stage, health};
use crate::channel::{Channel, Opened};
use crate::check::Check;
use crate::events::Events;
use crate::http::{Connection, Shown, ask, request};
use crate::life::Life;
use crate::report::{Finding, Sheet};

/// How long an answer of an ordinary route may take.
const ROUTE_TIMEOUT: Duration = Duration::from_secs(10);

/// A path that no plugin has.
const NOWHERE: &str = "/conformance-probe-of-a-path-that-is-not-there";

/// Links of a page that are followed. A page with more is well tested by these.
const MAX_LINKS: usize = 20;

/// What a stranger shows.
const WRONG_SECRET: &str = "00000000000000000000000000000000";

pub(super) const SCENE: Scene = Scene {
    name: "routes",
    checks: &[
        Check::must(
            "routes.health_is_open",
            "R-2",
            "answers the health request also without the auth secret",
            "do not demand the secret on health_path",
        ),
        Check::should(
            "routes.own_are_closed",
            "R-2",
            "refuses requests without the auth secret on its own routes",
            "compare the Authorization header with `Bearer <auth secret>`, and answer 401 otherwise",
        ),
        Check::should(
            "routes.events_are_closed",
            "R-2",
            "takes events only with the auth secret",
            "compare the Authorization header with `Bearer <auth secret>`, and answer 401 otherwise",
        ),
        Check::should(
            "routes.channel_is_closed",
            "R-2",
            "opens the channel only with the auth secret",
            "compare the Authorization header with `Bearer <auth secret>`, and answer 401 otherwise",
        ),
        Check::must(
            "routes.connection_is_kept",
            "R-1",
            "answers a second request on a connection that it kept open",
            "read requests until the connection ends, or say `Connection: close`",
        ),
        Check::must(
            "routes.chunked_body",
            "R-1",
            "answers a request whose body comes in chunks",
            "use an HTTP server that knows Transfer-Encoding: chunked",
        ),
        Check::must(
            "routes.many_at_a_time",
            "R-1",
            "answers while other connections are open and silent",
            "serve each connection by itself (a thread or a task for each)",
        ),
        Check::must(
            "pages.are_there",
            "U-1",
            "answers GET /ui/ with 200 when it says has_ui",
            "serve the page at /ui/, or leave has_ui out",
        ),
        Check::must(
            "pages.links",
            "U-3",
            "has only links that are relative or begin with its prefix",
            "write href=\"page.js\" instead of href=\"/page.js\"; with Vite, set base to \"./\"",
        ),
        Check::must(
            "pages.parts",
            "U-1",
            "serves what its page refers to",
            "serve all files of the page below /ui/",
        ),
        Check::must(
            "pages.no_secret",
            "U-4",
            "has no secret in its pages",
            "keep the auth secret out of the page; the host signs the page's calls",
        ),
    ],
    play: |stage, sheet| play(stage, sheet).boxed(),
};

async fn play(stage: &Stage, sheet: &mut Sheet) {
    let mut act = match stage.act(&stage.how("routes")).await {
        Ok(act) => act,
        Err(why) => return sheet.give_up(&why),
    };
    if let Err(why) = act.is_well().await {
        return sheet.give_up(&why);
    }
    let life = &act.life;
    let health_path = &stage.profile.manifest.health_path;
    let found = health(life, health_path, false).await;
    let sent = format!("GET {health_path} without Authorization");
    sheet.settle("routes.health_is_open", found.map_err(|came| Finding { sent, came }));
    own_routes(stage, sheet, life).await;
    pages(stage, sheet, life).await;
    connections(sheet, life, health_path).await;
    events_are_closed(stage, sheet, life).await;
    channel_is_closed(stage, sheet, life).await;
}

async fn own_routes(stage: &Stage, sheet: &mut Sheet, life: &Life) {
    let name = "routes.own_are_closed";
    let described = stage.profile.ready.openapi.as_ref().map(described_routes).unwrap_or_default();
    let mut known = false;
    for path in stage.routes.iter().chain(&described) {
        let right =
            ask(&life.socket, Method::GET, path, Shown::Secret(&life.secret), None, ROUTE_TIMEOUT).await;
        if !right.is_ok_and(|answer| answer.status.is_success()) {
            continue;
        }
        known = true;
        for (what, shown) in [("no", Shown::Nothing), ("a wrong", Shown::Secret(WRONG_SECRET))] {
            let answer = ask(&life.socket, Method::GET, path, shown, None, ROUTE_TIMEOUT).await;
            if let Ok(answer) = answer
                && answer.status.is_success()
            {
                let came = format!("the status {}", answer.status);
                return sheet.fail(name, format!("GET {path} with {what} auth secret"), came);
            }
        }
    }
    if known {
        sheet.pass(name);
    } else {
        sheet.not_announced(name, "it describes no route that can be asked with GET; name one with --route");
    }
}

/// Paths that an OpenAPI document says can be asked with `GET` and without parameters.
fn described_routes(document: &Value) -> Vec<String> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths
        .filter(|(path, item)| item.get("get").is_some() && path.starts_with('/') && !path.contains('{'))
        .map(|(path, _)| path.clone())
        .collect()
}

async fn events_are_closed(stage: &Stage, sheet: &mut Sheet, life: &Life) {
    let name = "routes.events_are_closed";
    let Some(mut events) = Events::for_plugin(&stage.profile.manifest) else {
        return sheet.not_announced(name, "it wants no events");
    };
    let body = Bytes::from(events.next().to_string());
    let shown = Shown::Secret(WRONG_SECRET);
    let answer = ask(&life.socket, Method::POST, "/_events", shown, Some(body), ROUTE_TIMEOUT).await;
    match answer {
        Ok(answer) if answer.status.is_success() => {
            let came = format!("the status {}", answer.status);
            sheet.fail(name, "POST /_events with a wrong auth secret", came);
        }
        _ => sheet.pass(name),
    }
}

async fn channel_is_closed(stage: &Stage, sheet: &mut Sheet, life: &Life) {
    let name = "routes.channel_is_closed";
    if !stage.profile.channel {
        return sheet.not_announced(name, "it has no channel");
    }
    match Channel::open(&life.socket, Some(WRONG_SECRET), std::sync::Arc::default()).await {
        Ok(Opened::Channel(_)) => {
            sheet.fail(name, "an upgrade of /_temps/channel with a wrong auth secret", "the status 101");
        }
        _ => sheet.pass(name),
    }
}

async fn connections(sheet: &mut Sheet, life: &Life, health_path: &str) {
    let kept = kept_connection(life, health_path).await;
    let sent = format!("GET {health_path} twice on one connection");
    sheet.settle("routes.connection_is_kept", kept.map_err(|came| Finding { sent, came }));
    let chunked = chunked_body(life).await;
    let sent = format!("POST {NOWHERE} with a body in two chunks");
    sheet.settle("routes.chunked_body", chunked.map_err(|came| Finding { sent, came }));
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.extend(crate::http::connect(&life.socket).await.ok());
    }
    let found = health(life, health_path, true).await;
    let sent = format!("GET {health_path} while 8 other connections are open and silent");
    sheet.settle("routes.many_at_a_time", found.map_err(|came| Finding { sent, came }));
}

async fn kept_connection(life: &Life, path: &str) -> Result<(), String> {
    let mut connection = Connection::open(&life.socket).await?;
    for round in [1, 2] {
        let shown = Shown::Secret(&life.secret);
        let answer = connection.send(request(Method::GET, path, shown, None), HEALTH_TIMEOUT).await;
        let answer = answer.map_err(|why| format!("at request {round}: {why}"))?;
        let closes = answer.headers.get(CONNECTION).is_some_and(|value| value == "close");
        if closes || answer.version < http::Version::HTTP_11 {
            return Ok(());
        }
        if answer.status != StatusCode::OK {
            return Err(format!("the status {} for request {round}", answer.status));
        }
    }
    Ok(())
}

async fn chunked_body(life: &Life) -> Result<(), String> {
    let parts = ["{\"a\":", "1}"].map(|part| Ok(Frame::data(Bytes::from(part))));
    let mut request = request(Method::POST, NOWHERE, Shown::Secret(&life.secret), None);
    *request.body_mut() = StreamBody::new(futures_util::stream::iter(parts)).boxed();
    Connection::open(&life.socket).await?.send(request, ROUTE_TIMEOUT).await.map(drop)
}

async fn pages(stage: &Stage, sheet: &mut Sheet, life: &Life) {
    let get = async |path: &str| {
        ask(&life.socket, Method::GET, path, Shown::Secret(&life.secret), None, ROUTE_TIMEOUT).await
    };
    let has_ui = stage.profile.ready.has_ui;
    let page = match get("/ui/").await {
        Ok(answer) if answer.status == StatusCode::OK => answer,
        other => {
            if has_ui {
                let came = other.map_or_else(|why| why, |answer| format!("the status {}", answer.status));
                sheet.fail("pages.are_there", "GET /ui/, because ready says has_ui", came);
            }
            for name in ["pages.are_there", "pages.links", "pages.parts", "pages.no_secret"] {
                sheet.not_announced(name, "it has no pages");
            }
            return;
        }
    };
    sheet.pass("pages.are_there");
    let text = String::from_utf8_lossy(&page.body).into_owned();
    let prefix = format!("/api/x/{}/", stage.profile.manifest.name);
    let links = links(&text);
    let is_lost =
        |link: &&String| link.starts_with('/') && !link.starts_with("//") && !link.starts_with(&prefix);
    match links.iter().find(is_lost) {
        Some(link) => sheet.fail(
            "pages.links",
            "GET /ui/",
            format!("a link to {link:?}, which leads out of the plugin"),
        ),
        None => sheet.pass("pages.links"),
    }
    let mut secret = text.contains(&life.secret).then(|| "/ui/".to_owned());
    for link in links.iter().filter(|link| is_inside(link)).take(MAX_LINKS) {
        let path = resolved(link.strip_prefix(&format!("{prefix}ui/")).unwrap_or(link));
        match get(&path).await {
            Ok(answer) if answer.status == StatusCode::OK => {
                if String::from_utf8_lossy(&answer.body).contains(&life.secret) {
                    secret = Some(path);
                }
            }
            Ok(answer) => {
                sheet.fail("pages.parts", format!("GET {path}"), format!("the status {}", answer.status))
            }
            Err(why) => sheet.fail("pages.parts", format!("GET {path}"), why),
        }
    }
    sheet.pass("pages.parts");
    match secret {
        Some(path) => sheet.fail("pages.no_secret", format!("GET {path}"), "the auth secret in its text"),
        None => sheet.pass("pages.no_secret"),
    }
}

/// What `src` and `href` of a page's elements name.
fn links(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for attribute in ["src=", "href="] {
        for (at, _) in page.match_indices(attribute) {
            let before = page[..at].chars().next_back();
            let rest = &page[at + attribute.len()..];
            let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'')) else { continue };
            if before.is_some_and(char::is_whitespace)
                && let Some((link, _)) = rest[1..].split_once(quote)
            {
                found.push(link.to_owned());
            }
        }
    }
    found
}

/// Whether a link names a file of the plugin's own pages.
fn is_inside(link: &str) -> bool {
    let plain = link.split(['#', '?']).next().unwrap_or_default();
    !plain.is_empty() && !plain.starts_with('/') && !plain.contains(':') && !plain.starts_with("..")
}

fn resolved(link: &str) -> String {
    let plain = link.split(['#', '?']).next().unwrap_or_default();
    format!("/ui/{}", plain.trim_start_matches("./"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_a_page_are_found() {
        let page =
            "<link href=\"style.css\"><script type=module src='./a.js?1'></script><a data-href=\"/x\">";
        assert_eq!(links(page), ["./a.js?1", "style.css"]);
        assert_eq!(resolved("./a.js?1"), "/ui/a.js");
        assert!(!is_inside("https://example.com/") && !is_inside("#top") && !is_inside("data:image/png,x"));
    }
}
