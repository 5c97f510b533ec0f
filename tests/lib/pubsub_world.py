"""pubsub_world.py - a scripted Pub/Sub with a subscription, and a daemon that uses it.

What the real service would refuse for its form fails the test, and so does a
secret in the log or the status, or a token where none belongs.
"""
import functools
import time

import sqs_world
from google_peer import GooglePeer, clean_env
from h2peer import Gone
from pubsub_peer import SAYS, PubsubPeer
from rig import wait_for
from sqs_world import MODULE, dead  # noqa: F401

QUEUE = """
[Queue %(section)s]
Type=pubsub
Project=p1
Subscription=%(name)s
Endpoint=%(endpoint)s
Pool=work
MaxAttempts=5
Backoff=1s-1s
Lease=20s
DeadLetter=jobs-dead
DeadLetterSubscription=jobs-dead-pull
BacklogInterval=500ms
"""


class Topic:
    """The dead letters, as they were published."""

    def __init__(self, messages):
        self.messages = messages

    def bodies(self):
        return [m.body for m in self.messages]


class World(sqs_world.World):
    """auth: None, or where credentials come from: "user", "service" (files) or
    "metadata" (with tls).  subscription: of jobs, such as exactly_once=True."""
    SECRETS = ("s3cr3t", "eyJ", "BEGIN PRIVATE")

    def __init__(self, r, name="jobs", tls=False, auth=None, context=None, lifetime=3600, **subscription):
        self.r, self.name, self.auth = r, name, auth
        self.google = GooglePeer(lifetime=lifetime)
        self.certificate = r.certificate() if tls else None
        self.peer = PubsubPeer(self.certificate, self.google.authorize if auth else None, context)
        self.jobs = self.peer.service.subscription(name, **subscription)
        self.dead_pull = self.peer.service.subscription("jobs-dead-pull", "jobs-dead")
        self.dead = Topic(self.peer.service.topic("jobs-dead"))
        self.peers = [self.peer, self.google]
        self.file = None
        if auth == "user":
            self.file = self.google.user_file(r)
        elif auth == "service":
            self.file = self.google.service_file(r)
        self.d = None

    def env(self):
        return self.google.metadata_env() if self.auth == "metadata" else clean_env()

    def complaints(self):
        return self.peer.complaints + self.peer.service.complaints + self.google.complaints

    def section(self, name="jobs", **keys):
        if self.certificate:
            keys.setdefault("TLSCAFile", self.certificate.ca)
        if self.file:
            keys.setdefault("CredentialsFile", self.file)
        if self.auth:
            keys.setdefault("MonitoringEndpoint", self.google.url)
        keys = {k: v for k, v in keys.items() if v is not None}
        text = QUEUE % {"section": name, "name": self.name, "endpoint": self.peer.endpoint}
        text = "".join(line for line in text.splitlines(True) if line.partition("=")[0] not in keys)
        return text + "".join("%s=%s\n" % kv for kv in keys.items())

    # ---- the peer's view ----

    def cut(self, end, follows=True):
        """end(stream) of one that is open; (it, the one that follows it or None).  The
        daemon replaces streams by itself, too, when their windows do not fit."""
        def attempt():
            s, now = self.peer.stream(), time.monotonic()
            try:
                end(s)
                return s, now
            except Gone:
                return None
        old, when = wait_for("a stream to end", attempt)
        if not follows:
            return old, None
        new = wait_for("a stream after that", lambda: [
            s for s in self.peer.asked("StreamingPull") if s.time > when], 40)
        return old, new[-1]

    def finish(self, code="UNAVAILABLE", text=SAYS, **kw):
        return self.cut(lambda s: s.finish(code, text), **kw)

    def changes(self):
        """(ack id, seconds) of every deadline that was asked for."""
        return [(a, seconds) for _, a, seconds in self.peer.ids("ModifyAckDeadline")]

    def delays(self):
        """Those that are no renewals."""
        return [seconds for _, seconds in self.changes() if seconds != 20]


world = functools.partial(sqs_world.world, make=World)
each = functools.partial(sqs_world.each, make=World)
together = functools.partial(sqs_world.together, make=World)


def world_of(**kw):
    """For each() and together()."""
    return functools.partial(World, **kw)


def settled_once(w, n, delivered_once=True, **want):
    """m0 .. m(n-1) ran once each, and the service has none of them any more.
    delivered_once: not so when deliveries were cut off on their way."""
    w.d.wait_queue("jobs", 40, done=n, **want)
    w.wait_empty(30)
    ran = w.out()
    assert sorted(ran) == sorted("m%d" % i for i in range(n)), (len(ran), len(set(ran)))
    assert w.dead.bodies() == []
    attempts = [m.attempts for m in w.jobs.acknowledged]
    assert max(attempts) == 1 or not delivered_once, attempts


def fill(w, n, **kw):
    return w.jobs.fill(*["m%d" % i for i in range(n)], **kw)


def rate(w, seconds=1.0):
    """Calls and connections a second, from now on."""
    def count():
        return len(w.peer.called()) + w.peer.accepted
    before, begin = count(), time.monotonic()
    time.sleep(seconds)
    return (count() - before) / (time.monotonic() - begin)
