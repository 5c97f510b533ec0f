"""Our Pub/Sub with Google's own client: that it behaves as real clients expect.
What Google's emulator knows as well is asked from both.
"""
import json
import os
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import node  # noqa: E402
import pubsub  # noqa: E402
import rig  # noqa: E402
from rig import wait_for  # noqa: E402


class Consumer(rig.Process):
    """consume.mjs: the official client, commanded."""

    def __init__(self, r, peer, subscription=None, **options):
        self.peer, self.taken = peer, 0
        super().__init__(r, "consume", [node.node(), os.path.join(node.install(), "consume.mjs"), json.dumps({
            "project": peer.project, "subscription": subscription, "options": options})], stdin=subprocess.PIPE,
            env=dict(os.environ, PUBSUB_EMULATOR_HOST=peer.host, NODE_NO_WARNINGS="1"))

    def said(self):
        lines = self.log().split("\n")[:-1]
        if not self.alive() or any(not line.startswith("{") for line in lines):
            raise AssertionError("consume.mjs said:\n" + self.log()[-3000:])
        return [json.loads(line) for line in lines]

    def tell(self, **command):
        self.p.stdin.write(json.dumps(command).encode() + b"\n")
        self.p.stdin.flush()

    def messages(self, n, deadline=None):
        """The next n."""
        def enough():
            got = [x for x in self.said() if "message" in x][self.taken:]
            return got if len(got) >= n else None
        got = wait_for("%d messages" % n, enough, deadline)[:n]
        self.taken += n
        return got

    def message(self, deadline=None):
        return self.messages(1, deadline)[0]

    def next(self, key, deadline=None, **want):
        """The last line that has this key, once there is a new one."""
        before = getattr(self, "seen_" + key, 0)
        found = wait_for("%s %s" % (key, want), lambda: [
            x for x in self.said() if key in x and all(x.get(k) == v for k, v in want.items())][before:], deadline)
        setattr(self, "seen_" + key, before + 1)
        return found[0]

    def raw(self, method, **request):
        self.tell(raw=method, request=request)
        return self.next("raw")


def fake():
    return rig.shared("pubsub", lambda r: r.pubsub())


def emulator():
    return rig.shared("emulator", lambda r: r.pubsub_emulator())


def each_peer(test):
    """On ours and on Google's: two tests."""
    name = test.__name__
    globals()["test_fake_" + name] = lambda r: test(r, fake(), name.replace("_", "-"))
    globals()["test_emulator_" + name] = lambda r: test(r, emulator(), name.replace("_", "-"))


# ---- what both do ----

@each_peer
def delivers_and_acknowledges(r, p, q):
    p.create(q)
    ids = p.publish_with_client(r, q, [{"data": "body %d" % i, "attributes": {"n": str(i), "z": "\u00fc"}}
                                       for i in range(20)])
    assert len(set(ids)) == 20
    c = Consumer(r, p, q)
    got = c.messages(20)
    assert {m["message"] for m in got} == set(ids)
    assert {(m["data"], m["attributes"]["n"], m["attributes"]["z"]) for m in got} == {
        ("body %d" % i, str(i), "\u00fc") for i in range(20)}
    assert all(not m.get("attempt") for m in got), "an attempt without a dead letter policy"
    for m in got:
        c.tell(ack=m["message"])
    c.tell(close=1)
    c.next("closed")
    assert p.pull(q) == []


@each_peer
def redelivers_a_nack_with_a_new_ack_id(r, p, q):
    p.create(q)
    c = Consumer(r, p, q)
    p.publish(q, "again")
    first = c.message()
    c.tell(nack=first["message"])
    second = c.message()
    assert second["message"] == first["message"] and second["ackId"] != first["ackId"]
    c.tell(ack=second["message"])
    c.tell(close=1)
    c.next("closed")
    assert p.pull(q) == []


@each_peer
def redelivers_when_the_deadline_is_over(r, p, q):
    p.create(q)
    p.publish(q, "late")
    held = p.pull(q)
    assert held[0]["body"] == b"late"
    p.modify(q, 1, *held)
    c = Consumer(r, p, q)
    m = c.message()
    assert m["data"] == "late" and m["ackId"] != held[0]["ackId"]
    c.tell(ack=m["message"])


@each_peer
def keeps_the_order_of_a_key(r, p, q):
    p.create(q, ordering=True)
    p.publish_with_client(r, q, [{"data": "%s%d" % (k, i), "orderingKey": k} for i in range(5) for k in "ab"])
    c = Consumer(r, p, q)
    done = {"a": [], "b": []}
    refused = set()
    # The client goes on with the later ones that it has.  Whether these come again when they were acknowledged is
    # where the emulator differs from the service.
    while not {"a2", "a3", "a4"} <= set(done["a"]) or len(done["b"]) < 5:
        m = c.message()
        if m["data"] == "a2" and not refused:
            refused.add(m["message"])
            c.tell(nack=m["message"])
            continue
        done[m["key"]].append(m["data"])
        c.tell(ack=m["message"])
    assert done["a"][:2] == ["a0", "a1"] and done["a"].count("a2") == 1, done
    assert refused, done
    assert done["b"] == ["b%d" % i for i in range(5)], done


@each_peer
def makes_dead_letters(r, p, q):
    p.create(q, dead=q + "-dead", attempts=5)
    c = Consumer(r, p, q)
    p.publish(q, "poison", attributes={"mine": "1"})
    for attempt in range(1, 6):
        m = c.message()
        assert m["attempt"] == attempt, m
        c.tell(nack=m["message"])
    dead = p.drain(q + "-dead", 1)[0]
    a = dead["attributes"]
    assert dead["body"] == b"poison" and a["mine"] == "1"
    assert a["CloudPubSubDeadLetterSourceDeliveryCount"] == "5", a
    assert a["CloudPubSubDeadLetterSourceSubscription"] == q, a
    assert a["CloudPubSubDeadLetterSourceSubscriptionProject"] == p.project, a
    assert "T" in a["CloudPubSubDeadLetterSourceTopicPublishTime"], a


@each_peer
def half_closed_stream_ends_well(r, p, q):
    p.create(q)
    p.publish(q, "one")
    c = Consumer(r, p)
    c.tell(halfClose=p.subscription(q))
    assert c.next("halfClosed")["halfClosed"] == 0


@each_peer
def says_what_is_wrong(r, p, q):
    p.create(q)
    c = Consumer(r, p)
    name = p.subscription(q)
    assert c.raw("pull", subscription=p.subscription("nowhere"), maxMessages=1)["error"] == 5
    assert c.raw("acknowledge", subscription=name, ackIds=[])["error"] == 3
    assert c.raw("acknowledge", subscription=name, ackIds=["none of yours"])["error"] == 3
    assert c.raw("pull", subscription=name, maxMessages=0)["error"] == 3
    assert c.raw("modifyAckDeadline", subscription=name, ackIds=["x"], ackDeadlineSeconds=601)["error"] == 3
    for call, status in ((lambda: p.create_topic(q), 409), (lambda: p.create_topic("x"), 400),
                         (lambda: p.publish("nowhere", "x"), 404), (lambda: p.publish(q, ""), 400)):
        try:
            call()
        except pubsub.PubsubError as e:
            assert e.status == status, e
        else:
            raise AssertionError("%d was expected" % status)


# ---- what only ours can be asked ----

def test_limits():
    p = fake()
    p.create("limits")
    for body, text in (({"messages": [p.message("x")] * 1001}, "1001"),
                       ({"messages": [p.message("x", {"k" * 257: "v"})]}, "too long"),
                       ({"messages": [p.message("x", {"k": "v" * 1025})]}, "too long"),
                       ({"messages": [p.message("x", {str(i): "v" for i in range(101)})]}, "too long"),
                       ({"messages": [p.message("x" * 10485761)]}, "10485760")):
        try:
            p.rest("POST", "/v1/%s:publish" % p.topic("limits"), body)
        except pubsub.PubsubError as e:
            assert e.status == 400 and text in str(e), e
        else:
            raise AssertionError("accepted: %s" % text)
    p.publish("limits", "x" * 10000000)
    assert p.look("limits")["published"] == 1


def test_an_acknowledgement_has_a_limit(r):
    p = fake()
    p.create("ack-limit")
    p.publish("ack-limit", "x")
    m = p.pull("ack-limit")[0]
    assert len(m["ackId"]) == 164
    c = Consumer(r, p)
    name = p.subscription("ack-limit")
    too_many = c.raw("acknowledge", subscription=name, ackIds=[m["ackId"]] * 3200)
    assert too_many["error"] == 3 and "524288" in too_many["text"], too_many
    assert "error" not in c.raw("acknowledge", subscription=name, ackIds=[m["ackId"]] * 2500)
    assert p.look("ack-limit")["acked"] == 1


def test_flow_control(r):
    p = fake()
    p.create("flow")
    p.publish_all("flow", ["m%d" % i for i in range(50)])
    c = Consumer(r, p, "flow", flowControl={"maxMessages": 7, "allowExcessMessages": False}, ackDeadline=30,
                 streamingOptions={"maxStreams": 1})
    p.wait_look("flow", outstanding=7)
    assert p.look("flow")["streams"][0]["max_messages"] == 7
    for _ in range(50):
        c.tell(ack=c.message()["message"])
        assert p.look("flow")["outstanding"] <= 7
    p.wait_look("flow", acked=50, delivered=50, undelivered=0)


def test_time_can_be_skipped(r):
    p = r.pubsub()
    p.create("skip", backoff=(30, 60))
    p.publish("skip", "x")
    m = p.pull("skip")
    p.advance(9)
    assert p.look("skip")["outstanding"] == 1
    p.modify("skip", 600, *m)
    p.advance(599)
    assert p.look("skip")["outstanding"] == 1
    p.advance(1.1)
    assert p.look("skip")["expired"] == 1 and p.look("skip")["delayed"] == 1
    p.advance(29)
    assert p.pull("skip") == []
    p.advance(1.1)
    # The second back-off is twice as long.
    p.modify("skip", 0, *p.pull("skip"))
    p.advance(59)
    assert p.pull("skip") == [] and p.look("skip")["delayed"] == 1
    p.advance(1.1)
    p.acknowledge("skip", *p.pull("skip"))
    look = p.look("skip")
    assert (look["acked"], look["nacked"], look["delivered"], look["undelivered"]) == (1, 1, 3, 0), look


def test_order_takes_the_later_ones_along():
    p = fake()
    p.create("later", ordering=True)
    p.publish_all("later", ["k%d" % i for i in range(6)], key="k")
    p.publish_all("later", ["other"], key="o")
    first = p.pull("later", 3)
    assert [m["body"] for m in first] == [b"k0", b"k1", b"k2"]
    assert [m["body"] for m in p.pull("later", 9)] == [b"other"], "a key has one batch at a time"
    # What was acknowledged after the refused one comes again too.
    p.acknowledge("later", first[2])
    p.acknowledge("later", first[0])
    p.modify("later", 0, first[1])
    again = p.pull("later", 9)
    assert [m["body"] for m in again] == [b"k1", b"k2", b"k3", b"k4", b"k5"], again
    p.acknowledge("later", *again)
    assert p.look("later")["undelivered"] == 1
    assert sorted(x["deliveries"] for x in p.history("later").values()) == [1, 1, 1, 1, 1, 2, 2]


def test_exactly_once(r):
    p = fake()
    p.create("once", exactly_once=True, deadline=60)
    c = Consumer(r, p, "once")
    p.publish("once", "good")
    good = c.message()
    c.tell(ackWithResponse=good["message"])
    assert c.next("answer")["result"] == "SUCCESS"
    assert p.look("once")["extended"] >= 1, "the client extends before it gives the message out"
    # Its ack id has become worthless.
    p.publish("once", "revoked")
    m = c.message()
    p.revoke("once")
    c.tell(ackWithResponse=m["message"])
    assert c.next("answer")["result"] == "INVALID"
    # It fails for now: the client tries again.
    p.advance(120)
    m = c.message()
    assert m["data"] == "revoked"
    p.transient("once", 1)
    before = p.calls("Acknowledge")
    c.tell(ackWithResponse=m["message"])
    assert c.next("answer")["result"] == "SUCCESS"
    assert p.calls("Acknowledge") == before + 2
    p.wait_look("once", acked=2, undelivered=0)
    # Each id has its own answer.
    raw = Consumer(r, p)
    p.create("raw-once", exactly_once=True)
    p.publish_all("raw-once", ["a", "b"])
    old = p.pull("raw-once", 2)
    p.modify("raw-once", 0, old[0])
    new = p.pull("raw-once", 1)
    e = raw.raw("acknowledge", subscription=p.subscription("raw-once"), ackIds=[x["ackId"] for x in old])
    assert e["error"] == 3 and e["reason"] == "EXACTLY_ONCE_ACKID_FAILURE", e
    assert e["metadata"] == {old[0]["ackId"]: "PERMANENT_FAILURE_INVALID_ACK_ID"}, e
    assert p.look("raw-once")["acked"] == 1
    p.acknowledge("raw-once", *new)
    assert p.look("raw-once")["undelivered"] == 0


def test_streams_that_end(r):
    p = r.pubsub()
    p.create("ends")
    c = Consumer(r, p, "ends")
    p.publish("ends", "before")
    c.tell(ack=c.message()["message"])
    assert p.end_streams("UNAVAILABLE", "ends") > 0
    p.publish("ends", "after")
    c.tell(ack=c.message()["message"])
    p.goaway()
    p.publish("ends", "new connection")
    c.tell(ack=c.message()["message"])
    p.wait_look("ends", acked=3)
    p.end_streams("PERMISSION_DENIED", "ends", message="no more")
    assert c.next("error")["error"] == 7


def test_faults(r):
    p = r.pubsub()
    p.create("faults")
    # The client tries again, what was done before the error too.
    p.fault("Publish", "UNAVAILABLE", times=2)
    p.fault("Acknowledge", "UNAVAILABLE", after=True)
    p.publish_with_client(r, "faults", [{"data": "x"}])
    assert p.calls("Publish") == 3 and p.look("faults")["published"] == 1
    m = p.pull("faults")
    c = Consumer(r, p)
    e = c.raw("acknowledge", subscription=p.subscription("faults"), ackIds=[m[0]["ackId"]])
    assert e["error"] == 14 and p.look("faults")["acked"] == 1, e
    p.fault("*", "RESOURCE_EXHAUSTED", times=-1, reason="RATE_LIMIT", metadata={"a": "b"})
    for _ in range(3):
        e = c.raw("getSubscription", subscription=p.subscription("faults"))
        assert (e["error"], e["reason"], e["metadata"]) == (8, "RATE_LIMIT", {"a": "b"}), e
    p.heal()
    p.fault("GetSubscription", "STALL")
    c.tell(raw="getSubscription", request={"subscription": p.subscription("faults")})
    wait_for("the call", lambda: p.calls("GetSubscription") == 4)
    assert c.raw("pull", subscription=p.subscription("nowhere"), maxMessages=1)["error"] == 5
    assert len([x for x in c.said() if x.get("raw") == "getSubscription"]) == 3
    p.require_authorization("Bearer good")
    assert c.raw("acknowledge", subscription=p.subscription("faults"), ackIds=["x"])["error"] == 16


def test_tls(r):
    p = r.pubsub(tls=True)
    context = p.certificate.client_context()
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", p.port), rig.DEADLINE) as s:
        with context.wrap_socket(s, server_hostname="localhost") as t:
            assert t.selected_alpn_protocol() == "h2" and p.endpoint == "https://localhost:%d" % p.port


def test_pause_and_backlog():
    p = fake()
    p.create("backlog")
    p.pause("backlog")
    p.fill("backlog", 1000, 10)
    assert p.pull("backlog") == []
    series = p.rest("GET", "/v3/projects/p1/timeSeries?filter=metric.type%3D%22pubsub.googleapis.com/subscription/"
                    "num_undelivered_messages%22%20AND%20resource.labels.subscription_id%3D%22backlog%22")
    assert series["timeSeries"][0]["points"][0]["value"]["int64Value"] == "1000", series
    p.resume("backlog")
    assert len(p.pull("backlog", 1000)) == 1000


if __name__ == "__main__":
    rig.main(globals())
