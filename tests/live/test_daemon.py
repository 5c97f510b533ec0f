"""The daemon as its users meet it: spool queue, handlers, signals, status."""
import json
import os
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
from rig import wait_for  # noqa: E402

SPOOL = """
[Pool work]
%s
Workers=1-2
Timeout=%s
[Queue jobs]
Type=spool
Path={dir}/spool
MaxAttempts=3
Backoff=50ms-100ms
BacklogInterval=100ms
"""


def spool(handler, timeout="10s", more=""):
    return SPOOL % (handler, timeout) + more


def put(r, name, body):
    """As a producer does: written beside, moved in."""
    tmp = r.path("spool", "tmp", name)
    r.path("spool", "new", ".")
    with open(tmp, "w") as f:
        f.write(body)
    os.rename(tmp, r.path("spool", "new", name))


def script(r, text, name="handler.sh"):
    return "Command=" + r.write(name, "#!/bin/sh\n" + text, 0o755)


# ---- the command line and the configuration ----

def refused(r, text, *say):
    conf = r.write("bad.conf", text.replace("{dir}", r.dir))
    p = subprocess.run([os.path.join(rig.BUILD, "bot-operatord"), "--config", conf], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, universal_newlines=True, timeout=rig.DEADLINE)
    assert p.returncode == 78, (p.returncode, p.stdout)
    for s in say:
        assert s in p.stdout, "%r is not in:\n%s" % (s, p.stdout)
    assert not os.path.exists(os.path.join(r.dir, "spool")), "a broken start touched the spool"
    return p.stdout


def test_invariant_9_a_typo_stops_the_start_and_is_explained(r):
    good = "[Pool p]\nCommand=/bin/true\n[Queue q]\nType=spool\nPath={dir}/spool\n"
    refused(r, good + "Pth=/x\n", "bad.conf:6", "Pth", "Path")
    refused(r, good + "MaxAttempts=many\n", "bad.conf:6")
    refused(r, good + "Backoff=2 parsecs\n", "bad.conf:6")
    refused(r, good + "[Qeue other]\nType=spool\n", "bad.conf:6", "Queue")
    refused(r, good.replace("spool\nPath", "spol\nPath"), "bad.conf:4", "spool")
    refused(r, good + "Pool=q\n", "bad.conf:6", "[Pool q]")
    refused(r, good.replace("Command=/bin/true", ""), "bad.conf:1", "Exec=")
    refused(r, good.replace("/bin/true", "/no/such/program"), "/no/such/program")


def test_check_and_version(r):
    conf = r.write("ok.conf", "[Pool p]\nCommand=/bin/true\n[Queue q]\nType=spool\nPath=%s/spool\n" % r.dir)
    exe = os.path.join(rig.BUILD, "bot-operatord")
    p = subprocess.run([exe, "--config", conf, "--check"], stdout=subprocess.PIPE, universal_newlines=True)
    assert p.returncode == 0 and "ok" in p.stdout, p
    assert not os.path.exists(os.path.join(r.dir, "spool"))
    assert subprocess.run([exe, "--version"], stdout=subprocess.PIPE).returncode == 0
    p = subprocess.run([exe, "--bogus"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert p.returncode == 2 and p.stderr
    p = subprocess.run([exe, "--config", "/no/such/file.conf"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       universal_newlines=True)
    assert p.returncode == 78 and "/no/such/file.conf" in p.stderr, p


# ---- messages ----

def test_done_retried_and_dead(r):
    r.expect_log(r"dead letters")
    d = r.daemon(spool(script(r, """
read -r body
case $body in
once) [ "$BOT_ATTEMPT" -ge 2 ] || { echo "not yet" >&2; exit 75; } ;;
never) echo "always fails" >&2; exit 69 ;;
bad) exit 65 ;;
esac
exit 0
""")))
    for i in range(20):
        put(r, "m%02d" % i, "fine\n")
    put(r, "o", "once\n")
    put(r, "n", "never\n")
    put(r, "b", "bad\n")
    q = d.wait_queue("jobs", done=21, dead=2)
    assert q["received"] == 23 + 3, q       # o twice, n three times
    assert q["errors"]["external_api"] == 3 and q["errors"]["invalid_format"] == 1, q
    listed = d.botctl("dead", "list", "jobs").stdout
    assert "external_api" in listed and "invalid_format" in listed, listed
    shown = json.loads(d.botctl("--json", "dead", "list", "jobs").stdout.splitlines()[0])
    assert shown, shown
    dry = d.botctl("dead", "redrive", "jobs", "--all", "--dry-run").stdout
    assert d.queue("jobs")["done"] == 21, dry
    assert len([f for f in os.listdir(r.path("spool", "dead")) if not f.endswith(".json")]) == 2, dry
    d.botctl("dead", "purge", "jobs", "--all")
    assert not [f for f in os.listdir(r.path("spool", "dead")) if not f.startswith(".")]


def test_redrive_puts_back_with_a_clean_slate(r):
    r.expect_log(r"dead letters")
    d = r.daemon(spool(script(r, "[ -e %s/open ] || exit 100\nexit 0\n" % r.dir)))
    for i in range(5):
        put(r, "m%d" % i, "x")
    d.wait_queue("jobs", dead=5)
    r.write("open", "")
    d.botctl("dead", "redrive", "jobs", "--all", "--rate", "100/s")
    d.wait_queue("jobs", done=5)
    assert not [f for f in os.listdir(r.path("spool", "dead")) if not f.startswith(".")]


def test_enqueue_pause_resume(r):
    d = r.daemon(spool(script(r, "cat >> %s/out; echo >> %s/out" % (r.dir, r.dir))))
    d.botctl("pause", "jobs")
    assert d.queue("jobs")["paused"] is True
    d.botctl("enqueue", "jobs", "--body", "hello")
    d.botctl("enqueue", "jobs", "-", stdin="from stdin")
    wait_for("the backlog", lambda: d.queue("jobs")["backlog"] == 2)
    assert d.queue("jobs")["done"] == 0
    d.botctl("resume", "jobs")
    d.wait_queue("jobs", done=2)
    with open(r.path("out")) as f:
        text = f.read()
    assert "hello" in text and "from stdin" in text, text


def test_poison_is_buried_with_its_cause(r):
    r.expect_log(r"dead letters|worker|pool")
    d = r.daemon(spool(script(r, "read -r b; [ \"$b\" = poison ] && kill -9 $$; exit 0")))
    put(r, "a", "poison\n")
    put(r, "b", "fine\n")
    q = d.wait_queue("jobs", done=1, dead=1)
    assert q["errors"] == {"crash": 2}, q
    with open([r.path("spool", "dead", f) for f in os.listdir(r.path("spool", "dead")) if f.endswith(".json")][0]) as f:
        why = json.load(f)
    assert "crash" in json.dumps(why) and "KILL" in json.dumps(why), why


def test_timeout_kills_the_group_and_retries(r):
    r.expect_log(r"dead letters|time|worker|pool")
    pids = r.path("pids")
    d = r.daemon(spool(script(r, "trap '' TERM; echo $$ >> %s; sleep 60 & echo $! >> %s; wait; wait" % (pids, pids)),
                       timeout="200ms").replace("Workers=1-2", "Workers=1-2\nKillGrace=200ms"))
    put(r, "slow", "x")
    q = d.wait_queue("jobs", dead=1)
    assert q["errors"] == {"timeout": 3}, q
    with open(pids) as f:
        for pid in f.read().split():
            wait_for("pid %s to be gone" % pid, lambda: gone(int(pid)))


def gone(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


# ---- signals ----

def test_drain_lets_run_and_gives_back(r):
    d = r.daemon(spool(script(r, "sleep 0.7; exit 0"), more="Prefetch=10\n"))
    for i in range(10):
        put(r, "m%d" % i, "x")
    wait_for("two to run", lambda: d.status()["pools"]["work"]["busy"] == 2)
    start = time.monotonic()
    d.signal(signal.SIGTERM)
    assert d.wait() == 0
    assert time.monotonic() - start < 5
    left = os.listdir(r.path("spool", "new"))
    assert len(left) == 8, left
    assert os.listdir(r.path("spool", "cur")) == []
    assert all(":" not in name for name in left), "waiting messages were harmed: %s" % left


def test_drain_timeout_gives_running_ones_back(r):
    r.expect_log(r"DrainTimeout|worker|pool")
    text = "[Operator]\nStatus=127.0.0.1:0\nControl={dir}/test.sock\nDrainTimeout=300ms\n"
    d = r.daemon(text + spool(script(r, "sleep 60")).replace("Workers=1-2", "Workers=1-2\nKillGrace=200ms"))
    put(r, "long", "x")
    wait_for("it to run", lambda: d.status()["pools"]["work"]["busy"] == 1)
    assert d.stop() == 0
    assert os.listdir(r.path("spool", "new")) == ["long"]


def test_reload_changes_only_what_changed(r):
    d = r.daemon(spool(script(r, "sleep 0.05; echo $PPID >> %s/pids" % r.dir)))
    before = d.status()
    d.write(spool(script(r, "sleep 0.05; echo $PPID >> %s/pids" % r.dir)).replace("MaxAttempts=3", "MaxAttempts=7") +
            "[Queue more]\nType=spool\nPath={dir}/more\n")
    for i in range(40):
        put(r, "m%02d" % i, "x")
    d.signal(signal.SIGHUP)
    wait_for("the new queue", lambda: "more" in d.status()["queues"])
    d.wait_queue("jobs", done=40)
    after = d.status()
    assert after["pools"]["work"]["restarts"] == before["pools"]["work"]["restarts"] == 0
    d.botctl("enqueue", "more", "--body", "x")
    d.wait_queue("more", done=1)


def test_reload_with_an_error_keeps_the_old_one(r):
    r.expect_log(r"problem|unknown|stays in force|Bogus")
    d = r.daemon(spool(script(r, "exit 0")))
    d.write(spool(script(r, "exit 0")) + "Bogus=1\n")
    p = d.botctl("reload", check=False)
    assert p.returncode == 1 and "Bogus" in p.stdout + p.stderr, p
    put(r, "m", "x")
    d.wait_queue("jobs", done=1)
    d.write(spool(script(r, "exit 0")))
    d.botctl("reload")


def test_reload_new_handler_replaces_workers_without_loss(r):
    d = r.daemon(spool(script(r, "echo old >> %s/out; sleep 0.02" % r.dir, "old.sh")))
    for i in range(60):
        put(r, "m%02d" % i, "x")
    wait_for("the old handler to work", lambda: os.path.exists(r.path("out")))
    d.write(spool(script(r, "echo new >> %s/out; sleep 0.02" % r.dir, "new.sh")))
    d.botctl("reload")
    d.wait_queue("jobs", done=60)
    with open(r.path("out")) as f:
        words = f.read().split()
    assert len(words) == 60 and words[-1] == "new" and words[0] == "old", words


# ---- the status ----

def test_status_endpoints(r):
    d = r.daemon(spool(script(r, "exit 0")))
    status, text = d.get("/.well-known/engine-status")
    doc = json.loads(text)
    assert status == 200 and doc["status"] == "ok" and doc["engine"] == "bot-operator", doc
    for key in ("version", "instance", "since", "uptime_seconds", "checks", "backlog", "queues", "pools", "alerts",
                "loop"):
        assert key in doc, key
    for key in ("type", "connected", "paused", "backlog", "backlog_age_seconds", "in_flight", "received", "done",
                "retried", "dead", "error_rate_percent", "rate_per_second", "processing_ms", "errors",
                "last_received_seconds", "last_done_seconds"):
        assert key in doc["queues"]["jobs"], key
    assert d.get("/healthz")[0] == 200
    assert d.get("/readyz")[0] == 200
    status, text = d.get("/metrics")
    assert status == 200 and text.endswith("# EOF\n"), text[-100:]
    status, text = d.get("/")
    # The name of SVG is no address that is asked.
    other = text.replace(d.base, "").replace("http://www.w3.org/2000/svg", "")
    assert status == 200 and "<html" in text.lower() and "http://" not in other, text[:300]
    assert d.get("/nothing")[0] == 404


def test_invariant_8_health_is_progress(r):
    """A handler that cannot start is not healthy, though the daemon lives."""
    r.expect_log(r"worker|pool|start")
    d = r.daemon(spool("Exec=/bin/false").replace("Workers=", "StartTimeout=1s\nWorkers="), wait="status")
    put(r, "m", "x")
    wait_for("the pool's failure to show", lambda: d.status()["status"] == "down")
    assert d.get("/readyz")[0] == 503
    assert d.get("/healthz")[0] == 200
    assert d.get("/.well-known/engine-status")[0] == 503
    names = {c["name"]: c for c in d.status()["checks"]}
    assert names["pool:work"]["status"] != "ok" and "false" in names["pool:work"]["detail"], names
    assert sorted(os.listdir(r.path("spool", "new"))) == ["m"], "it must wait untouched"


def test_invariant_4_one_thread(r):
    d = r.daemon(spool(script(r, "exit 0")))
    for i in range(10):
        put(r, "m%d" % i, "x")
    d.wait_queue("jobs", done=10)
    assert len(os.listdir("/proc/%d/task" % d.pid)) == 1


def test_sd_notify(r):
    path = r.path("notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(path)
        s.settimeout(rig.DEADLINE)
        d = r.daemon(spool(script(r, "exit 0")), wait=None,
                     env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"})
        seen = ""

        def until(word):
            nonlocal seen
            seen = ""
            while word not in seen:
                seen += s.recv(4096).decode() + "\n"
        until("READY=1")
        until("WATCHDOG=1")
        until("WATCHDOG=1")
        d.signal(signal.SIGHUP)
        until("RELOADING=1")
        assert "MONOTONIC_USEC=" in seen
        until("READY=1")
        d.signal(signal.SIGTERM)
        until("STOPPING=1")
        assert d.wait() == 0


def test_runs_as_any_user(r):
    if os.geteuid() != 0:
        raise rig.Skip("already not root: every other test shows it")
    os.chmod(r.dir, 0o777)
    conf = r.write("any.conf", "[Operator]\nStatus=127.0.0.1:0\nControl=%s/c.sock\n[Pool p]\nCommand=/bin/true\n"
                   "[Queue q]\nType=spool\nPath=%s/own/spool\n" % (r.dir, r.dir))
    r.path("own", ".")
    os.chown(r.path("own"), 65534, 65534)
    exe = os.path.join(rig.BUILD, "bot-operatord")
    probe = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "test", "-x", exe])
    if probe.returncode != 0:
        raise rig.Skip("the build folder is not readable for another user")
    p = rig.Process(r, "any", ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", exe, "--config", conf])
    wait_for("ready", lambda: "ready after" in p.log() or not p.alive())
    assert p.alive(), p.log()
    assert p.stop() == 0, p.log()


if __name__ == "__main__":
    rig.main(globals())
