#!/usr/bin/env python3
"""A plugin to start from: a route, an event, a question to the platform, a setting, and something that is kept."""

from temps_plugin import DeploymentSucceeded, Plugin, PluginManifest

plugin = Plugin(
    PluginManifest(
        name="minimal-python",
        version="0.1.0",
        events=["deployment.succeeded"],
        config={"type": "object", "properties": {"greeting": {"type": "string", "default": "last deployed"}}},
    )
)


@plugin.on("deployment.succeeded")
async def remember(ctx, event):
    payload = event.payload()
    assert isinstance(payload, DeploymentSucceeded)
    if event.project_id is None:
        return  # Events of no project are allowed, and there is nothing to remember of them.
    project = await ctx.platform.get_project(event.project_id)
    await ctx.kv.put("last", {"name": project.name, "url": payload.url})
    ctx.logger.info("deployed", extra={"project": project.name})


@plugin.get("/last")
async def last(ctx, request):
    kept = await ctx.kv.get("last", {"name": "nothing"})
    return {"text": f"{ctx.config['greeting']}: {kept['name']}", "url": kept.get("url")}


@plugin.on_config
async def configured(ctx):
    ctx.logger.info("the greeting is now %s", ctx.config["greeting"])


if __name__ == "__main__":
    plugin.run()
