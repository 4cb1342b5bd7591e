"""The protocol's own functions with blocking handlers: the script has ended long before the first of them is called."""

import asyncio
import socket

from temps_plugin import PluginManifest, emit_manifest, emit_ready, run_server

seen = []


def take(ctx, event):
    seen.append(event.id)
    if event.event_type == "shop.broken":
        raise ValueError("the till is stuck")


async def prepare(ctx):
    # What libraries do inside of `async def`: work in a thread, and looking up a name.
    await asyncio.sleep(0.2)
    await asyncio.to_thread(seen.append, "prepared")
    await asyncio.get_running_loop().getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)


def finish(ctx):
    (ctx.data_dir / "finished").write_text(" ".join(seen))


emit_manifest(PluginManifest(name="script", version="1.0.0", events=["*"]))
run_server(on_event=take, on_start=prepare, on_shutdown=finish)
emit_ready()
