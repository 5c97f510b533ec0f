"""What judges messages before they run, with a real daemon: signatures, screens, floods."""
import base64
import hashlib
import hmac
import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
from rig import wait_for  # noqa: E402

KEY = "first key of thirty-two letters."
NEXT = "second key of thirty-two letters"
LINE = re.compile(r'^<4>event=(\w+) src_ip=(\S+) user="([^"]*)" sender="([^"]*)" queue="([^"]*)" reason="([^"]*)"$',
                  re.M)
LINES = 20      # SECURITY_LINES, a second


def sign(body, key=KEY, before=b""):
    return hmac.new(key.encode(), before + body.encode(), hashlib.sha256).hexdigest()


def world(r, keys="", more="", kind="spool", workers="1-2"):
    """A daemon with one queue, and put(name, body, **attributes)."""
    run = r.write("handler.sh", '#!/bin/sh\necho "$BOT_MESSAGE_ID $BOT_ATTEMPT" >> %s/runs\n' % r.dir, 0o755)
    text = "[Pool work]\nCommand=%s\nWorkers=%s\n[Queue jobs]\nMaxAttempts=3\nBacklogInterval=100ms\n" % (run, workers)
    if kind == "spool":
        text += "Type=spool\nPath={dir}/spool\n"
    else:
        redis = r.redis()
        text += "Type=redis\nAddress=%s\nKey=jobs\nMode=stream\n" % redis.socket
    text += keys
    d = r.daemon(text + more)
    d.text = text

    def put_file(name, body, **attributes):
        tmp = r.path("spool", "tmp", name)
        with open(tmp, "w") as f:
            f.write(json.dumps(attributes) + "\n" + body)
        os.rename(tmp, r.path("spool", "new", name + ".envelope"))

    def put_entry(name, body, **attributes):
        args = ["XADD", "jobs", "*", "body", body, "name", name]
        for k, v in attributes.items():
            args += [k, v]
        redis(*args)
    d.put = put_file if kind == "spool" else put_entry
    return d


def runs(r):
    try:
        with open(os.path.join(r.dir, "runs")) as f:
            return f.read().split("\n")[:-1]
    except OSError:
        return []


def events(d):
    """(name, sender, queue, reason) of each line."""
    return [(m[1], m[4], m[5], m[6]) for m in LINE.finditer(d.log())]


def dead(d, queue="jobs"):
    return [json.loads(line) for line in d.botctl("dead", "list", queue, "--json").stdout.splitlines()]


def reload(d, text):
    d.write(text)
    return d.botctl("reload", check=False)


VERIFY = "Sender=from\nVerify=hmac-sha256\nVerifyKeyFile={dir}/keys\n"


def check_signatures(r, kind):
    r.expect_log("event=message_auth_failed")
    r.write("keys", KEY + "\n", 0o600)
    d = world(r, VERIFY, kind=kind)
    body = '{"n":1}\n'
    raw = bytes.fromhex(sign(body))
    good = [sign(body), sign(body).upper(), "sha256=" + sign(body), base64.b64encode(raw).decode(),
            base64.urlsafe_b64encode(raw).decode().rstrip("=")]
    for i, s in enumerate(good):
        d.put("good%d" % i, body, signature=s, **{"from": "shop"})
    bad = {"none": {}, "wrong": {"signature": sign(body + " ")}, "foreign": {"signature": sign(body, NEXT)},
           "short": {"signature": sign(body)[:-2]}, "odd": {"signature": "x" * 64}}
    for name, attributes in bad.items():
        d.put(name, body, **attributes, **{"from": 'ev"e \n' + name})
    q = d.wait_queue("jobs", done=len(good), dead=len(bad))
    assert q["errors"] == {"unauthenticated": len(bad)} and q["retried"] == 0, q
    assert len(runs(r)) == len(good), runs(r)
    told = {sender: reason for name, sender, queue, reason in events(d)
            if (name, queue) == ("message_auth_failed", "jobs")}
    assert told == {"ev?e??none": "no signature", "ev?e??wrong": "wrong signature",
                    "ev?e??foreign": "wrong signature", "ev?e??short": "malformed signature",
                    "ev?e??odd": "malformed signature"}, told
    assert d.status()["security"]["message_auth_failed"] == len(bad)
    assert 'bot_operator_security_events_total{event="message_auth_failed"} %d\n' % len(bad) in d.get("/metrics")[1]
    letters = d.botctl("dead", "list", "jobs").stdout
    assert letters.count("unauthenticated") == len(bad), letters
    assert KEY not in d.log() and KEY not in d.botctl("show-config").stdout
    return d


def test_signatures_on_the_spool(r):
    check_signatures(r, "spool")


def test_signatures_on_redis(r):
    check_signatures(r, "redis")


def test_keys_change_with_a_reload(r):
    r.expect_log("event=message_auth_failed|VerifyKeyFile=|stays in force")
    r.write("keys", KEY + "\n", 0o600)
    d = world(r, VERIFY)
    d.put("new", "x", signature=sign("x", NEXT))
    d.wait_queue("jobs", dead=1)
    # Nothing in the configuration changes but what the file says.
    r.write("keys", KEY + "\n\n" + NEXT + "\r\n", 0o600)
    assert d.botctl("reload").returncode == 0
    d.put("new2", "x", signature=sign("x", NEXT))
    d.put("old", "x", signature=sign("x"))
    d.wait_queue("jobs", done=2)
    r.write("keys", NEXT, 0o600)
    d.botctl("reload")
    d.put("old2", "x", signature=sign("x"))
    d.wait_queue("jobs", dead=2)
    # With a file that is no good all stays as it was.
    for text in ("", "\n \n", "short\n"):
        r.write("keys", text, 0o600)
        p = d.botctl("reload", check=False)
        assert p.returncode != 0 and "VerifyKeyFile=" in p.stdout + p.stderr, (p.stdout, p.stderr)
    os.unlink(r.path("keys"))
    assert d.botctl("reload", check=False).returncode != 0
    d.put("new3", "x", signature=sign("x", NEXT))
    d.wait_queue("jobs", done=3)
    # The dead are all there, and come back when the key does.
    r.write("keys", KEY + "\n" + NEXT + "\n", 0o600)
    d.botctl("reload")
    d.botctl("dead", "redrive", "jobs", "--all")
    d.wait_queue("jobs", done=5, dead_backlog=0)


def test_attributes_are_signed_too(r):
    r.expect_log("event=message_auth_failed")
    r.write("keys", KEY, 0o600)
    d = world(r, VERIFY + "VerifyWith=from at\n")
    before = b"from=shop\nat=12\n"
    d.put("good", "x", signature=sign("x", before=before), at="12", **{"from": "shop"})
    d.put("other", "x", signature=sign("x", before=before), at="12", **{"from": "mallory"})
    d.put("without", "x", signature=sign("x", before=b"from=shop\n"), **{"from": "shop"})
    d.put("lines", "x", signature=sign("x", before=b"from=shop\nat=1\n2\n"), at="1\n2", **{"from": "shop"})
    d.wait_queue("jobs", done=1, dead=3)
    assert sorted(e[3] for e in events(d)) == [
        "an attribute of VerifyWith= has several lines", "an attribute of VerifyWith= is missing",
        "wrong signature"], events(d)


def test_lines_are_bounded_and_nothing_is_lost(r):
    """Thousands of forged messages: few lines, true counts, all in the dead letters."""
    n = 3000
    r.expect_log("event=message_auth_failed|more events message_auth_failed")
    r.write("keys", KEY, 0o600)
    d = world(r, VERIFY, kind="redis")
    for i in range(n):
        d.put("f%d" % i, "x", signature=sign("y"), **{"from": "mallory"})
    q = d.wait_queue("jobs", dead=n)
    assert q["done"] == 0 and not runs(r), q
    assert d.status()["security"]["message_auth_failed"] == n
    wait_for("the rest to be said", lambda: sum(
        int(x) for x in re.findall(r"<4>(\d+) more events message_auth_failed", d.log())) + len(events(d)) == n)
    said = d.log().count("more events message_auth_failed")
    # One line for each second that had too many, and no more than that.
    assert len(events(d)) <= LINES * (said + 1), (len(events(d)), said)
    assert said < len(events(d)) and "dead letters" not in d.log()
    assert d.queue("jobs")["dead_backlog"] == n or wait_for("the count", lambda: d.queue("jobs")["dead_backlog"] == n)


SCREENS = """
[Screen size]
MaxSize=1000
Action=dead-letter
[Screen depth]
MaxDepth=3
Action=dead-letter
[Screen words]
Queues=jo*
Pattern=(?i)<script|union\\s+select
Action=dead-letter
[Screen senders]
Senders=shop till-*
Action=log
[Screen trial]
Pattern=trial
Action=pass
"""


def test_screens(r):
    r.expect_log("event=message_suspicious")
    d = world(r, "Sender=.from.name\n", SCREENS)

    def body(what, sender="shop"):
        return json.dumps({"from": {"name": sender}, "what": what})
    good = ["select", "trial", "x" * 900, "[[[[[", "un\nion select"]
    for i, what in enumerate(good):
        d.put("good%d" % i, body(what))
    d.put("till", body("x", "till-7"))
    d.put("stranger", body("x", "mallory"))
    d.put("nobody", "{}")
    bad = {"size": body("x" * 1000), "depth": body([[["x"]]]), "words": body("<ScRiPt>"),
           "words2": body("UNION  select")}
    for name, text in bad.items():
        d.put(name, text)
    q = d.wait_queue("jobs", done=len(good) + 3, dead=len(bad))
    assert q["errors"] == {"suspicious": len(bad)}, q
    told = sorted(reason for name, sender, queue, reason in events(d) if name == "message_suspicious")
    assert told == ["screen depth: nested more deeply than MaxDepth=3", "screen senders: no sender",
                    "screen senders: not one of Senders=", "screen size: %d bytes, MaxSize=1000" % len(bad["size"]),
                    "screen words: Pattern= is in it", "screen words: Pattern= is in it"], told
    assert ("message_suspicious", "mallory", "jobs", "screen senders: not one of Senders=") in events(d)
    screens = d.status()["security"]["screens"]
    assert screens["trial"] == {"action": "pass", "looked": len(good) + 3, "suspicious": 1}, screens
    assert screens["senders"]["action"] == "log" and screens["words"]["suspicious"] == 2, screens
    letters = d.botctl("dead", "list", "jobs").stdout
    assert letters.count("suspicious") == len(bad), letters
    # A reload changes rules; what was counted stays.
    assert reload(d, d.text + "Sender=.from.name\n" + SCREENS.replace("MaxSize=1000", "MaxSize=5000")).returncode == 0
    d.botctl("dead", "redrive", "jobs", "--all")
    d.wait_queue("jobs", done=len(good) + 4, dead=2 * len(bad) - 1)
    assert d.status()["security"]["screens"]["words"]["suspicious"] == 4
    assert reload(d, d.text).returncode == 0
    assert d.status()["security"]["screens"] == {}
    d.botctl("dead", "redrive", "jobs", "--all")
    d.wait_queue("jobs", done=len(good) + 7, dead_backlog=0)


def test_a_hostile_body_does_not_burn_the_loop(r):
    """Exponential on one place; quadratic over all of them."""
    r.expect_log("event=message_suspicious")
    d = world(r, "", "[Screen bomb]\nPattern=(a+)+$\nAction=dead-letter\n"
                     "[Screen square]\nPattern=a*[bc]d\nAction=dead-letter\n")
    for i in range(8):
        d.put("bomb%d" % i, "a" * 65535 + "b")
    d.put("good", "baab")
    d.wait_queue("jobs", dead=8, done=1)
    assert {e[3] for e in events(d)} == {"screen bomb: Pattern= takes too many steps on it"}, events(d)


def test_patterns_share_the_time_of_a_turn(r):
    """Many that take long come at once: the loop is not theirs, and none is lost or judged less."""
    n = 6
    r.expect_log("event=message_suspicious")
    d = world(r, "Prefetch=20\n", "[Screen square]\nPattern=(?:[ac]x?)*+[de]\nAction=dead-letter\n", kind="redis")
    d.botctl("pause", "jobs")
    for i in range(n):
        d.put("square%d" % i, "a" * 65536)
    d.put("good", "x")
    d.botctl("resume", "jobs")
    q = d.wait_queue("jobs", dead=n, done=1)
    assert q["deferred"] > 0 and q["errors"] == {"suspicious": n}, q
    assert [line.split()[1] for line in runs(r)] == ["1"], runs(r)
    assert len(events(d)) == n, events(d)


def test_repeats(r):
    r.expect_log("event=message_suspicious")
    d = world(r, "", "[Screen again]\nRepeats=3/1h\nAction=dead-letter\n")
    for i in range(5):
        d.put("same%d" % i, "same")
        d.put("other%d" % i, "other %d" % i)
    d.wait_queue("jobs", done=8, dead=2)
    assert sorted(e[3] for e in events(d)) == ["screen again: the %d. with the same body, Repeats=3/1h" % i
                                               for i in (4, 5)], events(d)


def check_flood_delay(r, kind):
    """Over the limit: not now, but all of them, and none has used up an attempt."""
    n = 30
    r.expect_log("event=message_flood|more events message_flood")
    d = world(r, "Sender=from\nSenderLimit=20/s\nSenderBurst=5\nOverLimit=delay\n", kind=kind)
    for i in range(n):
        d.put("loud%d" % i, "x", **{"from": "loud"})
        if i % 10 == 0:
            d.put("quiet%d" % i, "x", **{"from": "quiet"})
    q = d.wait_queue("jobs", done=n + 3)
    assert q["dead"] == 0 and q["deferred"] > 0 and q["retried"] == q["deferred"], q
    assert q["errors"] == {}, q
    assert all(line.endswith(" 1") for line in runs(r)) and len(set(runs(r))) == n + 3, runs(r)
    assert {e[:3] for e in events(d)} == {("message_flood", "loud", "jobs")}, events(d)
    assert d.status()["security"]["message_flood"] == q["deferred"]


def test_floods_are_delayed_on_the_spool(r):
    check_flood_delay(r, "spool")


def test_floods_are_delayed_on_redis(r):
    check_flood_delay(r, "redis")


def test_floods_are_buried_or_logged(r):
    r.expect_log("event=message_flood")
    keys = "Sender=from\nSenderLimit=1/h\nSenderBurst=2\nOverLimit=%s\n"
    d = world(r, keys % "dead-letter")
    for i in range(5):
        d.put("a%d" % i, "x", **{"from": "loud"})
    q = d.wait_queue("jobs", done=2, dead=3)
    assert q["errors"] == {"flood": 3}, q
    assert d.botctl("dead", "list", "jobs").stdout.count("flood") == 3
    # The senders are remembered over a reload.
    assert reload(d, d.text.replace("dead-letter", "log")).returncode == 0
    d.put("b", "x", **{"from": "loud"})
    d.put("c", "x", **{"from": "other"})
    d.wait_queue("jobs", done=4)
    assert d.status()["security"]["message_flood"] == 4
    assert events(d)[-1][:3] == ("message_flood", "loud", "jobs")


def test_alert_rules_know_the_figures(r):
    r.expect_log("event=message_auth_failed|alert forged")
    r.write("keys", KEY, 0o600)
    d = world(r, VERIFY, "[Alert forged]\nWhen=security.message_auth_failed_per_minute > 0\nFor=1s\n")
    assert not [a for a in d.status()["alerts"] if a["name"] == "forged"]
    d.put("x", "x")
    wait_for("the alert", lambda: [a for a in d.status()["alerts"] if a["name"] == "forged"])
    assert "message_auth_failed 1" in d.botctl("status").stdout, d.botctl("status").stdout


def test_mistakes_are_told(r):
    r.write("keys", KEY, 0o600)
    r.write("empty", "", 0o600)
    base = "[Pool w]\nCommand=/bin/true\n[Queue jobs]\nType=spool\nPath={dir}/spool\n"
    cases = {
        "Verify=hmac-sha256": "Verify= needs VerifyKeyFile=",
        "Verify=hmac-sha256\nVerifyKeyFile={dir}/none": "VerifyKeyFile=",
        "Verify=hmac-sha256\nVerifyKeyFile={dir}/empty": "VerifyKeyFile=",
        "VerifyKeyFile={dir}/keys": "VerifyKeyFile= does nothing without Verify=hmac-sha256",
        "Verify=hmac-sha1": "hmac-sha256",
        "SenderLimit=5/s": "SenderLimit= does nothing without Sender=",
        "OverLimit=log": "OverLimit= does nothing without SenderLimit=",
        "[Screen s]\nAction=log": "no rule",
        "[Screen s]\nPattern=a(b": "at byte 3: missing closing parenthesis",
        "[Screen s]\nPattern=(*UTF)a": "at byte",
        "[Screen s]\nRepeats=5": "5/10min",
        "[Screen s]\nRepeats=0/1s": "between 1 and",
        "[Screen s]\nRepeats=5/0": "over 0",
        "[Screen s]\nMaxSize=1\nQueues=jbos": "there is no [Queue jbos]",
        "[Screen s]\nSenders=a": "[Queue jobs] has no Sender=",
        "[Screen s]\nMaxSize=1\nAction=drop": "dead-letter",
    }
    for text, want in cases.items():
        conf = r.write("bad.conf", (base + text + "\n").replace("{dir}", r.dir))
        p = rig.subprocess.run([os.path.join(rig.BUILD, "bot-operatord"), "--config", conf, "--check"],
                               stderr=rig.subprocess.PIPE, universal_newlines=True)
        assert p.returncode == 78 and want in p.stderr and re.search(r"bad\.conf:\d+: ", p.stderr), (text, p.stderr)


if __name__ == "__main__":
    rig.main(globals())
