"""sqs_world.py - a scripted AWS over TLS with a queue, and a daemon that uses it.

Signatures are checked in every test.  What AWS would refuse for its form fails
the test, and so does a secret in the log or the status.
"""
import contextlib
import os
import re
import threading
import time

import rig
from aws_peer import AwsPeer
from rig import wait_for

QUEUE = """
[Queue %(section)s]
Type=sqs
Region=eu-west-1
Endpoint=%(endpoint)s
TLSCAFile=%(ca)s
Pool=work
MaxAttempts=5
Backoff=1s-1s
Lease=5s
WaitTime=1s
ConnectTimeout=1s
ResponseTimeout=1s
BacklogInterval=500ms
"""
HANDLER = """#!/bin/sh
body=$(cat)
%s
case $body in
once*) [ "$BOT_ATTEMPT" -ge 2 ] || exit 75 ;;
dead*) echo "no such customer" >&2; exit 100 ;;
esac
echo "$body" >> %s/out
exit 0
"""
MODULE = "Module={build}/tests/bench/noop_module.so"


class World:
    """A peer with the queue "jobs" and its dead letters, and a daemon for it."""
    SECRETS = ("s3cr3t", "AKIDTEST")

    def __init__(self, r, name="jobs", **kw):
        self.r = r
        self.certificate = r.certificate()
        self.peer = AwsPeer(self.certificate, **kw)
        self.name = name
        stem, dot, fifo = name.partition(".")
        self.dead_name = stem + "-dead" + dot + fifo
        self.jobs = self.peer.sqs.queue(name, dead=self.dead_name)
        self.dead = self.peer.sqs.queues[self.dead_name]
        self.peers = [self.peer]
        self.d = None

    def add(self, peer):
        self.peers.append(peer)
        return peer

    def env(self):
        return self.peer.env()

    def complaints(self):
        return self.peer.sqs.complaints

    def section(self, name="jobs", **keys):
        keys.setdefault("Name", self.name)
        if "QueueUrl" in keys:
            del keys["Name"]
        keys = {k: v for k, v in keys.items() if v is not None}
        text = QUEUE % {"section": name, "endpoint": self.peer.endpoint, "ca": self.certificate.ca}
        text = "".join(line for line in text.splitlines(True) if line.partition("=")[0] not in keys)
        return text + "".join("%s=%s\n" % kv for kv in keys.items())

    def pool(self, script="", workers="1-2"):
        return "[Pool work]\nWorkers=%s\nCommand=%s\n" % (workers, self.r.write(
            "handler.sh", HANDLER % (script, self.r.dir), 0o755))

    def start(self, script="", pool=None, env=None, wait="ready", more="", log="info", workers="1-2", name="test", **keys):
        """Beside it a queue of files, which must go on whatever the peer does."""
        text = "[Operator]\nStatus=127.0.0.1:0\nControl={dir}/%s.sock\nLogLevel=%s\n" % (name, log)
        text += "[Pool work]\n%s\n" % pool if pool else self.pool(script, workers)
        text += self.section(**keys) + "[Queue files]\nType=spool\nPath={dir}/spool\nPool=work\n" + more
        self.d = self.r.daemon(text, env=env or self.env(), wait=wait, name=name)
        if wait == "ready":
            self.d.wait_queue("jobs", connected=True)
        return self.d

    def others_work(self):
        done = self.d.queue("files")["done"]
        self.d.botctl("enqueue", "files", "--body", "x")
        self.d.wait_queue("files", done=done + 1)

    def error(self, name="jobs"):
        return self.d.queue(name).get("error") or {}

    def wait_error(self, *codes, **kw):
        """Until the status names one of them; the error."""
        seen = []

        def named():
            e = self.error(**kw)
            if e and e["code"] not in [s["code"] for s in seen]:
                seen.append(e)
            return e.get("code") in codes and e
        try:
            return wait_for("the error %s" % (codes,), named)
        except AssertionError as e:
            raise AssertionError("%s; seen: %s\nlog:\n%s" % (e, seen, self.d.log()[-3000:]))

    def out(self):
        """What the handler wrote down of jobs; "x" is of the other queue."""
        try:
            with open(os.path.join(self.r.dir, "out")) as f:
                return [x for x in f.read().split("\n")[:-1] if x != "x"]
        except OSError:
            return []

    def wait_empty(self, deadline=None):
        wait_for("an empty queue; it has %s" % self.jobs.bodies()[:20], lambda: not self.jobs.bodies(), deadline)

    def heal_and_work(self):
        self.d.wait_queue("jobs", 40, connected=True)
        n = self.d.queue("jobs")["done"]
        self.jobs.fill("after the trouble %d" % n, group="g" if self.jobs.fifo else None)
        self.d.wait_queue("jobs", 30, done=n + 1)

    def everything_said(self):
        d = self.d
        texts = [("log", d.log()), ("status", d.get("/.well-known/engine-status")[1]), ("metrics", d.get("/metrics")[1]),
                 ("page", d.get("/")[1]), ("configuration", d.botctl("show-config").stdout)]
        return texts + [("debug " + x, d.botctl("debug", x).stdout) for x in ("timers", "streams", "workers", "messages")]

    def check_secrets(self):
        if self.d and self.d.alive():
            for name, text in self.everything_said():
                for secret in self.SECRETS:
                    assert secret not in text, (name, re.findall(".*%s.*" % secret, text)[:3])
        elif self.d:
            assert not any(secret in self.d.log() for secret in self.SECRETS)

    def close(self):
        for p in self.peers:
            p.close()


@contextlib.contextmanager
def world(r, make=World, **kw):
    w = make(r, **kw)
    try:
        yield w
        w.check_secrets()
        if w.d and w.d.alive():
            w.d.stop(deadline=20)
        assert w.complaints() == [], w.complaints()
    finally:
        w.close()


def rate(w, target, seconds=1.0):
    """Requests a second of that kind, from now on."""
    before, begin = len(w.peer.asked(target)), time.monotonic()
    time.sleep(seconds)
    return (len(w.peer.asked(target)) - before) / (time.monotonic() - begin)


def case_of(r, i, case, fn, make=World):
    sub = rig.Rig("%s%d" % (os.path.basename(r.dir)[:20], i))
    sub.expected = r.expected
    failed = True
    try:
        with world(sub, make) as w:
            fn(w, case)
        failed = False
    finally:
        sub.close(failed)


def each(r, cases, fn, make=World):
    """fn(w, case) in a world of its own for each case."""
    for i, case in enumerate(cases):
        case_of(r, i, case, fn, make)


def together(r, cases, fn, make=World):
    """The same, at one time; for what mostly waits."""
    bad = []

    def run(i, case):
        try:
            case_of(r, i, case, fn, make)
        except BaseException as e:
            bad.append((case, e))
    threads = [threading.Thread(target=run, args=x) for x in enumerate(cases)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if bad:
        raise AssertionError("%d of %d; %s" % (len(bad), len(cases), bad)) from bad[0][1]


def settled_once(w, n, **want):
    """m0 .. m(n-1) ran once each, and the service has none of them any more."""
    w.d.wait_queue("jobs", 40, done=n, **want)
    w.wait_empty(30)
    ran = w.out()
    assert sorted(ran) == sorted("m%d" % i for i in range(n)), (len(ran), len(set(ran)))
    assert w.dead.bodies() == []


def visibility(w):
    """(time, handle, seconds) of every change that was asked for."""
    return [(q.time, e["ReceiptHandle"], e["VisibilityTimeout"]) for q in w.peer.asked("ChangeMessageVisibilityBatch")
            for e in q.body["Entries"]]


def dead(w, *args, **kw):
    return w.d.botctl("dead", args[0], "jobs", *args[1:], **kw)
