"""pubsub_peer.py - a scripted Pub/Sub over gRPC, plain or TLS.

Everything is answered sensibly (pubsub_model.py) but for what a rule says:

    peer = PubsubPeer()
    jobs = peer.service.subscription("jobs")
    rule = peer.rule("Acknowledge", status("UNAVAILABLE"), times=2)
    ... rule.hits, peer.asked("Acknowledge")[0].request ...
    peer.stream().finish("ABORTED")

Each call is recorded as a Call of h2peer.py: metadata, requests (decoded), time.
"""
import fnmatch
import os
import struct
import time

import protobuf
import pubsub_model
from h2peer import CODES, DATA, END_STREAM, Gone, H2Peer, message
from pubsub_model import Refusal
from rules import Rules

DEADLINE = float(os.environ.get("TEST_DEADLINE", "20"))
SUBSCRIBER, PUBLISHER = "/google.pubsub.v1.Subscriber/", "/google.pubsub.v1.Publisher/"
# path: request, response
METHODS = {
    SUBSCRIBER + "StreamingPull": ("StreamingPullRequest", "StreamingPullResponse"),
    SUBSCRIBER + "GetSubscription": ("GetSubscriptionRequest", "Subscription"),
    SUBSCRIBER + "Acknowledge": ("AcknowledgeRequest", "Empty"),
    SUBSCRIBER + "ModifyAckDeadline": ("ModifyAckDeadlineRequest", "Empty"),
    SUBSCRIBER + "Pull": ("PullRequest", "PullResponse"),
    PUBLISHER + "Publish": ("PublishRequest", "PublishResponse"),
}
RESPONSE_BYTES = 1000 * 1000


# ---- what a rule can do: action(call, go); go() answers properly ----
# The answer's text has "because the test says so" in it.

SAYS = "because the test says so"


def status(code, text=SAYS, infos=(), opened=False):
    """Trailers-only, or behind headers when opened."""
    def act(call, go):
        if opened:
            call.open()
        details = protobuf.status_details(CODES.index(code), text, infos) if infos else None
        call.finish(code, text, details)
    return act


def status_alone(number):
    """A status without a text; any number."""
    return lambda call, go: call.finish(number)


def http_status(number, kind="text/html", body=b"<html>no</html>"):
    """As load balancers answer: no gRPC at all."""
    def act(call, go):
        call.connection.headers(call.id, [(":status", str(number)), ("content-type", kind)])
        call.data(body, end=True)
    return act


def never():
    """Not a byte for this call; others are fine."""
    return lambda call, go: call.park()


def done_but_never():
    """Done, and not a byte of it."""
    def act(call, go):
        call.peer.apply(call)
        call.park()
    return act


def done_but(action):
    """Done, and then answered by the action."""
    def act(call, go):
        call.peer.apply(call)
        action(call, go)
    return act


def late(seconds):
    """Done at once, answered after a while."""
    def act(call, go):
        response = call.peer.apply(call)
        if call.sleep(seconds):
            call.peer.reply(call, response)
    return act


def held(event, first=None):
    """Answered when event is set.  first="wait": done then too, not before."""
    def act(call, go):
        response = None if first == "wait" else call.peer.apply(call)
        while not event.is_set() and call.sleep(0.02):
            pass
        call.peer.reply(call, call.peer.apply(call) if response is None else response)
    return act


def rst(code):
    return lambda call, go: call.rst(code)


def goaway(code=0, refuse=True, close=False):
    """refuse: this call is one of those that are not seen any more."""
    def act(call, go):
        call.connection.goaway(code, last=max(call.id - 2, 0) if refuse else None)
        if refuse:
            call.over()
        else:
            go()
        if close:
            call.connection.close()
    return act


def hang_up(reset=False):
    def act(call, go):
        call.connection.close(reset)
    return act


def frames(*all_of_them):
    """Any frames: (kind, flags, payload[, length]); on the call's stream."""
    def act(call, go):
        for kind, flags, payload, *length in all_of_them:
            call.connection.frame(kind, flags, call.id, payload, *length)
    return act


def raw(data):
    """Bytes in the place of a frame."""
    def act(call, go):
        call.connection.write(data)
    return act


def oversized_frame():
    """A frame's header that claims 16 MB."""
    return raw(struct.pack(">BHBBI", 0xff, 0xffff, DATA, 0, 1))


def body(data, end=False, trailers=True):
    """These bytes as DATA, behind headers; then a good status."""
    def act(call, go):
        call.open()
        call.data(data, end=end)
        if trailers and not end:
            call.finish("OK")
    return act


def oversized():
    """A message that claims to have 2 GB."""
    return body(message(b"x" * 100, length=0x7fffffff), trailers=False)


def malformed():
    """A message that is no protobuf."""
    return body(message(b"\xff\xff\xff\xff\x0f garbage"))


def compressed():
    return body(message(b"\x1f\x8b whatever", compressed=True))


def missing_trailers():
    return body(message(b""), end=True)


def cut_message():
    """The stream ends, well, in the middle of a message."""
    return body(message(b"1234", length=100))


def data_first():
    """DATA where HEADERS belong."""
    return frames((DATA, 0, message(b"")), (DATA, END_STREAM, b""))


def drip(seconds):
    """The answer a byte at a time."""
    def act(call, go):
        response = call.peer.apply(call)
        call.drip(message(protobuf.encode(METHODS[call.path][1], response)), seconds)
        call.finish("OK")
    return act


def edit(fn):
    """fn(response) changes the proper answer, or returns another."""
    def act(call, go):
        response = call.peer.apply(call)
        call.peer.reply(call, fn(response) or response)
    return act


def fail_ids(how, pick=lambda ack_id: True):
    """Exactly-once: the picked ids fail, the others are done (or not, as always)."""
    def act(call, go):
        ids = call.request["ack_ids"]
        bad = {a: how for a in ids if pick(a)}
        rest = [a for a in ids if a not in bad]
        if rest:
            try:
                call.peer.apply(call, dict(call.request, ack_ids=rest))
            except Refusal as e:
                bad.update(*(metadata for _, metadata in e.infos))
        if bad:
            raise Refusal("INVALID_ARGUMENT", "Some acknowledgement ids in the request were invalid.",
                          [("EXACTLY_ONCE_ACKID_FAILURE", bad)])
        call.peer.reply(call, {})
    return act


# ---- the server ----

class PubsubPeer(H2Peer):
    """authorize(bearer) -> True, or None: nobody is asked who he is, and no
    token may come.  lazy: a stream's headers come with its first message."""

    def __init__(self, certificate=None, authorize=None, context=None, **kw):
        self.service = pubsub_model.Service()
        self.authorize = authorize
        self.lazy = False
        self.delivering = True
        super().__init__(certificate, context, **kw)
        self.rules = Rules(self.lock)
        self.endpoint = "%s://localhost:%d" % ("https" if self.tls else "http", self.port)

    def rule(self, method, action, **kw):
        return self.rules.add(method, action, **kw)

    # ---- for tests ----

    def asked(self, pattern="*"):
        """Calls of that method of which a request has come."""
        with self.lock:
            return [c for c in self.calls if c.requests and fnmatch.fnmatchcase(c.method, pattern)]

    def streams(self):
        """The StreamingPulls that are open."""
        return [c for c in self.asked("StreamingPull") if c.alive]

    def stream(self):
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            open_now = self.streams()
            if open_now:
                return open_now[-1]
            time.sleep(0.005)
        raise AssertionError("no stream is open")

    def ids(self, method):
        """(time, ack id, seconds or None) of all that was asked for."""
        return [(c.time, a, c.request.get("ack_deadline_seconds")) for c in self.asked(method)
                for a in c.request["ack_ids"]]

    # ---- calls ----

    def on_call(self, call):
        if call.path not in METHODS:
            self.complain("a call of %s" % call.path)
            call.finish("UNIMPLEMENTED")
            return
        data = call.receive()
        if data is None:
            self.complain("%s without a request" % call.method)
            call.finish("INTERNAL")
            return
        call.size = len(data)
        try:
            call.request = protobuf.decode(METHODS[call.path][0], data)
        except (protobuf.Malformed, UnicodeDecodeError) as e:
            self.complain("%s: %s" % (call.method, e))
            call.finish("INTERNAL")
            return
        call.requests.append(call.request)
        rule = self.rules.find(call.method, call)
        try:
            if rule:
                rule.action(call, lambda: self.properly(call))
            else:
                self.properly(call)
        except Refusal as e:
            details = protobuf.status_details(CODES.index(e.code), e.text, e.infos) if e.infos else None
            call.finish(e.code, e.text, details)

    def check(self, call):
        """What the real one refuses; what must not be is a complaint."""
        m = call.metadata
        for name, want in ((":method", "POST"), ("te", "trailers"), ("content-type", "application/grpc"),
                           (":scheme", "https" if self.tls else "http")):
            if m.get(name) != want:
                self.complain("%s: %s is %r" % (call.method, name, m.get(name)))
        if not m.get(":authority"):
            self.complain("%s: no :authority" % call.method)
        bearer = m.get("authorization")
        if self.authorize is None:
            if bearer is not None:
                self.complain("%s: a token without being asked" % call.method)
        elif bearer is None or not bearer.startswith("Bearer ") or not self.authorize(bearer[7:]):
            raise Refusal("UNAUTHENTICATED", "Request had invalid authentication credentials.")
        elif "authorization" not in call.never_indexed:
            self.complain("%s: HPACK may index the token" % call.method)

    def apply(self, call, request=None):
        """Does what a unary call asks for (or another request); the response."""
        self.check(call)
        return self.service.call(call.method, request or call.request, call.size)

    def reply(self, call, response):
        call.send(protobuf.encode(METHODS[call.path][1], response))
        call.finish("OK")

    def properly(self, call):
        if call.method == "StreamingPull":
            self.streaming_pull(call)
        else:
            self.reply(call, self.apply(call))

    # ---- StreamingPull ----

    def check_stream(self, call):
        q = call.request
        if not 10 <= q["stream_ack_deadline_seconds"] <= 600:
            self.complain("stream_ack_deadline_seconds is %d" % q["stream_ack_deadline_seconds"])
            raise Refusal("INVALID_ARGUMENT", "stream_ack_deadline_seconds must be between 10 and 600.")
        if q["max_outstanding_messages"] < 0 or q["max_outstanding_bytes"] < 0:
            self.complain("max_outstanding is negative: %s" % q)
        if not q["client_id"]:
            self.complain("no client_id")

    def streaming_pull(self, call):
        self.check(call)
        with self.service.cond:
            s = self.service.find(call.request["subscription"])
        self.check_stream(call)
        call.deadline = call.request["stream_ack_deadline_seconds"]
        properties = {"exactly_once_delivery_enabled": s.exactly_once, "message_ordering_enabled": s.ordered}
        if not self.lazy:
            call.open()
        if s.exactly_once or s.ordered:
            call.send(protobuf.encode("StreamingPullResponse", {"subscription_properties": properties}))
        most = call.request["max_outstanding_messages"] or 1 << 30
        while True:
            self.hear(call, s)
            if call.half_closed:
                call.finish("OK")
                return
            with self.service.cond:
                got = self.take(call, s, most) if self.delivering else []
                if not got:
                    self.service.cond.wait(0.02)
            if got:
                call.send(protobuf.encode("StreamingPullResponse", {
                    "received_messages": [s.wire(m) for m in got], "subscription_properties": properties}))
            if not call.alive:
                raise Gone

    def take(self, call, s, most):
        """As many as may be outstanding, and fit well into one response."""
        got = s.take(min(most - s.outstanding(call), 1000), call.deadline, call,
                     call.request["max_outstanding_bytes"])
        size = 0
        for i, m in enumerate(got):
            size += m.size
            if i and size > RESPONSE_BYTES:
                for later in got[i:]:
                    later.deadline, later.attempts = 0, later.attempts - 1
                return got[:i]
        return got

    def hear(self, call, s):
        """What it says while the stream is open."""
        while call.messages:
            q = protobuf.decode("StreamingPullRequest", call.receive())
            call.requests.append(q)
            if q["subscription"] or q["max_outstanding_messages"] or q["max_outstanding_bytes"]:
                self.complain("fields that belong into the first request: %s" % q)
            with self.service.cond:
                if q["ack_ids"]:
                    s.acknowledge(q["ack_ids"])
                for a, n in zip(q["modify_deadline_ack_ids"], q["modify_deadline_seconds"]):
                    s.modify([a], n)
            if q["stream_ack_deadline_seconds"]:
                if not 10 <= q["stream_ack_deadline_seconds"] <= 600:
                    self.complain("stream_ack_deadline_seconds is %d" % q["stream_ack_deadline_seconds"])
                call.deadline = q["stream_ack_deadline_seconds"]
