//! What the other plugins look at.

use crate::check::Check;

/// With a channel and no feature.
pub(super) const PLAIN: &[Check] = &[
    Check::must(
        "handshake.unknown_fields",
        "H-7",
        "ignores fields that it does not know, and takes null for an absent one",
        "read the manifest leniently",
    ),
    Check::must(
        "plain.no_config",
        "F-1",
        "sends no config frames to a plugin without that feature",
        "look at features in the ready line",
    ),
    Check::must(
        "data.permission",
        "D-2",
        "answers permission_denied to a method that was not granted",
        "check the grant at each call",
    ),
    Check::must(
        "plain.restart",
        "C-5",
        "restarts a plugin without reconnect whose channel was lost",
        "end the process and start it again",
    ),
    Check::must(
        "plain.ping",
        "E-6",
        "sends a ping after an event, to know that it was read",
        "send a ping behind the event",
    ),
    Check::must(
        "plain.settled",
        "E-6",
        "does not send an event again that was read and lived through",
        "settle it when the pong came and the plugin has lived for 5 s",
    ),
    Check::must(
        "events.filtered",
        "E-11",
        "leaves out events that the manifest's filters leave out",
        "look at filters after the types",
    ),
    Check::must(
        "crash.restart",
        "L-3",
        "starts a plugin again that exits",
        "start it again after 0.5 s, and after twice as long each time",
    ),
    Check::must(
        "crash.dead_letter",
        "E-12",
        "gives an event up that crashed the plugin three times, and goes on with the others",
        "count the crashes of each event",
    ),
    Check::must(
        "stop.grace",
        "L-4",
        "waits 10 s between SIGTERM and the kill",
        "give it its time, and kill it then",
    ),
    Check::must(
        "stop.nothing_left",
        "L-5",
        "ends everything that the plugin has started",
        "kill the process group, or better its control group",
    ),
];

/// Without a channel.
pub(super) const POST: &[Check] = &[
    Check::must(
        "start.directory",
        "S-7",
        "runs a directory that holds an executable named plugin, and copies it whole",
        "copy all files with their modes",
    ),
    Check::must("start.script", "S-8", "runs a script", "start the file itself, not an interpreter"),
    Check::must(
        "post.request",
        "E-7",
        "sends POST /_events with Content-Type: application/json, a Content-Length and the event as its body",
        "do not send it in chunks",
    ),
    Check::must(
        "post.all",
        "E-2",
        "sends events of every type to a plugin that asks for *",
        "match * with everything",
    ),
    Check::must(
        "post.settled",
        "E-7",
        "never sends an event again that was answered with 2xx",
        "take any status from 200 to 299",
    ),
    Check::must(
        "post.again",
        "E-7",
        "sends an event again that was answered with 500, after a wait",
        "wait 1 s before the first retry",
    ),
];

/// With the longest lines.
pub(super) const LONG: &[Check] = &[Check::must(
    "handshake.largest_lines",
    "H-2",
    "takes a manifest line of exactly 64 KiB and a ready line of exactly 1 MiB",
    "count the newline in",
)];

/// Whose first starts fail.
pub(super) const STARTS: &[Check] = &[
    Check::must(
        "handshake.later_minor",
        "V-2",
        "takes a plugin of a later minor version",
        "compare the major version only",
    ),
    Check::must(
        "starts.ready_false",
        "H-5",
        "takes ready:false as a failed start, and uses nothing of the plugin",
        "end it and start it again",
    ),
    Check::must(
        "starts.exit",
        "H-5",
        "takes an exit before ready as a failed start, and starts the plugin again",
        "start it again after a wait",
    ),
    Check::must(
        "starts.channel_refused",
        "C-2",
        "takes any other answer than 101, 404, 400, 426 and 501 to the channel's upgrade as a failed start",
        "end it and start it again",
    ),
    Check::must(
        "starts.channel_hangs",
        "C-2",
        "waits 5 s for the answer to the channel's upgrade",
        "end it and start it again",
    ),
];

/// That is too slow.
pub(super) const SLOW: &[Check] = &[
    Check::must(
        "slow.ready",
        "H-2",
        "waits 30 s for the ready line, and ends a plugin that is later",
        "give each line 30 s",
    ),
    Check::must(
        "slow.unwell",
        "L-2",
        "restarts a plugin after 3 failed health requests in a row",
        "count them, and restart",
    ),
];
