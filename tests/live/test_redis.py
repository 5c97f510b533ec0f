"""The daemon against a real redis-server, plain and TLS."""
import json
import os
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
from rig import wait_for  # noqa: E402

POOL = """
[Pool work]
Command=%s
Workers=1-2
"""
QUEUE = """
[Queue %s]
Type=redis
Address=%s
Key=%s
Pool=work
MaxAttempts=3
Backoff=50ms-100ms
BacklogInterval=100ms
Lease=2s
"""


def handler(r):
    return POOL % r.write("handler.sh", """#!/bin/sh
read -r body
case $body in
once*) [ "$BOT_ATTEMPT" -ge 2 ] || exit 75 ;;
never*) exit 69 ;;
esac
echo "$body" >> %s/out
exit 0
""" % r.dir, 0o755)


def queue(name, address, key="jobs", **keys):
    return QUEUE % (name, address, key) + "".join("%s=%s\n" % kv for kv in keys.items())


def out(r):
    try:
        with open(os.path.join(r.dir, "out")) as f:
            return f.read().split("\n")[:-1]
    except OSError:
        return []


def add(redis, *bodies):
    redis.pipeline([("XADD", "jobs", "*", "body", b) for b in bodies])


def mixed(r, d, redis, put):
    r.expect_log("dead letters")
    put(*(["fine %d" % i for i in range(30)] + ["once", "never"]))
    q = d.wait_queue("jobs", done=31, dead=1)
    assert q["errors"]["external_api"] == 3, q
    assert sorted(out(r)) == sorted(["fine %d" % i for i in range(30)] + ["once"])
    assert "external_api" in d.botctl("dead", "list", "jobs").stdout
    wait_for("an empty backlog", lambda: d.queue("jobs")["backlog"] == 0)


def test_stream(r):
    redis = r.redis()
    d = r.daemon(handler(r) + queue("jobs", "127.0.0.1:%d" % redis.port, Mode="stream"))
    mixed(r, d, redis, lambda *b: add(redis, *b))
    assert redis("XPENDING", "jobs", "bot-operator")[0] == 0


def test_list(r):
    redis = r.redis()
    d = r.daemon(handler(r) + queue("jobs", redis.socket, Mode="list"))
    mixed(r, d, redis, lambda *b: redis.pipeline([("LPUSH", "jobs", x) for x in b]))
    assert redis("LLEN", "jobs") == 0


def test_sidekiq(r):
    redis = r.redis()
    pool = POOL % r.write("handler.sh", """#!/bin/sh
case $(cat) in
*Never*) exit 69 ;;
*Once*) [ "$BOT_ATTEMPT" -ge 2 ] || exit 75 ;;
esac
exit 0
""", 0o755)
    r.expect_log("dead letters")
    d = r.daemon(pool + queue("jobs", redis.socket, Mode="sidekiq", key="default"))
    for i, cls in enumerate(["Fine"] * 5 + ["Once", "Never"]):
        redis("LPUSH", "queue:default", json.dumps({
            "class": cls, "args": [i, 9007199254740993], "jid": "%024d" % i, "queue": "default", "retry": True,
            "created_at": 1.5, "enqueued_at": 1.5}))
    d.wait_queue("jobs", done=6, dead=1)
    dead = redis("ZRANGE", "dead", 0, -1)
    assert len(dead) == 1 and b"Never" in dead[0] and b"9007199254740993" in dead[0], dead


def test_tls_and_acl(r):
    cert = r.certificate()
    redis = r.redis(tls=True)
    redis("ACL", "SETUSER", "bot", "on", ">s3cret-pw", "~*", "&*", "+@all")
    redis("ACL", "SETUSER", "default", "off")
    password = r.write("pw", "s3cret-pw\n", 0o600)
    d = r.daemon(handler(r) + queue("jobs", "localhost:%d" % redis.port, Mode="stream", TLS="yes",
                                    TLSCAFile=cert.ca, Username="bot", PasswordFile=password))
    d.botctl("enqueue", "jobs", "--body", "hello")
    d.wait_queue("jobs", done=1)
    assert out(r) == ["hello"]


def test_invariant_7_secrets_stay(r):
    redis = r.redis()
    redis("CONFIG", "SET", "requirepass", "hunter2-secret")
    password = r.write("pw", "hunter2-secret\n", 0o600)
    env = r.path("worker-env")
    pool = POOL % r.write("h.sh", "#!/bin/sh\ncat /proc/$$/environ /proc/$PPID/environ > %s\nls -l /proc/$$/fd >> %s\n"
                          "exit 0\n" % (env, env), 0o755)
    d = r.daemon("[Operator]\nStatus=127.0.0.1:0\nControl={dir}/test.sock\nLogLevel=debug\n" + pool +
                 queue("jobs", redis.socket, Mode="stream", PasswordFile=password),
                 env={"BOT_TEST_TOKEN": "hunter2-secret", "CREDENTIALS_DIRECTORY": r.dir})
    d.botctl("enqueue", "jobs", "--body", "x")
    d.wait_queue("jobs", done=1)
    with open(env, errors="replace") as f:
        text = f.read()
    assert "BOT_MESSAGE" in text or "BOT_QUEUE" in text, text
    for name, where in (("worker", text), ("log", d.log()), ("status", d.get("/.well-known/engine-status")[1]),
                        ("metrics", d.get("/metrics")[1]), ("page", d.get("/")[1]),
                        ("config", d.botctl("show-config").stdout),
                        ("debug", "".join(d.botctl("debug", x).stdout for x in
                                          ("timers", "streams", "workers", "messages")))):
        assert "hunter2-secret" not in where, name
        if name == "worker":
            assert "CREDENTIALS_DIRECTORY" not in where, where
    with open("/proc/%d/cmdline" % d.pid) as f:
        assert "hunter2" not in f.read()
    if os.geteuid() != 0:
        assert not os.access("/proc/%d/mem" % d.pid, os.R_OK)


def test_wrong_password_is_named(r):
    r.expect_log("jobs")
    redis = r.redis()
    redis("CONFIG", "SET", "requirepass", "right")
    d = r.daemon(handler(r) + queue("jobs", redis.socket, Mode="stream", PasswordFile=r.write("pw", "wrong")),
                 wait="status")
    wait_for("the error", lambda: (d.queue("jobs").get("error") or {}).get("class") == "auth")
    assert not d.queue("jobs")["connected"]
    redis_auth(redis, "right", "CONFIG", "SET", "requirepass", "wrong")
    d.wait_queue("jobs", connected=True)


def redis_auth(redis, password, *args):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(redis.socket)
        f = s.makefile("rwb")
        rig.resp_call(f, [("AUTH", password)])
        return rig.resp_call(f, [args])[0]


def test_server_goes_and_comes(r):
    r.expect_log("jobs")
    redis = r.redis(aof=True)
    d = r.daemon(handler(r) + queue("jobs", redis.socket, Mode="stream"))
    add(redis, *["a%d" % i for i in range(50)])
    d.wait_queue("jobs", done=50)
    redis.kill()
    d.wait_queue("jobs", connected=False)
    doc = d.status()
    assert doc["status"] == "degraded" and d.get("/.well-known/engine-status")[0] == 200, doc["status"]
    redis = redis.restarted()
    d.wait_queue("jobs", connected=True)
    add(redis, *["b%d" % i for i in range(50)])
    d.wait_queue("jobs", done=100)


def test_invariant_3_a_hung_peer_delays_nobody_else(r):
    """One server accepts and never answers, one is stopped, one works."""
    r.expect_log("hung|stopped")
    redis, stopped = r.redis(), r.redis()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(16)
        kept = []

        def accept():
            try:
                while True:
                    kept.append(s.accept()[0])
            except OSError:
                pass
        threading.Thread(target=accept, daemon=True).start()
        d = r.daemon(handler(r).replace("Command=" + r.path("handler.sh"), "Module={build}/tests/bench/noop_module.so") +
                     queue("jobs", redis.socket, Mode="stream") +
                     queue("hung", "127.0.0.1:%d" % s.getsockname()[1], Mode="stream", ResponseTimeout="1s") +
                     queue("stopped", stopped.socket, Mode="stream", ResponseTimeout="1s"))
        stopped.signal(signal.SIGSTOP)
        try:
            for i in range(20):
                add(redis, *["m%d" % j for j in range(1000)])
            d.wait_queue("jobs", done=20000)
            wait_for("the silence to be noticed", lambda: not d.queue("stopped")["connected"])
            d.check_turns()
            assert d.queue("jobs")["connected"]
        finally:
            stopped.signal(signal.SIGCONT)
        d.wait_queue("stopped", connected=True)
        for c in kept:
            c.close()


def test_stop_under_load_loses_nothing(r):
    redis = r.redis()
    n = 300
    text = (POOL % r.write("h.sh", "#!/bin/sh\nread -r b\necho \"$b\" >> %s/out\n" % r.dir, 0o755)) + \
        queue("jobs", redis.socket, Mode="stream", Prefetch="50")
    add(redis, *["m%d" % i for i in range(n)])
    rounds = 0
    while len(set(out(r))) < n and rounds < 20:
        d = r.daemon(text, name="round%d" % rounds)
        want = min(n, len(out(r)) + 40)
        wait_for("progress", lambda: len(out(r)) >= want)
        assert d.stop() == 0
        rounds += 1
    assert rounds > 2
    assert sorted(set(out(r))) == sorted("m%d" % i for i in range(n))
    assert len(out(r)) == n, "%d ran twice at an orderly stop" % (len(out(r)) - n)
    assert redis("XPENDING", "jobs", "bot-operator")[0] == 0


def test_another_consumer_takes_over_what_was_given_back(r):
    redis = r.redis()
    text = (POOL % r.write("h.sh", "#!/bin/sh\nsleep 0.3\n", 0o755)) + queue("jobs", redis.socket, Mode="stream",
                                                                          Prefetch="20")
    add(redis, *["m%d" % i for i in range(20)])
    a = r.daemon(text + "Consumer=a\n", name="a")
    wait_for("it to hold them", lambda: redis("XPENDING", "jobs", "bot-operator")[0] == 20)
    a.stop()
    start = time.monotonic()
    b = r.daemon(text.replace("sleep", "true #") + "Consumer=b\n", name="b")
    b.wait_queue("jobs", backlog=0)
    wait_for("all of them", lambda: redis("XPENDING", "jobs", "bot-operator")[0] == 0)
    assert time.monotonic() - start < 15


if __name__ == "__main__":
    rig.main(globals())
