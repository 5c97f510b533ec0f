"""Pools with Http=: the operator POSTs each message to a scripted server."""
import http.server
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
from rig import wait_for  # noqa: E402

CONF = """
[Pool hook]
Http=%s
Timeout=%s
%s
[Queue jobs]
Type=spool
Path={dir}/spool
Pool=hook
MaxAttempts=3
Backoff=50ms-100ms
BacklogInterval=100ms
"""


class Server:
    """Answers each request by what its body says; remembers all of them.

    The body's first line: "STATUS [Header: value]", or "hang" (until release()).
    """

    def __init__(self, tls=None):
        outer = self
        self.requests, self.lock, self.gate = [], threading.Lock(), threading.Event()
        self.hanging = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with outer.lock:
                    outer.requests.append((self.path, self.headers, body, self.client_address))
                    seen = sum(1 for r in outer.requests if r[2] == body)
                outer.answer(self, body.decode("latin-1").split("\n")[0], seen)

            def log_message(self, *args):
                pass

        class Threads(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass        # clients that hang up are what some tests are about
        self.s = Threads(("127.0.0.1", 0), Handler)
        if tls:
            self.s.socket = tls.wrap_socket(self.s.socket, server_side=True)
        self.port = self.s.server_port
        self.thread = threading.Thread(target=self.s.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def answer(self, h, line, seen):
        if line.startswith("hang"):
            with self.lock:
                self.hanging += 1
            self.gate.wait(rig.DEADLINE * 2)
            line = "200"
        if line.startswith("once "):
            line = line[5:] if seen == 1 else "200"
        status, _, header = line.partition(" ")
        text = b"because\x01of\nthis"
        h.send_response(int(status))
        if header:
            h.send_header(*header.split(": ", 1))
        h.send_header("Content-Length", str(len(text)))
        h.end_headers()
        h.wfile.write(text)

    def count(self):
        with self.lock:
            return len(self.requests)

    def close(self):
        self.gate.set()
        self.s.shutdown()
        self.s.server_close()
        self.thread.join()


def serve(test):
    """The test gets a server, which ends with it."""
    def run(r):
        s = Server()
        try:
            test(r, s)
        finally:
            s.gate.set()
            r_close = r.close

            def close(failed):
                try:
                    r_close(failed)
                finally:
                    s.close()
            r.close = close
    run.__name__ = test.__name__
    return run


def conf(s, timeout="10s", more="", path="/hook/secret-path?token=secret-query", scheme="http"):
    return CONF % ("%s://127.0.0.1:%d%s" % (scheme, s.port, path), timeout, more)


def dead(r):
    d = r.path("spool", "dead")
    os.makedirs(d, exist_ok=True)
    return sorted(f for f in os.listdir(d) if not f.startswith(".") and not f.endswith(".json"))


@serve
def test_done_and_what_is_sent(r, s):
    d = r.daemon(conf(s))
    d.botctl("enqueue", "jobs", "--body", "200 X: y\n{}", "--attribute", "Content-Type=application/json",
             "--attribute", "trace_id=a b%\u00e9", "--attribute", "plain=yes")
    d.botctl("enqueue", "jobs", "--body", "204")
    d.wait_queue("jobs", done=2)
    path, h, body, peer = next(q for q in s.requests if q[2].startswith(b"200"))
    assert path == "/hook/secret-path?token=secret-query", path
    assert body == b"200 X: y\n{}", body
    assert h["Content-Type"] == "application/json", h
    assert h["Bot-Queue"] == "jobs" and h["Bot-Attempt"] == "1" and h["Bot-Message-Id"], h
    assert h["Bot-Attribute-plain"] == "yes", h
    assert h["Bot-Attribute-trace-id"] == "a%20b%25%C3%A9", h
    assert h["Host"] == "127.0.0.1:%d" % s.port, h
    assert "Bot-Attribute-Content-Type" not in h and "Bot-Attributes-Omitted" not in h, h
    assert re.match(r"bot-operator/\d", h["User-Agent"]), h
    assert next(q for q in s.requests if q[2] == b"204")[1]["Content-Type"] == "application/octet-stream"
    p = d.status()["pools"]["hook"]
    assert p["workers"] == 10 and p["busy"] == 0 and p["up"] and p["verdicts"] == 2, p
    everything = d.log() + d.get("/.well-known/engine-status")[1] + d.get("/")[1] + d.get("/metrics")[1]
    assert "secret" not in everything, everything


@serve
def test_connections_are_kept(r, s):
    d = r.daemon(conf(s, more="Concurrency=2"))
    for i in range(40):
        d.botctl("pause", "jobs") if i == 0 else None
        d.botctl("enqueue", "jobs", "--body", "200\n%d" % i)
    d.botctl("resume", "jobs")
    d.wait_queue("jobs", done=40)
    assert len({q[3] for q in s.requests}) <= 2, {q[3] for q in s.requests}
    assert sorted(q[2] for q in s.requests) == sorted(b"200\n%d" % i for i in range(40))


@serve
def test_what_answers_mean(r, s):
    r.expect_log(r"dead letters")
    d = r.daemon(conf(s))
    for body in ("404", "400", "500", "once 500", "once 408", "once 429", "once 503", "301 Location: /x"):
        d.botctl("enqueue", "jobs", "--body", body)
    q = d.wait_queue("jobs", done=4, dead=4)
    assert q["errors"] == {"external_api": 2 + 3 + 3 + 3, "rate_limited": 1}, q["errors"]
    by = {}
    for _, h, body, _ in s.requests:
        by.setdefault(body.decode(), []).append(h["Bot-Attempt"])
    assert by["404"] == ["1"] and by["400"] == ["1"], by
    assert by["500"] == ["1", "2", "3"] and by["301 Location: /x"] == ["1", "2", "3"], by
    assert by["once 500"] == by["once 408"] == by["once 429"] == ["1", "2"], by
    listed = d.botctl("dead", "list", "jobs").stdout
    assert "HTTP 404: because of this" in d.log() + listed, listed
    assert "redirects are not followed" in d.log(), d.log()


@serve
def test_retry_after_pauses_the_queue(r, s):
    d = r.daemon(conf(s, more="Concurrency=1"))
    start = time.monotonic()
    d.botctl("enqueue", "jobs", "--body", "once 429 Retry-After: 2")
    wait_for("the pause", lambda: d.queue("jobs")["paused"])
    d.botctl("enqueue", "jobs", "--body", "200")
    wait_for("the backlog", lambda: d.queue("jobs")["backlog"] >= 1)
    assert s.count() == 1, s.requests       # the other one waits as well
    q = d.wait_queue("jobs", done=2)
    assert time.monotonic() - start >= 2
    assert q["errors"] == {"rate_limited": 1} and q["dead"] == 0, q
    # It was no fault of the message's: its attempt does not count.
    assert [x[1]["Bot-Attempt"] for x in s.requests] == ["1", "1", "1"], s.requests


@serve
def test_time_out_is_retried(r, s):
    r.expect_log(r"dead letters")
    d = r.daemon(conf(s, timeout="200ms"))
    d.botctl("enqueue", "jobs", "--body", "hang")
    q = d.wait_queue("jobs", dead=1)
    assert q["errors"] == {"timeout": 3}, q
    assert s.count() == 3
    p = d.status()["pools"]["hook"]
    assert p["timeouts"] == 3 and p["busy"] == 0, p
    assert d.get("/healthz")[0] == 200


@serve
def test_no_server_is_retried(r, s):
    r.expect_log(r"dead letters")
    text = conf(s)
    s.s.socket.close()
    d = r.daemon(text.replace(str(s.port), str(rig.free_port())))
    d.botctl("enqueue", "jobs", "--body", "200")
    q = d.wait_queue("jobs", dead=1)
    assert q["errors"] == {"external_api": 3}, q
    assert "Connection refused" in d.log(), d.log()


@serve
def test_invariant_3_a_server_that_hangs_delays_only_its_own_queue(r, s):
    other = Server()
    try:
        d = r.daemon(conf(s, more="Concurrency=4") + """
[Pool quick]
Http=http://127.0.0.1:%d/
[Queue quick]
Type=spool
Path={dir}/quick
Pool=quick
BacklogInterval=100ms
""" % other.port)
        for i in range(6):
            d.botctl("enqueue", "jobs", "--body", "hang %d" % i)
        wait_for("four that hang", lambda: s.hanging == 4)
        for i in range(20):
            d.botctl("enqueue", "quick", "--body", "200\n%d" % i)
        d.wait_queue("quick", done=20)
        st = d.status()
        assert st["queues"]["jobs"]["done"] == 0 and st["pools"]["hook"]["busy"] == 4, st
        assert s.hanging == 4
        assert st["queues"]["quick"]["processing_ms"]["p99"] < 2000, st
        s.gate.set()
        d.wait_queue("jobs", done=6)
    finally:
        other.close()


@serve
def test_invariant_2_drain_lets_requests_finish(r, s):
    d = r.daemon(conf(s))
    for i in range(3):
        d.botctl("enqueue", "jobs", "--body", "hang %d" % i)
    wait_for("three that hang", lambda: s.hanging == 3)
    d.signal(signal.SIGTERM)
    wait_for("the drain", lambda: "draining" in d.log())
    assert d.alive()
    s.gate.set()
    assert d.wait() == 0
    # They are settled: nothing of them comes again.
    d = r.daemon(conf(s))
    d.botctl("enqueue", "jobs", "--body", "200")
    d.wait_queue("jobs", done=1, backlog=0)
    assert s.count() == 4 and d.queue("jobs")["received"] == 1


@serve
def test_invariant_1_what_the_drain_kills_comes_back(r, s):
    r.expect_log(r"DrainTimeout= is over")
    text = "[Operator]\nStatus=127.0.0.1:0\nControl={dir}/test.sock\nDrainTimeout=200ms\n" + conf(s)
    d = r.daemon(text)
    d.botctl("enqueue", "jobs", "--body", "hang")
    wait_for("one that hangs", lambda: s.hanging == 1)
    d.signal(signal.SIGTERM)
    assert d.wait() == 0
    s.gate.set()
    d = r.daemon(text)
    d.wait_queue("jobs", done=1)
    assert [x[1]["Bot-Attempt"] for x in s.requests] == ["1", "1"], s.requests


@serve
def test_invariant_7_secret_headers(r, s):
    r.expect_log(r"HttpHeaderFile= cannot be read again")
    secret = r.write("headers", "# for the hook\nAuthorization: Bearer hunter2\r\n\nX-Key: hunter3\n", 0o600)
    d = r.daemon(conf(s, more="HttpHeaderFile=" + secret))
    d.botctl("enqueue", "jobs", "--body", "200\n1")
    d.wait_queue("jobs", done=1)
    h = s.requests[-1][1]
    assert h["Authorization"] == "Bearer hunter2" and h["X-Key"] == "hunter3", h
    # A new one is found without a reload.
    r.write("headers", "Authorization: Bearer hunter4\n", 0o600)

    def sent():
        before = s.count()
        d.botctl("enqueue", "jobs", "--body", "200\n%d" % before)
        wait_for("a request", lambda: s.count() > before)
        return s.requests[-1][1]["Authorization"] == "Bearer hunter4"
    wait_for("the new header", sent)
    # And one that is gone is not missed.
    os.unlink(secret)

    def complained():
        d.botctl("enqueue", "jobs", "--body", "200\n%d" % s.count())
        return "cannot be read again" in d.log()
    wait_for("the complaint", complained)
    wait_for("all", lambda: d.queue("jobs")["done"] == d.queue("jobs")["received"])
    assert s.requests[-1][1]["Authorization"] == "Bearer hunter4"
    shown = d.botctl("show-config").stdout
    with open("/proc/%d/cmdline" % d.pid) as f:
        shown += f.read()
    shown += d.log() + d.get("/.well-known/engine-status")[1] + d.get("/")[1] + d.get("/metrics")[1]
    for what in ("timers", "streams", "workers", "messages"):
        shown += d.botctl("debug", what).stdout
    assert "hunter" not in shown, shown


@serve
def test_no_secret_headers_no_requests(r, s):
    """401s would send every message to the dead letters."""
    r.expect_log(r"no worker can run")
    path = os.path.join(r.dir, "late")
    d = r.daemon(conf(s, more="HttpHeaderFile=" + path), wait="status")
    wait_for("the complaint", lambda: path in d.log())
    d.botctl("enqueue", "jobs", "--body", "200")
    r.write("late", "Content-Length: 5\n")
    wait_for("the second complaint", lambda: "late:1 sets what the operator itself sets" in d.status()["pools"]["hook"]["error"]["text"])
    assert s.count() == 0
    r.write("late", "X-A: b\n")
    d.wait_queue("jobs", done=1)
    assert s.requests[0][1]["X-A"] == "b"


@serve
def test_reload(r, s):
    other = Server()
    try:
        d = r.daemon(conf(s, more="Concurrency=1"))
        d.botctl("enqueue", "jobs", "--body", "hang")
        wait_for("one that hangs", lambda: s.hanging == 1)
        d.write(conf(other, more="Concurrency=3"))
        d.signal(signal.SIGHUP)
        wait_for("the reload", lambda: d.status()["pools"]["hook"]["max"] == 3)
        d.botctl("enqueue", "jobs", "--body", "200")
        d.wait_queue("jobs", done=1)        # while the old one still runs
        assert other.count() == 1 and s.count() == 1
        s.gate.set()
        d.wait_queue("jobs", done=2)
        # To another kind of handler and back.
        d.write(conf(other).replace("Http=", "Command=/bin/true\n# "))
        d.signal(signal.SIGHUP)
        wait_for("a worker", lambda: d.status()["pools"]["hook"]["max"] == 4)
        d.botctl("enqueue", "jobs", "--body", "200")
        d.wait_queue("jobs", done=3)
        assert other.count() == 1
        d.write(conf(other))
        d.signal(signal.SIGHUP)
        wait_for("the pool", lambda: d.status()["pools"]["hook"]["max"] == 10)
        d.botctl("enqueue", "jobs", "--body", "200")
        d.wait_queue("jobs", done=4)
        assert other.count() == 2
    finally:
        other.close()


@serve
def test_scale(r, s):
    d = r.daemon(conf(s, more="Concurrency=1"))
    for i in range(3):
        d.botctl("enqueue", "jobs", "--body", "hang %d" % i)
    wait_for("one that hangs", lambda: s.hanging == 1)
    d.botctl("scale", "hook", "3")
    wait_for("three that hang", lambda: s.hanging == 3)
    s.gate.set()
    d.wait_queue("jobs", done=3)


def test_tls(r):
    c = r.certificate()
    s = Server(c.server_context())
    try:
        r.expect_log(r"dead letters")
        d = r.daemon(conf(s, scheme="https", more="HttpCAFile=" + c.ca))
        d.botctl("enqueue", "jobs", "--body", "200")
        d.wait_queue("jobs", done=1)
        d.write(conf(s, scheme="https"))
        d.signal(signal.SIGHUP)
        wait_for("the reload", lambda: "configuration changed" in d.log())
        d.botctl("enqueue", "jobs", "--body", "200\n2")
        d.wait_queue("jobs", dead=1)
        assert "the certificate of 127.0.0.1 is not accepted" in d.log(), d.log()
        assert s.count() == 1
        d.write(conf(s, scheme="https", more="HttpVerify=no"))
        d.signal(signal.SIGHUP)
        d.botctl("dead", "redrive", "jobs", "--all")
        d.wait_queue("jobs", done=2)
    finally:
        s.close()


def test_invariant_9_keys_that_do_not_belong_together(r):
    def problems(text):
        p = subprocess.run([os.path.join(rig.BUILD, "bot-operatord"), "--check", "--config",
                            r.write("bad.conf", "[Pool p]\n" + text + "\n[Queue q]\nType=spool\nPath=%s/s\n" % r.dir)],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
        assert (p.returncode == 0) == ("ok" in p.stdout), p
        return p.stdout
    url = "Http=http://127.0.0.1:1/"
    assert "ok" in problems(url)
    assert "bad.conf:3" in problems(url + "\nWorkers=2") and "Concurrency=" in problems(url + "\nWorkers=2")
    assert "MemoryMax=" in problems(url + "\nMemoryMax=64M")
    assert "a pool has one handler" in problems(url + "\nCommand=/bin/true")
    assert "HttpVerify= means nothing" in problems("Command=/bin/true\nHttpVerify=no")
    assert "must start with https://" in problems("Http=example.com/x")
    said = problems("Http=https://u:hunter2@example.com/")
    assert "user and password" in said and "hunter2" not in said, said
    assert "/no/such.pem" in problems(url + "\nHttpCAFile=/no/such.pem")
    assert "Http=" in problems("MaxCrashes=1")


if __name__ == "__main__":
    rig.main(globals())
