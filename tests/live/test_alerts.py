"""Alerts through a real daemon: a backlog of the spool fires, survives a kill, is silenced, and resolves."""
import json
import os
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
from rig import wait_for  # noqa: E402

CONFIG = """
[Pool work]
Command=/bin/cat
Workers=1
[Queue jobs]
Type=spool
Path={dir}/spool
BacklogInterval=100ms
[Alert deep]
When=queue.backlog > 3
For=%s
Severity=%s
Text=Too much waits.
"""


def slow_config(span, severity):
    """Almost nothing is taken, so the backlog stays."""
    return (CONFIG % (span, severity)).replace("BacklogInterval", "RateLimit=1/h\nPrefetch=1\nBacklogInterval")


def daemon(r, span="1s", severity="warning", **kw):
    r.expect_log(r"alert deep \(.*\) firing")
    return r.daemon(CONFIG % (span, severity), **kw)


def fill(d, n=5):
    """Messages that wait, since nothing is taken."""
    d.botctl("pause", "jobs")
    for i in range(n):
        d.botctl("enqueue", "jobs", "--body", "message %d" % i)
    d.wait_queue("jobs", backlog=n)


def alerts(d):
    return {a["name"] + "/" + a["subject"]: a for a in d.status()["alerts"]}


def wait_state(d, state):
    def there():
        a = alerts(d).get("deep/queue:jobs")
        return a if a and a["state"] == state else None
    return wait_for("alert deep to be " + state, there)


def test_a_backlog_fires_and_resolves(r):
    d = daemon(r)
    quiet = d.botctl("alerts")
    assert "nothing fires" in quiet.stdout, quiet.stdout
    fill(d)
    a = wait_state(d, "firing")
    assert a["value"] == 5 and a["threshold"] == 3 and a["queue"] == "jobs", a
    assert a["severity"] == "warning" and a["text"] == "Too much waits.", a
    shown = d.botctl("alerts", "--all", check=False)
    assert shown.returncode == 4, shown
    line = shown.stdout.splitlines()[1].split()
    assert line[:5] == ["firing", "warning", "deep", "queue:jobs", "5"], shown.stdout
    assert "operator-down" in shown.stdout and "backlog-critical" in shown.stdout, shown.stdout
    status = d.botctl("status").stdout
    assert "  alert deep (warning): queue:jobs, queue.backlog > 3 for " in status, status
    code, metrics = d.get("/metrics")
    assert 'bot_operator_alert_firing{alert="deep",severity="warning",subject="queue:jobs"} 1' in metrics
    d.botctl("resume", "jobs")
    wait_state(d, "resolved")
    assert d.botctl("alerts").returncode == 0
    assert "alert deep (warning) resolved" in d.log()


def test_a_kill_forgets_no_duration(r):
    # Almost nothing is taken, also after the restart.
    slow = slow_config("8s", "critical")
    r.expect_log(r"alert deep \(critical\) firing")
    d = r.daemon(slow)
    for i in range(9):
        d.botctl("enqueue", "jobs", "--body", "message %d" % i)
    before = wait_state(d, "pending")
    wait_for("half of For=", lambda: alerts(d)["deep/queue:jobs"]["duration_seconds"] >= 4)
    d.signal(signal.SIGKILL)
    d.wait()
    started = time.monotonic()
    d = r.daemon(slow)
    assert alerts(d)["deep/queue:jobs"]["since"] == before["since"]
    fired = wait_state(d, "firing")
    assert fired["since"] == before["since"], (before, fired)
    assert time.monotonic() - started < 8


def test_a_queue_made_anew_keeps_its_alert(r):
    d = r.daemon(slow_config("1h", "info"))
    for i in range(9):
        d.botctl("enqueue", "jobs", "--body", "message %d" % i)
    before = wait_state(d, "pending")
    d.write(slow_config("1h", "info").replace("RateLimit", "DeadLetter={dir}/elsewhere\nRateLimit"))
    d.botctl("reload")
    wait_for("the new queue", lambda: d.log().count("queue jobs: connected") == 2)
    wait_for("two more looks", lambda: alerts(d)["deep/queue:jobs"]["value"] is not None and
             alerts(d)["deep/queue:jobs"]["duration_seconds"] >= before["duration_seconds"] + 2)
    assert alerts(d)["deep/queue:jobs"]["since"] == before["since"]


def test_a_broken_state_file_is_said_and_survived(r):
    r.expect_log("alert states at .* are not usable: it is broken")
    r.write("test.alerts.json", '{"version":1,"alerts":[')
    d = daemon(r)
    assert os.path.exists(r.path("test.alerts.json.broken"))
    fill(d)
    wait_state(d, "firing")


def test_a_reload_keeps_the_state(r):
    d = daemon(r, span="1h")
    fill(d)
    before = wait_state(d, "pending")
    d.write(CONFIG % ("1h", "critical") + "Runbook=https://wiki.invalid/deep\n")
    d.botctl("reload")
    after = wait_state(d, "pending")
    assert after["since"] == before["since"], (before, after)
    assert after["severity"] == "critical" and after["runbook"] == "https://wiki.invalid/deep", after
    d.write(CONFIG % ("1h", "critical") + "[Alert deeper]\nWhen=queue.backlogg > 1\n")
    bad = d.botctl("reload", check=False)
    assert bad.returncode == 1 and 'did you mean "queue.backlog"?' in bad.stderr, bad
    assert "test.conf:" in bad.stderr, bad.stderr
    r.expect_log("has 1 problem; the old configuration|unknown figure")
    assert alerts(d)["deep/queue:jobs"]["since"] == before["since"]


def test_silences_by_botctl(r):
    d = daemon(r)
    assert "no silences" in d.botctl("silence", "--list").stdout
    made = d.botctl("silence", "deep", "1h", "--reason", "we are at it")
    assert made.stdout == "silence 1: deep for 1h\n", made.stdout
    typo = d.botctl("silence", "queue:job", "1h").stdout
    assert typo == "silence 2: queue:job for 1h; there is no rule or subject like that now\n", typo
    d.botctl("silence", "--end", "2")
    fill(d)
    a = wait_state(d, "firing")
    assert a["silenced"] and a["silence"] == "deep" and not a["notified"], a
    # What fires is silenced: nobody has to come.
    assert d.botctl("alerts").returncode == 0
    listed = d.botctl("silence", "--list").stdout.splitlines()
    assert len(listed) == 2 and "we are at it" in listed[1] and "uid %d" % os.getuid() in listed[1], listed
    # Over a restart too.
    d.stop()
    d = daemon(r)
    assert "we are at it" in d.botctl("silence", "--list").stdout
    ended = d.botctl("silence", "--end", "deep")
    assert ended.stdout == "ended: 1\n", ended.stdout
    assert "no silences" in d.botctl("silence", "--list").stdout
    for args, code, say in ((("silence", "x", "soon"), 1, "30min or 2h"), (("silence", "x", "0"), 1, "from 1s"),
                            (("silence", "--end", "nothing"), 1, "no silence"), (("silence",), 2, "wants a pattern"),
                            (("silence", "--list", "x"), 2, "wants a pattern"),
                            (("alert", "tset", "deep"), 2, "alert wants test"), (("alert",), 2, "alert wants test")):
        bad = d.botctl(*args, check=False)
        assert bad.returncode == code and say in bad.stderr, (args, bad)


def test_a_test_says_that_nobody_would_be_told(r):
    d = daemon(r)
    bad = d.botctl("alert", "test", "deap", check=False)
    assert bad.returncode == 1 and 'did you mean "deep"?' in bad.stderr, bad
    bad = d.botctl("alert", "test", "deep", check=False)
    assert bad.returncode == 1 and "no sink is configured" in bad.stderr, bad
    # The control socket refuses what it does not know.
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(rig.DEADLINE)
        s.connect(d.control)
        s.sendall(b'{"command":"alert-test","name":"deep","loud":1}\n{"command":"silence","duration":"1h"}\n')
        f = s.makefile("rb")
        assert 'does not know "loud"' in json.loads(f.readline())["error"]
        assert "pattern" in json.loads(f.readline())["error"]


def test_history_is_served(r):
    d = daemon(r)
    code, text = d.get("/history.json?queue=jobs&span=1h")
    assert code == 200, text
    h = json.loads(text)
    assert h["queue"] == "jobs" and h["step_seconds"] == 10 and h["points"] == 360, text[:200]
    assert set(len(s) for s in h["series"].values()) == {360}
    code, text = d.get("/history.json?pool=work&span=24h")
    assert code == 200 and json.loads(text)["step_seconds"] == 600, text[:200]
    assert d.get("/history.json?queue=other")[0] == 404
    assert d.get("/history.json")[0] == 400


if __name__ == "__main__":
    rig.main(globals())
