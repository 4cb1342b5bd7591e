#!/usr/bin/env python3
"""What the load rig measures the Python SDK with: it asks the platform, counts events, and answers pings."""

import asyncio
import time

from temps_plugin import Plugin, PluginManifest

plugin = Plugin(PluginManifest(name="bench-python", version="1.0.0", events=["deployment.*"]))

#: Events that were handled since the start, and who waits for how many.
handled = 0
waiting = []


@plugin.on("deployment.*")
async def count(ctx, event):
    global handled
    handled += 1
    for wanted, reached in waiting:
        if handled == wanted:
            reached.set_result(None)


@plugin.get("/ping")
async def ping(ctx, request):
    return "pong"


@plugin.get("/rtt")
async def round_trips(ctx, request):
    """Asks for a project `n` times, one after the other; answers with the nanoseconds of each."""
    nanos = []
    for _ in range(int(request.query["n"])):
        begin = time.perf_counter_ns()
        await ctx.platform.get_project(1)
        nanos.append(time.perf_counter_ns() - begin)
    return nanos


@plugin.get("/wait")
async def wait(ctx, request):
    """Answers once `count` events have been handled."""
    wanted = int(request.query["count"])
    if handled < wanted:
        reached = asyncio.get_running_loop().create_future()
        waiting.append((wanted, reached))
        await reached
    return str(handled)


if __name__ == "__main__":
    plugin.run()
