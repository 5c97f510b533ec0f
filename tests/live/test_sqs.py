"""The daemon against npm's fauxqs: plain HTTP, no signatures.

One emulator for all tests; each has queues of its own name."""
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import aws_peer  # noqa: E402
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
[Queue %(name)s]
Type=sqs
Region=eu-west-1
Endpoint=%(endpoint)s
Pool=work
MaxAttempts=3
Backoff=1s-2s
BacklogInterval=200ms
"""
ENV = aws_peer.clean_env(AWS_ACCESS_KEY_ID="AKIDTEST", AWS_SECRET_ACCESS_KEY="s3cr3t-of-the-test")


def emulator():
    return rig.shared("sqs", lambda s: s.sqs())


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


def queue(s, name, section="jobs", **keys):
    """Name=NAME unless keys say otherwise."""
    if "QueueUrl" not in keys:
        keys.setdefault("Name", name)
    keys.setdefault("Endpoint", s.endpoint)
    text = QUEUE % {"name": section, "endpoint": keys.pop("Endpoint")}
    for k in list(keys):
        # A key that is set twice would be an error.
        text = "".join(line for line in text.splitlines(True) if not line.startswith(k + "="))
    return text + "".join("%s=%s\n" % kv for kv in keys.items())


def start(r, text, **kw):
    kw["env"] = dict(ENV, **kw.get("env", {}))
    return r.daemon(text, **kw)


def out(r):
    try:
        with open(os.path.join(r.dir, "out")) as f:
            return f.read().split("\n")[:-1]
    except OSError:
        return []


def error_of(d, name="jobs"):
    return (d.queue(name).get("error") or {}).get("code")


def wait_counts(s, queue, want):
    wait_for("%s to have %s (waiting, in flight, delayed)" % (queue, want), lambda: s.counts(queue) == want)


def wait_gone(s, *queues):
    for q in queues:
        wait_counts(s, q, (0, 0, 0))


def dead_items(d):
    lines = d.botctl("--json", "dead", "list", "jobs").stdout.splitlines()
    assert json.loads(lines[-1])["ok"] is True, lines
    return [json.loads(line)["item"] for line in lines[:-1]]


# ---- the straight way ----

def test_done_retried_and_dead(r):
    s = emulator()
    s.create_queue("mixed", dead="mixed-dead")
    r.expect_log("dead letters")
    d = start(r, handler(r) + queue(s, "mixed"))
    s.send_batch("mixed", ["fine %d" % i for i in range(30)] + ["once", "never", "dead"])
    q = d.wait_queue("jobs", done=31, dead=2)
    assert q["errors"]["external_api"] == 3, q
    assert q["retried"] == 3, q
    assert sorted(out(r)) == sorted(["fine %d" % i for i in range(30)] + ["once"])
    wait_gone(s, "mixed")
    dead = {m["Body"]: m for m in s.look("mixed-dead")}
    assert sorted(dead) == ["dead", "never"], dead
    a = {k: v.get("StringValue") for k, v in dead["never"]["MessageAttributes"].items()}
    assert a["bot-error-type"] == "external_api" and a["bot-attempts"] == "3" and a["bot-queue"] == "jobs", a
    assert a["bot-origin-id"] and a["bot-died"], a
    a = dead["dead"]["MessageAttributes"]
    assert a["bot-attempts"]["StringValue"] == "1" and "no such customer" in a["bot-detail"]["StringValue"], a
    assert d.stop() == 0


def test_status_tells_where_and_how(r):
    s = emulator()
    url = s.create_queue("status", dead="status-dead")
    d = start(r, handler(r) + queue(s, "status"))
    s.send("status", "fine")
    q = d.wait_queue("jobs", done=1)
    assert q["endpoint"] == s.endpoint and q["queue_url"] == url and q["region"] == "eu-west-1", q
    assert q["fifo"] is False and "environment" in q["credentials"], q
    assert 1 <= q["receivers"] <= 10 and q["requests"] >= 3 and q["throttled"] == 0, q
    assert q["clock_offset_seconds"] == 0, q
    wait_for("settlements to be answered", lambda: d.queue("jobs")["settlements_unanswered"] == 0)
    wait_for("what is not visible", lambda: d.queue("jobs")["not_visible"] == 0)
    text = d.get("/.well-known/engine-status")[1] + d.log()
    assert "AKIDTEST" not in text and "s3cr3t" not in text, text


def test_queue_by_url(r):
    s = emulator()
    url = s.create_queue("by-url", dead="by-url-dead")
    d = start(r, handler(r) + queue(s, "by-url", QueueUrl=url))
    s.send("by-url", "fine")
    assert d.wait_queue("jobs", done=1)["queue_url"] == url


def test_region_and_endpoint_of_the_environment(r):
    s = emulator()
    s.create_queue("by-env", dead="by-env-dead")
    text = "".join(line for line in queue(s, "by-env").splitlines(True)
                   if not line.startswith(("Region=", "Endpoint=")))
    d = start(r, handler(r) + text, env={"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL_SQS": s.endpoint})
    s.send("by-env", "fine")
    q = d.wait_queue("jobs", done=1)
    assert q["endpoint"] == s.endpoint and q["region"] == "eu-west-1", q


def test_attributes_reach_the_handler(r):
    s = emulator()
    s.create_queue("attributes", dead="attributes-dead")
    seen = r.path("seen")
    d = start(r, POOL % r.write("h.sh", "#!/bin/sh\nprintf '%%s' \"$BOT_ATTRIBUTES\" > %s.new\nmv %s.new %s\n" % (
        seen, seen, seen), 0o755) + queue(s, "attributes"))
    i = s.send("attributes", "x", attributes={
        "text": "z\u00fcrich", "whole": 7, "real": 1.5, "odd": ("Number", "1" * 38), "custom": ("Number.float", "2.25"),
        "kind": ("String.json", "{}"), "bytes": b"\x00\x01\x02\xff"})
    d.wait_queue("jobs", done=1)
    with open(seen) as f:
        a = json.load(f)
    want = {"text": "z\u00fcrich", "whole": 7, "real": 1.5, "custom": 2.25, "kind": "{}", "bytes": "AAEC/w=="}
    assert {k: a.get(k) for k in want} == want, a
    assert str(a["odd"]) in ("1" * 38, "1.1111111111111112e+37"), a
    assert int(a["sqs-ApproximateReceiveCount"]) == 1 and int(a["sqs-SentTimestamp"]) > 1e12, a
    assert a["sqs-SenderId"] == "000000000000" and int(a["sqs-ApproximateFirstReceiveTimestamp"]) > 1e12, a
    assert i in json.dumps(a) or i in d.botctl("status", "--json").stdout or a.get("id") is None, a


def test_enqueue_with_attributes(r):
    s = emulator()
    s.create_queue("enqueue", dead="enqueue-dead")
    d = start(r, handler(r) + queue(s, "enqueue"))
    d.botctl("pause", "jobs")
    d.botctl("enqueue", "jobs", "--body", "hello", "--attribute", "colour=blue")
    wait_for("it to be there", lambda: s.counts("enqueue")[0] == 1)
    m = s.look("enqueue")[0]
    assert m["Body"] == "hello" and m["MessageAttributes"]["colour"]["StringValue"] == "blue", m
    d.botctl("resume", "jobs")
    d.wait_queue("jobs", done=1)


def test_backlog_counts(r):
    s = emulator()
    s.create_queue("backlog", dead="backlog-dead")
    d = start(r, handler(r, "while [ -e %s/hold ]; do sleep 0.05; done" % r.dir) +
              queue(s, "backlog", Prefetch="4"))
    d.botctl("pause", "jobs")
    s.send_batch("backlog", ["m%d" % i for i in range(25)])
    d.wait_queue("jobs", backlog=25, not_visible=0)
    s.send("backlog", "later", delay=60)
    d.wait_queue("jobs", delayed_backlog=1)
    s.send_batch("backlog-dead", ["old %d" % i for i in range(3)])
    d.wait_queue("jobs", dead_backlog=3)
    r.write("hold", "")
    d.botctl("resume", "jobs")
    # Two run, two wait here; no more is taken than Prefetch= allows.
    d.wait_queue("jobs", in_flight=4, backlog=21, not_visible=4)
    # The long poll that was open when it was paused brought some, which went back.
    q = d.queue("jobs")
    assert q["received"] - q["released"] == 4, q
    os.unlink(r.path("hold"))
    d.wait_queue("jobs", done=25, backlog=0, not_visible=0, delayed_backlog=1)


def test_two_thousand_in_batches(r):
    """What is settled goes in tens, and empty answers do not spin."""
    s = emulator()
    s.create_queue("many", dead="many-dead")
    s.send_batch("many", ["x" * 200] * 2000)
    d = start(r, MODULE + queue(s, "many", Receivers="1-4", WaitTime="1s"))
    begin = time.monotonic()
    q = d.wait_queue("jobs", 60, done=2000)
    took = time.monotonic() - begin
    assert q["received"] == 2000 and q["settle_errors"] == 0, q
    assert q["receivers"] > 1, "answers came full, and it did not receive on more connections: %s" % q["receivers"]
    # 200 receives and 200 deletes, and what was not quite full.
    assert q["requests"] < 900, q["requests"]
    wait_gone(s, "many")
    before = d.queue("jobs")["requests"]
    time.sleep(1)
    # Long polls stand open meanwhile; the backlog is looked at five times a second.
    assert d.queue("jobs")["requests"] - before < 25, d.queue("jobs")
    print("# %.0f messages a second" % (2000 / took))
    wait_for("receivers to become fewer", lambda: d.queue("jobs")["receivers"] == 1)


# ---- dead letters ----

def test_dead_letters_redriven_and_purged(r):
    s = emulator()
    s.create_queue("redrive", dead="redrive-dead")
    r.expect_log("dead letters")
    gate = r.path("healed")
    d = start(r, handler(r, "[ -e %s ] && { echo \"healed $body $BOT_ATTEMPT\" >> %s/out; exit 0; }" % (gate, r.dir)) +
              queue(s, "redrive"))
    for i in range(6):
        s.send("redrive", "dead %d" % i, attributes={"colour": "blue", "n": i})
    d.wait_queue("jobs", dead=6)
    items = dead_items(d)
    assert len(items) == 6 and all(i["error_type"] == "internal" or i["error_type"] for i in items), items
    assert "dead 0" in "".join(d.botctl("dead", "show", "jobs", i["id"]).stdout for i in items)
    # Listing takes them from nobody for longer than it lasts.
    wait_counts(s, "redrive-dead", (6, 0, 0))
    with open(gate, "w"):
        pass
    d.botctl("dead", "redrive", "jobs", items[0]["id"])
    d.wait_queue("jobs", done=1)
    wait_counts(s, "redrive-dead", (5, 0, 0))
    d.botctl("dead", "purge", "jobs", dead_items(d)[0]["id"])
    wait_counts(s, "redrive-dead", (4, 0, 0))
    assert d.queue("jobs")["done"] == 1
    d.botctl("dead", "redrive", "jobs", "--all")
    d.wait_queue("jobs", done=5)
    wait_gone(s, "redrive", "redrive-dead")
    ran = out(r)
    assert len(ran) == 5 and all(x.startswith("healed dead ") and x.endswith(" 1") for x in ran), ran
    assert len(set(ran)) == 5, "one was redriven twice: %s" % ran


def test_redriven_ones_lose_what_burying_added(r):
    """Attributes as the producer sent them, none of ours."""
    s = emulator()
    s.create_queue("clean", dead="clean-dead")
    r.expect_log("dead letters")
    d = start(r, handler(r) + queue(s, "clean"))
    s.send("clean", "dead", attributes={"colour": "blue", "raw": b"\x00\xff"})
    d.wait_queue("jobs", dead=1)
    assert "bot-error-type" in s.look("clean-dead")[0]["MessageAttributes"]
    d.botctl("pause", "jobs")
    d.botctl("dead", "redrive", "jobs", dead_items(d)[0]["id"])
    wait_for("it to be back", lambda: s.counts("clean")[0] == 1)
    a = s.look("clean")[0]["MessageAttributes"]
    assert a == {"colour": {"DataType": "String", "StringValue": "blue"},
                 "raw": {"DataType": "Binary", "BinaryValue": "AP8="}}, a
    wait_gone(s, "clean-dead")


def test_purge_all(r):
    s = emulator()
    s.create_queue("purge", dead="purge-dead")
    s.send_batch("purge-dead", ["old %d" % i for i in range(30)])
    d = start(r, handler(r) + queue(s, "purge"))
    d.wait_queue("jobs", dead_backlog=30)
    p = d.botctl("dead", "purge", "jobs", "--all", "--dry-run")
    assert "would be" in p.stdout, p.stdout
    assert sum(s.counts("purge-dead")) == 30
    d.botctl("dead", "purge", "jobs", "--all")
    wait_gone(s, "purge-dead")
    d.wait_queue("jobs", dead_backlog=0)


def test_foreign_dead_letters_are_shown_and_redriven(r):
    """What the redrive policy or another consumer put there has none of our attributes."""
    s = emulator()
    s.create_queue("foreign", dead="foreign-dead")
    s.send("foreign-dead", "from elsewhere", attributes={"colour": "red"})
    d = start(r, handler(r) + queue(s, "foreign"))
    items = dead_items(d)
    assert len(items) == 1, items
    assert "from elsewhere" in d.botctl("dead", "show", "jobs", items[0]["id"]).stdout
    d.botctl("dead", "redrive", "jobs", items[0]["id"])
    d.wait_queue("jobs", done=1)
    assert out(r) == ["from elsewhere"]


def dead_letter_key(r, name, value, target):
    s = emulator()
    s.create_queue(name)
    s.create_queue(target)
    r.expect_log("dead letters")
    d = start(r, handler(r) + queue(s, name, DeadLetter=value(s)))
    s.send(name, "dead")
    d.wait_queue("jobs", dead=1)
    assert [m["Body"] for m in s.look(target)] == ["dead"]


def test_dead_letter_by_name(r):
    dead_letter_key(r, "dl-name", lambda s: "dl-name-target", "dl-name-target")


def test_dead_letter_by_url(r):
    dead_letter_key(r, "dl-url", lambda s: s.url("dl-url-target"), "dl-url-target")


def test_dead_letter_by_the_broker(r):
    """Its redrive policy moves them: we only give back."""
    s = emulator()
    s.create_queue("dl-broker", dead="dl-broker-dead", receives=3)
    r.expect_log("dead letters")
    d = start(r, handler(r) + queue(s, "dl-broker", DeadLetter="broker"))
    s.send("dl-broker", "never", attributes={"colour": "blue"})
    s.send("dl-broker", "fine")
    wait_for("it to be moved", lambda: s.counts("dl-broker-dead")[0] == 1)
    wait_gone(s, "dl-broker")
    m = s.look("dl-broker-dead")[0]
    assert m["Body"] == "never" and sorted(m["MessageAttributes"]) == ["colour"], m
    assert d.queue("jobs")["errors"]["external_api"] == 3, d.queue("jobs")


def test_no_dead_letter_is_named(r):
    s = emulator()
    s.create_queue("no-dead")
    r.expect_log("jobs")
    d = start(r, handler(r) + queue(s, "no-dead"), wait="status")
    s.send("no-dead", "fine")
    wait_for("the error", lambda: error_of(d) == "no_dead_letter")
    e = d.queue("jobs")["error"]
    assert "DeadLetter=" in e["text"] and "RedrivePolicy" in e["text"], e
    assert s.counts("no-dead") == (1, 0, 0), "it consumes though the dead have nowhere to go"
    s.create_queue("no-dead-dead")
    s.set_attributes("no-dead", RedrivePolicy=json.dumps({"deadLetterTargetArn": s.arn("no-dead-dead"),
                                                          "maxReceiveCount": 10}))
    d.wait_queue("jobs", connected=True)
    d.wait_queue("jobs", done=1)


def room(r, name, have, want):
    """Ours are as many as the limit of ten leaves room for, in order of importance."""
    s = emulator()
    s.create_queue(name, dead=name + "-dead")
    r.expect_log("dead letters")
    d = start(r, handler(r) + queue(s, name))
    mine = {"a%d" % i: "v%d" % i for i in range(have)}
    s.send(name, "dead", attributes=mine)
    d.wait_queue("jobs", dead=1)
    got = s.look(name + "-dead")[0]["MessageAttributes"]
    assert {k: got[k]["StringValue"] for k in mine} == mine, got
    assert sorted(set(got) - set(mine)) == sorted(want), sorted(got)
    assert len(dead_items(d)) == 1
    wait_gone(s, name)


def test_no_room_for_our_attributes(r):
    room(r, "room-none", 10, [])


def test_room_for_some_of_our_attributes(r):
    room(r, "room-some", 7, ["bot-error-type", "bot-detail", "bot-attempts"])


def test_maxattempts_is_never_passed_without_a_run(r):
    """Received more often than MaxAttempts= by others: it runs, as the last attempt."""
    s = emulator()
    s.create_queue("worn", dead="worn-dead")
    s.send("worn", "fine")
    for _ in range(5):
        s.look("worn")
    d = start(r, handler(r, "echo \"attempt $BOT_ATTEMPT\" >> %s/out" % r.dir) + queue(s, "worn"))
    d.wait_queue("jobs", done=1)
    assert out(r) == ["attempt 3", "fine"], out(r)
    assert d.queue("jobs")["dead"] == 0


# ---- FIFO ----

def in_order(ran, groups, n):
    for g in groups:
        mine = [x for x in ran if x.startswith(g + ".")]
        assert mine == ["%s.%d" % (g, i) for i in range(n)], (g, mine)


def test_fifo_order(r):
    s = emulator()
    name = "order.fifo"
    s.create_queue(name, dead="order-dead.fifo")
    groups = ["a", "b", "c", "d"]
    for i in range(12):
        for g in groups:
            s.send_batch(name, ["%s.%d" % (g, i)], group=g)
    # Of one group only one runs at a time: the lock would be there.
    d = start(r, handler(r, """group=${body%%.*}
mkdir %s/lock.$group || { echo "two at a time" >> %s/out; exit 0; }
sleep 0.01
rmdir %s/lock.$group""" % (r.dir, r.dir, r.dir)).replace("Workers=1-2", "Workers=4-4") + queue(s, name))
    q = d.wait_queue("jobs", done=48)
    assert q["fifo"] is True, q
    ran = out(r)
    assert "two at a time" not in ran, ran
    in_order(ran, groups, 12)
    wait_gone(s, name)


def test_invariant_10_fifo_order_after_a_failure(r):
    """b.3 fails twice: nothing of b runs before it is done; a goes on."""
    s = emulator()
    name = "fail.fifo"
    s.create_queue(name, dead="fail-dead.fifo")
    for i in range(8):
        for g in ("a", "b"):
            s.send_batch(name, ["%s.%d" % (g, i)], group=g)
    d = start(r, handler(r, """case $body in
b.3) echo try >> %s/tries; [ "$(wc -l < %s/tries)" -ge 3 ] || exit 75 ;;
esac""" % (r.dir, r.dir)) + queue(s, name))
    d.wait_queue("jobs", done=16)
    in_order(out(r), ("a", "b"), 8)
    assert d.queue("jobs")["retried"] >= 2 and d.queue("jobs")["dead"] == 0, d.queue("jobs")
    ran = out(r)
    assert ran.index("a.7") < ran.index("b.3"), "one group waited for another: %s" % ran
    wait_gone(s, name)


def test_fifo_dead_letter_keeps_group_and_lets_the_group_go_on(r):
    s = emulator()
    name = "fdead.fifo"
    s.create_queue(name, dead="fdead-dead.fifo")
    r.expect_log("dead letters")
    gate = r.path("healed")
    d = start(r, handler(r, "[ -e %s ] && { echo \"healed $body\" >> %s/out; exit 0; }" % (gate, r.dir)) + queue(s, name))
    s.send_batch(name, ["g.0", "dead", "g.1"], group="g")
    d.wait_queue("jobs", done=2, dead=1)
    assert out(r) == ["g.0", "g.1"], out(r)
    m = s.look("fdead-dead.fifo")[0]
    assert m["Attributes"]["MessageGroupId"] == "g", m
    assert m["Attributes"]["MessageDeduplicationId"], m
    with open(gate, "w"):
        pass
    d.botctl("dead", "redrive", "jobs", dead_items(d)[0]["id"])
    # Within five minutes of its first sending: it must not be taken for a duplicate.
    d.wait_queue("jobs", done=3)
    assert out(r)[-1] == "healed dead", out(r)
    wait_gone(s, name, "fdead-dead.fifo")


def test_fair_queues_are_not_serialised(r):
    """A MessageGroupId on a standard queue promises no order."""
    s = emulator()
    s.create_queue("fair", dead="fair-dead")
    s.send_batch("fair", ["m%d" % i for i in range(4)], group="same")
    both = r.path("both")
    d = start(r, handler(r, """touch %s/at.$$
i=0; while [ "$(ls %s | grep -c '^at')" -lt 2 ] && [ $i -lt 100 ]; do sleep 0.05; i=$((i+1)); done
[ $i -lt 100 ] && touch %s""" % (r.dir, r.dir, both)).replace("Workers=1-2", "Workers=2-2") + queue(s, "fair"))
    d.wait_queue("jobs", done=4)
    assert os.path.exists(both), "one at a time"


# ---- leases ----

def test_invariant_5_sqs_leases_of_running_and_waiting(r):
    """Lease=2s, one worker that takes 1.2 s for each of five: nobody gets one twice."""
    s = emulator()
    s.create_queue("leases", dead="leases-dead")
    s.send_batch("leases", ["m%d" % i for i in range(4)] + ["slow"])
    d = start(r, handler(r, "sleep 1.2; [ $body = slow ] && sleep 3").replace("Workers=1-2", "Workers=1-1") +
              queue(s, "leases", Lease="2s", Prefetch="5"))
    d.wait_queue("jobs", in_flight=5)
    # Another consumer that would take whatever becomes visible.
    stolen = []
    stop = threading.Event()

    def rival():
        while not stop.is_set():
            stolen.extend(m["Body"] for m in s.receive("leases", 10, wait=1))
    t = threading.Thread(target=rival)
    t.start()
    try:
        q = d.wait_queue("jobs", 30, done=5)
    finally:
        stop.set()
        t.join()
    assert stolen == [], stolen
    assert sorted(out(r)) == ["m0", "m1", "m2", "m3", "slow"]
    assert q["leases_extended"] >= 8 and q["leases_lost"] == 0 and q["received"] == 5, q
    wait_gone(s, "leases")


def test_visibilitytimeout_differs_from_lease(r):
    s = emulator()
    s.create_queue("visibility", dead="visibility-dead")
    r.expect_log("lease|killed|signal")
    d = start(r, handler(r, "sleep 60") + queue(s, "visibility", VisibilityTimeout="3s"))
    s.send("visibility", "x")
    d.wait_queue("jobs", running=1)
    d.kill()
    begin = time.monotonic()
    wait_for("its end", lambda: s.receive("visibility", wait=1))
    assert time.monotonic() - begin < 10, "that is not the 3 s of VisibilityTimeout="


# ---- leaving and coming back ----

def test_stop_under_load_loses_nothing(r):
    s = emulator()
    s.create_queue("stop", dead="stop-dead")
    n = 200
    s.send_batch("stop", ["m%d" % i for i in range(n)])
    text = handler(r) + queue(s, "stop", Prefetch="40", Lease="60s", Receivers="2-4")
    rounds = 0
    while len(set(out(r))) < n and rounds < 20:
        d = start(r, text, name="round%d" % rounds)
        want = min(n, len(out(r)) + 40)
        wait_for("progress", lambda: len(out(r)) >= want)
        begin = time.monotonic()
        assert d.stop() == 0
        assert time.monotonic() - begin < 3, "an orderly stop waits for nobody, least of all for a long poll"
        assert s.counts("stop")[1] == 0, "some were not given back: %s" % (s.counts("stop"),)
        rounds += 1
    assert rounds > 2
    ran = out(r)
    assert sorted(set(ran)) == sorted("m%d" % i for i in range(n))
    assert len(ran) == n, "%d ran twice at an orderly stop" % (len(ran) - n)
    wait_gone(s, "stop", "stop-dead")


def test_no_polling_after_sigterm(r):
    """What a stop gives back must not be taken again by the one that stops."""
    s = emulator()
    s.create_queue("sigterm", dead="sigterm-dead")
    d = start(r, handler(r, "sleep 2") + queue(s, "sigterm", Prefetch="10"))
    s.send_batch("sigterm", ["m%d" % i for i in range(10)])
    d.wait_queue("jobs", in_flight=10, running=2)
    d.signal(signal.SIGTERM)
    # The two that run may end; the eight come back at once.
    wait_for("the others to be given back", lambda: s.counts("sigterm")[0] == 8, 1.9)
    received = {m["MessageId"]: int(m["Attributes"]["ApproximateReceiveCount"]) for m in s.receive("sigterm", 10)}
    assert len(received) == 8 and set(received.values()) == {2}, received
    assert d.wait() == 0
    assert len(out(r)) == 2


def test_restart_takes_over_after_a_crash(r):
    s = emulator()
    s.create_queue("crash", dead="crash-dead")
    s.send_batch("crash", ["m%d" % i for i in range(20)])
    text = handler(r, "sleep 0.05; [ -e %s ] || sleep 30" % r.path("go")) + queue(s, "crash", Lease="2s", Prefetch="20")
    a = start(r, text, name="a")
    a.wait_queue("jobs", in_flight=20)
    a.kill()
    r.write("go", "")
    b = start(r, text, name="b")
    b.wait_queue("jobs", done=20)
    assert sorted(out(r)) == sorted("m%d" % i for i in range(20))
    wait_gone(s, "crash", "crash-dead")


def test_queue_deleted_while_consuming(r):
    s = emulator()
    s.create_queue("deleted", dead="deleted-dead")
    r.expect_log("jobs")
    d = start(r, handler(r) + queue(s, "deleted"))
    s.send("deleted", "before")
    d.wait_queue("jobs", done=1)
    s.delete_queue("deleted")
    wait_for("the error", lambda: error_of(d) == "QueueDoesNotExist")
    q = d.queue("jobs")
    assert q["error"]["class"] == "rejected" and not q["connected"], q
    wait_for("degraded", lambda: d.status()["status"] == "degraded")
    assert d.get("/.well-known/engine-status")[0] == 200
    s.create_queue("deleted", dead="deleted-dead")
    d.wait_queue("jobs", connected=True)
    s.send("deleted", "after")
    d.wait_queue("jobs", done=2)


def test_service_goes_and_comes(r):
    """An emulator of its own, which is stopped and goes on."""
    s = r.sqs()
    s.create_queue("jobs", dead="jobs-dead")
    r.expect_log("jobs")
    d = start(r, handler(r) + queue(s, "jobs", Lease="5s", WaitTime="1s", ResponseTimeout="1s", ConnectTimeout="1s"))
    s.send_batch("jobs", ["a%d" % i for i in range(20)])
    d.wait_queue("jobs", done=20)
    s.signal(signal.SIGSTOP)
    try:
        wait_for("the silence to be named", lambda: error_of(d) in ("response_timeout", "connect_timeout"))
    finally:
        s.signal(signal.SIGCONT)
    d.wait_queue("jobs", connected=True)
    s.send_batch("jobs", ["b%d" % i for i in range(20)])
    wait_for("the others", lambda: len(set(out(r))) == 40)
    wait_gone(s, "jobs")
    s.kill()
    wait_for("the loss to be named", lambda: error_of(d) == "ECONNREFUSED")


def test_invariant_3_a_hung_endpoint_delays_nobody_else(r):
    """One endpoint accepts and never answers; two good queues, of SQS and spool, go on."""
    s = emulator()
    s.create_queue("good", dead="good-dead")
    r.expect_log("hung")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        kept = []

        def accept():
            try:
                while True:
                    kept.append(listener.accept()[0])
            except OSError:
                pass
        threading.Thread(target=accept, daemon=True).start()
        d = start(r, MODULE + queue(s, "good") + queue(
            s, "good", section="hung", Endpoint="http://127.0.0.1:%d" % listener.getsockname()[1],
            ResponseTimeout="1s") + "[Queue spool]\nType=spool\nPath={dir}/spool\nPool=work\n")
        s.send_batch("good", ["m%d" % i for i in range(1000)])
        d.botctl("enqueue", "spool", "--body", "x")
        d.wait_queue("jobs", 40, done=1000)
        d.wait_queue("spool", done=1)
        wait_for("the silence to be named", lambda: error_of(d, "hung") == "response_timeout")
        d.check_turns()
        # And a stop does not wait for it.
        begin = time.monotonic()
        assert d.stop() == 0
        assert time.monotonic() - begin < 6
        for c in kept:
            c.close()


# ---- configuration ----

def check(r, text):
    path = r.write("check.conf", "[Pool work]\nCommand=/bin/true\n" + text)
    p = subprocess.run([os.path.join(rig.BUILD, "bot-operatord"), "--config", path, "--check"], env=dict(
        os.environ, **ENV), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=20)
    return p.returncode, p.stdout


def test_invariant_9_sqs_keys_are_checked(r):
    good = "[Queue q]\nType=sqs\nRegion=eu-west-1\n"
    assert check(r, good + "Name=jobs\n")[0] == 0, check(r, good + "Name=jobs\n")
    for keys, say in (
            ("", "Name="),
            ("Name=jobs\nQueueUrl=https://sqs.eu-west-1.amazonaws.com/123456789012/jobs\n", "QueueUrl="),
            ("Name=jobs\nReceivers=0-4\n", "Receivers="),
            ("Name=jobs\nReceivers=1-1000\n", "Receivers="),
            ("Name=jobs\nReceivers=4-2\n", "Receivers="),
            ("Name=jobs\nWaitTime=21s\n", "WaitTime="),
            ("Name=jobs\nVisibilityTimeout=13h\n", "VisibilityTimeout="),
            ("Name=jobs\nVisibilityTimeout=10ms\n", "VisibilityTimeout="),
            ("Name=jobs\nEndpoint=ftp://x\n", "Endpoint="),
            ("QueueUrl=jobs\n", "QueueUrl="),
            ("QueueUrl=https://sqs.eu-west-1.amazonaws.com/123456789012/jobs\nAccountId=123456789012\n", "AccountId="),
            ("Name=jobs\nReciever=1\n", "Receivers"),
            ("Name=jobs\nDeadLetter=jobs\n", "DeadLetter="),
            ("Name=jobs.fifo\nDeadLetter=jobs-dead\n", "DeadLetter=")):
        status, text = check(r, good + keys)
        assert status != 0 and say in text and "check.conf:" in text, (keys, status, text)


if __name__ == "__main__":
    rig.main(globals())
