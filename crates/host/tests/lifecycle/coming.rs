//! How plugins come and go: dropped into the directory, inspected, started, stopped with the host, there again with the next one.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use temps_host::plugin::PluginState;
use temps_host::{PluginHost, host::BuildError};
use temps_testkit::binaries::built_executable;
use temps_testkit::{Behaviour, Sin};

use crate::rig::{EmptyPlatform, PATIENCE, Rig, is_alive, send_signal, trail, until, until_state};

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_dropped_into_the_directory_runs_and_leaves_nothing_behind() {
    let rig = Rig::new();
    let host = rig.host().await;
    rig.put(&Behaviour::honest("hello"));
    let running = until_state(&host, "hello", PluginState::Running).await;
    assert_eq!(running.manifest.as_ref().unwrap().name, "hello");
    assert_eq!(running.reason, None);
    let pid = running.pid.unwrap();
    assert!(is_alive(pid));
    until(&host, "hello", |snapshot| snapshot.health == Some("ok")).await;
    assert!(host.metrics().contains("temps_plugin_state{plugin=\"hello\",kind=\"running\"} 1"));
    host.shutdown().await;
    assert!(!is_alive(pid));
    assert_eq!(host.plugin("hello").unwrap().state, PluginState::Stopped);
    let trail = trail(&host, "hello").await;
    assert!(trail.contains(&"grant.added".to_owned()), "{trail:?}");
    for kind in ["plugin.inspected", "plugin.started", "plugin.ready", "plugin.stopped"] {
        let times = trail.iter().filter(|one| *one == kind).count();
        assert_eq!(times, 1, "{kind} in {trail:?}");
    }
    assert!(!trail.contains(&"plugin.crashed".to_owned()), "{trail:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_plugins_start_beside_six_that_never_say_a_word() {
    let mut rig = Rig::new();
    rig.config.handshake_timeout = PATIENCE * 2;
    for n in 0..6 {
        rig.put(&Behaviour::sinful(format!("a-mute-{n}"), Sin::NoOutput));
    }
    for n in 0..20 {
        rig.put(&Behaviour::honest(format!("plugin-{n}")));
    }
    let host = rig.host().await;
    for n in 0..20 {
        until_state(&host, &format!("plugin-{n}"), PluginState::Running).await;
    }
    until_state(&host, "a-mute-5", PluginState::Inspecting).await;
    host.shutdown().await;
    let me = std::process::id();
    let ours = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&*rig.home.path().to_string_lossy())
    };
    let left: Vec<u32> = temps_sandbox::descendants(me).into_iter().filter(ours).collect();
    assert!(left.is_empty(), "inspected programs are left: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_with_an_executable_is_a_plugin_and_runs_from_a_copy_of_its_own() {
    let rig = Rig::new();
    let tree = rig.plugins().join("tree");
    std::fs::create_dir_all(tree.join("lib")).unwrap();
    std::fs::write(tree.join("lib/data.txt"), "1").unwrap();
    let program = built_executable("temps-testkit", "unruly");
    temps_testkit::unruly::install(&program, &tree, "plugin", &Behaviour::honest("in-a-tree")).unwrap();
    let host = rig.host().await;
    let running = until_state(&host, "in-a-tree", PluginState::Running).await;
    let link = std::fs::read_link(format!("/proc/{}/exe", running.pid.unwrap())).unwrap();
    assert!(link.starts_with(rig.config.state_dir.join("artifacts")), "it runs from {}", link.display());
    assert_eq!(std::fs::read_to_string(link.with_file_name("lib").join("data.txt")).unwrap(), "1");
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_program_is_refused_in_words_until_it_is_mended() {
    let rig = Rig::new();
    let host = rig.host().await;
    let file = rig.plugins().join("broken");
    std::fs::write(&file, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    let refused = until_state(&host, "broken", PluginState::Refused).await;
    assert!(refused.reason.as_ref().unwrap().contains("could not be started"), "{refused:?}");
    assert_eq!(refused.allowed_actions, ["start"]);
    rig.put_as("broken", &Behaviour::honest("mended"));
    until_state(&host, "mended", PluginState::Running).await;
    assert!(host.plugin("broken").is_none(), "the file is shown under its plugin's name now");
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_file_that_an_operator_starts_is_looked_at_again() {
    let mut rig = Rig::new();
    // The script looks at a file outside of its sandbox.
    let lent = rig.home.path().join("lent");
    std::fs::create_dir(&lent).unwrap();
    rig.config.sandbox.all.read_only_paths.push(lent.clone());
    let host = rig.host().await;
    let marker = lent.join("allowed");
    let script = format!(
        "#!/bin/sh\n[ -e {} ] || exit 3\necho '{{\"type\":\"manifest\",\"name\":\"late\",\"version\":\"1\",\"public_paths\":[\"/x\"]}}'\nsleep 600\n",
        marker.display()
    );
    let file = rig.plugins().join("late.sh");
    std::fs::write(&file, script).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    let refused = until_state(&host, "late.sh", PluginState::Refused).await;
    assert!(refused.reason.as_ref().unwrap().contains("exited with status 3"), "{refused:?}");
    std::fs::write(&marker, "").unwrap();
    host.start_plugin("late.sh", "ada").await.unwrap();
    until_state(&host, "late", PluginState::Held).await;
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_plugin_stops_and_its_data_stays_for_when_it_comes_back() {
    let rig = Rig::new();
    let host = rig.host().await;
    let file = rig.put(&Behaviour::honest("hello"));
    let running = until_state(&host, "hello", PluginState::Running).await;
    let data = rig.config.state_dir.join("data/hello");
    std::fs::write(data.join("kept"), "1").unwrap();
    std::fs::remove_file(&file).unwrap();
    until_state(&host, "hello", PluginState::Gone).await;
    assert!(!is_alive(running.pid.unwrap()));
    rig.put(&Behaviour::honest("hello"));
    until_state(&host, "hello", PluginState::Running).await;
    assert_eq!(std::fs::read_to_string(data.join("kept")).unwrap(), "1");
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_host_works_with_a_state_directory() {
    let rig = Rig::new();
    let host = rig.host().await;
    let store = temps_host::store::sqlite::SqliteStore::open(&rig.home.path().join("other.db")).unwrap();
    let store: std::sync::Arc<dyn temps_host::store::HostStore> = store;
    let second = PluginHost::builder()
        .config(rig.config.clone())
        .platform(std::sync::Arc::new(EmptyPlatform))
        .store(store)
        .build()
        .await;
    let Err(error) = second else { panic!("a second host was built") };
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_no_launcher_is_refused_at_once() {
    let mut rig = Rig::new();
    rig.config.launcher = Some("/bin/true".into());
    let store = temps_host::store::sqlite::SqliteStore::open(&rig.home.path().join("temps.db")).unwrap();
    let store: std::sync::Arc<dyn temps_host::store::HostStore> = store;
    let built = PluginHost::builder()
        .config(rig.config.clone())
        .platform(std::sync::Arc::new(EmptyPlatform))
        .store(store)
        .build()
        .await;
    assert!(matches!(built, Err(BuildError::Launcher(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_host_was_killed_nothing_of_it_is_left_and_the_next_one_starts_clean() {
    let rig = Rig::new();
    rig.put(&Behaviour::honest("hello"));
    rig.put(&Behaviour::sinful("demon", Sin::Daemonises));
    let exe = std::env::current_exe().unwrap();
    let mut first = Command::new(exe)
        .args(["coming::a_host_that_another_test_kills", "--exact", "--ignored", "--nocapture"])
        .env("TEMPS_TEST_HOME", rig.home.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid_file = rig.home.path().join("pids");
    let pids = tokio::time::timeout(PATIENCE, async {
        loop {
            match std::fs::read_to_string(&pid_file) {
                Ok(text) if text.ends_with('\n') => return text,
                _ => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    });
    let pids: Vec<u32> = pids.await.unwrap().split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    send_signal(first.id(), rustix::process::Signal::KILL);
    first.wait().unwrap();
    tokio::time::timeout(PATIENCE, async {
        while pids.iter().any(|pid| is_alive(*pid)) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("a plugin outlived its host");

    let host = rig.host().await;
    for name in ["hello", "demon"] {
        until_state(&host, name, PluginState::Running).await;
    }
    host.shutdown().await;
}

/// Not a test of its own: the host process that the test above kills.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by another test, which kills it"]
async fn a_host_that_another_test_kills() {
    let Some(home) = std::env::var_os("TEMPS_TEST_HOME").map(std::path::PathBuf::from) else { return };
    let rig = Rig::at(&home);
    let store = temps_host::store::sqlite::SqliteStore::open(&home.join("temps.db")).unwrap();
    let host = rig.host_on(store).await;
    let mut pids = String::new();
    for name in ["hello", "demon"] {
        let running = until_state(&host, name, PluginState::Running).await;
        pids.push_str(&format!("{} ", running.pid.unwrap()));
    }
    std::fs::write(home.join("pids.part"), format!("{pids}\n")).unwrap();
    std::fs::rename(home.join("pids.part"), home.join("pids")).unwrap();
    tokio::time::sleep(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_plugins_run_at_once_from_the_plugins_directory() {
    let rig = Rig::new();
    let host = rig.host().await;
    for name in ["hello", "slack-notifier"] {
        let hidden = rig.plugins().join(format!(".{name}"));
        std::fs::copy(built_executable(name, name), &hidden).unwrap();
        std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(&hidden, rig.plugins().join(name)).unwrap();
    }
    for name in ["hello", "slack-notifier"] {
        let running = until_state(&host, name, PluginState::Running).await;
        assert_eq!((running.channel, running.reason.as_deref()), (Some("open"), None));
    }
    assert!(until(&host, "hello", |snapshot| snapshot.has_ui).await.has_ui);
    host.shutdown().await;
    for name in ["hello", "slack-notifier"] {
        let snapshot = host.plugin(name).unwrap();
        assert_eq!((snapshot.state, snapshot.crashes), (PluginState::Stopped, 0));
    }
}
