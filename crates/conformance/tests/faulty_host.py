#!/usr/bin/env python3
"""A whole host in plain Python that keeps every rule but the one that its second argument names: faulty_host.py HOME [FAULT]."""
import base64, errno, itertools, json, os, queue, re, secrets, select, shutil, signal, socket, struct, subprocess, sys, threading, time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOME, FAULT = os.path.abspath(sys.argv[1]), (sys.argv[2:] or ["none"])[0]
TOKEN = "kit-token"
FEATURES = ["ack", "reconnect", "config", "kv"]
KEPT = "api admin auth console events health host login logout metrics platform plugin plugins system temps ui".split()
METHODS = "get_project list_projects get_environment list_environments get_deployment get_last_deployment list_deployments".split()
counter, plugins = itertools.count(1), {}
same_secret = secrets.token_hex(16)


def faulty(*names):
    return FAULT in names


def later(seconds, work, *args):
    timer = threading.Timer(seconds, work, args)
    timer.daemon = True
    timer.start()


def spawn(work, *args):
    threading.Thread(target=work, args=args, daemon=True).start()


class Failed(Exception):
    """A start, or a call, that did not succeed."""


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
        while True:
            try:
                self.process = subprocess.Popen(argv, env=env, cwd="/" if faulty("other_directory") else data, stdin=stdin,
                                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
                break
            except OSError as error:
                # A child that another thread is starting may still hold the copy open.
                if error.errno != errno.ETXTBSY:
                    raise
                time.sleep(0.01)
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


class Channel:
    """The host's end: frames by hand, so that each can be wrong."""

    def __init__(self, plugin, life):
        self.plugin, self.lock, self.pongs, self.open = plugin, threading.Lock(), {}, True
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.settimeout(600 if faulty("waits_for_the_channel") else 5)
        self.stream.connect(life.socket)
        version = 12 if faulty("another_websocket") else 13
        head = (f"GET /_temps/channel HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {life.secret}\r\nConnection: Upgrade\r\n"
                f"Upgrade: websocket\r\nSec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n")
        self.stream.sendall(head.encode())
        self.file = self.stream.makefile("rb")
        self.status = int((self.file.readline().split() or [b"", b"0"])[1])
        while len(self.file.readline()) > 2:
            pass
        self.stream.settimeout(None)

    def send(self, payload, opcode=1, whole=True):
        payload, mask = payload if isinstance(payload, bytes) else payload.encode(), b"" if faulty("unmasked") else os.urandom(4)
        size, bit = len(payload), 0x80 if mask else 0
        length = bytes([bit | size]) if size < 126 else struct.pack("!BH", bit | 126, size) if size < 65536 else struct.pack("!BQ", bit | 127, size)
        keys = int.from_bytes((mask * (size // 4 + 1))[:size], "big") if mask else 0
        body = (int.from_bytes(payload, "big") ^ keys).to_bytes(size, "big")
        with self.lock:
            try:
                self.stream.sendall(bytes([(0x80 if whole else 0) | opcode]) + length + mask + body)
            except OSError:
                pass

    def tell(self, **frame):
        self.send(json.dumps(frame))

    def close(self):
        self.open = False
        self.send(b"", 8)

    def lose(self):
        self.open = False
        try:
            self.stream.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def read(self):
        most = 500_000 if faulty("short_frames") else 10**8 if faulty("takes_long_frames") else 1048576
        while len(head := self.file.read(2)) == 2:
            opcode, size = head[0] & 15, head[1] & 127
            if size > 125:
                size = int.from_bytes(self.file.read(2 if size == 126 else 8), "big")
            if size > most:
                break
            body = self.file.read(size)
            if opcode == 8 or (opcode == 2 and faulty("ends_on_binary")):
                break
            if opcode == 10 and (told := self.pongs.pop(body, None)):
                told()
            if opcode == 1:
                try:
                    frame = json.loads(body)
                    assert isinstance(frame, dict)
                except (ValueError, AssertionError):
                    if faulty("ends_on_garbage"):
                        break
                    continue
                self.take(frame)
        self.lose()

    def take(self, frame):
        if "method" in frame:
            if faulty("silent_without_id") and frame.get("id") is None:
                return
            identity = frame.get("id")
            if faulty("drops_beyond_32") and str(identity).startswith("many") and int(identity.split()[1]) >= 32:
                return
            if faulty("text_ids"):
                identity = str(identity)
            try:
                answer = {"result": self.plugin.answer(frame.get("method"), frame.get("params"))}
                if faulty("both_outcomes"):
                    answer["error"] = {"code": "internal", "message": "x"}
            except Failed as failed:
                answer = {"error": {"code": failed.args[0], "message": "no", **(failed.args[1] if len(failed.args) > 1 else {})}}
            self.tell(type="response", id=identity, **answer)
            if faulty("answers_twice"):
                self.tell(type="response", id=identity, **answer)
        elif frame.get("type") == "ack" and isinstance(frame.get("id"), str):
            self.plugin.acked(self, frame)


class Plugin:
    """What is known of one plugin, and the thread that keeps it alive."""

    def __init__(self, path, program, manifest, line):
        self.path, self.program, self.manifest, self.inspected = path, program, manifest, line
        self.name = manifest["name"]
        self.data = os.path.join(HOME, "data", self.name)
        self.wanted, self.life, self.channel, self.running, self.features = True, None, None, threading.Event(), []
        self.lock = threading.RLock()
        self.line, self.flight, self.retries, self.suspects, self.crashes = [], {}, [], [], {}
        self.sent, self.lost, self.alone = set(), threading.Event(), None
        self.config, self.revision, self.entries, self.number, self.done = {}, 0, {}, 0, []
        for name, schema in ((manifest.get("config") or {}).get("properties") or {}).items():
            if "default" in schema and not faulty("no_defaults"):
                self.config[name] = schema["default"]

    # --- life

    def live(self):
        for times in itertools.count():
            while not self.wanted:
                time.sleep(0.05)
            begin = time.monotonic()
            try:
                self.once()
            except (Failed, OSError, ValueError) as failed:
                if faulty("gives_up_on_exits") and "ended" in str(failed):
                    self.wanted = False
            self.running.clear()
            if self.life:
                self.life.kill()
            if self.wanted:
                time.sleep(min(0.5 * 2 ** min(times, 4), 4) if time.monotonic() - begin < 60 else 0.5)

    def once(self):
        place = os.path.join(HOME, "run", f"{next(counter)}")
        life = self.life = Life(self.path if faulty("runs_in_place") and os.path.isfile(self.path) else
                                os.path.join(self.path, "plugin") if faulty("runs_in_place") else self.program, self.name, place, self.data)
        manifest = manifest_of(life)
        if manifest != self.manifest and not faulty("takes_other_manifests"):
            raise Failed("another manifest")
        ready = json.loads(life.line(1048576, 30))
        if ready.get("ready") is not True and not faulty("takes_not_ready"):
            raise Failed("not ready")
        self.features = ready.get("features") or []
        if not faulty("deaf"):
            spawn(life.drain, life.process.stdout)
        self.open(life)
        self.running.set()
        spawn(self.ask_for_health, life)
        spawn(self.deliver, life)
        status = life.process.wait()
        life.ended.set()
        if status and self.wanted:
            self.crash()
        if status == -signal.SIGABRT and faulty("gives_up_on_crashes"):
            self.wanted = False

    def open(self, life):
        channel = Channel(self, life)
        if channel.status in (404, 400, 426, 501) or (faulty("takes_500_for_none") and channel.status == 500):
            self.channel = None
            return
        if channel.status != 101:
            raise Failed("the channel was refused")
        if (self.has("config") or faulty("config_to_all")) and not faulty("no_config"):
            channel.tell(type="config", config=self.config, revision=self.revision)
        if faulty("fragments"):
            channel.send('{"type":', whole=False)
            channel.send('"weather"}', 0)
        self.channel, self.sent = channel, set()
        self.lost.clear()
        spawn(self.keep, channel, life)

    def has(self, feature):
        return feature in self.features

    def keep(self, channel, life):
        try:
            channel.read()
        except OSError:
            channel.lose()
        with self.lock:
            lost, self.flight = list(self.flight.values()), {}
            self.sent = {event["id"] for event in lost}
            if not faulty("forgets_on_loss") or not self.wanted or life.ended.wait(0.2):
                self.line = [event for event in lost if event["id"] not in map(lambda e: e["id"], self.line)] + self.line
        self.lost.set()
        if not self.wanted or life.ended.wait(0.05):
            return
        if (self.has("reconnect") and not faulty("restarts_always")) or faulty("reconnects_always"):
            try:
                return self.open(life)
            except (Failed, OSError):
                pass
        life.kill()

    def ask_for_health(self, life):
        failures = 0
        while not life.ended.is_set() and not faulty("no_health"):
            secret = "" if faulty("no_secret_for_health") else f"Authorization: Bearer {life.secret}\r\n"
            host = "temps" if faulty("names_itself") else "localhost"
            try:
                status = ask(life.socket, f"GET /health HTTP/1.1\r\nHost: {host}\r\n{secret}\r\n".encode(), 2)
            except OSError:
                status = 0
            failures = 0 if status == 200 else failures + 1
            if failures >= 3 and not faulty("never_unwell"):
                return life.kill()
            life.ended.wait(1 if faulty("often") else 10)

    def stop(self):
        self.wanted = False
        life, channel = self.life, self.channel
        end = time.monotonic() + 5
        while self.flight and time.monotonic() < end:
            time.sleep(0.05)
        if channel and not faulty("kills_with_channel_open"):
            channel.close()
            time.sleep(0.1)
        if life and not life.ended.is_set():
            life.process.send_signal(signal.SIGTERM)
            life.ended.wait(1 if faulty("short_grace") else 10)
            life.kill()
        if faulty("forgets_on_stop"):
            self.line.clear()
            self.flight.clear()
        if faulty("plain_again"):
            self.line = self.done + self.line
        if faulty("forgets_data") and self.name == "kit-acks":
            shutil.rmtree(self.data)
            os.makedirs(self.data)
        self.running.clear()

    # --- events

    def publish(self, event):
        patterns = self.manifest.get("events") or []
        kind, star = event["event_type"], not faulty("no_star")
        wants = any(p == kind or (p == "*" and star) or (p.endswith(".*") and kind.startswith(p[:-1])) for p in patterns)
        wants = wants or faulty("everything_to_all")
        for rule in self.manifest.get("filters") or []:
            value = event["data"].get(rule["path"].removeprefix("data."))
            wants = wants and (value in rule["any_of"] or faulty("no_filters"))
        if not wants or (not self.wanted and faulty("drops_while_stopped")):
            return
        with self.lock:
            self.line.insert(0 if faulty("reversed") else len(self.line), event)

    def next(self):
        with self.lock:
            if self.suspects and not faulty("not_alone"):
                if self.flight:
                    return None
                self.alone = self.suspects[0]["id"]
                return self.suspects.pop(0)
            if self.alone and self.alone in self.flight:
                return None
            self.line, self.suspects = self.suspects + self.line, []
            due = [retry for retry in self.retries if retry[0] <= time.monotonic()]
            if due:
                self.retries.remove(due[0])
                return due[0][1]
            if self.retries and faulty("waits_for_retries"):
                return None
            if len(self.flight) < (100 if faulty("wide_window") else 64) and self.line:
                return self.line.pop(0)

    def deliver(self, life):
        while not life.ended.is_set():
            event = self.next() if self.wanted and self.running.is_set() and (not self.channel or self.channel.open) else None
            if not event:
                time.sleep(0.1 if faulty("reversed") else 0.01)
                continue
            self.flight[event["id"]] = event
            if not self.channel:
                self.post(life, event)
            elif self.has("ack"):
                self.channel.tell(type="event", event=event)
                later(30, self.unacked, event)
            else:
                channel = self.channel
                channel.tell(type="event", event=event)
                if not faulty("no_ping"):
                    channel.pongs[event["id"].encode()] = lambda event=event: later(5, self.lived, channel, event)
                    channel.send(event["id"], 9)

    def lived(self, channel, event):
        if channel.open:
            self.settle(event["id"])

    def unacked(self, event):
        if self.flight.get(event["id"]) is event and not faulty("never_times_out"):
            self.fail(event)

    def settle(self, identity):
        event = self.flight.pop(identity, None)
        if event:
            self.done.append(event)
            if faulty("sends_acked_again") and self.has("ack") and len(self.done) == 1:
                later(0.3, lambda: self.channel.tell(type="event", event=event))
            if faulty("posts_twice") and not self.channel and len(self.done) == 1:
                self.line.insert(0, event)

    def fail(self, event):
        self.flight.pop(event["id"], None)
        if faulty("ignores_errors") and self.channel:
            return
        if faulty("changes_retries"):
            event = {**event, "timestamp": now()}
        self.retries.append((time.monotonic() + (0 if faulty("retries_at_once") else 1), event))

    def acked(self, channel, frame):
        identity = frame["id"]
        if faulty("ends_on_unknown_acks") and identity not in self.flight:
            return channel.lose()
        if faulty("acks_in_order_only") and identity != next(iter(self.flight), None):
            return
        if identity in self.flight:
            if frame.get("status") == "ok":
                self.settle(identity)
            else:
                self.fail(self.flight[identity])

    def crash(self):
        """What was in flight may have been the reason; each of it comes alone."""
        self.lost.wait(5)
        with self.lock:
            blamed = [event for event in self.line if event["id"] in self.sent]
            self.line = [event for event in self.line if event["id"] not in self.sent]
            for event in blamed:
                times = self.crashes[event["id"]] = self.crashes.get(event["id"], 0) + 1
                if times < 3 or faulty("endless_poison"):
                    self.suspects.append(event)

    def post(self, life, event):
        body = json.dumps(event).encode()
        length = f"Content-Length: {len(body)}"
        if faulty("chunked_posts"):
            length, body = "Transfer-Encoding: chunked", f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
        head = (f"POST /_events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {life.secret}\r\nContent-Type: application/json\r\n"
                f"X-Temps-Plugin: {self.name}\r\n{length}\r\n\r\n")
        try:
            status = ask(life.socket, head.encode() + body, 30)
        except OSError:
            status = 0
        if 200 <= status < 300 or (status == 500 and faulty("takes_any_answer")):
            self.settle(event["id"])
        else:
            self.fail(event)

    # --- requests

    def answer(self, method, params):
        own = {"get_config": self.get_config, "kv_get": self.kv_get, "kv_put": self.kv_put, "kv_delete": self.kv_delete, "kv_list": self.kv_list}
        if not isinstance(method, str) or not isinstance(params or {}, dict):
            raise Failed("invalid_params")
        if method in own:
            return own[method](params or {})
        if method not in METHODS or (faulty("lacks_a_method") and method == "get_last_deployment"):
            raise Failed("invalid_params" if faulty("unknown_is_invalid") else "method_not_found")
        if method not in ((self.manifest.get("permissions") or {}).get("methods") or METHODS) and not faulty("no_grants"):
            raise Failed("permission_denied")
        if method == "list_projects":
            return [{"id": "one"}] if faulty("wrong_shape") else []
        key = {"get_environment": "environment_id", "get_deployment": "deployment_id"}.get(method, "project_id")
        if type((params or {}).get(key)) is not int and not faulty("takes_any_params"):
            raise Failed("invalid_params")
        if params.get("limit") == 0 and not faulty("takes_any_params"):
            raise Failed("invalid_params")
        if method == "get_project" and faulty("null_for_nothing"):
            return None
        if method.startswith("list_"):
            return []
        raise Failed("not_found")

    def get_config(self, _):
        return {"config": {} if faulty("get_config_is_empty") else self.config, "revision": self.revision}

    def key(self, params):
        key = params.get("key")
        bad = not isinstance(key, str) or not key or (not faulty("kv_takes_any_length") and len(key.encode()) > 256) or "\x07" in key
        if bad and not faulty("kv_takes_anything"):
            raise Failed("invalid_params")
        return key

    def current(self, key):
        entry = self.entries.get(key)
        if entry and entry.get("until", time.time() + 1) <= time.time() and not faulty("kv_never_expires"):
            del self.entries[key]
        return self.entries.get(key)

    def shown(self, key, entry, value=True):
        shown = {"key": key, "revision": entry["revision"], **({"value": entry["value"]} if value else {})}
        if "until" in entry:
            shown["expires_at"] = datetime.fromtimestamp(entry["until"], timezone.utc).isoformat().replace("+00:00", "Z")
        return shown

    def compare(self, key, params):
        found = (self.current(key) or {}).get("revision", 0)
        if params.get("revision") not in (None, found) and not faulty("kv_overwrites"):
            raise Failed("conflict", {"revision": found})

    def kv_get(self, params):
        key = self.key(params)
        entry = self.current(key)
        if not entry or faulty("kv_forgets"):
            raise Failed("not_found")
        return self.shown(key, entry)

    def kv_put(self, params):
        key = self.key(params)
        if "value" not in params and not faulty("kv_takes_anything"):
            raise Failed("invalid_params")
        if len(json.dumps(params.get("value")).encode()) > 65536 and not faulty("kv_takes_any_length"):
            raise Failed("quota_exceeded")
        self.compare(key, params)
        self.number += 1
        self.entries[key] = {"value": params.get("value"), "revision": self.number}
        if params.get("ttl"):
            self.entries[key]["until"] = time.time() + params["ttl"]
        return {"revision": self.number}

    def kv_delete(self, params):
        key = self.key(params)
        self.compare(key, params)
        return {"deleted": self.entries.pop(key, None) is not None}

    def kv_list(self, params):
        order = str.lower if faulty("kv_sorts_by_letters") else str.encode
        keys = sorted((key for key in self.entries if key.startswith(params.get("prefix", ""))), key=order)
        keys = [key for key in keys if key.encode() > params.get("cursor", "").encode() or not params.get("cursor")]
        page = keys[:params.get("limit", 100)]
        more = {"cursor": page[-1]} if len(keys) > len(page) else {}
        return {"entries": [self.shown(key, self.entries[key], params.get("values", False)) for key in page], **more}


def now():
    return datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")


def ask(path, data, seconds):
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(seconds)
        stream.connect(path)
        stream.sendall(data)
        return int((stream.makefile("rb").readline().split() or [b"", b"0"])[1])


def take_in(path):
    """From a file to a plugin."""
    artifact = os.path.join(HOME, "artifacts", f"{next(counter)}")
    os.makedirs(os.path.dirname(artifact), exist_ok=True)
    if os.path.isdir(path):
        if faulty("no_directories"):
            return
        shutil.copytree(path, artifact)
    else:
        shutil.copy(path, artifact)
    program = os.path.join(artifact, "plugin") if os.path.isdir(artifact) else artifact
    place = os.path.join(HOME, "run", f"{next(counter)}")
    data = os.path.join(HOME, "data", os.path.basename(path)) if faulty("inspects_in_place") else os.path.join(place, "data")
    life = Life(program, None, place, data)
    try:
        manifest = manifest_of(life)
    except (Failed, ValueError, OSError, KeyError):
        return
    finally:
        life.kill()
    if manifest["name"] in plugins:
        if not faulty("takes_the_newest"):
            return
        plugins[manifest["name"]].stop()
    plugins[manifest["name"]] = plugin = Plugin(path, program, manifest, manifest)
    spawn(plugin.live)


def watch():
    seen, directory = set(), os.path.join(HOME, "plugins")
    while True:
        for name in sorted(os.listdir(directory)):
            if not name.startswith(".") and name not in seen:
                seen.add(name)
                spawn(take_in, os.path.join(directory, name))
        time.sleep(0.1)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one_request(self):
        self.raw_requestline = self.rfile.readline(65537)
        self.close_connection = True
        if self.raw_requestline and self.parse_request():
            try:
                self.route()
            except OSError:
                pass

    def body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            whole = b""
            while size := int(self.rfile.readline(), 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return b"" if faulty("drops_chunks") else whole
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def route(self):
        body, parts = self.body(), self.path.split("?")[0].split("/")
        allowed = self.headers.get("Authorization") == "Bearer " + TOKEN
        page = parts[4:5] == ["ui"] and not faulty("closed_pages")
        if not allowed and not page and not (faulty("open_to_all") and parts[2] == "x"):
            return self.answer(401, "sign in")
        if parts[1:3] == ["api", "events"]:
            event = {"id": secrets.token_hex(16), "timestamp": now(), **json.loads(body)}
            if faulty("no_timestamps"):
                del event["timestamp"]
            for plugin in list(plugins.values()):
                plugin.publish(event)
            return self.answer(201)
        if parts[1:3] == ["api", "plugins"]:
            plugin = plugins[parts[3]]
            if parts[4] == "stop":
                plugin.stop()
            elif parts[4] == "start":
                plugin.wanted = True
            else:
                plugin.config, plugin.revision = {**plugin.config, **json.loads(body)}, plugin.revision + 1
                if plugin.channel and not faulty("no_config_change"):
                    plugin.channel.tell(type="config", config=plugin.config, revision=plugin.revision)
            return self.answer(200)
        plugin = plugins.get(parts[3]) if parts[1:3] == ["api", "x"] else None
        if not plugin:
            return self.answer(404, "no such plugin")
        rest = self.path[len("/api/x/" + plugin.name):]
        inner = rest.startswith(("/_temps", "/_events", "/%5f")) or ".." in rest
        if inner and not (faulty("open_inside") and rest.startswith("/_events")):
            return self.answer(404, "not from outside")
        if rest.startswith("/ui/") and faulty("no_pages"):
            return self.answer(404, "no pages")
        if not plugin.running.is_set():
            return self.answer(404 if faulty("hides_what_is_stopped") else 503, "it does not run")
        self.forward(plugin, rest.split("?")[0] if faulty("drops_queries") else rest, body)

    def forward(self, plugin, path, body):
        kept = [(name, value) for name, value in self.headers.items() if self.passes(name.lower())]
        kept += [("Host", "localhost"), ("Authorization", "Bearer " + plugin.life.secret), ("Content-Length", str(len(body))),
                 ("X-Temps-Plugin", plugin.name), ("X-Temps-Request-Id", secrets.token_hex(8)), ("X-Forwarded-For", "127.0.0.1"),
                 ("X-Forwarded-Proto", "http"), ("X-Forwarded-Host", self.headers["Host"]), ("X-Forwarded-Prefix", "/api/x/" + plugin.name)]
        if not faulty("no_traceparent"):
            kept.append(("traceparent", f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"))
        head = f"{self.command} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in kept) + "\r\n"
        with socket.socket(socket.AF_UNIX) as stream:
            try:
                stream.connect(plugin.life.socket)
                stream.sendall(head.encode() + body)
                self.give_back(plugin, stream.makefile("rb"))
            except (OSError, ValueError):
                self.answer(502)

    def passes(self, name):
        if name == "cookie":
            return faulty("passes_cookies")
        if name.startswith("x-temps-"):
            return faulty("passes_forged")
        return name not in ("host", "authorization", "content-length", "transfer-encoding", "connection")

    def give_back(self, plugin, answer):
        out, length, chunked = answer.readline(), 0, False
        while (line := answer.readline()) not in (b"\r\n", b""):
            name, value = line.decode().strip().split(": ", 1)
            name = name.lower()
            if (name == "set-cookie" or name.startswith("access-control")) and not faulty("passes_cookies_back"):
                continue
            if name == "location" and not faulty("leaves_redirects"):
                value = "/api/x/" + plugin.name + value
            length, chunked = int(value) if name == "content-length" else length, chunked or name == "transfer-encoding"
            out += f"{name}: {value}\r\n".encode()
        out += b"Connection: close\r\n\r\n"
        self.wfile.write(out)
        gathered = b""
        if chunked:
            while size := int(line := answer.readline(), 16):
                gathered += line + answer.read(size) + answer.readline()
                if not faulty("gathers_answers"):
                    self.wfile.write(gathered)
                    gathered = b""
            self.wfile.write(gathered + b"0\r\n\r\n")
        else:
            self.wfile.write(answer.read(length))

    def answer(self, status, text=""):
        self.wfile.write(f"HTTP/1.1 {status} -\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode())


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
os.makedirs(os.path.join(HOME, "plugins"), exist_ok=True)
print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
spawn(watch)


def end(*_):
    for plugin in plugins.values():
        plugin.wanted = False
        if plugin.life:
            plugin.life.kill()
    os._exit(0)


signal.signal(signal.SIGTERM, end)
spawn(server.serve_forever)
signal.pause()
while True:
    signal.pause()
