//! What a plugin writes, in every place where it can, cannot steer the terminal of somebody who looks on.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use temps_testkit::daemon::{eventually, signal_process, temps};

use super::{Desk, edit, run};

/// A plugin that writes escape sequences of both kinds and turns the direction of text, in its log, on stdout, as a key of its
/// storage, as a method and as the reason of a failure.
const STEERING: &str = r#"
    bad = "\x1b[2J\x1b]0;owned\x07\u009b2J\u202e\u2028"
    logger.info("%slogged", bad, extra={"field": bad})
    print(bad + "printed", flush=True)
    await ctx.kv.put("key\u202e\u2028", bad)
    raise ValueError(bad + "failed")
"#;

fn steers(text: &str) -> bool {
    let turns = |c| matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().any(|c| (c.is_control() && c != '\n') || turns(c))
}

#[test]
fn no_terminal_is_steered_by_a_plugin_that_tries_in_every_place() {
    let desk = Desk::new();
    let project = desk.project("steering", "python", &[]);
    let deployed = "    logger.info(\"deployed: %s\", project.name)\n";
    edit(&project.join("plugin.py"), &[(deployed, STEERING)]);
    let shown = desk.place.path().join("shown");
    let mut command = desk.temps();
    command.args(["plugin", "dev", "--all"]).arg(&project);
    command.stdin(Stdio::piped()).stdout(File::create(&shown).unwrap());
    let mut dev = command.stderr(File::create(desk.place.path().join("said")).unwrap()).spawn().unwrap();
    let text = || std::fs::read_to_string(&shown).unwrap();
    let wait_for = |words: &str| eventually(words, || text().contains(words).then_some(()));
    wait_for("keys ");
    writeln!(dev.stdin.as_mut().unwrap(), "1").unwrap();
    for words in ["logged", "printed", "failed"] {
        wait_for(words);
    }
    let home = text().split("--home ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let looks: &[&[&str]] = &[
        &["plugin", "list"],
        &["plugin", "info", "steering"],
        &["plugin", "logs", "steering"],
        &["plugin", "kv", "list", "steering"],
        &["delivery", "list"],
        &["event", "list"],
        &["audit", "list"],
    ];
    for look in looks {
        for more in [&[][..], &["--json"]] {
            let ended = run(temps(Path::new(&home)).args(more).args(*look));
            assert_eq!(ended.code, 0, "{look:?}: {ended:?}");
            assert!(!steers(&ended.stdout) && !steers(&ended.stderr), "{look:?}: {ended:?}");
        }
    }
    signal_process(&dev, Signal::INT);
    assert!(dev.wait().unwrap().success());
    let text = text();
    assert!(text.contains("owned"), "the text itself stays readable: {text}");
    assert!(!steers(&text), "{text:?}");
}
