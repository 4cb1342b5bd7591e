#!/usr/bin/env python3
"""A whole plugin in plain Python, without an SDK. What it does and why stands in spec/PROTOCOL.md."""
import json, os, sys
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingMixIn, UnixStreamServer
args, events = dict(zip(sys.argv[1::2], sys.argv[2::2])), []
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        routes = {"/health": {"status": "ok"}, "/events": events[-100:]}
        self.answer(200 if self.path in routes else 404, routes.get(self.path))
    def do_POST(self):
        if self.path == "/_events":
            events.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer(200 if self.path == "/_events" else 404, None)
    def answer(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())
    def address_string(self): return "host"
class Server(ThreadingMixIn, UnixStreamServer): daemon_threads = True
print('{"type":"manifest","name":"plain-python","version":"1.0.0","events":["deployment.*"]}', flush=True)
if os.path.exists(args["--socket-path"]): os.remove(args["--socket-path"])
server = Server(args["--socket-path"], Handler)
print('{"type":"ready","ready":true,"has_ui":false}', flush=True)
server.serve_forever()
