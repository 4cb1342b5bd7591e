"""What the tests share: the package on the path, the specification's files, and a host played by hand."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import struct
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, Optional, Sequence

ROOT = Path(__file__).resolve().parents[1]
SPEC = ROOT.parents[1] / "spec" / "v1"
sys.path.insert(0, str(ROOT / "src"))

#: How long anything may take before a test gives up on it, in seconds. Generous: machines that run tests are busy.
PATIENCE = 60.0

SECRET = "s3cret-of-this-start"


class PlayedHost:
    """A host that starts a plugin as a process and speaks the protocol's other side, with asyncio and nothing else."""

    def __init__(self, process: asyncio.subprocess.Process, home: Path) -> None:
        self.process = process
        self.home = home
        self.socket = home / "p.sock"
        self.log = b""
        self._channels: list[ChannelClient] = []
        self._log_task = asyncio.ensure_future(self._drain())

    @classmethod
    async def start(cls, program: Path, features: str = "ack,reconnect", args: Optional[Sequence[str]] = None) -> PlayedHost:
        # In /tmp by name, because a socket's path has at most 107 bytes.
        home = Path(tempfile.mkdtemp(prefix="temps-py-", dir="/tmp"))
        given = ["--socket-path", str(home / "p.sock"), "--auth-secret", SECRET, "--data-dir", str(home)]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(program),
            *(given if args is None else args),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=str(home),
            env={"PATH": os.environ["PATH"], "TEMPS_FEATURES": features, "PYTHONPATH": str(ROOT / "src")},
        )
        return cls(process, home)

    async def line(self) -> Any:
        assert self.process.stdout is not None
        text = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)
        return json.loads(text) if text else None

    async def handshake(self) -> tuple[Any, Any]:
        return await self.line(), await self.line()

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Optional[dict[str, str]] = None, secret: bool = True
    ) -> tuple[int, dict[str, str], bytes]:
        reader, writer = await asyncio.open_unix_connection(str(self.socket))
        try:
            fields = {"Host": "localhost", "Connection": "close", "Content-Length": str(len(body))}
            if secret:
                fields["Authorization"] = f"Bearer {SECRET}"
            fields.update(headers or {})
            head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields.items()) + "\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
            raw = await asyncio.wait_for(reader.read(), PATIENCE)
            return split_response(raw)
        finally:
            writer.close()

    async def channel(self, secret: str = SECRET) -> ChannelClient:
        reader, writer = await asyncio.open_unix_connection(str(self.socket), limit=2**22)
        writer.write(
            b"GET /_temps/channel HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            + f"Authorization: Bearer {secret}\r\n\r\n".encode()
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        status = int(head.split(b" ")[1])
        if status != 101:
            writer.close()
            raise ConnectionRefusedError(status)
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        client = ChannelClient(reader, writer)
        self._channels.append(client)
        return client

    async def ended(self) -> int:
        return await asyncio.wait_for(self.process.wait(), PATIENCE)

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._log_task
        for channel in self._channels:
            channel.close()
        await asyncio.sleep(0)
        shutil.rmtree(self.home, ignore_errors=True)

    async def _drain(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.log += line


class ChannelClient:
    """The host's end of the channel: frames of the client are masked."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, frame: Any) -> None:
        await self.raw(1, (frame if isinstance(frame, str) else json.dumps(frame)).encode())

    async def raw(self, opcode: int, payload: bytes, final: bool = True) -> None:
        mask = b"\x11\x22\x33\x44"
        size = len(payload)
        head = bytes([(0x80 if final else 0) | opcode])
        if size < 126:
            head += bytes([0x80 | size])
        elif size < 65536:
            head += struct.pack("!BH", 0x80 | 126, size)
        else:
            head += struct.pack("!BQ", 0x80 | 127, size)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        self.writer.write(head + mask + masked)
        await self.writer.drain()

    async def frame(self) -> tuple[int, bytes]:
        async def read() -> tuple[int, bytes]:
            head = await self.reader.readexactly(2)
            size = head[1] & 127
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
            return head[0] & 15, await self.reader.readexactly(size)

        return await asyncio.wait_for(read(), PATIENCE)

    async def message(self) -> Any:
        opcode, payload = await self.frame()
        assert opcode == 1, (opcode, payload)
        return json.loads(payload)

    def close(self) -> None:
        self.writer.close()


def split_response(raw: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if headers.get("transfer-encoding") == "chunked":
        whole = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            length = int(size, 16)
            whole, body = whole + body[:length], body[length + 2 :]
        body = whole
    return int(lines[0].split(" ")[1]), headers, body


def event(number: int, event_type: str = "deployment.succeeded", **data: Any) -> dict[str, Any]:
    return {
        "id": f"event-{number}",
        "event_type": event_type,
        "timestamp": "2026-06-06T12:00:00Z",
        "project_id": 42,
        "data": data,
    }


def skipped_loudly(test: unittest.TestCase, reason: str) -> None:
    """Notes that a test cannot run on this machine, where the summary of all tests shows it; the test then returns."""
    print(f"skipped: {test.id()}: {reason}", file=sys.stderr)
    if "TEMPS_TEST_SKIPS" in os.environ:
        with open(os.environ["TEMPS_TEST_SKIPS"], "a") as skips:
            skips.write(f"{test.id()}: {reason}\n")
