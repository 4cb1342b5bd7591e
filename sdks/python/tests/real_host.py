"""The real daemon for one test, in a home of its own, known as a program only."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipapp
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Iterable, Optional, TypeVar

from support import PATIENCE, ROOT, skipped_loudly

T = TypeVar("T")

CHECKOUT = ROOT.parents[1]
EXAMPLES = CHECKOUT / "examples"

#: Time between two looks at something that no event tells of, in seconds.
LOOK_INTERVAL = 0.05


def temps_program() -> Optional[Path]:
    """The built `temps`; ``None`` when there is none. The stage for Python runs after that which builds it."""
    program = Path(os.environ.get("TEMPS_BIN") or CHECKOUT / "target/debug/temps")
    return program if program.exists() else None


def with_real_host(test: Callable[[Any, RealHost], None]) -> Callable[[Any], None]:
    """Gives a test a running daemon of its own. Where `temps` is not built the test is skipped, loudly."""

    @functools.wraps(test)
    def with_host(self: Any) -> None:
        if temps_program() is None:
            return skipped_loudly(self, "`temps` is not built; run `cargo build -p temps-cli`, or set TEMPS_BIN")
        with RealHost() as host:
            test(self, host)

    return with_host


class RealHost:
    """A running daemon. Use it with `with`."""

    def __enter__(self) -> RealHost:
        program = temps_program()
        assert program is not None
        self.program = program
        # In /tmp by name, because a socket's path has at most 107 bytes.
        self.home = Path(tempfile.mkdtemp(prefix="temps-py-", dir="/tmp"))
        self.plugins = self.home / "plugins"
        self.plugins.mkdir()
        self._log = open(self.home / "daemon.log", "wb")
        self.environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.home), "TEMPS_HOME": str(self.home)}
        command = [str(program), "--json", "serve", "--log-format", "json", "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            command, env=self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.__exit__()
            raise RuntimeError("the daemon did not start")
        self.url = json.loads(line)["url"].rstrip("/")
        self.environ["TEMPS_URL"] = self.url
        self.token = (self.home / "state/admin-token").read_text().strip()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()
        shutil.rmtree(self.home, ignore_errors=True)

    def passes_the_kit(self, plugin: Path) -> None:
        """Puts a plugin through the conformance kit, black box."""
        report = self.temps("plugin", "test", str(plugin))
        if not report["conformant"] or report["counts"]["passed"] < 30:
            raise AssertionError(f"{plugin} does not pass the kit: {report}")

    def plays(self, plugin: Path, name: str) -> None:
        """Plays the transcript of the minimal example against a plugin of this name."""
        text = (CHECKOUT / "spec/v1/transcripts/minimal-example.jsonl").read_text()
        transcript = self.home / "minimal-example.jsonl"
        transcript.write_text(text.replace('\\"name\\":\\"minimal\\"', f'\\"name\\":\\"{name}\\"'))
        played = self.temps("plugin", "test", str(plugin), "--transcript", str(transcript))
        assert played["conformant"], played

    def temps(self, *arguments: str) -> Any:
        """Runs a command that must succeed, and returns what it gave as JSON."""
        command = [str(self.program), "--json", *arguments]
        done = subprocess.run(command, env=self.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return json.loads(done.stdout) if done.stdout.strip() else None

    def drop(self, source: Path, name: str) -> None:
        """Puts a file or a directory into the plugins directory, whole or not at all."""
        hidden = self.plugins / f".{name}"
        if source.is_dir():
            shutil.copytree(source, hidden)
            shutil.rmtree(self.plugins / name, ignore_errors=True)
        else:
            shutil.copy(source, hidden)
        hidden.rename(self.plugins / name)

    def request(self, path: str, method: str = "GET", body: Any = None) -> tuple[int, Any]:
        """A request of the admin; the answer's body as JSON where it is that."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, _json(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _json(error.read())

    def until(self, what: str, look: Callable[[], Optional[T]]) -> T:
        """Looks until there is something."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = look()
            if found:
                return found
            time.sleep(LOOK_INTERVAL)
        raise AssertionError(f"not seen: {what}\n{(self.home / 'daemon.log').read_text()[-5000:]}")

    def info(self, plugin: str) -> Any:
        """What the daemon says of a plugin; empty while it does not know it."""
        return self.request(f"/api/plugins/{plugin}")[1] or {}

    def logs(self, plugin: str) -> str:
        """What the daemon has of a plugin's log."""
        return str(self.request(f"/api/plugins/{plugin}/logs")[1])

    def is_in_its_sandbox(self, plugin: str) -> None:
        """What was read back of the running plugin shows no layer that is wanted, possible, and not there."""
        layers = self.temps("plugin", "explain", plugin)["layers"]
        states = {layer["layer"]: layer["state"] for layer in layers}
        if "not_in_force" in states.values() or states.get("privileges") != "in_force":
            raise AssertionError(f"{plugin} is not in its sandbox: {layers}")

    def until_running(self, plugin: str, version: Optional[str] = None, not_pid: Optional[int] = None) -> Any:
        """Waits until a plugin runs (in this version, as another process), and returns what the daemon says of it."""

        def look() -> Any:
            info = self.info(plugin)
            right = info.get("state") == "running" and version in (None, info.get("version"))
            return info if right and info.get("pid") != not_pid else None

        return self.until(f"{plugin} runs; it is {self.info(plugin)}", look)


def zipped(source: Path, main: str, into: Path) -> Path:
    """One file of a module or a package, together with the SDK, as an author makes it."""
    build = into / "build"
    build.mkdir()
    for part in (source, ROOT / "src/temps_plugin"):
        if part.is_dir():
            shutil.copytree(part, build / part.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(part, build)
    target = into / source.stem
    zipapp.create_archive(build, target, interpreter="/usr/bin/env python3", main=main)
    return target


def with_packages(names: Iterable[str], into: Path) -> None:
    """Copies installed packages with all that they need, as `pip install --target` would put them there."""
    wanted, seen = list(names), set()
    while wanted:
        name = wanted.pop()
        if name.lower() in seen:
            continue
        seen.add(name.lower())
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # Only where some other system or version of Python needs it.
        for file in package.files or []:
            source = Path(str(package.locate_file(file)))
            if ".." not in file.parts and source.is_file() and source.suffix != ".pyc":
                (into / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, into / file)
        for need in package.requires or []:
            if "extra ==" not in need:
                wanted.append(_name(need))


def _name(requirement: str) -> str:
    for at, char in enumerate(requirement):
        if not (char.isalnum() or char in "-_."):
            return requirement[:at]
    return requirement


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace") or None


def same_python_as_plugins_have() -> bool:
    """Whether packages of this Python fit the one that a host's plugins find."""
    path = "/usr/local/bin:/usr/bin:/bin"
    program = shutil.which("python3", path=path)
    if program is None:
        return False
    ask = [program, "-c", "import sys; print(*sys.version_info[:2])"]
    version = subprocess.run(ask, capture_output=True, text=True).stdout.split()
    return version == [str(part) for part in sys.version_info[:2]]
