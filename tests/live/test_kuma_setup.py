"""scripts/kuma-setup against a scripted page of Uptime Kuma; test_real_kuma.py has a real one."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
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
        assert not any(m["authMethod"] for m in by_name.values()), by_name
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
        # A token of the status address, which is nowhere to be read.
        status_token = r.write("status-token", "t-s3cr3t\n", 0o600)
        for said, n in (("changed: monitor", 5), ("unchanged: monitor", 6)):
            out = run(r, peer.base, "--status-token-file", status_token, status="http://127.0.0.1:9999").stdout
            assert out.count("\n" + said) == n, out
        assert peer.monitors["2"]["basic_auth_pass"] == "t-s3cr3t" and peer.monitors["2"]["authMethod"] == "basic"
        assert not peer.monitors["6"]["basic_auth_pass"], peer.monitors["6"]
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


if __name__ == "__main__":
    rig.main(globals())
