"""The package reads the specification's vectors as every SDK must, and what it writes reads back as the same."""

from __future__ import annotations

import json
import unittest
from typing import Any, Callable

from support import SPEC

from temps_plugin import channel, events, handshake, manifest, platform
from temps_plugin._rules import WireError, format_time, parse_object


def vectors() -> list[tuple[str, bool, str, dict[str, Any]]]:
    found = []
    for path in sorted(SPEC.glob("vectors/*/*/*.json")):
        kind, valid = path.parts[-3], path.parts[-2] == "valid"
        found.append((kind, valid, path.stem, json.loads(path.read_text())))
    return found


def wire(vector: dict[str, Any]) -> str:
    return vector["text"] if "text" in vector else json.dumps(vector["input"])


def _manifest(text: str) -> Any:
    return json.loads(manifest.PluginManifest.from_line(text).to_line())


def _ready(text: str) -> Any:
    return json.loads(handshake.Ready.from_line(text).to_line())


def _response(text: str) -> Any:
    frame = channel.Response.from_dict(parse_object(text, "frame"))
    meaning: dict[str, Any] = {"type": "response", "id": frame.id}
    if frame.error is None:
        meaning["result"] = frame.result
    else:
        meaning["error"] = {"code": frame.error.code, "message": frame.error.message}
        if frame.error.revision is not None:
            meaning["error"]["revision"] = frame.error.revision
    return meaning


def _host_frame(text: str) -> Any:
    frame = channel.read_frame(text)
    if isinstance(frame, events.Event):
        return {"type": "event", "event": frame.to_dict()}
    if isinstance(frame, channel.Response):
        return _response(text)
    raise WireError("a frame of another version")


def _shown(value: Any) -> Any:
    """A dataclass as it stood on the wire, as far as the vectors compare it."""
    return {name: format_time(v) if hasattr(v, "tzinfo") else v for name, v in vars(value).items() if v is not None}


def _name(text: str) -> Any:
    manifest.check_name(text)
    return text


def _pattern(text: str) -> Any:
    if not events.is_pattern(text):
        raise WireError("no pattern")
    return text


READERS: dict[str, Callable[[str], Any]] = {
    "PluginManifest": _manifest,
    "Ready": _ready,
    "Response": _response,
    "HostFrame": _host_frame,
    "PluginEvent": lambda text: events.Event.from_dict(parse_object(text, "event")).to_dict(),
    "ProjectInfo": lambda text: _shown(platform.Project.from_dict(json.loads(text))),
    "EnvironmentInfo": lambda text: _shown(platform.Environment.from_dict(json.loads(text))),
    "DeploymentInfo": lambda text: _shown(platform.Deployment.from_dict(json.loads(text))),
    "PluginName": _name,
    "EventPattern": _pattern,
    "FeatureList": handshake.parse_features,
}

# Frames that only a plugin sends, and parameters that only a host reads: here they are written, not read.
WRITTEN = {"Request", "Ack", "MethodParams"}

# Messages of features that this package does not announce, and payloads, which it hands on as they are.
NOT_READ = {
    *("Configuration", "KvEntry", "KvPage", "KvParams"),
    *("DeploymentCreated", "DeploymentReady", "DeploymentSucceeded", "DeploymentFailed", "DeploymentCancelled"),
    *("ProjectSubject", "EnvironmentSubject"),
}


def is_of_a_feature_that_is_not_announced(kind: str, vector: dict[str, Any]) -> bool:
    value = vector.get("input")
    return kind == "HostFrame" and isinstance(value, dict) and value.get("type") == "config"


class Vectors(unittest.TestCase):
    def test_every_kind_of_vector_has_a_reader_or_is_only_written(self) -> None:
        self.assertEqual({kind for kind, *_ in vectors()} - set(READERS) - WRITTEN - NOT_READ, set())

    def test_every_valid_vector_is_read_as_it_is_meant(self) -> None:
        for kind, valid, case, vector in vectors():
            if not valid or kind not in READERS or is_of_a_feature_that_is_not_announced(kind, vector):
                continue
            with self.subTest(f"{kind}/{case}"):
                meaning = READERS[kind](wire(vector))
                if "normalized" in vector:
                    wanted = vector["normalized"]
                elif isinstance(vector.get("input"), dict):
                    wanted = {name: value for name, value in vector["input"].items() if value is not None}
                else:
                    continue
                for name, value in wanted.items() if isinstance(wanted, dict) else ():
                    self.assertEqual(meaning.get(name), value, name)

    def test_every_invalid_vector_is_refused_and_the_refusal_names_the_field(self) -> None:
        for kind, valid, case, vector in vectors():
            if valid or kind not in READERS:
                continue
            with self.subTest(f"{kind}/{case}"):
                with self.assertRaises(WireError) as refused:
                    READERS[kind](wire(vector))
                if "field" in vector:
                    self.assertIn(vector["field"], str(refused.exception))

    def test_patterns_take_in_what_the_vectors_say(self) -> None:
        for kind, _, case, vector in vectors():
            if kind == "EventPattern":
                for event_type in vector.get("takes_in", []):
                    self.assertTrue(events.matches(vector["text"], event_type), (case, event_type))
                for event_type in vector.get("leaves_out", []):
                    self.assertFalse(events.matches(vector["text"], event_type), (case, event_type))

    def test_what_a_plugin_writes_is_what_the_valid_vectors_show(self) -> None:
        for kind, valid, case, vector in vectors():
            value = vector.get("input")
            if not valid or kind not in ("Request", "Ack") or not isinstance(value, dict):
                continue
            with self.subTest(f"{kind}/{case}"):
                if kind == "Ack":
                    reason = None if value["status"] == "ok" else value.get("error", "")
                    written = json.loads(channel.ack_frame(value["id"], reason))
                    self.assertEqual({**written, **value}, {**written, **value})
                    self.assertEqual(written["status"], value["status"])
                elif "type" in value and isinstance(value.get("params"), dict):
                    written = json.loads(channel.request_frame(value["id"], value["method"], value["params"]))
                    self.assertEqual(written, {name: value[name] for name in ("type", "id", "method", "params")})


class Transcripts(unittest.TestCase):
    def test_every_frame_of_the_transcripts_is_read(self) -> None:
        files = sorted(SPEC.glob("transcripts/*.jsonl"))
        self.assertTrue(files)
        for path in files:
            for number, text in enumerate(path.read_text().splitlines(), 1):
                step = json.loads(text)
                with self.subTest(f"{path.name}:{number}"):
                    if step["from"] == "host" and step["kind"] == "frame":
                        channel.read_frame(step["text"])
                    elif step["kind"] == "spawn":
                        launch = handshake.Launch.from_args(step["args"][1:], step["env"])
                        self.assertTrue(launch.socket_path)
                    elif step["kind"] == "http_request" and step["path"] == "/_events":
                        events.Event.from_dict(step["body"])


if __name__ == "__main__":
    unittest.main()
