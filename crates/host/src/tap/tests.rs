//! What passes the tap, and what must not.

use super::*;
use tokio::io::AsyncReadExt;

fn tap() -> (PluginTap, Watcher) {
    let manifest = PluginManifest::builder("told", "1.0.0")
        .config(json!({"type": "object", "properties": {
            "webhook": {"type": "string", "writeOnly": true},
            "pin": {"type": "integer", "writeOnly": true},
            "channel": {"type": "string"},
        }}))
        .build();
    let config = json!({"webhook": "https://hooks/\"T0\"", "pin": 7, "channel": "#general"});
    let Value::Object(config) = config else { panic!("not an object") };
    let config = watch::channel(Injected::new(config, 1)).1;
    let tap = Tap::open();
    let watched = tap.watch().unwrap();
    let name = PluginName::new("told").unwrap();
    (tap.of(&name, &manifest, &Secret::new("s3cret-of-start".into()), &config), watched)
}

fn step(watched: &mut Watcher) -> Value {
    match watched.try_next() {
        Some(Told::Step(observed)) => observed.step.clone(),
        other => panic!("{other:?}"),
    }
}

fn next(watched: &mut Watcher) -> String {
    step(watched).to_string()
}

#[test]
fn no_secret_passes_the_tap_however_it_is_written() {
    let (tap, mut watched) = tap();
    for text in [
        r#"{"type":"config","config":{"webhook":"https://hooks/\"T0\"","pin":7,"channel":"\u0023general"}}"#,
        r#"{"type":"response","id":1,"result":{"config":{"webhook":"https:\/\/hooks\/\u0022T0\u0022","pin":7}}}"#,
        r#"{"type":"request","id":2,"method":"kv_put","params":{"key":"a","value":["s3cret-of-start","\u0073\u0033cret-of-start"]}}"#,
        r#"no json, but s3cret-of-start"#,
    ] {
        tap.frame("host", text);
        let told = next(&mut watched);
        assert!(told.contains(MASK), "{told}");
        for secret in ["T0", "s3cret", ":7", "u0073"] {
            assert!(!told.contains(secret), "{secret} in {told}");
        }
    }
}

#[test]
fn what_holds_no_secret_is_told_as_it_was_sent() {
    let (tap, mut watched) = tap();
    let text = r#"{ "id":1,"z":1.0,  "a":"\u0041" }"#;
    tap.frame("plugin", text);
    assert_eq!(step(&mut watched)["text"], text);
}

#[tokio::test]
async fn lines_are_told_as_they_are_read() {
    let (tap, mut watched) = tap();
    let mut read = String::new();
    let mut stream = tap.over(&b"{\"type\":\"ready\"}\nand s3cret-of-start\nunfinished"[..]);
    stream.read_to_string(&mut read).await.unwrap();
    assert!(read.ends_with("unfinished"));
    assert_eq!(step(&mut watched)["line"], "{\"type\":\"ready\"}");
    assert_eq!(step(&mut watched)["line"], format!("and {MASK}"));
    assert_eq!(watched.try_next(), None);
}

#[test]
fn no_secret_of_a_request_or_an_answer_passes_however_it_is_written() {
    use ::http::{HeaderMap, HeaderValue};
    let secrets = [
        "https://hooks/\"T0\"",
        "hooks/",
        "s3cret-of-start",
        "hooks%2F",
        "T0",
        "a-callers-own-token",
        "sid=1234",
    ];
    let json =
        r#"{"a":["s3cret-of-start","https:\/\/hooks\/\u0022T0\u0022"],"password":"a-callers-own-token"}"#;
    let bodies: [(&str, Vec<u8>); 8] = [
        ("application/json", json.into()),
        ("text/plain", "the webhook https://hooks/\"T0\" and s3cret-of-start".into()),
        ("text/html", "<a href=\"https://hooks/&quot;T0&quot;\">".into()),
        (
            "application/x-www-form-urlencoded",
            "hook=https%3A%2F%2Fhooks%2F%22T0%22&token=a-callers-own-token".into(),
        ),
        ("text/plain", "curl -H 'Authorization: Bearer a-callers-own-token'".into()),
        ("application/octet-stream", [b"\xff\xfe".as_slice(), b"s3cret-of-start", b"\x00"].concat()),
        (
            "application/json",
            format!("{{\"{}\": \"https:\\/\\/hooks\\/\\u0022T0\\u0022\"}}", "x".repeat(70_000)).into(),
        ),
        ("text/plain", format!("{}s3cret-of-start", "x".repeat(64 * 1024 - 8)).into()),
    ];
    for (kind, body) in bodies {
        let (tap, mut watched) = tap();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer s3cret-of-start"),
            ("cookie", "sid=1234"),
            ("set-cookie", "sid=1234; HttpOnly"),
            ("x-api-key", "a-callers-own-token"),
            ("x-hub-signature-256", "a-callers-own-token"),
            ("proxy-authorization", "Basic a-callers-own-token"),
            ("location", "https://x/?access_token=a-callers-own-token&hook=https%3A%2F%2Fhooks%2F%22T0%22"),
            ("content-type", kind),
        ] {
            headers.insert(name, HeaderValue::from_static(Box::leak(value.to_owned().into_boxed_str())));
        }
        let exchange = tap.exchange(
            "POST",
            "/a/s3cret%2Dof-start?token=a-callers-own-token&b=https:%2F%2Fhooks%2F%22T0%22",
            &headers,
        );
        for part in body.chunks(1000) {
            exchange.sends(part);
        }
        exchange.sent();
        let mut answering = exchange.answers(200, &headers);
        answering.receives(&body);
        answering.ends();
        let told = [step(&mut watched), step(&mut watched)];
        assert_eq!(told[0]["id"], told[1]["id"]);
        assert_eq!(told[0]["headers"]["Authorization"], "Bearer [masked]");
        for told in told {
            let bytes = told["body_base64"].as_str().map(|text| {
                use base64::Engine;
                base64::engine::general_purpose::STANDARD.decode(text).unwrap()
            });
            let text = format!("{told} {}", String::from_utf8_lossy(&bytes.unwrap_or_default()));
            for secret in secrets {
                assert!(!text.contains(secret), "{kind}: {secret} in {}", &text[..text.len().min(3000)]);
            }
            let ending = told["body"].as_str().map(|body| body.trim_start_matches('x')).unwrap_or_default();
            assert!(!ending.starts_with("s3c"), "the beginning of a cut secret: {ending}");
        }
    }
}

#[test]
fn bodies_are_kept_as_what_they_are_and_long_ones_in_part() {
    use ::http::{HeaderMap, HeaderValue};
    let told = |kind: &'static str, encoding: Option<&'static str>, body: &[u8], whole: bool| {
        let (tap, mut watched) = tap();
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static(kind));
        encoding.map(|encoding| headers.insert("content-encoding", HeaderValue::from_static(encoding)));
        let mut answering = tap.request("GET", "/a").answers(200, &headers);
        answering.receives(body);
        if whole {
            answering.ends();
        }
        drop(answering);
        assert_eq!(step(&mut watched)["kind"], "http_request");
        step(&mut watched)
    };
    assert_eq!(told("application/json", None, b"{\"a\": 1}", true)["body"], json!({"a": 1}));
    assert_eq!(told("text/plain", None, b"{\"a\": 1}", true)["body"], "{\"a\": 1}");
    assert_eq!(told("image/png", None, b"\x89PNG\xff", true)["body_base64"], "iVBOR/8=");
    let long = told("text/plain", None, "ä".repeat(40_000).as_bytes(), true);
    assert_eq!(
        (long["body"].as_str().unwrap().len(), long["body_bytes"].as_u64()),
        (64 * 1024, Some(80_000))
    );
    let broken = told("text/plain", None, b"begun", false);
    assert_eq!((broken["body"].as_str(), broken["body_bytes"].as_u64()), (Some("begun"), Some(5)));
    let packed = told("text/plain", Some("gzip"), b"\x1f\x8b", true);
    assert_eq!((packed.get("body"), packed["body_bytes"].as_u64()), (None, Some(2)));
    let stream = told("text/event-stream", None, b"data: 1\n\n", true);
    assert_eq!((stream.get("body"), stream["stream"].as_bool()), (None, Some(true)));
    assert!(told("text/plain", None, b"", true).get("body").is_none());
}

#[test]
fn a_secret_that_the_mask_itself_holds_is_masked_once() {
    let masked = super::mask::bytes(b"\xffmask and mask", &["mask".to_owned()]);
    assert_eq!(masked, b"\xff[masked] and [masked]");
}
