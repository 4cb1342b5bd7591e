//! What only the outside can see.

use crate::check::Check;

/// Seen from outside.
pub(crate) const DRIVE: &[Check] = &[
    Check::must(
        "refuses.talks_first",
        "H-1",
        "refuses a plugin whose first line is not the manifest",
        "read one line, and refuse it when it is something else",
    ),
    Check::must(
        "refuses.ready_first",
        "H-1",
        "refuses a plugin that says ready before its manifest",
        "look at type",
    ),
    Check::must(
        "refuses.long_manifest",
        "H-2",
        "refuses a manifest line of more than 64 KiB",
        "stop reading at the bound",
    ),
    Check::must(
        "refuses.long_ready",
        "H-2",
        "refuses a ready line of more than 1 MiB",
        "stop reading at the bound",
    ),
    Check::must(
        "refuses.other_manifest",
        "H-4",
        "refuses a start whose manifest is not the inspected one",
        "keep the inspected manifest, and compare",
    ),
    Check::must("refuses.bad_name", "H-8", "refuses a name that is no name", "check the name's letters"),
    Check::must(
        "refuses.kept_name",
        "H-8",
        "refuses a name that is kept for hosts",
        "compare with the list in H-8",
    ),
    Check::must(
        "refuses.same_name",
        "H-8",
        "holds another file that claims a name",
        "keep the file that first had it",
    ),
    Check::must(
        "refuses.many_events",
        "H-10",
        "refuses a list of more than 100 entries",
        "check the bounds of a manifest",
    ),
    Check::must(
        "refuses.relative_path",
        "H-10",
        "refuses a path that is not absolute",
        "check paths of a manifest",
    ),
    Check::must(
        "refuses.later_major",
        "V-2",
        "refuses a plugin of a later major version",
        "compare the major version with yours",
    ),
    Check::must(
        "data_directory.kept",
        "S-4",
        "keeps a plugin's data directory over restarts",
        "give each start the same directory",
    ),
    Check::must(
        "stop.unreachable",
        "R-9",
        "answers 503 for a plugin that does not run",
        "answer before you connect",
    ),
    Check::must(
        "routes.path",
        "R-1",
        "passes the path behind the prefix and the query on",
        "cut off /api/x/NAME, and nothing else",
    ),
    Check::must(
        "routes.methods",
        "R-1",
        "passes all methods and their bodies on, with or without a length",
        "pass bodies on as they come",
    ),
    Check::must(
        "routes.streams",
        "R-1",
        "passes an answer on while it comes",
        "do not gather an answer before you pass it on",
    ),
    Check::must(
        "routes.headers",
        "R-3",
        "adds X-Temps-Plugin, X-Temps-Request-Id, traceparent and X-Forwarded-*",
        "add the headers of the table",
    ),
    Check::must(
        "routes.no_forgery",
        "R-3",
        "passes no x-temps-* header of a caller on",
        "remove them before you add yours",
    ),
    Check::must(
        "routes.no_credentials",
        "R-4",
        "passes neither cookies nor credentials of a caller on",
        "remove Cookie and Authorization",
    ),
    Check::must(
        "routes.no_cookies_back",
        "R-4",
        "passes neither Set-Cookie nor CORS headers of a plugin on",
        "remove them from answers",
    ),
    Check::must(
        "routes.signed_in",
        "R-5",
        "lets nobody in who is not signed in",
        "ask for credentials before you pass anything on",
    ),
    Check::must(
        "routes.inner",
        "R-7",
        "passes nothing from outside on to /_temps/* and /_events",
        "answer 404 by yourself",
    ),
    Check::must(
        "pages.there",
        "U-1",
        "shows a plugin's pages below its prefix at ui/",
        "pass /ui/ on to a plugin whose ready line says has_ui",
    ),
    Check::must(
        "pages.open",
        "U-4",
        "gives files below ui/ to anybody who asks",
        "ask for no credentials there",
    ),
    Check::must(
        "routes.redirect",
        "R-8",
        "puts a redirect to an absolute path under the plugin's prefix",
        "write the prefix before it",
    ),
];
