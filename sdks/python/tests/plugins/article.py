# Python plugin (using temps-plugin Python SDK)
from temps_plugin import PluginManifest, NavEntry, emit_manifest, emit_ready, run_server

manifest = PluginManifest(
    name="slack-notifier",
    version="1.0.0",
    display_name="Slack Notifier",
    description="Sends deployment notifications to Slack",
    events=["deployment.succeeded"],
)
emit_manifest(manifest)
run_server()
emit_ready(has_ui=False)
