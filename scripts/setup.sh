#!/usr/bin/env bash
# Makes sure that what a command needs is there: setup.sh [run|bench|test]; without a word, everything.
#
# As root on Debian it installs what is missing. As an ordinary user it lists what is missing, with the one command that
# brings it, and fails. When nothing is missing it takes well under two seconds and says nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

PURPOSE=${1:-all}
RUST_MINIMUM=1.95
NODE_MINIMUM=20.19
PYTHON_MINIMUM=3.9
GO_MINIMUM=1.24
# Folders with an npm lock file, whose packages the tests need; the load rig needs those of the SDK alone.
NPM_FOLDERS=(tests/browser sdks/node examples/deployment-board)
[ "$PURPOSE" != bench ] || NPM_FOLDERS=(sdks/node)

say() { printf 'setup: %s\n' "$*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }

# at_least HAVE WANT: whether version HAVE is WANT or later.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

packages=()   # Debian packages that are missing
tools=()      # toolchains that are missing, with what to do

# need COMMAND PACKAGE: the Debian package that brings a command.
need() { has "$1" || packages+=("$2"); }

# toolchain NAME COMMAND HAVE WANT HINT: a toolchain in a version that is recent enough.
toolchain() {
  if ! has "$2"; then
    tools+=("$1 $4 or later is missing: $5")
  elif ! at_least "$3" "$4"; then
    tools+=("$1 $3 is too old, $4 or later is needed: $5")
  fi
}

check_run() {
  need cc build-essential
  need unshare util-linux
  need curl curl
  toolchain Rust cargo "$(rustc --version 2>/dev/null | cut -d' ' -f2)" "$RUST_MINIMUM" \
    "install it from rustup.rs, then open a new shell"
}

check_test() {
  need ps procps
  need linux.uml user-mode-linux
  need chromium chromium
  # The server's programs lie outside of PATH on Debian. No cluster is made: tests make their own.
  compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || need postgres postgresql
  local extra
  for extra in clippy:cargo-clippy rustfmt:cargo-fmt; do
    has "${extra#*:}" || tools+=("${extra%%:*} is missing: run \`rustup component add ${extra%%:*}\`")
  done
  check_languages
  if has python3 && ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    packages+=(python3-venv)
  fi
}

# The languages that plugins are written in, beside Rust.
check_languages() {
  toolchain Python python3 "$(python3 -c 'import platform; print(platform.python_version())' 2>/dev/null || true)" \
    "$PYTHON_MINIMUM" "install it with your system's packages (Debian: python3)"
  toolchain Node node "$(node --version 2>/dev/null | tr -d v || true)" "$NODE_MINIMUM" "install it from nodejs.org"
  has npm || tools+=("npm is missing: it comes with Node from nodejs.org (Debian: npm)")
  if [ -d sdks/go ]; then
    toolchain Go go "$(go env GOVERSION 2>/dev/null | sed 's/^go//; s/[ -].*//')" "$GO_MINIMUM" "install it from go.dev"
  fi
}

# Debian's package would make a cluster and start it with the machine; only the programs are wanted. A setting that is
# there already is somebody's wish and stays.
no_database_service() {
  case " ${packages[*]} " in *" postgresql "*) ;; *) return 0 ;; esac
  [ -e /etc/postgresql-common/createcluster.conf ] && return 0
  mkdir -p /etc/postgresql-common
  echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
}

install_packages() {
  [ ${#packages[@]} -gt 0 ] || return 0
  if [ "$(id -u)" = 0 ] && has apt-get; then
    say "installing ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    no_database_service
    apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null 2>&1 && return 0
    # An old or empty package list is the usual reason; then once more, and loud.
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
  elif has apt-get; then
    tools+=("Debian packages are missing, this brings them: sudo apt-get install -y --no-install-recommends ${packages[*]}")
  else
    tools+=("these are missing, under their Debian names: ${packages[*]}; install them with your system's packages")
  fi
}

# An npm folder is up to date when its lock file is the one that was installed last.
install_npm() {
  local folder stamp
  for folder in "${NPM_FOLDERS[@]}"; do
    [ -f "$folder/package-lock.json" ] || continue
    stamp="$folder/node_modules/.installed-lock"
    cmp -s "$folder/package-lock.json" "$stamp" && continue
    say "installing the npm packages of $folder"
    # The system's Chromium is used, so no package needs to fetch a browser of its own.
    (cd "$folder" && PUPPETEER_SKIP_DOWNLOAD=1 PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --no-audit --no-fund --loglevel=error)
    cp "$folder/package-lock.json" "$stamp"
  done
}

# The tools of the Python tests, in an environment of their own. Without them those tests that need them are skipped, loudly.
install_python() {
  local wanted=sdks/python/requirements-test.txt home=.dev/python
  [ -f "$wanted" ] || return 0
  cmp -s "$wanted" "$home/.installed" && return 0
  say "installing the tools of the Python tests"
  rm -rf "$home"
  if python3 -m venv "$home" && "$home/bin/python" -m pip install -q --disable-pip-version-check -r "$wanted"; then
    cp "$wanted" "$home/.installed"
  else
    say "the tools of the Python tests could not be installed; type checks and tests with FastAPI will be skipped"
    rm -rf "$home"
  fi
}

case $PURPOSE in
  run) check_run ;;
  bench) check_run; check_languages ;;
  test | all) check_run; check_test ;;
  *) say "unknown purpose '$PURPOSE'; use run, bench, test or nothing"; exit 2 ;;
esac

install_packages
if [ ${#tools[@]} -gt 0 ]; then
  say "this machine lacks:"
  printf '  - %s\n' "${tools[@]}" >&2
  exit 1
fi
[ "$PURPOSE" = run ] || install_npm
[ "$PURPOSE" = run ] || [ "$PURPOSE" = bench ] || install_python
