"""Plugins as processes, as a host sees them: the handshake, routes, events, questions, pages, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

from support import PATIENCE, ROOT, PlayedHost, event

from temps_plugin import Request, Response
from temps_plugin._process import bind, run_in_new_loop, stop_accepting
from temps_plugin.http import HttpServer

PLUGINS = Path(__file__).parent / "plugins"


class Scene(unittest.IsolatedAsyncioTestCase):
    program = "everything.py"
    features = "ack,reconnect"

    async def asyncSetUp(self) -> None:
        self.host = await PlayedHost.start(PLUGINS / self.program, self.features)
        self.manifest, self.ready = await self.host.handshake()

    async def asyncTearDown(self) -> None:
        await self.host.end()

    async def get(self, path: str) -> Any:
        status, _, body = await self.host.request("GET", path)
        self.assertEqual(status, 200, body)
        return json.loads(body)


class Everything(Scene):
    async def test_the_two_lines_stand_alone_and_prints_go_to_the_log(self) -> None:
        self.assertEqual(self.manifest["name"], "everything")
        self.assertEqual(self.ready["features"], ["ack", "reconnect"])
        self.assertTrue(self.ready["has_ui"])
        self.assertEqual(self.ready["openapi"]["openapi"], "3.1.0")
        # Routes answer once the start hook has returned; before that there would be nothing to finish.
        self.assertEqual(await self.get("/seen"), [])
        self.host.process.send_signal(signal.SIGTERM)
        self.assertEqual(await self.host.ended(), 0)
        self.assertIsNone(await self.host.line())
        self.assertFalse(self.host.socket.exists())
        self.assertTrue((self.host.home / "finished").exists())
        await self.host.end()
        for words in (b"libraries print", b"past sys.stdout", b"from a program"):
            self.assertIn(words, self.host.log)

    async def test_routes_need_the_secret_and_health_does_not(self) -> None:
        self.assertEqual((await self.host.request("GET", "/health", secret=False))[0], 200)
        self.assertEqual((await self.host.request("GET", "/seen", secret=False))[0], 401)
        wrong = {"Authorization": "Bearer other"}
        self.assertEqual((await self.host.request("GET", "/seen", headers=wrong))[0], 401)
        self.assertEqual(await self.get("/seen"), [])
        with self.assertRaises(ConnectionRefusedError):
            await self.host.channel("other")

    async def test_routes_read_what_the_host_passes_on(self) -> None:
        user = {"X-Temps-User-Id": "7", "X-Temps-User-Name": "Ad%C3%A4", "X-Temps-User-Role": "admin"}
        _, _, body = await self.host.request("POST", "/echo/a%20b?x=1&x=2", headers=user)
        self.assertEqual(json.loads(body), {"name": "a b", "query": {"x": "2"}, "user": "Adä"})
        self.assertEqual((await self.host.request("POST", "/size", b"x" * 1000))[2], b"1000")
        self.assertEqual((await self.host.request("POST", "/size", b"x" * 1001))[0], 413)
        chunked = {"Transfer-Encoding": "chunked"}
        reader, writer = await asyncio.open_unix_connection(str(self.host.socket))
        writer.write(
            b"POST /size HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer s3cret-of-this-start\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
            b"GET /seen HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer s3cret-of-this-start\r\n\r\n"
        )
        raw = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        self.assertTrue(chunked and raw.count(b"HTTP/1.1 200") == 2 and b"\r\n\r\n5HTTP" in raw, raw)

    async def test_failures_are_explained_and_do_not_end_the_plugin(self) -> None:
        status, headers, body = await self.host.request("GET", "/panic")
        self.assertEqual((status, headers["content-type"]), (500, "application/problem+json"))
        self.assertNotIn(b"no such thing", body)
        self.assertEqual((await self.host.request("DELETE", "/seen"))[0], 405)
        self.assertEqual((await self.host.request("GET", "/else"))[0], 404)
        for raw in [b"GET\r\n\r\n", b"GET /seen HTTP/1.1\r\nA B\r\n\r\n",
                    b"POST /seen HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"]:
            reader, writer = await asyncio.open_unix_connection(str(self.host.socket))
            writer.write(raw)
            self.assertTrue((await asyncio.wait_for(reader.read(), PATIENCE)).startswith(b"HTTP/1.1 400"), raw)
            writer.close()
        self.assertEqual(await self.get("/seen"), [])

    async def test_answers_can_be_streamed(self) -> None:
        _, headers, body = await self.host.request("GET", "/stream")
        self.assertEqual(headers["content-type"], "text/event-stream")
        self.assertEqual(body, b"data: 0\n\ndata: 1\n\ndata: 2\n\n")

    async def test_pages_are_served_to_anybody_and_hashed_files_are_kept(self) -> None:
        status, headers, body = await self.host.request("GET", "/ui/", secret=False)
        self.assertEqual((status, headers["cache-control"]), (200, "no-cache"))
        self.assertIn(b"<title>page", body)
        self.assertEqual((await self.host.request("GET", "/ui/some/page", secret=False))[2], body)
        _, headers, _ = await self.host.request("GET", "/ui/app-Ab3dEf9h.js", secret=False)
        self.assertIn("immutable", headers["cache-control"])
        self.assertIn("text/javascript", headers["content-type"])
        self.assertEqual((await self.host.request("GET", "/ui/../everything.py", secret=False))[0], 404)
        self.assertEqual((await self.host.request("GET", "/ui/%2e%2e/everything.py", secret=False))[0], 404)
        self.assertEqual((await self.host.request("GET", "/ui", secret=False))[1]["location"], "ui/")

    async def test_events_are_handled_in_order_and_confirmed(self) -> None:
        channel = await self.host.channel()
        await channel.send({"type": "event", "event": event(1, "deployment.failed", block=0.1)})
        await channel.send({"type": "event", "event": event(2)})
        await channel.send({"type": "event", "event": event(3, "shop.broken")})
        await channel.send({"type": "event", "event": event(4, "shop.unknown")})
        acks = [await channel.message() for _ in range(4)]
        self.assertEqual([ack["id"] for ack in acks], [f"event-{n}" for n in (1, 2, 3, 4)])
        self.assertEqual([ack["status"] for ack in acks], ["ok", "ok", "error", "ok"])
        self.assertEqual(acks[2]["error"], "ValueError: the till is stuck")
        self.assertEqual(await self.get("/seen"), ["event-1", "event-2"])

    async def test_a_handler_may_ask_while_the_channel_goes_on(self) -> None:
        channel = await self.host.channel()
        await channel.send({"type": "event", "event": event(1, ask=True)})
        question = await channel.message()
        self.assertEqual((question["method"], question["params"]), ("get_project", {"project_id": 42}))
        await channel.raw(9, b"are you there")
        self.assertEqual(await channel.frame(), (10, b"are you there"))
        project = {"id": 42, "name": "my-app", "slug": "my-app", "created_at": "2026-06-06T12:00:00Z",
                   "updated_at": "2026-06-06T12:00:00Z"}
        await channel.send({"type": "response", "id": question["id"], "result": project})
        self.assertEqual((await channel.message())["status"], "ok")
        self.assertEqual(await self.get("/seen"), ["my-app", "event-1"])

    async def test_questions_of_routes_fail_with_the_hosts_code_and_with_a_lost_channel(self) -> None:
        channel = await self.host.channel()
        asked = asyncio.ensure_future(self.host.request("GET", "/project/1"))
        question = await channel.message()
        error = {"code": "not_found", "message": "there is no project 1"}
        await channel.send({"type": "response", "id": question["id"], "error": error})
        self.assertEqual((await asked)[0], 404)
        asked = asyncio.ensure_future(self.host.request("GET", "/project/1"))
        await channel.message()
        channel.close()
        self.assertEqual((await asked)[0], 502)
        again = await self.host.channel()
        await again.send({"type": "event", "event": event(9)})
        self.assertEqual((await again.message())["id"], "event-9")

    async def test_frames_that_break_rules_are_survived_or_close_the_channel(self) -> None:
        channel = await self.host.channel()
        for frame in ["[]", "{", '{"type":"later"}', '{"type":"event","event":{}}', '{"type":"response"}']:
            await channel.send(frame)
        await channel.raw(1, b'{"type":"event","event":', final=False)
        await channel.raw(0, json.dumps(event(5)).encode() + b"}")
        self.assertEqual((await channel.message())["id"], "event-5")
        # The head alone: the plugin refuses a frame by its length, and reads none of it.
        channel.writer.write(b"\x81\xff" + (1024 * 1024 + 1).to_bytes(8, "big"))
        opcode, payload = await channel.frame()
        self.assertEqual((opcode, int.from_bytes(payload[:2], "big")), (8, 1009))

    async def test_posted_events_are_answered_with_how_they_went(self) -> None:
        for number, kind, wanted in [(1, "deployment.succeeded", 200), (2, "shop.broken", 500)]:
            body = json.dumps(event(number, kind)).encode()
            self.assertEqual((await self.host.request("POST", "/_events", body, secret=False))[0], wanted)
        self.assertEqual((await self.host.request("POST", "/_events", b"{}"))[0], 422)
        self.assertEqual((await self.host.request("POST", "/_events", b"{"))[0], 400)

    async def test_events_in_the_line_are_handled_and_confirmed_before_the_end(self) -> None:
        channel = await self.host.channel()
        for number in range(3):
            await channel.send({"type": "event", "event": event(number, "deployment.failed", block=0.2)})
        await channel.raw(9, b"")
        while (await channel.frame())[0] != 10:
            pass
        self.host.process.send_signal(signal.SIGTERM)
        ids = set()
        while len(ids) < 3:
            opcode, payload = await channel.frame()
            if opcode == 8:
                break
            ids.add(json.loads(payload)["id"])
        self.assertEqual(await self.host.ended(), 0)
        self.assertEqual(len(json.loads((self.host.home / "finished").read_text())), 3)


    async def test_a_handler_that_never_returns_does_not_keep_the_process(self) -> None:
        channel = await self.host.channel()
        await channel.send({"type": "event", "event": event(1, "deployment.failed", block=100_000)})
        await channel.raw(9, b"read")
        self.assertEqual(await channel.frame(), (10, b"read"))
        self.host.process.send_signal(signal.SIGTERM)
        self.assertEqual(await self.host.ended(), 0)


class HostGone(unittest.IsolatedAsyncioTestCase):
    async def test_the_plugin_ends_in_order_when_its_host_has_died(self) -> None:
        home = Path(tempfile.mkdtemp(prefix="temps-py-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, home, True)
        arguments = ["--socket-path", str(home / "p.sock"), "--auth-secret", "s", "--data-dir", str(home)]
        # A host that starts the plugin, says its id once it has said both lines, and can be killed.
        host = (
            "import subprocess, sys\n"
            "plugin = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)\n"
            "plugin.stdout.readline(), plugin.stdout.readline()\n"
            "print(plugin.pid, flush=True)\n"
            "plugin.wait()\n"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", host, sys.executable, str(PLUGINS / "everything.py"), *arguments,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src")},
        )
        assert process.stdout is not None
        plugin = int(await asyncio.wait_for(process.stdout.readline(), PATIENCE))
        while not (home / "begun").exists():
            await asyncio.sleep(0.01)
        descriptor = os.pidfd_open(plugin)
        self.addCleanup(os.close, descriptor)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, ended.set)
        process.kill()
        await process.wait()
        await asyncio.wait_for(ended.wait(), PATIENCE)
        asyncio.get_running_loop().remove_reader(descriptor)
        self.assertTrue((home / "finished").exists())
        self.assertFalse((home / "p.sock").exists())


class Article(Scene):
    program = "article.py"

    async def test_the_articles_sample_serves_and_stays_until_it_is_told_to_end(self) -> None:
        self.assertEqual(self.manifest["display_name"], "Slack Notifier")
        self.assertEqual((await self.host.request("GET", "/health", secret=False))[0], 200)
        channel = await self.host.channel()
        await channel.send({"type": "event", "event": event(1)})
        self.assertEqual((await channel.message())["status"], "ok")
        self.host.process.send_signal(signal.SIGTERM)
        self.assertEqual(await self.host.ended(), 0)


class Script(Scene):
    program = "script.py"

    async def test_blocking_handlers_of_a_script_that_has_ended_are_called_and_their_failures_are_told(self) -> None:
        channel = await self.host.channel()
        for number, kind in ((1, "shop.sold"), (2, "shop.broken"), (3, "shop.sold")):
            await channel.send({"type": "event", "event": event(number, kind)})
        acks = [await channel.message() for _ in range(3)]
        self.assertEqual([ack["status"] for ack in acks], ["ok", "error", "ok"])
        self.assertEqual(acks[1]["error"], "ValueError: the till is stuck")
        self.host.process.send_signal(signal.SIGTERM)
        self.assertEqual(await self.host.ended(), 0)
        self.assertEqual((self.host.home / "finished").read_text(), "prepared event-1 event-2 event-3")


class WithoutFeatures(Scene):
    features = ""

    async def test_a_host_without_acks_gets_none(self) -> None:
        self.assertNotIn("features", self.ready)
        channel = await self.host.channel()
        await channel.send({"type": "event", "event": event(1)})
        await channel.raw(9, b"read")
        self.assertEqual(await channel.frame(), (10, b"read"))
        while await self.get("/seen") != ["event-1"]:
            await asyncio.sleep(0)


class Asgi(Scene):
    program = "asgi.py"

    async def test_an_application_is_mounted_unchanged(self) -> None:
        status, headers, body = await self.host.request("PUT", "/a/b", b"abc")
        self.assertEqual((status, headers["x-path"], body), (201, "/a/b", b"True:cba"))
        self.assertEqual((await self.host.request("GET", "/own"))[2], b"mine")

    async def test_its_websockets_work(self) -> None:
        from support import ChannelClient

        reader, writer = await asyncio.open_unix_connection(str(self.host.socket))
        writer.write(
            b"GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Protocol: chat, other\r\nAuthorization: Bearer s3cret-of-this-start\r\n\r\n"
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        self.assertIn(b"Sec-WebSocket-Protocol: chat\r\n", head)
        client = ChannelClient(reader, writer)
        await client.raw(1, "grüße".encode())
        self.assertEqual(await client.frame(), (1, "GRÜSSE".encode()))
        client.close()


class OnePiece(unittest.IsolatedAsyncioTestCase):
    async def test_head_and_body_of_an_answer_are_written_at_once(self) -> None:
        class Recorder:
            pieces: list[bytes] = []
            closed = asyncio.Event()

            def write(self, piece: bytes) -> None:
                self.pieces.append(piece)

            async def drain(self) -> None:
                pass

            def close(self) -> None:
                self.closed.set()

        async def answer(request: Request) -> Response:
            return Response.json({"path": request.path})

        reader = asyncio.StreamReader()
        reader.feed_data(b"GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        HttpServer(answer).connected(reader, Recorder())  # type: ignore[arg-type]
        await asyncio.wait_for(Recorder.closed.wait(), PATIENCE)
        [piece] = Recorder.pieces
        self.assertTrue(piece.startswith(b"HTTP/1.1 200 OK\r\n") and piece.endswith(b'\r\n\r\n{"path":"/a"}'), piece)


class ServerGone(unittest.TestCase):
    def test_a_connection_is_closed_whichever_turn_of_the_loop_the_server_ends_in(self) -> None:
        async def answer(_: Request) -> Response:
            return Response.json({})

        async def live(path: str, client: socket.socket, turns: int) -> None:
            http = HttpServer(answer)
            server = await bind(path, http)
            client.connect(path)
            for _ in range(turns):
                await asyncio.sleep(0)
            await stop_accepting(server)
            await http.close(PATIENCE)

        for turns in range(8):
            with self.subTest(turns=turns), tempfile.TemporaryDirectory(dir="/tmp") as home:
                with socket.socket(socket.AF_UNIX) as client:
                    run_in_new_loop(live(f"{home}/p.sock", client, turns))
                    client.setblocking(False)
                    # A connection that is left open would block, and that is an error of its own here.
                    with contextlib.suppress(ConnectionResetError):
                        self.assertEqual(client.recv(1), b"")


class Starts(unittest.IsolatedAsyncioTestCase):
    async def test_wrong_arguments_are_explained_with_status_2(self) -> None:
        for args in ([], ["--socket-path", "/tmp/x"], ["--verbose", "1"]):
            host = await PlayedHost.start(PLUGINS / "everything.py", args=args)
            self.assertEqual(await host.ended(), 2)
            await host.end()
            self.assertIn(b"--socket-path PATH", host.log)

    async def test_a_script_whose_start_hook_fails_has_status_1_too(self) -> None:
        host = await PlayedHost.start(PLUGINS / "failing_script.py")
        await host.line()
        self.assertEqual(await host.ended(), 1)
        await host.end()
        self.assertIn(b"nothing works today", host.log)

    async def test_a_start_hook_that_fails_ends_the_plugin_with_status_1_and_the_reason(self) -> None:
        host = await PlayedHost.start(PLUGINS / "everything.py")
        (host.home / "fail").touch()
        await host.handshake()
        self.assertEqual(await host.ended(), 1)
        await host.end()
        self.assertIn(b"nothing works today", host.log)


if __name__ == "__main__":
    unittest.main()
