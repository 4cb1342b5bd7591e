"""The host's end of a channel, by hand."""
import base64, json, os, socket, struct, threading

from common import Failed, faulty


class Channel:
    """The host's end: frames by hand, so that each can be wrong."""

    def __init__(self, plugin, life):
        self.plugin, self.lock, self.pongs, self.open = plugin, threading.Lock(), {}, True
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.settimeout(600 if faulty("waits_for_the_channel") else 5)
        self.stream.connect(life.socket)
        version = 12 if faulty("another_websocket") else 13
        head = (f"GET /_temps/channel HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {life.secret}\r\nConnection: Upgrade\r\n"
                f"Upgrade: websocket\r\nSec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n")
        self.stream.sendall(head.encode())
        self.file = self.stream.makefile("rb")
        self.status = int((self.file.readline().split() or [b"", b"0"])[1])
        while len(self.file.readline()) > 2:
            pass
        self.stream.settimeout(None)

    def send(self, payload, opcode=1, whole=True):
        payload, mask = payload if isinstance(payload, bytes) else payload.encode(), b"" if faulty("unmasked") else os.urandom(4)
        size, bit = len(payload), 0x80 if mask else 0
        length = bytes([bit | size]) if size < 126 else struct.pack("!BH", bit | 126, size) if size < 65536 else struct.pack("!BQ", bit | 127, size)
        keys = int.from_bytes((mask * (size // 4 + 1))[:size], "big") if mask else 0
        body = (int.from_bytes(payload, "big") ^ keys).to_bytes(size, "big")
        with self.lock:
            try:
                self.stream.sendall(bytes([(0x80 if whole else 0) | opcode]) + length + mask + body)
            except OSError:
                pass

    def tell(self, **frame):
        self.send(json.dumps(frame))

    def close(self):
        self.open = False
        self.send(b"", 8)

    def lose(self):
        self.open = False
        try:
            self.stream.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def read(self):
        most = 500_000 if faulty("short_frames") else 10**8 if faulty("takes_long_frames") else 1048576
        while len(head := self.file.read(2)) == 2:
            opcode, size = head[0] & 15, head[1] & 127
            if size > 125:
                size = int.from_bytes(self.file.read(2 if size == 126 else 8), "big")
            if size > most:
                break
            body = self.file.read(size)
            if opcode == 8 or (opcode == 2 and faulty("ends_on_binary")):
                break
            if opcode == 10 and (told := self.pongs.pop(body, None)):
                told()
            if opcode == 1:
                try:
                    frame = json.loads(body)
                    assert isinstance(frame, dict)
                except (ValueError, AssertionError):
                    if faulty("ends_on_garbage"):
                        break
                    continue
                self.take(frame)
        self.lose()

    def take(self, frame):
        if "method" in frame:
            if faulty("silent_without_id") and frame.get("id") is None:
                return
            identity = frame.get("id")
            if faulty("drops_beyond_32") and str(identity).startswith("many") and int(identity.split()[1]) >= 32:
                return
            if faulty("text_ids"):
                identity = str(identity)
            try:
                answer = {"result": self.plugin.answer(frame.get("method"), frame.get("params"))}
                if faulty("both_outcomes"):
                    answer["error"] = {"code": "internal", "message": "x"}
            except Failed as failed:
                answer = {"error": {"code": failed.args[0], "message": "no", **(failed.args[1] if len(failed.args) > 1 else {})}}
            self.tell(type="response", id=identity, **answer)
            if faulty("answers_twice"):
                self.tell(type="response", id=identity, **answer)
        elif frame.get("type") == "ack" and isinstance(frame.get("id"), str):
            self.plugin.acked(self, frame)
