"""The daemon against a small Pub/Sub in memory, which Google's own client for
Node publishes to.

One server for all tests that break nothing; each has names of its own."""
import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
from rig import wait_for  # noqa: E402

POOL = """
[Pool work]
Command=%s
Workers=1-2
"""
MODULE = """
[Pool work]
Module={build}/tests/bench/noop_module.so
"""
QUEUE = """
[Queue jobs]
Type=pubsub
Project=p1
Pool=work
MaxAttempts=3
Backoff=1s-1s
"""


def server():
    return rig.shared("pubsub", lambda s: s.pubsub())


def handler(r, text=""):
    """Writes bodies down; "once" fails the first time, "never" each time, "dead"
    for good."""
    return POOL % r.write("handler.sh", """#!/bin/sh
body=$(cat)
%s
case $body in
once*) [ "$BOT_ATTEMPT" -ge 2 ] || exit 75 ;;
never*) exit 69 ;;
dead*) echo "no such customer" >&2; exit 100 ;;
esac
echo "$body" >> %s/out
exit 0
""" % (text, r.dir), 0o755)


def queue(p, name, **keys):
    keys.setdefault("Endpoint", p.endpoint)
    keys.setdefault("Subscription", name)
    keys.setdefault("DeadLetter", name + "-dead")
    text = QUEUE
    for k in list(keys):
        # A key that is set twice would be an error.
        text = "".join(line for line in text.splitlines(True) if not line.startswith(k + "="))
    return text + "".join("%s=%s\n" % kv for kv in keys.items() if kv[1] is not None)


def out(r):
    try:
        with open(os.path.join(r.dir, "out")) as f:
            return f.read().split("\n")[:-1]
    except OSError:
        return []


def wait_gone(p, *names):
    for n in names:
        p.wait_look(n, undelivered=0)


# ---- the straight way ----

def test_done_retried_and_dead(r):
    p = server()
    p.create("mixed", dead="mixed-dead")
    r.expect_log("dead letters")
    d = r.daemon(handler(r) + queue(p, "mixed"))
    p.publish_with_client(r, "mixed", [{"data": "fine %d" % i, "attributes": {"n": str(i)}} for i in range(30)] +
                          [{"data": x} for x in ("once", "never", "dead")])
    q = d.wait_queue("jobs", done=31, dead=2)
    assert q["errors"]["external_api"] == 3, q
    assert q["retried"] == 3, q
    assert sorted(out(r)) == sorted(["fine %d" % i for i in range(30)] + ["once"])
    wait_gone(p, "mixed")
    dead = {m["body"]: m["attributes"] for m in p.drain("mixed-dead", 2)}
    assert sorted(dead) == [b"dead", b"never"], dead
    a = dead[b"never"]
    assert a["bot-error-type"] == "external_api" and a["bot-attempts"] == "3" and a["bot-queue"] == "jobs", a
    assert a["bot-origin-id"] and a["bot-died"], a
    a = dead[b"dead"]
    assert a["bot-attempts"] == "1" and "no such customer" in a["bot-detail"], a
    assert d.stop() == 0
    assert p.look("mixed")["streams"] == []


if __name__ == "__main__":
    rig.main(globals())
