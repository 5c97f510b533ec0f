"""A scripted Pub/Sub over gRPC: every status that it can say, streams and
connections that end in every way, and what is no gRPC or no HTTP/2 at all.
"""
import os
import ssl
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import h2peer  # noqa: E402
import protobuf  # noqa: E402
import pubsub_peer as p  # noqa: E402
import rig  # noqa: E402
from pubsub_world import MODULE, fill, rate, settled_once, together, world  # noqa: E402
from rig import wait_for  # noqa: E402

# ---- every status: named, of the right class, no storm, healed without a restart ----

def status_row(w, row):
    code, action, cls, says = row
    # From the first call on.
    rule = w.peer.rule("*", action)
    d = w.start(wait="status")
    e = w.wait_error(code)
    assert e["class"] in cls.split("|"), e
    for word in says.split("|"):
        assert word.lower() in e["text"].lower(), (word, e)
    assert not d.queue("jobs")["connected"] and len(e["text"]) > 10, e
    wait_for("the status to say so", lambda: d.status()["status"] == "degraded")
    assert d.get("/.well-known/engine-status")[0] == 200
    w.others_work()
    assert rate(w) < 20, "it hammers a service that says no"
    rule.remove()
    w.heal_and_work()
    # And in the middle of its work.
    rule = w.peer.rule("*", action)
    w.finish(code, follows=False)
    w.wait_error(code)
    w.jobs.fill("in the middle")
    w.others_work()
    rule.remove()
    d.wait_queue("jobs", 40, done=2, connected=True)
    assert sorted(w.out()) == ["after the trouble 0", "in the middle"], w.out()
    assert d.queue("jobs")["dead"] == 0


def status_rows(rows):
    """Each in a world of its own, together: they mostly wait."""
    def test(r):
        r.expect_log("jobs")
        together(r, rows, status_row)
    return test


# code, class, words that help (the text of a refusal says what to do)
ROWS = (
    ("NOT_FOUND", "rejected", "jobs"),
    ("PERMISSION_DENIED", "auth", "roles/pubsub.subscriber|" + p.SAYS),
    ("UNAUTHENTICATED", "auth", "credential"),
    ("INVALID_ARGUMENT", "rejected", p.SAYS),
    ("FAILED_PRECONDITION", "rejected", p.SAYS),
    ("UNIMPLEMENTED", "rejected", ""),
    ("CANCELLED", "rejected|transient", ""),
    ("UNAVAILABLE", "transient", p.SAYS),
    ("DEADLINE_EXCEEDED", "transient", ""),
    ("ABORTED", "transient", ""),
    ("INTERNAL", "transient", ""),
    ("UNKNOWN", "transient", ""),
    ("RESOURCE_EXHAUSTED", "throttled", ""),
)
_rows = [(_code, p.status(_code), _class, _says) for _code, _class, _says in ROWS]
for _i in range(0, len(_rows), 5):
    globals()["test_statuses_%d" % (_i // 5 + 1)] = status_rows(_rows[_i:_i + 5])


def test_statuses_without_grpc(r):
    """An HTTP status alone, as load balancers answer; told in the text."""
    status_rows([(code, p.http_status(number), cls, str(number)) for number, code, cls in (
        (401, "UNAUTHENTICATED", "auth"), (403, "PERMISSION_DENIED", "auth"), (404, "UNIMPLEMENTED", "rejected"),
        (429, "UNAVAILABLE", "transient"), (503, "UNAVAILABLE", "transient"))])(r)


def test_a_status_of_another_world(r):
    """A number that gRPC does not have counts as UNKNOWN."""
    r.expect_log("jobs")
    with world(r) as w:
        rule = w.peer.rule("*", p.status_alone(99))
        w.start(wait="status")
        assert w.wait_error("UNKNOWN")["class"] == "transient"
        rule.remove()
        w.heal_and_work()


def test_its_words_reach_people_but_not_its_signs(r):
    r.expect_log("jobs")
    with world(r) as w:
        w.peer.rule("*", p.status("PERMISSION_DENIED", "no\n\x1b[31m\u00fc" + "x" * 5000))
        d = w.start(wait="status")
        e = w.wait_error("PERMISSION_DENIED")
        assert "\n" not in e["text"] and "\x1b" not in e["text"] and len(e["text"]) < 1200, e
        assert "\x1b" not in d.log()


def test_looking_at_the_subscription_may_be_forbidden(r):
    """roles/pubsub.subscriber has no pubsub.subscriptions.get: a notice, no more."""
    with world(r) as w:
        rule = w.peer.rule("GetSubscription", p.status("PERMISSION_DENIED"))
        d = w.start()
        fill(w, 5)
        settled_once(w, 5)
        assert rule.hits >= 1 and "pubsub.subscriptions.get" in d.log(), d.log()
        assert d.queue("jobs")["error"] is None


def test_a_subscription_that_is_detached(r):
    r.expect_log("jobs")
    with world(r) as w:
        w.jobs.detached = True
        w.start(wait="status")
        assert "detached" in w.wait_error("detached")["text"]
        w.jobs.detached = False
        w.heal_and_work()


# ---- how it begins ----

def test_what_is_said_first(r):
    with world(r) as w:
        d = w.start(MaxOutstanding="7")
        w.peer.stream()
        calls = w.peer.asked()
        assert [c.method for c in calls[:2]] == ["GetSubscription", "StreamingPull"], calls
        assert {c.connection.n for c in calls} == {1}, "more than one connection: %s" % calls
        q = w.peer.stream().request
        assert q["subscription"] == w.jobs.path == calls[0].request["subscription"], q
        assert 1 <= q["max_outstanding_messages"] <= 7 and q["client_id"], q
        assert 10 <= q["stream_ack_deadline_seconds"] <= 600, q
        w.heal_and_work()
        again = w.finish()[1].request
        assert again["client_id"] == q["client_id"], "not the same client: %s" % again
        d.wait_queue("jobs", connected=True)


def test_prefetch_is_the_window(r):
    with world(r) as w:
        w.start(Prefetch="700")
        assert w.peer.stream().request["max_outstanding_messages"] == 700


def test_nothing_comes_while_it_is_paused(r):
    with world(r) as w:
        d = w.start()
        w.heal_and_work()
        d.botctl("pause", "jobs")
        wait_for("the stream's end", lambda: not w.peer.streams())
        fill(w, 3)
        w.others_work()
        assert w.jobs.counts() == (3, 0) and d.queue("jobs")["connected"]
        d.botctl("resume", "jobs")
        d.wait_queue("jobs", done=4)


def test_max_outstanding_is_kept(r):
    with world(r) as w:
        d = w.start("sleep 0.05", MaxOutstanding="5", workers="1-1")
        fill(w, 30)
        most = []
        wait_for("them to be done", lambda: most.append(w.jobs.counts()[1]) or d.queue("jobs")["done"] == 30)
        assert max(most) <= 5, max(most)
        settled_once(w, 30)


def test_a_service_that_opens_no_stream_before_it_has_a_message(r):
    """Its headers come with the first message: up all the same."""
    with world(r) as w:
        w.peer.lazy = True
        w.start()
        w.heal_and_work()


def test_a_stream_that_is_never_answered(r):
    """Neither headers nor a status, while the connection lives: it may be just empty."""
    with world(r) as w:
        w.peer.rule("StreamingPull", p.never(), times=1)
        w.start(Prefetch="5")
        # As long as a stream must live for its end not to be a failure.
        first = w.peer.stream()
        wait_for("a second", lambda: time.monotonic() - first.time > 1.2)
        w.finish()
        w.heal_and_work()


# ---- streams that end ----

def ends(action, log=None):
    """While messages run, wait, and are being fetched.  Receipts live on: none
    comes twice; and when a new stream comes at once there was no outage."""
    def check(w, action):
        d = w.start("sleep 0.4", workers="2-2", Prefetch="6")
        fill(w, 12)
        d.wait_queue("jobs", running=2)
        # With something waiting behind it, too.
        wait_for("more than what runs", lambda: d.queue("jobs")["in_flight"] > 2)
        w.cut(action)
        settled_once(w, 12, settle_errors=0, delivered_once=False)
        assert d.queue("jobs")["connects"] == 1, "queue_down though a new stream came at once"
        assert d.queue("jobs")["leases_lost"] == 0
        w.heal_and_work()

    def test(r):
        if log:
            r.expect_log(log)
        check_all = action if isinstance(action, (list, tuple)) else [action]
        together(r, check_all, check)
    return test


test_streams_that_end_1 = ends([lambda s, code=_code: s.finish(code, p.SAYS) for _code in (
    "UNAVAILABLE", "ABORTED", "DEADLINE_EXCEEDED", "INTERNAL")])
test_streams_that_end_2 = ends([lambda s, code=_code: s.finish(code, p.SAYS) for _code in (
    "RESOURCE_EXHAUSTED", "UNKNOWN", "OK")])
test_streams_that_are_reset = ends([lambda s, code=_code: s.rst(code) for _code in (
    h2peer.NO_ERROR, h2peer.INTERNAL_ERROR, h2peer.REFUSED_STREAM, h2peer.ENHANCE_YOUR_CALM)])
test_connections_that_end = ends([lambda s: s.connection.close(), lambda s: s.connection.close(reset=True)], "jobs")


def _away_at_once(s):
    s.connection.goaway(h2peer.NO_ERROR)
    s.connection.close()


def _away_for_abuse(s):
    s.connection.goaway(h2peer.ENHANCE_YOUR_CALM, debug=b"too_many_pings")
    s.connection.close()


def _away_as_servers_do(s):
    """First the announcement, then the stream's end."""
    s.connection.goaway(h2peer.NO_ERROR, last=0x7fffffff)
    s.connection.ping()
    s.connection.goaway(h2peer.NO_ERROR)
    s.finish("UNAVAILABLE", "the server is going away")


test_connections_that_go_away = ends([_away_at_once, _away_for_abuse, _away_as_servers_do], "jobs")


def test_goaway_carries_open_calls_to_their_end(r):
    """The acknowledgement that is under way is answered on the old connection;
    what comes later goes over a new one."""
    with world(r) as w:
        go_on = threading.Event()
        w.peer.rule("Acknowledge", p.held(go_on), times=1)
        w.start()
        fill(w, 1)
        held = wait_for("the acknowledgement", lambda: w.peer.asked("Acknowledge"))[0]
        old = held.connection
        old.goaway()
        assert w.finish()[1].connection is not old
        assert not old.ended
        go_on.set()
        settled_once(w, 1, settle_errors=0)
        assert len(w.peer.asked("Acknowledge")) == 1, "said again, though it was answered"
        wait_for("the old connection's end", lambda: old.ended)


def test_calls_that_goaway_leaves_unseen_are_sent_again(r):
    r.expect_log("jobs")
    with world(r) as w:
        rule = w.peer.rule("Acknowledge", p.goaway(refuse=True, close=True), times=1)
        w.start()
        fill(w, 3)
        settled_once(w, 3, settle_errors=0)
        assert rule.hits == 1


def test_streams_that_end_at_once_again_and_again(r):
    """Not a storm; it is named; and over when it is over."""
    def check(w, code):
        rule = w.peer.rule("StreamingPull", p.status(code, opened=True))
        d = w.start(wait="status")
        # Which states pass first depends on when it looks.
        e = w.wait_error(code)
        assert p.SAYS in e["text"], e
        w.others_work()
        assert rate(w, 2) < 10, "a new stream as soon as one ends"
        rule.remove()
        w.heal_and_work()
        assert d.queue("jobs")["connected"]
    r.expect_log("jobs")
    together(r, ("UNAVAILABLE", "INTERNAL", "RESOURCE_EXHAUSTED"), check)


def test_streams_that_end_well_at_once_again_and_again(r):
    r.expect_log("jobs")
    with world(r) as w:
        rule = w.peer.rule("StreamingPull", p.status("OK", "", opened=True))
        w.start(wait="status")
        wait_for("a few", lambda: rule.hits >= 3)
        assert rate(w, 2) < 10, "a new stream as soon as one ends"
        w.others_work()
        rule.remove()
        w.heal_and_work()


def test_streams_that_say_nothing_of_use_and_end(r):
    """An empty response is no sign of life that makes up for the end."""
    def act(call, go):
        call.send(b"")
        call.finish("UNAVAILABLE", p.SAYS)
    r.expect_log("jobs")
    with world(r) as w:
        w.start()
        w.heal_and_work()
        rule = w.peer.rule("StreamingPull", act)
        w.finish()
        assert rate(w, 2) < 20, "a new stream as soon as one ends"
        rule.remove()
        w.heal_and_work()


def test_streams_that_end_after_each_delivery(r):
    """They have worked: the next comes at once, and nothing is lost or twice."""
    with world(r) as w:
        d = w.start(workers="2-2", MaxOutstanding="5")
        n = 40
        done = threading.Event()

        def cut():
            while not done.is_set():
                for s in w.peer.streams():
                    if len(s.all) and w.jobs.outstanding(s):
                        try:
                            s.finish("UNAVAILABLE")
                        except h2peer.Gone:
                            pass
                time.sleep(0.05)
        t = threading.Thread(target=cut)
        t.start()
        try:
            fill(w, n)
            settled_once(w, n, settle_errors=0)
        finally:
            done.set()
            t.join()
        assert d.queue("jobs")["connects"] <= 2 and len(w.peer.asked("StreamingPull")) > 2


# ---- silence ----

def test_a_stall_is_noticed_and_named(r):
    """Not a byte, no answer to PING; what runs is settled on the new connection."""
    r.expect_log("jobs")
    with world(r) as w:
        d = w.start("sleep 1", KeepAlive="1s", workers="1-1")
        fill(w, 1)
        d.wait_queue("jobs", running=1)
        begin = time.monotonic()
        old, new = w.cut(lambda s: w.peer.mute_all())
        assert new.connection is not old.connection
        assert time.monotonic() - begin < 15
        assert "PING" in d.log() or "keepalive" in d.log().lower(), d.log()
        settled_once(w, 1, settle_errors=0)
        w.heal_and_work()


def test_a_service_that_stalls_for_long(r):
    r.expect_log("jobs")
    with world(r) as w:
        d = w.start(KeepAlive="1s", ConnectTimeout="2s")
        w.heal_and_work()
        w.peer.muted = True
        w.peer.mute_all()
        e = w.wait_error("keepalive_timeout", "connect_timeout")
        assert e["class"] == "transient" and "localhost" in e["text"], e
        w.others_work()
        d.check_turns()
        w.peer.muted = False
        w.peer.mute_all()
        w.heal_and_work()


def test_a_service_that_answers_pings_and_nothing_else(r):
    """The connection is well: an idle subscription looks the same."""
    with world(r) as w:
        w.peer.rule("StreamingPull", p.never())
        d = w.start(KeepAlive="1s")
        c = w.peer.stream().connection
        wait_for("some PINGs", lambda: c.pings >= 3)
        assert d.queue("jobs")["connected"] and not c.ended and w.peer.accepted == 1


def test_a_peer_that_never_says_a_byte(r):
    r.expect_log("jobs")
    with world(r) as w:
        w.peer.muted = True
        w.start(wait="status")
        assert w.wait_error("connect_timeout")["class"] == "transient"
        w.others_work()
        w.peer.muted = False
        w.heal_and_work()


def test_nobody_listens(r):
    r.expect_log("jobs")
    with world(r) as w:
        d = w.start()
        w.heal_and_work()
        w.peer.down()
        e = w.wait_error("ECONNREFUSED")
        assert e["class"] == "transient" and "localhost" in e["text"], e
        w.others_work()
        w.peer.up()
        w.heal_and_work()
        assert d.queue("jobs")["connects"] == 2


# ---- what is no HTTP/2 ----

def test_bytes_that_are_no_http2(r):
    def check(w, data):
        w.peer.raw, w.peer.raw_then = data
        w.start(wait="status")
        e = w.wait_error("not_http2")
        assert e["class"] == "protocol", e
        w.others_work()
        assert rate(w) < 20
        w.peer.raw = None
        w.heal_and_work()
    r.expect_log("jobs")
    together(r, ((b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "close"),
                 (b"SSH-2.0-OpenSSH_9.2\r\n", None), (b"\xff" * 100, None),
                 (b"HTTP/1.1 400 Bad Request\r\n\r\n", None)), check)


def broken(w, row):
    """In the middle of work: it is named, and what comes after is well."""
    name, codes, action = row
    d = w.start()
    w.heal_and_work()
    rule = w.peer.rule("StreamingPull", action)
    w.finish()
    e = w.wait_error(*codes.split("|"))
    assert e["class"] in ("protocol", "transient", "rejected"), (name, e)
    w.others_work()
    assert rate(w) < 20, name
    assert d.rss_kib() < 250 * 1024
    rule.remove()
    w.heal_and_work()
    assert d.queue("jobs")["dead"] == 0


def broken_rows(*rows):
    def test(r):
        r.expect_log("jobs")
        together(r, rows, broken)
    return test


test_broken_messages = broken_rows(
    ("malformed", "malformed_message", p.malformed()),
    ("oversized", "message_too_large", p.oversized()),
    ("compressed", "compressed", p.compressed()),
    ("cut", "malformed_message|missing_status", p.cut_message()))
test_broken_streams = broken_rows(
    ("no trailers", "missing_status", p.missing_trailers()),
    ("data first", "http2_error|INTERNAL", p.data_first()),
    ("HTML", "missing_status", p.http_status(200)),
    ("status that is no number", "UNKNOWN", p.status_alone("green")))
test_broken_frames = broken_rows(
    ("16 MB", "http2_error|not_http2|eof", p.oversized_frame()),
    ("SETTINGS of 5 bytes", "http2_error|not_http2|eof",
     lambda c, go: c.connection.frame(h2peer.SETTINGS, 0, 0, b"12345")),
    ("WINDOW_UPDATE of 0", "http2_error|not_http2|eof|INTERNAL",
     lambda c, go: c.connection.frame(h2peer.WINDOW_UPDATE, 0, 0, b"\0\0\0\0")),
    ("a header block that is none", "http2_error|not_http2|eof|INTERNAL",
     p.frames((h2peer.HEADERS, h2peer.END_HEADERS, b"\xff\xff\xff\xff\xff\xff\xff"))))
test_broken_order = broken_rows(
    ("a push", "http2_error|not_http2|eof|INTERNAL",
     lambda c, go: c.connection.frame(h2peer.PUSH_PROMISE, h2peer.END_HEADERS, c.id, struct.pack(">I", 2) + b"\x82")),
    ("an answer to a call that nobody made", "http2_error|not_http2|eof|INTERNAL",
     lambda c, go: c.connection.frame(h2peer.DATA, 0, c.id + 100, b"x" * 10)),
    ("a window of more than 2 GB", "http2_error|not_http2|eof|INTERNAL", lambda c, go: [
        c.connection.frame(h2peer.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") for _ in range(2)]))


def test_answers_of_unary_calls_that_are_broken(r):
    """Looking at the subscription; each is named, and over when it is over."""
    def check(w, row):
        codes, action = row
        rule = w.peer.rule("GetSubscription", action)
        w.start(wait="status")
        w.wait_error(*codes.split("|"))
        w.others_work()
        rule.remove()
        w.heal_and_work()
    r.expect_log("jobs")
    together(r, (("malformed_message", p.malformed()), ("missing_status", p.missing_trailers()),
                 ("message_too_large", p.oversized()), ("timeout|DEADLINE_EXCEEDED", p.never()),
                 ("INTERNAL", p.rst(h2peer.INTERNAL_ERROR))), check)


# ---- messages ----

def deliver(w, *received):
    """Past the model: the stream says this."""
    w.peer.stream().send(protobuf.encode("StreamingPullResponse", {"received_messages": list(received)}))


def test_messages_that_are_none(r):
    """Without a message, an ack id or an id: nothing of it runs, and what comes
    after it does."""
    def check(w, received):
        d = w.start()
        w.heal_and_work()
        deliver(w, received)
        w.wait_error("malformed_answer")
        w.heal_and_work()
        q = d.queue("jobs")
        assert q["received"] == 2 and q["dead"] == 0, q
    r.expect_log("jobs")
    together(r, ({}, {"ack_id": "a1"}, {"message": {"data": b"x", "message_id": "1"}}, {"ack_id": "a2", "message": {}},
                 {"ack_id": "a3", "message": {"data": b"no id"}}), check)


def test_bodies_and_attributes_of_all_kinds(r):
    with world(r) as w:
        d = w.start("env > %s/env" % r.dir, Format="raw")
        odd = w.jobs.fill(b"\x00\xff\xfe binary", attributes={
            "k\u00e4se": "\u00fc=1\n2", "x" * 256: "y" * 1024, "empty": ""})
        d.wait_queue("jobs", done=1)
        w.wait_empty()
        assert odd[0].attempts == 1


def test_an_empty_body_with_attributes(r):
    with world(r) as w:
        d = w.start()
        w.jobs.fill("", attributes={"only": "attributes"})
        d.wait_queue("jobs", done=1)
        w.wait_empty()


def test_a_body_over_maxbytes_is_buried_whole(r):
    r.expect_log("dead letters")
    with world(r) as w:
        d = w.start(MaxBytes="1000")
        w.jobs.fill("y" * 5000, "fine")
        d.wait_queue("jobs", done=1, dead=1)
        assert w.dead.bodies() == ["y" * 5000]
        assert w.dead.messages[0].attributes["bot-error-type"] == "invalid_format"


def test_a_message_that_comes_a_byte_at_a_time(r):
    with world(r) as w:
        d = w.start()
        m = w.jobs.fill("slow")[0]
        d.wait_queue("jobs", done=1)
        assert m.attempts == 1
        w.peer.delivering = False
        m = w.jobs.fill("m0")[0]
        with w.peer.service.cond:
            wire = w.jobs.wire(w.jobs.take(1, 60, w.peer.stream())[0])
        w.peer.stream().drip(h2peer.message(protobuf.encode("StreamingPullResponse", {"received_messages": [wire]})),
                             0.002)
        d.wait_queue("jobs", done=2)
        w.wait_empty()


def test_many_messages_and_few_calls(r):
    with world(r) as w:
        d = w.start(pool=MODULE)
        n = 5000
        fill(w, n, attributes={"a": "b" * 500})
        d.wait_queue("jobs", 40, done=n, settle_errors=0)
        w.wait_empty()
        calls = w.peer.asked("Acknowledge")
        assert sum(len(c.request["ack_ids"]) for c in calls) == n
        assert len(calls) < n // 10, "%d calls for %d acknowledgements" % (len(calls), n)
        assert {c.connection.n for c in w.peer.asked()} == {1}


def test_more_acknowledgements_than_fit_into_a_call(r):
    """2500 at most, and 512 KiB; what is collected while one is held goes in parts."""
    with world(r) as w:
        go_on = threading.Event()
        d = w.start(pool=MODULE, MaxOutstanding="10000", Prefetch="10000", Lease="60s")
        w.peer.rule("Acknowledge", p.held(go_on))
        fill(w, 6000)
        wait_for("them to be taken", lambda: d.queue("jobs")["received"] == 6000)
        go_on.set()
        d.wait_queue("jobs", 40, done=6000, settle_errors=0)
        w.wait_empty()


def test_big_messages_through_small_windows(r):
    with world(r) as w:
        w.peer.settings = {"max_streams": 100, "window": 300}
        d = w.start(MaxBytes="10M")
        bodies = ["m%d " % i + "x" * 3000000 for i in range(6)]
        w.jobs.fill(*bodies)
        d.wait_queue("jobs", 40, done=6)
        w.wait_empty()
        assert sorted(w.out()) == sorted(bodies)
        assert d.rss_kib() < 300 * 1024, d.rss_kib()


def test_few_streams_at_a_time(r):
    """SETTINGS_MAX_CONCURRENT_STREAMS of 2: one for the stream, one for all else."""
    with world(r) as w:
        w.peer.settings = {"max_streams": 2}
        w.start("case $body in m*[05]) [ $BOT_ATTEMPT -ge 2 ] || exit 75 ;; esac", workers="2-2")
        fill(w, 30)
        w.d.wait_queue("jobs", 40, done=30, settle_errors=0)
        w.wait_empty()
        assert sorted(w.out()) == sorted("m%d" % i for i in range(30))


# ---- TLS ----

def test_over_tls(r):
    with world(r, tls=True, auth="service") as w:
        w.start()
        fill(w, 20)
        settled_once(w, 20)


def test_tls_certificate_of_another_ca(r):
    r.expect_log("jobs")
    ca = rig.Certificate(os.path.dirname(r.path("other", "x"))).ca
    with world(r, tls=True, auth="user") as w:
        w.start(wait="status", TLSCAFile=ca)
        e = w.wait_error("tls_verify")
        assert e["class"] == "auth" and "localhost" in e["text"], e
        assert w.peer.called() == [], "it spoke to a peer that it does not trust"


def test_tls_certificate_of_another_name(r):
    r.expect_log("jobs")
    cert = r.certificate()
    mine, key = os.path.join(r.dir, "n.pem"), os.path.join(r.dir, "n-key.pem")
    cert.issue(mine, key, "elsewhere.test", "subjectAltName=DNS:elsewhere.test\n")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(mine, key)
    context.set_alpn_protocols(["h2"])
    with world(r, tls=True, auth="user", context=context) as w:
        w.start(wait="status")
        e = w.wait_error("tls_verify", "tls_name")
        assert e["class"] == "auth" and w.peer.called() == [], e


def test_tls_without_alpn(r):
    """A server that speaks HTTP/1.1 only, or does not say."""
    r.expect_log("jobs")
    with world(r, tls=True, auth="user") as w:
        right, w.peer.tls = w.peer.tls, w.certificate.server_context()
        w.start(wait="status")
        e = w.wait_error("not_http2", "tls_alpn")
        assert e["class"] in ("protocol", "transient") and w.peer.called() == [], e
        w.others_work()
        w.peer.tls = right
        w.heal_and_work()


def test_a_peer_that_never_shakes_hands(r):
    r.expect_log("jobs")
    with world(r, tls=True, auth="user") as w:
        hello = threading.Event()
        real, w.peer.serve = w.peer.serve, lambda n, c: (hello.wait(40), c.close())
        w.start(wait="status")
        e = w.wait_error("connect_timeout", "handshake_timeout")
        assert e["class"] == "transient", e
        w.others_work()
        w.peer.serve = real
        hello.set()
        w.heal_and_work()


if __name__ == "__main__":
    rig.main(globals(), jobs=3)
