"""Plugins of this SDK against the real host: one life with everything in it, one file, and a directory with packages."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sys
import tempfile
import unittest
from pathlib import Path

from real_host import CHECKOUT, EXAMPLES, RealHost, same_python_as_plugins_have, temps_program, with_packages, zipped
from support import ROOT, skipped_loudly


class RealHostTest(unittest.TestCase):
    def setUp(self) -> None:
        self.built = Path(tempfile.mkdtemp(prefix="temps-py-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.built, True)

    def test_one_life_of_the_minimal_example_as_one_file(self) -> None:
        if temps_program() is None:
            return skipped_loudly(self, "`temps` is not built; run `cargo build -p temps-cli`, or set TEMPS_BIN")
        source = EXAMPLES / "minimal-python/minimal.py"
        with RealHost() as host:
            built = zipped(source, "minimal:plugin.run", self.built)
            host.passes_the_kit(built)
            host.plays(built, "minimal-python")
            host.drop(built, "minimal-python")
            first = host.until_running("minimal-python")
            self.assertEqual((first["version"], "channel" in str(first)), ("0.1.0", True))

            # An event comes in, the platform is asked, and its own route answers from its storage.
            site = "https://shop.example.com"
            host.temps("deployment", "report", "--project", "shop", "--state", "succeeded", "--site", site)
            wanted = {"text": "last deployed: shop", "url": site}
            last = "/api/x/minimal-python/last"
            host.until("the deployment is remembered", lambda: host.request(last) == (200, wanted))

            # The operator changes its settings.
            host.temps("plugin", "config", "set", "minimal-python", "greeting=newest")
            wanted["text"] = "newest: shop"
            host.until("the greeting has changed", lambda: host.request(last) == (200, wanted))
            told = "the greeting is now newest"
            host.until("the hook has run", lambda: told in str(host.request("/api/plugins/minimal-python/logs")[1]))

            # It is killed, comes back, and still knows.
            os.kill(first["pid"], signal.SIGKILL)
            second = host.until_running("minimal-python", not_pid=first["pid"])
            host.until("it still knows", lambda: host.request(last) == (200, wanted))

            # It is updated.
            newer = self.built / "newer"
            newer.mkdir()
            text = source.read_text().replace('version="0.1.0"', 'version="0.2.0"')
            (newer / "minimal.py").write_text(text)
            host.drop(zipped(newer / "minimal.py", "minimal:plugin.run", newer), "minimal-python")
            host.until_running("minimal-python", version="0.2.0", not_pid=second["pid"])
            host.until("it answers after the update", lambda: host.request(last) == (200, wanted))

            # It is stopped, in order.
            host.temps("plugin", "stop", "minimal-python")
            host.until("it has stopped", lambda: host.info("minimal-python").get("state") == "stopped")
            self.assertEqual(host.request(last)[0], 503)

    def test_an_event_that_a_handler_fails_on_comes_again(self) -> None:
        if temps_program() is None:
            return skipped_loudly(self, "`temps` is not built; run `cargo build -p temps-cli`, or set TEMPS_BIN")
        source = self.built / "moody.py"
        source.write_text(
            "from temps_plugin import Plugin, PluginManifest\n"
            "plugin = Plugin(PluginManifest(name='moody', version='1.0.0', events=['shop.*']))\n"
            "tries = []\n"
            "@plugin.on('shop.*')\n"
            "def take(ctx, event):\n"
            "    tries.append(event.id)\n"
            "    if len(tries) == 1:\n"
            "        raise RuntimeError('not now')\n"
            "@plugin.get('/tries')\n"
            "def show(ctx, request):\n"
            "    return tries\n"
        )
        with RealHost() as host:
            host.drop(zipped(source, "moody:plugin.run", self.built), "moody")
            host.until_running("moody")
            host.temps("event", "publish", "shop.sold", "--data", "{}")
            host.until("it came again", lambda: len(host.request("/api/x/moody/tries")[1]) == 2)
            tries = host.request("/api/x/moody/tries")[1]
            self.assertEqual(tries[0], tries[1])
            settled = ("delivery", "list", "--plugin", "moody", "--state", "settled")
            host.until("the host knows that it was handled", lambda: host.temps(*settled)["items"])

    def test_a_fastapi_application_in_a_directory_with_its_packages(self) -> None:
        if temps_program() is None:
            return skipped_loudly(self, "`temps` is not built; run `cargo build -p temps-cli`, or set TEMPS_BIN")
        if importlib.util.find_spec("fastapi") is None:
            return skipped_loudly(self, "FastAPI is not installed; run `scripts/setup.sh test` with a network")
        if not same_python_as_plugins_have():
            return skipped_loudly(self, f"plugins find another Python than {sys.version_info[:2]}, which packages must fit")
        home = self.built / "fastapi-notes"
        home.mkdir()
        for name in ("app.py", "plugin"):
            shutil.copy(EXAMPLES / "fastapi" / name, home)
        shutil.copytree(ROOT / "src/temps_plugin", home / "temps_plugin")
        with_packages(["fastapi"], home)
        with RealHost() as host:
            host.passes_the_kit(home)
            host.drop(home, "fastapi-notes")
            host.until_running("fastapi-notes")
            notes = "/api/x/fastapi-notes/notes"
            self.assertEqual(host.request(notes), (200, {"1": {"text": "water the plants"}}))
            self.assertEqual(host.request(notes, "POST", {"text": "feed the cat"}), (201, 2))
            status, problem = host.request(notes, "POST", {"text": ""})
            self.assertEqual((status, problem["detail"][0]["loc"]), (422, ["body", "text"]))
            self.assertEqual(host.request(notes + "/2"), (200, {"text": "feed the cat"}))
            self.assertEqual(host.request(notes + "/9")[0], 404)
            self.assertTrue(host.request("/api/x/fastapi-notes/seen-by")[1])
            # With a slash too many, the application leads to the right place, and the host keeps it under the prefix.
            self.assertEqual(host.request(notes + "/2/"), (200, {"text": "feed the cat"}))
            report = ["deployment", "report", "--project", "shop", "--state", "failed", "--error", "no space"]
            host.temps(*report)
            host.until("the event became a note", lambda: "no space" in str(host.request(notes)[1]))
            paths = host.request("/api/openapi.json")[1]["paths"]
            self.assertIn("/api/x/fastapi-notes/notes/{number}", paths)

    def test_the_official_plugin_keeps_a_digest_at_the_host(self) -> None:
        if temps_program() is None:
            return skipped_loudly(self, "`temps` is not built; run `cargo build -p temps-cli`, or set TEMPS_BIN")
        package = CHECKOUT / "plugins/deploy-digest/deploy_digest"
        with RealHost() as host:
            built = zipped(package, "deploy_digest:plugin.run", self.built)
            host.passes_the_kit(built)
            host.drop(built, "deploy-digest")
            first = host.until_running("deploy-digest")
            route = "/api/x/deploy-digest/digest"
            report = ["deployment", "report", "--project", "shop"]
            host.temps(*report, "--state", "succeeded", "--site", "https://shop.example.com")
            host.temps(*report, "--state", "failed", "--error", "no space", "--environment", "preview")
            counts = lambda: [host.request(route)[1].get(outcome) for outcome in ("succeeded", "failed")]  # noqa: E731
            host.until("both are in the digest", lambda: counts() == [1, 1])
            self.assertEqual(host.request(route)[1]["failures"][0]["error"], "no space")
            self.assertIn("! shop/preview: no space", host.request(route + ".txt")[1])
            status, page = host.request("/api/x/deploy-digest/ui/")
            self.assertEqual((status, "Deployment digest" in page), (200, True))

            # What the operator does not want does not count, and nothing is lost with the process.
            host.temps("plugin", "config", "set", "deploy-digest", 'environments=["production"]')
            os.kill(first["pid"], signal.SIGKILL)
            host.until_running("deploy-digest", not_pid=first["pid"])
            host.temps(*report, "--state", "failed", "--environment", "preview")
            host.temps(*report, "--state", "succeeded")
            host.until("only production counts", lambda: counts() == [2, 1])


if __name__ == "__main__":
    unittest.main()
