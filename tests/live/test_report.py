"""botctl report and botctl wait: for people who read once a day, and for scripts."""
import json
import os
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
from rig import wait_for  # noqa: E402
from sink_peer import Slack, status  # noqa: E402

CONFIG = """
[Operator]
Status=127.0.0.1:0
Control={dir}/test.sock
[Pool work]
Command=%s
Workers=1-2
[Queue jobs]
Type=spool
Path={dir}/spool
MaxAttempts=1
BacklogInterval=100ms
"""

HANDLER = """#!/bin/sh
case $(cat) in
bad*) echo "no such customer" >&2; exit 65;;
api*) exit 69;;
slow) while [ ! -e "$0.go" ]; do sleep 0.02; done;;
esac
"""


def config(r, more=""):
    return CONFIG % r.write("handler.sh", HANDLER, 0o755) + more


def botctl(d, *args, **kw):
    return d.botctl(*args, **kw)


# ---- report ----

def test_a_quiet_operator(r):
    d = r.daemon(config(r))
    text = botctl(d, "report").stdout
    assert text.startswith("Report (daily) of bot-operator test, "), text
    assert "Status: ok since" in text and "Backlog" in text and "jobs" in text and "Resources" in text, text
    report = json.loads(botctl(d, "--json", "report").stdout)
    assert report["status"] == "ok" and report["dead"][0]["letters"] == 0, report
    # A busy machine may make a turn slow, and that is no fault.
    assert [a for a in report["anomalies"] if a["what"] != "loop"] == [], report
    assert report["process"]["rss_bytes"] > 1 << 20 and report["process"]["descriptors"] > 3, report
    assert report["pools"][0]["pool"] == "work"


def test_longer_periods_say_what_there_is(r):
    d = r.daemon(config(r))
    for period in ("weekly", "monthly"):
        text = botctl(d, "report", "--period", period).stdout
        assert "Report (%s)" % period in text and "a day is all that the operator keeps" in text, text
    assert "a day is all" not in botctl(d, "report", "--period", "daily").stdout
    p = botctl(d, "report", "--period", "hourly", check=False)
    assert p.returncode == 2 and "daily, weekly or monthly" in p.stderr, p


def test_dead_letters_and_anomalies(r):
    r.expect_log("dead letters|alert |no such customer")
    d = r.daemon(config(r, "[Alert letters]\nWhen=queue.dead_backlog > 2\nFor=0s\nSeverity=warning\n"))
    for body in ("bad1", "bad2", "bad3", "api1", "fine"):
        botctl(d, "enqueue", "jobs", "--body", body)
    d.wait_queue("jobs", dead_backlog=4, in_flight=0, deadline=60)
    wait_for("the alert", lambda: any(a["state"] == "firing" for a in d.status()["alerts"]), 60)
    botctl(d, "pause", "jobs")
    report = json.loads(botctl(d, "--json", "report").stdout)
    dead = report["dead"][0]
    assert dead["letters"] == 4 and dead["looked_at"] == 4 and dead["oldest"].startswith("20"), dead
    assert dead["types"] == [{"type": "invalid_format", "count": 3}, {"type": "external_api", "count": 1}], dead
    assert dead["errors"][0] == {"type": "invalid_format", "count": 3}, dead
    said = "\n".join("%s: %s" % (a["what"], a["text"]) for a in report["anomalies"])
    assert "alert letters (warning) is firing" in said and "queue:jobs: paused (by operator)" in said, said
    text = botctl(d, "report").stdout
    assert "invalid_format 3, external_api 1" in text, text
    assert len(d.botctl("dead", "list", "jobs").stdout.splitlines()) == 5, "a report takes nothing away"


def test_history_gives_peak_and_trend(r):
    d = r.daemon(config(r))
    botctl(d, "pause", "jobs")
    for i in range(7):
        botctl(d, "enqueue", "jobs", "--body", "x%d" % i)
    d.wait_queue("jobs", backlog=7)

    def peak():
        b = json.loads(botctl(d, "--json", "report").stdout)["backlog"][0]
        return b["now"] == 7 and b["peak"] == 7 and b["peak_at"] and b
    b = wait_for("a look of the history, each 10 s", peak, 60)
    assert b["trend"] == "too short to tell", b


def test_no_operator(r):
    d = r.daemon(config(r))
    d.stop()
    assert botctl(d, "report", check=False).returncode == 3


def test_a_standby_reports_too(r):
    d = r.daemon(config(r), args=("--standby",), wait="status")
    text = botctl(d, "report").stdout
    assert "Status: standby" in text and "Anomalies: none" in text, text


def test_notify_through_slack(r):
    peer = Slack()
    try:
        hook = r.write("hook", peer.base + peer.HOOK, 0o600)
        d = r.daemon(config(r, "[Slack]\nWebhookFile=%s\n" % hook))
        botctl(d, "report", "--notify")
        text = peer.texts(peer.HOOK)[0]
        assert "Report (daily)" in text and "jobs: backlog 0" in text and text.startswith(("INFO", "WARN")), text
        r.expect_log("not sent")
        peer.rule(peer.HOOK, status(404, "no_service"))
        p = botctl(d, "report", "--notify", check=False)
        assert p.returncode == 1 and "Report (daily)" in p.stdout and "did not take it" in p.stderr, p
    finally:
        r.drain()
        peer.stop()


def test_notify_without_slack_is_no_error(r):
    p = botctl(r.daemon(config(r)), "report", "--notify")
    assert "Report (daily)" in p.stdout and "there is no [Slack]" in p.stderr, p


# ---- wait ----

def wait(d, *args, **kw):
    return botctl(d, "wait", *args, check=False, **kw)


def test_wait_for_progress(r):
    d = r.daemon(config(r))
    p = wait(d, "progress", "--timeout", "60s")
    assert p.returncode == 0 and p.stdout.startswith("progress after"), p
    assert wait(d, "ready").returncode == 0
    # Nothing moves: that is no progress, and the reason is said.
    botctl(d, "enqueue", "jobs", "--body", "slow")
    d.wait_queue("jobs", running=1)
    p = wait(d, "progress", "--timeout", "1s")
    assert p.returncode == 5 and "1 messages at hand and no verdict" in p.stderr, p
    # Progress that comes while we wait.
    timer = threading.Timer(0.5, lambda: r.write("handler.sh.go", ""))
    timer.start()
    assert wait(d, "progress", "--timeout", "60s").returncode == 0
    timer.join()


def test_wait_for_a_queue_that_is_down(r):
    r.expect_log("not connected|cannot|Not a directory")
    r.write("file", "")
    d = r.daemon(config(r, "[Queue broken]\nType=spool\nPath={dir}/file/x\n"))
    p = wait(d, "progress", "--timeout", "1s")
    assert p.returncode == 5 and "degraded" in p.stderr, p
    assert wait(d, "progress", "--degraded", "--timeout", "60s").returncode == 0
    assert wait(d, "ready").returncode == 0


def test_wait_through_a_start(r):
    d = r.daemon(config(r), args=("--standby",), wait="status")
    assert wait(d, "standby").returncode == 0
    assert wait(d, "progress", "--timeout", "1s").returncode == 5
    botctl(d, "promote")
    assert wait(d, "progress", "--timeout", "60s").returncode == 0
    assert json.loads(botctl(d, "--json", "wait", "ready").stdout)["ready"] is True
    d.stop()
    p = wait(d, "ready", "--timeout", "500ms")
    assert p.returncode == 5 and "no operator answers" in p.stderr, p
    waiting = subprocess.Popen([os.path.join(rig.BUILD, "botctl"), "-c", d.conf, "wait", "ready", "--timeout", "60s"],
                               stdout=subprocess.PIPE, universal_newlines=True)
    r.daemon(config(r))
    assert waiting.communicate(timeout=60)[0].startswith("ready after") and waiting.returncode == 0


def test_wait_bad_use(r):
    d = r.daemon(config(r))
    assert wait(d, "happiness").returncode == 2
    assert wait(d, "ready", "--timeout", "soon").returncode == 2
    assert botctl(d, "status", "--timeout", "1s", check=False).returncode == 2


if __name__ == "__main__":
    rig.main(globals())
