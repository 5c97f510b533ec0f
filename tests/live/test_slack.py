"""Slack through a real daemon: a scripted Slack that answers, refuses, asks for less, breaks and hangs."""
import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
import sink_peer  # noqa: E402
from rig import wait_for  # noqa: E402
from sink_peer import Slack, hang, not_ok, slow, status  # noqa: E402

WORLD = """
[Pool work]
Command=/bin/cat
Workers=1
[Queue jobs]
Type=spool
Path={dir}/spool
BacklogInterval=100ms
[Alert deep]
When=queue.backlog > 3
For=1s
Severity=critical
Text=Too much <waits> & more.
Runbook=https://wiki.invalid/deep?a=1&b=2
"""
TOKEN = """
[Slack]
TokenFile={dir}/token
Endpoint=%s/api
Timeout=2s
"""
HOOK = """
[Slack]
WebhookFile={dir}/hook
Timeout=2s
"""


@contextlib.contextmanager
def slack(r):
    peer = Slack()
    r.write("token", peer.TOKEN + "\n", 0o600)
    r.write("hook", peer.base + peer.HOOK + "\n", 0o600)
    try:
        yield peer
    finally:
        r.drain()
        peer.stop()


def by_token(r, peer, more="", world=WORLD, **kw):
    return r.daemon(world + TOKEN % peer.base + more, **kw)


def fill(d, n=5):
    d.botctl("pause", "jobs")
    for i in range(n):
        d.botctl("enqueue", "jobs", "--body", "message %d" % i)


def sink(d, name="slack"):
    return d.status()["sinks"][name]


def wait_sink(d, **want):
    return wait_for("sink slack: %s, but it is %s" % (want, sink(d)),
                    lambda: all(sink(d)[k] == v for k, v in want.items()) and sink(d))


def test_an_alert_is_posted_changed_and_answered_in_its_thread(r):
    r.expect_log(r"alert deep \(.*\) firing")
    with slack(r) as peer:
        d = by_token(r, peer)
        fill(d)
        m = wait_for("the message", lambda: peer.channel("#alerts-critical"))[0]
        # Everything a person needs at 3 in the morning.
        assert m["text"].startswith("CRITICAL test@"), m
        assert "queue jobs: queue.backlog is 5 (limit: &gt; 3) for " in m["text"], m["text"]
        whole = json.dumps(m["blocks"])
        assert "Too much &lt;waits&gt; &amp; more." in whole, whole
        assert "https://wiki.invalid/deep?a=1&amp;b=2" in whole, whole
        assert "botctl --config %s/test.conf status" % r.dir in whole, whole
        assert "journalctl -t bot-operator -p warning -n 50 BOT_QUEUE=jobs" in whole, whole
        fields = dict(f["text"].split("\n", 1) for b in m["blocks"] for f in b.get("fields", []))
        assert fields["*Queue*"] == "jobs" and fields["*Instance*"] == "test" and fields["*Host*"], fields
        assert fields["*Figure*"] == "queue.backlog is 5 (limit: &gt; 3)", fields
        assert fields["*For*"].split(",")[0].endswith("s") and fields["*Rule*"].startswith("deep ("), fields
        d.botctl("resume", "jobs")
        wait_for("the answer in the thread", lambda: len(peer.channel("#alerts-critical")) == 2)
        first, reply = peer.channel("#alerts-critical")
        assert first["edited"] and first["text"].startswith("RESOLVED test@") and first["ts"] == m["ts"], first
        assert reply["thread_ts"] == m["ts"] and reply["text"].startswith("RESOLVED test: "), reply
        s = wait_sink(d, sent=2, queued=0)
        assert s["failed"] == s["dropped"] == 0 and s["last_error"] is None and s["by"] == "token", s
        # One a second to a channel, whatever is said there.
        times = [q.time for q in peer.seen("/chat.")]
        assert all(b - a >= 0.95 for a, b in zip(times, times[1:])), times


# Almost nothing is taken, so that what waits stays over a restart.
SLOW = WORLD.replace("BacklogInterval", "RateLimit=1/h\nPrefetch=1\nBacklogInterval")


def test_an_end_after_a_restart_changes_the_message(r):
    r.expect_log(r"alert deep \(.*\) firing")
    with slack(r) as peer:
        d = by_token(r, peer, world=SLOW)
        for i in range(9):
            d.botctl("enqueue", "jobs", "--body", "message %d" % i)
        m = wait_for("the message", lambda: peer.channel("#alerts-critical"))[0]
        wait_sink(d, queued=0, sent=1)
        # Also when it is killed, soon after.
        wait_for("the file to be written", lambda: m["ts"] in open(r.path("test.alerts.json")).read())
        d.kill()
        by_token(r, peer)
        wait_for("the answer in the thread", lambda: len(peer.channel("#alerts-critical")) == 2)
        first, reply = peer.channel("#alerts-critical")
        assert first["ts"] == m["ts"] and first["edited"] and first["text"].startswith("RESOLVED test@"), first
        assert reply["thread_ts"] == m["ts"] and reply["text"].startswith("RESOLVED test: "), reply


def test_what_waits_is_told_after_a_restart(r):
    r.expect_log(r"alert deep \(.*\) firing|slack: .*http_503|slack: . messages? not sent: the sink ends")
    with slack(r) as peer:
        down = peer.rule("*", status(503))
        d = by_token(r, peer, world=SLOW)
        for i in range(9):
            d.botctl("enqueue", "jobs", "--body", "message %d" % i)
        wait_sink(d, queued=1, failing=True)
        d.stop()
        down.remove()
        d = by_token(r, peer, world=SLOW)
        wait_for("the message", lambda: peer.texts("#alerts-critical"))
        wait_sink(d, queued=0, sent=1)
        # The end, which waits as well when it is stopped.
        down = peer.rule("*", status(503))
        d.write(WORLD + TOKEN % peer.base)
        d.botctl("reload")
        wait_for("resolved", lambda: "alert deep (critical) resolved" in d.log())
        wait_sink(d, queued=1, failing=True)
        d.stop()
        down.remove()
        d = by_token(r, peer)
        wait_for("the answer in the thread", lambda: len(peer.channel("#alerts-critical")) == 2)
        wait_sink(d, queued=0, dropped=0)
        first, reply = peer.channel("#alerts-critical")
        assert first["text"].startswith("RESOLVED ") and reply["thread_ts"] == first["ts"], (first, reply)


def test_a_webhook_in_place_of_a_token_tells_an_end_once(r):
    r.expect_log(r"alert deep \(.*\) firing")
    with slack(r) as peer:
        d = by_token(r, peer)
        fill(d)
        wait_for("the message", lambda: peer.channel("#alerts-critical"))
        d.write(WORLD + HOOK)
        d.botctl("reload")
        d.botctl("resume", "jobs")
        wait_sink(d, queued=0, sent=2)
        assert [t.split()[0] for t in peer.texts(peer.HOOK)] == ["RESOLVED"], peer.texts(peer.HOOK)
        assert len(peer.channel("#alerts-critical")) == 1
        metrics = d.get("/metrics")[1].splitlines()
        for name, n in (("sent_total", 2), ("failed_total", 0), ("dropped_total", 0), ("queued", 0), ("failing", 0)):
            assert 'bot_operator_sink_%s{sink="slack"} %d' % (name, n) in metrics, [x for x in metrics if "sink" in x]


def test_webhooks_of_severities(r):
    r.expect_log(r"alert deep \(.*\) firing")
    with slack(r) as peer:
        r.write("hook-critical", peer.base + peer.HOOK + "-critical")
        d = r.daemon(WORLD + HOOK + "CriticalWebhookFile={dir}/hook-critical\n")
        fill(d)
        wait_for("the message", lambda: peer.channel(peer.HOOK + "-critical"))
        d.botctl("resume", "jobs")
        # No thread and no update there: a second message.
        wait_for("the end", lambda: len(peer.channel(peer.HOOK + "-critical")) == 2)
        assert [t.split()[0] for t in peer.texts(peer.HOOK + "-critical")] == ["CRITICAL", "RESOLVED"]
        assert not peer.channel(peer.HOOK)
        out = d.botctl("notify", "--severity", "info", "deploy <b>1.2</b> & done").stdout
        assert out == "slack: posted by the webhook\n", out
        m = peer.channel(peer.HOOK)[0]
        assert m["text"].startswith("INFO test@"), m
        assert m["text"].endswith(": deploy &lt;b&gt;1.2&lt;/b&gt; &amp; done"), m
        assert "thread_ts" not in m and "channel" not in m, m


def test_alert_test_tells_what_slack_said(r):
    with slack(r) as peer:
        d = by_token(r, peer)
        assert d.botctl("alert", "test", "deep").stdout == "slack: posted to #alerts-critical\n"
        assert peer.texts("#alerts-critical")[0].startswith("TEST test@"), peer.texts("#alerts-critical")
        r.expect_log("a message was not sent: Slack refuses #alerts-critical")
        peer.rule("*", not_ok("not_in_channel"), 1)
        bad = d.botctl("alert", "test", "deep", check=False)
        assert bad.returncode == 1 and "/invite it there" in bad.stdout, bad
        assert "1 of 1 sinks did not take it" in bad.stderr, bad
        s = sink(d)
        assert s["last_error"]["code"] == "not_in_channel" and s["failed"] == 1, s
        # Nothing is wrong with the next one.
        assert d.botctl("notify", "--severity", "critical", "--sink", "slack", "all well").returncode == 0


def test_notify_says_what_is_wrong(r):
    with slack(r) as peer:
        d = by_token(r, peer)
        for args, code, say in (
                (("notify", "x"), 2, "--severity is missing"),
                (("notify", "--severity", "bad", "x"), 1, "info, warning or critical"),
                (("notify", "--severity", "info", "--sink", "slak", "x"), 1, 'did you mean "slack"?'),
                (("notify", "--severity", "info", ""), 1, "1 to 3000 bytes"),
                (("notify", "--severity", "info", "x" * 3001), 1, "1 to 3000 bytes")):
            bad = d.botctl(*args, check=False)
            assert bad.returncode == code and say in bad.stderr, (args, bad)
        assert not peer.requests
        # The longest, all of it escaped: several sections, each within the limits.
        d.botctl("notify", "--severity", "info", "&" * 3000)
        m = peer.channel("#alerts-info")[0]
        assert sum(b["text"]["text"].count("&amp;") for b in m["blocks"]) == 3000, m
        assert all(len(b["text"]["text"]) <= 3000 for b in m["blocks"]), m


def test_order_and_a_second_between(r):
    with slack(r) as peer:
        d = by_token(r, peer)
        said, threads, runs = ["one", "two", "three"], [], []
        for word in said:
            t = threading.Thread(target=lambda w=word: runs.append(d.botctl("notify", "--severity", "info", w).stdout))
            t.start()
            wait_for("it to be taken over", lambda: sink(d)["queued"] + sink(d)["sent"] >= said.index(word) + 1)
            threads.append(t)
        for t in threads:
            t.join(rig.DEADLINE)
        assert [t.rpartition(": ")[2] for t in peer.texts("#alerts-info")] == said, peer.texts("#alerts-info")
        times = [m["time"] for m in peer.channel("#alerts-info")]
        assert all(b - a >= 0.95 for a, b in zip(times, times[1:])), times
        assert runs == ["slack: posted to #alerts-info\n"] * 3, runs


def test_retry_after_is_kept_and_delays_no_other_channel(r):
    r.expect_log("slack: Slack asks for less to #alerts-critical")
    with slack(r) as peer:
        d = by_token(r, peer)
        peer.rule("*", status(429, "", Retry_After=3), 1, when=lambda q: q.body["channel"] == "#alerts-critical")
        done = []
        t = threading.Thread(target=lambda: done.append(d.botctl("notify", "--severity", "critical", "late")))
        t.start()
        wait_sink(d, failing=True, retries=1)
        start = time.monotonic()
        assert d.botctl("notify", "--severity", "info", "at once").returncode == 0
        assert time.monotonic() - start < 2.5 and not done
        t.join(rig.DEADLINE)
        assert done[0].stdout == "slack: posted to #alerts-critical\n", done
        asked = [q.time for q in peer.requests if q.body["channel"] == "#alerts-critical"]
        assert len(asked) == 2 and asked[1] - asked[0] >= 2.95, asked
        assert sink(d)["last_error"]["class"] == "throttled", sink(d)


def test_one_channel_that_fails_is_not_hidden_by_another(r):
    r.expect_log("slack: Slack refuses #alerts-critical|alert deep .* firing|slack: . messages? not sent")
    with slack(r) as peer:
        peer.rule("*", not_ok("not_in_channel"), when=lambda q: q.body["channel"] == "#alerts-critical")
        d = by_token(r, peer)
        fill(d)
        wait_sink(d, failing=True, queued=1)
        assert d.botctl("notify", "--severity", "info", "this works").returncode == 0
        s = wait_sink(d, sent=1)
        assert s["failing"] and "works again" not in d.log(), s


def test_what_breaks_is_tried_again_and_nothing_is_lost(r):
    r.expect_log("slack: .*(http_503|response_timeout|internal_error)|alert deep .* firing")
    with slack(r) as peer:
        peer.rule("*", status(503, "upstream"), 1)
        peer.rule("*", not_ok("internal_error"), 1, after=1)
        peer.rule("*", hang, 1, after=2)
        d = by_token(r, peer)
        fill(d)
        wait_for("the message", lambda: peer.texts("#alerts-critical"))
        s = wait_sink(d, sent=1, queued=0)
        assert s["retries"] == 3 and s["failed"] == 0 and s["dropped"] == 0 and not s["failing"], s
        assert len(peer.texts("#alerts-critical")) == 1
        assert "slack: works again" in d.log()


def test_a_wrong_token_waits_until_it_is_mended(r):
    r.expect_log("slack: Slack refuses #alerts-critical .*invalid_auth|alert deep .* firing")
    with slack(r) as peer:
        r.write("token", "xoxb-wrong-s3cr3t", 0o600)
        d = by_token(r, peer)
        fill(d)
        s = wait_sink(d, failing=True)
        assert s["queued"] == 1 and s["last_error"]["code"] == "invalid_auth", s
        metrics = d.get("/metrics")[1]
        assert 'bot_operator_sink_failing{sink="slack"} 1' in metrics
        assert "copy the app's bot token" in s["last_error"]["text"], s
        shown = d.botctl("status").stdout
        assert "sink slack: 1 waiting, 0 dropped: Slack refuses" in shown, shown
        # The file is read again for each request; a reload with a change looks at once.
        r.write("token", peer.TOKEN, 0o600)
        d.write(WORLD + TOKEN % peer.base + "QueueMax=50\n")
        d.botctl("reload")
        wait_for("the message", lambda: peer.texts("#alerts-critical"))
        wait_sink(d, sent=1, queued=0, failing=False)


def test_repeats_of_an_alert_become_one_message(r):
    r.expect_log("alert .* firing|slack: .*http_503")
    swinging = WORLD.replace("For=1s", "For=0").replace("[Alert deep]", "[Alert deep]\nMinSamples=0")
    with slack(r) as peer:
        down = peer.rule("*", status(503))
        d = by_token(r, peer, world=swinging)
        for n in range(3):
            fill(d)
            wait_for("firing", lambda: d.log().count("alert deep (critical) firing") == n + 1)
            d.botctl("resume", "jobs")
            wait_for("resolved", lambda: d.log().count("alert deep (critical) resolved") == n + 1)
        s = sink(d)
        assert s["queued"] <= 3 and s["coalesced"] >= 3 and s["dropped"] == 0, s
        down.remove()
        s = wait_sink(d, queued=0)
        texts = peer.texts("#alerts-critical")
        # The last word is that it is over, and how often it fired is said.
        assert texts[-1].startswith("RESOLVED"), texts
        assert "(3 times)" in json.dumps([q.body for q in peer.requests]), texts


def test_the_queue_is_bounded_and_drops_are_counted(r):
    r.expect_log("alert .* firing|slack: .*(http_503|QueueMax=|the sink ends)")
    more = "".join("[Alert a%d]\nWhen=queue.backlog > %d\nFor=0\nSeverity=critical\n" % (i, i) for i in range(5))
    with slack(r) as peer:
        down = peer.rule("*", status(503))
        d = by_token(r, peer, "QueueMax=2\n" + more)
        # Six rules fire, one behind the other.
        d.botctl("pause", "jobs")
        for i in range(6):
            d.botctl("enqueue", "jobs", "--body", "x")
        wait_for("all to fire", lambda: len([a for a in d.status()["alerts"] if a["state"] == "firing"]) == 6)
        fired = re.findall(r"alert (\w+) \(critical\) firing", d.log())
        s = sink(d)
        # What was on its way then could not be dropped.
        assert s["queued"] == 2 and s["dropped"] == 4 and s["coalesced"] == 0, s
        down.remove()
        wait_sink(d, queued=0)
        texts = peer.texts("#alerts-critical")
        newest = json.dumps(peer.channel("#alerts-critical")[-1]["blocks"])
        assert len(texts) == 2 and "*Rule*\\n%s (" % fired[-1] in newest, (fired, newest)


def test_invariant_3_a_hanging_slack_delays_no_queue(r):
    r.expect_log("alert .* firing|slack: . messages? not sent: the sink ends")
    with slack(r) as peer:
        peer.rule("*", hang)
        d = r.daemon(WORLD.replace("For=1s", "For=0") + (TOKEN % peer.base).replace("Timeout=2s", "Timeout=60s"))
        fill(d)
        wait_for("Slack to hang", lambda: peer.requests)
        d.botctl("resume", "jobs")
        for i in range(20):
            d.botctl("enqueue", "jobs", "--body", "while it hangs")
        d.wait_queue("jobs", done=25, backlog=0)
        # All the while Slack has said nothing, and everything else has gone on.
        s = sink(d)
        assert s["queued"] >= 1 and s["sent"] == s["dropped"] == 0, s
        assert d.status()["loop"]["longest_callback_ms"] < 500, d.status()["loop"]
        assert d.get("/healthz")[0] == 200
        d.stop()


def test_a_hanging_slack_is_an_answer_too(r):
    r.expect_log("slack: .*(response_timeout|not sent)")
    with slack(r) as peer:
        peer.rule("*", hang)
        d = by_token(r, peer)
        start = time.monotonic()
        bad = d.botctl("notify", "--severity", "warning", "anybody?", check=False)
        assert bad.returncode == 1 and "slack: failed: " in bad.stdout, bad
        assert time.monotonic() - start < 29
        assert sink(d)["queued"] == 0


def test_an_update_that_is_refused_is_said_in_the_thread_only(r):
    r.expect_log("alert deep .* firing")
    with slack(r) as peer:
        peer.rule("/api/chat.update", not_ok("cant_update_message"))
        d = by_token(r, peer)
        fill(d)
        m = wait_for("the message", lambda: peer.channel("#alerts-critical"))[0]
        d.botctl("resume", "jobs")
        wait_for("the answer", lambda: len(peer.channel("#alerts-critical")) == 2)
        assert peer.channel("#alerts-critical")[1]["thread_ts"] == m["ts"]
        assert wait_sink(d, queued=0, sent=2)["failed"] == 0


def test_invariant_7_secrets_are_nowhere(r):
    """Not in the log at level debug, the status, show-config, nor where Slack repeats them."""
    r.expect_log("slack: ")
    with slack(r) as peer:
        def parrot(request, go):
            return sink_peer.Reply(418, "you sent %s with %s" % (request.path, request.headers.get("Authorization")))
        peer.rule("*", parrot)
        debug = "[Operator]\nStatus=127.0.0.1:0\nControl={dir}/test.sock\nLogLevel=debug\n"
        for text in (TOKEN % peer.base, HOOK):
            d = r.daemon(debug + WORLD + text)
            bad = d.botctl("notify", "--severity", "info", "x", check=False)
            assert bad.returncode == 1 and "answers 418" in bad.stdout, bad
            everything = d.log() + json.dumps(d.status()) + bad.stdout + bad.stderr + d.botctl("show-config").stdout + \
                d.get("/metrics")[1] + "".join(d.botctl("debug", w).stdout for w in ("timers", "streams"))
            assert "s3cr3t" not in everything, re.findall(".*s3cr3t.*", everything)
            d.stop()


def test_the_configuration_says_what_is_wrong(r):
    queue = "[Pool p]\nCommand=/bin/cat\n[Queue q]\nType=spool\nPath=/nowhere\n"
    for text, say in (
            ("[Slack]\n", "how? set WebhookFile="),
            ("[Slack]\nTokenFile=t\nWebhookFile=w\n", "TokenFile= and WebhookFile= are both set"),
            ("[Slack]\nCriticalWebhookFile=w\n", "InfoWebhookFile= is missing"),
            ("[Slack]\nWebhookFile=w\nInfoChannel=#x\n", "InfoChannel= has no effect on webhooks"),
            ("[Slack]\nTokenFile=t\nEndpoint=slack.com\n", "it must start with https://"),
            ("[Alert a]\nWhen=backlog > 1\nNotify=slack\n", "Notify=slack, but there is no [Slack]"),
            ("[Alert a]\nWhen=sink.failing == yes\nSinks=slack\n", 'there is no sink "slack"'),
            ("[Alert a]\nWhen=sink.failing == yes\nSinks=kuma:* !kuma:x\n", 'there is no sink "kuma:x"'),
            ("[Alert a]\nWhen=backlog > 1\nNotify=slak\n", 'did you mean "slack"?'),
            ("[Kuma a]\nURL=http://127.0.0.1:1\n", "PushTokenFile="),
            ("[Kuma a]\nURL=kuma\nPushTokenFile=t\n", "it must start with https://"),
            ("[Kuma a]\nURL=http://127.0.0.1:1\nPushTokenFile=t\nFor=backlogg\n", 'did you mean "backlog"?'),
            ("[Kuma a]\nURL=http://127.0.0.1:1\nPushTokenFile=t\nFor=backlog\n[Alert backlog]\nEnabled=no\n",
             "[Alert backlog] is switched off")):
        conf = r.write("bad.conf", queue + text)
        p = subprocess.run([os.path.join(rig.BUILD, "botctl"), "check-config", conf], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, universal_newlines=True)
        assert p.returncode == 1 and say in p.stderr and "bad.conf:" in p.stderr, (text, p)


def test_slow_answers_are_waited_for(r):
    with slack(r) as peer:
        peer.rule("*", slow(1.0), 1)
        d = by_token(r, peer)
        assert d.botctl("notify", "--severity", "info", "slowly").stdout == "slack: posted to #alerts-info\n"
        assert len(peer.requests) == 1


if __name__ == "__main__":
    rig.main(globals(), jobs=4)
