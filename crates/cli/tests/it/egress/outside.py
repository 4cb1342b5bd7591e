"""The world outside, for one test: a TLS host at public addresses, and everything else that a plugin must not reach.

`outside.py CERTIFICATE KEY SOCKET MESSAGES HOLDS`: says `up` once all of it listens, keeps what is posted in the file MESSAGES, and
writes into the file HOLDS when a connection to `/hold/NAME` begins and when it ends.
"""
import http.server, socket, ssl, sys, threading

PUBLIC, PUBLIC_6 = "45.90.28.10", "2a0b:9000::10"
certificate, key, path, messages, holds = sys.argv[1:6]


class Host(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/hold/"):
            return self.hold(self.path.removeprefix("/hold/"))
        # Which of them it is shows where a name has led.
        self.answer(f"the outside at {self.connection.getsockname()[0]}".encode())

    def hold(self, name):
        self.connection.settimeout(None)
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.note(name, "began")
        try:
            while self.connection.recv(100):
                pass
        except OSError:
            pass
        self.note(name, "ended")

    def note(self, name, what):
        with open(holds, "a") as file:
            file.write(f"{name} {what}\n")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open(messages, "ab") as file:
            file.write(body + b"\n")
        self.answer(b"ok")

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    """TLS for those who speak it, and an answer in plain text for those who do not, so that both show what arrived."""

    def get_request(self):
        client, address = super().get_request()
        client.settimeout(10)
        if client.recv(1, socket.MSG_PEEK) == b"\x16":
            client = context.wrap_socket(client, server_side=True)
        return client, address

    def handle_error(self, *_):
        pass


class Server6(Server):
    address_family = socket.AF_INET6


def accept_all(listener):
    while True:
        listener.accept()[0].close()


def listening(family, address):
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen()
    threading.Thread(target=accept_all, args=[listener], daemon=True).start()


def echo(udp):
    while True:
        data, address = udp.recvfrom(100)
        udp.sendto(data, address)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
for server in Server((PUBLIC, 443), Host), Server6((PUBLIC_6, 443), Host), Server(("127.0.0.1", 443), Host):
    threading.Thread(target=server.serve_forever, daemon=True).start()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((PUBLIC, 5353))
threading.Thread(target=echo, args=[udp], daemon=True).start()
listening(socket.AF_INET, ("127.0.0.1", 5432))
listening(socket.AF_INET, (PUBLIC, 8443))
listening(socket.AF_UNIX, path)
listening(socket.AF_UNIX, "\0temps-outside")
print("up", flush=True)
sys.stdin.read()
