//! The article's host sample, as printed, starts each of our plugins, sends it an event, and stops it.
//!
//! The sample keeps data in `/var/lib/temps/plugins`. The real test therefore runs this file again in a mount
//! namespace of its own, where that directory is empty and gone afterwards, whatever a host on this machine keeps there.
#![expect(clippy::collapsible_if, reason = "the samples stand as printed")]
#![expect(clippy::uninlined_format_args, reason = "the samples stand as printed")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use rustix::process::{Pid, WaitOptions, waitpid};
use temps_testkit::binaries::built_binary;

include!("../samples/discover_plugins.rust");
include!("../samples/plugin_manager.rust");
include!("../samples/dispatch_event.rust");

/// What mounts an empty directory where the sample keeps data, and runs the test that is named after it.
const IN_PRIVATE: &str =
    r#"mount -t tmpfs none /var/lib && exec "$0" --exact "$1" --include-ignored --nocapture"#;

#[test]
fn the_articles_host_starts_feeds_and_stops_each_of_our_plugins() {
    let namespaces: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    let enter = |flags: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(flags).args(["--propagation", "private", "--", "sh", "-c"]);
        command
    };
    let works = |flags: &&[&str]| {
        let probe = enter(flags).arg("mount -t tmpfs none /var/lib").stderr(Stdio::null()).status();
        probe.is_ok_and(|status| status.success())
    };
    let Some(flags) = namespaces.into_iter().find(works) else {
        temps_testkit::skip(
            "the_articles_host_starts_feeds_and_stops_each_of_our_plugins",
            "this user may not make a mount namespace, and /var/lib/temps must not be touched outside one",
        );
        return;
    };
    // Built here: inside the namespace cargo would not find its own files in a home below /var/lib.
    let directory = tempfile::tempdir().unwrap();
    for package in ["hello", "slack-notifier"] {
        std::os::unix::fs::symlink(built_binary(package), directory.path().join(package)).unwrap();
    }
    fs::write(directory.path().join("README.md"), "not executable, so not a plugin").unwrap();
    let status = enter(flags)
        .arg(IN_PRIVATE)
        .arg(std::env::current_exe().unwrap())
        .arg("inside_the_namespace")
        .env("ARTICLE_PLUGINS", directory.path())
        .status();
    assert!(status.unwrap().success());
}

#[test]
#[ignore = "the test above runs it, in a mount namespace of its own"]
fn inside_the_namespace() {
    let Some(directory) = std::env::var_os("ARTICLE_PLUGINS") else { return };
    let mut found = discover_plugins(Path::new(&directory));
    found.sort();
    let names: Vec<_> = found.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    assert_eq!(names, ["hello", "slack-notifier"]);

    let sockets = tempfile::tempdir().unwrap();
    let mut host = PluginManager {
        plugins: HashMap::new(),
        socket_dir: sockets.path().to_str().unwrap().to_owned(),
        auth_secret: "the-articles-secret".to_owned(),
    };
    for binary in &found {
        host.start_plugin(binary).unwrap();
    }
    for (name, event_type) in [("hello", "deployment.*"), ("slack-notifier", "deployment.succeeded")] {
        let plugin = &host.plugins[name];
        assert_eq!(plugin.manifest.name, name);
        assert!(!plugin.manifest.version.is_empty());
        assert!(plugin.manifest.events.iter().any(|wanted| wanted == event_type));
        let health_path = plugin.manifest.health_path.as_deref().unwrap_or("/health");
        assert!(ask(&plugin.socket_path, health_path).starts_with("HTTP/1.1 200"));
        assert!(Path::new("/var/lib/temps/plugins").join(name).is_dir());
        feed(&plugin.socket_path);
        // The sample has closed the plugin's standard output long ago; the plugin is well all the same.
        assert!(ask(&plugin.socket_path, health_path).starts_with("HTTP/1.1 200"));
    }
    let events = ask(&host.plugins["hello"].socket_path, "/events");
    assert!(events.contains("https://myapp.example.com"), "{events}");

    for name in ["hello", "slack-notifier"] {
        let plugin = &host.plugins[name];
        let pid = Pid::from_raw(i32::try_from(plugin.child.id()).unwrap()).unwrap();
        let socket_path = plugin.socket_path.clone();
        host.stop_plugin(name);
        let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.terminating_signal(), Some(9));
        assert!(UnixStream::connect(&socket_path).is_err());
    }
}

/// Sends the article's event with the article's function, which speaks TCP, through a forwarder to the socket.
fn feed(socket_path: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let socket_path = socket_path.to_owned();
        tokio::spawn(async move {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = tokio::net::UnixStream::connect(socket_path).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        });
        // The client's TLS needs a provider, even where it is not used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let payload = serde_json::json!({"deployment_id": 100, "url": "https://myapp.example.com"});
        dispatch_event(&client, &base_url, "deployment.succeeded", &payload).await.unwrap();
    });
}

/// One request with the secret, by hand.
fn ask(socket_path: &str, path: &str) -> String {
    let mut stream = UnixStream::connect(socket_path).unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer the-articles-secret\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
