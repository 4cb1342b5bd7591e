"""The host for authors' tests, and with it what the SDK promises about settings, storage, questions and life."""

from __future__ import annotations

import asyncio
import unittest
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Optional
from unittest import mock

import support  # noqa: F401 - puts the package on the path
from temps_plugin import (
    ChannelError,
    ChannelLost,
    ConfigError,
    Plugin,
    PluginManifest,
    WebSocketClosed,
    line,
)
from temps_plugin.testing import EventNotHandled, StartFailed, TestHost, TestPlatform
from temps_plugin.testing.platform import NO_ANSWER

PLUGINS = Path(__file__).parent / "plugins"
SCHEMA = {"type": "object", "properties": {"channel": {"type": "string"}, "retries": {"type": "integer"}}}


@dataclass
class Settings:
    channel: str
    retries: int = 3
    mention: Optional[str] = None


def plugin_with(name: str = "tested", **fields: Any) -> Plugin:
    return Plugin(PluginManifest(name=name, version="1.0.0", events=["deployment.*", "shop.*"], **fields))


class Deliveries(unittest.IsolatedAsyncioTestCase):
    async def test_an_event_is_handled_when_deliver_returns_and_a_failure_is_told(self) -> None:
        plugin, seen = plugin_with(), []

        @plugin.on("deployment.succeeded")
        async def live(ctx: Any, event: Any) -> None:
            seen.append((await ctx.platform.get_project(event.project_id)).name)

        async with TestHost(plugin) as host:
            with self.assertRaisesRegex(EventNotHandled, "not_found"):
                await host.deliver("deployment.succeeded", project_id=42)
            host.platform.knows_project(42, "my-app")
            await host.deliver("deployment.succeeded", project_id=42)
            self.assertEqual(seen, ["my-app"])
            self.assertEqual(host.platform.asked, [("get_project", {"project_id": 42})] * 2)
            with self.assertRaisesRegex(EventNotHandled, "asks for"):
                await host.deliver("project.created")

    async def test_a_host_without_a_channel_posts_and_without_acks_pings(self) -> None:
        plugin, seen = plugin_with(), []

        @plugin.on("shop.*")
        async def sold(ctx: Any, event: Any) -> None:
            seen.append(event.data["price"])
            if event.data["price"] < 0:
                raise ValueError("who pays that")

        async with TestHost(plugin, channel=False) as host:
            await host.deliver("shop.sold", data={"price": 1})
            with self.assertRaisesRegex(EventNotHandled, "500.*who pays that"):
                await host.deliver("shop.sold", data={"price": -1})
        async with TestHost(plugin, features=[]) as host:
            self.assertEqual(host.ready.features, ())
            await host.deliver("shop.sold", data={"price": 2})
        self.assertEqual(seen, [1, -1, 2])

    async def test_a_handler_that_takes_too_long_has_failed_and_the_next_event_is_handled(self) -> None:
        plugin, seen = plugin_with(), []

        @plugin.on("shop.*")
        async def sold(ctx: Any, event: Any) -> None:
            if event.event_type == "shop.slow":
                await ctx.stopping()
            seen.append(event.event_type)

        with mock.patch.object(line, "HANDLING_TIMEOUT", 0.1):
            async with TestHost(plugin) as host:
                with self.assertRaisesRegex(EventNotHandled, "took longer"):
                    await host.deliver("shop.slow")
                await host.deliver("shop.sold")
        self.assertEqual(seen, ["shop.sold"])

    async def test_binary_and_unknown_frames_do_no_harm_and_an_event_of_the_largest_size_comes_through(self) -> None:
        plugin, seen = plugin_with(), []

        @plugin.on("shop.*")
        async def sold(ctx: Any, event: Any) -> None:
            seen.append(len(event.data["text"]))

        async with TestHost(plugin) as host:
            assert host._channel is not None
            await host._channel.send(b"\x00\xff" * 1000)
            await host._channel.send('{"type":"tomorrow"}')
            await host.deliver("shop.sold", data={"text": "x" * 250_000})
        self.assertEqual(seen, [250_000])


class Configurations(unittest.IsolatedAsyncioTestCase):
    async def test_settings_are_there_before_the_start_and_the_hook_runs_after_each_change_only(self) -> None:
        plugin, told = plugin_with(config=SCHEMA), []
        changed = asyncio.Queue[Any]()
        loop = asyncio.get_running_loop()

        @plugin.on_start
        async def begin(ctx: Any) -> None:
            told.append(ctx.config)

        @plugin.on_config
        async def change(ctx: Any) -> None:
            loop.call_soon_threadsafe(changed.put_nowait, (ctx.config, ctx.configuration.revision))

        async with TestHost(plugin, config={"channel": "#a"}) as host:
            self.assertEqual(told, [{"channel": "#a"}])
            await host.configure({"channel": "#b"})
            self.assertEqual(await asyncio.wait_for(changed.get(), support.PATIENCE), ({"channel": "#b"}, 2))
            # The same again, as it comes with every new channel, is no change.
            await host.cut_channel()
            await host.connect_channel()
            await host.deliver("shop.sold")
            self.assertTrue(changed.empty())

    async def test_a_hook_that_fails_is_logged_and_the_next_change_is_told(self) -> None:
        plugin = plugin_with(config=SCHEMA)
        changed = asyncio.Queue[str]()
        loop = asyncio.get_running_loop()

        @plugin.on_config
        def change(ctx: Any) -> None:
            loop.call_soon_threadsafe(changed.put_nowait, ctx.config["channel"])
            if ctx.config["channel"] == "#b":
                raise ValueError("not that one")

        async with TestHost(plugin, config={"channel": "#a"}) as host:
            for name in ("#b", "#c"):
                with self.assertLogs("temps_plugin", "ERROR") if name == "#b" else mock.MagicMock() as logs:
                    await host.configure({"channel": name})
                    self.assertEqual(await asyncio.wait_for(changed.get(), support.PATIENCE), name)
                    while name == "#b" and not logs.output:
                        await asyncio.sleep(0)

    async def test_a_host_that_has_no_settings_is_not_waited_for_and_asking_says_so(self) -> None:
        plugin = plugin_with(config=SCHEMA)

        @plugin.get("/config")
        async def show(ctx: Any, request: Any) -> Any:
            try:
                return ctx.config
            except ConfigError as error:
                return str(error)

        async with TestHost(plugin, features=["ack"]) as host:
            self.assertIn("sent no configuration", (await host.get("/config")).text)

    async def test_a_plugin_that_declares_settings_and_gets_none_does_not_start(self) -> None:
        with mock.patch("temps_plugin.server.CONFIG_TIMEOUT", 0.1), self.assertLogs("temps_plugin"):
            with self.assertRaisesRegex(StartFailed, "no configuration"):
                async with TestHost(plugin_with(config=SCHEMA), channel=False):
                    pass

    async def test_settings_are_read_as_a_dataclass_and_refusals_name_no_value(self) -> None:
        plugin, read = plugin_with(config=SCHEMA), []

        @plugin.on("shop.*")
        async def sold(ctx: Any, event: Any) -> None:
            read.append(ctx.config_as(Settings))

        async with TestHost(plugin, config={"channel": "#a", "mention": None, "later": 1}) as host:
            await host.deliver("shop.sold")
            self.assertEqual(read, [Settings("#a")])
            for config, words in [({"channel": ["s3cret"]}, "channel is list"), ({}, "channel is missing"),
                                  ({"channel": "#a", "retries": True}, "retries is bool")]:
                await host.configure(config)
                with self.assertRaises(EventNotHandled) as refused:
                    await host.deliver("shop.sold")
                self.assertIn(words, str(refused.exception))
                self.assertNotIn("s3cret", str(refused.exception))


class Storage(unittest.IsolatedAsyncioTestCase):
    async def test_entries_are_written_read_listed_and_deleted_and_one_of_two_writers_wins(self) -> None:
        plugin = plugin_with()

        @plugin.on("shop.*")
        async def sold(ctx: Any, event: Any) -> None:
            kv = ctx.kv
            self.assertIsNone(await kv.entry("a"))
            self.assertEqual(await kv.get("a", 7), 7)
            first = await kv.put("a", {"n": 1}, revision=0)
            with self.assertRaises(ChannelError) as lost:
                await kv.put("a", {"n": 2}, revision=0)
            self.assertEqual((lost.exception.code, lost.exception.revision), ("conflict", first))
            await kv.put("a", None, revision=first, ttl=timedelta(seconds=1.2))
            self.assertIsNone(await kv.get("a", 7))
            for number in range(250):
                await kv.put(f"jobs/{number:03}", number, ttl=60)
            self.assertEqual([entry.value for entry in await kv.list("jobs/")], list(range(250)))
            self.assertEqual((await kv.keys())[:2], ["a", "jobs/000"])
            self.assertEqual((await kv.delete("a"), await kv.delete("a")), (True, False))
            with self.assertRaises(ChannelError):
                await kv.delete("jobs/001", revision=1)

        async with TestHost(plugin) as host:
            await host.deliver("shop.sold")
            ttls = [params["ttl"] for method, params in host.platform.asked if "ttl" in params]
            self.assertEqual((ttls[0], ttls[1]), (2, 60))

    async def test_what_cannot_be_a_frame_is_refused_at_once(self) -> None:
        plugin, codes = plugin_with(), []

        @plugin.on("shop.*")
        async def sold(ctx: Any, event: Any) -> None:
            with self.assertRaises(ValueError):
                await ctx.kv.put("a", float("nan"))
            with self.assertRaises(TypeError):
                await ctx.kv.put("a", object())
            try:
                await ctx.kv.put("a", "x" * 2**20)
            except ChannelError as error:
                codes.append(error.code)

        async with TestHost(plugin) as host:
            await host.deliver("shop.sold")
            self.assertEqual((codes, host.platform.asked), (["invalid_params"], []))


class Questions(unittest.IsolatedAsyncioTestCase):
    async def test_a_question_without_an_answer_ends_after_its_time_and_one_without_a_channel_too(self) -> None:
        plugin = plugin_with()

        @plugin.get("/ask")
        async def ask(ctx: Any, request: Any) -> Any:
            try:
                await ctx.platform.with_timeout(0.1).list_projects()
            except ChannelError as error:
                return [error.code, isinstance(error, ChannelLost), ctx.platform.is_connected]

        platform = TestPlatform()
        platform.answer("list_projects", lambda params: NO_ANSWER)
        async with TestHost(plugin, platform=platform) as host:
            self.assertEqual((await host.get("/ask")).json(), ["timeout", False, True])
            await host.cut_channel()
            self.assertEqual((await host.get("/ask")).json(), ["internal", True, False])

    async def test_an_answer_of_another_form_is_an_error_that_says_so(self) -> None:
        plugin = plugin_with()

        @plugin.get("/ask")
        def ask(ctx: Any, request: Any) -> Any:
            try:
                ctx.run(ctx.platform.get_project(1))
            except ChannelError as error:
                return str(error)

        platform = TestPlatform()
        platform.answer("get_project", lambda params: {"id": "one"})
        async with TestHost(plugin, platform=platform) as host:
            self.assertIn("the answer to get_project cannot be read: id", (await host.get("/ask")).text)

    async def test_blocking_handlers_ask_with_run_and_work_in_the_background_ends_with_the_plugin(self) -> None:
        plugin, ended = plugin_with(), []

        async def background(ctx: Any) -> None:
            await ctx.stopping()
            ended.append(ctx.is_stopping)

        @plugin.on_start
        def begin(ctx: Any) -> None:
            ctx.run(ctx.kv.put("begun", True))
            ctx.spawn(background(ctx))

        @plugin.get("/wrong")
        async def wrong(ctx: Any, request: Any) -> Any:
            try:
                ctx.run(ctx.kv.get("begun"))
            except RuntimeError as error:
                return str(error)

        async with TestHost(plugin) as host:
            self.assertEqual(host.platform.entries["begun"][0], True)
            self.assertIn("write await", (await host.get("/wrong")).text)
        self.assertEqual(ended, [True])


class Lives(unittest.IsolatedAsyncioTestCase):
    async def test_a_start_hook_that_fails_is_told_and_nothing_is_left(self) -> None:
        plugin = plugin_with()

        @plugin.on_start
        async def begin(ctx: Any) -> None:
            raise RuntimeError("nothing works today")

        host = TestHost(plugin)
        with self.assertLogs("temps_plugin"), self.assertRaisesRegex(StartFailed, "nothing works today"):
            await host.__aenter__()
        self.assertFalse(host.data_dir.exists())

    async def test_the_shutdown_hook_can_still_write_and_one_that_fails_keeps_nothing_from_ending(self) -> None:
        plugin = plugin_with()

        @plugin.on_shutdown
        async def fail(ctx: Any) -> None:
            raise RuntimeError("not like this")

        @plugin.on_shutdown
        async def keep(ctx: Any) -> None:
            await ctx.kv.put("ended", ctx.is_stopping)

        with self.assertLogs("temps_plugin", "ERROR"):
            async with TestHost(plugin) as host:
                pass
        self.assertEqual(host.platform.entries["ended"][0], True)

    async def test_a_stop_that_comes_as_the_start_succeeds_does_not_skip_the_shutdown_hook(self) -> None:
        plugin, told = plugin_with(), []

        @plugin.on_start
        async def begin(ctx: Any) -> None:
            told.append("begun")
            ctx._stopping.set()

        @plugin.on_shutdown
        async def finish(ctx: Any) -> None:
            told.append("finished")

        async with TestHost(plugin, channel=False):
            pass
        self.assertEqual(told, ["begun", "finished"])

    async def test_what_belongs_to_the_host_never_reaches_the_routes(self) -> None:
        plugin = plugin_with()

        @plugin.get("/{anything:path}")
        async def everything(ctx: Any, request: Any) -> str:
            return request.path

        async with TestHost(plugin) as host:
            self.assertEqual((await host.get("/_tempsy")).text, "/_tempsy")
            statuses = [(await host.get(path)).status for path in ("/_temps", "/_temps/more", "/_events", "/health")]
            self.assertEqual(statuses, [404, 404, 405, 200])

    async def test_an_openapi_document_that_is_too_long_is_left_out(self) -> None:
        plugin = plugin_with()
        plugin.openapi({"openapi": "3.1.0", "info": {"description": "x" * 2**20}})
        with self.assertLogs("temps_plugin", "WARNING"):
            async with TestHost(plugin) as host:
                self.assertIsNone(host.ready.openapi)

    async def test_the_context_says_what_the_host_has_told(self) -> None:
        plugin = plugin_with("of-the-host")

        @plugin.get("/told")
        def told(ctx: Any, request: Any) -> Any:
            return [ctx.name, ctx.api_version, ctx.host_has("kv"), ctx.host_has("more"), ctx.database_url, ctx.auth_secret]

        async with TestHost(plugin) as host:
            answer = ["of-the-host", "1.0.0", True, False, None, "test-secret"]
            self.assertEqual((await host.get("/told")).json(), answer)
            self.assertEqual((await host.request("GET", "/told", headers={"Authorization": None})).status, 401)

    async def test_a_program_is_hosted_in_the_same_way(self) -> None:
        import sys

        environ = {"PYTHONPATH": str(support.ROOT / "src")}
        host = TestHost([sys.executable, str(PLUGINS / "everything.py")], environ=environ)
        async with host:
            self.assertEqual((host.manifest.name, host.ready.has_ui), ("everything", True))
            self.assertEqual(list(host.ready.features), ["ack", "reconnect", "config", "kv"])
            await host.deliver("deployment.succeeded")
            self.assertEqual(len((await host.get("/seen")).json()), 1)
            self.assertEqual([piece async for piece in host.stream("/stream")][0], b"data: 0\n\n")
            with self.assertRaisesRegex(EventNotHandled, "till is stuck"):
                await host.deliver("shop.broken")
        self.assertIn("libraries print", host.log)
        with self.assertRaisesRegex(StartFailed, "ended with 3.*\n.*no luck"):
            async with TestHost([sys.executable, "-c", "import sys; print('no luck', file=sys.stderr); sys.exit(3)"]):
                pass

    async def test_a_lost_channel_fails_the_events_that_were_under_way(self) -> None:
        plugin = plugin_with()
        reached = asyncio.Event()
        loop = asyncio.get_running_loop()

        @plugin.on("shop.*")
        async def sold(ctx: Any, event: Any) -> None:
            loop.call_soon_threadsafe(reached.set)
            await ctx.stopping()

        async with TestHost(plugin) as host:
            delivery = asyncio.ensure_future(host.deliver("shop.sold"))
            await asyncio.wait_for(reached.wait(), support.PATIENCE)
            await host.cut_channel()
            with self.assertRaisesRegex(EventNotHandled, "channel was lost"):
                await delivery
            with self.assertRaises((ConnectionRefusedError, WebSocketClosed)):
                await host.websocket("/none")


if __name__ == "__main__":
    unittest.main()
