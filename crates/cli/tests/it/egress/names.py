"""A name server for one test, whose names do not stay where they are.

`names.py QUESTIONS`: says `up` once it listens, and writes each name that an IPv4 address was wanted of into the file QUESTIONS.
Every name under turns.example.com is a public host when it is asked for first, and loopback ever after.
"""
import socket, struct, sys, threading

PUBLIC, LOOPBACK = b"\x2d\x5a\x1c\x0a", b"\x7f\x00\x00\x01"
ZONE = b"turns.example.com"
A, CNAME = 1, 5
asked = set()


def packed(name):
    return b"".join(bytes([len(label)]) + label for label in name.split(b".")) + b"\0"


def records(name):
    label = name.removesuffix(b"." + ZONE)
    if label == b"mixed":
        return [(A, PUBLIC), (A, LOOPBACK)]
    if label == b"alias":
        return [(CNAME, packed(b"elsewhere.example.net")), (A, PUBLIC)]
    if label == b"alias-of-loopback":
        return [(CNAME, packed(b"elsewhere.example.net")), (A, LOOPBACK)]
    first = name not in asked
    asked.add(name)
    return [(A, PUBLIC if first else LOOPBACK)]


def answer(message):
    end, labels = 12, []
    while message[end]:
        labels.append(message[end + 1 : end + 1 + message[end]].lower())
        end += 1 + message[end]
    kind = struct.unpack(">H", message[end + 1 : end + 3])[0]
    name, known = b".".join(labels), labels[-3:] == ZONE.split(b".")
    found = records(name) if known and kind == A else []
    if known and kind == A:
        with open(sys.argv[1], "ab") as file:
            file.write(name + b"\n")
    # An answer to what was asked, with recursion; what is not known does not exist.
    head = message[:2] + struct.pack(">HHHHH", 0x8180 if known else 0x8183, 1, len(found), 0, 0)
    body, owner = message[12 : end + 5], b"\xc0\x0c"
    for kind, data in found:
        body += owner + struct.pack(">HHIH", kind, 1, 0, len(data)) + data
        owner = data if kind == CNAME else owner
    return head + body


server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))


def serve():
    while True:
        message, client = server.recvfrom(512)
        server.sendto(answer(message), client)


threading.Thread(target=serve, daemon=True).start()
print("up", flush=True)
sys.stdin.read()
