"""Scripted peers in the place of a RabbitMQ broker: what real ones never do,
or not when a test wants it.

Several bad peers at once, each with a queue of its own, stand beside a good
queue (a spool) in one daemon: each trouble is named in the status of its
queue, nothing is delivered from garbage, it is tried again, memory stays
small, and the good queue works all the time.
"""
import os
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import amqp  # noqa: E402
import rig  # noqa: E402
from rig import wait_for  # noqa: E402

POOLS = """
[Pool work]
Module={build}/tests/bench/noop_module.so
[Pool fails]
Command=%s
Workers=1-1
[Queue good]
Type=spool
Path={dir}/spool
Pool=work
"""
BAD = """
[Queue %s]
Type=rabbitmq
Address=127.0.0.1:%d
Name=jobs
Pool=%s
MaxAttempts=1
Backoff=1s-1s
ConnectTimeout=500ms
ResponseTimeout=500ms
%s
"""


class Case:
    """One bad peer and what is to be said of it.  says: words of the text;
    delivers: messages that may arrive before the trouble."""

    def __init__(self, name, script, code=None, cls=None, says="", keys="", make=amqp.Server, delivers=0, pool="work"):
        self.name, self.code, self.cls, self.says, self.keys = name, code, cls, says, keys
        self.delivers, self.pool = delivers, pool
        self.peer = amqp.Listener(script, make)
        self.seen = []

    def look(self, q):
        """True once the trouble was seen in the status."""
        e = q.get("error")
        if e and e not in self.seen:
            self.seen.append(e)
        return any((self.code is None or e["code"] == self.code) and (self.cls is None or e["class"] == self.cls) and
                   self.says.lower() in e["text"].lower() for e in self.seen)


def put(r, name):
    r.path("spool", "new", ".")
    with open(r.path("spool", "tmp", name), "w") as f:
        f.write("x")
    os.rename(r.path("spool", "tmp", name), r.path("spool", "new", name))


def daemon(r, cases, **kw):
    # Whoever talks nonsense may be warned of in any words.
    r.expect_log("queue (bad|%s)" % "|".join(c.name for c in cases))
    return r.daemon(POOLS % r.write("fails.sh", "#!/bin/sh\nexit 100\n", 0o755) + "".join(
        BAD % (c.name, c.peer.port, c.pool, c.keys) for c in cases), wait="status", **kw)


def bad(r, *cases):
    d = daemon(r, cases)
    try:
        for i in range(100):
            put(r, "a%d" % i)
        d.wait_queue("good", done=100)
        missing = []

        def all_named():
            queues = d.status()["queues"]
            missing[:] = [c for c in cases if not c.look(queues[c.name])]
            return not missing
        try:
            wait_for("the status to name them", all_named)
        except AssertionError:
            raise AssertionError("; ".join("%s: %s %s %r was not named, but %s" % (
                c.name, c.code, c.cls, c.says, c.seen) for c in missing))
        for c in cases:
            # Two connections at a time.
            wait_for("%s to be tried again" % c.name, lambda: c.peer.accepted >= 3)
            received = d.queue(c.name)["received"]
            assert received == 0 or c.delivers, (c.name, received)
        wait_for("degraded", lambda: d.status()["status"] == "degraded")
        assert d.get("/.well-known/engine-status")[0] == 200
        put(r, "b")
        d.wait_queue("good", done=101)
        assert d.rss_kib() < 200 * 1024, d.rss_kib()
        assert d.stop() == 0
    finally:
        for c in cases:
            c.peer.close()


# ---- scripts ----

def silent_at(name):
    """Polite, but answers neither this nor anything after it."""
    def script(s, m):
        s.mute = getattr(s, "mute", False) or m.name == name
        return s.mute
    return script


def instead_of(name, data, then=None):
    """Sends these bytes instead of the answer to that method."""
    def script(s, m):
        if m.name != name:
            return False
        s.write(data)
        if then:
            then(s)
        return True
    return script


def after(name, action):
    """Answers, and then does this."""
    def script(s, m):
        if m.name != name:
            return False
        s.answer(m)
        action(s, m)
        return True
    return script


def hang_up(s):
    raise EOFError


def sends(name, channel=None, **args):
    return lambda s, m: s.send(name, m.channel if channel is None else channel, **args)


def closes(code, text):
    return sends("connection.close", 0, reply_code=code, reply_text=text)


def closes_channel(code, text):
    return sends("channel.close", reply_code=code, reply_text=text)


START = amqp.method("connection.start", version_major=0, version_minor=9, server_properties=amqp.STARTED,
                    mechanisms="PLAIN", locales="en_US")


# ---- the handshake ----

def test_silent_at_each_step(r):
    """The step that is not answered is named."""
    bad(r, *[Case("silent-" + asked.replace(".", "-"), silent_at(asked), "response_timeout", "transient", named)
             for asked, named in (("header", "connection.start"), ("connection.start-ok", "connection.tune"),
                                  ("connection.open", "connection.open-ok"), ("channel.open", "channel.open-ok"),
                                  ("queue.declare", "queue.declare-ok"), ("confirm.select", "confirm.select-ok"),
                                  ("basic.consume", "basic.consume-ok"), ("basic.qos", "basic.qos-ok"))])


class Drip(amqp.Server):
    """Says connection.start, a byte at a time and never to the end."""

    def run(self):
        self.f.read(8)
        for b in amqp.frame(amqp.METHOD, 0, START)[:-1]:
            self.write(bytes([b]))
            time.sleep(0.05)
        self.f.read(1)


class Full(amqp.Server):
    """Greets and then reads nothing more."""

    def run(self):
        self.f.read(8)
        self.answer(amqp.Method("header", 0, {}))
        while not self.f.closed:
            time.sleep(0.1)


def test_slow_and_deaf_peers(r):
    bad(r, Case("drips", None, "response_timeout", "transient", "connection.start", make=Drip),
        Case("deaf", None, "response_timeout", "transient", "connection.tune", make=Full))


def test_peers_that_speak_something_else(r):
    says = [("http", b"HTTP/1.1 400 Bad Request\r\n\r\n"), ("ssh", b"SSH-2.0-OpenSSH_9.2\r\n"),
            ("tls", b"\x15\x03\x01\x00\x02\x02\x46"), ("redis", b"-ERR unknown command\r\n"),
            ("amqp-1-0", b"AMQP\x00\x01\x00\x00"), ("amqp-0-9", b"AMQP\x01\x01\x00\x09"),
            ("noise", bytes(range(255, 150, -1)) * 20)]
    bad(r, *[Case("says-" + name, instead_of("header", data), "not_amqp", "protocol") for name, data in says])


def test_another_version_in_connection_start(r):
    start = amqp.method("connection.start", version_major=0, version_minor=10, mechanisms="PLAIN")
    bad(r, Case("ten", instead_of("header", amqp.frame(amqp.METHOD, 0, start)), "not_amqp", "protocol"),
        Case("noplain", instead_of("header", amqp.frame(amqp.METHOD, 0, amqp.method(
            "connection.start", version_minor=9, mechanisms="SCRAM EXTERNAL"))), None, "auth", "PLAIN"))


def test_frames_that_are_none(r):
    good = amqp.frame(amqp.METHOD, 0, START)
    bad(r, Case("huge", instead_of("header", struct.pack(">BHI", 1, 0, 0x7fffffff) + b"x" * 5000),
                "frame_too_large", "protocol"),
        Case("hugest", instead_of("header", struct.pack(">BHI", 1, 0, 0xffffffff)), "frame_too_large", "protocol"),
        Case("badend", instead_of("header", good[:-1] + b"\x00"), "malformed_frame", "protocol"),
        Case("badtype", after("basic.consume", lambda s, m: s.write(amqp.frame(7, 0, b""))), None, "protocol"),
        Case("half", instead_of("header", good[:40], hang_up), "eof", "transient"),
        Case("hangup", instead_of("header", b"", hang_up), "eof", "transient"),
        Case("long", after("basic.consume", lambda s, m: s.write(amqp.frame(amqp.METHOD, m.channel, b"\0" * 200000))),
             "frame_too_large", "protocol"),
        Case("tiny", instead_of("connection.start-ok", amqp.frame(amqp.METHOD, 0, amqp.method(
            "connection.tune", channel_max=2047, frame_max=64, heartbeat=60))), None, "protocol"),
        Case("cutmethod", instead_of("header", amqp.frame(amqp.METHOD, 0, START[:30])), "malformed_frame", "protocol"),
        Case("empty", instead_of("header", amqp.frame(amqp.METHOD, 0, b"")), "malformed_frame", "protocol"))


# ---- after it ----

def deliver_raw(*frames, then=None):
    """basic.deliver and then these (type, payload) on its channel."""
    def action(s, m):
        data = amqp.frame(amqp.METHOD, m.channel, amqp.method(
            "basic.deliver", consumer_tag=s.consumer[1], delivery_tag=1, routing_key="jobs"))
        s.write(data + b"".join(amqp.frame(kind, m.channel, payload) for kind, payload in frames))
        if then:
            then(s)
    return after("basic.consume", action)


def test_contents_that_do_not_fit(r):
    header, body = amqp.HEADER, amqp.BODY
    bad(r, Case("endless", deliver_raw((header, amqp.header(1 << 60))), None, "protocol"),
        Case("announced", deliver_raw((header, amqp.header(500 << 20)), (body, b"x" * 1000), then=hang_up), None,
             "transient"),       # eof, or a reset for what it had not read
        Case("longer", deliver_raw((header, amqp.header(3)), (body, b"0123456789")), "malformed_frame", "protocol"),
        Case("headless", deliver_raw((body, b"abc")), "malformed_frame", "protocol"),
        Case("twoheads", deliver_raw((header, amqp.header(3)), (header, amqp.header(3))), None, "protocol"),
        Case("cuthead", deliver_raw((header, amqp.header(3)[:9])), "malformed_frame", "protocol"),
        Case("interrupted", deliver_raw((header, amqp.header(3)), (amqp.METHOD, amqp.method("basic.qos-ok"))), None,
             "protocol"),
        Case("unasked", after("basic.consume", lambda s, m: s.write(amqp.frame(header, m.channel, amqp.header(0)))),
             "malformed_frame", "protocol"))


def test_channels_and_methods_that_are_none(r):
    consume = "basic.consume"
    bad(r, Case("channel77", after(consume, sends("basic.qos-ok", 77)), "malformed_frame", "protocol"),
        Case("content0", after(consume, lambda s, m: s.write(amqp.frame(amqp.BODY, 0, b"x"))), None, "protocol"),
        Case("class99", after(consume, lambda s, m: s.write(amqp.frame(amqp.METHOD, m.channel, b"\0\x63\0\x01"))),
             None, "protocol"),
        Case("method99", after(consume, lambda s, m: s.write(amqp.frame(amqp.METHOD, m.channel, b"\0\x3c\0\x63"))),
             None, "protocol"),
        Case("clientmethod", after(consume, sends("queue.declare", queue="x")), None, "protocol"),
        Case("unaskedanswer", after(consume, sends("queue.purge-ok", message_count=1)), None, "protocol"),
        Case("getok", after(consume, sends("basic.get-ok", delivery_tag=1)), None, "protocol"),
        Case("tuneagain", after(consume, sends("connection.tune", 0, channel_max=10)), None, "protocol"),
        Case("secure", instead_of("connection.start-ok", amqp.frame(amqp.METHOD, 0, amqp.method(
            "connection.secure", challenge="who?"))), None, "protocol"),
        Case("opentoo", instead_of("connection.start-ok", amqp.frame(amqp.METHOD, 0, amqp.method(
            "connection.open-ok"))), None, "protocol"))


def test_closed_with_each_code(r):
    """What the interface promises, and the broker's own words for the rest."""
    cases = []
    for code, text, name, cls in (
            (320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'", "connection_forced",
             "transient"),
            (501, "FRAME_ERROR - strange words 501", None, "protocol"),
            (502, "SYNTAX_ERROR - strange words 502", None, "protocol"),
            (503, "COMMAND_INVALID - strange words 503", None, "protocol"),
            (504, "CHANNEL_ERROR - strange words 504", None, "protocol"),
            (505, "UNEXPECTED_FRAME - strange words 505", None, "protocol"),
            (506, "RESOURCE_ERROR - strange words 506", None, "transient"),
            (530, "NOT_ALLOWED - strange words 530", None, "rejected"),
            (541, "INTERNAL_ERROR - strange words 541", None, "transient"),
            (999, "strange words 999", None, None)):
        cases.append(Case("close%d" % code, after("basic.consume", closes(code, text)), name, cls,
                          "" if name else "strange words %d" % code))
    cases += [
        Case("login", instead_of("connection.start-ok", amqp.frame(amqp.METHOD, 0, amqp.method(
            "connection.close", reply_code=403, reply_text="ACCESS_REFUSED - Login was refused using authentication "
            "mechanism PLAIN. For details see the broker logfile."))), "ACCESS_REFUSED", "auth"),
        Case("vhost", instead_of("connection.open", amqp.frame(amqp.METHOD, 0, amqp.method(
            "connection.close", reply_code=530, reply_text="NOT_ALLOWED - vhost / not found"))), "no_vhost", "rejected"),
        Case("novhostright", instead_of("connection.open", amqp.frame(amqp.METHOD, 0, amqp.method(
            "connection.close", reply_code=530, reply_text="NOT_ALLOWED - access to vhost '/' refused for user "
            "'guest'"))), "ACCESS_REFUSED", "auth")]
    bad(r, *cases)


def test_channels_closed_with_each_code(r):
    consume = "basic.consume"

    def refuses(method, code, text):
        def script(s, m):
            if m.name != method:
                return False
            s.send("channel.close", m.channel, reply_code=code, reply_text=text, class_id=50, method_id=10)
            return True
        return script
    bad(r, Case("noqueue", refuses("queue.declare", 404, "NOT_FOUND - no queue 'jobs' in vhost '/'"), "no_queue",
                "rejected", "Declare="),
        Case("different", refuses("queue.declare", 406, "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for "
             "queue 'jobs' in vhost '/': received 'quorum' but current is 'classic'"), "declared_differently",
             "rejected", keys="Declare=quorum\n"),
        Case("noright", refuses("queue.declare", 403, "ACCESS_REFUSED - access to queue 'jobs' in vhost '/' refused "
             "for user 'guest'"), "ACCESS_REFUSED", "auth"),
        Case("noconsume", refuses(consume, 403, "ACCESS_REFUSED - access to queue 'jobs' in vhost '/' refused for "
             "user 'guest'"), "ACCESS_REFUSED", "auth"),
        Case("locked", refuses(consume, 405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue"), None,
             "rejected", "RESOURCE_LOCKED"),
        Case("timedout", after(consume, closes_channel(406, "PRECONDITION_FAILED - delivery acknowledgement on channel "
             "1 timed out. Timeout value used: 1800000 ms.")), "consumer_timeout", "transient"),
        Case("unknowntag", after(consume, closes_channel(406, "PRECONDITION_FAILED - unknown delivery tag 7")), None,
             None, "unknown delivery tag"),
        Case("cancelled", after(consume, lambda s, m: s.send("basic.cancel", m.channel, consumer_tag=s.consumer[1],
                                                             nowait=True)), "consumer_cancelled"),
        Case("publisher", after("confirm.select", closes_channel(541, "INTERNAL_ERROR - of the publisher")), None,
             "transient", "of the publisher"))


def test_heartbeats(r):
    """Silence is noticed; a broker that only sends heartbeats is kept, and
    hears ours."""
    quiet = Case("quiet", None, "heartbeat_timeout", "transient", keys="Heartbeat=2s\n")
    alive = Case("alive", None, keys="Heartbeat=2s\n")
    d = daemon(r, [quiet, alive])
    try:
        def beat():
            for s in alive.peer.servers:
                try:
                    s.write(amqp.frame(amqp.HEARTBEAT, 0, b""))
                except OSError:
                    pass
            return quiet.look(d.queue("quiet"))
        wait_for("the silence to be named", beat)
        wait_for("our own heartbeats", lambda: beat() and len(alive.peer.servers) == 2 and
                 all(s.heartbeats >= 3 for s in alive.peer.servers))
        assert alive.peer.accepted == 2 and d.queue("alive")["connected"], "it was not kept"
        put(r, "x")
        d.wait_queue("good", done=1)
    finally:
        quiet.peer.close()
        alive.peer.close()


# ---- messages ----

def nested(levels):
    """A header table so deep, made without recursion."""
    value = amqp.field(1)
    for _ in range(levels):
        value = b"F" + amqp.longstr(amqp.shortstr("k") + value)
    headers = amqp.longstr(amqp.shortstr("deep") + value)
    return struct.pack(">HHQH", 60, 0, 1, 1 << 13) + headers


def arrays(levels):
    value = b"A" + struct.pack(">I", 0)
    for _ in range(levels):
        value = b"A" + amqp.longstr(value)
    headers = amqp.longstr(amqp.shortstr("deep") + value)
    return struct.pack(">HHQH", 60, 0, 1, 1 << 13) + headers


def odd(headers, flags=1 << 13):
    return struct.pack(">HHQH", 60, 0, 1, flags) + headers


def test_headers_that_make_no_sense(r):
    """Each is given a message that is right behind it: that one is done, and
    the odd one is done, or dead, or named; the daemon lives."""
    kinds = {
        "nested": nested(2000), "deeper": nested(20000), "arrays": arrays(15000),
        "cut": odd(struct.pack(">I", 100) + b"\x01k"), "kind": odd(amqp.longstr(b"\x01k?abc")),
        "pastend": odd(amqp.longstr(b"\x01kS" + struct.pack(">I", 5000))), "flags": odd(b"", 0xffff),
        "noname": odd(amqp.longstr(b"\x00t\x01")), "many": odd(amqp.longstr(b"\x01kt\x01" * 20000)),
        "same": odd(amqp.longstr(b"\x0bbot-attemptS\x00\x00\x00\x03abc" * 50)),
        "negative": odd(amqp.longstr(b"\x0bbot-attemptI\xff\xff\xff\xff")),
        "hugetry": odd(amqp.longstr(b"\x0bbot-attemptl\x7f" + b"\xff" * 7)),
    }

    def script(payload):
        def action(s, m):
            data = b""
            for tag, head in ((1, payload), (2, amqp.header(1))):
                data += amqp.frame(amqp.METHOD, m.channel, amqp.method(
                    "basic.deliver", consumer_tag=s.consumer[1], delivery_tag=tag, routing_key="jobs"))
                data += amqp.frame(amqp.HEADER, m.channel, head) + amqp.frame(amqp.BODY, m.channel, b"x")
            s.write(data)
        return after("basic.consume", action)
    cases = [Case(name, script(payload), cls="protocol") for name, payload in kinds.items()]
    d = daemon(r, cases)
    try:
        def all_done():
            queues = d.status()["queues"]
            return all(c.look(queues[c.name]) or queues[c.name]["done"] + queues[c.name]["dead"] >= 2 for c in cases)
        try:
            wait_for("all to be done or named", all_done)
        except AssertionError:
            queues = d.status()["queues"]
            raise AssertionError([(c.name, queues[c.name]["done"], queues[c.name]["dead"], c.seen) for c in cases])
        put(r, "x")
        d.wait_queue("good", done=1)
        assert d.rss_kib() < 200 * 1024, d.rss_kib()
        assert d.stop() == 0
    finally:
        for c in cases:
            c.peer.close()


class Broker:
    """A bad peer whose both connections share what they have seen: it gives
    one message at each consume, and takes copies as accept() says."""

    def __init__(self, accept):
        self.accept, self.copies = accept, 0
        self.servers = []

    def __call__(self, s, m):
        if s not in self.servers:
            self.servers.append(s)
        if m.name == "basic.consume":
            s.answer(m)
            s.deliver(b"work", {"message_id": "m-1", "delivery_mode": 2})
            return True
        if m.name == "basic.publish" and "confirm.select" in s.seen:
            self.copies += 1
            s.tags[m.channel] += 1
            self.accept(s, m, s.tags[m.channel])
            return True
        return False

    @property
    def acks(self):
        return [a for s in self.servers for a in s.acks if a[0] == "basic.ack"]


def copies_refused(r, name, refuse):
    """While copies are refused the original stays unacknowledged; once they
    are taken it is acknowledged."""
    open_ = []

    def accept(s, m, tag):
        if open_:
            s.send("basic.ack", m.channel, delivery_tag=tag)
        else:
            refuse(s, m, tag)
    broker = Broker(accept)
    case = Case(name, broker, pool="fails")
    d = daemon(r, [case])
    r.expect_log("dead letters")
    try:
        wait_for("a second copy", lambda: broker.copies >= 2)
        assert broker.acks == [], "the original was given away without a confirm"
        assert d.queue(name)["dead"] == 0, d.queue(name)
        put(r, "x")
        d.wait_queue("good", done=1)
        open_.append(True)
        wait_for("the original to be acknowledged", lambda: broker.acks)
        wait_for("it to count as dead", lambda: d.queue(name)["dead"] >= 1)
        assert d.stop() == 0
    finally:
        case.peer.close()


def test_invariant_1_rabbit_copy_nacked(r):
    copies_refused(r, "nacks", lambda s, m, tag: s.send("basic.nack", m.channel, delivery_tag=tag))


def test_invariant_1_rabbit_copy_returned(r):
    def refuse(s, m, tag):
        s.write(amqp.frame(amqp.METHOD, m.channel, amqp.method(
            "basic.return", reply_code=312, reply_text="NO_ROUTE", routing_key=m.routing_key)) +
            amqp.content(m.channel, *s.published[-1][1:]))
        s.send("basic.ack", m.channel, delivery_tag=tag)
    copies_refused(r, "returns", refuse)


def test_invariant_1_rabbit_confirm_of_another(r):
    """A confirm for what was never published confirms nothing."""
    copies_refused(r, "others", lambda s, m, tag: s.send("basic.ack", m.channel, delivery_tag=tag + 999))


def test_invariant_1_rabbit_no_confirm(r):
    copies_refused(r, "mute", lambda s, m, tag: None)


def test_confirm_of_zero_and_of_the_past(r):
    def refuse(s, m, tag):
        s.send("basic.ack", m.channel, delivery_tag=0)
        s.send("basic.nack", m.channel, delivery_tag=0)
    copies_refused(r, "zero", refuse)


def test_copies_are_mandatory_and_persistent(r):
    broker = Broker(lambda s, m, tag: s.send("basic.ack", m.channel, delivery_tag=tag))
    case = Case("checks", broker, pool="fails")
    r.expect_log("dead letters")
    d = daemon(r, [case])
    try:
        d.wait_queue("checks", dead=1)
        copies = [p for s in broker.servers for p in s.published]
        for m, body, properties in copies:
            assert m.mandatory and m.exchange == "" and m.routing_key == "jobs.dead", m
            assert body == b"work" and properties["delivery_mode"] == 2 and properties["message_id"] == "m-1"
            assert properties["headers"]["bot-queue"] == "jobs", properties
        assert len(copies) == 1
    finally:
        case.peer.close()


def test_blocked_is_shown_and_delays_no_stop(r):
    """connection.blocked, for ever: shown, and a drain ends all the same."""
    broker = Broker(lambda s, m, tag: s.send("connection.blocked", 0, reason="low on memory"))
    case = Case("blocked", broker, pool="fails")
    r.expect_log("dead letters")
    d = daemon(r, [case])
    try:
        wait_for("the block to be shown", lambda: d.queue("blocked")["blocked"])
        q = d.queue("blocked")
        assert "memory" in q["blocked"] and q["connected"], q
        assert q["publishing"] == 1 and q["unacknowledged"] == 1, q
        put(r, "x")
        d.wait_queue("good", done=1)
        start = time.monotonic()
        assert d.stop() == 0
        assert time.monotonic() - start < 10
        assert broker.acks == []
    finally:
        case.peer.close()


def test_botctl_with_a_peer_that_does_not_answer(r):
    """Walks and enqueues end with an error, not never."""
    def script(s, m):
        return m.name in ("basic.get", "basic.publish")
    case = Case("mute", script)
    d = daemon(r, [case])
    try:
        d.wait_queue("mute", connected=True)
        p = d.botctl("dead", "list", "mute", check=False)
        assert p.returncode == 1 and p.stderr, p
        d.wait_queue("mute", connected=True)
        p = d.botctl("enqueue", "mute", "--body", "x", check=False)
        assert p.returncode == 1 and p.stderr, p
        put(r, "x")
        d.wait_queue("good", done=1)
    finally:
        case.peer.close()


def test_enqueue_that_is_nacked(r):
    case = Case("refuses", lambda s, m: m.name == "basic.publish" and
                [s.send("basic.nack", m.channel, delivery_tag=1)])
    d = daemon(r, [case])
    try:
        d.wait_queue("refuses", connected=True)
        p = d.botctl("enqueue", "refuses", "--body", "x", check=False)
        assert p.returncode == 1 and p.stderr, p
    finally:
        case.peer.close()


# ---- TLS ----

def test_tls_peer_that_speaks_no_tls(r):
    cert = r.certificate()
    bad(r, Case("plain", instead_of("header", b"AMQP\x00\x00\x09\x01"), None, None, "TLS",
                keys="TLS=yes\nTLSCAFile=%s\n" % cert.ca))


if __name__ == "__main__":
    rig.main(globals())
