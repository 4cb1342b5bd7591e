#!/usr/bin/env python3
"""A plugin that tries to reach what it may and what it may not, with the standard library alone, and writes down what it found.

With `--control` it does the same outside of any sandbox, where everything can be reached.
"""
import json, os, socket, ssl, sys, threading, urllib.request
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingMixIn, UnixStreamServer

PATIENCE = 5
PUBLIC, PUBLIC_6 = "45.90.28.10", "2a0b:9000::10"
args = dict(zip(sys.argv[1::2], sys.argv[2::2]))
unchecked = ssl.create_default_context()
unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE


def get(url, proxies=None, context=None):
    handlers = [urllib.request.HTTPSHandler(context=context or ssl.create_default_context())]
    if proxies is not None:
        handlers.append(urllib.request.ProxyHandler(proxies))
    return urllib.request.build_opener(*handlers).open(url, timeout=PATIENCE).read().decode()


def tcp(family, address, protocol=0):
    with socket.socket(family, socket.SOCK_STREAM, protocol) as s:
        s.settimeout(PATIENCE)
        s.connect(address)
        return "connected"


def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(PATIENCE)
        s.sendto(b"x", (PUBLIC, 5353))
        return s.recv(10).decode()


def hello_for_another():
    """A connection to the granted name whose hello names another host."""
    with socket.create_connection(("hooks.slack.com", 443), timeout=PATIENCE) as s:
        with unchecked.wrap_socket(s, server_hostname="other.example.com") as t:
            t.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return t.recv(10).decode()


def plain():
    """A connection to the granted name without TLS; the outside answers it, if it arrives."""
    with socket.create_connection(("hooks.slack.com", 443), timeout=PATIENCE) as s:
        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return s.recv(1000).decode(errors="replace") or 1 / 0


def beyond_the_bound():
    """One connection more than a plugin may have, while all others are open."""
    context, open_ones = ssl.create_default_context(), []
    for _ in range(33):
        try:
            s = socket.create_connection(("hooks.slack.com", 443), timeout=PATIENCE)
            open_ones.append(context.wrap_socket(s, server_hostname="hooks.slack.com"))
        except OSError as error:
            raise OSError(f"{len(open_ones)} are open: {error}; {connect_by_proxy('hooks.slack.com:443')}")
    return "connected"


def connect_by_proxy(target):
    """What the proxy says to one who asks for another place."""
    host, port = os.environ["HTTPS_PROXY"].removeprefix("http://").strip("/").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as s:
        s.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        return s.recv(1000).decode()


def hold(result):
    """Keeps a connection open until it ends, and tells then what can still be reached."""
    said = {}
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open("https://hooks.slack.com/hold/python-probe").read()
        said["held"] = "ended"
    except Exception as error:
        said["held"] = f"{type(error).__name__}: {error}"
    try:
        said["again"] = get("https://hooks.slack.com/", {})
    except Exception as error:
        said["again"] = f"{type(error).__name__}: {error}"
    targets = ["hooks.slack.com:443", "45.90.28.10:443", "hooks.slack.com:22", "user@hooks.slack.com:443", "[::1]:443"]
    said["proxy"] = {target: connect_by_proxy(target) for target in targets}
    write(result, said)


# Where things are, as the test has it.
places = json.loads(r"""@PLACES@""")
turning = f"https://python-{'control' if '--control' in args else 'probe'}.turns.example.com/"
WAYS = {
    "allowed": lambda: get("https://hooks.slack.com/", {}),
    "allowed_by_default": lambda: get("https://hooks.slack.com/"),
    "allowed_before_it_turned": lambda: get(turning, {}),
    "turned_to_loopback": lambda: get(turning, {}, unchecked),
    "turned_to_loopback_by_default": lambda: get(turning, None, unchecked),
    "allowed_by_alias": lambda: get("https://alias.turns.example.com/", {}),
    "alias_of_loopback": lambda: get("https://alias-of-loopback.turns.example.com/", {}, unchecked),
    "mixed_addresses": lambda: get("https://mixed.turns.example.com/", {}, unchecked),
    "another_name": lambda: get("https://other.example.com/", {}),
    "another_name_by_default": lambda: get("https://other.example.com/"),
    "name_of_loopback": lambda: get("https://inside.example.com/", {}, unchecked),
    "name_of_both": lambda: get("https://both.example.com/", {}, unchecked),
    "literal": lambda: get(f"https://{PUBLIC}/", {}, unchecked),
    "literal_by_default": lambda: get(f"https://{PUBLIC}/", None, unchecked),
    "another_port": lambda: tcp(socket.AF_INET, ("hooks.slack.com", 8443)),
    "hello_for_another": hello_for_another,
    "plain": plain,
    "beyond_the_bound": beyond_the_bound,
    "ipv6": lambda: tcp(socket.AF_INET6, (PUBLIC_6, 443)),
    "udp": udp,
    "host_port": lambda: tcp(socket.AF_INET, ("127.0.0.1", places["port"])),
    "host_port_by_public_address": lambda: tcp(socket.AF_INET, (PUBLIC, 443)),
    "host_port_by_mptcp": lambda: tcp(socket.AF_INET, ("127.0.0.1", places["port"]), 262),
    "database_port": lambda: tcp(socket.AF_INET, ("127.0.0.1", 5432)),
    "database_file": lambda: open(places["database"], "rb").read(4).decode(),
    "unix_socket": lambda: tcp(socket.AF_UNIX, places["socket"]),
    "abstract_socket": lambda: tcp(socket.AF_UNIX, "\0temps-outside"),
}


def try_all(result):
    found = {}
    for name, way in WAYS.items():
        try:
            found[name] = {"reached": True, "said": way()}
        except Exception as error:
            found[name] = {"reached": False, "said": f"{type(error).__name__}: {error}"}
    write(result, found)


def write(path, what):
    with open(path + ".new", "w") as file:
        json.dump(what, file)
    os.rename(path + ".new", path)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def address_string(self):
        return "host"


class Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


if "--control" in args:
    try_all(args["--control"])
else:
    egress = ["hooks.slack.com", "inside.example.com", "both.example.com", "*.turns.example.com"]
    print(json.dumps({"type": "manifest", "name": "python-probe", "version": "1.0.0", "events": [], "egress": egress}), flush=True)
    server = Server(args["--socket-path"], Handler)
    print('{"type":"ready","ready":true,"has_ui":false}', flush=True)
    at = lambda name: os.path.join(args["--data-dir"], name)
    threading.Thread(target=lambda: [try_all(at("result.json")), hold(at("held.json"))], daemon=True).start()
    server.serve_forever()
