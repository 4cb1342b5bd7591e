"""For tests of plugins: a small host, without the real one.

:class:`TestHost` drives a plugin: its routes, events, settings, questions and end, over a real socket. Give it the
:class:`~temps_plugin.Plugin` of your module, which then lives inside the test, or the path of a program, which is started as
a host would. It answers the plugin's questions from a script (:class:`TestPlatform`), and keeps a storage for it.

>>> class GreeterTest(unittest.IsolatedAsyncioTestCase):        # doctest: +SKIP
...     async def test_it_greets(self):
...         async with TestHost(greeter.plugin) as host:
...             host.platform.knows_project(42, "my-app")
...             await host.deliver("deployment.succeeded", project_id=42, data={"deployment_id": 1})
...             self.assertEqual((await host.get("/last")).json(), "my-app")
"""

from .client import TestResponse
from .host import PATIENCE, EventNotHandled, StartFailed, TestError, TestHost
from .platform import TestPlatform

__all__ = ["PATIENCE", "EventNotHandled", "StartFailed", "TestError", "TestHost", "TestPlatform", "TestResponse"]
