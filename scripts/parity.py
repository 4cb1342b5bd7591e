#!/usr/bin/env python3
"""Writes docs/sdk-parity.md: what the conformance kit finds of one plugin in each SDK, check by check. With --check it only says
whether the page is up to date.

It fails where an SDK does not do something, and where a plugin has nothing to check without an explanation here.

Everything must be built: `cargo build -p temps-cli`, `cargo build -p temps-plugin-sdk --example parity`, and the Node SDK
(scripts/setup.sh test does that).
"""

import json
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/sdk-parity.md"
MARKS = {"passed": "yes", "not_announced": "–", "warned": "**no**", "failed": "**no**", "not_run": "**not run**"}

HEAD = """# What each SDK does

Each column is the same plugin in one SDK, put through the conformance kit (`temps plugin test`, [how](guides/test-a-plugin.md)). It
has everything that the kit can look at: events of all types, settings, storage, every data method, a page with an entry in the
navigation, a described route. Its sources are `crates/sdk/examples/parity.rs`, `sdks/python/tests/plugins/parity.py`,
`sdks/node/test/plugins/parity.js` and `sdks/go/internal/parity`. `make parity` writes this page, and `make test` sees to it that
nothing has changed. A clause is one of [PROTOCOL](../spec/PROTOCOL.md).

"""

#: Checks that no plugin of an SDK can be put to, by name, and why.
HOLES = {
    "events.posted": "This check is for plugins without a channel. Each SDK always serves the channel, so its events never come by "
    "`POST /_events`. That it answers these as well, by how the handler ended, is in its own tests: "
    "`a_posted_event_that_is_not_one_is_refused_with_the_right_status` (Rust), "
    "`test_posted_events_are_answered_with_how_they_went` (Python), "
    "`events by POST are answered by how their handler ended` (Node), `TestAnEventByPostIsSettledByItsAnswer` (Go).",
}


def plugins(place):
    """The plugin in each SDK, as a host would be given it."""
    python, node, go = place / "python", place / "node", place / "go"
    tests = ROOT / "sdks/python/tests/plugins"
    shutil.copytree(tests / "page", python / "page")
    shutil.copy(tests / "parity.py", python / "plugin")
    shutil.copytree(ROOT / "sdks/python/src/temps_plugin", python / "temps_plugin", ignore=shutil.ignore_patterns("__pycache__"))
    bundle = ["node", "sdks/node/scripts/bundle.js", "sdks/node/test/plugins/parity.js", str(node)]
    subprocess.run(bundle, cwd=ROOT, check=True)
    subprocess.run(["go", "build", "-o", str(go), "./internal/parity"], cwd=ROOT / "sdks/go", check=True)
    return {"Rust": ROOT / "target/debug/examples/parity", "Python": python, "Node": node, "Go": go}


def found(plugin):
    """What the kit says of a plugin: its checks by name."""
    kit = [str(ROOT / "target/debug/temps"), "--json", "plugin", "test", str(plugin)]
    said = subprocess.run(kit, capture_output=True, text=True)
    if not said.stdout:
        sys.exit(f"{plugin}: {said.stderr}")
    return {entry["name"]: entry for entry in json.loads(said.stdout)["entries"]}


def page(columns):
    """The page, and what must not stand on it."""
    lines = ["| Clause | Level | A plugin … | " + " | ".join(columns) + " |", "| --- | --- | --- |" + " --- |" * len(columns)]
    notes, wrong = [], []
    for name, entry in columns["Rust"].items():
        results = {sdk: column[name]["result"] for sdk, column in columns.items()}
        marks = [MARKS[result] for result in results.values()]
        note = ""
        if "not_announced" in results.values() and name in HOLES:
            notes.append(HOLES[name])
            note = f" ({len(notes)})"
        lines.append(f"| {entry['clause']} | {entry['level']} | {entry['expects']}{note} | {' | '.join(marks)} |")
        fine = ("passed", "not_announced") if name in HOLES else ("passed",)
        wrong += [f"{sdk}: {name}: {columns[sdk][name]}" for sdk, result in results.items() if result not in fine]
    text = HEAD + "\n".join(lines) + "\n"
    if notes:
        text += "\n– means that there is nothing to check:\n\n" + "".join(f"{at}. {note}\n" for at, note in enumerate(notes, 1))
    return text, wrong


def main():
    with tempfile.TemporaryDirectory(dir="/tmp") as place, ThreadPoolExecutor() as pool:
        made = plugins(Path(place))
        columns = dict(zip(made, pool.map(found, made.values())))
    text, wrong = page(columns)
    if wrong:
        sys.exit("not the same in each SDK:\n" + "\n".join(wrong))
    if "--check" not in sys.argv:
        PAGE.write_text(text)
    elif PAGE.read_text() != text:
        sys.exit("docs/sdk-parity.md is not what the kit finds; run `make parity`, and look at what has changed")


main()
