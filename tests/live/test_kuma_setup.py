"""scripts/kuma-setup: against a scripted page of Uptime Kuma, and a real one where it is installed.

The real one is too much to install for each run (npm: 240 MB and a compiled database).  UPTIME_KUMA names a folder
where "npm install uptime-kuma" has been.
"""
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
from rig import wait_for  # noqa: E402
from sink_peer import KumaPage  # noqa: E402

SCRIPT = os.path.join(rig.SOURCE, "scripts", "kuma-setup")
NAMES = ["health", "backlog", "backlog-critical", "rate", "error-rate", "push"]
WORLD = """
[Pool work]
Command=/bin/cat
Workers=1
[Queue jobs]
Type=spool
Path={dir}/spool
BacklogInterval=100ms
"""


def run(r, url, *args, status="http://127.0.0.1:8080", password="Pass-s3cr3t-1", check=True):
    pw = r.write("password", password + "\n", 0o600)
    hook = r.write("hook", "https://slack.invalid/services/s3cr3thook\n", 0o600)
    p = subprocess.run([sys.executable, SCRIPT, "--url", url, "--user", "admin", "--password-file", pw,
                        "--status", status, "--instance", "client-sample", "--slack-webhook-file", hook, "--token-file", r.path("token"),
                        *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       universal_newlines=True, timeout=90)
    assert "s3cr3t" not in p.stdout + p.stderr, p
    assert not check or p.returncode == 0, p
    return p


def token(r):
    assert os.stat(r.path("token")).st_mode & 0o777 == 0o600
    with open(r.path("token")) as f:
        return f.read().strip()


def test_made_once_changed_when_it_differs(r):
    peer = KumaPage(missing=("jsonPathOperator", "rabbitmqNodes"))
    try:
        out = run(r, peer.base).stdout
        assert [x for x in out.splitlines() if x.startswith("made: monitor")] == \
            ["made: monitor client-sample " + n for n in NAMES], out
        assert "made the user admin" in out and "made: notification client-sample Slack" in out, out
        by_name = {m["name"].split()[1]: m for m in peer.monitors.values()}
        assert all(m["notificationIDList"] == {"1": True} for m in by_name.values()), by_name
        assert "> 1000" in by_name["backlog"]["jsonPath"] and by_name["backlog"]["maxretries"] == 10, by_name
        assert "> 10000" in by_name["backlog-critical"]["jsonPath"] and by_name["backlog-critical"]["maxretries"] == 5
        assert by_name["health"]["interval"] == 30 and by_name["health"]["maxretries"] == 4, by_name["health"]
        assert by_name["push"]["type"] == "push" and by_name["push"]["pushToken"] == token(r), by_name["push"]
        assert json.loads(peer.notifications[0]["config"])["slackwebhookURL"].endswith("s3cr3thook")
        # Again: nothing.
        before = json.dumps([peer.monitors, peer.notifications])
        out = run(r, peer.base).stdout
        assert out.count("unchanged: ") == len(out.splitlines()) == 7, out
        assert json.dumps([peer.monitors, peer.notifications]) == before
        # Only said, and then done.
        for args, done in ((["--dry-run"], False), ([], True)):
            out = run(r, peer.base, *args, status="http://127.0.0.1:9999/").stdout
            assert out.count("changed: monitor client-sample") == 6 and "backlog (url)" in out, out
            assert ("127.0.0.1:9999/.well-known" in json.dumps(peer.monitors)) == done
        # What people have added stays.
        peer.monitors["1"]["notificationIDList"]["7"] = True
        run(r, peer.base)
        assert peer.monitors["1"]["notificationIDList"] == {"1": True, "7": True}, peer.monitors["1"]
        bad = run(r, peer.base, password="wrong-s3cr3t", check=False)
        assert bad.returncode == 1 and "the user admin cannot log in" in bad.stderr, bad
        peer.monitors["6"]["type"] = "http"
        bad = run(r, peer.base, check=False)
        assert bad.returncode == 1 and "rename or delete it" in bad.stderr, bad
    finally:
        peer.stop()


def test_what_is_no_uptime_kuma(r):
    d = r.daemon(WORLD)
    bad = run(r, d.base, check=False)
    assert bad.returncode == 1 and "Uptime Kuma answers 404" in bad.stderr, bad
    bad = run(r, "http://127.0.0.1:%d" % rig.free_port(), check=False)
    assert bad.returncode == 1 and "cannot be reached" in bad.stderr, bad


def real_kuma(r):
    """Its address; as "npm start" would, on loopback."""
    home = os.environ.get("UPTIME_KUMA")
    if not home:
        raise rig.Skip("UPTIME_KUMA names no folder with an installed Uptime Kuma")
    there = os.path.join(home, "node_modules", "uptime-kuma")
    # 2.0.0-dev.0 lacks these where it looks for them.
    for name in os.listdir(os.path.join(there, "db")):
        old = os.path.join(there, "db", "old_migrations")
        if name.startswith("patch-") and os.path.isdir(old) and not os.path.exists(os.path.join(old, name)):
            shutil.copy(os.path.join(there, "db", name), old)
    port = rig.free_port()
    data = os.path.dirname(r.path("kuma", "x"))
    server = os.path.join(there, "server", "server.js")
    p = rig.Process(r, "kuma", ["sh", "-c", 'cd "$0" && exec node "$1" --host=127.0.0.1 --port="$2"', there, server,
                                str(port)], env=dict(os.environ, DATA_DIR=data + "/", UPTIME_KUMA_DB_TYPE="sqlite",
                                                     NODE_ENV="production"))

    def answers():
        assert p.alive(), p.log()
        try:
            return urllib.request.urlopen("http://127.0.0.1:%d/api/entry-page" % port, timeout=2).status == 200
        except (OSError, urllib.error.URLError):
            return False
    wait_for("Uptime Kuma", answers, 60)
    return "http://127.0.0.1:%d" % port


def test_a_real_uptime_kuma_takes_it_all(r):
    url = real_kuma(r)
    d = r.daemon(WORLD)
    out = run(r, url, status=d.base).stdout
    assert out.count("made: ") == 7, out
    out = run(r, url, status=d.base).stdout
    assert out.count("unchanged: ") == 7, out
    d.write(WORLD + "[Kuma up]\nURL=%s\nPushTokenFile={dir}/token\nInterval=1s\n" % url)
    d.botctl("reload")

    def opinions():
        """Of each monitor the last one: 1 is up."""
        with contextlib.closing(sqlite3.connect(r.path("kuma", "kuma.db"), timeout=10)) as db:
            return dict(db.execute("select name, (select status from heartbeat where monitor_id = monitor.id "
                                   "order by id desc limit 1) from monitor"))
    wait_for("all to be up", lambda: opinions() == {"client-sample " + n: 1 for n in NAMES}, 60)
    assert d.status()["sinks"]["kuma:up"]["failed"] == 0


if __name__ == "__main__":
    rig.main(globals())
