#!/usr/bin/env bash
# Runs the checks of `make test`, in order, and says where the time went: test.sh [STAGE...]; without stages, all.
#
# All stages share one profile and one set of features, so that nothing is compiled twice: clippy and rustdoc share the
# dependencies' metadata, the build and the tests share everything.
set -euo pipefail
cd "$(dirname "$0")/.."

STAGES=(fmt clippy build rust rootless python node go parity browser doc)
LOGS=target/test-logs
mkdir -p "$LOGS"
rm -f "$LOGS"/*
# A test that cannot run on this machine writes a line `name: reason` here, so that no skip is silent.
export TEMPS_TEST_SKIPS=$PWD/$LOGS/skips
: >"$TEMPS_TEST_SKIPS"

# What every cargo call has in common; a difference here would compile dependencies twice.
WORKSPACE=(--workspace --all-features --locked)

stage_fmt() { cargo fmt --all --check; }
stage_clippy() { cargo clippy "${WORKSPACE[@]}" --all-targets -- -D warnings; }
# The tests start the binaries of other crates, so all of them are built before any test runs.
stage_build() { cargo build "${WORKSPACE[@]}" --all-targets; }
stage_rust() {
  local patient code=0 skipped=() name
  export TEMPS_TEST_BUILT=1
  # They take minutes and mostly wait for real time, so they run beside all others.
  local waiting=(a_plugin_killed_a_hundred_times_is_back_each_time_and_nobody_else_notices
    a_host_killed_at_random_moments_leaves_no_plugin_loses_no_event_and_starts_cleanly
    each_fault_of_a_host_is_found_under_its_clause)
  for name in "${waiting[@]}"; do skipped+=(--skip "$name"); done
  cargo test "${WORKSPACE[@]}" --no-run
  cargo test "${WORKSPACE[@]}" --no-fail-fast --test endurance --test hosts -- "${waiting[@]}" \
    >"$LOGS/waiting" 2>&1 &
  patient=$!
  cargo test "${WORKSPACE[@]}" --no-fail-fast -- "${skipped[@]}" || code=1
  echo "--- what ran beside them"
  wait "$patient" || code=1
  cat "$LOGS/waiting"
  return $code
}

# Where root runs the tests, the suites of a plugin's life once more as an ordinary user, with the programs that the rust stage
# built: a host that is not root has other walls, and both have to stay green.
stage_rootless() {
  local user=60001 home binaries binary root=$PWD running=() code=0
  [ "$(id -u)" = 0 ] || { echo "the tests ran as an ordinary user already"; return 0; }
  binaries=$(cargo test "${WORKSPACE[@]}" --no-run --test lifecycle --test unruly 2>&1 |
    sed -n 's,^ *Executable tests/\(lifecycle\|unruly\)/main.rs (\(.*\))$,\2,p')
  [ "$(wc -w <<<"$binaries")" = 2 ] || { echo "the suites were not found: $binaries"; return 1; }
  local as=(setpriv --reuid=$user --regid=$user --clear-groups)
  for binary in $binaries; do
    "${as[@]}" test -x "$root/$binary" && continue
    echo "suites as an ordinary user: $root cannot be read by other users" >>"$TEMPS_TEST_SKIPS"
    return 0
  done
  home=$(mktemp -d /tmp/temps-rootless-XXXXXX)
  chown "$user:$user" "$home"
  chmod 666 "$TEMPS_TEST_SKIPS"
  for binary in $binaries; do
    (cd crates/host && exec "${as[@]}" env HOME="$home" TMPDIR="$home" TEMPS_TEST_BUILT=1 "$root/$binary") \
      >"$home.$(basename "$binary")" 2>&1 &
    running+=($!)
  done
  # They mostly wait for real time, so they run side by side.
  for binary in "${running[@]}"; do wait "$binary" || code=1; done
  cat "$home".*
  rm -rf "$home" "$home".*
  return $code
}

# With private items, because the docs are for whoever works here: their links are checked as well, and links to them
# are right.
stage_doc() {
  RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" \
    cargo doc "${WORKSPACE[@]}" --no-deps --document-private-items
}

stage_python() {
  local tests folder python=python3 sdk=$PWD/sdks/python/src
  # With the tools that scripts/setup.sh has put there; without them, tests that need them say so.
  [ ! -x .dev/python/bin/python ] || python=$PWD/.dev/python/bin/python
  tests=$(git ls-files --cached --others --exclude-standard 'test_*.py' '*/test_*.py')
  [ -n "$tests" ] || { echo "no Python tests"; return 0; }
  for folder in $(dirname $tests | sort -u); do
    echo "--- $folder"
    (cd "$folder" && PYTHONPATH=$sdk "$python" -W error -m unittest discover -v)
  done
}

# Starts the programs that the build stage made.
stage_node() {
  [ -f sdks/node/package.json ] || { echo "no Node tests"; return 0; }
  (cd sdks/node && npm test --silent)
}

# Each Go module by itself, with the race detector where a C compiler is. Starts the programs that the build stage made,
# so a result from before must not stand for one of now.
stage_go() {
  local modules module unformatted race=()
  modules=$(git ls-files --cached --others --exclude-standard 'go.mod' '*/go.mod')
  [ -n "$modules" ] || { echo "no Go tests"; return 0; }
  [ "$(go env CGO_ENABLED)" = 0 ] || ! command -v "$(go env CC)" >/dev/null || race=(-race)
  for module in $(dirname $modules | sort -u); do
    echo "--- $module"
    unformatted=$(gofmt -l "$module")
    [ -z "$unformatted" ] || { printf 'not formatted, run gofmt -w:\n%s\n' "$unformatted"; return 1; }
    (cd "$module" && go vet ./... && go test -count=1 -v "${race[@]}" ./...) || return
  done
}

# Puts one plugin of each SDK through the conformance kit, and compares with docs/sdk-parity.md.
stage_parity() { python3 scripts/parity.py --check; }

stage_browser() {
  [ -f tests/browser/package.json ] || { echo "no browser tests"; return 0; }
  # Its own first step would build one program more, which stands in the target directory already.
  (cd tests/browser && npm run --silent build && npm test --silent --ignore-scripts)
}

# tally: adds up what the runners' own closing lines say, as `passed failed skipped`. What cargo calls ignored are parts
# of other tests, which start them as processes of their own; tests/house sees to it that nothing else is. Go has no
# closing line, so its tests are counted one by one; parts of a test are indented, and not counted.
tally() {
  cat "$LOGS"/*.log 2>/dev/null | sed 's/\x1b\[[0-9;]*m//g' | awk '
    /^test result: /            { passed += $4; failed += $6 }
    /^Ran [0-9]+ tests? in /    { ran = $2 }
    /^(OK|FAILED)( \(|$)/       { bad = count("errors") + count("failures"); s = count("skipped"); passed += ran - bad - s; failed += bad; skipped += s }
    /^--- PASS: /               { passed += 1 }
    /^--- FAIL: /               { failed += 1 }
    /^--- SKIP: /               { skipped += 1 }
    /^(# |ℹ )pass [0-9]+$/      { passed += $3 }
    /^(# |ℹ )fail [0-9]+$/      { failed += $3 }
    /^(# |ℹ )skipped [0-9]+$/   { skipped += $3 }
    # Not what only ends like the word: failures that are expected are none.
    function count(word,  part) {
      if (!match($0, "(\\(|, )" word "=[0-9]+")) return 0
      part = substr($0, RSTART, RLENGTH); sub(/.*=/, "", part)
      return part + 0
    }
    END { print passed + 0, failed + 0, skipped + 0 }'
}

summary() {
  local status=$? passed failed skipped own
  [ ${#names[@]} -gt 0 ] || return 0
  printf '\nWhere the time went\n'
  local i
  for i in "${!names[@]}"; do printf '  %-8s %5d s\n' "${names[$i]}" "${seconds[$i]}"; done
  own=$(wc -l <"$TEMPS_TEST_SKIPS")
  if [ "$own" -gt 0 ]; then
    printf '\nSKIPPED, because this machine cannot do it (%d)\n' "$own"
    sort "$TEMPS_TEST_SKIPS" | sed 's/^/  /'
  fi
  read -r passed failed skipped <<<"$(tally)"
  # Tests that skip themselves count as passed for their runner.
  passed=$((passed - own)); skipped=$((skipped + own))
  printf '\n'
  [ "$status" = 0 ] || printf 'FAILED in stage %s\n' "${names[-1]}"
  if [ "$((passed + failed + skipped))" -gt 0 ]; then
    printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
  fi
}

names=(); seconds=()
trap summary EXIT
[ $# -gt 0 ] || set -- "${STAGES[@]}"
for stage in "$@"; do
  declare -F "stage_$stage" >/dev/null || { echo "unknown stage '$stage'; there are: ${STAGES[*]}" >&2; exit 2; }
done
for stage in "$@"; do
  printf '\n=== %s\n' "$stage"
  names+=("$stage"); seconds+=(0)
  began=$SECONDS
  # In a subshell of its own, so that a stage ends at its first failing command.
  set +e
  (set -e; "stage_$stage") 2>&1 | tee "$LOGS/$stage.log"
  code=${PIPESTATUS[0]}
  set -e
  seconds[-1]=$((SECONDS - began))
  [ "$code" = 0 ] || exit "$code"
done
