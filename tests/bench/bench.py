#!/usr/bin/env python3
"""make bench: both sides in one run, the ratio first.

Bare: a minimal C client that reads and acknowledges from the same server in
the same batches, without any worker.  Beside it bot-operator with a no-op
Module= handler, and for Redis also with a no-op Python Exec= handler.

    bench.py [redis] [rabbitmq] [sqs] [pubsub] [idle] [hung]      all of them without a name
"""
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402

MESSAGES = int(os.environ.get("BENCH_MESSAGES", "300000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
BATCH = int(os.environ.get("BENCH_BATCH", "1000"))     # the most that our reader asks for at once
BODY = 200
TICK = os.sysconf("SC_CLK_TCK")


def fill(redis, n):
    redis("DEL", "jobs")
    redis("XGROUP", "CREATE", "jobs", "bare", "0", "MKSTREAM")
    redis("XGROUP", "CREATE", "jobs", "bot-operator", "0")
    redis("EVAL", "for i = 1, tonumber(ARGV[1]) do redis.call('XADD', KEYS[1], '*', 'body', ARGV[2]) end",
          1, "jobs", n, "x" * BODY)


def cpu_of(pid):
    """CPU seconds of a process and of all its descendants, live or reaped."""
    total = 0
    try:
        with open("/proc/%d/stat" % pid) as f:
            fields = f.read().rpartition(")")[2].split()
        total = sum(int(x) for x in fields[11:15]) / TICK
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, task)) as f:
                total += sum(cpu_of(int(c)) for c in f.read().split())
    except OSError:
        pass
    return total


def mean_batch(redis, n):
    """Entries for each XREADGROUP since the last CONFIG RESETSTAT."""
    m = re.search(r"cmdstat_xreadgroup:calls=(\d+)", redis("INFO", "commandstats").decode())
    return n / int(m.group(1))


def bare(redis):
    redis("CONFIG", "RESETSTAT")
    out = subprocess.run([os.path.join(rig.BUILD, "tests/bench/bare_redis"), redis.socket, "jobs", "bare",
                          str(BATCH), str(MESSAGES)], check=True, stdout=subprocess.PIPE).stdout.split()
    n = int(out[0])
    return n / float(out[1]), float(out[2]) * 1e6 / n, mean_batch(redis, n)


CONFIG = """
[Operator]
Status=127.0.0.1:0
Control={dir}/%(name)s.sock
[Pool work]
%(handler)s
Workers=2-2
[Queue jobs]
Type=redis
Address=%(address)s
Mode=stream
Key=jobs
Pool=work
Prefetch=%(prefetch)d
"""


def ours(r, redis, handler, messages, name):
    redis("CONFIG", "RESETSTAT")
    text = CONFIG % {"handler": handler, "address": redis.socket, "prefetch": BATCH * 2, "name": name}
    rate, cpu, _ = measure(r, text, messages, name)
    return rate, cpu, mean_batch(redis, messages)


def measure(r, text, messages, name, env=None):
    """Messages a second, CPU us a message, and the last status of the queue."""
    d = r.daemon(text, name=name, wait="status", env=env)
    start = None
    end = time.monotonic() + 300
    cpu = 0
    while True:
        q = d.queue("jobs")
        now = time.monotonic()
        if start is None and q["received"]:
            start, first, cpu = now, q["done"], cpu_of(d.pid)
        if q["done"] >= messages:
            break
        if now > end:
            raise AssertionError("only %d of %d done\n%s" % (q["done"], messages, d.log()[-2000:]))
        time.sleep(0.02)        # each look costs the operator 0.2 ms or more
    seconds = time.monotonic() - start
    cpu = cpu_of(d.pid) - cpu
    if q["done"] != messages or q["received"] != messages:
        raise AssertionError("received %d, done %d of %d" % (q["received"], q["done"], messages))
    d.stop()
    n = messages - first
    return n / seconds, cpu * 1e6 / n, q


def median(values):
    return tuple(statistics.median(v[i] for v in values) for i in range(3))


def redis_throughput():
    r = rig.Rig("bench")
    try:
        redis = r.redis()
        module = "Module={build}/tests/bench/noop_module.so"
        python = "Exec=%s {source}/tests/bench/noop_handler.py" % (shutil.which("python3", path="/usr/bin:/bin") or
                                                                   sys.executable)
        results = {"bare": [], "module": [], "python": []}
        for i in range(ROUNDS):
            fill(redis, MESSAGES)
            results["bare"].append(bare(redis))
            results["module"].append(ours(r, redis, module, MESSAGES, "module%d" % i))
            redis("XGROUP", "SETID", "jobs", "bot-operator", "0")
            results["python"].append(ours(r, redis, python, MESSAGES, "python%d" % i))
    finally:
        r.close(False)
    b, m, p = (median(results[k]) for k in ("bare", "module", "python"))
    print("Redis stream, %d-byte bodies, reads of at most %d, 2 workers, %d messages, median of %d rounds" %
          (BODY, BATCH, MESSAGES, ROUNDS))
    table([("(a) bare C client, no worker", b), ("(b) bot-operator, no-op Module=", m),
           ("(c) bot-operator, no-op Python Exec=", p)], "messages/read")


# One worker: a no-op needs no more, and the broker wants the other core.
RABBIT_MESSAGES = int(os.environ.get("BENCH_RABBITMQ_MESSAGES", "300000"))
RABBIT_PREFETCH = 1000
RABBIT_ACK = 100
RABBIT_CONFIG = """
[Operator]
Status=127.0.0.1:0
Control={dir}/%(name)s.sock
[Pool work]
Module={build}/tests/bench/noop_module.so
Workers=1-1
[Queue jobs]
Type=rabbitmq
Address=127.0.0.1:%(port)d
Name=%(queue)s
Declare=%(type)s
Pool=work
Prefetch=%(prefetch)d
"""


def rabbit_program(node, *args):
    return subprocess.run([os.path.join(rig.BUILD, "tests/bench/bare_rabbitmq"), str(node.port), *map(str, args)],
                          check=True, stdout=subprocess.PIPE).stdout.split()


def rabbit_round(r, node, kind, i):
    queue = "%s%d" % (kind, i)
    rabbit_program(node, queue, "fill", kind, BODY, RABBIT_MESSAGES)
    out = rabbit_program(node, queue, "consume", RABBIT_PREFETCH, RABBIT_ACK, RABBIT_MESSAGES)
    bare = int(out[0]) / float(out[1]), float(out[2]) * 1e6 / int(out[0]), RABBIT_ACK
    rabbit_program(node, queue, "fill", kind, BODY, RABBIT_MESSAGES)
    rate, cpu, q = measure(r, RABBIT_CONFIG % {"name": queue, "port": node.port, "queue": queue, "type": kind,
                                               "prefetch": RABBIT_PREFETCH}, RABBIT_MESSAGES, queue)
    return bare, (rate, cpu, q["done"] / max(q["acknowledgements"], 1))


def rabbitmq_throughput():
    r = rig.Rig("bench")
    try:
        node = r.rabbit()
        for kind in ("classic", "quorum"):
            rounds = [rabbit_round(r, node, kind, i) for i in range(ROUNDS)]
            b, m = median([x[0] for x in rounds]), median([x[1] for x in rounds])
            print("RabbitMQ %s queue, %d-byte bodies, prefetch %d, 1 worker, %d messages, median of %d rounds" %
                  (kind, BODY, RABBIT_PREFETCH, RABBIT_MESSAGES, ROUNDS))
            table([("(a) bare rabbitmq-c client, no worker", b), ("(b) bot-operator, no-op Module=", m)],
                  "messages/ack")
    finally:
        r.close(False)


SQS_MESSAGES = int(os.environ.get("BENCH_SQS_MESSAGES", "30000"))
SQS_CONNECTIONS = (1, 4, 8)
SQS_CONFIG = """
[Operator]
Status=127.0.0.1:0
Control={dir}/%(name)s.sock
[Pool work]
Module={build}/tests/bench/noop_module.so
Workers=2-2
[Queue jobs]
Type=sqs
Region=eu-west-1
Endpoint=%(endpoint)s
Name=%(queue)s
Receivers=%(connections)d-%(connections)d
Prefetch=%(prefetch)d
Pool=work
"""


def sqs_round(r, sqs, connections, i):
    """Both sides on a queue of their own, which is filled again."""
    import aws_peer
    queue = "bench-%d-%d" % (connections, i)
    url = sqs.create_queue(queue, dead=queue + "-dead")
    sqs.send_batch(queue, ["x" * BODY] * SQS_MESSAGES)
    out = subprocess.run([os.path.join(rig.BUILD, "tests/bench/bare_sqs"), str(sqs.port), url, str(connections),
                          str(SQS_MESSAGES)], check=True, stdout=subprocess.PIPE).stdout.split()
    bare = int(out[0]) / float(out[1]), float(out[2]) * 1e6 / int(out[0]), 10
    sqs.send_batch(queue, ["x" * BODY] * SQS_MESSAGES)
    rate, cpu, q = measure(r, SQS_CONFIG % {
        "name": queue, "queue": queue, "endpoint": sqs.endpoint, "connections": connections,
        "prefetch": connections * 20}, SQS_MESSAGES, queue, env=aws_peer.clean_env(
            AWS_ACCESS_KEY_ID="AKIDTEST", AWS_SECRET_ACCESS_KEY="dummy"))
    # A receive and a delete for each batch.
    return bare, (rate, cpu, 2 * SQS_MESSAGES / max(q["requests"], 1))


def sqs_throughput():
    r = rig.Rig("bench")
    try:
        sqs = r.sqs()
        for connections in SQS_CONNECTIONS:
            rounds = [sqs_round(r, sqs, connections, i) for i in range(ROUNDS)]
            b, m = median([x[0] for x in rounds]), median([x[1] for x in rounds])
            print("SQS (emulator), %d-byte bodies, %d connection%s, 2 workers, %d messages, median of %d rounds" %
                  (BODY, connections, "" if connections == 1 else "s", SQS_MESSAGES, ROUNDS))
            table([("(a) bare C client, no worker", b), ("(b) bot-operator, no-op Module=", m)], "messages/batch")
    finally:
        r.close(False)


# One worker, as with RabbitMQ: the emulator needs a core of its own.
PUBSUB_MESSAGES = int(os.environ.get("BENCH_PUBSUB_MESSAGES", "500000"))
PUBSUB_OUTSTANDING = 1000
# Acknowledged at a time; ours takes that part of the window, so that the server
# can go on sending: pubsub_batches().
PUBSUB_BATCH = PUBSUB_OUTSTANDING // 4
# One stream, as the bare client has: the emulator has no limit for each.
PUBSUB_CONFIG = """
[Operator]
Status=127.0.0.1:0
Control={dir}/%(name)s.sock
[Pool work]
Module={build}/tests/bench/noop_module.so
Workers=1-1
[Queue jobs]
Type=pubsub
Project=%(project)s
Subscription=%(name)s
Prefetch=%(outstanding)d
DeadLetter=dead
Streams=1
Pool=work
"""


def pubsub_calls(p, method):
    before = p.calls(method)
    return lambda: PUBSUB_MESSAGES / max(p.calls(method) - before, 1)


def pubsub_bare(p, name):
    """Messages a second, CPU us and ids in an acknowledgement; and the part of
    a core that the server took."""
    p.create(name)
    p.fill(name, PUBSUB_MESSAGES, BODY)
    server = cpu_of(p.pid)
    out = subprocess.run([os.path.join(rig.BUILD, "tests/bench/bare_pubsub"), str(p.port), p.subscription(name),
                          str(PUBSUB_OUTSTANDING), str(PUBSUB_BATCH), str(PUBSUB_MESSAGES)], check=True,
                         stdout=subprocess.PIPE).stdout.split()
    n, seconds, cpu, calls = int(out[0]), float(out[1]), float(out[2]), int(out[3])
    server = (cpu_of(p.pid) - server) / seconds
    p.delete_subscription(name)
    return (n / seconds, cpu * 1e6 / n, n / calls), server


def pubsub_ours(r, p, name):
    p.create(name)
    p.fill(name, PUBSUB_MESSAGES, BODY)
    ids = pubsub_calls(p, "Acknowledge")
    server, start = cpu_of(p.pid), time.monotonic()
    rate, cpu, _ = measure(r, PUBSUB_CONFIG % {
        "name": name, "project": p.project, "outstanding": PUBSUB_OUTSTANDING}, PUBSUB_MESSAGES, name,
        env={"PUBSUB_EMULATOR_HOST": p.host})
    server = (cpu_of(p.pid) - server) / (time.monotonic() - start)
    p.delete_subscription(name)
    return (rate, cpu, ids()), server


def pubsub_throughput():
    r = rig.Rig("bench")
    try:
        p = r.pubsub()
        p.create_topic("dead")
        # The server's code is compiled while it runs.
        pubsub_bare(p, "warm")
        bare_, ours_ = [], []
        for i in range(2 * ROUNDS):
            # By turns: whoever comes second meets a server with a fuller heap.
            if i % 2:
                ours_.append(pubsub_ours(r, p, "ours%d" % i))
            bare_.append(pubsub_bare(p, "bare%d" % i))
            if not i % 2:
                ours_.append(pubsub_ours(r, p, "ours%d" % i))
        print("Pub/Sub (emulator in Node, one thread), %d-byte bodies, %d outstanding, 1 worker, %d messages, median of "
              "%d rounds" % (BODY, PUBSUB_OUTSTANDING, PUBSUB_MESSAGES, 2 * ROUNDS))
        table([("(a) bare nghttp2 client, no worker", median([x for x, _ in bare_])),
               ("(b) bot-operator, no-op Module=", median([x for x, _ in ours_]))], "messages/ack")
        print("the emulator took %.0f %% of a core for (a), %.0f %% for (b)" % tuple(
            100 * statistics.median(s for _, s in x) for x in (bare_, ours_)))
    finally:
        r.close(False)


def table(rows, last):
    print("%-42s %8s %12s %14s %14s" % ("", "ratio", "messages/s", "CPU us/message", last))
    for name, (rate, cpu, batch) in rows:
        print("%-42s %7.0f%% %12.0f %14.2f %14.0f" % (name, 100 * rate / rows[0][1][0], rate, cpu, batch))
    sys.stdout.flush()


def idle_and_start():
    r = rig.Rig("bench")
    try:
        redis = r.redis()
        starts, rss = [], []
        for i in range(5):
            d = r.daemon(CONFIG % {"handler": "Module={build}/tests/bench/noop_module.so", "address": redis.socket,
                                   "prefetch": 100, "name": "idle%d" % i}, name="idle%d" % i)
            m = rig.wait_for("ready", lambda: re.search(r"ready after (\d+) ms", d.log()))
            starts.append(ready_ms(r, redis, i))
            rss.append(d.rss_kib())
            d.stop()
            assert m
        print("start to ready, exec included: median %.0f ms (%s)" %
              (statistics.median(starts), ", ".join("%.0f" % s for s in starts)))
        print("idle resident memory: %.1f MB" % (statistics.median(rss) / 1024))
    finally:
        r.close(False)


def ready_ms(r, redis, i):
    """exec to READY=1, seen by a notify socket as systemd would."""
    path = os.path.join(r.dir, "notify%d" % i)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(path)
        s.settimeout(20)
        start = time.monotonic()
        d = r.daemon(CONFIG % {"handler": "Module={build}/tests/bench/noop_module.so", "address": redis.socket,
                               "prefetch": 100, "name": "start%d" % i}, name="start%d" % i, wait=None,
                     env={"NOTIFY_SOCKET": path})
        while b"READY=1" not in s.recv(4096):
            pass
        took = (time.monotonic() - start) * 1000
        d.stop()
    return took


def hung_peer():
    """The longest loop turn while one queue's server is stopped."""
    r = rig.Rig("bench")
    try:
        good, bad = r.redis(), r.redis()
        fill(good, 100000)
        text = CONFIG % {"handler": "Module={build}/tests/bench/noop_module.so", "address": good.socket,
                         "prefetch": BATCH * 4, "name": "hung"}
        text += "[Queue hung]\nType=redis\nAddress=%s\nKey=jobs\nPool=work\n" % bad.socket
        r.expect_log("hung")
        d = r.daemon(text, name="hung")
        bad.signal(signal.SIGSTOP)
        d.wait_queue("jobs", done=100000, deadline=120)
        loop = d.status()["loop"]
        bad.signal(signal.SIGCONT)
        print("longest loop turn while a peer hangs: %.2f ms (%d turns, %d over 10 ms)" %
              (loop["longest_turn_ms"], loop["turns"], loop["slow_turns"]))
    finally:
        r.close(False)


PARTS = {"redis": redis_throughput, "rabbitmq": rabbitmq_throughput, "sqs": sqs_throughput,
         "pubsub": pubsub_throughput, "idle": idle_and_start, "hung": hung_peer}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
