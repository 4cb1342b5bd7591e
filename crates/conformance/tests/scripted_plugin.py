#!/usr/bin/env python3
"""Plays the plugin of one transcript, in plain Python: it waits for the host's steps and does its own, in their order.

It chooses what a plugin may choose: other ids for its questions, another version, other words around JSON. `FAULT_LINE` is the
line of the step that it does wrong.
"""
import base64, hashlib, json, os, queue, signal, socket, struct, sys, threading

TRANSCRIPT = "set by the test"
FAULT_LINE = 0

args = dict(zip(sys.argv[1::2], sys.argv[2::2]))
lock, closing = threading.Lock(), threading.Event()


class Inbox:
    """What the host did, by kind: what comes over the channel and over HTTP has no order between each other."""

    def __init__(self):
        self.queues = {kind: queue.Queue() for kind in ("frame", "ping", "channel_closed", "http_request", "signal")}

    def put(self, what):
        self.queues[what[0]].put(what[1])

    def get(self, kind):
        return self.queues[kind].get()


inbox = Inbox()


class Channel:
    def __init__(self, connection):
        self.connection, self.reader = connection, connection.makefile("rb")

    def send(self, payload, opcode=1):
        size = bytes([len(payload)]) if len(payload) < 126 else struct.pack("!BH", 126, len(payload))
        with lock:
            self.connection.sendall(bytes([0x80 | opcode]) + size + payload)

    def read(self):
        while len(head := self.reader.read(2)) == 2:
            opcode, size = head[0] & 15, head[1] & 127
            if size > 125:
                size = int.from_bytes(self.reader.read(2 if size == 126 else 8), "big")
            mask, data = self.reader.read(4), self.reader.read(size)
            data = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
            if opcode == 1:
                inbox.put(("frame", data.decode()))
            elif opcode == 8:
                inbox.put(("channel_closed", None))
                self.send(data, 8)
                return
            elif opcode == 9 and data.startswith(b"line"):
                inbox.put(("ping", data))
            elif opcode == 9:
                self.send(data, 10)


class Request:
    """One request; its connection is closed behind the answer, unless it becomes the channel."""

    def __init__(self, connection):
        self.connection = connection
        head = b""
        while b"\r\n\r\n" not in head:
            more = connection.recv(4096)
            if not more:
                return
            head += more
        head, body = head.split(b"\r\n\r\n", 1)
        first, *lines = head.decode().split("\r\n")
        self.method, self.path, _ = first.split(" ")
        self.headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        while len(body) < int(self.headers.get("content-length", 0)):
            body += connection.recv(4096)
        self.body = body
        inbox.put(("http_request", self))

    def answer(self, status, headers, body):
        self.connection.sendall(f"HTTP/1.1 {status} X\r\n{headers}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        self.connection.close()

    def upgrade(self):
        key = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        head = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept
        self.connection.sendall((head + "\r\n\r\n").encode())
        channel = Channel(self.connection)
        threading.Thread(target=channel.read, daemon=True).start()
        return channel


def serve(listener):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=Request, args=(connection,), daemon=True).start()


def wrong_line(line):
    try:
        read = json.loads(line)
    except ValueError:
        return line + "!"
    read["name" if read["type"] == "manifest" else "has_ui"] = "otherwise" if read["type"] == "manifest" else True
    if not read.get("ready", True):
        read = {"type": "ready", "ready": True}
    return json.dumps(read)


def wrong_frame(text):
    try:
        read = json.loads(text)
    except ValueError:
        return text + "!"
    if read.get("type") == "ack":
        read["status"] = "error" if read["status"] == "ok" else "ok"
    elif "method" in read:
        read["params"] = {"other": 1}
    else:
        read["other"] = 1
    return json.dumps(read)


def chosen(text, ids):
    """The frame with the plugin's own id in it, written in another way."""
    try:
        read = json.loads(text)
    except ValueError:
        return text
    if "method" in read and "id" in read:
        ids[json.dumps(read["id"])] = read["id"] = f"mine {len(ids)}"
    return json.dumps(read, indent=1, sort_keys=True)


def fail(why):
    print(why, file=sys.stderr, flush=True)
    os._exit(70)


class Script:
    def __init__(self):
        self.requests, self.channel, self.pings, self.ids = {}, None, [], {}

    def host(self, place, step):
        kind = step["kind"]
        if kind == "signal" and step["signal"] == "SIGKILL":
            threading.Event().wait()
        what = inbox.get(kind)
        if kind == "http_request":
            if (what.method, what.path) != (step["method"], step["path"]):
                fail(f"{what.method} {what.path} came")
            if what.headers["authorization"] != "Bearer " + args["--auth-secret"]:
                fail("the secret of this start was expected")
            self.requests[place] = what
        elif kind == "ping":
            self.pings.append(what)
        elif kind == "frame":
            wanted, came = json.loads(step["text"]), json.loads(what)
            if wanted["type"] == "response":
                wanted["id"] = self.ids.get(json.dumps(wanted["id"]), wanted["id"])
            if wanted != came:
                fail(f"{came} instead of {wanted}")

    def plugin(self, place, step, wrong):
        kind = step["kind"]
        if kind == "stdout":
            line = step["line"].replace('"version":"1.0.0"', '"version":"1.0.1"')
            print(wrong_line(line) if wrong else line, flush=True)
        elif kind == "http_response":
            request = self.requests.pop(min(self.requests))
            status = step["status"] if not wrong else {500: 404}.get(step["status"], 500)
            if status == 101:
                self.channel, self.ids = request.upgrade(), {}
            else:
                body = step.get("body", "")
                body = body if isinstance(body, str) else json.dumps(body, indent=1)
                request.answer(status, "".join(f"{n}: {v}\r\n" for n, v in step["headers"].items()), body.encode())
        elif kind == "frame":
            text = chosen(step["text"], self.ids)
            self.channel.send((wrong_frame(text) if wrong else text).encode())
        elif kind == "pong":
            self.channel.send(b"what nobody sent" if wrong else self.pings.pop(0), 10)
        elif kind == "channel_closed":
            self.channel.send(b"", 8)
            self.channel.connection.shutdown(socket.SHUT_RDWR)
        elif kind == "exit":
            if wrong:
                os._exit(3)
            if "code" in step:
                os._exit(step["code"])
            closing.set()
            tells.send(b"\0")
            sys.exit()


# Whichever thread a signal comes to, it is written here. A pause would only end if it came to the main thread.
told, tells = socket.socketpair()
tells.setblocking(False)
signal.set_wakeup_fd(tells.fileno())
signal.signal(signal.SIGTERM, lambda *_: inbox.put(("signal", None)))
listener = socket.socket(socket.AF_UNIX)
listener.bind(args["--socket-path"])
listener.listen(16)
threading.Thread(target=serve, args=(listener,), daemon=True).start()


def run():
    script = Script()
    with open(TRANSCRIPT) as file:
        steps = [json.loads(line) for line in file]
    for place, step in enumerate(steps[1:], 2):
        if step["from"] == "host":
            script.host(place, step)
        else:
            script.plugin(place, step, place == FAULT_LINE)


# The main thread handles signals, the script waits for everything.
threading.Thread(target=run, daemon=True).start()
while not closing.is_set():
    told.recv(1)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
os.kill(os.getpid(), signal.SIGTERM)
