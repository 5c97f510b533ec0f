"""Checks and the queues that require them, with a real daemon and real peers."""
import contextlib
import json
import os
import socket
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
from rig import wait_for  # noqa: E402

SPOOL = """
[Pool work]
Command=%s
Workers=4-4
[Queue jobs]
Type=spool
Path={dir}/spool
MaxAttempts=3
BacklogInterval=100ms
Requires=db
[Check db]
TCP=127.0.0.1:%d
Interval=100ms
Timeout=2s
"""


class Listener:
    """Accepts and closes, until stopped."""

    def __init__(self, port=0):
        self.s = socket.create_server(("127.0.0.1", port))
        self.port = self.s.getsockname()[1]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                self.s.accept()[0].close()

    def stop(self):
        self.s.shutdown(socket.SHUT_RDWR)
        self.s.close()
        self.thread.join(rig.DEADLINE)


def put(r, name, body="x"):
    tmp = r.path("spool", "tmp", name)
    r.path("spool", "new", ".")
    with open(tmp, "w") as f:
        f.write(body)
    os.rename(tmp, r.path("spool", "new", name))


def handler(r):
    """Notes each run with its attempt."""
    return r.write("handler.sh", '#!/bin/sh\necho "$BOT_MESSAGE_ID $BOT_ATTEMPT" >> %s/runs\n' % r.dir, 0o755)


def runs(r):
    with contextlib.suppress(FileNotFoundError):
        with open(os.path.join(r.dir, "runs")) as f:
            return f.read().splitlines()
    return []


def check(d, name="db"):
    return d.status()["dependencies"][name]


def entry(d, name):
    return next(c for c in d.status()["checks"] if c["name"] == name)


def test_gate_closes_and_opens(r):
    r.expect_log("check db: down")
    port = rig.free_port()
    d = r.daemon(SPOOL % (handler(r), port))
    for i in range(20):
        put(r, "early%d" % i)
    wait_for("the check to fail", lambda: check(d)["status"] == "down")
    d.wait_queue("jobs", backlog=20, paused=True, paused_by=["check"], received=0)
    assert d.status()["status"] == "degraded" and d.get("/.well-known/engine-status")[0] == 200
    assert entry(d, "check:db")["status"] == "degraded" and "refused" in entry(d, "check:db")["detail"]
    assert "paused while check db is down" in entry(d, "queue:jobs")["detail"], entry(d, "queue:jobs")
    shown = d.botctl("status").stdout
    assert "PAUSED" in shown and "DOWN" in shown and "check:db" in shown and "127.0.0.1:%d" % port in shown, shown
    assert not runs(r), "run although the check is down"

    listener = Listener(port)
    d.wait_queue("jobs", done=20, paused=False, retried=0, dead=0)
    wait_for("all to be well", lambda: d.status()["status"] == "ok")
    assert check(d)["ok"] and check(d)["latency_ms"] > 0 and check(d)["queues"] == ["jobs"]
    assert 'check_ok{kind="check",name="db"} 1' in d.get("/metrics")[1]

    listener.stop()
    wait_for("the gate to close", lambda: d.queue("jobs")["paused"])
    for i in range(20):
        put(r, "late%d" % i)
    d.wait_queue("jobs", backlog=20, done=20)
    assert len(runs(r)) == 20
    listener = Listener(port)
    d.wait_queue("jobs", done=40, retried=0, dead=0)
    assert sorted(runs(r)) == sorted("%s%d 1" % (n, i) for n in ("early", "late") for i in range(20)), runs(r)
    listener.stop()
    wait_for("the gate to close", lambda: d.queue("jobs")["paused"])
    log = d.log()
    assert log.count("check db: down: ") == 3 and log.count("queue jobs pauses") == 3, log
    assert log.count("check db: up again after") == 2 and log.count("queue jobs resumes slowly") == 2, log
    d.signal(15)
    assert d.wait() == 0


def test_the_first_look_comes_before_the_first_message(r):
    """Pending while the peer has not answered: nothing is taken, and others go on."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        d = r.daemon((SPOOL % (handler(r), 1)).replace("TCP=127.0.0.1:1", "HTTP=http://127.0.0.1:%d/" % port)
                     .replace("Timeout=2s", "Timeout=1h") + "[Queue free]\nType=spool\nPath={dir}/free\n")
        put(r, "waits")
        d.wait_queue("jobs", backlog=1, received=0)
        assert d.botctl("enqueue", "free", "--body", "x").returncode == 0
        d.wait_queue("free", done=1)
        assert check(d)["status"] == "pending" and check(d)["ok"] is None
        assert entry(d, "check:db")["status"] == "pending"
        assert "first result of check db" in entry(d, "queue:jobs")["detail"]
        assert d.queue("jobs")["received"] == 0
        conn = silent.accept()[0]
        conn.recv(4096)
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        conn.close()
        d.wait_queue("jobs", done=1)
        # Drained in the middle of the next look.
        wait_for("the second look", lambda: silent.accept())
    d.signal(15)
    assert d.wait() == 0


def test_reload_adds_and_removes_checks(r):
    r.expect_log("check db: down")
    good = Listener()
    bad = rig.free_port()
    text = SPOOL % (handler(r), good.port)
    d = r.daemon(text)
    d.wait_queue("jobs", paused=False, connected=True)
    d.write(text.replace("TCP=127.0.0.1:%d" % good.port, "TCP=127.0.0.1:%d" % bad))
    d.botctl("reload")
    wait_for("the other target", lambda: check(d)["status"] == "down")
    put(r, "one")
    d.wait_queue("jobs", backlog=1, paused=True)
    # A typo changes nothing.
    r.expect_log("problem|there is no")
    d.write(text.replace("Requires=db", "Requires=bd"))
    p = d.botctl("reload", check=False)
    assert p.returncode != 0 and 'did you mean "db"?' in p.stdout + p.stderr, p
    assert d.queue("jobs")["paused"] and check(d)["status"] == "down"
    d.write(text.split("Requires=")[0])
    d.botctl("reload")
    d.wait_queue("jobs", done=1, paused=False)
    assert d.status()["dependencies"] == {} and d.status()["status"] == "ok"
    d.write(text)
    d.botctl("reload")
    wait_for("the check again", lambda: d.status()["dependencies"].get("db", {}).get("ok"))
    d.wait_queue("jobs", paused=False)
    good.stop()


def test_redis(r):
    r.expect_log("check cache: down")
    server = r.redis(extra=["--requirepass", "hunter2"])
    secret = r.write("secret", "hunter2\n", 0o600)
    d = r.daemon(SPOOL % (handler(r), Listener().port) +
                 "[Check cache]\nRedis=127.0.0.1:%d\nPasswordFile=%s\nInterval=100ms\n" % (server.port, secret))
    wait_for("redis to answer", lambda: check(d, "cache")["ok"])
    server.kill()
    wait_for("redis to be down", lambda: check(d, "cache")["status"] == "down")
    # No queue requires it: a warning, and the whole is well.
    assert entry(d, "check:cache")["status"] == "warning" and d.status()["status"] == "ok"
    server.restarted()
    wait_for("redis to be back", lambda: check(d, "cache")["ok"])
    with open(secret, "w") as f:
        f.write("wrong\n")
    wait_for("the refusal", lambda: check(d, "cache")["status"] == "down")
    assert "WRONGPASS" in check(d, "cache")["detail"]
    assert "hunter2" not in d.log() + json.dumps(d.status())


def test_tls_of_a_real_server(r):
    cert = r.certificate()
    server = r.redis(tls=True)
    d = r.daemon(SPOOL % (handler(r), Listener().port) +
                 "[Check tls]\nTLS=localhost:%d\nCAFile=%s\nInterval=100ms\nDaysLeft=0\n"
                 "[Check ping]\nRedis=localhost:%d\nCAFile=%s\nInterval=100ms\nDaysLeft=0\n"
                 % (server.port, cert.ca, server.port, cert.ca))
    wait_for("the handshake", lambda: check(d, "tls")["ok"])
    wait_for("PONG", lambda: check(d, "ping")["ok"])
    assert isinstance(check(d, "tls")["days_left"], int) and check(d, "tls")["days_left"] >= 0, check(d, "tls")
    assert 'bot_operator_check_certificate_days{name="tls"} ' in d.get("/metrics")[1]


def test_command(r):
    r.expect_log("check mine: down")
    flag = os.path.join(r.dir, "flag")
    probe = r.write("probe.sh", "#!/bin/sh\necho no flag to be seen >&2\ntest -e %s\n" % flag, 0o755)
    d = r.daemon(SPOOL % (handler(r), Listener().port) +
                 "[Check mine]\nCommand=%s s3cret-argument\nInterval=100ms\nCritical=yes\n" % probe)
    wait_for("it to fail", lambda: check(d, "mine")["status"] == "down")
    assert "no flag to be seen" in check(d, "mine")["detail"]
    wait_for("the operator to be degraded", lambda: d.status()["status"] == "degraded")
    assert "s3cret" not in json.dumps(d.status())
    open(flag, "w").close()
    wait_for("it to be well", lambda: check(d, "mine")["ok"] and d.status()["status"] == "ok")


if __name__ == "__main__":
    rig.main(globals(), jobs=3)
