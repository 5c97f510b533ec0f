"""aws_peer.py - scripted peers in the place of AWS, plain or TLS.

AwsPeer is an SQS endpoint: aws_queue.py's queues behind real signature checks
(sigv4.py), with rules that answer any request as a test wants it.  Metadata
hands out keys the ways AWS does (instance metadata, containers, STS); Proxy is
an HTTP proxy for CONNECT.  Each records what it was asked.

    peer = AwsPeer(r.certificate())
    jobs = peer.sqs.queue("jobs", dead="jobs-dead")
    rule = peer.rule("ReceiveMessage", error("AccessDenied", 403, coral=True))
    ... rule.hits ...
    rule.remove()

Every secret has "s3cr3t" in it, so that a test can look for it everywhere.
"""
import base64
import fnmatch
import http.client
import itertools
import json
import os
import select
import socket
import struct
import threading
import time
import urllib.parse
from email.utils import formatdate

import aws_queue
import sigv4

DEADLINE = float(os.environ.get("TEST_DEADLINE", "20"))
CORAL = "com.amazon.coral.service#"
JSON = "application/x-amz-json-1.0"


class Reply:
    """cut: so many bytes of the answer are sent; then: what comes of the
    connection: None (kept), "close", "silence" or "reset"."""

    def __init__(self, status=200, body=b"", headers=None, cut=None, then=None, raw=None):
        self.status, self.headers, self.cut, self.then, self.raw = status, headers or {}, cut, then, raw
        self.body = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else \
            json.dumps(body).encode()

    def json(self):
        return json.loads(self.body.decode())

    def bytes(self, date):
        if self.raw is not None:
            return self.raw
        headers = {"Date": formatdate(date, usegmt=True), "Content-Type": JSON,
                   "x-amzn-RequestId": "00000000-0000-0000-0000-000000000000",
                   "Content-Length": str(len(self.body))}
        headers.update(self.headers)
        head = "HTTP/1.1 %d %s\r\n" % (self.status, http.client.responses.get(self.status, "Whatever"))
        head += "".join("%s: %s\r\n" % (k, v) for k, v in headers.items() if v is not None)
        return head.encode() + b"\r\n" + self.body


class Request:
    def __init__(self, peer, connection, method, path, headers, body):
        self.peer, self.connection, self.method, self.path = peer, connection, method, path
        self.headers, self.raw = headers, body
        self.time = time.monotonic()
        self.by_name = {k.lower(): v for k, v in headers}
        self.target = self.by_name.get("x-amz-target", "").partition(".")[2]
        self.body = None                # parsed
        self.key = None                 # the access key that signed it
        self.reply = None               # when answered
        self.answered = None
        self.alive = lambda: True

    @property
    def queue(self):
        b = self.body or {}
        return b.get("QueueName") or (b.get("QueueUrl") or "").rpartition("/")[2]

    def __repr__(self):
        return "<%.3f #%d %s %s %s>" % (self.time, self.connection, self.target or self.path, self.raw[:300],
                                       self.reply and self.reply.status)


class Rule:
    def __init__(self, peer, target, action, times, when):
        self.peer, self.target, self.action, self.left, self.when = peer, target, action, times, when
        self.hits = 0

    def remove(self):
        with self.peer.lock:
            if self in self.peer.rules:
                self.peer.rules.remove(self)


# ---- what a rule can do: action(request, go) -> Reply; go() answers properly ----

def error(name, status=400, text="because the test says so", coral=False, headers=None):
    def act(request, go):
        h = dict(headers or {})
        if request.by_name.get("x-amzn-query-mode") == "true":
            h.setdefault("x-amzn-query-error", "AWS.SimpleQueueService.%s;Sender" % name)
        return Reply(status, {"__type": (CORAL if coral else "com.amazonaws.sqs#") + name, "message": text}, h)
    return act


def status(code, body=b"", headers=None):
    """Without a name, as load balancers answer."""
    return lambda request, go: Reply(code, body, headers)


def answer(value, headers=None):
    """200 and this JSON, or these bytes."""
    return lambda request, go: Reply(200, value, headers)


def raw(data, then=None):
    """What is no HTTP."""
    return lambda request, go: Reply(raw=data, then=then)


def late(seconds):
    """Done at once, answered after a while."""
    def act(request, go):
        reply = go()
        request.peer.sleep(seconds)
        return reply
    return act


def held(event, first=None):
    """Answered when event is set.  first: done then too, not before."""
    def act(request, go):
        reply = None if first == "wait" else go()
        end = time.monotonic() + DEADLINE * 3
        while not event.is_set() and not request.peer.closing.is_set() and time.monotonic() < end:
            event.wait(0.05)
        return reply or go()
    return act


def half(then="silence", cut=None, apply=True):
    """Done (apply), but the answer stops in the middle."""
    def act(request, go):
        reply = go() if apply else Reply(200, b"{" + b" " * 100 + b"}")
        whole = reply.bytes(0)
        reply.cut = len(whole) - max(len(reply.body) // 2, 1) if cut is None else cut
        reply.then = then
        return reply
    return act


def never(apply=False):
    """Not a byte; the connection stays open."""
    return half("silence", 0, apply)


def reset(apply=False):
    """Not a byte; RST."""
    return half("reset", 0, apply)


def hang_up(apply=False):
    return half("close", 0, apply)


def edit(fn):
    """fn(value) changes the JSON of the proper answer, or returns another."""
    def act(request, go):
        reply = go()
        value = reply.json()
        value = fn(value) or value
        return Reply(reply.status, value, reply.headers)
    return act


def fail_entries(code, sender_fault=False, pick=lambda entry: True, text="because the test says so"):
    """A batch of which the picked entries fail; the others are done."""
    def act(request, go):
        good, bad = [], []
        for e in request.body["Entries"]:
            (bad if pick(e) else good).append(e)
        request.body["Entries"] = good
        value = go().json() if request.body["Entries"] else {}
        request.body["Entries"] += bad
        value.setdefault("Failed", []).extend({"Id": e["Id"], "SenderFault": sender_fault, "Code": code,
                                               "Message": text} for e in bad)
        return Reply(200, value)
    return act


# ---- servers ----

class HttpPeer:
    """Answers each request by self.answer(request) -> Reply, a thread for each
    connection."""

    def __init__(self, certificate=None, context=None):
        self.tls = context or (certificate.server_context() if certificate else None)
        self.lock = threading.RLock()
        self.closing = threading.Event()
        self.requests = []
        self.connections = itertools.count(1)
        self.accepted = 0
        self.open = {}
        self.clock = 0                  # seconds that this peer's is ahead
        self.port = 0
        self.up()

    def now(self):
        return time.time() + self.clock

    def sleep(self, seconds):
        self.closing.wait(seconds)

    def accept(self):
        while self.listening:
            if not select.select([self.sock], [], [], 0.05)[0]:
                continue
            c, _ = self.sock.accept()
            self.accepted += 1
            n = next(self.connections)
            with self.lock:
                self.open[n] = c
            threading.Thread(target=self.serve, args=(n, c), daemon=True).start()

    def serve(self, n, c):
        f = None
        try:
            c.settimeout(DEADLINE * 10)
            c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                c = self.tls.wrap_socket(c, server_side=True)
                with self.lock:
                    self.open[n] = c
            f = c.makefile("rb")
            while not self.closing.is_set():
                request = self.read(n, c, f)
                if request is None:
                    break
                with self.lock:
                    self.requests.append(request)
                reply = self.answer(request)
                request.reply = reply
                if not self.send(c, request, reply):
                    break
        except (OSError, ValueError):
            pass
        finally:
            with self.lock:
                self.open.pop(n, None)
            if f is not None:
                f.close()               # the socket stays open for it
            c.close()

    def read(self, n, c, f):
        line = f.readline(65536)
        if not line:
            return None
        method, path, _ = line.decode().split(" ", 2)
        headers = []
        while True:
            line = f.readline(65536)
            if line in (b"\r\n", b"\n", b""):
                break
            k, _, v = line.decode().rstrip("\r\n").partition(":")
            headers.append((k, v.strip()))
        length = next((int(v) for k, v in headers if k.lower() == "content-length"), 0)
        request = Request(self, n, method, path, headers, f.read(length) if length else b"")

        def alive():
            # Nothing is pipelined: what can be read now is the end.
            return not select.select([c], [], [], 0)[0] and not self.closing.is_set()
        request.alive = alive
        return request

    def send(self, c, request, reply):
        """False: the connection is at its end."""
        whole = reply.bytes(self.now())
        c.sendall(whole if reply.cut is None else whole[:reply.cut])
        request.answered = time.monotonic()
        if reply.then == "silence":
            c.settimeout(DEADLINE * 3)
            c.recv(1)
        elif reply.then == "reset":
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return reply.then is None

    def cut_all(self):
        """The end of every connection that is open now."""
        with self.lock:
            for c in self.open.values():
                try:
                    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    c.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def up(self):
        """Listens; after down() at the same port again."""
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind(("127.0.0.1", self.port))
        self.sock.listen(128)
        self.port = self.sock.getsockname()[1]
        self.listening = True
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def down(self):
        """Connections are refused, and the open ones end."""
        self.listening = False
        self.thread.join()
        self.sock.close()
        self.cut_all()

    def asked(self, target="*", queue=None):
        with self.lock:
            return [q for q in self.requests if fnmatch.fnmatchcase(q.target or q.path, target) and
                    (queue is None or q.queue == queue)]

    def close(self):
        self.closing.set()
        if self.listening:
            self.down()


class Keys:
    def __init__(self, access, secret, token=None, expires=None):
        self.access, self.secret, self.token, self.expires = access, secret, token, expires


class AwsPeer(HttpPeer):
    SECRET = "s3cr3t+of/the=test"

    def __init__(self, certificate=None, region=aws_queue.REGION, context=None):
        self.sqs = aws_queue.Service(region)
        self.region = region
        self.keys = {}
        self.numbers = itertools.count(1)
        self.first = self.issue(token=False)
        self.verify = True
        self.skewed = "SignatureDoesNotMatch"   # the name that a wrong clock gets
        self.rules = []
        super().__init__(certificate, context)
        self.endpoint = "%s://localhost:%d" % ("https" if self.tls else "http", self.port)

    def issue(self, lifetime=None, token=True):
        """New keys that this peer accepts, from now on for so many seconds."""
        n = next(self.numbers)
        k = Keys("AKIDTEST%04d" % n, self.SECRET + str(n), "t/s3cr3t+%d==" % n if token else None,
                 lifetime and time.time() + lifetime)
        self.keys[k.access] = k
        return k

    def env(self, keys=None):
        """The environment of a daemon that uses these keys and nothing else."""
        k = keys or self.first
        return clean_env(AWS_ACCESS_KEY_ID=k.access, AWS_SECRET_ACCESS_KEY=k.secret, AWS_SESSION_TOKEN=k.token or "")

    def rule(self, target, action, times=None, when=None, queue=None):
        """target: a pattern; the newest rule that matches counts, times times.
        when(request): more to match."""
        def match(request):
            return (queue is None or request.queue == queue) and (when is None or when(request))
        rule = Rule(self, target, action, times, match)
        with self.lock:
            self.rules.insert(0, rule)
        return rule

    def find_rule(self, request):
        with self.lock:
            for rule in self.rules:
                if fnmatch.fnmatchcase(request.target, rule.target) and rule.left != 0 and rule.when(request):
                    rule.hits += 1
                    rule.left = rule.left and rule.left - 1
                    return rule
        return None

    def answer(self, request):
        try:
            request.body = json.loads(request.raw.decode())
        except ValueError:
            request.body = None
        rule = self.find_rule(request)
        if rule:
            return rule.action(request, lambda: self.properly(request))
        return self.properly(request)

    def properly(self, request):
        try:
            self.check(request)
            value = self.sqs.call(request.target, request.body, request.alive)
            return Reply(200, value)
        except sigv4.Refused as e:
            return Reply(403, {"__type": CORAL + e.name, "message": e.text})
        except aws_queue.Refusal as e:
            headers = {}
            if request.by_name.get("x-amzn-query-mode") == "true":
                legacy = {"QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue"}
                headers["x-amzn-query-error"] = "%s;Sender" % legacy.get(e.name, e.name)
            return Reply(e.status, {"__type": e.prefix + e.name, "message": e.text}, headers)

    def check(self, request):
        complain = self.sqs.complaints.append
        host = request.by_name.get("host", "")
        if request.method != "POST" or request.path != "/":
            complain("%s %s" % (request.method, request.path))
        if not request.by_name.get("content-type", "").startswith(JSON):
            complain("Content-Type: %s" % request.by_name.get("content-type"))
        if not request.by_name.get("x-amz-target", "").startswith("AmazonSQS."):
            complain("X-Amz-Target: %s" % request.by_name.get("x-amz-target"))
        if not host:
            complain("no Host")
        if self.verify:
            request.key = sigv4.verify(request.method, request.path, request.headers, request.raw, self.keys,
                                       self.region, "sqs", self.now(), self.skewed)
        if request.body is None:
            complain("no JSON: %r" % request.raw[:200])
            raise aws_queue.Refusal("SerializationException", "", prefix=CORAL)

    def close(self):
        self.sqs.closing = True
        super().close()


def clean_env(**more):
    """No AWS settings and no proxies but these."""
    env = {k: "" for k in os.environ if k.upper().startswith("AWS_") or k.upper().endswith("_PROXY")}
    env.update(AWS_EC2_METADATA_DISABLED="true", HOME="/nonexistent")
    env.update(more)
    return env


class Metadata(HttpPeer):
    """Instance metadata, a container's agent and STS at one port, which hand out
    keys of an AwsPeer.  fail: path pattern to a Reply that counts instead."""
    TOKEN = "imds-s3cr3t-token"
    CONTAINER_TOKEN = "container-s3cr3t-token"
    IDENTITY = "identity-s3cr3t-token"

    def __init__(self, peer, lifetime=3600, region=None):
        self.peer, self.lifetime, self.region = peer, lifetime, region
        self.fail = {}
        self.issued = []
        super().__init__()
        self.url = "http://127.0.0.1:%d" % self.port

    def imds_env(self, **more):
        return clean_env(**dict({"AWS_EC2_METADATA_DISABLED": "", "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url},
                                **more))

    def container_env(self):
        return clean_env(AWS_CONTAINER_CREDENTIALS_FULL_URI=self.url + "/container",
                         AWS_CONTAINER_AUTHORIZATION_TOKEN=self.CONTAINER_TOKEN)

    def sts_env(self, token_file, **more):
        return clean_env(**dict({"AWS_ENDPOINT_URL_STS": self.url, "AWS_ROLE_SESSION_NAME": "test",
                                 "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/jobs",
                                 "AWS_WEB_IDENTITY_TOKEN_FILE": token_file}, **more))

    def fresh(self):
        k = self.peer.issue(self.lifetime)
        self.issued.append(k)
        return k, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + self.lifetime))

    def answer(self, request):
        path = request.path.partition("?")[0]
        for pattern, reply in self.fail.items():
            if fnmatch.fnmatchcase(path, pattern):
                return reply
        role = "/latest/meta-data/iam/security-credentials/"
        if path == "/latest/api/token" and request.method == "PUT":
            return Reply(200, self.TOKEN) if request.by_name.get("x-aws-ec2-metadata-token-ttl-seconds") else \
                Reply(400)
        if path.startswith("/latest/meta-data/") and request.by_name.get("x-aws-ec2-metadata-token") != self.TOKEN:
            return Reply(401)
        if path == role:
            return Reply(200, "my-role")
        if path == role + "my-role":
            k, end = self.fresh()
            return Reply(200, {"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": k.access, "SecretAccessKey":
                               k.secret, "Token": k.token, "Expiration": end})
        if path == "/latest/meta-data/placement/region" and self.region:
            return Reply(200, self.region)
        if path == "/container":
            if request.by_name.get("authorization") != self.CONTAINER_TOKEN:
                return Reply(401)
            k, end = self.fresh()
            return Reply(200, {"AccessKeyId": k.access, "SecretAccessKey": k.secret, "Token": k.token,
                               "Expiration": end})
        if path == "/" and request.method == "POST":
            return self.sts(dict(urllib.parse.parse_qsl(request.raw.decode())), request)
        return Reply(404)

    def sts(self, form, request):
        action = form.get("Action", "")
        if action == "AssumeRoleWithWebIdentity" and form.get("WebIdentityToken") != self.IDENTITY:
            return Reply(400, "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidIdentityToken</Code><Message>no"
                         "</Message></Error></ErrorResponse>", {"Content-Type": "text/xml"})
        if action == "AssumeRole":
            try:
                sigv4.verify(request.method, request.path, request.headers, request.raw, self.peer.keys,
                             self.peer.region, "sts", self.now())
            except sigv4.Refused as e:
                return Reply(403, "<ErrorResponse><Error><Code>%s</Code><Message>no</Message></Error></ErrorResponse>" %
                             e.name, {"Content-Type": "text/xml"})
        elif action != "AssumeRoleWithWebIdentity":
            return Reply(400)
        k, end = self.fresh()
        return Reply(200, '<{0}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{0}Result><Credentials>'
                     "<AccessKeyId>{1}</AccessKeyId><SecretAccessKey>{2}</SecretAccessKey><SessionToken>{3}"
                     "</SessionToken><Expiration>{4}</Expiration></Credentials></{0}Result></{0}Response>".format(
                         action, k.access, k.secret, k.token, end), {"Content-Type": "text/xml"})


class Proxy(HttpPeer):
    """CONNECT to any name leads to one port.  password: "user:password", or
    none is asked for."""

    def __init__(self, port, password=None):
        self.to, self.password = port, password
        self.targets = []
        super().__init__()
        self.url = "http://%s127.0.0.1:%d" % (password + "@" if password else "", self.port)

    def answer(self, request):
        want = self.password and "Basic " + base64.b64encode(self.password.encode()).decode()
        if want and request.by_name.get("proxy-authorization") != want:
            return Reply(407, b"", {"Proxy-Authenticate": "Basic realm=\"test\""})
        if request.method != "CONNECT":
            return Reply(405)
        self.targets.append(request.path)
        return Reply(raw=b"HTTP/1.1 200 Connection established\r\n\r\n", then="tunnel")

    def send(self, c, request, reply):
        going = super().send(c, request, reply)
        if reply.then == "tunnel":
            with socket.create_connection(("127.0.0.1", self.to), DEADLINE) as up:
                self.pump(c, up)
        return going

    def pump(self, a, b):
        while not self.closing.is_set():
            for s in select.select([a, b], [], [], 0.2)[0]:
                data = s.recv(65536)
                if not data:
                    return
                (b if s is a else a).sendall(data)

