//! The example as a process, with the plugin `hello`: its route is there, and it gets the platform's event.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use temps_testkit::daemon;

/// How long anything may take before the test gives up. Generous, because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The example's process, ended with the test. Its plugins end with it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks with the platform's own credentials until the answer is good.
async fn ask_until(client: &reqwest::Client, url: &str, good: impl Fn(&str) -> bool) -> String {
    let begin = Instant::now();
    let mut last = String::new();
    while begin.elapsed() < PATIENCE {
        if let Ok(answer) = client.get(url).bearer_auth("open-sesame").send().await {
            let status = answer.status();
            last = answer.text().await.unwrap_or_default();
            if status.is_success() && good(&last) {
                return last;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{url} did not answer as expected: {last}");
}

#[test]
fn the_example_is_short() {
    let lines = include_str!("../src/main.rs").lines().count();
    assert!(lines < 60, "{lines} lines");
}

#[tokio::test]
async fn a_platform_that_embeds_the_host_gains_plugins() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let home = daemon::home_with_hello();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let example = Command::new(env!("CARGO_BIN_EXE_embed")).arg(home.path()).arg(address.to_string()).spawn();
    let _running = Running(example.unwrap());

    let greeting = format!("http://{address}/api/x/hello/greeting");
    ask_until(&client, &greeting, |text| text.contains("Hello from a plugin")).await;
    assert_eq!(client.get(&greeting).send().await.unwrap().status(), 401, "strangers are not let in");

    let published = client.post(format!("http://{address}/projects")).send().await.unwrap();
    assert_eq!(published.text().await.unwrap(), "1", "it is the first event of the journal");
    let events = format!("http://{address}/api/x/hello/events");
    let seen = ask_until(&client, &events, |text| text.contains("project.created")).await;
    assert!(seen.contains("\"project_name\":\"Shop\""), "{seen}");
}
