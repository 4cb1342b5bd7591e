#!/usr/bin/env bash
# What `make run` does: builds, starts the daemon with two plugins, a Slack stand-in and the demonstration, and says what
# to look at. Ctrl-C ends everything that was started here, and nothing else.
#
# TEMPS_HOME moves settings, state and plugins elsewhere, TEMPS_LISTEN the address.
set -euo pipefail
cd "$(dirname "$0")/.."

PLUGINS=(hello slack-notifier)
# How long plugins may take to be up, in seconds.
PATIENCE=60

export TEMPS_HOME=${TEMPS_HOME:-$PWD/.dev/home}
# A socket's path has at most 107 bytes, so a deep checkout needs another place.
if [ ${#TEMPS_HOME} -gt 70 ]; then
  TEMPS_HOME=/tmp/temps-dev-$(id -u)
  echo "The checkout's path is too long for sockets; settings and state are in $TEMPS_HOME instead."
fi
logs=$TEMPS_HOME/logs
mkdir -p "$TEMPS_HOME/plugins" "$logs"
chmod 700 "$TEMPS_HOME"

started=()
end() {
  trap - EXIT INT TERM
  local pid
  # The daemon first, so that it can finish its plugins' work while everything else is still there.
  for pid in "${started[@]}"; do
    # One that is gone already is not waited for: after an interrupted `wait`, bash may wait for it for ever.
    kill -TERM "$pid" 2>/dev/null || continue
    wait "$pid" 2>/dev/null || true
  done
  echo "Everything was stopped."
}
trap end EXIT
trap 'exit 0' INT TERM

# start NAME COMMAND...: in the background and in a session of its own, so that Ctrl-C does not reach it before `end` does.
start() {
  local name=$1
  shift
  : >"$logs/$name.out"
  setsid "$@" >>"$logs/$name.out" 2>"$logs/$name.log" &
  started=($! "${started[@]}")
}

# first_line NAME: the first line that a program printed, once it is there.
first_line() {
  local waited=0
  until [ "$(wc -l <"$logs/$1.out")" -gt 0 ]; do
    if ! kill -0 "${started[0]}" 2>/dev/null || [ $((waited += 1)) -gt $((PATIENCE * 10)) ]; then
      echo "$1 did not start; its log says:" >&2
      tail -n 20 "$logs/$1.log" >&2
      return 1
    fi
    sleep 0.1
  done
  head -n 1 "$logs/$1.out"
}

echo "Building (the first time takes some minutes)..."
cargo build --locked --quiet -p temps-cli -p temps-testkit -p hello -p slack-notifier \
  --bin temps --bin slack-standin --bin hello --bin slack-notifier
target=${CARGO_TARGET_DIR:-target}/debug

for plugin in "${PLUGINS[@]}"; do
  cmp -s "$target/$plugin" "$TEMPS_HOME/plugins/$plugin" && continue
  # A hidden name first: the daemon takes a plugin up only when it is whole.
  install -m 755 "$target/$plugin" "$TEMPS_HOME/plugins/.$plugin"
  mv -f "$TEMPS_HOME/plugins/.$plugin" "$TEMPS_HOME/plugins/$plugin"
done

start slack-standin "$target/slack-standin" --port 0
webhook=$(first_line slack-standin)
# Plugins reach nothing of this machine; the stand-in is an exception for this one.
standin=${webhook#http://}
start daemon "$target/temps" serve --demo --json --allow-loopback "slack-notifier=${standin%%/*}"
announced=$(first_line daemon)
# value KEY: a text in the daemon's one line of JSON.
value() { sed -n 's/.*"'"$1"'":"\([^"]*\)".*/\1/p' <<<"$announced"; }
TEMPS_URL=$(value url)
export TEMPS_URL

running() { [ "$("$target/temps" plugin info "$1" --json 2>/dev/null | sed -n 's/^  "state": "\(.*\)",$/\1/p')" = running ]; }
for plugin in "${PLUGINS[@]}"; do
  waited=0
  until running "$plugin"; do
    if [ $((waited += 1)) -gt $((PATIENCE * 5)) ]; then
      echo "$plugin is not running:" >&2
      "$target/temps" plugin info "$plugin" >&2 || true
      exit 1
    fi
    sleep 0.2
  done
done

# Through the plugin's own settings route, as an operator would. The token goes over a pipe, not over a command line.
curl --silent --show-error --fail --output /dev/null --request PATCH --config - "${TEMPS_URL%/}/api/x/slack-notifier/settings" <<CURL
header = "Authorization: Bearer $(cat "$TEMPS_HOME/state/admin-token")"
header = "Content-Type: application/json"
data = "{\"webhook_url\": \"$webhook\", \"allow_custom_host\": true}"
CURL

cat <<TEXT

$("$target/temps" plugin list)

temps runs. Look at
  ${TEMPS_URL%/}/api/x/hello/ui/   events as they happen; sign in first, with this link (works once):
  $(value login_url)
  ${webhook%/services*}/   what the Slack stand-in has received
  $logs/   what the daemon and the stand-in log

In another terminal:
  export TEMPS_HOME=$TEMPS_HOME TEMPS_URL=$TEMPS_URL PATH="$(cd "$target" && pwd):\$PATH"
  temps deployment report --project shop --state succeeded --site https://shop.example.com
  temps plugin list
  temps event tail

Events as they come (Ctrl-C ends everything):
TEXT
# In the background, because a shell obeys signals only while it waits.
"$target/temps" event tail &
started=($! "${started[@]}")
wait $! || true
