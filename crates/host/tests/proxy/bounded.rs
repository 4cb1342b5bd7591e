//! Every bound of the proxy, run into.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use temps_host::plugin::PluginState;
use temps_host::proxy::bounds::{Bounds, MAX_IN_FLIGHT, MAX_RESPONSE_HEAD};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::rig::{ADMIN, PATIENCE, Rig, mirror, problem, read_head, request, snapshot, until};

const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_plugin_that_does_not_run_is_unavailable_and_the_answer_says_how_it_stands() {
    let rig = Rig::start().await;
    let knobs = rig.plugin("hello", mirror());
    let link = knobs.link.send_replace(None).unwrap();
    for (state, word) in [
        (PluginState::Starting, "starting"),
        (PluginState::Held, "held"),
        (PluginState::Backoff, "backoff"),
        (PluginState::Quarantined, "quarantined"),
        (PluginState::Disabled, "disabled"),
    ] {
        let mut view = snapshot("hello", state);
        view.next_start_at = Some(chrono::Utc::now() + chrono::TimeDelta::seconds(41));
        knobs.view.send(Arc::new(view)).unwrap();
        let response = rig.get("/api/x/hello/a", &[ADMIN]).await;
        assert_eq!((response.status().as_u16(), problem(&response).as_str()), (503, "plugin_not_running"));
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!((body["state"].as_str(), body["plugin"].as_str()), (Some(word), Some("hello")));
        let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        if state == PluginState::Backoff {
            assert!((38..=41).contains(&wait), "{wait}");
        }
    }
    link.closed.cancel();
    knobs.link.send(Some(link)).unwrap();
    knobs.view.send(Arc::new(snapshot("hello", PluginState::Draining))).unwrap();
    let response = rig.get("/api/x/hello/a", &[ADMIN]).await;
    assert_eq!((response.status().as_u16(), problem(&response).as_str()), (503, "plugin_not_running"));
}

#[tokio::test]
async fn a_socket_that_nobody_serves_is_unreachable() {
    let rig = Rig::start().await;
    rig.register("hello");
    let response = rig.get("/api/x/hello/a", &[ADMIN]).await;
    assert_eq!((response.status().as_u16(), problem(&response).as_str()), (502, "plugin_unreachable"));
}

#[tokio::test]
async fn a_plugin_that_does_not_accept_is_too_slow() {
    let rig = Rig::with_bounds(Bounds { connect: SHORT, ..Bounds::default() }).await;
    let knobs = rig.register("hello");
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(&knobs.socket).unwrap()).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    // With a backlog of 0 Linux still lets one connection wait.
    let _waiting = std::os::unix::net::UnixStream::connect(&knobs.socket).unwrap();
    let response = rig.get("/api/x/hello/a", &[ADMIN]).await;
    assert_eq!((response.status().as_u16(), problem(&response).as_str()), (504, "plugin_too_slow"));
}

#[tokio::test]
async fn a_plugin_that_says_nothing_is_too_slow_and_its_connection_is_closed() {
    let rig = Rig::with_bounds(Bounds { first_byte: SHORT, ..Bounds::default() }).await;
    let (ended, mut ends) = mpsc::channel(1);
    rig.by_hand("hello", move |_, mut stream| {
        let ended = ended.clone();
        async move {
            read_head(&mut stream).await;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            ended.send(()).await.unwrap();
        }
    });
    for (method, body) in [("GET", ""), ("POST", "a body")] {
        let response = rig.send(request(method, "/api/x/hello/a", &[ADMIN], body)).await;
        assert_eq!((response.status().as_u16(), problem(&response).as_str()), (504, "plugin_too_slow"));
        tokio::time::timeout(PATIENCE, ends.recv()).await.unwrap();
    }
    assert_eq!(rig.metric("proxy_in_flight", "hello", ""), 0);
    assert_eq!(rig.metric("proxy_requests_total", "hello", "refused"), 2);
}

#[tokio::test]
async fn an_answer_that_stands_still_is_cut_and_an_event_stream_is_not() {
    let bounds = Bounds { idle: SHORT, stream_idle: PATIENCE, ..Bounds::default() };
    let rig = Rig::with_bounds(bounds).await;
    rig.by_hand("hello", async |_, mut stream| {
        let kind = if read_head(&mut stream).await.unwrap().contains("/events") {
            "text/event-stream"
        } else {
            "text/plain"
        };
        let start = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
        );
        stream.write_all(start.as_bytes()).await.unwrap();
        tokio::time::sleep(3 * SHORT).await;
        let _ = stream.write_all(b"1\r\nb\r\n0\r\n\r\n").await;
        let _ = stream.read(&mut [0u8; 1]).await;
    });
    let body = rig.open(request("GET", "/api/x/hello/slow", &[ADMIN], "")).await.into_body();
    assert!(tokio::time::timeout(PATIENCE, body.collect()).await.unwrap().is_err(), "a clean end");
    let body = rig.open(request("GET", "/api/x/hello/events", &[ADMIN], "")).await.into_body();
    assert_eq!(tokio::time::timeout(PATIENCE, body.collect()).await.unwrap().unwrap().to_bytes(), "ab");
}

#[tokio::test]
async fn a_silent_upgrade_is_cut_after_its_own_bound() {
    let rig = Rig::with_bounds(Bounds { stream_idle: SHORT, ..Bounds::default() }).await;
    rig.by_hand("hello", async |_, mut stream| {
        read_head(&mut stream).await;
        let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
        stream.write_all(switch.as_bytes()).await.unwrap();
        let _ = stream.read(&mut [0u8; 1]).await;
    });
    let asks = [ADMIN, ("connection", "upgrade"), ("upgrade", "echo")];
    let response = rig.open(request("GET", "/api/x/hello/e", &asks, "")).await;
    let mut joined = hyper_util::rt::TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    assert_eq!(tokio::time::timeout(PATIENCE, joined.read(&mut [0u8; 1])).await.unwrap().unwrap_or(0), 0);
    until("the place is free", || rig.metric("proxy_in_flight", "hello", "") == 0).await;
}

#[tokio::test]
async fn a_caller_that_does_not_read_does_not_hold_its_place() {
    let rig = Rig::with_bounds(Bounds { idle: SHORT, ..Bounds::default() }).await;
    let endless = axum::Router::new().fallback(async || {
        Body::from_stream(futures_util::stream::repeat_with(|| {
            Ok::<_, std::io::Error>(Bytes::from_static(&[0; 65536]))
        }))
    });
    rig.plugin("hello", endless);
    let mut caller = tokio::net::TcpStream::connect(rig.front).await.unwrap();
    let asks = format!("GET /api/x/hello/a HTTP/1.1\r\nHost: x\r\n{}: {}\r\n\r\n", ADMIN.0, ADMIN.1);
    caller.write_all(asks.as_bytes()).await.unwrap();
    until("the request is under way", || rig.metric("proxy_requests_total", "hello", "2xx") == 1).await;
    until("the place is free", || rig.metric("proxy_in_flight", "hello", "") == 0).await;
    drop(caller);
}

#[tokio::test]
async fn a_caller_that_stops_sending_is_told_so() {
    let rig = Rig::with_bounds(Bounds { idle: SHORT, ..Bounds::default() }).await;
    rig.plugin("hello", mirror());
    let asks = format!(
        "POST /api/x/hello/a HTTP/1.1\r\nHost: x\r\n{}: {}\r\nContent-Length: 5\r\n\r\nab",
        ADMIN.0, ADMIN.1
    );
    let back = rig.raw(asks.as_bytes()).await;
    assert!(back.starts_with("HTTP/1.1 408") && back.contains("body_slow"), "{back}");
}

#[tokio::test]
async fn a_body_over_the_bound_is_refused_with_and_without_a_length() {
    let rig = Rig::with_bounds(Bounds { request_body: 1000, ..Bounds::default() }).await;
    rig.plugin("hello", mirror());
    let exact: &'static str = Box::leak("x".repeat(1000).into_boxed_str());
    let over: &'static str = Box::leak("x".repeat(1001).into_boxed_str());
    assert_eq!(rig.send(request("POST", "/api/x/hello/a", &[ADMIN], exact)).await.status(), 200);
    let opened = rig.metric("proxy_connections_total", "hello", "");
    let response = rig.send(request("POST", "/api/x/hello/a", &[ADMIN], over)).await;
    assert_eq!((response.status().as_u16(), problem(&response).as_str()), (413, "body_too_large"));
    assert_eq!(rig.metric("proxy_connections_total", "hello", ""), opened, "the plugin never heard of it");

    let chunks = futures_util::stream::iter(
        (0..11).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 100]))),
    );
    let chunked = Body::from_stream(chunks).map_err(std::io::Error::other);
    let request =
        Request::builder().method("POST").uri("/api/x/hello/a").header(ADMIN.0, ADMIN.1).body(chunked);
    let response = rig.open(request.unwrap()).await;
    assert_eq!(response.status(), 413);
    until("the place is free", || rig.metric("proxy_in_flight", "hello", "") == 0).await;
}

#[tokio::test]
async fn one_request_more_than_the_plugin_may_have_is_refused_and_others_do_not_notice() {
    let rig = Rig::start().await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let held = gate.clone();
    rig.plugin(
        "hello",
        axum::Router::new().fallback(move || {
            let held = held.clone();
            async move {
                let _ = held.acquire().await;
                "done"
            }
        }),
    );
    rig.plugin("other", mirror());
    let rig = Arc::new(rig);
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..MAX_IN_FLIGHT {
        let rig = rig.clone();
        waiting.spawn(async move { rig.get("/api/x/hello/a", &[ADMIN]).await.status() });
    }
    until("all places are taken", || rig.metric("proxy_in_flight", "hello", "") == MAX_IN_FLIGHT as u64)
        .await;
    let response = rig.get("/api/x/hello/a", &[ADMIN]).await;
    assert_eq!((response.status().as_u16(), problem(&response).as_str()), (503, "plugin_busy"));
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(rig.get("/api/x/other/a", &[ADMIN]).await.status(), 200);
    gate.add_permits(MAX_IN_FLIGHT);
    while let Some(status) = waiting.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    gate.add_permits(1);
    assert_eq!(rig.get("/api/x/hello/a", &[ADMIN]).await.status(), 200);
}

#[tokio::test]
async fn a_head_over_the_bound_and_nonsense_are_bad_answers() {
    let rig = Rig::start().await;
    rig.by_hand("hello", async |_, mut stream| {
        let answer = match read_head(&mut stream).await.unwrap() {
            head if head.contains("/long") => {
                format!(
                    "HTTP/1.1 200 OK\r\nX-Long: {}\r\nContent-Length: 0\r\n\r\n",
                    "x".repeat(MAX_RESPONSE_HEAD)
                )
            }
            head if head.contains("/many") => {
                format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", "x: y\r\n".repeat(200))
            }
            _ => "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(),
        };
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.read(&mut [0u8; 1]).await;
    });
    for path in ["long", "many", "nonsense"] {
        let response = rig.get(&format!("/api/x/hello/{path}"), &[ADMIN]).await;
        assert_eq!(
            (response.status().as_u16(), problem(&response).as_str()),
            (502, "plugin_bad_answer"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_stop_can_wait_for_the_requests_under_way() {
    let rig = Rig::start().await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let held = gate.clone();
    let knobs = rig.plugin(
        "hello",
        axum::Router::new().fallback(move || {
            let held = held.clone();
            async move {
                let _ = held.acquire().await;
                "done"
            }
        }),
    );
    let link = knobs.link.borrow().clone().unwrap();
    let rig = Arc::new(rig);
    let caller = rig.clone();
    let asked = tokio::spawn(async move { caller.get("/api/x/hello/a", &[ADMIN]).await });
    until("the request is under way", || link.work.len() == 1).await;
    link.closed.cancel();
    link.work.close();
    assert_eq!(rig.get("/api/x/hello/a", &[ADMIN]).await.status(), 503, "no new work while it drains");
    gate.add_permits(1);
    assert_eq!(asked.await.unwrap().body(), "done");
    tokio::time::timeout(PATIENCE, link.work.wait()).await.unwrap();
}
