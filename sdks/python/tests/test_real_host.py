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

from real_host import CHECKOUT, EXAMPLES, RealHost, same_python_as_plugins_have, with_packages, with_real_host, zipped
from support import ROOT, skipped_loudly

MINIMAL = EXAMPLES / "minimal-python/minimal.py"


class RealHostTest(unittest.TestCase):
    def setUp(self) -> None:
        self.built = Path(tempfile.mkdtemp(prefix="temps-py-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.built, True)


class OneLife(RealHostTest):
    """One life of the minimal example, step by step as in `sdks/README.md`."""

    @with_real_host
    def test_one_life_of_the_minimal_example_as_one_file(self, host: RealHost) -> None:
        # Step: It passes the conformance kit.
        built = zipped(MINIMAL, "minimal:plugin.run", self.built)
        host.passes_the_kit(built)
        host.plays(built, "minimal-python")

        # Step: It is dropped into the plugins directory, and runs in its sandbox.
        host.drop(built, "minimal-python")
        first = host.until_running("minimal-python")
        self.assertEqual(first["version"], "0.1.0")
        host.is_in_its_sandbox("minimal-python")

        # Step: An event comes in, the platform is asked, and its own route answers from its storage.
        site = "https://shop.example.com"
        host.temps("deployment", "report", "--project", "shop", "--state", "succeeded", "--site", site)
        self.answers(host, "last deployed: shop")
        settled = ("delivery", "list", "--plugin", "minimal-python", "--state", "settled")
        host.until("the event is confirmed", lambda: host.temps(*settled)["items"])

        # Step: The operator changes its settings, and it is told.
        host.temps("plugin", "config", "set", "minimal-python", "greeting=newest")
        self.answers(host, "newest: shop")
        host.until("the hook has run", lambda: "the greeting is now newest" in host.logs("minimal-python"))

        # Step: It is killed, comes back, and still knows.
        os.kill(first["pid"], signal.SIGKILL)
        second = host.until_running("minimal-python", not_pid=first["pid"])
        self.answers(host, "newest: shop")

        # Step: It is updated, and still knows.
        host.drop(self.newer(), "minimal-python")
        third = host.until_running("minimal-python", version="0.2.0", not_pid=second["pid"])
        self.answers(host, "newest: shop")

        # Step: It is stopped in order, and answers no more.
        host.temps("plugin", "stop", "minimal-python")
        host.until("it has stopped", lambda: host.info("minimal-python").get("state") == "stopped")
        self.assertIn("ending: it was told to", host.logs("minimal-python"))
        self.assertEqual(host.request("/api/x/minimal-python/last")[0], 503)

        # Step: It is started again, its host is killed, and nothing of it is left.
        host.temps("plugin", "start", "minimal-python")
        pid = host.until_running("minimal-python", not_pid=third["pid"])["pid"]
        host.process.kill()
        host.until("it has ended with its host", lambda: not Path(f"/proc/{pid}").exists())

    def answers(self, host: RealHost, text: str) -> None:
        """Waits until the plugin's own route says this."""
        wanted = {"text": text, "url": "https://shop.example.com"}
        host.until(text, lambda: host.request("/api/x/minimal-python/last") == (200, wanted))

    def newer(self) -> Path:
        """The next version."""
        home = self.built / "newer"
        home.mkdir()
        (home / "minimal.py").write_text(MINIMAL.read_text().replace('version="0.1.0"', 'version="0.2.0"'))
        return zipped(home / "minimal.py", "minimal:plugin.run", home)


class OtherLives(RealHostTest):
    @with_real_host
    def test_an_event_that_a_handler_fails_on_comes_again(self, host: RealHost) -> None:
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
        host.drop(zipped(source, "moody:plugin.run", self.built), "moody")
        host.until_running("moody")
        host.temps("event", "publish", "shop.sold", "--data", "{}")
        host.until("it came again", lambda: len(host.request("/api/x/moody/tries")[1]) == 2)
        tries = host.request("/api/x/moody/tries")[1]
        self.assertEqual(tries[0], tries[1])
        settled = ("delivery", "list", "--plugin", "moody", "--state", "settled")
        host.until("the host knows that it was handled", lambda: host.temps(*settled)["items"])

    @with_real_host
    def test_a_fastapi_application_in_a_directory_with_its_packages(self, host: RealHost) -> None:
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

    @with_real_host
    def test_the_official_plugin_keeps_a_digest_at_the_host(self, host: RealHost) -> None:
        package = CHECKOUT / "plugins/deploy-digest/deploy_digest"
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
