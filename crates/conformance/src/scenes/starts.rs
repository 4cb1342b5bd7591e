//! Starts under other conditions: again, after a crash, at a long path, under older and later hosts.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::FutureExt;
use temps_protocol::Feature;

use super::{Scene, Stage};
use crate::check::Check;
use crate::events::Events;
use crate::life::Spawn;
use crate::report::{Finding, Sheet};

/// Longest path of a socket, in bytes.
const MAX_SOCKET_PATH: usize = 107;

/// How long an ack that must not come is waited for, behind a pong that came.
const SILENCE: Duration = Duration::from_millis(700);

/// How long a plugin has to end that was given an argument that it does not know.
const REFUSAL: Duration = Duration::from_secs(5);

pub(super) const RESTART: Scene = Scene {
    name: "restart",
    checks: &[Check::must(
        "restart.same_data",
        "S-4",
        "starts again with the data directory that an earlier life left behind, even one that was killed",
        "take what is in --data-dir as something that may be half written; replace files by renaming new ones over them",
    )],
    play: |stage, sheet| restart(stage, sheet).boxed(),
};

async fn restart(stage: &Stage, sheet: &mut Sheet) {
    let how = stage.how("restart");
    let mut act = match stage.act(&how).await {
        Ok(act) => act,
        Err(why) => return sheet.give_up(&why),
    };
    let events = Events::for_plugin(&stage.profile.manifest).map(|mut events| events.next());
    if let Err(why) = act.handles(events.as_slice()).await {
        return sheet.give_up(&why);
    }
    act.life.kill().await;
    // A stale socket has a scene of its own.
    let _ = std::fs::remove_file(&how.socket);
    let again = match stage.act(&how).await {
        Ok(mut act) => act.is_well().await,
        Err(why) => Err(why),
    };
    let sent = "a second start in the data directory of a first one, which was killed";
    sheet.settle("restart.same_data", again.map_err(|came| Finding { sent: sent.into(), came }));
}

pub(super) const STALE_SOCKET: Scene = Scene {
    name: "stale_socket",
    checks: &[Check::must(
        "stale_socket.removed",
        "S-2",
        "removes a stale socket before it binds",
        "remove the file at --socket-path, if there is one, before you bind",
    )],
    play: |stage, sheet| stale_socket(stage, sheet).boxed(),
};

async fn stale_socket(stage: &Stage, sheet: &mut Sheet) {
    let how = stage.how("stale");
    // Nobody listens there any more once the listener is dropped; the file stays.
    let left = std::fs::create_dir_all(&how.place).and_then(|()| UnixListener::bind(&how.socket).map(drop));
    if let Err(error) = left {
        return sheet.give_up(&format!("the kit cannot bind a socket: {error}"));
    }
    let listens = listens(stage, &how, "a start with a dead socket at --socket-path").await;
    sheet.settle("stale_socket.removed", listens);
}

pub(super) const LONG_PATH: Scene = Scene {
    name: "long_path",
    checks: &[Check::must(
        "long_path.bound",
        "S-2",
        "listens at a path of 107 bytes",
        "use --socket-path as it is, and do not add to it",
    )],
    play: |stage, sheet| long_path(stage, sheet).boxed(),
};

async fn long_path(stage: &Stage, sheet: &mut Sheet) {
    let mut how = stage.how("long");
    let begin = how.place.to_string_lossy().into_owned();
    let Some(room) = MAX_SOCKET_PATH.checked_sub(begin.len() + 1).filter(|room| *room > 0) else {
        return sheet.give_up("the kit's own directory has too long a path");
    };
    how.socket = PathBuf::from(format!("{begin}/{}", "s".repeat(room)));
    let listens = listens(stage, &how, "a start with a --socket-path of 107 bytes").await;
    sheet.settle("long_path.bound", listens);
}

/// Whether the plugin gets ready and takes a connection when it is started like this.
async fn listens(stage: &Stage, how: &Spawn, sent: &str) -> Result<(), Finding> {
    let started = match stage.start(how).await {
        Ok(life) => crate::http::connect(&life.socket)
            .await
            .map(drop)
            .map_err(|e| format!("no connection ({e}){}", life.last_words())),
        Err(why) => Err(why),
    };
    started.map_err(|came| Finding { sent: sent.into(), came })
}

pub(super) const OLD_HOST: Scene = Scene {
    name: "old_host",
    checks: &[
        Check::must(
            "old_host.starts",
            "F-1",
            "works under a host without any features",
            "take every feature as something that the host may not have",
        ),
        Check::must(
            "old_host.no_acks",
            "F-1",
            "sends no acks to a host that has not announced the feature",
            "send acks only when TEMPS_FEATURES has the word `ack`",
        )
        .of(Feature::Ack),
    ],
    play: |stage, sheet| old_host(stage, sheet).boxed(),
};

async fn old_host(stage: &Stage, sheet: &mut Sheet) {
    let mut how = stage.how("old");
    how.features = String::new();
    let sent = "a start with an empty TEMPS_FEATURES";
    let life = match stage.start(&how).await {
        Ok(life) => life,
        Err(came) => return sheet.fail("old_host.starts", sent, came),
    };
    let mut act = match stage.enter(life, &how).await {
        Ok(act) => act,
        Err(why) => return sheet.give_up(&why),
    };
    let first = act.survives(sent).await;
    if !sheet.settle("old_host.starts", first) {
        return;
    }
    if let (Some(mut events), Some(channel)) = (Events::for_plugin(&stage.profile.manifest), &act.channel) {
        for _ in 0..3 {
            channel.event(&events.next()).await;
        }
    }
    let Some(channel) = &mut act.channel else {
        return sheet.not_announced("old_host.no_acks", "it has no channel");
    };
    if !stage.has(Feature::Ack) {
        return sheet.not_announced("old_host.no_acks", "it does not announce `ack`");
    }
    // Time is the only witness of what does not come; a plugin that acks does it within milliseconds.
    let acked = channel.until(SILENCE, |seen| !seen.acks.is_empty()).await.is_ok();
    if acked {
        let came = format!("{} acks", channel.seen().acks.len());
        sheet.fail("old_host.no_acks", "three events, under a host that announced no features", came);
    } else {
        sheet.pass("old_host.no_acks");
    }
}

pub(super) const LATER_HOST: Scene = Scene {
    name: "later_host",
    checks: &[Check::must(
        "later_host.starts",
        "F-1",
        "works under a host with a later minor version and features that nobody knows yet",
        "ignore words of TEMPS_FEATURES that you do not know, and do not compare TEMPS_API_VERSION with a constant",
    )],
    play: |stage, sheet| later_host(stage, sheet).boxed(),
};

async fn later_host(stage: &Stage, sheet: &mut Sheet) {
    let mut how = stage.how("later");
    how.features = format!("teleport,{},time-travel", how.features);
    how.api_version = "1.42.0".into();
    let sent = "a start with TEMPS_API_VERSION=1.42.0 and unknown words in TEMPS_FEATURES";
    let life = match stage.start(&how).await {
        Ok(life) => life,
        Err(came) => return sheet.fail("later_host.starts", sent, came),
    };
    match stage.enter(life, &how).await {
        Ok(mut act) => {
            let well = act.survives(sent).await;
            sheet.settle("later_host.starts", well);
        }
        Err(why) => sheet.give_up(&why),
    }
}

pub(super) const UNKNOWN_ARGUMENT: Scene = Scene {
    name: "unknown_argument",
    checks: &[Check::should(
        "unknown_argument.refused",
        "S-1",
        "refuses arguments that it does not know with exit status 2",
        "parse the command line strictly, so that a mistake is seen at once",
    )],
    play: |stage, sheet| unknown_argument(stage, sheet).boxed(),
};

async fn unknown_argument(stage: &Stage, sheet: &mut Sheet) {
    let mut how = stage.how("argument");
    how.extra = vec!["--of-a-later-version".into(), "1".into()];
    let sent = "a start with --of-a-later-version 1";
    let mut life = match crate::life::Life::spawn(&stage.subject.program, &how) {
        Ok(life) => life,
        Err(error) => return sheet.give_up(&error.to_string()),
    };
    // A plugin that gets as far as ready has not refused.
    life.drain();
    let deadline = tokio::time::Instant::now() + REFUSAL;
    let ended = loop {
        if let Some(status) = life.ended(Duration::from_millis(50)).await {
            break Some(status);
        }
        let listens = crate::http::connect(&life.socket).await.is_ok();
        if listens || tokio::time::Instant::now() >= deadline {
            break None;
        }
    };
    match ended {
        Some(status) if status.code() == Some(2) => sheet.pass("unknown_argument.refused"),
        Some(status) => sheet.fail("unknown_argument.refused", sent, format!("an end with {status}")),
        None => sheet.fail("unknown_argument.refused", sent, "a start as if nothing was"),
    }
}
