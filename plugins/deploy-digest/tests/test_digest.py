"""What the digest says of a day, and the plugin with a host that plays the platform."""

from __future__ import annotations

import sys
import unittest
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "sdks/python/src")]

import deploy_digest  # noqa: E402
from deploy_digest import digest  # noqa: E402
from temps_plugin import ChannelError, Event  # noqa: E402
from temps_plugin.testing import EventNotHandled, TestHost, TestPlatform  # noqa: E402

SETTINGS = {"keep_days": 14, "utc_offset": "+00:00", "environments": []}


def ended(outcome: str, deployment_id: int, at: str = "2026-06-06T12:00:00Z", **data: Any) -> Event:
    moment = datetime.fromisoformat(at.replace("Z", "+00:00"))
    return Event(f"{deployment_id}-{outcome}", f"deployment.{outcome}", moment, 42, {"deployment_id": deployment_id, **data})


class Days(unittest.TestCase):
    def test_a_day_begins_where_the_operator_says(self) -> None:
        late = datetime(2026, 6, 6, 23, 30, tzinfo=timezone.utc)
        days = [digest.day_of(late, offset) for offset in ("+00:00", "+02:00", "-05:30")]
        self.assertEqual(days, ["2026-06-06", "2026-06-07", "2026-06-06"])

    def test_only_a_date_is_a_day(self) -> None:
        self.assertEqual(digest.read_day("2026-06-06"), "2026-06-06")
        for text in ("", "today", "2026-13-01", "2026-06-06/1", "20260606"):
            self.assertIsNone(digest.read_day(text), text)

    def test_a_day_without_deployments_says_so(self) -> None:
        self.assertEqual(digest.as_text(digest.summary("2026-06-06", [])), "2026-06-06: no deployments\n")


class Digest(unittest.IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        deploy_digest._names.clear()

    def host(self, **settings: Any) -> TestHost:
        platform = TestPlatform()
        platform.knows_project(42, "shop")
        return TestHost(deploy_digest.plugin, config={**SETTINGS, **settings}, platform=platform)

    async def test_a_day_is_summed_up_as_json_and_as_text(self) -> None:
        async with self.host() as host:
            await host.deliver(ended("succeeded", 1, url="https://shop.example.com"))
            await host.deliver(ended("failed", 2, environment_name="preview", error_message="no space"))
            await host.deliver(ended("cancelled", 3, "2026-06-07T01:00:00Z"))
            day = (await host.get("/digest?day=2026-06-06")).json()
            self.assertEqual((day["succeeded"], day["failed"], day["cancelled"]), (1, 1, 0))
            self.assertEqual(day["projects"][0]["url"], "https://shop.example.com")
            text = "2026-06-06: 1 succeeded, 1 failed\n  shop: 1 succeeded, 1 failed\n  ! shop/preview: no space\n"
            self.assertEqual((await host.get("/digest.txt?day=2026-06-06")).text, text)
            self.assertEqual((await host.get("/days")).json(), ["2026-06-07", "2026-06-06"])
            self.assertEqual((await host.get("/digest?day=yesterday")).status, 400)
            self.assertIn("no deployments", (await host.get("/digest.txt")).text)
            self.assertEqual([method for method, _ in host.platform.asked].count("get_project"), 1)

    async def test_an_event_that_comes_twice_counts_once_and_one_that_was_overtaken_not_at_all(self) -> None:
        async with self.host() as host:
            for event in (ended("failed", 1), ended("failed", 1), ended("succeeded", 1, "2026-06-06T11:00:00Z")):
                await host.deliver(event)
            day = (await host.get("/digest?day=2026-06-06")).json()
            self.assertEqual((day["succeeded"], day["failed"]), (0, 1))

    async def test_other_environments_are_left_out_and_entries_end_after_the_days_that_are_wanted(self) -> None:
        async with self.host(environments=["production"], keep_days=3) as host:
            await host.deliver(ended("succeeded", 1, environment_name="preview"))
            await host.deliver(ended("succeeded", 2, environment_name="production"))
            self.assertEqual(list(host.platform.entries), ["day/2026-06-06/2"])
            ttls = [params["ttl"] for method, params in host.platform.asked if method == "kv_put"]
            self.assertEqual(ttls, [3 * 24 * 3600])

    async def test_a_full_storage_lets_the_oldest_days_go(self) -> None:
        async with self.host() as host:
            put = host.platform._kv_put
            for number in range(150):
                put({"key": f"day/2026-05-01/{number:03}", "value": {}})

            def full(params: dict[str, Any]) -> Any:
                if len(host.platform.entries) >= 150:
                    raise ChannelError("quota_exceeded", "it is full")
                return put(params)

            host.platform.answer("kv_put", full)
            await host.deliver(ended("succeeded", 1))
            self.assertEqual(len(host.platform.entries), 51)
            self.assertIn("day/2026-06-06/1", host.platform.entries)

    async def test_a_project_that_may_not_be_seen_has_its_id_and_a_platform_that_is_away_is_asked_again(self) -> None:
        async with self.host() as host:

            def answer(code: str) -> Any:
                def refuse(params: dict[str, Any]) -> Any:
                    raise ChannelError(code, "no")

                return refuse

            host.platform.answer("get_project", answer("busy"))
            with self.assertRaisesRegex(EventNotHandled, "busy"):
                await host.deliver(ended("succeeded", 1))
            host.platform.answer("get_project", answer("permission_denied"))
            await host.deliver(ended("succeeded", 1))
            self.assertIn("project 42", (await host.get("/digest.txt?day=2026-06-06")).text)

    async def test_its_page_and_its_files_are_served(self) -> None:
        async with self.host() as host:
            self.assertTrue(host.ready.has_ui)
            for path, kind in (("/ui/", "text/html"), ("/ui/page.js", "text/javascript"), ("/ui/style.css", "text/css")):
                answer = await host.get(path)
                self.assertEqual((answer.status, answer.header("content-type").split(";")[0]), (200, kind))


if __name__ == "__main__":
    unittest.main()
