"""The protocol's own functions, with a hook that fails."""

from temps_plugin import PluginManifest, emit_manifest, emit_ready, run_server


def begin(ctx):
    raise RuntimeError("nothing works today")


emit_manifest(PluginManifest(name="failing", version="1.0.0"))
run_server(on_start=begin)
emit_ready()
