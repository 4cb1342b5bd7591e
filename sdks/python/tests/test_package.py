"""The package as it is given to authors: its types, its wheel, and the one file that it makes of a plugin."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipapp
import zipfile
from pathlib import Path

from support import ROOT, skipped_loudly

from temps_plugin.testing import TestHost

TOOLS = "run `scripts/setup.sh test` with a network"

# What a type checker must refuse, and what it must know, in a plugin of an author who checks strictly.
TYPED = """
from temps_plugin import Context, DeploymentSucceeded, Event, Plugin, PluginManifest, Request

plugin = Plugin(PluginManifest(name="typed", version="1.0.0"))

@plugin.on("deployment.succeeded")
async def live(ctx: Context, event: Event) -> None:
    payload = event.payload()
    if isinstance(payload, DeploymentSucceeded):
        reveal_type(payload.url)
    project = await ctx.platform.get_project("one")

@plugin.get("/last")
async def last(ctx: Context, request: Request) -> str:
    reveal_type(await ctx.kv.keys())
    return request.params["id"]
"""


def run(*command: object, **options: object) -> "subprocess.CompletedProcess[str]":
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, **options)  # type: ignore[call-overload]


class Package(unittest.IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        # In /tmp by name, because a socket's path has at most 107 bytes.
        self.home = Path(tempfile.mkdtemp(prefix="temps-py-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.home, True)

    def test_the_package_passes_mypy_strictly(self) -> None:
        if importlib.util.find_spec("mypy") is None:
            return skipped_loudly(self, f"mypy is not installed; {TOOLS}")
        checked = run(sys.executable, "-m", "mypy", "--cache-dir", self.home, cwd=ROOT)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        plugin = ROOT.parents[1] / "plugins/deploy-digest/deploy_digest"
        environ = {**os.environ, "MYPYPATH": str(ROOT / "src")}
        checked = run(sys.executable, "-m", "mypy", "--strict", "--cache-dir", self.home, plugin, env=environ)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)

    def test_it_installs_as_a_wheel_with_its_types_and_an_authors_mistakes_are_found(self) -> None:
        if importlib.util.find_spec("setuptools") is None or importlib.util.find_spec("mypy") is None:
            return skipped_loudly(self, f"setuptools and mypy are not installed; {TOOLS}")
        # A copy, because building leaves files beside the sources.
        shutil.copytree(ROOT, self.home / "sdk", ignore=shutil.ignore_patterns("tests", "__pycache__"))
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        quiet = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
        built = run(*pip, "wheel", *quiet, "-w", self.home, self.home / "sdk")
        self.assertEqual(built.returncode, 0, built.stderr)
        (wheel,) = self.home.glob("*.whl")
        names = set(zipfile.ZipFile(wheel).namelist())
        sources = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
        self.assertEqual(sources | {"temps_plugin/py.typed"}, {name for name in names if "dist-info" not in name})
        site = self.home / "site"
        installed = run(*pip, "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel)
        self.assertEqual(installed.returncode, 0, installed.stderr)

        (self.home / "typed.py").write_text(TYPED)
        environ = {**os.environ, "PYTHONPATH": str(site), "MYPYPATH": ""}
        mypy = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", self.home / "cache", "typed.py"]
        said = run(*mypy, cwd=self.home, env=environ).stdout
        self.assertIn("10: note: Revealed type is \"builtins.str | None\"", said)
        self.assertIn("15: note: Revealed type is \"builtins.list[builtins.str]\"", said)
        self.assertIn('incompatible type "str"; expected "int"', said)
        self.assertEqual(said.count("error:"), 1, said)

    async def test_one_file_with_a_page_inside_is_a_plugin(self) -> None:
        build = self.home / "build"
        shutil.copytree(ROOT / "src/temps_plugin", build / "temps_plugin")
        page = build / "board" / "ui"
        page.mkdir(parents=True)
        (page / "index.html").write_text("<title>board")
        (build / "board" / "__init__.py").write_text(
            "from importlib.resources import files\n"
            "from temps_plugin import Plugin, PluginManifest\n"
            "plugin = Plugin(PluginManifest(name='board', version='1.0.0', events=['*']))\n"
            "plugin.ui(files('board') / 'ui')\n"
            "@plugin.get('/ok')\n"
            "def ok(ctx, request):\n"
            "    return 'fine'\n"
        )
        one_file = self.home / "board"
        zipapp.create_archive(build, one_file, interpreter=sys.executable, main="board:plugin.run")
        shutil.rmtree(build)
        self.assertTrue(os.access(one_file, os.X_OK))
        async with TestHost(one_file) as host:
            self.assertTrue(host.ready.has_ui)
            self.assertEqual((await host.get("/ok")).text, "fine")
            for path in ("/ui/", "/ui/some/page"):
                self.assertEqual((await host.get(path)).text, "<title>board")
            for path in ("/ui/../__init__.py", "/ui/%2e%2e/__init__.py", "/ui/none.js"):
                self.assertEqual((await host.get(path)).status, 404, path)
            await host.deliver("shop.sold")

    def test_a_start_imports_nothing_that_only_some_plugins_need(self) -> None:
        program = "import sys; before = set(sys.modules); import temps_plugin; print(*sorted(set(sys.modules) - before))"
        environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        loaded = set(run(sys.executable, "-c", program, env=environ).stdout.split())
        self.assertIn("temps_plugin.server", loaded)
        ours = {f"temps_plugin.{name}" for name in ("testing", "payload", "pages", "asgi")}
        self.assertEqual(loaded & {*ours, "zipfile", "mimetypes", "http.client", "http.server", "email"}, set())


if __name__ == "__main__":
    unittest.main()
