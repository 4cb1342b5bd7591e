"""The plugin with a host that plays the platform. Run with `python3 -m unittest`, the SDK on PYTHONPATH or installed."""

import unittest

from minimal import plugin
from temps_plugin.testing import EventNotHandled, TestHost


class Minimal(unittest.IsolatedAsyncioTestCase):
    async def test_it_remembers_the_project_that_was_deployed_last(self):
        async with TestHost(plugin, config={"greeting": "last"}) as host:
            host.platform.knows_project(42, "my-app")
            data = {"deployment_id": 1, "url": "https://my-app.example.com"}
            await host.deliver("deployment.succeeded", project_id=42, data=data)
            answer = {"text": "last: my-app", "url": "https://my-app.example.com"}
            self.assertEqual((await host.get("/last")).json(), answer)

    async def test_an_event_of_an_unknown_project_comes_again(self):
        async with TestHost(plugin, config={"greeting": "last"}) as host:
            with self.assertRaisesRegex(EventNotHandled, "not_found"):
                await host.deliver("deployment.succeeded", project_id=7, data={"deployment_id": 1})
            self.assertEqual((await host.get("/last")).json()["text"], "last: nothing")

    async def test_an_event_of_no_project_is_passed_over(self):
        async with TestHost(plugin, config={"greeting": "last"}) as host:
            await host.deliver("deployment.succeeded", data={"deployment_id": 1, "url": None})
            self.assertEqual(host.platform.asked, [])


if __name__ == "__main__":
    unittest.main()
