//! The end: SIGTERM after the channel was closed, with a connection still open.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use futures_util::FutureExt;
use http::Method;
use rustix::process::{Pid, Signal, test_kill_process_group};

use super::{HEALTH_TIMEOUT, Scene, Stage};
use crate::check::Check;
use crate::events::Events;
use crate::http::{Connection, Shown, request};
use crate::report::{Finding, Sheet};

/// How long a plugin has from SIGTERM to its end.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) const SCENE: Scene = Scene {
    name: "shutdown",
    checks: &[
        Check::must(
            "shutdown.in_time",
            "L-4",
            "ends within 10 s after SIGTERM",
            "do not wait for open connections without a bound; or leave SIGTERM alone, dying of it is fine",
        ),
        Check::should(
            "shutdown.clean",
            "L-4",
            "ends with status 0, or of the signal itself",
            "end with 0 when you were asked to end",
        ),
        Check::should(
            "shutdown.nothing_left",
            "L-5",
            "leaves no process behind",
            "end the processes that you started",
        ),
    ],
    play: |stage, sheet| play(stage, sheet).boxed(),
};

async fn play(stage: &Stage, sheet: &mut Sheet) {
    let mut act = match stage.act(&stage.how("shutdown")).await {
        Ok(act) => act,
        Err(why) => return sheet.give_up(&why),
    };
    let events = Events::for_plugin(&stage.profile.manifest).map(|mut events| events.next());
    if let Err(why) = act.handles(events.as_slice()).await {
        return sheet.give_up(&why);
    }
    // A host keeps connections open and uses them again.
    let mut idle = Connection::open(&act.life.socket).await.ok();
    if let Some(idle) = &mut idle {
        let path = &stage.profile.manifest.health_path;
        let _ = idle
            .send(request(Method::GET, path, Shown::Secret(&act.life.secret), None), HEALTH_TIMEOUT)
            .await;
    }
    let group = act.life.pid().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    if let Some(mut channel) = act.channel.take() {
        channel.close().await;
        let _ = channel.until(Duration::from_millis(200), |seen| seen.closed.is_some()).await;
    }
    // A plugin that died of its event is a matter of the scene about events.
    if !act.life.runs() {
        return sheet.give_up("it ended before it was told to");
    }
    act.life.signal(Signal::TERM);
    let sent = "SIGTERM, with an idle connection open";
    let Some(status) = act.life.ended(STOP_TIMEOUT).await else {
        let came = format!("it still runs after 10 s{}", act.life.last_words());
        return sheet.fail("shutdown.in_time", sent, came);
    };
    sheet.pass("shutdown.in_time");
    let clean = status.code() == Some(0) || status.signal() == Some(Signal::TERM.as_raw());
    let finding = Finding { sent: sent.into(), came: format!("{status}{}", act.life.last_words()) };
    sheet.settle("shutdown.clean", if clean { Ok(()) } else { Err(finding) });
    let left = group.is_some_and(|group| test_kill_process_group(group).is_ok());
    if left && let Some(group) = group {
        // They would be nobody's now.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
    let finding = Finding { sent: sent.into(), came: "processes of its group that still run".into() };
    sheet.settle("shutdown.nothing_left", if left { Err(finding) } else { Ok(()) });
}
