"""The daemon against a real RabbitMQ node, classic and quorum, plain and TLS.

One node for all tests; each has queues of its own name."""
import json
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import amqp  # noqa: E402
import rig  # noqa: E402
from rig import wait_for  # noqa: E402

POOL = """
[Pool work]
Command=%s
Workers=1-2
"""
QUEUE = """
[Queue jobs]
Type=rabbitmq
Address=127.0.0.1:%d
Name=%s
Pool=work
MaxAttempts=3
Backoff=100ms-200ms
BacklogInterval=200ms
"""
TIMEOUT_MS = 1800000


def node():
    n = rig.shared("node", lambda s: s.rabbit(tls=True, management=True))
    return n if n.alive() else n.restarted()


def handler(r, text=""):
    """Writes bodies down; "once" fails the first time, "never" each time."""
    return POOL % r.write("handler.sh", """#!/bin/sh
read -r body
%s
case $body in
once*) [ "$BOT_ATTEMPT" -ge 2 ] || exit 75 ;;
never*) exit 69 ;;
esac
echo "$body" >> %s/out
exit 0
""" % (text, r.dir), 0o755)


def queue(n, name, port=None, **keys):
    return QUEUE % (port or n.port, name) + "".join("%s=%s\n" % kv for kv in keys.items())


def out(r):
    try:
        with open(os.path.join(r.dir, "out")) as f:
            return f.read().split("\n")[:-1]
    except OSError:
        return []


def put(n, name, *bodies, **kw):
    with n.client() as c:
        c.publish(name, *bodies, **kw)


def count(n, name):
    with n.client() as c:
        return c.count(name)


def wait_count(n, name, want):
    with n.client() as c:
        wait_for("%d messages in %s" % (want, name), lambda: c.count(name) == want)


def declare_all(n, name, kind="classic"):
    """What Declare= would have made, for Backoff=100ms-200ms."""
    with n.client() as c:
        arguments = {"x-queue-type": kind}
        c.declare(name, arguments=arguments)
        c.declare(name + ".dead", arguments=arguments)
        for span, ms in (("100ms", 100), ("200ms", 200)):
            c.declare("%s.bot-delay.%s" % (name, span), arguments=dict(
                arguments, **{"x-message-ttl": ms, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": name}))


# ---- the straight way ----

def mixed(r, kind):
    n, name = node(), "mixed-" + kind
    r.expect_log("dead letters")
    d = r.daemon(handler(r) + queue(n, name, Declare=kind))
    put(n, name, *(["fine %d" % i for i in range(30)] + ["once", "never"]))
    q = d.wait_queue("jobs", done=31, dead=1)
    assert q["errors"]["external_api"] == 3, q
    assert sorted(out(r)) == sorted(["fine %d" % i for i in range(30)] + ["once"])
    assert "external_api" in d.botctl("dead", "list", "jobs").stdout
    wait_for("an empty backlog", lambda: d.queue("jobs")["backlog"] == 0 and d.queue("jobs")["in_flight"] == 0)
    q = d.queue("jobs")
    assert q["vhost"] == "/" and q["name"] == name and q["blocked"] is None, q
    assert q["server_version"].split(".")[0] >= "3" and q["address"] == "127.0.0.1:%d" % n.port, q
    with n.client() as c:
        assert c.consumers(name) == 1
        assert c.count(name) == 0
        dead = c.get(name + ".dead")
        assert dead.body == b"never" and dead.properties["headers"]["bot-error-type"] == "external_api", dead
        assert dead.properties["headers"]["bot-attempt"] == 3, dead
    assert d.stop() == 0
    with n.client() as c:
        assert c.consumers(name) == 0


def test_classic(r):
    mixed(r, "classic")


def test_quorum(r):
    mixed(r, "quorum")


def test_attributes_reach_the_handler(r):
    n, name = node(), "attributes"
    seen = r.path("seen")
    d = r.daemon(POOL % r.write("h.sh", "#!/bin/sh\nprintf '%%s' \"$BOT_ATTRIBUTES\" > %s.new\nmv %s.new %s\n" %
                                (seen, seen, seen), 0o755) + queue(n, name, Declare="classic"))
    put(n, name, "x", content_type="text/plain", correlation_id="c-1", priority=4,
        headers={"n": 7, "t": True, "deep": {"list": [1, "zwei", None]}, "bad": amqp.Typed("S", b"a\xff"),
                 "cloudEvents:id": "e-1"})
    d.wait_queue("jobs", done=1)
    with open(seen) as f:
        a = json.load(f)
    want = {"content-type": "text/plain", "correlation-id": "c-1", "priority": 4, "n": 7, "t": True, "ce-id": "e-1",
            "deep": {"list": [1, "zwei", None]}, "redelivered": False, "exchange": "", "routing-key": name,
            "delivery-mode": 2}
    assert {k: a.get(k) for k in want} == want, a
    assert "bad" in a and not any(k.startswith("bot-") for k in a), a


def test_tls_and_external(r):
    n, name = node(), "tls"
    cert = n.rig.certificate()
    n.user("tls-user", "s3cret-pw")
    password = r.write("pw", "s3cret-pw\n", 0o600)
    d = r.daemon(handler(r) + queue(n, name, Declare="classic", TLS="yes", TLSCAFile=cert.ca, Username="tls-user",
                                    PasswordFile=password).replace("127.0.0.1:%d" % n.port,
                                                                   "localhost:%d" % n.tls_port))
    d.botctl("enqueue", "jobs", "--body", "by password")
    d.wait_queue("jobs", done=1)
    assert d.queue("jobs")["tls"].startswith("TLSv1"), d.queue("jobs")["tls"]
    assert d.stop() == 0
    # The same by certificate, without any password.
    mine, key = cert.client("tls-user")
    d = r.daemon(handler(r) + queue(n, name, Declare="classic", TLS="yes", TLSCAFile=cert.ca, Auth="external",
                                    TLSCertificateFile=mine, TLSKeyFile=key).replace(
                                        "127.0.0.1:%d" % n.port, "localhost:%d" % n.tls_port))
    d.botctl("enqueue", "jobs", "--body", "by certificate")
    d.wait_queue("jobs", done=1)
    assert out(r) == ["by password", "by certificate"]
    # A certificate of nobody that the broker knows is refused, by name.
    r.expect_log("jobs")
    mine, key = cert.client("stranger")
    d = r.daemon(handler(r) + queue(n, name, Declare="classic", TLS="yes", TLSCAFile=cert.ca, Auth="external",
                                    TLSCertificateFile=mine, TLSKeyFile=key).replace(
                                        "127.0.0.1:%d" % n.port, "localhost:%d" % n.tls_port), name="s", wait="status")
    wait_for("the refusal", lambda: (d.queue("jobs").get("error") or {}).get("code") == "ACCESS_REFUSED")
    assert d.queue("jobs")["error"]["class"] == "auth"


def test_tls_certificate_of_another_ca(r):
    n = node()
    r.expect_log("jobs")
    d = r.daemon(handler(r) + queue(n, "tls", Declare="classic", TLS="yes", TLSCAFile=r.certificate().ca).replace(
        "127.0.0.1:%d" % n.port, "localhost:%d" % n.tls_port), wait="status")
    wait_for("the refusal", lambda: (d.queue("jobs").get("error") or {}).get("code") == "tls_verify")
    assert d.queue("jobs")["error"]["class"] == "auth"


# ---- named, and healed without a restart ----

def error_of(d):
    return (d.queue("jobs").get("error") or {}).get("code")


def test_wrong_password_is_named(r):
    n, name = node(), "password"
    r.expect_log("jobs")
    n.user("forgetful", "right")
    d = r.daemon(handler(r) + queue(n, name, Declare="classic", Username="forgetful",
                                    PasswordFile=r.write("pw", "wrong")), wait="status")
    wait_for("the error", lambda: error_of(d) == "ACCESS_REFUSED")
    q = d.queue("jobs")
    assert q["error"]["class"] == "auth" and not q["connected"], q
    wait_for("degraded", lambda: d.status()["status"] == "degraded")
    n.password("forgetful", "wrong")
    d.wait_queue("jobs", connected=True)
    put(n, name, "x")
    d.wait_queue("jobs", done=1)


def test_missing_queue_is_named(r):
    n, name = node(), "missing"
    r.expect_log("jobs")
    d = r.daemon(handler(r) + queue(n, name), wait="status")
    wait_for("the error", lambda: error_of(d) == "no_queue")
    error = d.queue("jobs")["error"]
    assert error["class"] == "rejected" and "Declare=" in error["text"], error
    with n.client() as c:
        c.declare(name)
    wait_for("the next error", lambda: error_of(d) == "missing_queue")
    assert name + ".dead" in d.queue("jobs")["error"]["text"], d.queue("jobs")["error"]
    assert name + ".bot-delay.100ms" in d.log()
    declare_all(n, name)
    d.wait_queue("jobs", connected=True)
    put(n, name, "once", "fine")
    d.wait_queue("jobs", done=2)


def test_queue_deleted_while_consuming(r):
    n, name = node(), "deleted"
    r.expect_log("jobs")
    declare_all(n, name)
    d = r.daemon(handler(r) + queue(n, name))
    put(n, name, "before")
    d.wait_queue("jobs", done=1)
    with n.client() as c:
        c.delete(name)
        d.wait_queue("jobs", connected=False)
        wait_for("the loss in the log", lambda: "consumer_cancelled" in d.log())
        wait_for("the missing queue", lambda: error_of(d) == "no_queue")
        c.declare(name)
    d.wait_queue("jobs", connected=True)
    put(n, name, "after")
    d.wait_queue("jobs", done=2)
    assert out(r) == ["before", "after"]


def test_consumer_timeout_is_named(r):
    n, name = node(), "timeout"
    r.expect_log("jobs|consumer_timeout|lease")
    first = r.path("first")
    d = r.daemon(handler(r, "[ -e %s ] || { touch %s; sleep 4; }" % (first, first)) + queue(
        n, name, Declare="quorum"))
    n.eval("application:set_env(rabbit, consumer_timeout, 1000).")
    try:
        # The limit is read when a channel opens.
        n.close_connections("so that channels see it")
        wait_for("it to come again", lambda: "connected again" in d.log())
        put(n, name, "slow")
        wait_for("the time-out to be named", lambda: "consumer_timeout" in d.log())
    finally:
        n.eval("application:set_env(rabbit, consumer_timeout, %d)." % TIMEOUT_MS)
    d.wait_queue("jobs", connected=True)
    wait_for("the message, which comes again", lambda: "slow" in out(r))
    wait_for("it to be settled", lambda: d.queue("jobs")["in_flight"] == 0 and count(n, name) == 0)
    # No consumer of the lost channel is left.
    lines = [line for line in n.ctl("list_consumers", "--no-table-headers", "queue_name").split("\n") if line == name]
    assert lines == [name], lines


# ---- brokers that go away, stand still, are short of memory ----

def load(r, n, kind, name, total):
    d = r.daemon(handler(r) + queue(n, name, Declare=kind, Prefetch="50"))
    d.botctl("pause", "jobs")
    put(n, name, *["m%d" % i for i in range(total)])
    d.botctl("resume", "jobs")
    wait_for("some to be done", lambda: len(out(r)) >= 30)
    return d


def all_ran(r, n, d, name, total):
    want = {"m%d" % i for i in range(total)}
    try:
        wait_for("all of them", lambda: set(out(r)) == want, 60)
    except AssertionError as e:
        raise AssertionError("%s: missing %s, made up %s; %s at the broker; %s" % (
            e, sorted(want - set(out(r))), sorted(set(out(r)) - want), count(n, name), d.queue("jobs")))
    wait_for("the end", lambda: d.queue("jobs")["in_flight"] == 0 and count(n, name) == 0)
    assert count(n, name + ".dead") in (0, None)
    with n.client() as c:
        wait_for("one consumer to be left", lambda: c.consumers(name) == 1)


def broker_restart(r, kind, end):
    n, name, total = node(), "restart-" + kind, 1500
    r.expect_log("jobs")
    d = load(r, n, kind, name, total)
    if kind == "quorum":
        n.remembers(name, name + ".dead")
    assert len(out(r)) < total - 100
    end(n)
    d.wait_queue("jobs", connected=False)
    doc = d.status()
    assert doc["status"] == "degraded" and d.get("/.well-known/engine-status")[0] == 200, doc["status"]
    n.restarted()
    d.wait_queue("jobs", 30, connected=True)
    all_ran(r, n, d, name, total)


def test_invariant_1_rabbit_broker_killed(r):
    broker_restart(r, "quorum", lambda n: n.kill())


def test_invariant_1_rabbit_broker_stopped(r):
    broker_restart(r, "classic", lambda n: n.stop(deadline=60))


def test_memory_alarm_blocks_and_loses_nothing(r):
    n, name = node(), "alarm"
    r.expect_log("blocks publishing")
    d = r.daemon(handler(r) + queue(n, name, Declare="classic"))
    # So that the publisher has published, and its delay queue is there.
    put(n, name, "once upon a time")
    d.wait_queue("jobs", done=1)
    d.botctl("pause", "jobs")
    put(n, name, *(["fine %d" % i for i in range(40)] + ["once %d" % i for i in range(10)]))
    n.memory_alarm(True)
    try:
        d.botctl("resume", "jobs")
        # Acknowledgements do not stand behind publishes that are blocked.
        wait_for("the others to run", lambda: d.queue("jobs")["done"] >= 41)
        wait_for("the block to be shown", lambda: d.queue("jobs")["blocked"])
        assert d.queue("jobs")["connected"], d.queue("jobs")
        assert d.queue("jobs")["done"] <= 42, "the broker took a copy though it was blocked"
        assert n.unacknowledged(name) >= 8
    finally:
        n.memory_alarm(False)
    d.wait_queue("jobs", done=51, blocked=None)
    assert sorted(out(r)) == sorted(["once upon a time"] + ["fine %d" % i for i in range(40)] +
                                    ["once %d" % i for i in range(10)])
    wait_count(n, name, 0)
    assert d.queue("jobs")["dead"] == 0


def test_invariant_3_a_stopped_broker_delays_nobody_else(r):
    """The node is stopped in its work; a spool and a Redis queue go on."""
    n, name = node(), "stopped"
    r.expect_log("jobs")
    redis = r.redis()
    module = "[Pool work]\nModule={build}/tests/bench/noop_module.so\n"
    d = r.daemon(module + queue(n, name, Declare="classic", Heartbeat="2s") + """
[Queue redis]
Type=redis
Address=%s
Key=jobs
Pool=work
[Queue spool]
Type=spool
Path={dir}/spool
Pool=work
""" % redis.socket)
    put(n, name, *["x%d" % i for i in range(100)])
    d.wait_queue("jobs", done=100)
    n.signal(signal.SIGSTOP)
    try:
        for i in range(20):
            redis.pipeline([("XADD", "jobs", "*", "body", "m%d" % j) for j in range(1000)])
        d.botctl("enqueue", "spool", "--body", "x")
        d.wait_queue("redis", done=20000)
        d.wait_queue("spool", done=1)
        wait_for("the silence to be named", lambda: error_of(d) == "heartbeat_timeout")
        redis.pipeline([("XADD", "jobs", "*", "body", "last")])
        d.wait_queue("redis", done=20001)
        d.check_turns()
    finally:
        n.signal(signal.SIGCONT)
    d.wait_queue("jobs", 30, connected=True)
    put(n, name, "again")
    d.wait_queue("jobs", done=101)


# ---- leaving ----

def stop_under_load(r, kind):
    n, name, total = node(), "stop-" + kind, 300
    text = POOL % r.write("h.sh", "#!/bin/sh\nread -r b\necho \"$b\" >> %s/out\n" % r.dir, 0o755) + \
        queue(n, name, Declare=kind, Prefetch="50")
    d = r.daemon(text, name="first")
    d.botctl("pause", "jobs")
    put(n, name, *["m%d" % i for i in range(total)])
    assert d.stop() == 0
    rounds = 0
    while len(set(out(r))) < total and rounds < 20:
        d = r.daemon(text, name="round%d" % rounds)
        want = min(total, len(out(r)) + 40)
        wait_for("progress", lambda: len(out(r)) >= want)
        start = time.monotonic()
        assert d.stop() == 0
        assert time.monotonic() - start < 3, "an orderly stop waits for nobody"
        rounds += 1
    assert rounds > 2
    assert sorted(set(out(r))) == sorted("m%d" % i for i in range(total))
    assert len(out(r)) == total, "%d ran twice at an orderly stop" % (len(out(r)) - total)
    wait_count(n, name, 0)


def test_stop_under_load_loses_nothing(r):
    stop_under_load(r, "classic")


def test_stop_under_load_loses_nothing_quorum(r):
    stop_under_load(r, "quorum")


def test_another_consumer_takes_over_what_was_given_back(r):
    n, name = node(), "takeover"
    text = POOL % r.write("h.sh", "#!/bin/sh\nsleep 0.3\n", 0o755) + queue(n, name, Declare="quorum", Prefetch="20")
    a = r.daemon(text, name="a")
    put(n, name, *["m%d" % i for i in range(20)])
    wait_for("it to hold them", lambda: a.queue("jobs")["unacknowledged"] >= 15)
    a.signal(signal.SIGTERM)
    b = r.daemon(text.replace("sleep", "true #"), name="b")
    assert a.wait() == 0
    wait_for("all of them", lambda: b.queue("jobs")["in_flight"] == 0 and count(n, name) == 0)
    assert a.rig is b.rig and b.queue("jobs")["done"] >= 10


def test_killed_operator_loses_nothing(r):
    n, name, total = node(), "killed", 200
    text = handler(r) + queue(n, name, Declare="quorum", Prefetch="50")
    d = load(r, n, "quorum", name, total)
    for i in range(3):
        d.kill()
        d = r.daemon(text, name="again%d" % i)
        want = min(total, len(set(out(r))) + 30)
        wait_for("progress", lambda: len(set(out(r))) >= want)
    all_ran(r, n, d, name, total)


# ---- secrets ----

def test_invariant_7_secrets_stay(r):
    n, name, secret = node(), "secrets", "hunter2-secret"
    n.user("keeper", secret)
    env = r.path("worker-env")
    pool = POOL % r.write("h.sh", "#!/bin/sh\ncat /proc/$$/environ /proc/$PPID/environ > %s\nls -l /proc/$$/fd >> %s\n"
                          "exit 0\n" % (env, env), 0o755)
    d = r.daemon("[Operator]\nStatus=127.0.0.1:0\nControl={dir}/test.sock\nLogLevel=debug\n" + pool +
                 queue(n, name, Declare="classic", Username="keeper", PasswordFile=r.write("pw", secret + "\n", 0o600),
                       Management="http://127.0.0.1:%d" % n.management_port))
    d.botctl("enqueue", "jobs", "--body", "x")
    d.wait_queue("jobs", done=1)
    n.password("keeper", "another-" + secret[::-1])
    n.close_connections("so that it is refused")
    r.expect_log("jobs")
    wait_for("the refusal", lambda: error_of(d) == "ACCESS_REFUSED")
    with open(env, errors="replace") as f:
        text = f.read()
    assert "BOT_MESSAGE" in text or "BOT_QUEUE" in text, text
    for what, where in (("worker", text), ("log", d.log()), ("status", d.get("/.well-known/engine-status")[1]),
                        ("metrics", d.get("/metrics")[1]), ("page", d.get("/")[1]),
                        ("config", d.botctl("show-config").stdout),
                        ("debug", "".join(d.botctl("debug", x).stdout for x in
                                          ("timers", "streams", "workers", "messages")))):
        assert secret not in where, what
    with open("/proc/%d/cmdline" % d.pid) as f:
        assert "hunter2" not in f.read()


# ---- dead letters ----

def make_dead(r, kind, name, total):
    n = node()
    r.expect_log("dead letters")
    d = r.daemon(handler(r, "[ -e %s/open ] || exit 100" % r.dir) + queue(n, name, Declare=kind))
    put(n, name, *["d%d" % i for i in range(total)])
    d.wait_queue("jobs", dead=total, in_flight=0)
    wait_count(n, name + ".dead", total)
    return n, d


def dead_ids(d, *args):
    lines = d.botctl("--json", "dead", "list", "jobs", *args).stdout.splitlines()
    assert json.loads(lines[-1])["ok"] is True, lines
    return [json.loads(line)["item"]["id"] for line in lines[:-1]]


def dead_letters(r, kind):
    """A quorum queue puts what was looked at behind what was not, so that only
    a classic one keeps its order when a walk ends early."""
    name = "dead-" + kind
    n, d = make_dead(r, kind, name, 8)
    ids = dead_ids(d)
    assert len(set(ids)) == 8, ids
    # What a walk has given back, a quorum queue may hand out in another order.
    same = (lambda a, b: a == b) if kind == "classic" else (lambda a, b: sorted(a) == sorted(b))
    again = dead_ids(d)
    assert same(again, ids), "looking changed what is there: %s, %s" % (ids, again)
    if kind == "classic":
        assert dead_ids(d, "--after", ids[1], "--limit", "2") == ids[2:4]
    shown = [d.botctl("dead", "show", "jobs", i).stdout.rstrip().split("\n")[-1] for i in ids]
    assert sorted(shown) == ["d%d" % i for i in range(8)], shown
    assert d.botctl("dead", "purge", "jobs", "--all", "--dry-run").stdout.count("would be purged") == 8
    again = dead_ids(d)
    assert same(again, ids), (ids, again)
    p = d.botctl("dead", "purge", "jobs", ids[shown.index("d4")], "never-was", check=False)
    assert p.returncode == 1 and "never-was" in p.stderr and "1 purged" in p.stdout, p
    # While it stays shut, what is redriven dies again, and the walk ends.
    assert "2 redriven" in d.botctl("dead", "redrive", "jobs", "--all", "--limit", "2").stdout
    d.wait_queue("jobs", dead=10, in_flight=0)
    wait_count(n, name + ".dead", 7)
    r.write("open", "")
    assert "7 redriven, 0 failed" in d.botctl("dead", "redrive", "jobs", "--all").stdout
    d.wait_queue("jobs", done=7, dead_backlog=0)
    assert sorted(out(r)) == ["d0", "d1", "d2", "d3", "d5", "d6", "d7"], out(r)
    wait_count(n, name + ".dead", 0)


def test_dead_letters(r):
    dead_letters(r, "classic")


def test_dead_letters_quorum(r):
    dead_letters(r, "quorum")


def test_invariant_1_rabbit_botctl_killed_in_the_middle(r):
    total = 40
    name = "dead-cut"
    n, d = make_dead(r, "classic", name, total)
    r.write("open", "")
    for action in ("redrive", "purge", "list"):
        p = subprocess.Popen([os.path.join(rig.BUILD, "botctl"), "--config", d.conf, "dead", action, "jobs"] +
                             (["--all", "--rate", "50/s"] if action != "list" else []), stdout=subprocess.PIPE)
        p.stdout.readline()
        p.kill()
        p.wait()
        p.stdout.close()
    wait_for("the walks to end", lambda: "control: dead letters" not in d.botctl("debug", "timers").stdout)
    wait_for("rest", lambda: d.queue("jobs")["in_flight"] == 0 and n.unacknowledged(name + ".dead") == 0)
    left, done = count(n, name + ".dead"), len(out(r))
    assert len(set(out(r))) == done, "redriven twice"
    assert 1 <= done and left + done < total, (left, done)      # some were purged
    assert left + done > total - 30, "more was purged than was asked for"
    # And the operator killed: what it had looked at is there again.
    p = subprocess.Popen([os.path.join(rig.BUILD, "botctl"), "--config", d.conf, "dead", "redrive", "jobs", "--all",
                          "--rate", "50/s"], stdout=subprocess.PIPE)
    p.stdout.readline()
    d.kill()
    p.wait()
    p.stdout.close()
    d = r.daemon(handler(r) + queue(n, name, Declare="classic"), name="again")
    wait_for("rest", lambda: d.queue("jobs")["in_flight"] == 0 and count(n, name) == 0 and
             n.unacknowledged(name + ".dead") == 0)
    # A message that ran while the operator was killed may run again.
    assert count(n, name + ".dead") + len(set(out(r))) == left + done


# ---- the management API ----

def test_management_shows_what_is_unacknowledged(r):
    n, name = node(), "management"
    d = r.daemon(handler(r, "until [ -e %s/open ]; do sleep 0.05; done" % r.dir) + queue(
        n, name, Declare="classic", Prefetch="3", Management="http://127.0.0.1:%d" % n.management_port))
    put(n, name, "a", "b", "c", "d")
    d.wait_queue("jobs", 30, unacknowledged=3, unacknowledged_at_broker=3, backlog=1)
    r.write("open", "")
    d.wait_queue("jobs", 30, done=4, unacknowledged=0, unacknowledged_at_broker=0)


def test_management_that_is_not_there_is_no_outage(r):
    n, name = node(), "no-management"
    r.expect_log("anagement")
    d = r.daemon(handler(r) + queue(n, name, Declare="classic", Management="http://127.0.0.1:1"))
    put(n, name, "x")
    q = d.wait_queue("jobs", done=1)
    assert q["connected"] and q.get("unacknowledged_at_broker") is None, q


def test_limits_of_the_broker_are_warned_of(r):
    """Its consumer time-out against the pool's, its delivery limit against MaxAttempts=."""
    n, name = node(), "limits"
    with n.client() as c:
        c.declare(name, arguments={"x-queue-type": "quorum", "x-delivery-limit": 3})
        for queue_name in (name + ".dead",):
            c.declare(queue_name, arguments={"x-queue-type": "quorum"})
        for span, ms in (("100ms", 100), ("200ms", 200)):
            c.declare("%s.bot-delay.%s" % (name, span), arguments={
                "x-queue-type": "quorum", "x-message-ttl": ms, "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": name})
    r.expect_log("consumer time-out")
    r.expect_log("delivery limit of 3")
    d = r.daemon(handler(r) + "Timeout=20s\n" +
                 queue(n, name, Management="http://127.0.0.1:%d" % n.management_port, ConsumerTimeout="15s"))
    assert "Timeout=20s of [Pool work]" in d.log() and "consumer_timeout" in d.log(), d.log()
    wait_for("the delivery limit", lambda: "delivery limit of 3" in d.log())
    assert d.log().count("delivery limit of 3") == 1


if __name__ == "__main__":
    rig.main(globals())
