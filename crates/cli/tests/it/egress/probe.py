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


def tcp(family, address, protocol=0, words=b""):
    with socket.socket(family, socket.SOCK_STREAM, protocol) as s:
        s.settimeout(PATIENCE)
        s.connect(address)
        s.sendall(words)
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


# Where things are, as the test has it.
places = json.loads(r"""@PLACES@""")
WAYS = {
    "allowed": lambda: get("https://hooks.slack.com/", {}),
    "allowed_by_default": lambda: get("https://hooks.slack.com/"),
    "another_name": lambda: get("https://other.example.com/", {}),
    "another_name_by_default": lambda: get("https://other.example.com/"),
    "name_of_loopback": lambda: get("https://inside.example.com/", {}, unchecked),
    "name_of_both": lambda: get("https://both.example.com/", {}, unchecked),
    "literal": lambda: get(f"https://{PUBLIC}/", {}, unchecked),
    "literal_by_default": lambda: get(f"https://{PUBLIC}/", None, unchecked),
    "another_port": lambda: tcp(socket.AF_INET, ("hooks.slack.com", 8443)),
    "hello_for_another": hello_for_another,
    "plain": plain,
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
    with open(result + ".new", "w") as file:
        json.dump(found, file)
    os.rename(result + ".new", result)


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
    egress = ["hooks.slack.com", "inside.example.com", "both.example.com"]
    print(json.dumps({"type": "manifest", "name": "python-probe", "version": "1.0.0", "events": [], "egress": egress}), flush=True)
    server = Server(args["--socket-path"], Handler)
    print('{"type":"ready","ready":true,"has_ui":false}', flush=True)
    threading.Thread(target=try_all, args=[os.path.join(args["--data-dir"], "result.json")], daemon=True).start()
    server.serve_forever()
