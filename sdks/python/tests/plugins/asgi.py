"""An ASGI application without any framework, mounted as it is."""

from temps_plugin import Plugin, PluginManifest

state = {"started": False}


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            state["started"] = message["type"] == "lifespan.startup"
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept", "subprotocol": (scope["subprotocols"] or [None])[0]})
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            await send({"type": "websocket.send", "text": message["text"].upper()})
    else:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 201, "headers": [(b"x-path", scope["path"].encode())]})
        await send({"type": "http.response.body", "body": str(state["started"]).encode() + b":", "more_body": True})
        await send({"type": "http.response.body", "body": body[::-1]})


plugin = Plugin(PluginManifest(name="asgi", version="1.0.0"))
plugin.mount(app)


@plugin.get("/own")
def own(ctx, request):
    return "mine"


plugin.run()
