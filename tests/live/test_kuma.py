"""Push monitors of Uptime Kuma through a real daemon: health, a rule, a wrong token, a server that breaks and hangs."""
import contextlib
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
from rig import wait_for  # noqa: E402
from sink_peer import Kuma, Reply, hang, status  # noqa: E402

GOOD, OTHER, BAD = "s3cr3tpush01", "s3cr3tpush02", "s3cr3twrong99"
CONFIG = """
[Pool work]
Command=/bin/cat
Workers=1
[Queue jobs]
Type=spool
Path={dir}/spool
BacklogInterval=100ms
Requires=db
[Check db]
Command=/usr/bin/test ! -e {dir}/db-is-down
Interval=200ms
Failures=1
[Alert deep]
When=queue.backlog > 3
For=0
Severity=info
[Kuma up]
URL=%s/
PushTokenFile={dir}/push
Interval=1s
Timeout=2s
"""
RULE = "[Kuma deep]\nURL=%s\nPushTokenFile={dir}/push2\nFor=deep\nInterval=1s\n"


@contextlib.contextmanager
def kuma(r):
    peer = Kuma(GOOD, OTHER)
    r.write("push", GOOD + "\n", 0o600)
    r.write("push2", OTHER + "\n", 0o600)
    try:
        yield peer
    finally:
        r.drain()
        peer.stop()


def last(peer, token):
    beats = peer.beats(token)
    return beats[-1] if beats else {"status": None, "msg": ""}


def test_health_and_its_reason(r):
    r.expect_log("check db: down|kuma:up: ")
    with kuma(r) as peer:
        d = r.daemon(CONFIG % peer.base)
        wait_for("three beats", lambda: len(peer.beats(GOOD)) >= 3)
        b = last(peer, GOOD)
        assert b["status"] == "up" and b["msg"].startswith("ok: 1 queue") and float(b["ping"]) >= 0, b
        times = [x["time"] for x in peer.beats(GOOD)]
        assert all(0.5 < y - x < 2.9 for x, y in zip(times, times[1:])), times
        r.write("db-is-down", "")
        b = wait_for("down", lambda: last(peer, GOOD)["status"] == "down" and last(peer, GOOD))
        assert b["msg"].startswith("degraded: ") and "db" in b["msg"], b
        os.unlink(r.path("db-is-down"))
        wait_for("up again", lambda: last(peer, GOOD)["status"] == "up")
        s = d.status()["sinks"]["kuma:up"]
        assert s["up"] is True and s["sent"] >= 5 and s["failed"] == 0 and s["for"] == "health", s
        assert not any(x["msg"].startswith(("starting", "draining")) for x in peer.beats(GOOD))


def test_a_rule_and_its_silence(r):
    with kuma(r) as peer:
        d = r.daemon(CONFIG % peer.base + RULE % peer.base)
        wait_for("up", lambda: last(peer, OTHER)["status"] == "up")
        assert last(peer, OTHER)["msg"] == "deep does not fire"
        d.botctl("pause", "jobs")
        for i in range(5):
            d.botctl("enqueue", "jobs", "--body", "x")
        b = wait_for("down", lambda: last(peer, OTHER)["status"] == "down" and last(peer, OTHER))
        assert b["msg"] == "queue:jobs: queue.backlog > 3, is 5", b
        assert last(peer, GOOD)["status"] == "up"
        d.botctl("silence", "deep", "1h")
        wait_for("silence", lambda: last(peer, OTHER)["status"] == "up")
        d.botctl("silence", "--end", "deep")
        wait_for("down again", lambda: last(peer, OTHER)["status"] == "down")
        d.botctl("resume", "jobs")
        wait_for("the end", lambda: last(peer, OTHER)["status"] == "up")


def test_an_unknown_token_says_what_to_do(r):
    r.expect_log("kuma:up: Uptime Kuma does not know the token in .*push, or its monitor is paused")
    with kuma(r) as peer:
        r.write("push", BAD)
        d = r.daemon(CONFIG % peer.base)
        s = wait_for("the failure", lambda: d.status()["sinks"]["kuma:up"]["failing"] and
                     d.status()["sinks"]["kuma:up"])
        assert "copy the last part of the monitor's push URL" in s["last_error"]["text"], s
        assert s["last_error"]["code"] == "unknown_token" and s["up"] is not None, s
        # Mended: the file is read for each beat.
        r.write("push", GOOD)
        wait_for("a beat", lambda: peer.beats(GOOD))
        wait_for("no failure", lambda: not d.status()["sinks"]["kuma:up"]["failing"])
        everything = d.log() + json.dumps(d.status()) + d.botctl("show-config").stdout
        assert "s3cr3t" not in everything, everything


def test_what_breaks_is_tried_again_soon(r):
    r.expect_log("kuma:up: .*(http_502|response_timeout|no_kuma)")
    with kuma(r) as peer:
        def parrot(request, go):
            return Reply(502, "cannot pass on " + request.target)
        peer.rule("*", parrot, 2)
        peer.rule("*", hang, 1, after=2)
        peer.rule("*", status(200, "<html>hello"), 1, after=3)
        d = r.daemon(CONFIG % peer.base)
        wait_for("a beat", lambda: peer.beats(GOOD))
        s = wait_for("works", lambda: not d.status()["sinks"]["kuma:up"]["failing"] and d.status()["sinks"]["kuma:up"])
        assert s["failed"] == 4 and s["retries"] == 3, s
        assert "s3cr3t" not in d.log() + json.dumps(d.status()), d.log()


def test_a_reload_changes_monitors(r):
    with kuma(r) as peer:
        d = r.daemon(CONFIG % peer.base)
        wait_for("a beat", lambda: peer.beats(GOOD))
        d.write(CONFIG % peer.base + RULE % peer.base)
        d.botctl("reload")
        wait_for("the new one", lambda: peer.beats(OTHER))
        d.write((CONFIG % peer.base).replace("[Kuma up]", "[Kuma other]").replace("Interval=1s", "Interval=30s"))
        d.botctl("reload")
        assert sorted(d.status()["sinks"]) == ["kuma:other"], d.status()["sinks"]


def test_invariant_3_a_hanging_kuma_delays_no_queue(r):
    with kuma(r) as peer:
        peer.rule("*", hang)
        d = r.daemon((CONFIG % peer.base).replace("Timeout=2s", "Timeout=60s"))
        wait_for("Kuma to hang", lambda: peer.requests)
        for i in range(20):
            d.botctl("enqueue", "jobs", "--body", "while it hangs")
        d.wait_queue("jobs", done=20)
        assert len(peer.requests) == 1 and not d.status()["sinks"]["kuma:up"]["sent"]
        d.stop()


if __name__ == "__main__":
    rig.main(globals(), jobs=4)
