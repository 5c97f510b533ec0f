"""Standby: loaded, checked, and nothing touched until it is promoted."""
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
from rig import wait_for  # noqa: E402

CONFIG = """
[Pool work]
Command=%s
Workers=1-2
Timeout=60s
[Queue jobs]
Type=spool
Path={dir}/spool
BacklogInterval=100ms
"""

HANDLER = """#!/bin/sh
body=$(cat)
echo "$body" >>"$0.seen"
case $body in
slow) while [ ! -e "$0.go" ]; do sleep 0.02; done ;;
esac
"""


def handler(r):
    return r.write("handler.sh", HANDLER, 0o755)


def config(r, operator="", more=""):
    text = "[Operator]\nStatus=127.0.0.1:0\nControl={dir}/test.sock\nDrainTimeout=60s\n" + operator
    return text + CONFIG % handler(r) + more


def seen(r):
    try:
        with open(r.path("handler.sh.seen")) as f:
            return f.read().split()
    except FileNotFoundError:
        return []


def put(r, name, body):
    r.path("spool", "new", ".")
    with open(r.path("spool", "tmp", name), "w") as f:
        f.write(body)
    os.rename(r.path("spool", "tmp", name), r.path("spool", "new", name))


def standby(r, *args, **kw):
    return r.daemon(config(r, **kw), args=args or ("--standby",), wait="standby")


def wait_status(d, word):
    wait_for("status %s" % word, lambda: d.status()["status"] == word, 60)
    return d.status()


def test_standby_touches_nothing_and_says_so(r):
    d = standby(r)
    wait_for("the line", lambda: "in standby" in d.log())
    code, text = d.get("/.well-known/engine-status")
    s = json.loads(text)
    assert code == 503 and s["status"] == "standby" and s["ready"] is False, s
    assert all(c["status"] == "ok" for c in s["checks"]), s["checks"]
    assert s["pools"]["work"]["workers"] == 0 and s["queues"]["jobs"]["connected"] is False, s
    code, text = d.get("/readyz")
    assert code == 503 and "standby" in text, text
    assert d.get("/healthz") == (200, "ok\n")
    assert not os.path.exists(os.path.join(r.dir, "spool")), "the spool was opened"
    assert 'status="standby"} 1' in d.get("/metrics")[1].replace("bot_operator_status=", "status=")
    page = d.get("/")[1]
    assert "standby" in page
    text = d.botctl("status").stdout
    assert "test: standby" in text and " standby " in text, text
    for command in (["enqueue", "jobs", "--body", "x"], ["dead", "list", "jobs"]):
        p = d.botctl(*command, check=False)
        assert p.returncode == 1 and "standby" in p.stderr and "promote" in p.stderr, p
    assert d.stop() == 0, "SIGTERM ends a standby as well"


def test_promote_and_demote(r):
    d = standby(r)
    put(r, "a", "one")
    assert "promoted" in d.botctl("promote").stdout
    d.wait_queue("jobs", done=1)
    assert wait_status(d, "ok")["ready"] is True
    assert "active already" in d.botctl("promote").stdout
    assert json.loads(d.botctl("--json", "promote").stdout)["changed"] is False
    put(r, "s", "slow")
    wait_for("the slow one", lambda: "slow" in seen(r), 60)
    assert "demoted" in d.botctl("demote").stdout
    assert d.status()["status"] == "draining"
    p = d.botctl("promote", check=False)
    assert p.returncode == 1 and "standby" in p.stderr, p
    p = d.botctl("reload", check=False)
    assert p.returncode == 1, p
    r.write("handler.sh.go", "")
    wait_status(d, "standby")
    assert d.get("/readyz")[0] == 503
    put(r, "b", "two")
    assert seen(r) == ["one", "slow"], seen(r)
    assert "standby already" in d.botctl("demote").stdout
    d.botctl("promote")
    wait_for("the other", lambda: "two" in seen(r), 60)
    assert sorted(seen(r)) == ["one", "slow", "two"], seen(r)


def test_a_demotion_loses_nothing_of_a_backlog(r):
    r.write("handler.sh.go", "")
    d = r.daemon(config(r))
    for i in range(300):
        put(r, "m%03d" % i, "m%03d" % i)
    wait_for("some", lambda: len(seen(r)) > 20, 60)
    for _ in range(3):
        d.botctl("demote")
        wait_status(d, "standby")
        n = len(seen(r))
        assert d.status()["messages"]["held"] == 0
        d.botctl("promote")
        wait_for("more", lambda: len(seen(r)) > n or len(seen(r)) == 300, 60)
    wait_for("all", lambda: len(seen(r)) >= 300, 120)
    d.wait_queue("jobs", in_flight=0, backlog=0, deadline=60)
    assert sorted(seen(r)) == ["m%03d" % i for i in range(300)], "each once"


def test_sigterm_while_it_goes_into_standby_ends_it(r):
    d = r.daemon(config(r))
    put(r, "s", "slow")
    wait_for("the slow one", lambda: "slow" in seen(r), 60)
    d.botctl("demote")
    d.signal(signal.SIGTERM)
    wait_for("the line of the end", lambda: d.status()["status"] == "draining")
    r.write("handler.sh.go", "")
    assert d.wait(60) == 0, d.log()


def test_a_role_survives_a_crash_but_not_a_reboot(r):
    d = standby(r)
    d.botctl("promote")
    wait_status(d, "ok")
    d.kill()
    # systemd keeps the runtime directory over a restart of the unit.
    d = standby(r)
    assert "promoted before the restart" in d.log(), d.log()
    wait_status(d, "ok")
    d.stop()
    d = standby(r)
    wait_status(d, "ok")
    d.stop()
    os.unlink(r.path("test.role"))      # as a stop of the unit or a reboot does
    d = standby(r)
    assert wait_status(d, "standby")
    d.stop()
    # The same the other way round: a primary that was demoted.
    d = r.daemon(config(r))
    d.botctl("demote")
    wait_status(d, "standby")
    d.kill()
    d = r.daemon(config(r), wait="status")
    assert wait_status(d, "standby")
    d.botctl("promote")
    wait_status(d, "ok")


def test_standby_key(r):
    d = standby(r, "--config", r.path("test.conf"), operator="Standby=yes\n")
    assert wait_status(d, "standby")


def test_the_primary_has_spool_and_address_meanwhile(r):
    primary = r.daemon(config(r))
    port = primary.base.rsplit(":", 1)[1]
    backup = r.daemon(config(r).replace("127.0.0.1:0", "127.0.0.1:" + port).replace("test.sock", "backup.sock"),
                      name="backup", args=("--standby",), wait=None)
    wait_for("standby", lambda: "in standby" in backup.log(), 60)
    assert "it is taken as soon as it is free" in backup.log(), backup.log()
    put(r, "a", "one")
    primary.wait_queue("jobs", done=1)
    assert json.loads(backup.botctl("--json", "status").stdout)["status"] == "standby"
    primary.stop()
    backup.base = primary.base
    wait_for("the address", lambda: "status at http://" in backup.log(), 60)
    assert backup.status()["status"] == "standby"
    put(r, "b", "two")
    backup.botctl("promote")
    backup.wait_queue("jobs", done=1, deadline=60)
    assert seen(r) == ["one", "two"]


# ---- demotion with brokers: connections, consumers and leases go and come ----

def through_standby(r, d, done, add, numbers=200):
    """Three demotions under load; done() is what the handler saw."""
    n = 0
    for _ in range(3):
        add(range(n, n + numbers))
        n += numbers
        before = len(done())
        wait_for("some work", lambda: len(done()) > before + 20 or len(done()) == n, 60)
        d.botctl("demote")
        wait_status(d, "standby")
        assert d.status()["messages"]["held"] == 0
        assert d.botctl("wait", "standby", "--timeout", "0s").returncode == 0
        d.botctl("promote")
    d.botctl("wait", "progress", "--timeout", "60s")
    wait_for("all", lambda: len(done()) >= n, 120)
    d.wait_queue("jobs", in_flight=0, backlog=0, deadline=60)
    assert sorted(done()) == sorted("m%d" % i for i in range(n)), "each once"


def broker_config(r, queue):
    r.write("handler.sh.go", "")
    text = "[Operator]\nStatus=127.0.0.1:0\nControl={dir}/test.sock\n" + CONFIG % handler(r)
    return text[:text.index("Type=spool")] + queue + "BacklogInterval=100ms\n"


def test_demote_with_redis(r):
    redis = r.redis()
    d = r.daemon(broker_config(r, "Type=redis\nAddress=%s\nKey=jobs\n" % redis.socket))
    through_standby(r, d, lambda: seen(r),
                    lambda ns: redis.pipeline([["XADD", "jobs", "*", "body", "m%d" % i] for i in ns]))


def test_demote_with_rabbitmq(r):
    rabbit = r.rabbit()
    with rabbit.client() as c:
        c.declare("jobs", durable=True)
        d = r.daemon(broker_config(r, "Type=rabbitmq\nAddress=127.0.0.1:%d\nName=jobs\nDeclare=classic\n" % rabbit.port))
        through_standby(r, d, lambda: seen(r),
                        lambda ns: c.publish("jobs", *[b"m%d" % i for i in ns]))


def test_http_pool(r):
    """No worker to leave: requests that run may finish."""
    d = r.daemon("[Operator]\nStatus=127.0.0.1:0\nControl={dir}/test.sock\n[Pool work]\nHttp=http://127.0.0.1:1/\n"
                 "[Queue jobs]\nType=spool\nPath={dir}/spool\n", args=("--standby",), wait="status")
    r.expect_log("attempt|not connected|refused")
    for _ in range(2):
        d.botctl("promote")
        d.botctl("wait", "ready", "--timeout", "60s")
        d.botctl("demote")
        wait_status(d, "standby")


def test_reload_in_standby(r):
    r.expect_log("need a restart|the old configuration stays|neither .Section")
    d = standby(r)
    d.write(config(r, more="[Queue more]\nType=spool\nPath={dir}/more\n").replace("Workers=1-2", "Workers=2-3"))
    d.botctl("reload")
    s = wait_status(d, "standby")
    assert set(s["queues"]) == {"jobs", "more"} and s["pools"]["work"]["max"] == 3, s
    d.write(config(r).replace("Path={dir}/spool", "Path={dir}/elsewhere"))
    d.botctl("reload")
    wait_for("one queue", lambda: set(d.status()["queues"]) == {"jobs"})
    d.write("nonsense")
    assert d.botctl("reload", check=False).returncode == 1
    os.makedirs(r.path("elsewhere", "new"))
    r.write("elsewhere/new/x", "moved")
    d.botctl("promote")
    wait_for("the message", lambda: seen(r) == ["moved"], 60)


def test_alerts_rest_in_standby(r):
    d = standby(r, more="[Alert nobody]\nWhen=pool.workers < 1\nFor=0s\n")
    p = d.botctl("alerts", "--all", check=False)
    assert p.returncode == 0 and "nobody" in p.stdout, p
    assert d.status()["alerts"] == []
    put(r, "a", "one")
    d.botctl("promote")
    wait_for("the message", lambda: seen(r) == ["one"], 60)


if __name__ == "__main__":
    rig.main(globals())
