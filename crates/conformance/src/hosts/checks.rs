//! What is checked of a host: a list of promises for each plugin that looks at them, and those that only the outside can see.

use temps_protocol::Feature;

use super::script::Script;
use crate::check::Check;

/// Every check of a host, in the order of the report.
pub fn host_checks() -> impl Iterator<Item = &'static Check> {
    Script::RUN.into_iter().flat_map(checks_of).chain(DRIVE)
}

/// What a scripted plugin looks at.
pub(crate) fn checks_of(script: Script) -> &'static [Check] {
    match script {
        Script::Acks => ACKS,
        Script::Plain => PLAIN,
        Script::Post => POST,
        Script::Starts => STARTS,
        Script::Slow => SLOW,
        _ => &[],
    }
}


/// With all features.
const ACKS: &[Check] = &[
    Check::must("channel.upgrade", "C-1", "asks for a WebSocket of version 13 at /_temps/channel right after ready", "send Connection: Upgrade, Upgrade: websocket, Sec-WebSocket-Version: 13 and a Sec-WebSocket-Key of 16 bytes"),
    Check::must("start.arguments", "S-1", "gives three options, each with its value, and nothing else", "pass --socket-path, --auth-secret and --data-dir alone"),
    Check::must("start.socket_path", "S-2", "gives a path of at most 107 bytes in a directory that nobody else can enter", "make the directory with mode 0700, and keep its name short"),
    Check::must("start.secret", "S-3", "makes a new secret of some length for each start", "draw it at random when you start the process, and keep none"),
    Check::must("start.data_directory", "S-4", "gives a data directory that exists, can be written to, and is the working directory", "make it before the start, owned by the plugin's user, and change into it"),
    Check::must("start.environment", "S-5", "gives the variables of the table, with their values, and nothing of its own", "clear the environment before you set these"),
    Check::must("start.stdin", "S-6", "gives an empty standard input", "open /dev/null as standard input"),
    Check::must("start.copy", "S-7", "runs a copy of the file, from another place", "copy the file when you take it in, and run the copy"),
    Check::must("inspection.data", "L-1", "throws away what the plugin wrote while it was inspected", "give an inspected plugin a directory that you remove"),
    Check::must("output.drained", "H-3", "reads what the plugin writes after ready", "go on reading standard output and standard error"),
    Check::must("health.asked", "L-2", "asks for the plugin's health every 10 s", "ask GET health_path on the socket while the plugin runs"),
    Check::must("requests.secret", "R-2", "shows the auth secret with each request", "send Authorization: Bearer with the secret of this start, also for health and the channel"),
    Check::must("requests.http", "R-1", "speaks HTTP/1.1 with the host localhost", "write HTTP/1.1 and Host: localhost"),
    Check::must("channel.frames", "C-3", "sends whole, masked text messages, each a JSON object of at most 1 MiB", "mask every frame, and send no fragments and no binary messages"),
    Check::must("channel.ids", "C-7", "answers each request once, under the id that it had", "give back the JSON value of the id as it came"),
    Check::must("channel.outcomes", "C-8", "answers with a result or an error that has a code and a message, never both", "leave the other one out"),
    Check::must("channel.many", "C-9", "answers each of 100 requests at once, some perhaps with busy", "answer busy to what is more than 32, and drop nothing"),
    Check::must("channel.always_answers", "C-10", "answers a frame with a method whatever is wrong with it", "answer an error under the id, or under null"),
    Check::must("channel.ignores", "C-10", "ignores frames that it does not understand", "read on after such a frame"),
    Check::must("channel.binary", "C-3", "ignores a binary message", "read on after it"),
    Check::must("channel.largest_frame", "C-3", "takes a message of exactly 1 MiB", "set the limit of your WebSocket library to 1,048,576 bytes"),
    Check::must("channel.too_long", "C-10", "closes the channel after a message of more than 1 MiB", "set the limit of your WebSocket library, and close when it is broken"),
    Check::must("channel.reconnect", "C-5", "connects again to the same process when the channel is lost", "keep the process, and ask for a new channel").of(Feature::Reconnect),
    Check::must("data.unknown_method", "D-1", "answers method_not_found to a method that is not there", "look at the method before its parameters"),
    Check::must("data.params", "D-1", "answers invalid_params when a parameter is missing or of the wrong type", "check parameters before you look for anything"),
    Check::must("data.not_found", "D-2", "answers not_found when there is no such project", "say not_found also for what the plugin may not see"),
    Check::must("data.methods", "D-1", "has all methods of version 1", "add the method"),
    Check::must("data.shapes", "D-1", "answers with projects, environments and deployments as they are described", "compare with the JSON Schemas in spec/v1/schema"),
    Check::must("config.first", "F-6", "sends the whole configuration right after the channel was opened, before any event", "send a config frame first on each new channel").of(Feature::Config),
    Check::must("config.defaults", "F-5", "fills in the defaults of the schema", "take default of each property that was not set").of(Feature::Config),
    Check::must("config.method", "F-7", "answers get_config with what the frame said", "answer from the same place").of(Feature::Config),
    Check::must("config.change", "F-6", "sends the configuration again after a change, with a greater revision", "send a config frame when an operator has changed something").of(Feature::Config),
    Check::must("kv.entries", "F-8", "keeps, gives back, lists and deletes entries", "compare with the table below F-8").of(Feature::Kv),
    Check::must("kv.params", "F-8", "answers invalid_params to a call that lacks its key or its value", "check parameters first").of(Feature::Kv),
    Check::must("kv.revisions", "F-9", "takes a write with a revision only if the entry has it, and says conflict with the revision otherwise", "compare and write in one step").of(Feature::Kv),
    Check::must("kv.pages", "F-10", "gives a list in pages, by the bytes of the keys", "give a cursor as long as there is more").of(Feature::Kv),
    Check::must("kv.expires", "F-10", "removes an entry once its ttl is over", "leave out what has expired when you read").of(Feature::Kv),
    Check::must("kv.bounds", "F-11", "takes keys of 256 bytes and values of 64 KiB, and nothing longer", "check the bytes of the key and of the value's JSON").of(Feature::Kv),
    Check::must("events.envelope", "E-1", "sends events with an id, a type, a time, data, and a project that is an integer or absent", "compare with the JSON Schema of PluginEvent"),
    Check::must("events.asked_for", "E-2", "sends the types of events that the manifest lists, and no others", "match each event with the manifest's list"),
    Check::must("events.order", "E-5", "sends events first in the order in which they happened", "keep one line for each plugin"),
    Check::must("events.kept", "E-8", "keeps events for a plugin that is down, and sends them in order", "keep a cursor for each plugin"),
    Check::must("events.payload", "E-13", "says in data what the type of a deployment's event promises", "compare with the tables of E"),
    Check::must("acks.window", "A-3", "has at most 64 events sent that are neither acked nor failed", "wait for an ack before you send the next").of(Feature::Ack),
    Check::must("acks.any_order", "A-5", "takes acks in any order, and goes on when the window has room", "look the event up by its id").of(Feature::Ack),
    Check::must("acks.settled", "A-1", "never sends an event again that was acked", "write down that it is settled before you forget it").of(Feature::Ack),
    Check::must("acks.error", "A-2", "sends an event again whose ack said error, after a wait", "wait 1 s before the first retry").of(Feature::Ack),
    Check::must("acks.same", "E-9", "sends the same event again, under the same id", "keep the event as it was first sent").of(Feature::Ack),
    Check::must("acks.go_on", "E-9", "goes on with later events while one waits for its retry", "keep retries beside the line").of(Feature::Ack),
    Check::must("acks.ignored", "A-6", "ignores acks of unknown ids, and second acks", "ignore what you cannot look up").of(Feature::Ack),
    Check::must("acks.lost_channel", "A-6", "sends what was not acked again over the new channel", "forget what was in flight when a channel is lost, and send it again").of(Feature::Ack),
    Check::must("acks.timeout", "A-4", "sends an event again that was not acked within 30 s", "treat it like an ack that says error").of(Feature::Ack),
    Check::must("acks.stop", "A-8", "sends what was not acked before a stop again to the next start", "count only acks as the end of an event").of(Feature::Ack),
    Check::must("crash.alone", "E-12", "sends an event during which the plugin crashed alone after the restart", "hold back the others until it was acked").of(Feature::Ack),
    Check::must("stop.order", "L-4", "closes the channel before it sends SIGTERM", "close first, then send SIGTERM"),
];

/// With a channel and no feature.
const PLAIN: &[Check] = &[
    Check::must("handshake.unknown_fields", "H-7", "ignores fields that it does not know, and takes null for an absent one", "read the manifest leniently"),
    Check::must("handshake.later_minor", "V-2", "takes a plugin of a later minor version", "compare the major version only"),
    Check::must("plain.no_config", "F-1", "sends no config frames to a plugin without that feature", "look at features in the ready line"),
    Check::must("data.permission", "D-2", "answers permission_denied to a method that was not granted", "check the grant at each call"),
    Check::must("plain.restart", "C-5", "restarts a plugin without reconnect whose channel was lost", "end the process and start it again"),
    Check::must("plain.ping", "E-6", "sends a ping after an event, to know that it was read", "send a ping behind the event"),
    Check::must("plain.settled", "E-6", "does not send an event again that was read and lived through", "settle it when the pong came and the plugin has lived for 5 s"),
    Check::must("events.filtered", "E-11", "leaves out events that the manifest's filters leave out", "look at filters after the types"),
    Check::must("crash.restart", "L-3", "starts a plugin again that exits", "start it again after 0.5 s, and after twice as long each time"),
    Check::must("crash.dead_letter", "E-12", "gives an event up that crashed the plugin three times, and goes on with the others", "count the crashes of each event"),
    Check::must("stop.grace", "L-4", "waits 10 s between SIGTERM and the kill", "give it its time, and kill it then"),
    Check::must("stop.nothing_left", "L-5", "ends everything that the plugin has started", "kill the process group, or better its control group"),
];

/// Without a channel.
const POST: &[Check] = &[
    Check::must("handshake.largest_lines", "H-2", "takes a manifest line of exactly 64 KiB and a ready line of exactly 1 MiB", "count the newline in"),
    Check::must("start.directory", "S-7", "runs a directory that holds an executable named plugin, and copies it whole", "copy all files with their modes"),
    Check::must("start.script", "S-8", "runs a script", "start the file itself, not an interpreter"),
    Check::must("post.request", "E-7", "sends POST /_events with Content-Type: application/json, a Content-Length and the event as its body", "do not send it in chunks"),
    Check::must("post.all", "E-2", "sends events of every type to a plugin that asks for *", "match * with everything"),
    Check::must("post.settled", "E-7", "never sends an event again that was answered with 2xx", "take any status from 200 to 299"),
    Check::must("post.again", "E-7", "sends an event again that was answered with 500, after a wait", "wait 1 s before the first retry"),
];

/// Whose first starts fail.
const STARTS: &[Check] = &[
    Check::must("starts.ready_false", "H-5", "takes ready:false as a failed start, and uses nothing of the plugin", "end it and start it again"),
    Check::must("starts.exit", "H-5", "takes an exit before ready as a failed start, and starts the plugin again", "start it again after a wait"),
    Check::must("starts.channel_refused", "C-2", "takes any other answer than 101, 404, 400, 426 and 501 to the channel's upgrade as a failed start", "end it and start it again"),
    Check::must("starts.channel_hangs", "C-2", "waits 5 s for the answer to the channel's upgrade", "end it and start it again"),
];

/// That is too slow.
const SLOW: &[Check] = &[
    Check::must("slow.ready", "H-2", "waits 30 s for the ready line, and ends a plugin that is later", "give each line 30 s"),
    Check::must("slow.unwell", "L-2", "restarts a plugin after 3 failed health requests in a row", "count them, and restart"),
];

/// Seen from outside.
pub(crate) const DRIVE: &[Check] = &[
    Check::must("refuses.talks_first", "H-1", "refuses a plugin whose first line is not the manifest", "read one line, and refuse it when it is something else"),
    Check::must("refuses.ready_first", "H-1", "refuses a plugin that says ready before its manifest", "look at type"),
    Check::must("refuses.long_manifest", "H-2", "refuses a manifest line of more than 64 KiB", "stop reading at the bound"),
    Check::must("refuses.long_ready", "H-2", "refuses a ready line of more than 1 MiB", "stop reading at the bound"),
    Check::must("refuses.other_manifest", "H-4", "refuses a start whose manifest is not the inspected one", "keep the inspected manifest, and compare"),
    Check::must("refuses.bad_name", "H-8", "refuses a name that is no name", "check the name's letters"),
    Check::must("refuses.kept_name", "H-8", "refuses a name that is kept for hosts", "compare with the list in H-8"),
    Check::must("refuses.same_name", "H-8", "holds another file that claims a name", "keep the file that first had it"),
    Check::must("refuses.many_events", "H-10", "refuses a list of more than 100 entries", "check the bounds of a manifest"),
    Check::must("refuses.relative_path", "H-10", "refuses a path that is not absolute", "check paths of a manifest"),
    Check::must("refuses.later_major", "V-2", "refuses a plugin of a later major version", "compare the major version with yours"),
    Check::must("data_directory.kept", "S-4", "keeps a plugin's data directory over restarts", "give each start the same directory"),
    Check::must("stop.unreachable", "R-9", "answers 503 for a plugin that does not run", "answer before you connect"),
    Check::must("routes.path", "R-1", "passes the path behind the prefix and the query on", "cut off /api/x/NAME, and nothing else"),
    Check::must("routes.methods", "R-1", "passes all methods and their bodies on, with or without a length", "pass bodies on as they come"),
    Check::must("routes.streams", "R-1", "passes an answer on while it comes", "do not gather an answer before you pass it on"),
    Check::must("routes.headers", "R-3", "adds X-Temps-Plugin, X-Temps-Request-Id, traceparent and X-Forwarded-*", "add the headers of the table"),
    Check::must("routes.no_forgery", "R-3", "passes no x-temps-* header of a caller on", "remove them before you add yours"),
    Check::must("routes.no_credentials", "R-4", "passes neither cookies nor credentials of a caller on", "remove Cookie and Authorization"),
    Check::must("routes.no_cookies_back", "R-4", "passes neither Set-Cookie nor CORS headers of a plugin on", "remove them from answers"),
    Check::must("routes.signed_in", "R-5", "lets nobody in who is not signed in", "ask for credentials before you pass anything on"),
    Check::must("routes.inner", "R-7", "passes nothing from outside on to /_temps/* and /_events", "answer 404 by yourself"),
    Check::must("routes.redirect", "R-8", "puts a redirect to an absolute path under the plugin's prefix", "write the prefix before it"),
];
