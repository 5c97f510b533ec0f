"""A scripted AWS over TLS in the place of SQS: every error that it can say,
answers that stop, and what real servers never do.
"""
import json
import os
import ssl
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
from aws_peer import Reply, answer, edit, error, half, hang_up, never, raw, reset, status  # noqa: E402
from rig import wait_for  # noqa: E402
from sqs_world import each, rate, together, world  # noqa: E402

# ---- every error: named, of the right class, no storm, healed without a restart ----

def error_row(w, row):
    code, action, cls = row
    # From the first request on.
    rule = w.peer.rule("*", action)
    d = w.start(wait="status")
    e = w.wait_error(code)
    assert e["class"] in cls.split("|"), e
    assert not d.queue("jobs")["connected"] and len(e["text"]) > 10, e
    wait_for("the status to say so", lambda: d.status()["status"] == "degraded")
    assert d.get("/.well-known/engine-status")[0] == 200
    w.others_work()
    assert rate(w, "*", 1) < 20, "it hammers a service that says no"
    rule.remove()
    w.heal_and_work()
    # And in the middle of its work.
    rule = w.peer.rule("*", action)
    w.jobs.fill("in the middle")
    w.wait_error(code)
    rule.remove()
    d.wait_queue("jobs", 40, done=2, connected=True)
    assert sorted(w.out()) == ["after the trouble 0", "in the middle"], w.out()
    assert d.queue("jobs")["dead"] == 0


def error_rows(rows):
    """Each in a world of its own, together: they mostly wait."""
    def test(r):
        r.expect_log("jobs")
        together(r, rows, error_row)
    return test


# name, status, class, does AWS' front door say it (com.amazon.coral.service#)
ROWS = (
    ("AccessDenied", 403, "auth", True),
    ("AccessDeniedException", 403, "auth", False),
    ("InvalidClientTokenId", 403, "auth", True),
    ("UnrecognizedClientException", 403, "auth", True),
    ("SignatureDoesNotMatch", 403, "auth", True),
    ("InvalidSignatureException", 403, "auth", True),
    ("IncompleteSignature", 403, "auth", True),
    ("MissingAuthenticationToken", 403, "auth", True),
    ("ExpiredToken", 403, "auth", True),
    ("OptInRequired", 403, "auth", True),
    ("KmsAccessDenied", 400, "auth", False),
    ("KmsDisabled", 400, "transient|rejected", False),
    ("KmsNotFound", 400, "transient|rejected", False),
    ("QueueDoesNotExist", 400, "rejected", False),
    ("QueueDeletedRecently", 400, "transient|rejected", False),
    ("UnsupportedOperation", 400, "transient|rejected", False),
    ("UnknownOperationException", 400, "transient|rejected", True),
    ("SerializationException", 400, "protocol", True),
    ("InvalidSecurity", 403, "transient|rejected|auth", False),
    ("SomethingNew", 400, "rejected", False),
    ("InternalFailure", 500, "transient", False),
    ("ServiceUnavailable", 503, "transient", False),
    ("RequestTimeout", 408, "transient", False),
)
_rows = [(_name, error(_name, _status, coral=_coral), _class) for _name, _status, _class, _coral in ROWS]
_rows += [("HTTP_%d" % _status, status(_status, "<html>no</html>", {"Content-Type": "text/html"}), _class)
          for _status, _class in (
              (403, "auth|transient|rejected"), (404, "transient|rejected"), (413, "transient|rejected"),
              (500, "transient"), (502, "transient"), (503, "transient"), (504, "transient"))]
for _i in range(0, len(_rows), 6):
    globals()["test_errors_%d" % (_i // 6 + 1)] = error_rows(_rows[_i:_i + 6])


def test_error_names_with_other_spelling(r):
    """No prefix, "Message", a URL behind the name, the header instead of a body."""
    def check(w, reply):
        w.peer.rule("*", lambda q, go: reply)
        w.start(wait="status")
        e = w.wait_error("AccessDeniedException")
        assert e["class"] == "auth", e
    r.expect_log("jobs")
    name = "AccessDeniedException"
    each(r, (Reply(400, {"__type": name, "Message": "capital"}),
             Reply(403, {"__type": "com.amazonaws.sqs#%s:http://internal.amazon.com/" % name, "message": "x"}),
             Reply(403, {"code": name}, {"x-amzn-ErrorType": name})), check)


def test_error_text_reaches_people_but_not_its_signs(r):
    """The service's own words, without line ends and what is no UTF-8."""
    r.expect_log("jobs")
    with world(r) as w:
        w.peer.rule("*", lambda q, go: Reply(403, b'{"__type":"x#AccessDeniedException","message":"User: arn:aws:iam::1'
                                             b':user/me is not\\nauthorized \xff\\u0000to perform: sqs:receivemessage"}'))
        d = w.start(wait="status")
        e = w.wait_error("AccessDeniedException", "malformed_answer", "HTTP_403")
        assert "\n" not in e["text"] and len(e["text"]) < 1000, e
        assert json.loads(d.botctl("status", "--json").stdout)


def throttled(name, code):
    def test(r):
        """Slower, still connected, nothing lost."""
        r.expect_log("receiving slows down")
        with world(r) as w:
            d = w.start(workers="4-4", Prefetch="20")
            w.jobs.fill(*["a%d" % i for i in range(20)])
            d.wait_queue("jobs", done=20)
            rules = [w.peer.rule(t, error(name, code)) for t in ("ReceiveMessage", "DeleteMessageBatch")]
            w.jobs.fill(*["b%d" % i for i in range(20)])
            wait_for("it to be refused", lambda: rules[0].hits >= 2)
            assert rate(w, "ReceiveMessage", 1.5) < 12, "receives do not slow down"
            assert d.queue("jobs")["connected"], d.queue("jobs")["error"]
            if name != "OverLimit":
                assert d.queue("jobs")["throttled"] >= 2, d.queue("jobs")
            for rule in rules:
                rule.remove()
            d.wait_queue("jobs", 40, done=40)
            w.wait_empty()
            assert sorted(w.out()) == sorted(["a%d" % i for i in range(20)] + ["b%d" % i for i in range(20)])
            assert d.queue("jobs")["connects"] == 1, "it went down for being throttled"
    return test


for _name, _status in (("RequestThrottled", 403), ("ThrottlingException", 400), ("KmsThrottled", 400),
                       ("OverLimit", 403)):
    globals()["test_throttled_by_" + _name] = throttled(_name, _status)


def test_overlimit_lets_settlements_go_on(r):
    """The cap of messages in flight: what we hold must be settled for it to end."""
    r.expect_log("receiving slows down")
    with world(r) as w:
        d = w.start("sleep 0.3", Prefetch="8")
        w.jobs.fill(*["m%d" % i for i in range(8)])
        d.wait_queue("jobs", in_flight=8)
        rule = w.peer.rule("ReceiveMessage", error("OverLimit", 403))
        d.wait_queue("jobs", done=8)
        w.wait_empty()
        rule.remove()
        w.heal_and_work()


def test_throttled_deletes_are_repeated(r):
    with world(r) as w:
        rule = w.peer.rule("DeleteMessageBatch", error("RequestThrottled", 403), times=3)
        d = w.start()
        w.jobs.fill(*["m%d" % i for i in range(10)])
        d.wait_queue("jobs", done=10)
        w.wait_empty()
        assert rule.hits == 3 and len(w.out()) == 10 and d.queue("jobs")["settle_errors"] == 0


def test_error_of_the_dead_letter_queue_is_named(r):
    """The queue that dead letters go to does not exist."""
    r.expect_log("jobs")
    with world(r) as w:
        d = w.start(wait="status", DeadLetter="elsewhere")
        e = w.wait_error("QueueDoesNotExist")
        assert "elsewhere" in e["text"] and e["class"] == "rejected", e
        w.peer.sqs.queue("elsewhere")
        w.heal_and_work()
        r.expect_log("dead letters")
        w.jobs.fill("dead")
        d.wait_queue("jobs", dead=1)
        assert w.peer.sqs.queues["elsewhere"].bodies() == ["dead"]


def test_account_is_the_owner(r):
    r.expect_log("jobs")
    with world(r) as w:
        d = w.start(AccountId="123456789012")
        w.heal_and_work()
        asked = [q.body.get("QueueOwnerAWSAccountId") for q in w.peer.asked("GetQueueUrl") if q.queue == "jobs"]
        assert asked and set(asked) == {"123456789012"}, asked
        d.stop()
        w.start(AccountId="999999999999", wait="status", name="other")
        w.wait_error("QueueDoesNotExist")


# ---- the wire ----

def trouble(w, row):
    code, action, cls = row
    d = w.start()
    w.heal_and_work()
    rule = w.peer.rule("ReceiveMessage", action)
    e = w.wait_error(*code.split("|"))
    assert e["class"] in cls.split("|"), e
    w.others_work()
    assert d.rss_kib() < 250 * 1024
    rule.remove()
    w.heal_and_work()
    d.check_turns()
    assert d.queue("jobs")["dead"] == 0


def test_answers_that_never_come_or_stop(r):
    """Not at all, in the middle, in the middle of the head."""
    r.expect_log("jobs")
    together(r, [("response_timeout", a, "transient") for a in (
        never(), half("silence", apply=False), half("silence", cut=20, apply=False))], trouble)


def test_answers_that_end_too_early(r):
    """In the middle or before the first byte, in order or by RST."""
    r.expect_log("jobs")
    together(r, (("eof|tls_eof", half("close", apply=False), "transient"),
                 ("ECONNRESET|eof|tls_eof", half("reset", apply=False), "transient"),
                 ("eof|tls_eof|ECONNRESET|closed", hang_up(), "transient"),
                 ("ECONNRESET|eof|tls_eof|closed", reset(), "transient")), trouble)


def test_an_answer_that_is_no_http(r):
    r.expect_log("jobs")
    with world(r) as w:
        w.start()
        w.heal_and_work()
        rule = w.peer.rule("ReceiveMessage", raw(b"\x00\x01\x02 220 smtp ready\r\n\r\n", "close"))
        wait_for("a protocol error", lambda: w.error().get("class") == "protocol")
        w.others_work()
        rule.remove()
        w.heal_and_work()


def test_a_redirect_is_not_followed(r):
    r.expect_log("jobs")
    with world(r) as w:
        trouble(w, ("redirect|HTTP_302", status(302, b"", {"Location": "https://elsewhere.test/?token=s3cr3t"}),
                    "rejected|transient"))


def test_a_huge_answer(r):
    """200 MB announced, and some of them sent."""
    r.expect_log("jobs")
    with world(r) as w:
        trouble(w, ("response_too_large", lambda q, go: Reply(
            200, b"{" + b" " * (40 << 20), {"Content-Length": str(200 << 20)}, then="close"),
            "rejected|protocol|transient"))


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


def test_tls_certificate_of_another_ca(r):
    r.expect_log("jobs")
    other = r.path("other", "x")
    ca = rig.Certificate(os.path.dirname(other)).ca
    with world(r) as w:
        w.start(wait="status", TLSCAFile=ca)
        e = w.wait_error("tls_verify")
        assert e["class"] == "auth" and "localhost" in e["text"], e
        assert w.peer.requests == [], "it spoke to a peer that it does not trust"


def test_tls_certificate_of_another_name(r):
    r.expect_log("jobs")
    cert = r.certificate()
    mine, key = os.path.join(r.dir, "n.pem"), os.path.join(r.dir, "n-key.pem")
    cert.issue(mine, key, "elsewhere.test", "subjectAltName=DNS:elsewhere.test\n")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(mine, key)
    with world(r, context=context) as w:
        w.start(wait="status")
        e = w.wait_error("tls_verify", "tls_name")
        assert e["class"] == "auth" and w.peer.requests == [], e


def test_a_peer_that_never_shakes_hands(r):
    """Accepts TCP and says nothing."""
    r.expect_log("jobs")
    with world(r) as w:
        hello = threading.Event()
        real, w.peer.serve = w.peer.serve, lambda n, c: (hello.wait(20), c.close())
        w.start(wait="status", ResponseTimeout="3s")
        e = w.wait_error("connect_timeout", "handshake_timeout")
        assert e["class"] == "transient", e
        w.others_work()
        w.peer.serve = real
        hello.set()
        w.heal_and_work()


# ---- answers that are HTTP and no answers ----

def malformed(*values):
    def test(r):
        r.expect_log("jobs")
        with world(r) as w:
            w.start()
            w.heal_and_work()
            for value in values:
                rule = w.peer.rule("ReceiveMessage", answer(value))
                e = w.wait_error("malformed_answer")
                assert e["class"] in ("protocol", "transient"), e
                w.others_work()
                rule.remove()
                w.heal_and_work()
    return test


test_malformed_no_json = malformed(b"<html>login to the wifi</html>", b'{"Messages":[{"MessageId":"a","Bo', b"\xff\xfe")
test_malformed_other_types = malformed([], {"Messages": {}}, {"Messages": "none"}, {"Messages": ["x"]})
test_malformed_messages = malformed({"Messages": [{}]}, {"Messages": [{"MessageId": "a", "Body": "b"}]},
                                    {"Messages": [{"MessageId": 7, "ReceiptHandle": 8, "Body": 9}]})


def test_malformed_deeply_nested(r):
    malformed(b'{"Messages":' + b"[" * 100000 + b"]" * 100000 + b"}")(r)


def test_malformed_queue_url(r):
    def check(w, value):
        rule = w.peer.rule("GetQueueUrl", answer(value))
        w.start(wait="status")
        w.wait_error("malformed_answer")
        rule.remove()
        w.heal_and_work()
    r.expect_log("jobs")
    each(r, ({}, {"QueueUrl": 7}, {"QueueUrl": ""}, {"QueueUrl": "no url"}, b""), check)


def test_nothing_in_many_spellings(r):
    """Absent, null and [] are all no messages; answered at once they do not make it spin."""
    with world(r) as w:
        d = w.start()
        w.heal_and_work()
        for value in ({}, {"Messages": None}, {"Messages": []}):
            rule = w.peer.rule("ReceiveMessage", answer(value))
            wait_for("it to be asked", lambda: rule.hits >= 2)
            assert rate(w, "ReceiveMessage", 1) < 100, "it spins"
            assert d.queue("jobs")["connected"]
            rule.remove()
            w.heal_and_work()


def test_null_members_of_a_message(r):
    def nulls(value):
        for m in value.get("Messages", ()):
            m.update(MessageAttributes=None, MD5OfMessageAttributes=None, SomethingNew={"a": [1]})
            m["Attributes"]["DeadLetterQueueSourceArn"] = None
    with world(r) as w:
        rule = w.peer.rule("ReceiveMessage", edit(nulls))
        d = w.start()
        w.jobs.fill("a", "b")
        d.wait_queue("jobs", done=2)
        assert rule.hits and sorted(w.out()) == ["a", "b"]


def test_a_receive_count_that_is_none(r):
    """Without ApproximateReceiveCount, or with nonsense in it, it is the first attempt."""
    values = [None, "", "-3", "many", "99999999999999999999"]

    def strange(value):
        for m in value.get("Messages", ()):
            v = values[int(m["Body"])]
            if v is None:
                del m["Attributes"]["ApproximateReceiveCount"]
            else:
                m["Attributes"]["ApproximateReceiveCount"] = v
    with world(r) as w:
        w.peer.rule("ReceiveMessage", edit(strange))
        d = w.start()
        w.jobs.fill(*[str(i) for i in range(len(values))])
        d.wait_queue("jobs", done=len(values))
        assert sorted(w.out()) == [str(i) for i in range(len(values))]


def test_ten_large_messages_at_once(r):
    """Ten of 250 KB, whose JSON is twice as long; more than they are must fit."""
    with world(r) as w:
        w.jobs.fill(*[("%d" % i) + '"' * 250000 for i in range(10)])
        d = w.start("body=$(printf %s \"$body\" | wc -c)", Prefetch="10", ResponseTimeout="10s", MaxBytes="256K")
        d.wait_queue("jobs", 30, done=10)
        assert w.out() == ["250001"] * 10, w.out()
        w.wait_empty()
        assert d.rss_kib() < 250 * 1024


def test_text_of_all_kinds_arrives_unchanged(r):
    bodies = ["z\u00fcrich \U0001f600", "tab\tand\nline", "\\u0000 is not a zero", "quote\" slash/ back\\", "\ud7ff\ue000"]
    with world(r) as w:
        d = w.start("printf %s \"$body\" | od -An -tx1 | tr -d ' \\n' >> " + r.dir + "/hex; echo >> " + r.dir + "/hex",
                    workers="1-1")
        w.jobs.fill(*bodies)
        d.wait_queue("jobs", done=len(bodies))
        with open(r.path("hex")) as f:
            assert sorted(bytes.fromhex(x).decode() for x in f.read().split()) == sorted(bodies)


# ---- MD5 ----

def md5(w, row):
    word, change = row

    def wrong(value):
        for m in value.get("Messages", ()):
            if m["Attributes"]["ApproximateReceiveCount"] == "1" and m["Body"] == "bad":
                change(m)
    w.peer.rule("ReceiveMessage", edit(wrong))
    d = w.start(Lease="9s")
    attribute = {"colour": {"DataType": "String", "StringValue": "blue"},
                 "raw": {"DataType": "Binary", "BinaryValue": "AAEC"}, "n": {"DataType": "Number.x", "StringValue": "7"}}
    w.jobs.fill("good", "bad", attributes=attribute)
    d.wait_queue("jobs", done=2)
    assert sorted(w.out()) == ["bad", "good"], w.out()
    assert word in d.log(), d.log()
    back = [e for q in w.peer.asked("ChangeMessageVisibility*") for e in q.body.get("Entries", [q.body])]
    # Not at once: what mangles it may do so for a while.
    assert any(e["VisibilityTimeout"] == 5 for e in back), "it was not given back: %s" % back
    assert d.queue("jobs")["dead"] == 0


def test_md5_that_do_not_fit(r):
    """Of a body and of attributes; they are wrong, or what they are of has changed."""
    r.expect_log("MD5")
    together(r, (("MD5OfBody", lambda m: m.update(MD5OfBody="0" * 32)),
                 ("MD5OfBody", lambda m: m.update(Body="worse")),
                 ("MD5OfMessageAttributes", lambda m: m.update(MD5OfMessageAttributes="0" * 32)),
                 ("MD5OfMessageAttributes", lambda m: m["MessageAttributes"]["colour"].update(StringValue="red"))), md5)


if __name__ == "__main__":
    rig.main(globals(), jobs=3)
