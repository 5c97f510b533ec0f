"""kill -9 at random moments of the operator, a worker and redis-server: every
message that was put in ends done or dead, none is lost (invariant 1)."""
import json
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
from rig import wait_for  # noqa: E402

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "20"))
SEED = int(os.environ.get("CHAOS_SEED", "20261123"))
PER_ROUND = 50

HANDLER = '''
import os, sys, time
sys.path.insert(0, %r)
import bot_handler
out = os.open(%r, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

def handle(message):
    n = int(message.body)
    time.sleep(0.002)
    if n %% 10 == 3:
        raise bot_handler.Dead("invalid_format", "this one is bad")
    if n %% 10 == 7 and message.attempt == 1:
        raise bot_handler.Retry(delay=0.05, error_type="database")
    os.write(out, b"%%d\\n" %% n)

bot_handler.run(handle)
'''

QUEUE = """
[Operator]
Status=127.0.0.1:0
Control={dir}/test.sock
[Pool work]
Exec=%s {dir}/handler.py
Workers=2-2
MaxCrashes=100
[Queue jobs]
%s
Pool=work
MaxAttempts=100
Backoff=20ms-100ms
Lease=1s
BacklogInterval=100ms
"""


def python():
    return "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable


def workers_of(pid):
    pids = []
    try:
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, task)) as f:
                pids += [int(x) for x in f.read().split()]
    except OSError:
        pass
    return pids


def storm(r, section, put, dead, restart_server):
    rnd = random.Random(SEED)
    print("# seed %d, %d rounds of %d messages" % (SEED, ROUNDS, PER_ROUND))
    out = r.path("out")
    r.write("handler.py", HANDLER % (os.path.join(rig.SOURCE, "scripts", "handlers", "python"), out))
    r.expect_log(".")
    d = r.daemon(QUEUE % (python(), section))
    total = 0
    for i in range(ROUNDS):
        put(range(total, total + PER_ROUND))
        total += PER_ROUND
        until = time.monotonic() + rnd.random() * 0.4
        wait_for("the random moment", lambda: time.monotonic() >= until)
        victim = rnd.choice(["operator", "operator", "worker", "server"])
        if victim == "worker":
            for pid in workers_of(d.pid)[:1]:
                os.kill(pid, 9)
        elif victim == "server" and restart_server:
            restart_server()
        else:
            d.kill()
            d = r.daemon(QUEUE % (python(), section))

    def finished():
        q = d.queue("jobs")
        return q["backlog"] == 0 and q["in_flight"] == 0 and len(done()) + len(set(dead())) >= total

    def done():
        with open(out) as f:
            return {int(x) for x in f.read().split("\n")[:-1]}
    try:
        wait_for("everything to be settled", finished, 60)
    except AssertionError:
        missing = set(range(total)) - done() - set(dead())
        raise AssertionError("lost or stuck: %s\n%s\n%s" % (sorted(missing), json.dumps(d.queue("jobs")),
                                                           d.log()[-3000:]))
    both = done() | set(dead())
    assert both == set(range(total)), set(range(total)) ^ both
    assert set(dead()) == {n for n in range(total) if n % 10 == 3}, "wrong dead letters"
    d.stop()


def redis_storm(r, mode, put):
    server = [r.redis(aof=True)]

    def restart():
        server[0].kill()
        server[0] = server[0].restarted()

    def dead():
        return [int(dict(zip(e[1][::2], e[1][1::2]))[b"body"]) for e in server[0]("XRANGE", "jobs:dead", "-", "+")]
    storm(r, "Type=redis\nAddress=%s\nMode=%s\nKey=jobs" % (server[0].socket, mode),
          lambda ns: server[0].pipeline([put(n) for n in ns]), dead, restart)


def test_invariant_1_redis_stream(r):
    redis_storm(r, "stream", lambda n: ("XADD", "jobs", "*", "body", n))


def test_invariant_1_redis_list(r):
    redis_storm(r, "list", lambda n: ("LPUSH", "jobs", n))


def test_invariant_1_spool(r):
    def put(ns):
        r.path("spool", "tmp", ".")
        r.path("spool", "new", ".")
        for n in ns:
            with open(r.path("spool", "tmp", "%06d" % n), "w") as f:
                f.write(str(n))
            os.rename(r.path("spool", "tmp", "%06d" % n), r.path("spool", "new", "%06d" % n))

    def dead():
        folder = r.path("spool", "dead", ".")
        return [int(open(os.path.join(folder, f)).read()) for f in os.listdir(folder)
                if not f.endswith(".json") and not f.startswith(".")]
    storm(r, "Type=spool\nPath={dir}/spool", put, dead, None)


if __name__ == "__main__":
    rig.main(globals())
