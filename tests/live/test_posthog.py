"""PostHog through a real daemon: a scripted one that takes, refuses, asks for less, breaks and hangs."""
import contextlib
import datetime
import functools
import json
import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import node  # noqa: E402
import rig  # noqa: E402
import sink_peer  # noqa: E402
from sink_peer import PostHog, hang, slow, status  # noqa: E402

wait_for = functools.partial(rig.wait_for, deadline=60)
WORLD = """
[Pool work]
Command=/bin/sh {dir}/handler
Workers=1
[Queue jobs]
Type=spool
Path={dir}/spool
BacklogInterval=100ms
MaxAttempts=2
Backoff=10ms
"""
HANDLER = """read what
case $what in
later*) echo "b0dyword: $what" >&2; exit 69;;
bad*) echo "b0dyword: $what" >&2; exit 65;;
long*) while [ ! -e {dir}/enough ]; do sleep 0.05; done;;
esac
"""
SINK = """
[PostHog]
Host=%s/
ProjectKeyFile={dir}/key
Interval=1s
Timeout=2s
"""
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
# Queues that are never connected, for many events at little cost; their names
# are so long that 500 events do not fit into a batch.
MANY = "".join("[Queue away-%s-%03d]\nType=redis\nAddress=127.0.0.1:1\nKey=x\nPool=work\n" % ("x" * 50, i)
               for i in range(120))


@contextlib.contextmanager
def posthog(r, key=PostHog.KEY):
    # An interval may have ended just before the operator did.
    r.expect_log("posthog: [0-9]+ events? not sent: the sink ends")
    peer = PostHog()
    r.write("key", key + "\n", 0o600)
    r.write("handler", HANDLER.replace("{dir}", r.dir))
    try:
        yield peer
    finally:
        r.drain()
        peer.stop()


def world(peer, more=""):
    return WORLD + SINK % peer.base + more


def sink(d):
    return d.status()["sinks"]["posthog"]


def wait_sink(d, what, condition):
    return wait_for("sink posthog: " + what, lambda: (lambda s: condition(s) and s)(sink(d)))


def accounted(s, each=2):
    """Whatever was measured is sent, lost, or waits: so many events in an interval."""
    assert s["sent"] + s["failed"] + s["dropped"] + s["queued"] == each * s["intervals"], s


def enqueue(d, *bodies):
    for body in bodies:
        d.botctl("enqueue", "jobs", "--body", body + "\n")


def uuids(request):
    return [e["uuid"] for e in request.body["batch"]]


def nothing_twice(peer):
    assert peer.twice == 0, peer.twice


def test_figures_of_intervals(r):
    r.expect_log("attempt . failed .*it goes to the dead letters")
    with posthog(r) as peer:
        d = r.daemon(world(peer))
        begin = time.time()
        enqueue(d, *["fine"] * 5, "later 1", "later 2", "bad 3")
        d.wait_queue("jobs", done=5, dead=3, deadline=60)
        wait_for("all to be told", lambda: peer.sum("bot_operator_queue", "dead") == 3 and
                 peer.sum("bot_operator_queue", "done") == 5)
        # Attempts: five, two for each of those that come again, one.
        for figure, want in (("attempts", 10), ("failed", 5), ("retried", 2), ("received", 8), ("processing_count", 10)):
            rows = peer.events("bot_operator_queue")
            got = peer.sum("bot_operator_queue", figure)
            # A retry is received again where its broker keeps it meanwhile.
            assert got == want or (figure == "received" and got in (8, 10)), (figure, got, rows)
        assert peer.sum("bot_operator_error", "count", error_type="external_api", queue="jobs") == 4
        assert peer.sum("bot_operator_error", "count", error_type="invalid_format", queue="jobs") == 1
        assert peer.sum("bot_operator_pool", "attempts", pool="work") == 10
        worked = [e["properties"] for e in peer.events("bot_operator_queue") if e["properties"]["attempts"]]
        for p in worked:
            assert 0 < p["processing_ms_p50"] <= p["processing_ms_p95"] <= p["processing_ms_p99"], p
            assert abs(p["processing_ms_mean"] - p["processing_ms_sum"] / p["processing_count"]) < 0.01, p
            assert abs(p["rate_per_second"] * p["interval_seconds"] - p["attempts"]) < 0.1 * p["attempts"], p
            assert p["error_rate_percent"] == round(100 * p["failed"] / p["attempts"], 2), p
            assert p["queue_type"] == "spool" and p["pool"] == "work" and p["connected"] is True, p
        last = wait_for("an interval at rest", lambda: [e["properties"] for e in peer.events("bot_operator_queue")
                                                        if e["properties"].get("backlog") == 0 and
                                                        not e["properties"]["attempts"]])[-1]
        assert "error_rate_percent" not in last and "processing_ms_mean" not in last, last
        assert last["dead_backlog"] in (0, 3) and last["in_flight"] == 0 and last["backlog_age_seconds"] == 0, last
        pools = [e["properties"] for e in peer.events("bot_operator_pool")]
        assert all(0 <= p["utilization_percent"] <= 100 and p["workers_max"] == 1 for p in pools), pools
        # One event for each queue and pool in an interval, and none for a message.
        count = sink(d)["intervals"]
        assert len(peer.events("bot_operator_queue")) <= count >= len(peer.events("bot_operator_pool"))
        for e in peer.events():
            p = e["properties"]
            assert UUID7.match(e["uuid"]) and e["distinct_id"] == "test@" + p["host"], e
            at = datetime.datetime.fromisoformat(e["timestamp"].replace("Z", "+00:00")).timestamp()
            assert begin - 5 < at < time.time() + 5 and abs(at * 1000 - int(e["uuid"][:13].replace("-", ""), 16)) < 2, e
            assert p["$lib"] == "bot-operator" and p["$lib_version"] and p["$process_person_profile"] is False and \
                p["$geoip_disable"] is True and p["instance"] == "test", e
        assert "b0dyword" not in json.dumps(peer.events()), "a message's body"
        s = sink(d)
        assert s["failed"] == s["dropped"] == s["retries"] == 0 and s["sent"] >= len(peer.events()), s
        nothing_twice(peer)


def test_what_waits_and_who_is_busy(r):
    with posthog(r) as peer:
        d = r.daemon(world(peer))

        def last(name, **want):
            """Of the last interval, when it is as wanted."""
            rows = [e["properties"] for e in peer.events(name)]
            return rows and all(rows[-1].get(k) == v for k, v in want.items()) and rows[-1]
        wait_for("rest", lambda: last("bot_operator_pool", utilization_percent=0, busy=0, workers=1))
        d.write(world(peer, "[Queue more]\nType=spool\nPath={dir}/more\nPool=work\nBacklogInterval=100ms\n"))
        d.botctl("reload")
        d.botctl("pause", "more")
        for i in range(3):
            d.botctl("enqueue", "more", "--body", "fine")
        enqueue(d, "long")
        wait_for("a busy worker", lambda: last("bot_operator_pool", utilization_percent=100, busy=1, workers=1))
        wait_for("what waits", lambda: [e for e in peer.events("bot_operator_queue", queue="more", backlog=3, paused=True)
                                        if e["properties"]["backlog_age_seconds"] > 0])
        wait_for("what runs", lambda: peer.events("bot_operator_queue", queue="jobs", in_flight=1, paused=False))
        r.write("enough", "")
        d.botctl("resume", "more")
        d.wait_queue("more", done=3, deadline=60)
        wait_for("rest", lambda: last("bot_operator_pool", utilization_percent=0, busy=0))


def test_errors_are_grouped_and_counted(r):
    r.expect_log("attempt . failed .*it goes to the dead letters")
    with posthog(r) as peer:
        d = r.daemon(world(peer, "Interval=3s\n"))
        enqueue(d, *["bad"] * 4, "later 1")
        d.wait_queue("jobs", dead=5, deadline=60)
        wait_for("errors", lambda: peer.sum("$exception", "count") == 6)
        groups = {}
        for e in peer.events("$exception"):
            p = e["properties"]
            (x,) = p["$exception_list"]
            assert x["type"] == p["error_type"] and x["mechanism"] == {
                "type": "generic", "handled": True, "synthetic": False}, x
            assert re.match(r"\d+ of \d+ attempts? failed with %s in \d+ s, queue jobs$" % x["type"], x["value"]), x
            assert x["stacktrace"]["type"] == "raw" and x["stacktrace"]["frames"] == [
                {"platform": "custom", "lang": "c", "function": "queue jobs", "in_app": True}], x
            assert p["left_out"] == p["count"] - 1 and p["groups_left_out"] == 0 and p["queue"] == "jobs", p
            assert p["$exception_level"] in ("error", "warning"), p
            groups.setdefault(p["$exception_fingerprint"], []).append(p["error_type"])
        assert set(groups) == {"test/jobs/external_api", "test/jobs/invalid_format"}, groups
        # Not more events than intervals for a group, however many messages.
        assert all(len(x) <= sink(d)["intervals"] for x in groups.values()), groups
        assert "b0dyword" not in json.dumps(peer.events())


def test_errors_are_bounded_and_can_be_switched_off(r):
    r.expect_log("attempt . failed .*it goes to the dead letters")
    with posthog(r) as peer:
        d = r.daemon(world(peer, "Interval=10s\nErrorsMax=1\n"))
        enqueue(d, "bad", "bad", "bad", "later")
        d.wait_queue("jobs", dead=4, deadline=60)
        wait_for("the errors", lambda: peer.sum("$exception", "count") + peer.sum("$exception", "errors_left_out") == 5)
        # The most frequent one of an interval; most often all are in the same.
        e = [x["properties"] for x in peer.events("$exception")]
        assert len(e) <= sink(d)["intervals"] and all(p["groups_left_out"] <= 1 for p in e), e
        assert len(e) > 1 or (e[0]["error_type"], e[0]["count"], e[0]["groups_left_out"]) == ("invalid_format", 3, 1), e
        d.write(world(peer, "Errors=no\n"))
        d.botctl("reload")
        n = len(peer.events("$exception"))
        enqueue(d, "bad")
        wait_for("the error", lambda: peer.sum("bot_operator_error", "count", error_type="invalid_format") == 4)
        seen = sink(d)["intervals"]
        wait_for("another interval", lambda: sink(d)["intervals"] > seen)
        assert len(peer.events("$exception")) == n


def test_what_breaks_is_tried_again_with_the_same_uuids(r):
    r.expect_log("posthog: .*(http_503|http_500|response_timeout|http_429|eof)")
    for action in (status(503, "overloaded"), status(500), status(429, "rate limited", Retry_After=1), hang):
        with posthog(r) as peer:
            peer.rule("*", action, 2)
            d = r.daemon(world(peer))
            wait_for("the events", lambda: peer.events())
            first, second, third = peer.requests[:3]
            # What waits stays at the front; more may have come behind it.
            assert uuids(second)[:len(first.body["batch"])] == uuids(first), (first, second)
            assert uuids(third)[:len(first.body["batch"])] == uuids(first)
            assert set(uuids(first)) <= set(peer.kept)
            s = wait_sink(d, "works", lambda s: not s["failing"])
            assert s["retries"] == 2 and s["failed"] == s["dropped"] == 0, s
            accounted(s)
            nothing_twice(peer)
            d.stop()


def test_retry_after_is_kept(r):
    r.expect_log("posthog: .*http_429")
    with posthog(r) as peer:
        peer.rule("*", status(429, "slow down", Retry_After=4), 1)
        d = r.daemon(world(peer))
        wait_for("the events", lambda: peer.events())
        first, second = peer.requests[:2]
        assert second.time - first.time > 3.5, (first, second)
        assert sink(d)["last_error"]["class"] == "throttled", sink(d)


def test_a_connection_that_is_refused(r):
    r.expect_log("posthog: .*ECONNREFUSED")
    with posthog(r) as peer:
        port = rig.free_port()
        d = r.daemon(WORLD + SINK % ("http://127.0.0.1:%d" % port))
        s = wait_sink(d, "failing", lambda s: s["failing"] and s["retries"] > 1 and s["queued"] > 1)
        assert s["failing_means"] == "it gets no figures", s
        assert s["last_error"]["code"] == "ECONNREFUSED" and s["sent"] == 0, s
        # Kept, and on the new way after a reload.
        d.write(world(peer))
        d.botctl("reload")
        wait_for("what waited", lambda: len(peer.events("bot_operator_queue")) > s["queued"] / 2)
        wait_sink(d, "works", lambda s: not s["failing"] and s["dropped"] == 0)
        assert "posthog: works again" in d.log()
        # It was said once, not each time.
        assert d.log().count("ECONNREFUSED") == 1, d.log()


def test_400_is_final(r):
    r.expect_log("posthog: .* lost: PostHog answers 400: no such thing .http_400.; the next are tried")
    with posthog(r) as peer:
        peer.rule("*", status(400, "no such thing"), 2)
        d = r.daemon(world(peer))
        wait_for("the next", lambda: peer.events())
        lost = set(uuids(peer.requests[0]) + uuids(peer.requests[1]))
        assert len(lost) == len(peer.requests[0].body["batch"]) + len(peer.requests[1].body["batch"])
        assert not lost & set(peer.kept)
        s = wait_sink(d, "works", lambda s: not s["failing"])
        assert s["failed"] == len(lost) and s["retries"] == 0, s
        accounted(s)
        assert d.log().count("(http_400)") == 1, d.log()


def test_401_is_final_and_says_what_to_mend(r):
    r.expect_log("posthog: .* lost: PostHog does not know the key in .*key: copy the project API key")
    with posthog(r, "phc_s3cr3twrong") as peer:
        d = r.daemon(world(peer))
        s = wait_sink(d, "failing", lambda s: s["failing"] and s["failed"])
        assert s["last_error"]["code"] == "http_401" and s["last_error"]["class"] == "auth", s
        # Not each interval: a person has to mend it.  The reload looks at once.
        assert len(peer.requests) == 1
        r.write("key", PostHog.KEY)
        d.write(world(peer, "ErrorsMax=7\n"))
        d.botctl("reload")
        wait_for("events", lambda: peer.events())
        assert not set(uuids(peer.requests[0])) & set(peer.kept)
        everything = d.log() + json.dumps(d.status())
        assert "s3cr3t" not in everything, everything


def test_a_key_that_cannot_be_read_loses_nothing(r):
    r.expect_log("posthog: .*key(: No such file| must have the key on one line)")
    with posthog(r) as peer:
        for text in (None, "phc_one s3cr3ttwo"):
            os.unlink(r.path("key"))
            if text:
                r.write("key", text)
            d = r.daemon(world(peer))
            s = wait_sink(d, "waits", lambda s: s["failing"] and s["queued"] > 2)
            assert s["failed"] == s["dropped"] == s["sent"] == 0 and not peer.requests, s
            r.write("key", PostHog.KEY)
            d.write(world(peer, "ErrorsMax=7\n"))
            d.botctl("reload")
            wait_for("what waited", lambda: len(peer.events()) >= s["queued"])
            d.stop()
            assert "s3cr3t" not in d.log()
            peer.requests.clear()


def test_413_halves_the_batch_and_one_alone_is_lost(r):
    r.expect_log("posthog: .*(http_413|http_503)")

    def too_large(most):
        return lambda request: len(request.body["batch"]) > most
    with posthog(r) as peer:
        # Some wait first.
        out = peer.rule("*", status(503))
        large = peer.rule("*", status(413, "too large"), when=too_large(3))
        d = r.daemon(world(peer))
        wait_sink(d, "eight wait", lambda s: s["queued"] >= 8)
        large.remove()
        out.remove()
        peer.rule("*", status(413, "too large"), when=too_large(3))
        d.write(world(peer, "ErrorsMax=7\n"))
        d.botctl("reload")
        s = wait_sink(d, "all sent", lambda s: s["queued"] <= 2 and s["sent"] > 8)
        assert s["batch_max"] <= 3 and s["failed"] == s["dropped"] == 0, s
        accounted(s)
        sizes = [len(q.body["batch"]) for q in peer.requests]
        assert any(x > 3 for x in sizes) and all(len(q.body["batch"]) <= 3 for q in peer.requests[-3:]), sizes
        nothing_twice(peer)
        peer.rule("*", status(413, "too large"))
        s = wait_sink(d, "some are lost", lambda s: s["failed"] >= 2)
        assert s["batch_max"] == 1 and s["last_error"]["code"] == "http_413", s
        accounted(s)


def test_what_is_no_posthog_or_has_no_quota(r):
    r.expect_log("posthog: .*(no_posthog|http_404|http_302|quota_limited)")
    for action, code, kept in (
            (status(200, "<html>hello"), "no_posthog", True),
            (status(404, "not here"), "http_404", True),
            (status(302, "", Location="http://127.0.0.1:1/s3cr3t"), "http_302", True),
            (status(200, {"status": "Ok", "quota_limited": ["recordings", "events"]}), "quota_limited", False)):
        with posthog(r) as peer:
            peer.rule("*", action)
            d = r.daemon(world(peer))
            s = wait_sink(d, code, lambda s: s["failing"])
            assert s["last_error"]["code"] == code and s["sent"] == 0 and bool(s["failed"]) != kept, s
            assert (s["queued"] > 0) == kept or s["queued"] <= 2, s
            d.stop()
    with posthog(r) as peer:
        peer.rule("*", status(200, {"status": 1, "quota_limited": ["recordings"]}))
        d = r.daemon(world(peer))
        wait_sink(d, "sent", lambda s: s["sent"] > 2 and not s["failing"])


def test_slow_answers_are_waited_for(r):
    with posthog(r) as peer:
        peer.rule("*", slow(3.0))
        d = r.daemon(world(peer).replace("Timeout=2s", "Timeout=30s"))
        s = wait_sink(d, "sent", lambda s: s["sent"] and s["queued"])
        assert s["retries"] == s["failed"] == 0, s
        # One request at a time, with all that has come meanwhile.
        wait_for("two more", lambda: len(peer.requests) >= 3)
        assert all(b.time - a.time > 2.9 for a, b in zip(peer.requests, peer.requests[1:])), peer.requests
        assert len(peer.requests[1].body["batch"]) > len(peer.requests[0].body["batch"])


def test_the_queue_is_bounded_and_drops_are_counted(r):
    r.expect_log("posthog: ")
    with posthog(r) as peer:
        rule = peer.rule("*", status(503))
        d = r.daemon(world(peer, "QueueMax=5\n"))
        s = wait_sink(d, "drops", lambda s: s["dropped"] >= 4)
        assert s["queued"] == 5 and s["failing"], s
        assert "posthog: 1 event not sent: too many wait (QueueMax=) (1 so far)" in d.log(), d.log()
        metrics = d.get("/metrics")[1]
        n = int(re.search(r'^bot_operator_sink_dropped_total\{sink="posthog"\} (\d+)$', metrics, re.M).group(1))
        assert n >= 4 and 'bot_operator_sink_failing{sink="posthog"} 1\n' in metrics, metrics
        assert 'bot_operator_sink_queued{sink="posthog"} 5\n' in metrics
        out = d.botctl("status", check=False).stdout
        assert re.search(r"sink posthog: 5 waiting, \d+ dropped: PostHog answers 503", out), out
        rule.remove()
        wait_for("the newest", lambda: len(peer.events()) >= 5)
        s = wait_sink(d, "works", lambda s: not s["failing"])
        accounted(s)
        # The oldest are gone.
        lost = set(u for q in peer.requests for u in uuids(q)) - set(peer.kept)
        assert lost and min(peer.kept) > min(lost), (lost, peer.kept)


def test_batches_are_small_and_packed(r):
    r.expect_log("queue away-|posthog: .*http_503|no queue can be worked on|the loop was held up")
    with posthog(r) as peer:
        rule = peer.rule("*", status(503))
        d = r.daemon(world(peer, MANY))
        s = wait_sink(d, "a megabyte", lambda s: s["queued_bytes"] > 1000000)
        assert s["dropped"] == 0, s
        rule.remove()
        d.write(world(peer, "ErrorsMax=7\n" + MANY))
        d.botctl("reload")
        wait_for("all of it", lambda: len(peer.events()) >= s["queued"])
        good = [q for q in peer.requests if set(uuids(q)) <= set(peer.kept)]
        sizes = [(len(q.body["batch"]), len(q.raw), int(q.headers["Content-Length"])) for q in peer.requests]
        assert all(n < 500 and raw < 270000 and packed < raw / 4 for n, raw, packed in sizes), sizes
        assert max(raw for _, raw, _ in sizes) > 200000 and len(good) >= 4, sizes
        assert all(q.headers["Content-Encoding"] == "gzip" and q.headers["Content-Type"] == "application/json"
                   for q in peer.requests)
        nothing_twice(peer)
        d.check_turns()


def test_certificates_are_looked_at(r):
    r.expect_log("posthog: .*tls_verify")
    certificate = r.certificate()
    with posthog(r) as peer:
        peer.server.socket = certificate.server_context().wrap_socket(peer.server.socket, server_side=True)
        text = WORLD + SINK % ("https://localhost:%d" % peer.port)
        d = r.daemon(text)
        s = wait_sink(d, "failing", lambda s: s["failing"])
        assert s["last_error"]["code"] == "tls_verify" and s["queued"] and not peer.requests, s
        d.write(text + "CAFile=%s\n" % certificate.ca)
        d.botctl("reload")
        wait_for("events", lambda: peer.events())
        assert sink(d)["dropped"] == sink(d)["failed"] == 0, sink(d)


def test_a_reload_adds_changes_and_removes(r):
    with posthog(r) as peer:
        d = r.daemon(WORLD)
        enqueue(d, *["fine"] * 3)
        d.wait_queue("jobs", done=3, deadline=60)
        d.write(world(peer))
        d.botctl("reload")
        enqueue(d, "fine")
        # What was before is nobody's business.
        wait_for("one", lambda: peer.sum("bot_operator_queue", "done") == 1)
        d.write(world(peer, "[Queue other]\nType=spool\nPath={dir}/other\n"))
        d.botctl("reload")
        wait_for("the new queue", lambda: peer.events("bot_operator_queue", queue="other"))
        assert peer.sum("bot_operator_queue", "done") == 1
        d.write(world(peer).replace("Interval=1s", "Interval=1h"))
        d.botctl("reload")
        assert "[PostHog] changed" in d.log()
        d.write(WORLD)
        d.botctl("reload")
        assert "posthog" not in d.status()["sinks"] and "[PostHog] removed" in d.log()
        n = len(peer.requests)
        d.write(world(peer))
        d.botctl("reload")
        wait_for("it again", lambda: len(peer.requests) > n)
        assert peer.sum("bot_operator_queue", "done") == 1


def test_what_waits_at_a_stop_is_counted_in_the_log(r):
    r.expect_log("posthog: .*(response_timeout|not sent: the sink ends)")
    with posthog(r) as peer:
        peer.rule("*", hang)
        d = r.daemon(world(peer))
        wait_sink(d, "waits", lambda s: s["queued"] > 3 and peer.requests)
        d.stop(deadline=60)
        assert re.search(r"posthog: \d+ events not sent: the sink ends", d.log()), d.log()


def test_invariant_3_a_hanging_posthog_delays_no_queue(r):
    r.expect_log("posthog: .*not sent: the sink ends")
    with posthog(r) as peer:
        peer.rule("*", hang)
        d = r.daemon(world(peer).replace("Timeout=2s", "Timeout=60s"))
        wait_for("PostHog to hang", lambda: peer.requests)
        enqueue(d, *["while it hangs"] * 20)
        d.wait_queue("jobs", done=20, deadline=60)
        assert len(peer.requests) == 1 and sink(d)["sent"] == 0
        d.check_turns()
        d.stop(deadline=60)


def test_invariant_7_the_key_is_nowhere(r):
    """Not in the log at level debug, the status, show-config, nor where PostHog repeats it."""
    r.expect_log("posthog: ")
    with posthog(r) as peer:
        def parrot(request, go):
            return sink_peer.Reply(request.peer.code, "you sent " + request.raw.decode()[:200])
        for peer.code in (418, 400, 500):
            peer.rule("*", parrot)
            d = r.daemon("[Operator]\nStatus=127.0.0.1:0\nControl={dir}/test.sock\nLogLevel=debug\n" + world(peer))
            wait_sink(d, "failing", lambda s: s["failing"])
            everything = d.log() + json.dumps(d.status()) + d.botctl("show-config").stdout + d.get("/metrics")[1] + \
                "".join(d.botctl("debug", w).stdout for w in ("timers", "streams")) + \
                d.botctl("status", check=False).stdout
            assert "s3cr3t" not in everything, re.findall(".*s3cr3t.*", everything)
            d.stop(deadline=60)
            assert "s3cr3t" not in d.log()


def test_the_configuration_says_what_is_wrong(r):
    queue = "[Pool p]\nCommand=/bin/cat\n[Queue q]\nType=spool\nPath=/nowhere\n"
    for text, say in (
            ("[PostHog]\n", "ProjectKeyFile="),
            ("[PostHog]\nProjectKeyFile=k\nHost=posthog\n", "it must start with https://"),
            ("[PostHog]\nProjectKeyFile=k\nHost=https://x/?a=1\n", "Host= has no query"),
            ("[PostHog]\nProjectKeyFile=k\nInterval=10ms\n", "Interval="),
            ("[PostHog]\nProjectKeyFile=k\nErrors=no\nErrorsMax=5\n", "ErrorsMax= has no effect with Errors=no"),
            ("[PostHog]\nProjectKeyFile=k\nErorrs=no\n", 'did you mean "Errors"?'),
            ("[PostHog]\nProjectKey=phc_x\n", "ProjectKeyFile"),
            ("[PostHog]\nProjectKeyFile=k\n[Alert a]\nWhen=backlog > 1\nNotify=posthog\n", "posthog")):
        conf = r.write("bad.conf", queue + text)
        p = subprocess.run([os.path.join(rig.BUILD, "botctl"), "check-config", conf], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, universal_newlines=True)
        assert p.returncode == 1 and say in p.stderr and "bad.conf:" in p.stderr, (text, p)


def test_it_looks_as_posthogs_own_client_sends_it(r):
    """The envelope, the event, an exception: no member more or less than posthog-node has."""
    r.expect_log("attempt . failed .*it goes to the dead letters")
    exe, folder = node.node(), node.install()
    with posthog(r) as theirs, posthog(r) as ours:
        subprocess.run([exe, os.path.join(folder, "posthog_send.mjs"), theirs.base, PostHog.KEY], check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=60)
        wait_for("posthog-node", lambda: theirs.events("$exception") and theirs.events("something"))
        d = r.daemon(world(ours))
        enqueue(d, "bad")
        wait_for("ours", lambda: ours.events("$exception") and ours.events("bot_operator_queue"))

        def keys(x):
            return set(x)

        def envelopes(peer):
            return {(q.method, q.path, q.headers["Content-Type"], q.headers["Content-Encoding"],
                     ",".join(sorted(q.body))) for q in peer.requests}
        assert envelopes(ours) == envelopes(theirs), (envelopes(ours), envelopes(theirs))
        a, b = theirs.events("something")[0], ours.events("bot_operator_queue")[0]
        assert keys(a) == keys(b), (a, b)
        for member in ("uuid", "timestamp"):
            assert re.sub("[0-9a-f]", "0", a[member])[:14] == re.sub("[0-9a-f]", "0", b[member])[:14] and \
                len(a[member]) == len(b[member]), (a, b)
        assert UUID7.match(a["uuid"]), a
        dollars = {k: type(v) for k, v in a["properties"].items() if k.startswith("$") and k != "$is_server"}
        assert dollars == {k: type(v) for k, v in b["properties"].items() if k.startswith("$")}, (a, b)
        a, b = theirs.events("$exception")[0]["properties"], ours.events("$exception")[0]["properties"]
        assert {k for k in a if k.startswith("$exception")} <= keys(b), (a, b)
        (x,), (y,) = a["$exception_list"], b["$exception_list"]
        assert keys(x) == keys(y) and keys(y["mechanism"]) <= keys(x["mechanism"]), (x, y)
        assert keys(y["stacktrace"]) == keys(x["stacktrace"]), (x, y)


if __name__ == "__main__":
    rig.main(globals(), jobs=4)
