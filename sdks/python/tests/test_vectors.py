"""The package reads the specification's vectors as every SDK must, and what it writes reads back as the same."""

from __future__ import annotations

import dataclasses
import json
import re
import unittest
from typing import Any, Callable

from support import SPEC

from temps_plugin import channel, config, data, events, handshake, kv, manifest, payload
from temps_plugin._rules import WireError, parse_object


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
    if isinstance(frame, config.Configuration):
        return {"type": "config", **frame.to_dict()}
    raise WireError("a frame of another version")


def _message(form: Any) -> Callable[[str], Any]:
    return lambda text: form.from_dict(json.loads(text)).to_dict()


def _page(text: str) -> Any:
    entries, cursor = kv.read_page(json.loads(text))
    return {"entries": [entry.to_dict() for entry in entries], "cursor": cursor}


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
    "ProjectInfo": _message(data.Project),
    "EnvironmentInfo": _message(data.Environment),
    "DeploymentInfo": _message(data.Deployment),
    "Configuration": _message(config.Configuration),
    "KvEntry": _message(kv.Entry),
    "KvPage": _page,
    **{form.__name__: _message(form) for form in payload.PAYLOADS.values()},
    "PluginName": _name,
    "EventPattern": _pattern,
    "FeatureList": handshake.parse_features,
}

# Frames that only a plugin sends, and parameters that only a host reads: here they are written, not read.
WRITTEN = {"Request", "Ack", "MethodParams", "KvParams"}


class Vectors(unittest.TestCase):
    def test_every_kind_of_vector_has_a_reader_or_is_only_written(self) -> None:
        self.assertEqual({kind for kind, *_ in vectors()} - set(READERS) - WRITTEN, set())

    def test_every_valid_vector_is_read_as_it_is_meant(self) -> None:
        for kind, valid, case, vector in vectors():
            if not valid or kind not in READERS:
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


class Forms(unittest.TestCase):
    """The package's classes and the specification's schemas say the same."""

    FORMS: dict[str, Any] = {
        "ProjectInfo": data.Project,
        "EnvironmentInfo": data.Environment,
        "DeploymentInfo": data.Deployment,
        "Configuration": config.Configuration,
        "KvEntry": kv.Entry,
        **{form.__name__: form for form in payload.PAYLOADS.values()},
    }

    def test_every_class_has_the_fields_of_its_schema_and_asks_for_those_that_must_be_there(self) -> None:
        for name, form in self.FORMS.items():
            with self.subTest(name):
                schema = json.loads((SPEC / "schema" / f"{name}.json").read_text())
                fields = dataclasses.fields(form)
                self.assertEqual({field.name for field in fields}, set(schema["properties"]))
                required = {field.name for field in fields if field.default is dataclasses.MISSING}
                self.assertEqual(required, set(schema["required"]))

    def test_every_event_type_of_the_specification_has_its_payload_and_no_other_has_one(self) -> None:
        table = re.findall(r"^\| (`[^|]+`) \|", (SPEC.parent / "PROTOCOL.md").read_text().split("## E —")[1], re.M)
        types = {kind for row in table for kind in re.findall(r"`([a-z]+\.[a-z]+)`", row)}
        self.assertEqual(types, set(payload.PAYLOADS))

    def test_the_manifest_has_every_field_of_its_schema(self) -> None:
        schema = json.loads((SPEC / "schema" / "PluginManifest.json").read_text())
        fields = {field.name for field in dataclasses.fields(manifest.PluginManifest)}
        self.assertEqual(fields | {"type"}, set(schema["properties"]) | {"type"})

    def test_methods_and_features_are_those_of_the_specification(self) -> None:
        protocol = (SPEC.parent / "PROTOCOL.md").read_text()
        asked = re.findall(r"^  \| `(\w+)` \|", protocol, re.M)
        own = {name for name in asked if name.startswith("kv_")}
        self.assertEqual({name for name in asked if name.startswith(("get_", "list_"))}, set(manifest.METHODS))
        self.assertEqual(own, {"kv_get", "kv_put", "kv_delete", "kv_list"})
        self.assertEqual(set(handshake.FEATURES), set(re.findall(r"^- \*\*F-\d+\*\* `(\w+)`:", protocol, re.M)))

    def test_revisions_have_64_bits_and_ids_32(self) -> None:
        self.assertEqual(kv.Entry.from_dict({"key": "k", "revision": 2**62}).revision, 2**62)
        self.assertEqual(config.Configuration.from_dict({"config": {}, "revision": 2**62}).revision, 2**62)
        for form, wire in ((kv.Entry, {"key": "k", "revision": 2**63}), (payload.DeploymentReady, {"deployment_id": 2**31})):
            with self.assertRaises(WireError):
                form.from_dict(wire)

    def test_a_payload_of_a_known_type_is_typed_and_one_of_another_is_not(self) -> None:
        def read(kind: str, **of: Any) -> Any:
            stamp = {"id": "1", "timestamp": "2026-06-06T12:00:00Z"}
            return events.Event.from_dict({"event_type": kind, "data": of, **stamp}).payload()

        live = read("deployment.succeeded", deployment_id=7, url="https://shop.example.com", later=True)
        self.assertEqual(live, payload.DeploymentSucceeded(7, url="https://shop.example.com"))
        self.assertIsInstance(live, payload.DeploymentSubject)
        self.assertIsNone(read("shop.sold", price=3))
        with self.assertRaisesRegex(payload.PayloadError, "deployment.failed.*deployment_id"):
            read("deployment.failed")


class CommandLine(unittest.TestCase):
    GIVEN = ["--socket-path", "/s", "--auth-secret=a=b", "--data-dir", "/d"]

    def test_unknown_arguments_are_refused_and_what_older_hosts_give_is_passed_over(self) -> None:
        for unknown in ("--of-a-later-version", "--verbose=1", "word"):
            with self.assertRaisesRegex(handshake.UsageError, "unknown argument"):
                handshake.Launch.from_args([*self.GIVEN, unknown, "1"], {})
        launch = handshake.Launch.from_args(["--database-url", "postgres://u:p@h/d", *self.GIVEN], {})
        self.assertEqual((launch.socket_path, launch.auth_secret, launch.database_url), ("/s", "a=b", None))


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
