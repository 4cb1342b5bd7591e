"""One plugin: its life, its channel, its events, what it asks for."""
import itertools, json, os, shutil, signal, socket, threading, time
from datetime import datetime, timezone

from common import counter, Failed, faulty, HOME, later, METHODS, now, spawn
from life import Life, manifest_of
from channel import Channel


class Plugin:
    """What is known of one plugin, and the thread that keeps it alive."""

    def __init__(self, path, program, manifest, line):
        self.path, self.program, self.manifest, self.inspected = path, program, manifest, line
        self.name = manifest["name"]
        self.data = os.path.join(HOME, "data", self.name)
        self.lock = threading.RLock()
        # Told whenever something changes that a thread of the plugin may wait for.
        self.changed = threading.Condition(self.lock)
        self.wanted, self.life, self.channel, self.running, self.features = True, None, None, threading.Event(), []
        self.line, self.flight, self.retries, self.suspects, self.crashes = [], {}, [], [], {}
        self.sent, self.lost, self.alone = set(), threading.Event(), None
        self.config, self.revision, self.entries, self.number, self.done = {}, 0, {}, 0, []
        for name, schema in ((manifest.get("config") or {}).get("properties") or {}).items():
            if "default" in schema and not faulty("no_defaults"):
                self.config[name] = schema["default"]

    # --- life

    @property
    def wanted(self):
        return self.is_wanted

    @wanted.setter
    def wanted(self, wanted):
        self.is_wanted = wanted
        self.tell()

    def tell(self):
        with self.changed:
            self.changed.notify_all()

    def live(self):
        for times in itertools.count():
            with self.changed:
                self.changed.wait_for(lambda: self.wanted)
            begin = time.monotonic()
            try:
                self.once()
            except (Failed, OSError, ValueError) as failed:
                if faulty("gives_up_on_exits") and "ended" in str(failed):
                    self.wanted = False
            self.running.clear()
            if self.life:
                self.life.kill()
            pause = min(0.5 * 2 ** min(times, 4), 4) if time.monotonic() - begin < 60 else 0.5
            with self.changed:
                self.changed.wait_for(lambda: not self.wanted, pause)

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
        self.tell()
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
        self.tell()
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
        self.tell()
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
        with self.changed:
            self.changed.wait_for(lambda: not self.flight, 5)
        if channel and not faulty("kills_with_channel_open"):
            channel.close()
            self.lost.wait(0.1)
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
        self.tell()

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
            # What comes within this time comes in the wrong order.
            if faulty("reversed"):
                life.ended.wait(0.1)
            with self.changed:
                may = self.wanted and self.running.is_set() and (not self.channel or self.channel.open)
                event = self.next() if may else None
                if not event:
                    self.changed.wait(self.until_retry())
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

    def until_retry(self):
        """How long nothing happens by itself. A process may end without a word here, which is looked for now and then."""
        due = min((at for at, _ in self.retries), default=None)
        return 0.5 if due is None else min(0.5, max(0.01, due - time.monotonic()))

    def lived(self, channel, event):
        if channel.open:
            self.settle(event["id"])

    def unacked(self, event):
        if self.flight.get(event["id"]) is event and not faulty("never_times_out"):
            self.fail(event)

    def settle(self, identity):
        event = self.flight.pop(identity, None)
        self.tell()
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
        self.tell()

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


def ask(path, data, seconds):
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(seconds)
        stream.connect(path)
        stream.sendall(data)
        return int((stream.makefile("rb").readline().split() or [b"", b"0"])[1])
