//! What a caller sees of a plugin through the host.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::super::script::Script;
use super::Stage;
use super::caller::Answer;

/// The plugin that is called.
const ME: Script = Script::Acks;

/// How long the first half of an answer may take while the second waits for it.
const HALF_TIMEOUT: Duration = Duration::from_secs(5);

/// Tries everything.
pub(super) async fn all(stage: &Stage) {
    headers(stage).await;
    methods(stage).await;
    halves(stage).await;
    answers(stage).await;
    pages(stage).await;
    closed(stage).await;
}

fn path(rest: &str) -> String {
    format!("/api/x/{}{rest}", ME.name())
}

/// Judges an answer; none at all is a failure as well.
fn judge(
    stage: &Stage,
    check: &str,
    sent: &str,
    answer: &Result<Answer, String>,
    right: impl Fn(&Answer) -> bool,
) {
    stage.ledger.judge(check, answer.as_ref().is_ok_and(right), sent, || match answer {
        Ok(answer) => {
            format!("{} {:?} {}", answer.status, answer.headers, String::from_utf8_lossy(&answer.body))
        }
        Err(why) => why.clone(),
    });
}

/// A header as the plugin saw it.
fn seen<'a>(echo: &'a Value, name: &str) -> Option<&'a str> {
    let headers = echo["headers"].as_array()?;
    headers.iter().find(|pair| pair[0] == name)?[1].as_str()
}

async fn headers(stage: &Stage) {
    let sent = [
        ("cookie", "session=crumb"),
        ("x-temps-user-id", "forged"),
        ("x-temps-kit", "forged"),
        ("x-kit-own", "kept"),
    ];
    let answer = stage.caller.send("GET", &path("/echo?all=1&b=%2F"), &sent, Vec::new()).await;
    let asked = "GET /api/x/kit-acks/echo?all=1&b=%2F";
    judge(stage, "routes.path", asked, &answer, |answer| {
        answer.json()["target"] == "/echo?all=1&b=%2F" && seen(&answer.json(), "x-kit-own") == Some("kept")
    });
    judge(stage, "routes.headers", asked, &answer, |answer| {
        let echo = answer.json();
        let is = |name: &str, right: &dyn Fn(&str) -> bool| seen(&echo, name).is_some_and(right);
        let there = |value: &str| !value.is_empty();
        is("x-temps-plugin", &|value| value == ME.name())
            && is("x-temps-request-id", &there)
            && is("traceparent", &|value| value.len() == 55 && value.split('-').count() == 4)
            && is("x-forwarded-for", &there)
            && is("x-forwarded-proto", &|value| value == "http")
            && is("x-forwarded-host", &there)
            && is("x-forwarded-prefix", &|value| value == "/api/x/kit-acks")
    });
    let told = |answer: &Answer, what: &str| answer.json()["headers"].to_string().contains(what);
    let forged = "a request with X-Temps-User-Id and X-Temps-Kit";
    judge(stage, "routes.no_forgery", forged, &answer, |answer| {
        answer.status == 200 && !told(answer, "forged")
    });
    let token = stage.caller.token.clone().unwrap_or_else(|| "session=crumb".to_owned());
    judge(stage, "routes.no_credentials", "a request with a cookie and a token", &answer, |answer| {
        answer.status == 200 && !told(answer, "crumb") && !told(answer, &token)
    });
}

async fn methods(stage: &Stage) {
    let check = "routes.methods";
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"] {
        let answer = stage.caller.send(method, &path("/echo"), &[], vec![b'x'; 300_000]).await;
        let sent = format!("{method} with 300,000 bytes");
        judge(stage, check, &sent, &answer, |answer| {
            answer.json()["method"] == method && answer.json()["length"] == 300_000
        });
    }
    let pieces = (0..3).map(|_| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'y'; 1000]))));
    let body = StreamBody::new(futures_util::stream::iter(pieces));
    let answer = match stage.caller.open("POST", &path("/echo"), &[], body).await {
        Ok(response) => {
            let (head, body) = response.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
        }
        Err(why) => Err(why),
    };
    judge(stage, check, "POST in chunks", &answer, |answer| answer.json()["length"] == 3000);
}

async fn halves(stage: &Stage) {
    let (check, sent) =
        ("routes.streams", "GET of a stream whose second part waits until the first was seen");
    let response = stage.caller.open("GET", &path("/halves"), &[], Full::<Bytes>::default()).await;
    let Ok(response) = response else {
        return stage.ledger.judge(check, false, sent, || "no answer".to_owned());
    };
    let mut body = response.into_body().into_data_stream();
    let first = timeout(HALF_TIMEOUT, body.next()).await;
    let came = matches!(&first, Ok(Some(Ok(bytes))) if bytes.starts_with(b"data: first"));
    stage.remember(ME, "half", &json!(true)).await;
    stage.ledger.judge(check, came, sent, || format!("{first:?}"));
}

async fn answers(stage: &Stage) {
    let answer = stage.caller.get(&path("/redirect")).await;
    judge(stage, "routes.redirect", "a redirect to /echo?there=1", &answer, |answer| {
        answer
            .headers
            .get("location")
            .is_some_and(|to| to.to_str().is_ok_and(|to| to.ends_with("/api/x/kit-acks/echo?there=1")))
    });
    let answer = stage.caller.get(&path("/cookies")).await;
    judge(
        stage,
        "routes.no_cookies_back",
        "an answer with Set-Cookie and Access-Control-Allow-Origin",
        &answer,
        |answer| {
            let allowed = answer.headers.keys().any(|name| name.as_str().starts_with("access-control"));
            let cookie = answer
                .headers
                .get_all("set-cookie")
                .iter()
                .any(|value| value.to_str().is_ok_and(|it| it.contains("kit=")));
            answer.status == 200 && !allowed && !cookie
        },
    );
}

async fn pages(stage: &Stage) {
    let right = |answer: &Answer| {
        answer.status == 200 && String::from_utf8_lossy(&answer.body).contains("a page of the kit")
    };
    let answer = stage.caller.get(&path("/ui/")).await;
    judge(stage, "pages.there", "GET /api/x/kit-acks/ui/", &answer, right);
    let answer = stage.caller.stranger().get(&path("/ui/")).await;
    judge(stage, "pages.open", "GET /api/x/kit-acks/ui/ without a token", &answer, right);
}

async fn closed(stage: &Stage) {
    if stage.caller.token.is_some() {
        let answer = stage.caller.stranger().get(&path("/echo")).await;
        let check = "routes.signed_in";
        judge(stage, check, "GET without a token", &answer, |answer| {
            answer.status >= 300 && answer.json()["target"].is_null()
        });
    }
    for inner in ["/_temps/channel", "/_temps/x", "/_events", "/%5fevents", "/a/../_events"] {
        let answer = stage.caller.send("POST", &path(inner), &[], b"{}".to_vec()).await;
        // A plugin would answer these with 404 and nothing else; only the host says more.
        let by_host = |answer: &Answer| answer.status >= 400 && !answer.body.is_empty();
        judge(stage, "routes.inner", &format!("POST {inner}"), &answer, by_host);
    }
}

/// What is seen of a plugin that was stopped.
pub(super) async fn stopped(stage: &Stage) {
    let answer = stage.caller.get(&path("/report")).await;
    judge(stage, "stop.unreachable", "GET of a plugin that was stopped", &answer, |answer| {
        answer.status == 503
    });
}
