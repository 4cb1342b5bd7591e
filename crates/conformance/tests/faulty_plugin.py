#!/usr/bin/env python3
"""A whole plugin in plain Python, without an SDK, that keeps every rule but the one that FAULT names."""
import base64, hashlib, json, os, queue, signal, struct, subprocess, sys, threading, time
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingMixIn, UnixStreamServer

FAULT = "none"


def faulty(*names):
    return FAULT in names


def out(value):
    print(value if isinstance(value, str) else json.dumps(value), flush=True)


def die(status=1):
    sys.stderr.flush()
    os._exit(status)


known = ("--socket-path", "--auth-secret", "--data-dir")
if any(word not in known for word in sys.argv[1::2]) and not faulty("takes_any_argument"):
    die(2)
args = dict(zip(sys.argv[1::2], sys.argv[2::2]))
secret, data = args["--auth-secret"], args["--data-dir"]
host = [word for word in os.environ.get("TEMPS_FEATURES", "").split(",") if word]
if faulty("needs_file_beside") and not os.path.exists(os.path.join(os.path.dirname(os.path.abspath(__file__)), "beside.txt")):
    die()
if faulty("needs_name") and "TEMPS_PLUGIN_NAME" not in os.environ:
    die()
if faulty("needs_features") and "ack" not in host:
    die()
if faulty("refuses_unknown_features") and set(host) - {"ack", "reconnect", "config", "kv"}:
    die()
if faulty("breaks_on_old_data"):
    if os.path.exists(os.path.join(data, "lock")):
        die()
    open(os.path.join(data, "lock"), "w").close()
if faulty("too_many_threads"):
    for _ in range(100):
        threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
if faulty("leaves_a_child"):
    subprocess.Popen(["sleep", "30"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

# An ack needs a channel; so the plugin of the fault with POST has neither.
has_channel = not faulty("post_answers_500", "posted_well")
features = ["ack", "reconnect", "config", "kv"] if has_channel else []
if faulty("ends_without_channel"):
    features.remove("reconnect")
features = [word for word in features if word in host or (word == "ack" and faulty("acks_unasked"))]
manifest = {
    "type": "manifest", "name": "faulty", "version": "1.0.0", "events": ["*"],
    "nav": [{"label": "F", "icon": "bug", "section": "platform", "path": "/", "order": 1}],
    "config": {"type": "object", "properties": {"greeting": {"type": "string", "default": "hello"}}},
}
changes = {
    "bad_name": {"name": "Bad_Name"}, "kept_name": {"name": "admin"}, "nav_lacks_a_field": {"nav": [{"label": "F"}]},
    "too_many_events": {"events": [f"a.b{n}" for n in range(101)]}, "relative_health_path": {"health_path": "health"},
    "wrong_type": {"requires_db": "yes"}, "later_api_version": {"api_version": "2.0"},
    "schema_of_no_object": {"config": {"type": "string"}}, "changing_manifest": {"version": f"1.0.{time.time_ns()}"},
    "long_manifest": {"description": "x" * 70_000},
}
manifest.update(changes.get(FAULT, {}))
ready = {"type": "ready", "ready": not faulty("ready_false"), "has_ui": True, "features": features,
         "openapi": {"openapi": "3.1.0", "paths": {"/own": {"get": {}}}}}


class Channel:
    def __init__(self, handler):
        self.reader, self.writer, self.lock = handler.rfile, handler.wfile, threading.Lock()
        self.number, self.waiting = 0, {}

    def send(self, payload, opcode=1):
        payload = payload.encode() if isinstance(payload, str) else payload
        size = bytes([len(payload)]) if len(payload) < 126 else struct.pack("!BH", 126, len(payload))
        with self.lock:
            self.writer.write(bytes([0x80 | opcode]) + size + payload)

    def tell(self, **frame):
        self.send(json.dumps(frame))

    def messages(self):
        while len(head := self.reader.read(2)) == 2:
            opcode, size = head[0] & 15, head[1] & 127
            if size > 125:
                size = int.from_bytes(self.reader.read(2 if size == 126 else 8), "big")
            mask, body = self.reader.read(4), self.reader.read(size)
            if len(body) > 512 * 1024 and faulty("dies_of_large_frames"):
                die()
            if opcode == 1 or opcode == 2:
                mask = (mask * (len(body) // 4 + 1))[:len(body)]
                body = (int.from_bytes(body, "big") ^ int.from_bytes(mask, "big")).to_bytes(len(body), "big")
            else:
                body = bytes(byte ^ mask[place % 4] for place, byte in enumerate(body))
            if opcode == 2 and faulty("dies_of_binary"):
                die()
            if opcode == 1:
                yield body.decode()
            elif opcode == 8:
                self.send(body, 8)
                return
            elif opcode == 9 and not faulty("no_pong"):
                self.send(body, 10)

    def ask(self, method, params):
        self.number += 1
        number = None if faulty("null_ids") else 1 if faulty("same_ids") else self.number
        answer = self.waiting[number] = queue.Queue()
        self.tell(type="request", id=number, method=method, params=params)
        return answer.get(timeout=12)


handled, seen, acked, leaked = 0, set(), 0, []


def handle(mine, event):
    """What an event does; True when it is to be acked."""
    global handled
    handled += 1
    again = event["id"] in seen
    seen.add(event["id"])
    if faulty("dies_of_events") or (faulty("dies_of_unknown_event_types") and event["event_type"] == "weather.changed"):
        die()
    if faulty("dies_of_unknown_event_fields") and "of_a_later_version" in event["data"]:
        die()
    if faulty("dies_of_nulls") and event["data"].get("url", "") is None:
        die()
    if faulty("dies_without_project") and "project_id" not in event:
        die()
    if faulty("dies_of_large_events") and len(json.dumps(event)) > 200 * 1024:
        die()
    if faulty("dies_of_repeated_events") and again:
        die()
    if faulty("leaks_files"):
        leaked.append(open("/dev/null"))
    # Not for each event, or it would be beyond its limit as well after the first of them.
    if faulty("leaks_threads") and handled % 2:
        threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
    if faulty("leaks_memory"):
        leaked.append(bytearray(os.urandom(200 * 1024)))
    if mine is None:
        return False
    if handled <= 3:
        params = {"project_id": "42" if faulty("wrong_params") else 42}
        project = mine.ask("get_project", params)
        deployment = mine.ask("get_deployment", {"deployment_id": 100})
        if faulty("dies_of_later_answers") and deployment["result"]["state"] == "hibernating":
            die()
        entry = {"key": "k" * 300 if faulty("long_key") else "count"}
        if not faulty("put_without_value"):
            entry["value"] = handled
        mine.ask("kv_put", entry)
    if handled == 1 and faulty("sends_binary"):
        mine.send(b"\x00\x01", 2)
    if handled == 1 and faulty("sends_no_json"):
        mine.send("hello")
    return not (again and faulty("acks_only_once"))


def ack(mine, event):
    global acked
    acked += 1
    if faulty("never_acks") or (faulty("acks_only_some") and acked > 50):
        return
    mine = first_channel[0] if faulty("acks_over_the_old_channel") else mine
    try:
        mine.tell(type="ack", id="wrong" if faulty("acks_with_a_wrong_id") else event["id"], status="ok")
        if faulty("acks_twice"):
            mine.tell(type="ack", id=event["id"], status="ok")
        if faulty("acks_what_never_came") and acked == 1:
            mine.tell(type="ack", id="never", status="ok")
    except OSError:
        pass


first_channel, open_channels = [], 0


def take(mine, message, work):
    try:
        frame = json.loads(message)
        kind = frame["type"]
    except (ValueError, TypeError, LookupError):
        if faulty("dies_of_garbage"):
            die()
        return
    if kind == "event":
        if isinstance(frame.get("event"), dict):
            work.put(frame["event"])
    elif kind == "response":
        if "trace" in frame and faulty("dies_of_unknown_fields"):
            die()
        identity = frame.get("id")
        waiting = mine.waiting.pop(identity, None) if isinstance(identity, (int, str, type(None))) else None
        if waiting:
            waiting.put(frame)
        elif isinstance(identity, int) and faulty("dies_of_unknown_responses"):
            die()
    elif kind == "config":
        if faulty("dies_of_config") or (faulty("dies_of_config_changes") and frame["revision"] > 1):
            die()
        if faulty("dies_of_empty_config"):
            try:
                frame["config"]["greeting"]
            except LookupError:
                die()
    elif faulty("dies_of_unknown_frames"):
        die()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def own(self):
        return self.headers["Authorization"] == "Bearer " + secret

    def do_GET(self):
        if self.path == "/health":
            if faulty("slow_health"):
                self.rfile.read(1)  # Until the other side gives up.
            if faulty("demands_secret_for_health") and not self.own():
                return self.answer(401)
            self.answer(503 if faulty("unwell") else 200)
            if faulty("hangs_up_silently"):
                self.close_connection = True
        elif self.path == "/_temps/channel" and has_channel:
            self.serve_channel()
        elif self.path == "/own":
            self.answer(200 if self.own() or faulty("open_routes") else 401)
        elif self.path == "/ui/" and not faulty("no_page"):
            link = "/script.js" if faulty("absolute_link") else "script.js"
            text = f"<script src=\"{link}\"></script>" + (secret if faulty("secret_in_page") else "")
            self.answer(200, text)
        elif self.path == "/ui/script.js" and not faulty("no_script"):
            self.answer(200, "1")
        else:
            self.answer(404)

    def do_POST(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            if faulty("hangs_up_on_chunks"):
                self.close_connection = True
                return
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
            return self.answer(404)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/_events":
            return self.answer(404)
        if not self.own() and not faulty("open_events"):
            return self.answer(401)
        handle(None, json.loads(body))
        self.answer(500 if faulty("post_answers_500") else 204)

    def serve_channel(self):
        global open_channels
        if faulty("channel_answers_500"):
            return self.answer(500)
        if faulty("channel_hangs"):
            self.rfile.read(1)  # Until the other side gives up.
        if not self.own() and not faulty("open_channel"):
            return self.answer(401)
        if (faulty("one_channel_ever") and first_channel) or (faulty("one_channel_at_a_time") and open_channels):
            return self.answer(409)
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.close_connection = True
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        mine, work = Channel(self), queue.Queue()
        first_channel.append(mine)
        open_channels += 1
        threading.Thread(target=self.work, args=(mine, work), daemon=True).start()
        try:
            for message in mine.messages():
                take(mine, message, work)
        except OSError:
            pass
        open_channels -= 1
        work.put(None)
        if faulty("ends_without_channel"):
            die(0)

    def work(self, mine, work):
        while (event := work.get()) is not None:
            try:
                if handle(mine, event) and "ack" in features:
                    ack(mine, event)
            except (OSError, queue.Empty):
                pass

    def answer(self, status, text=""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def address_string(self):
        return "host"

    def log_message(self, *_):
        pass


class Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads, request_queue_size = True, 128
    places = threading.Semaphore(6 if faulty("six_connections") else 1000)

    def process_request_thread(self, *request):
        with self.places:
            super().process_request_thread(*request)


def listen():
    path = args["--socket-path"]
    if faulty("short_paths_only") and len(path) > 100:
        die()
    if os.path.exists(path) and not faulty("keeps_stale_socket"):
        os.remove(path)
    return Server(path, Handler)


def stop(*_):
    die(3 if faulty("ends_with_3") else 0)


if not faulty("leaves_a_child"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN if faulty("ignores_sigterm") else stop)
else:
    signal.signal(signal.SIGTERM, stop)
if faulty("log_first"):
    out("starting")
if faulty("ready_first"):
    out(ready)
out(manifest)
if faulty("log_between"):
    out("listening")
if faulty("ends_before_ready"):
    die()
if faulty("never_ready") or faulty("ready_once") and "/handshake/" not in args["--socket-path"]:
    threading.Event().wait()
if faulty("ready_too_early"):
    out(ready)
    time.sleep(1)
server = listen()
if not faulty("ready_too_early"):
    out(ready)
server.serve_forever()
