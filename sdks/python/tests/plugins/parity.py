#!/usr/bin/env python3
"""A plugin with everything that the conformance kit can look at, for `docs/sdk-parity.md`. Each SDK has the same one."""

from pathlib import Path

from temps_plugin import ChannelError, NavEntry, Plugin, PluginManifest

plugin = Plugin(
    PluginManifest(
        name="parity",
        version="1.0.0",
        events=["*"],
        nav=[NavEntry(label="Parity", icon="equal", section="platform", path="/", order=90)],
        config={
            "type": "object",
            "properties": {"word": {"type": "string", "default": "same"}, "token": {"type": "string", "writeOnly": True}},
        },
    )
)
answer = {"responses": {"200": {"description": "The event that came last"}}}
info = {"title": "Parity", "version": "1.0.0"}
plugin.openapi({"openapi": "3.1.0", "info": info, "paths": {"/last": {"get": answer}}})
plugin.ui(Path(__file__).parent / "page")


@plugin.on("*")
async def keep(ctx, event):
    if event.project_id is not None:
        await ask_everything(ctx, event.project_id)
    await ctx.kv.put("last", event.id)
    ctx.logger.info("kept %s among %d", await ctx.kv.get("last"), len(await ctx.kv.keys("")))
    await ctx.kv.delete("none")


async def ask_everything(ctx, project):
    """Each data method once. What is not there is no failure."""
    platform = ctx.platform
    for question in (
        lambda: platform.get_project(project),
        lambda: platform.list_projects(),
        lambda: platform.get_environment(1),
        lambda: platform.list_environments(project),
        lambda: platform.get_deployment(1),
        lambda: platform.get_last_deployment(project),
        lambda: platform.list_deployments(project, limit=5),
    ):
        try:
            await question()
        except ChannelError as error:
            ctx.logger.info("no answer: %s", error)


@plugin.get("/last")
async def last(ctx, request):
    return {"last": await ctx.kv.get("last")}


if __name__ == "__main__":
    plugin.run()
