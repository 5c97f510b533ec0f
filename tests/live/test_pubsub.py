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


def test_attributes_reach_the_handler(r):
    p = server()
    p.create("attributes", dead="attributes-dead")
    d = r.daemon(handler(r, "printf '%s|%s|%s|%s\\n' \"$BOT_ATTR_COLOUR\" \"$BOT_ATTR_PUBSUB_ORDERING_KEY\" "
                         "\"$BOT_QUEUE\" \"$BOT_ATTEMPT\" >> " + r.dir + "/seen") + queue(p, "attributes"))
    p.publish_with_client(r, "attributes", [{"data": "x", "attributes": {"colour": "gr\u00fcn"},
                                             "orderingKey": "k1"}])
    d.wait_queue("jobs", done=1)
    with open(os.path.join(r.dir, "seen")) as f:
        seen = f.read()
    assert seen == "gr\u00fcn|k1|jobs|1\n", seen


def test_status_tells_where_and_how(r):
    p = server()
    p.create("status", dead="status-dead")
    d = r.daemon(handler(r) + queue(p, "status"))
    p.publish("status", "fine")
    q = d.wait_queue("jobs", done=1)
    assert q["endpoint"] == p.endpoint and q["subscription"] == "projects/p1/subscriptions/status", q
    assert q["topic"] == "projects/p1/topics/status" and q["dead_letter"] == "projects/p1/topics/status-dead", q
    assert q["streams"] == 1 and q["window"] >= 1 and q["lease_seconds"] >= 10, q
    assert q["exactly_once"] is False and q["ordered"] is False and q["credentials"] is None, q
    assert q["backlog"] is None and q["backlog_error"] is None, q


def test_emulator_by_environment(r):
    p = server()
    p.create("environment", dead="environment-dead")
    d = r.daemon(handler(r) + queue(p, "environment", Endpoint=None), env={"PUBSUB_EMULATOR_HOST": p.host})
    p.publish("environment", "fine")
    d.wait_queue("jobs", done=1)
    wait_gone(p, "environment")


def test_one_in_a_hundred_thousand_is_not_lost(r):
    """Invariant 1, with one stream that is ended now and then."""
    p = server()
    p.create("many", dead="many-dead")
    n = 100000
    p.fill("many", n, 100)
    d = r.daemon(MODULE + queue(p, "many"))
    for status in ("UNAVAILABLE", "OK", "ABORTED", "INTERNAL"):
        before = d.queue("jobs")["done"]
        wait_for("some", lambda: d.queue("jobs")["done"] > before)
        p.end_streams(status, "many")
    q = d.wait_queue("jobs", done=n, deadline=120)
    assert q["settle_errors"] == 0 and q["leases_lost"] == 0, q
    assert q["connects"] == 1 and q["streams_opened"] >= 5, q
    wait_gone(p, "many")
    c = p.look("many")
    assert c["acked"] == n and c["expired"] == 0, c


def test_more_streams_when_one_is_full(r):
    """One stream carries 10 MB/s at Google: beyond three quarters of that there
    are more."""
    p = r.pubsub()
    p.create("streams", dead="streams-dead")
    d = r.daemon(MODULE + queue(p, "streams", Streams="3"))
    most = 0
    for _ in range(30):
        p.fill("streams", 20000, 1000)
        wait_for("most of them", lambda: p.look("streams")["undelivered"] < 2000)
        most = max(most, len(p.look("streams")["streams"]))
        if most > 1:
            break
    assert 1 < most <= 3, most
    wait_gone(p, "streams")
    assert d.queue("jobs")["settle_errors"] == 0


# ---- Google's own emulator, where it is installed ----

def test_google_emulator(r):
    p = r.pubsub_emulator()
    p.create("mixed", dead="mixed-dead")
    r.expect_log("dead letters")
    d = r.daemon(handler(r) + queue(p, "mixed", Endpoint=None, DeadLetterSubscription="mixed-dead"),
                 env={"PUBSUB_EMULATOR_HOST": p.host})
    p.publish_with_client(r, "mixed", [{"data": "fine %d" % i} for i in range(200)] +
                          [{"data": x} for x in ("once", "never", "dead")])
    q = d.wait_queue("jobs", done=201, dead=2, deadline=60)
    assert q["settle_errors"] == 0, q
    assert sorted(out(r)) == sorted(["fine %d" % i for i in range(200)] + ["once"])
    items = dead_items(d)
    assert sorted(i["error_type"] for i in items) == ["external_api", "internal"], items
    d.botctl("dead", "purge", "jobs", "--all")
    assert dead_items(d) == []


def test_google_emulator_order_and_stop(r):
    p = r.pubsub_emulator()
    p.create("order", dead="order-dead", ordering=True)
    d = r.daemon(handler(r, ORDERED).replace("Workers=1-2", "Workers=4-4") + queue(p, "order"))
    p.publish_with_client(r, "order", [{"data": k + str(i), "orderingKey": k} for i in range(1, 6) for k in "abc"])
    d.wait_queue("jobs", done=15, deadline=60)
    done = out(r)
    for k in "abc":
        assert [x for x in done if x[0] == k] == [k + str(i) for i in range(1, 6)], done
    assert d.stop() == 0
    p.publish("order", "later")
    e = r.daemon(handler(r) + queue(p, "order"), name="second")
    e.wait_queue("jobs", done=1, deadline=60)


# ---- retries, leases ----

def test_retry_waits_at_the_service(r):
    p = server()
    p.create("retry", dead="retry-dead")
    d = r.daemon(handler(r, "date +%s.%N >> " + r.dir + "/when") + queue(p, "retry", Backoff="3s-3s"))
    p.publish("retry", "once")
    d.wait_queue("jobs", retried=1)
    q = d.queue("jobs")
    assert q["in_flight"] == 0 and q["delayed"] == 0, q
    d.wait_queue("jobs", done=1)
    with open(os.path.join(r.dir, "when")) as f:
        first, second = map(float, f.read().split())
    assert 2.9 <= second - first < 8, second - first


def test_invariant_5_leases_are_renewed(r):
    """A message that runs, and those that wait, for longer than their leases."""
    p = server()
    p.create("lease", dead="lease-dead")
    d = r.daemon(handler(r, "sleep 4").replace("Workers=1-2", "Workers=1-1") +
                 queue(p, "lease", Lease="10s", Prefetch="3"))
    p.publish_all("lease", ["a", "b", "c"])
    q = d.wait_queue("jobs", done=3, deadline=60)
    assert q["leases_extended"] >= 3 and q["leases_lost"] == 0, q
    c = p.look("lease")
    assert c["expired"] == 0 and c["delivered"] == 3, c


def test_delay_beyond_ten_minutes(r):
    """The service takes 600 s at most: the rest is asked for when it comes."""
    p = r.pubsub()
    p.create("long", dead="long-dead")
    d = r.daemon(handler(r) + queue(p, "long", Backoff="15min-15min"))
    p.publish("long", "once")
    d.wait_queue("jobs", retried=1)
    p.wait_look("long", outstanding=1)
    p.advance(601)
    p.wait_look("long", delivered=2)
    p.wait_look("long", outstanding=1, waiting=0)
    assert d.queue("jobs")["received"] == 1, d.queue("jobs")
    assert out(r) == []


def test_lease_follows_processing(r):
    p = server()
    p.create("p99", dead="p99-dead")
    d = r.daemon("[Pool work]\nCommand=sleep 0.01\nWorkers=2-2\n" + queue(p, "p99", Lease=None))
    assert d.queue("jobs")["lease_seconds"] == 60, d.queue("jobs")
    p.fill("p99", 200, 10)
    d.wait_queue("jobs", done=200, deadline=60)
    d.wait_queue("jobs", lease_seconds=10)


# ---- order, exactly once ----

ORDERED = """
case $body in a1) [ "$BOT_ATTEMPT" -ge 2 ] || exit 75 ;; esac
"""


def test_invariant_10_ordering_keys(r):
    """One at a time; after a failure the later ones wait."""
    p = server()
    p.create("order", dead="order-dead", ordering=True)
    d = r.daemon(handler(r, ORDERED).replace("Workers=1-2", "Workers=4-4") + queue(p, "order"))
    p.publish_with_client(r, "order", [{"data": k + str(i), "orderingKey": k} for i in range(1, 6) for k in "abc"])
    q = d.wait_queue("jobs", done=15)
    assert q["ordered"] is True and q["retried"] == 1, q
    done = out(r)
    for k in "abc":
        assert [x for x in done if x[0] == k] == [k + str(i) for i in range(1, 6)], done
    wait_gone(p, "order")


def test_exactly_once(r):
    p = server()
    p.create("exactly", dead="exactly-dead", exactly_once=True)
    d = r.daemon(handler(r) + queue(p, "exactly"))
    p.publish_all("exactly", ["m%d" % i for i in range(20)] + ["once"])
    q = d.wait_queue("jobs", done=21)
    assert q["exactly_once"] is True and q["lease_seconds"] >= 60 and q["settle_errors"] == 0, q
    assert len(out(r)) == 21 and len(set(out(r))) == 21
    wait_gone(p, "exactly")
    # Each lease was confirmed before its message was run.
    assert p.calls("ModifyAckDeadline") >= 1
    assert p.look("exactly")["extended"] >= 21, p.look("exactly")


def test_exactly_once_transient_and_revoked(r):
    p = r.pubsub()
    p.create("revoked", dead="revoked-dead", exactly_once=True)
    go = os.path.join(r.dir, "go")
    d = r.daemon(handler(r, "while [ ! -e %s ]; do sleep 0.05; done" % go) + queue(p, "revoked", Prefetch="2"))
    p.publish("revoked", "a")
    d.wait_queue("jobs", running=1)
    p.transient("revoked", 1)
    open(go, "w").close()
    q = d.wait_queue("jobs", done=1)
    assert q["settlements_again"] >= 1 and q["settle_errors"] == 0, q
    os.unlink(go)
    p.publish("revoked", "b")
    d.wait_queue("jobs", running=1)
    r.expect_log("could not be settled")
    p.revoke("revoked")
    open(go, "w").close()
    d.wait_queue("jobs", settle_errors=1)
    p.advance(601)
    d.wait_queue("jobs", done=2)


# ---- dead letters ----

def dead_items(d):
    lines = d.botctl("--json", "dead", "list", "jobs").stdout.splitlines()
    assert json.loads(lines[-1])["ok"] is True, lines
    return [json.loads(line)["item"] for line in lines[:-1]]


def test_botctl_dead(r):
    p = server()
    p.create("walk", dead="walk-dead")
    r.expect_log("dead letters")
    d = r.daemon(handler(r) + queue(p, "walk", DeadLetterSubscription="walk-dead"))
    p.publish_all("walk", ["dead 1", "dead 2", "dead 3"])
    d.wait_queue("jobs", dead=3)
    items = dead_items(d)
    assert len(items) == 3, items
    assert items[0]["attempts"] == 1 and items[0]["detail"].startswith("no such customer"), items
    # What was only looked at is there again.
    assert sorted(i["id"] for i in dead_items(d)) == sorted(i["id"] for i in items)
    shows = {i["id"]: d.botctl("dead", "show", "jobs", i["id"]).stdout for i in items}
    one = next(i for i in shows if "dead 1" in shows[i])
    assert "no such customer" in shows[one], shows
    d.botctl("dead", "purge", "jobs", one)
    p.wait_look("walk-dead", undelivered=2)
    d.botctl("dead", "redrive", "jobs", "--all")
    d.wait_queue("jobs", dead=5)
    items = dead_items(d)
    assert len(items) == 2 and all(i["attempts"] == 1 for i in items), items
    d.botctl("dead", "purge", "jobs", "--all")
    p.wait_look("walk-dead", undelivered=0)
    assert dead_items(d) == []


def test_dead_letters_need_a_subscription_to_be_read(r):
    p = server()
    p.create("unread", dead="unread-dead")
    d = r.daemon(handler(r) + queue(p, "unread"))
    a = d.botctl("dead", "list", "jobs", check=False)
    assert a.returncode != 0 and "DeadLetterSubscription=" in a.stdout + a.stderr, a


def test_policy_is_explained_and_used(r):
    """Without DeadLetter= the topic is that of the subscription's policy."""
    p = server()
    p.create("policy", dead="policy-dead", attempts=5)
    r.expect_log("dead-letter policy moves a message after 5 deliveries")
    r.expect_log("dead letters")
    d = r.daemon(handler(r) + queue(p, "policy", DeadLetter=None, MaxAttempts="6"))
    p.publish("policy", "dead")
    q = d.wait_queue("jobs", dead=1)
    assert q["dead_letter"] == "projects/p1/topics/policy-dead", q
    assert p.drain("policy-dead", 1)[0]["attributes"]["bot-queue"] == "jobs"


def test_dead_letters_left_to_the_broker(r):
    p = server()
    p.create("broker", dead="broker-dead", attempts=5)
    r.expect_log("dead letters")
    d = r.daemon(handler(r) + queue(p, "broker", DeadLetter="broker", DeadLetterSubscription="broker-dead"))
    p.publish("broker", "dead")
    p.wait_look("broker-dead", undelivered=1, deadline=60)
    items = dead_items(d)
    assert "policy" in items[0]["detail"], items
    assert items[0]["attempts"] >= 5, items


def test_no_place_for_dead_letters(r):
    p = server()
    p.create("nowhere")
    r.expect_log("nowhere to put dead letters")
    d = r.daemon(handler(r) + queue(p, "nowhere", DeadLetter=None), wait="status")
    q = wait_for("the error", lambda: d.queue("jobs")["error"])
    assert q["code"] == "no_dead_letter" and "DeadLetter=" in q["text"], q
    p.create("nowhere2")
    p.update_subscription("nowhere", deadLetterPolicy={"deadLetterTopic": p.topic("nowhere2"),
                                                       "maxDeliveryAttempts": 5})
    d.wait_queue("jobs", connected=True)


def test_dead_letter_topic_that_is_not_there(r):
    """Invariant 1: nothing is acknowledged before the copy is safe."""
    p = server()
    p.create("hopeless")
    r.expect_log("dead letters|cannot be settled")
    d = r.daemon(handler(r) + queue(p, "hopeless", DeadLetter="not-there-yet"))
    p.publish("hopeless", "dead")
    d.wait_queue("jobs", settling=1)
    wait_for("another try", lambda: d.queue("jobs")["settlements_again"] >= 2)
    assert p.look("hopeless")["undelivered"] == 1
    p.create("not-there-yet")
    d.wait_queue("jobs", dead=1, deadline=30)
    wait_gone(p, "hopeless")
    assert p.drain("not-there-yet", 1)[0]["body"] == b"dead"


# ---- enqueue, stop, trouble ----

def test_enqueue(r):
    p = server()
    p.create("enqueue", dead="enqueue-dead")
    d = r.daemon(handler(r) + queue(p, "enqueue"))
    d.botctl("enqueue", "jobs", "--body", "hello", "--attribute", "colour=blue")
    d.wait_queue("jobs", done=1)
    assert out(r) == ["hello"]


def test_invariant_2_stop_gives_back(r):
    """What waits goes back at once; what runs is finished."""
    p = server()
    p.create("stop", dead="stop-dead")
    go = os.path.join(r.dir, "go")
    d = r.daemon(handler(r, "while [ ! -e %s ]; do sleep 0.05; done" % go) + queue(p, "stop", Prefetch="10"))
    p.publish_all("stop", ["m%d" % i for i in range(20)])
    d.wait_queue("jobs", running=2)
    wait_for("the window to be full", lambda: p.look("stop")["outstanding"] == 10)
    d.signal(signal.SIGTERM)
    p.wait_look("stop", outstanding=2)
    open(go, "w").close()
    assert d.wait() == 0
    c = p.look("stop")
    assert c["acked"] == 2 and c["waiting"] == 18 and c["outstanding"] == 0 and c["streams"] == [], c


def test_invariant_2_crash_loses_nothing(r):
    p = r.pubsub()
    p.create("crash", dead="crash-dead")
    d = r.daemon(handler(r, "sleep 0.2") + queue(p, "crash"))
    p.publish_all("crash", ["m%d" % i for i in range(10)])
    wait_for("two", lambda: d.queue("jobs")["done"] >= 2)
    d.signal(signal.SIGKILL)
    d.wait()
    wait_for("the service to notice", lambda: p.look("crash")["streams"] == [])
    p.advance(61)
    e = r.daemon(handler(r) + queue(p, "crash"), name="second")
    wait_gone(p, "crash")
    assert set(out(r)) == {"m%d" % i for i in range(10)}, out(r)
    assert e.stop() == 0


def test_missing_subscription_appears(r):
    p = server()
    r.expect_log("check Project= and Subscription=")
    d = r.daemon(handler(r) + queue(p, "later"), wait="status")
    q = wait_for("the error", lambda: d.queue("jobs")["error"])
    assert q["code"] == "NOT_FOUND" and "projects/p1/subscriptions/later" in q["text"], q
    p.create("later", dead="later-dead")
    p.publish("later", "fine")
    d.wait_queue("jobs", done=1, deadline=30)


def test_subscription_deleted_while_consuming(r):
    p = server()
    p.create("gone", dead="gone-dead")
    r.expect_log("check Project= and Subscription=")
    d = r.daemon(handler(r) + queue(p, "gone"))
    p.publish("gone", "a")
    d.wait_queue("jobs", done=1)
    p.delete_subscription("gone")
    wait_for("the error", lambda: (d.queue("jobs")["error"] or {}).get("code") == "NOT_FOUND")
    p.create_subscription("gone")
    p.publish("gone", "b")
    d.wait_queue("jobs", done=2, deadline=30)


def test_server_goes_and_comes(r):
    p = r.pubsub()
    p.create("restart", dead="restart-dead")
    r.expect_log("ECONNREFUSED|eof|refused|lost|is not there")
    d = r.daemon(handler(r) + queue(p, "restart"))
    p.publish("restart", "a")
    d.wait_queue("jobs", done=1)
    port = p.port
    p.signal(signal.SIGKILL)
    p.wait()
    wait_for("the outage", lambda: not d.queue("jobs")["connected"])
    second = r.pubsub(port=port)
    second.create("restart", dead="restart-dead")
    second.publish("restart", "b")
    d.wait_queue("jobs", done=2, deadline=30)


def test_settlements_are_tried_again(r):
    p = r.pubsub()
    p.create("again", dead="again-dead")
    p.fault("Acknowledge", "UNAVAILABLE", times=2)
    d = r.daemon(handler(r) + queue(p, "again"))
    p.publish("again", "a")
    q = d.wait_queue("jobs", done=1)
    assert q["settlements_again"] == 2 and q["settle_errors"] == 0, q
    wait_gone(p, "again")


def test_answer_lost_after_it_was_done(r):
    """The acknowledgement was done and its answer lost: once more does no harm."""
    p = r.pubsub()
    p.create("after", dead="after-dead")
    p.fault("Acknowledge", "INTERNAL", times=1, after=True)
    d = r.daemon(handler(r) + queue(p, "after"))
    p.publish("after", "a")
    q = d.wait_queue("jobs", done=1)
    assert q["settle_errors"] == 0 and out(r) == ["a"], q


def test_window_follows_the_credit(r):
    """Fast handlers get a larger window, and idle ones none at all."""
    p = server()
    p.create("window", dead="window-dead")
    p.fill("window", 20000, 50)
    d = r.daemon(MODULE + queue(p, "window"))
    d.wait_queue("jobs", done=20000, deadline=60)
    assert d.queue("jobs")["streams_opened"] <= 30, d.queue("jobs")
    d.botctl("pause", "jobs")
    wait_for("no stream", lambda: p.look("window")["streams"] == [])
    p.publish("window", "a")
    p.wait_look("window", waiting=1)
    d.botctl("resume", "jobs")
    d.wait_queue("jobs", done=20001)


def test_retries_that_wait_do_not_fill_the_window(r):
    p = server()
    p.create("full", dead="full-dead")
    d = r.daemon(handler(r) + queue(p, "full", Backoff="5min-5min", MaxOutstanding="10", Prefetch="10"))
    p.publish_all("full", ["once %d" % i for i in range(10)])
    d.wait_queue("jobs", retried=10)
    p.publish_all("full", ["fine %d" % i for i in range(5)])
    d.wait_queue("jobs", done=5)


def test_reload_keeps_streams(r):
    p = server()
    p.create("reload", dead="reload-dead")
    d = r.daemon(handler(r) + queue(p, "reload"))
    p.publish("reload", "a")
    d.wait_queue("jobs", done=1)
    opened = d.queue("jobs")["streams_opened"]
    d.write(handler(r) + queue(p, "reload", Streams="2"))
    d.botctl("reload")
    p.publish("reload", "b")
    q = d.wait_queue("jobs", done=2)
    assert q["streams_opened"] == opened, q


def test_authorization_and_quota_project(r):
    """Over TLS, with the token of a metadata server that is none of ours to ask
    twice."""
    p = r.pubsub(tls=True)
    p.create("tls", dead="tls-dead")
    d = r.daemon(handler(r) + queue(p, "tls", CredentialsFile=r.write("user.json", json.dumps({
        "type": "service_account"}), 0o600), TLSCAFile=p.certificate.cert), wait="status")
    r.expect_log("client_email|private_key|service_account|credentials")
    e = wait_for("the error", lambda: d.queue("jobs")["error"])
    assert "user.json" in e["text"], e


if __name__ == "__main__":
    rig.main(globals())
