"""Pushes and scripts/kuma-setup with a real Uptime Kuma, which tests/lib/kuma.py installs."""
import contextlib
import json
import os
import sqlite3
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import kuma  # noqa: E402
import rig  # noqa: E402
from rig import wait_for  # noqa: E402

SCRIPT = os.path.join(rig.SOURCE, "scripts", "kuma-setup")
NAMES = ["health", "backlog", "backlog-critical", "rate", "error-rate", "push"]
WORLD = """
[Operator]
Status=127.0.0.1:0
StatusTokenFile={dir}/status-token
Control={dir}/test.sock
[Pool work]
Command=/bin/cat
Workers=1
[Queue jobs]
Type=spool
Path={dir}/spool
BacklogInterval=100ms
"""


def setup(r, url, status, *args):
    r.write("password", "Pass-s3cr3t-1\n", 0o600)
    r.write("hook", "https://slack.invalid/services/s3cr3thook\n", 0o600)
    p = subprocess.run([sys.executable, SCRIPT, "--url", url, "--user", "admin", "--password-file", r.path("password"),
                        "--status", status, "--instance", "client-sample", "--slack-webhook-file", r.path("hook"),
                        "--token-file", r.path("token"), *args],
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       universal_newlines=True, timeout=120)
    assert p.returncode == 0 and "s3cr3t" not in p.stdout + p.stderr, p
    return p.stdout


def opinions(r):
    """Of each monitor the last one: 1 is up, 0 down, 2 about to be down."""
    with contextlib.closing(sqlite3.connect(r.path("kuma", "kuma.db"), timeout=10)) as db:
        return {name.split()[1]: status for name, status in db.execute(
            "select name, (select status from heartbeat where monitor_id = monitor.id order by id desc limit 1) "
            "from monitor")}


def said(r, monitor):
    """The messages of its heartbeats, oldest first."""
    with contextlib.closing(sqlite3.connect(r.path("kuma", "kuma.db"), timeout=10)) as db:
        return [m for m, in db.execute("select msg from heartbeat, monitor where monitor_id = monitor.id and name = ? "
                                       "order by heartbeat.id", ("client-sample " + monitor,))]


def test_a_real_uptime_kuma_takes_it_all(r):
    r.expect_log("check db|alert operator-bad|event=auth_failed|kuma:up: Uptime Kuma does not know the token")
    url = kuma.start(r)
    r.write("status-token", "st-s3cr3t\n", 0o600)
    d = r.daemon(WORLD, wait="address")
    token = ["--status-token-file", r.path("status-token")]
    out = setup(r, url, d.base)
    assert out.count("made: ") == 7 and "made the user admin" in out, out
    out = setup(r, url, d.base, *token)
    assert out.count("\nchanged: monitor") == 5, out
    out = setup(r, url, d.base, *token)
    assert out.count("unchanged: ") == len(out.splitlines()) == 7, out
    push = "[Kuma up]\nURL=%s\nPushTokenFile={dir}/token\nInterval=1s\n" % url
    d.write(WORLD + push)
    d.botctl("reload")
    wait_for("all to be up", lambda: opinions(r) == {n: 1 for n in NAMES}, 60)
    assert any(m.startswith("ok: 1 queue") for m in said(r, "push")), said(r, "push")
    # Something is wrong: it is pushed at once, with the reason.
    d.write(WORLD + push + "[Check db]\nTCP=127.0.0.1:%d\nCritical=yes\n" % rig.free_port())
    d.botctl("reload")
    wait_for("the push monitor to be down", lambda: opinions(r)["push"] == 0, 60)
    assert "check db: " in said(r, "push")[-1], said(r, "push")
    d.write(WORLD + push)
    d.botctl("reload")
    wait_for("the push monitor to be up again", lambda: opinions(r)["push"] == 1, 60)
    # Without its token the status address says nothing, and a monitor notices.
    with open(r.path("token")) as f:
        pushed = f.read()
    r.write("token", "no-such-token\n", 0o600)
    wait_for("the unknown token", lambda: sink(d)["failing"], 60)
    assert sink(d)["last_error"]["code"] == "unknown_token", sink(d)
    r.write("token", pushed, 0o600)
    wait_for("the right token", lambda: not sink(d)["failing"], 60)


def sink(d):
    return json.loads(d.botctl("status", "--json").stdout)["sinks"]["kuma:up"]


if __name__ == "__main__":
    rig.main(globals())
