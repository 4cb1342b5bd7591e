"""A plugin that uses everything, for the tests."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from temps_plugin import ChannelError, HttpError, Plugin, PluginManifest, Response

plugin = Plugin(PluginManifest(name="everything", version="1.2.3", events=["*"]))
plugin.ui(Path(__file__).parent / "page")
plugin.openapi({"openapi": "3.1.0", "paths": {}})
print("libraries print, and the handshake does not suffer")
# So do libraries in C, and programs that are started: they know the file descriptor only.
os.write(1, b"past sys.stdout\n")
subprocess.run(["echo", "from a program"], check=True)
seen: list = []


@plugin.on("deployment.succeeded")
async def asynchronous(ctx, event):
    if event.data.get("ask"):
        project = await ctx.platform.get_project(event.project_id)
        seen.append(project.name)
    seen.append(event.id)


@plugin.on("deployment.failed")
def blocking(ctx, event):
    time.sleep(event.data.get("block", 0))
    seen.append(event.id)


@plugin.on("shop.broken")
async def broken(ctx, event):
    raise ValueError("the till is stuck")


@plugin.get("/seen")
async def show(ctx, request):
    return seen


@plugin.post("/echo/{name}")
def echo(ctx, request):
    return {"name": request.params["name"], "query": request.query, "user": request.user and request.user.name}


@plugin.post("/size")
async def size(ctx, request):
    return str(len(await request.read(1000)))


@plugin.get("/project/{id}")
async def project(ctx, request):
    try:
        found = await ctx.platform.get_project(int(request.params["id"]))
    except ChannelError as error:
        raise HttpError(404 if error.code == "not_found" else 502, error.message)
    return {"name": found.name}


@plugin.get("/stream")
async def stream(ctx, request):
    async def numbers():
        for number in range(3):
            yield str(number)

    return Response.events(numbers())


@plugin.get("/panic")
def panic(ctx, request):
    raise RuntimeError("no such thing")


@plugin.on_start
async def begin(ctx):
    if (ctx.data_dir / "fail").exists():
        raise RuntimeError("nothing works today")
    (ctx.data_dir / "begun").write_text(ctx.name)


@plugin.on_shutdown
async def finish(ctx):
    (ctx.data_dir / "finished").write_text(json.dumps(seen))


plugin.run()
