#!/usr/bin/env python3
"""A plugin in plain Python that serves the channel and asks for data. The rules it keeps stand in spec/PROTOCOL.md."""
import base64, hashlib, itertools, json, os, queue, struct, sys, threading
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingMixIn, UnixStreamServer
from urllib.parse import parse_qs, urlsplit

args, events, channel = dict(zip(sys.argv[1::2], sys.argv[2::2])), [], None

class Channel:
    """The plugin's end of the WebSocket (RFC 6455). Requests are numbered; each waits for the response of its number."""
    def __init__(self, handler):
        self.reader, self.writer = handler.rfile, handler.wfile
        self.lock, self.ids, self.waiting = threading.Lock(), itertools.count(1), {}
    def send(self, payload, opcode=1):
        size = bytes([len(payload)]) if len(payload) < 126 else struct.pack("!BH", 126, len(payload))
        with self.lock:
            self.writer.write(bytes([0x80 | opcode]) + size + payload)
    def messages(self):
        while len(head := self.reader.read(2)) == 2:
            opcode, size = head[0] & 15, head[1] & 127
            if size > 125:
                size = int.from_bytes(self.reader.read(2 if size == 126 else 8), "big")
            mask, data = self.reader.read(4), self.reader.read(size)
            data = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
            if opcode == 1:
                yield data
            elif opcode in (8, 9):  # close is answered with close, ping with pong
                self.send(data, 8 if opcode == 8 else 10)
    def ask(self, method, **params):
        number, answer = next(self.ids), queue.Queue()
        self.waiting[number] = answer
        self.send(json.dumps({"type": "request", "id": number, "method": method, "params": params}).encode())
        return answer.get(timeout=12)

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlsplit(self.path)
        if url.path == "/health":
            self.answer(200, {"status": "ok"})
        elif self.headers["Authorization"] != "Bearer " + args["--auth-secret"]:
            self.answer(401, {"title": "only the host may ask"})
        elif url.path == "/_temps/channel":
            self.serve_channel()
        elif url.path == "/events":
            self.answer(200, events[-100:])
        elif url.path == "/project" and channel:
            response = channel.ask("get_project", project_id=int(parse_qs(url.query)["id"][0]))
            self.answer(404 if "error" in response else 200, response.get("error") or response["result"])
        else:
            self.answer(404, {"title": "no such route"})
    def serve_channel(self):
        global channel
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.protocol_version, self.close_connection = "HTTP/1.1", True
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        channel = mine = Channel(self)
        for message in mine.messages():
            try:
                frame = json.loads(message)
                if frame["type"] == "event":
                    events.append(frame["event"])
                elif frame["type"] == "response":
                    mine.waiting.pop(frame["id"]).put(frame)
            except (LookupError, TypeError, ValueError): pass  # no frame, or one that nobody waits for
    def answer(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())
    def address_string(self): return "host"
class Server(ThreadingMixIn, UnixStreamServer): daemon_threads = True
print('{"type":"manifest","name":"plain-python-channel","version":"1.0.0","events":["deployment.*"]}', flush=True)
if os.path.exists(args["--socket-path"]): os.remove(args["--socket-path"])
server = Server(args["--socket-path"], Handler)
print('{"type":"ready","ready":true,"has_ui":false,"features":["reconnect"]}', flush=True)
server.serve_forever()
