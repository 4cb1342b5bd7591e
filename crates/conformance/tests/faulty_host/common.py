"""What all of the host uses: which fault is planted, and small helpers."""
import itertools, os, secrets, sys, threading
from datetime import datetime, timezone

HOME, FAULT = os.path.abspath(sys.argv[1]), (sys.argv[2:] or ["none"])[0]
TOKEN = "kit-token"
FEATURES = ["ack", "reconnect", "config", "kv"]
KEPT = "api admin auth console events health host login logout metrics platform plugin plugins system temps ui".split()
METHODS = "get_project list_projects get_environment list_environments get_deployment get_last_deployment list_deployments".split()
counter, plugins = itertools.count(1), {}
same_secret = secrets.token_hex(16)

# Held while a program is written and while one is started: a child that has not come to its program yet holds open what others
# write, and nobody can start that then.
programs = threading.Lock()


def faulty(*names):
    return FAULT in names


def later(seconds, work, *args):
    timer = threading.Timer(seconds, work, args)
    timer.daemon = True
    timer.start()


def spawn(work, *args):
    threading.Thread(target=work, args=args, daemon=True).start()


class Failed(Exception):
    """A start, or a call, that did not succeed."""


def now():
    return datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
