#!/usr/bin/env python3
"""Writes docs/sdk-parity.md: what the conformance kit finds of the minimal plugin of each SDK, check by check.

Everything must be built: `cargo build -p temps-cli -p minimal-rust`, and the Node SDK (scripts/setup.sh test does that).
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/sdk-parity.md"
MARKS = {"passed": "yes", "not_announced": "–", "warned": "no, it only should", "failed": "**no**", "not_run": "not run"}

HEAD = """# What each SDK does

Each column is the minimal plugin of one SDK (`examples/minimal-*`), put through the conformance kit (`temps plugin test`,
[how](guides/test-a-plugin.md)). `make parity` writes this page. A clause is one of [PROTOCOL](../spec/PROTOCOL.md); – means that
the plugin has nothing of the kind that is checked, which is the minimal plugin's matter and not the SDK's.

"""


def plugins(place):
    """The minimal plugin of each SDK, as a host would be given it."""
    python = place / "minimal-python"
    python.mkdir()
    shutil.copy(ROOT / "examples/minimal-python/minimal.py", python / "plugin")
    shutil.copytree(ROOT / "sdks/python/src/temps_plugin", python / "temps_plugin", ignore=shutil.ignore_patterns("__pycache__"))
    (python / "plugin").chmod(0o755)
    node, go = place / "minimal-node", place / "minimal-go"
    bundle = ["node", "sdks/node/scripts/bundle.js", "examples/minimal-node/plugin.js", str(node)]
    subprocess.run(bundle, cwd=ROOT, check=True)
    subprocess.run(["go", "build", "-o", str(go), "."], cwd=ROOT / "examples/minimal-go", check=True)
    return {"Rust": ROOT / "target/debug/minimal-rust", "Python": python, "Node": node, "Go": go}


def found(plugin):
    """What the kit says of a plugin: its checks by name."""
    kit = [str(ROOT / "target/debug/temps"), "--json", "plugin", "test", str(plugin)]
    said = subprocess.run(kit, capture_output=True, text=True)
    if not said.stdout:
        sys.exit(f"{plugin}: {said.stderr}")
    return {entry["name"]: entry for entry in json.loads(said.stdout)["entries"]}


def main():
    with tempfile.TemporaryDirectory() as place:
        columns = {sdk: found(plugin) for sdk, plugin in plugins(Path(place)).items()}
    lines = ["| Clause | Level | A plugin … | " + " | ".join(columns) + " |", "| --- | --- | --- |" + " --- |" * len(columns)]
    for name, entry in columns["Rust"].items():
        marks = [MARKS[column[name]["result"]] for column in columns.values()]
        lines.append(f"| {entry['clause']} | {entry['level']} | {entry['expects']} | {' | '.join(marks)} |")
    notes = """
The one difference: the SDK for Rust passes over arguments that it does not know, where **S-1** says that a plugin should refuse them,
so that a plugin of today starts under a host of tomorrow.
"""
    PAGE.write_text(HEAD + "\n".join(lines) + "\n" + notes)


main()
