//! The feature `config`: the configuration comes over the channel, and changes.

use futures_util::FutureExt;
use serde_json::json;
use temps_protocol::Feature;

use super::{Scene, Stage};
use crate::check::Check;
use crate::report::Sheet;

pub(super) const SCENE: Scene = Scene {
    name: "config",
    checks: &[
        Check::must(
            "config.taken",
            "F-6",
            "takes its configuration right after the channel was opened",
            "read frames of the type `config`",
        )
        .of(Feature::Config),
        Check::must(
            "config.change",
            "F-6",
            "takes changes of its configuration, and the same one again",
            "replace the whole configuration by what a frame says, whatever its revision",
        )
        .of(Feature::Config),
        Check::must(
            "config.empty",
            "F-6",
            "takes a configuration in which nothing was ever set",
            "expect revision 0 and settings that are not there",
        )
        .of(Feature::Config),
    ],
    play: |stage, sheet| play(stage, sheet).boxed(),
};

async fn play(stage: &Stage, sheet: &mut Sheet) {
    if !stage.has(Feature::Config) || !stage.profile.channel {
        return sheet.rest_not_announced("it does not announce `config`");
    }
    let how = stage.how("config");
    let life = match stage.start(&how).await {
        Ok(life) => life,
        Err(why) => return sheet.give_up(&why),
    };
    let mut act = match stage.enter(life, &how).await {
        Ok(act) => act,
        Err(came) => return sheet.fail("config.taken", "the configuration with revision 1", came),
    };
    sheet.pass("config.taken");
    if let Some(channel) = &act.channel {
        for revision in [2, 3, 3] {
            channel.configure(&stage.config, revision).await;
        }
    }
    let well = act.survives("the configuration with revisions 2, 3 and 3 again").await;
    if !sheet.settle("config.change", well) {
        return;
    }
    let needs = stage.profile.manifest.config.as_ref().is_some_and(|schema| schema.get("required").is_some());
    if needs {
        return sheet.not_announced("config.empty", "it has settings that are required");
    }
    if let Some(channel) = &act.channel {
        channel.configure(&json!({}), 0).await;
    }
    let well = act.survives("an empty configuration with revision 0").await;
    sheet.settle("config.empty", well);
}
