"""A whole host in plain Python that keeps every rule but the one that its second argument names: faulty_host HOME [FAULT]."""
import json, os, secrets, shutil, signal, socket, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from common import counter, Failed, faulty, HOME, now, plugins, programs, spawn, TOKEN
from life import Life, manifest_of
from plugin import Plugin


def take_in(path):
    """From a file to a plugin."""
    artifact = os.path.join(HOME, "artifacts", f"{next(counter)}")
    os.makedirs(os.path.dirname(artifact), exist_ok=True)
    if os.path.isdir(path) and faulty("no_directories"):
        return
    with programs:
        (shutil.copytree if os.path.isdir(path) else shutil.copy)(path, artifact)
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
        # The standard library has nothing that tells of a new file.
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
spawn(server.serve_forever)
# Whichever thread a signal comes to, it is written here. A pause would only end if it came to the main thread.
told, tells = socket.socketpair()
tells.setblocking(False)
signal.set_wakeup_fd(tells.fileno())
signal.signal(signal.SIGTERM, lambda *_: None)
told.recv(1)
for plugin in list(plugins.values()):
    plugin.wanted = False
    if plugin.life:
        plugin.life.kill()
os._exit(0)
