"""pubsub.py - a Pub/Sub for the tests: our own fake in memory (tests/node/
fakepubsub.mjs), and Google's emulator where the machine has it.

Both are asked by REST for what a test sets up, with short names: "jobs" is
projects/p1/topics/jobs or projects/p1/subscriptions/jobs.  The fake can also be
looked into, break in any way, and skip time.
"""
import base64
import glob
import http.client
import json
import os
import re
import shutil
import subprocess
import threading

from node import install, node
from rig import DEADLINE, Process, Skip, accepts, free_port, wait_for

PROJECT = "p1"


class PubsubError(Exception):
    def __init__(self, status, name, text):
        super().__init__("%d %s: %s" % (status, name, text))
        self.status, self.name = status, name


def seconds(n):
    return "%gs" % n


class Pubsub:
    """The REST calls, over one connection kept for each thread.  host is for
    PUBSUB_EMULATOR_HOST."""

    def __init__(self, port, rest_port, project=PROJECT):
        self.port, self.rest_port, self.project = port, rest_port, project
        self.host = "127.0.0.1:%d" % port
        self.local = threading.local()

    def topic(self, name):
        return name if "/" in name else "projects/%s/topics/%s" % (self.project, name)

    def subscription(self, name):
        return name if "/" in name else "projects/%s/subscriptions/%s" % (self.project, name)

    def rest(self, method, path, body=None, timeout=None):
        text = None if body is None else json.dumps(body)
        for again in (True, False):
            c = getattr(self.local, "c", None) or http.client.HTTPConnection("127.0.0.1", self.rest_port)
            self.local.c = c
            c.timeout = timeout or DEADLINE
            if c.sock:
                c.sock.settimeout(c.timeout)
            try:
                c.request(method, path, text, {"Content-Type": "application/json"})
                answer = c.getresponse()
                text = answer.read().decode()
                break
            except (ConnectionError, http.client.HTTPException):
                # It closes what was idle for long; anything else is real.
                self.local.c = None
                c.close()
                if not again:
                    raise
            except OSError:
                self.local.c = None
                c.close()
                raise
        value = json.loads(text or "{}")
        if answer.status != 200:
            e = value.get("error", {})
            raise PubsubError(answer.status, e.get("status"), e.get("message"))
        return value

    # ---- topics and subscriptions ----

    def create_topic(self, name):
        self.rest("PUT", "/v1/" + self.topic(name), {})

    def create_subscription(self, name, topic=None, deadline=10, ordering=False, exactly_once=False, dead=None,
                            attempts=5, backoff=None):
        """dead: the topic of the dead letters; backoff: (least, most) seconds."""
        body = {"topic": self.topic(topic or name), "ackDeadlineSeconds": deadline}
        if ordering:
            body["enableMessageOrdering"] = True
        if exactly_once:
            body["enableExactlyOnceDelivery"] = True
        if dead:
            body["deadLetterPolicy"] = {"deadLetterTopic": self.topic(dead), "maxDeliveryAttempts": attempts}
        if backoff:
            body["retryPolicy"] = {"minimumBackoff": seconds(backoff[0]), "maximumBackoff": seconds(backoff[1])}
        return self.rest("PUT", "/v1/" + self.subscription(name), body)

    def create(self, name, dead=None, **kw):
        """A topic and a subscription of one name; dead: the same for its dead
        letters.  Without attempts= the service itself moves nothing there."""
        if dead:
            self.create(dead)
        self.create_topic(name)
        return self.create_subscription(name, dead=dead if "attempts" in kw else None, **kw)

    def update_subscription(self, name, **fields):
        return self.rest("PATCH", "/v1/" + self.subscription(name), {
            "subscription": dict(fields, name=self.subscription(name)), "updateMask": ",".join(fields)})

    def get_subscription(self, name):
        return self.rest("GET", "/v1/" + self.subscription(name))

    def delete_subscription(self, name):
        self.rest("DELETE", "/v1/" + self.subscription(name))

    def delete_topic(self, name):
        self.rest("DELETE", "/v1/" + self.topic(name))

    # ---- messages ----

    @staticmethod
    def message(body, attributes=None, key=None):
        data = body if isinstance(body, bytes) else body.encode()
        m = {"data": base64.b64encode(data).decode()}
        if attributes:
            m["attributes"] = attributes
        if key:
            m["orderingKey"] = key
        return m

    def publish(self, topic, body, **kw):
        """The message's id."""
        return self.publish_all(topic, [body], **kw)[0]

    def publish_all(self, topic, bodies, **kw):
        """Many, a thousand in a request; attributes= and key= for all."""
        ids = []
        for i in range(0, len(bodies), 1000):
            ids += self.rest("POST", "/v1/%s:publish" % self.topic(topic), {
                "messages": [self.message(b, **kw) for b in bodies[i:i + 1000]]})["messageIds"]
        return ids

    def pull(self, subscription, n=10, wait=False):
        """What is there now: dicts with ackId, message (data is decoded into
        "body") and deliveryAttempt."""
        body = {"maxMessages": n}
        if not wait:
            body["returnImmediately"] = True
        found = self.rest("POST", "/v1/%s:pull" % self.subscription(subscription), body, timeout=100).get(
            "receivedMessages", [])
        for m in found:
            m["body"] = base64.b64decode(m["message"].get("data", ""))
            m["attributes"] = m["message"].get("attributes", {})
        return found

    def acknowledge(self, subscription, *received):
        self.rest("POST", "/v1/%s:acknowledge" % self.subscription(subscription), {
            "ackIds": [m["ackId"] for m in received]})

    def modify(self, subscription, deadline, *received):
        self.rest("POST", "/v1/%s:modifyAckDeadline" % self.subscription(subscription), {
            "ackIds": [m["ackId"] for m in received], "ackDeadlineSeconds": deadline})

    def drain(self, subscription, n, deadline=None):
        """Waits for n messages, acknowledges and returns them."""
        out = []

        def some():
            got = self.pull(subscription, n - len(out))
            if got:
                self.acknowledge(subscription, *got)
                out.extend(got)
            return len(out) >= n
        wait_for("%d messages of %s" % (n, subscription), some, deadline)
        return out

    def publish_with_client(self, rig, topic, messages):
        """With Google's own client for Node: dicts with data (text) or base64,
        attributes, orderingKey.  Their ids."""
        exe, where = node(), install()
        r = subprocess.run([exe, os.path.join(where, "publish.mjs"), self.project, topic.rpartition("/")[2]],
                           input="".join(json.dumps(m) + "\n" for m in messages), stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, universal_newlines=True, cwd=rig.dir, timeout=DEADLINE + 40,
                           env=dict(os.environ, PUBSUB_EMULATOR_HOST=self.host, NODE_NO_WARNINGS="1"))
        if r.returncode != 0:
            raise AssertionError("publish.mjs: exit %d\n%s" % (r.returncode, r.stderr))
        return r.stdout.split()


class FakePubsub(Process, Pubsub):
    """Takes 0.5 s to start: let the tests of a file share() one, with names of
    their own, unless they break more than one subscription.

    tls: gRPC over TLS with the rig's certificate.  port: that of one which has
    ended; nothing of it is left.
    """

    def __init__(self, rig, tls=False, port=0, project=PROJECT):
        exe, where = node(), install()
        argv = [exe, os.path.join(where, "fakepubsub.mjs"), "--port", str(port)]
        self.certificate = rig.certificate() if tls else None
        if tls:
            argv += ["--cert", self.certificate.cert, "--key", self.certificate.key]
        Process.__init__(self, rig, "fakepubsub", argv, env=dict(os.environ, NODE_NO_WARNINGS="1"))
        rest, grpc = wait_for("fakepubsub", self.listening)
        Pubsub.__init__(self, grpc, rest, project)
        self.endpoint = "%s://%s:%d" % (("https", "localhost", grpc) if tls else ("http", "127.0.0.1", grpc))
        self.monitoring_endpoint = "http://127.0.0.1:%d" % rest

    def listening(self):
        if not self.alive():
            raise AssertionError("fakepubsub ended:\n" + self.log())
        m = re.search(r"^rest (\d+)\nport (\d+)$", self.log(), re.M)
        return m and (int(m.group(1)), int(m.group(2)))

    def fake(self, what, subscription=None, **kw):
        kw["do"] = what
        if subscription:
            kw["subscription"] = self.subscription(subscription)
        return self.rest("POST", "/fake", kw)

    # ---- look ----

    def look(self, subscription):
        """Counts: published, delivered, acked, nacked, expired, extended,
        dead_lettered, ignored (settlements of an older lease), and those of
        now: undelivered (not acknowledged), waiting, outstanding, delayed;
        streams is a list of dicts."""
        return self.fake("look", subscription)

    def wait_look(self, subscription, deadline=None, **want):
        """Waits until the counts are as wanted."""
        last = {}

        def check():
            last.update(self.look(subscription))
            return all(last.get(k) == v for k, v in want.items())
        try:
            wait_for("%s: %s" % (subscription, want), check, deadline)
        except AssertionError as e:
            raise AssertionError("%s; it is %s" % (e, json.dumps(last)))
        return last

    def history(self, subscription):
        """Message id: {"deliveries", "acked"}, of the first 20,000."""
        return self.fake("history", subscription)

    def calls(self, method=None):
        """How often each method was called; or one of them."""
        calls = self.fake("look")["calls"]
        return calls.get(method, 0) if method else calls

    def headers(self, method):
        """The metadata of the last call."""
        return self.fake("look")["headers"].get(method, {})

    # ---- fill, skip time ----

    def fill(self, topic, n, size):
        """n messages with bodies of that size, about 100,000 a second."""
        self.fake("fill", topic=self.topic(topic), n=n, size=size)

    def advance(self, seconds):
        """Its clock: leases and back-offs end."""
        self.fake("advance", seconds=seconds)

    # ---- break ----

    def fault(self, method, code, times=1, message=None, reason=None, metadata=None, after=False):
        """The next calls (times=-1: all, until heal()) of a method ("*": any
        without a rule of its own) get a status by name, such as "UNAVAILABLE",
        or no answer at all ("STALL").  after: they are done, and only then
        answered so.  reason and metadata make an ErrorInfo."""
        self.fake("fault", method=method, code=code, times=times, message=message, reason=reason,
                  metadata=metadata or {}, after=after)

    def heal(self):
        self.fake("heal")

    def require_authorization(self, value):
        """Every call without this header is UNAUTHENTICATED; heal() ends it."""
        self.fake("authorization", value=value)

    def end_streams(self, code="UNAVAILABLE", subscription=None, message=None):
        """With a status ("OK" too).  How many there were."""
        return self.fake("end", subscription, code=code, message=message)["ended"]

    def pause(self, subscription):
        """Nothing is delivered until resume()."""
        self.fake("pause", subscription)

    def resume(self, subscription):
        self.fake("resume", subscription)

    def revoke(self, subscription):
        """Exactly-once: the ack ids of now have become invalid."""
        self.fake("revoke", subscription)

    def transient(self, subscription, n, reason=None):
        """The next n ack ids fail for now, in a status with details."""
        self.fake("transient", subscription, n=n, reason=reason)

    def goaway(self, ms=0):
        """To every connection; what still runs after ms is cut off."""
        self.fake("drain", ms=ms)


def emulator_jar():
    """Where Google's emulator is; Skip when it, or java, is missing."""
    jar = os.environ.get("PUBSUB_EMULATOR_JAR")
    if not jar:
        gcloud = shutil.which("gcloud")
        top = os.path.dirname(os.path.dirname(os.path.realpath(gcloud))) if gcloud else "/nonexistent"
        jar = next(iter(sorted(glob.glob(os.path.join(top, "platform/pubsub-emulator/lib/*.jar")))), None)
    if not jar or not os.path.isfile(jar):
        raise Skip("Google's Pub/Sub emulator is not installed (PUBSUB_EMULATOR_JAR, or the gcloud component)")
    if not shutil.which("java"):
        raise Skip("java is not installed")
    return jar


class Emulator(Process, Pubsub):
    """Google's: gRPC and REST on one port."""

    def __init__(self, rig, project=PROJECT):
        jar, port = emulator_jar(), free_port()
        Process.__init__(self, rig, "pubsub-emulator", ["java", "-Xmx512m", "-jar", jar, "--host=127.0.0.1",
                                                        "--port=%d" % port])
        Pubsub.__init__(self, port, port, project)
        self.endpoint = "http://" + self.host
        wait_for("the Pub/Sub emulator", self.listening, 60)

    def listening(self):
        if not self.alive():
            raise AssertionError("the Pub/Sub emulator ended:\n" + self.log())
        return "Server started" in self.log() and accepts(self.port)
