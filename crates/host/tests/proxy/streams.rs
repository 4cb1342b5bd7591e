//! Bodies and connections: streaming both ways, upgrades, connections that are kept, and requests that are not repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Request;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use temps_host::proxy::bounds::Bounds;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use crate::rig::{ADMIN, PATIENCE, Rig, link_to, mirror, problem, read_head, request, seen, until};

/// A body fed by hand.
fn fed() -> (mpsc::Sender<Result<Bytes, std::io::Error>>, Body) {
    let (feed, rx) = mpsc::channel(8);
    let stream = futures_util::stream::unfold(rx, async |mut rx| Some((rx.recv().await?, rx)));
    (feed, Body::from_stream(stream))
}

async fn next(body: &mut hyper::body::Incoming) -> Option<Result<Bytes, hyper::Error>> {
    let frame = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap()?;
    Some(frame.map(|frame| frame.into_data().unwrap()))
}

#[tokio::test]
async fn both_bodies_stream_at_the_same_time() {
    let rig = Rig::start().await;
    let echo = axum::Router::new().fallback(async |request: axum::extract::Request| request.into_body());
    rig.plugin("hello", echo);
    let (feed, body) = fed();
    let request = Request::builder().method("POST").uri("/api/x/hello/echo").header(ADMIN.0, ADMIN.1);
    feed.send(Ok(Bytes::from_static(b"one"))).await.unwrap();
    let response = rig.open(request.body(body.map_err(std::io::Error::other)).unwrap()).await;
    let mut back = response.into_body();
    assert_eq!(next(&mut back).await.unwrap().unwrap(), "one");
    feed.send(Ok(Bytes::from_static(b"two"))).await.unwrap();
    assert_eq!(next(&mut back).await.unwrap().unwrap(), "two");
    drop(feed);
    assert!(next(&mut back).await.is_none());
}

#[tokio::test]
async fn an_event_stream_arrives_event_by_event() {
    let rig = Rig::start().await;
    let (feed, rx) = mpsc::channel::<Result<Bytes, std::io::Error>>(8);
    let rx = Arc::new(tokio::sync::Mutex::new(Some(rx)));
    let app = axum::Router::new().fallback(move || {
        let rx = rx.clone();
        async move {
            let rx = rx.lock().await.take().unwrap();
            let stream = futures_util::stream::unfold(rx, async |mut rx| Some((rx.recv().await?, rx)));
            ([("content-type", "text/event-stream")], Body::from_stream(stream))
        }
    });
    let knobs = rig.plugin("hello", app);
    let mut caller = tokio::net::TcpStream::connect(rig.front).await.unwrap();
    let asks = format!("GET /api/x/hello/events HTTP/1.1\r\nHost: x\r\n{}: {}\r\n\r\n", ADMIN.0, ADMIN.1);
    caller.write_all(asks.as_bytes()).await.unwrap();
    let mut back = Vec::new();
    for text in ["data: 1\n\n", "data: 2\n\n"] {
        feed.send(Ok(Bytes::from(text))).await.unwrap();
        while !String::from_utf8_lossy(&back).contains(text) {
            let read = tokio::time::timeout(PATIENCE, caller.read_buf(&mut back)).await.unwrap().unwrap();
            assert_ne!(read, 0);
        }
    }
    assert_eq!(rig.metric("proxy_in_flight", "hello", ""), 1);
    let link = knobs.link.borrow().clone().unwrap();
    assert_eq!(link.work.len(), 0, "a stop does not wait for a stream without an end");
    drop(caller);
    until("the plugin notices that the caller left", || feed.is_closed()).await;
    until("the place is free", || rig.metric("proxy_in_flight", "hello", "") == 0).await;
}

#[tokio::test]
async fn a_websocket_goes_through() {
    let rig = Rig::start().await;
    let app = axum::Router::new().fallback(async |upgrade: axum::extract::WebSocketUpgrade| {
        upgrade.protocols(["chat"]).on_upgrade(async |mut socket| {
            while let Some(Ok(message)) = socket.recv().await {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
        })
    });
    rig.plugin("hello", app);
    let stream = tokio::net::TcpStream::connect(rig.front).await.unwrap();
    let request = Request::builder()
        .uri("/api/x/hello/ws?a=1")
        .header("host", rig.front.to_string())
        .header(ADMIN.0, ADMIN.1)
        .header("connection", "keep-alive, Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(())
        .unwrap();
    let request =
        Request::builder().uri(format!("ws://{}{}", rig.front, request.uri())).body(()).map(|mut r| {
            *r.headers_mut() = request.headers().clone();
            r
        });
    let (mut socket, response) = tokio_tungstenite::client_async(request.unwrap(), stream).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    assert!(response.headers().contains_key("content-security-policy"));
    for text in ["one", "two"] {
        socket.send(Message::text(text)).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(text));
    }
    assert_eq!(rig.metric("proxy_in_flight", "hello", ""), 1);
    assert_eq!(rig.metric("proxy_requests_total", "hello", "1xx"), 1);
    socket.close(None).await.unwrap();
    while socket.next().await.is_some() {}
    until("the place is free", || rig.metric("proxy_in_flight", "hello", "") == 0).await;
}

#[tokio::test]
async fn another_protocol_goes_through_but_not_another_http() {
    let rig = Rig::start().await;
    rig.by_hand("hello", async |_, mut stream| {
        while let Some(head) = read_head(&mut stream).await {
            if head.to_lowercase().contains("upgrade: echo/1") {
                let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo/1\r\n\r\nready!";
                stream.write_all(switch.as_bytes()).await.unwrap();
                let (mut read, mut write) = stream.into_split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                return;
            }
            let length = head.to_lowercase().contains("upgrade").to_string();
            let plain = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{length}", length.len());
            stream.write_all(plain.as_bytes()).await.unwrap();
        }
    });
    let asks = |protocol| [ADMIN, ("connection", "upgrade"), ("upgrade", protocol)];
    let response = rig.open(request("GET", "/api/x/hello/e", &asks("echo/1"), "")).await;
    assert_eq!(response.status(), 101);
    let mut joined = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    joined.write_all(b"abc").await.unwrap();
    let mut back = [0u8; 9];
    joined.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"ready!abc");
    for protocol in ["h2c", "HTTP/2.0", "websocket, h2c", "TLS/1.2"] {
        let response = rig.get("/api/x/hello/e", &asks(protocol)).await;
        assert_eq!(
            (response.status().as_u16(), response.body().as_ref()),
            (200, &b"false"[..]),
            "{protocol}"
        );
    }
    let response = rig.send(request("GET", "/api/x/hello/e", &asks("echo/1"), "a body")).await;
    assert_eq!((response.status().as_u16(), problem(&response).as_str()), (400, "upgrade_with_body"));
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_a_bad_answer() {
    let rig = Rig::start().await;
    rig.by_hand("hello", async |_, mut stream| {
        read_head(&mut stream).await;
        let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: evil\r\n\r\n";
        let _ = stream.write_all(switch.as_bytes()).await;
        let _ = stream.read(&mut [0u8; 1]).await;
    });
    for headers in [vec![ADMIN], vec![ADMIN, ("connection", "upgrade"), ("upgrade", "websocket")]] {
        let response = rig.get("/api/x/hello/a", &headers).await;
        assert_eq!((response.status().as_u16(), problem(&response).as_str()), (502, "plugin_bad_answer"));
    }
}

#[tokio::test]
async fn connections_are_kept_and_let_go_when_they_rest() {
    let bounds = Bounds { pool_idle: std::time::Duration::from_millis(300), ..Bounds::default() };
    let rig = Rig::with_bounds(bounds).await;
    rig.plugin("hello", mirror());
    for _ in 0..20 {
        assert_eq!(rig.get("/api/x/hello/a", &[ADMIN]).await.status(), 200);
    }
    let opened = rig.metric("proxy_connections_total", "hello", "");
    assert!(opened <= 3, "{opened} connections for 20 requests, one after the other");

    let rig = Rig::with_bounds(bounds).await;
    let (ended, mut ends) = mpsc::channel(1);
    rig.by_hand("hello", move |_, mut stream| {
        let ended = ended.clone();
        async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            assert_eq!(stream.read(&mut [0u8; 1]).await.unwrap_or(0), 0);
            let _ = ended.send(()).await;
        }
    });
    assert_eq!(rig.get("/api/x/hello/a", &[ADMIN]).await.status(), 200);
    tokio::time::timeout(PATIENCE, ends.recv()).await.unwrap();
}

#[tokio::test]
async fn only_a_request_that_changes_nothing_is_sent_again_when_a_kept_connection_goes_away() {
    for (method, body, tries, status) in
        [("GET", "", 2, 200), ("DELETE", "", 2, 200), ("POST", "", 1, 502), ("PUT", "a body", 1, 502)]
    {
        let rig = Rig::start().await;
        let got = Arc::new(AtomicUsize::new(0));
        let counter = got.clone();
        rig.by_hand("hello", move |number, mut stream| {
            let counter = counter.clone();
            async move {
                while let Some(head) = read_head(&mut stream).await {
                    if head.contains(" /second ") {
                        counter.fetch_add(1, SeqCst);
                        // The first connection is closed with the request read and nothing answered.
                        if number == 0 {
                            return;
                        }
                    }
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                }
            }
        });
        assert_eq!(rig.get("/api/x/hello/first", &[ADMIN]).await.status(), 200);
        // Whether the connection is back by now is a race; ask until the second request goes over it.
        until("the connection is kept", || rig.metric("proxy_in_flight", "hello", "") == 0).await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let response = rig.send(request(method, "/api/x/hello/second", &[ADMIN], body)).await;
        assert_eq!(response.status(), status, "{method}");
        assert_eq!(got.load(SeqCst), tries, "{method} reached the plugin that many times");
    }
}

#[tokio::test]
async fn a_request_that_fails_on_a_new_connection_is_not_sent_again() {
    let rig = Rig::start().await;
    let got = Arc::new(AtomicUsize::new(0));
    let counter = got.clone();
    rig.by_hand("hello", move |_, mut stream| {
        let counter = counter.clone();
        async move {
            read_head(&mut stream).await;
            counter.fetch_add(1, SeqCst);
        }
    });
    let response = rig.get("/api/x/hello/a", &[ADMIN]).await;
    assert_eq!((response.status().as_u16(), problem(&response).as_str()), (502, "plugin_bad_answer"));
    assert_eq!(got.load(SeqCst), 1);
}

#[tokio::test]
async fn a_new_start_of_the_plugin_never_meets_the_connections_of_the_old_one() {
    let rig = Rig::start().await;
    let app = |text: &'static str| axum::Router::new().fallback(async move || text);
    let knobs = rig.plugin("hello", app("old"));
    assert_eq!(rig.get("/api/x/hello/a", &[ADMIN]).await.body(), "old");
    let socket = rig.dir.path().join("second.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move { axum::serve(listener, app("new")).await });
    let old = knobs.link.send_replace(Some(Arc::new(link_to("hello", &socket, 2)))).unwrap();
    assert_eq!(rig.get("/api/x/hello/a", &[ADMIN]).await.body(), "new");
    old.closed.cancel();
    assert_eq!(rig.get("/api/x/hello/a", &[ADMIN]).await.body(), "new");
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_was_read_is_passed_on() {
    let rig = Rig::start().await;
    rig.by_hand("hello", async |_, mut stream| {
        read_head(&mut stream).await;
        let answer = "HTTP/1.1 413 Payload Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nno!";
        let _ = stream.write_all(answer.as_bytes()).await;
    });
    let big: &'static str = Box::leak("x".repeat(8 * 1024 * 1024).into_boxed_str());
    let mut passed = 0;
    for _ in 0..10 {
        let response = rig.send(request("POST", "/api/x/hello/a", &[ADMIN], big)).await;
        assert_eq!(response.status(), 413, "{:?}", response.body());
        passed += usize::from(response.body() == "no!");
    }
    assert_eq!(passed, 10);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_never_taken_for_a_whole_one() {
    for head in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let rig = Rig::start().await;
        rig.by_hand("hello", move |_, mut stream| async move {
            read_head(&mut stream).await;
            let start = format!(
                "HTTP/1.1 200 OK\r\n{head}\r\n\r\n{}",
                if head.contains("chunked") { "4\r\nhalf\r\n" } else { "half" }
            );
            stream.write_all(start.as_bytes()).await.unwrap();
        });
        let mut body = rig.open(request("GET", "/api/x/hello/a", &[ADMIN], "")).await.into_body();
        let mut last = None;
        while let Some(frame) = next(&mut body).await {
            last = Some(frame);
        }
        assert!(last.unwrap().is_err(), "{head}: a clean end");
        until("the place is free", || rig.metric("proxy_in_flight", "hello", "") == 0).await;
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_request_at_the_plugin() {
    let rig = Rig::start().await;
    let (ended, mut ends) = mpsc::channel(1);
    let (begun, mut begins) = mpsc::channel(1);
    rig.by_hand("hello", move |_, mut stream| {
        let (ended, begun) = (ended.clone(), begun.clone());
        async move {
            read_head(&mut stream).await;
            begun.send(()).await.unwrap();
            assert_eq!(stream.read(&mut [0u8; 1]).await.unwrap_or(0), 0);
            ended.send(()).await.unwrap();
        }
    });
    let mut caller = tokio::net::TcpStream::connect(rig.front).await.unwrap();
    let asks = format!("GET /api/x/hello/a HTTP/1.1\r\nHost: x\r\n{}: {}\r\n\r\n", ADMIN.0, ADMIN.1);
    caller.write_all(asks.as_bytes()).await.unwrap();
    tokio::time::timeout(PATIENCE, begins.recv()).await.unwrap();
    drop(caller);
    tokio::time::timeout(PATIENCE, ends.recv()).await.unwrap();
    until("the place is free", || rig.metric("proxy_in_flight", "hello", "") == 0).await;
}

#[tokio::test]
async fn a_request_with_a_body_is_answered_over_kept_connections_too() {
    let rig = Rig::start().await;
    rig.plugin("hello", mirror());
    for _ in 0..20 {
        let response = rig.send(request("POST", "/api/x/hello/a", &[ADMIN], "a body")).await;
        assert_eq!(seen(&response)["body"], "a body");
    }
    assert!(rig.metric("proxy_connections_total", "hello", "") <= 3);
    assert_eq!(rig.metric("proxy_requests_total", "hello", "2xx"), 20);
    assert_eq!(rig.metric("proxy_bytes_total", "hello", "in"), 20 * 6);
}
