"""One process of a plugin, and its two lines."""
import json, os, re, secrets, select, signal, subprocess, threading, time

from common import Failed, faulty, FEATURES, KEPT, programs, same_secret, spawn


class Life:
    """One process of a plugin: its start, its two lines, its log, its end."""

    def __init__(self, program, name, place, data):
        self.place, self.secret = place, same_secret if faulty("same_secret") else secrets.token_hex(16)
        self.socket = os.path.join(place, "s")
        for directory in (place, os.path.join(place, "tmp"), data):
            os.makedirs(directory, exist_ok=True)
        os.chmod(place, 0o755 if faulty("open_directory") else 0o700)
        env = {"TEMPS_API_VERSION": "1.0.0", "TEMPS_FEATURES": ",".join(FEATURES), "PATH": "/usr/local/bin:/usr/bin:/bin",
               "HOME": data, "TMPDIR": os.path.join(place, "tmp"), "LANG": "C.UTF-8"}
        if name:
            env["TEMPS_PLUGIN_NAME"] = name
        if faulty("own_environment"):
            env = {**os.environ, **env}
            env["HOST_SECRET"] = "1"
        if faulty("no_lang"):
            del env["LANG"]
        argv = [program, "--socket-path", self.socket, "--auth-secret", self.secret, "--data-dir", data]
        argv += ["--verbose", "1"] if faulty("another_argument") else []
        stdin = subprocess.PIPE if faulty("open_stdin") else subprocess.DEVNULL
        with programs:
            self.process = subprocess.Popen(argv, env=env, cwd="/" if faulty("other_directory") else data, stdin=stdin,
                                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        self.read, self.ended = b"", threading.Event()
        if not faulty("deaf"):
            spawn(self.drain, self.process.stderr)

    def drain(self, stream):
        while os.read(stream.fileno(), 65536):
            pass

    def line(self, most, seconds):
        end = time.monotonic() + (600 if faulty("waits_for_ever") else seconds)
        while b"\n" not in self.read:
            if len(self.read) >= most and not faulty("takes_long_manifest", "takes_long_ready"):
                raise Failed("the line is too long")
            if not select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]:
                raise Failed("no line in time")
            piece = os.read(self.process.stdout.fileno(), 65536)
            if not piece:
                raise Failed("it ended")
            self.read += piece
        line, self.read = self.read.split(b"\n", 1)
        if len(line) + 1 > most and not (faulty("takes_long_manifest") and most == 65536) and not (faulty("takes_long_ready") and most > 65536):
            raise Failed("the line is too long")
        return line.decode()

    def kill(self):
        try:
            if faulty("leaves_children"):
                self.process.kill()
            else:
                os.killpg(self.process.pid, signal.SIGKILL)
        except OSError:
            pass
        self.process.wait()
        self.ended.set()


def lines_of(life):
    first = json.loads(life.line(65536, 30))
    if first.get("type") == "ready" and faulty("takes_ready_first"):
        return json.loads(life.line(65536, 30))
    return first


def manifest_of(life):
    try:
        manifest = lines_of(life)
    except ValueError:
        if not faulty("takes_talk"):
            raise Failed("the first line is no JSON")
        manifest = json.loads(life.line(65536, 30))
    if manifest.get("type") != "manifest":
        raise Failed("the first line is no manifest")
    if not re.fullmatch("[a-z]([a-z0-9-]{0,61}[a-z0-9])?", manifest["name"]) and not faulty("takes_bad_names"):
        raise Failed("the name is no name")
    if manifest["name"] in KEPT and not faulty("takes_kept_names"):
        raise Failed("the name is kept")
    if len(manifest.get("events") or []) > 100 and not faulty("takes_many_events"):
        raise Failed("too many events")
    if not (manifest.get("health_path") or "/").startswith("/") and not faulty("takes_relative_paths"):
        raise Failed("a relative path")
    version = (manifest.get("api_version") or "1.0").split(".")
    if version[0] != "1" and not faulty("takes_later_majors"):
        raise Failed("a later major version")
    if version[1:2] > ["0"] and faulty("refuses_later_minors"):
        raise Failed("a later minor version")
    if faulty("refuses_unknown_fields") and "of_a_later_version" in manifest:
        raise Failed("an unknown field")
    if faulty("short_lines") and len(json.dumps(manifest)) > 60000:
        raise Failed("a long line")
    return manifest
