#!/usr/bin/env python3
"""A plugin that needs a database and runs, in its own place, whatever a test sends it. Without an SDK."""
import json, os, subprocess, sys
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingMixIn, UnixStreamServer

args = dict(zip(sys.argv[1::2], sys.argv[2::2]))
# What it was told at its very first instruction; inspection tells it nothing.
FIRST = dict(os.environ)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200 if self.path == "/health" else 404, {"status": "ok"})

    def do_POST(self):
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        ended = subprocess.run(order["argv"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        self.answer(200, {"out": ended.stdout.strip(), "err": ended.stderr.strip(), "env": FIRST})

    def answer(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def address_string(self):
        return "host"

    def log_message(self, *_):
        pass


class Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


print('{"type":"manifest","name":"keeper","version":"1.0.0","events":[],"requires_db":true}', flush=True)
server = Server(args["--socket-path"], Handler)
print('{"type":"ready","ready":true,"has_ui":false}', flush=True)
server.serve_forever()
