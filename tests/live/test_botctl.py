"""botctl and the control socket: what people and scripts rely on."""
import contextlib
import grp
import json
import os
import pty
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
from rig import wait_for  # noqa: E402

BOTCTL = os.path.join(rig.BUILD, "botctl")

# The handler keeps what it was given, and does what the body says.
HANDLER = """#!/bin/sh
cat > "$0.$$"
case "$(cat "$0.$$")" in
dead*) echo "no such customer" >&2; exit 100;;
esac
printf '%s' "$BOT_ATTR_COLOUR" > "$0.colour"
mv "$0.$$" "$0.last"
"""

CONFIG = """
[Pool work]
Command=%s
Workers=1-2
[Queue jobs]
Type=spool
Path={dir}/spool
MaxAttempts=3
Backoff=50ms-100ms
BacklogInterval=100ms
"""


def daemon(r, more="", **kw):
    return r.daemon(CONFIG % r.write("handler.sh", HANDLER, 0o755) + more, **kw)


def botctl(*args, **kw):
    return subprocess.run([BOTCTL, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=rig.DEADLINE,
                          universal_newlines=True, **kw)


def make_dead(d, n):
    d.rig.expect_log("no such customer")
    for i in range(n):
        d.botctl("enqueue", "jobs", "--body", "dead %d" % i)
    d.wait_queue("jobs", dead_backlog=n, in_flight=0)


def dead_ids(d, *args):
    lines = d.botctl("--json", "dead", "list", "jobs", *args).stdout.splitlines()
    assert json.loads(lines[-1])["ok"] is True, lines
    return [json.loads(line)["item"]["id"] for line in lines[:-1]]


class Control:
    """The socket without botctl."""

    def __init__(self, d):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(rig.DEADLINE)
        self.s.connect(d.control)
        self.f = self.s.makefile("rb")

    def send(self, data):
        self.s.sendall(data if isinstance(data, bytes) else json.dumps(data).encode() + b"\n")

    def line(self):
        line = self.f.readline()
        return json.loads(line) if line else None

    def ask(self, **request):
        self.send(request)
        return self.line()

    def close(self):
        self.f.close()
        self.s.close()


# ---- the command line ----

def test_bad_use_is_explained_and_exits_2(r):
    for args, say in (
            ((), "Usage:"),
            (("frobnicate",), "no command"),
            (("stats",), 'did you mean "status"'),
            (("status", "extra"), "too many words"),
            (("status", "--dry-run"), "--dry-run"),
            (("--bogus",), "--help"),
            (("pause",), "--all"),
            (("pause", "q", "--all"), "--all"),
            (("scale", "p"), "MIN-MAX"),
            (("scale", "p", "8-2"), "MIN-MAX"),
            (("scale", "p", "0"), "MIN-MAX"),
            (("scale", "p", "2-"), "MIN-MAX"),
            (("dead",), "list, show, redrive or purge"),
            (("dead", "lst", "q"), "list, show, redrive or purge"),
            (("dead", "show", "q"), "missing"),
            (("dead", "redrive", "q"), "--all"),
            (("dead", "purge", "q", "id", "--all"), "--all"),
            (("dead", "redrive", "q", "--all", "--rate", "fast"), "--rate"),
            (("dead", "redrive", "q", "--all", "--rate", "0/s"), "--rate"),
            (("dead", "list", "q", "--limit", "-1"), "--limit"),
            (("enqueue",), "missing"),
            (("enqueue", "q", "--attribute", "novalue"), "NAME=VALUE"),
            (("enqueue", "q", "file", "--body", "x"), "not both"),
            (("debug", "everything"), "timers"),
            (("--config", "/no/such.conf", "status"), "/no/such.conf"),
            (("-i", "../etc/passwd", "status"), "instance"),
            (("--config", "a", "--socket", "b", "status"), "not both")):
        p = botctl(*args)
        assert p.returncode == 2, (args, p)
        assert say in p.stderr, (args, p.stderr)
        assert p.stdout == "", (args, p.stdout)


def test_help_and_version(r):
    p = botctl("--help")
    assert p.returncode == 0 and "dead redrive" in p.stdout and p.stderr == ""
    p = botctl("--version")
    assert p.returncode == 0 and "bot-operator" in p.stdout


def test_unreachable_names_the_socket_and_exits_3(r):
    sock = os.path.join(r.dir, "no.sock")
    conf = r.write("x.conf", "[Operator]\nControl=%s\n[Pool p]\nCommand=/bin/true\n[Queue q]\nType=spool\n"
                   "Path=%s/spool\n" % (sock, r.dir))
    for args in (("--config", conf), ("--socket", sock)):
        p = botctl(*args, "status")
        assert p.returncode == 3, p
        assert sock in p.stderr and "systemctl status" in p.stderr, p.stderr
    # A file that nobody listens on is named just so.
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(sock)
    p = botctl("--config", conf, "status")
    assert p.returncode == 3 and sock in p.stderr and "refused" in p.stderr, p


def test_a_peer_that_is_no_operator(r):
    sock = os.path.join(r.dir, "odd.sock")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(sock)
        s.listen(1)
        for answer in (b"", b"hello\n", b"{\"half\":"):
            p = subprocess.Popen([BOTCTL, "--socket", sock, "status"], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, universal_newlines=True)
            c, _ = s.accept()
            c.recv(1000)
            c.sendall(answer)
            c.close()
            out, err = p.communicate(timeout=rig.DEADLINE)
            assert p.returncode == 3 and sock in err and out == "", (answer, p.returncode, out, err)


# ---- looking ----

def test_status_for_people_and_scripts(r):
    d = daemon(r)
    d.botctl("enqueue", "jobs", "--body", "x")
    d.wait_queue("jobs", done=1)
    p = d.botctl("status")
    first = p.stdout.splitlines()[0]
    assert first.startswith("test: ok for "), p.stdout
    assert "\033" not in p.stdout
    assert "QUEUE" in p.stdout and "jobs" in p.stdout and "work" in p.stdout
    doc = json.loads(d.botctl("status", "--json").stdout)
    assert doc["engine"] == "bot-operator" and doc["queues"]["jobs"]["done"] == 1
    assert sorted(doc) == sorted(d.status())
    # "top" on no terminal is one frame.
    assert d.botctl("top").stdout.startswith("test: ok for ")


def test_top_refreshes_until_q_and_leaves_the_terminal_as_it_was(r):
    d = daemon(r)
    main, side = pty.openpty()
    import termios
    before = termios.tcgetattr(side)
    p = subprocess.Popen([BOTCTL, "--config", d.conf, "top"], stdin=side, stdout=side, stderr=side,
                         env=dict(d.env, TERM="xterm"))
    out = b""
    end = time.monotonic() + rig.DEADLINE
    while out.count(b"\033[H") < 2:
        assert time.monotonic() < end, out
        if select.select([main], [], [], 0.1)[0]:
            out += os.read(main, 65536)
    assert b"test: " in out and b"\033[1;32mok" in out
    os.write(main, b"q")
    while p.poll() is None:
        assert time.monotonic() < end
        if select.select([main], [], [], 0.05)[0]:
            out += os.read(main, 65536)
    while select.select([main], [], [], 0)[0]:
        out += os.read(main, 65536)
    assert p.returncode == 0
    assert out.startswith(b"\033[?1049h") and out.rstrip().endswith(b"\033[?1049l"), out[-40:]
    assert termios.tcgetattr(side) == before
    os.close(main)
    os.close(side)


def test_show_config_and_debug(r):
    d = daemon(r)
    text = d.botctl("show-config").stdout
    assert "MaxAttempts=3" in text and "%s:" % d.conf in text or os.path.basename(d.conf) + ":" in text, text
    assert "Weight=" in text
    for what in ("timers", "streams", "workers", "messages"):
        d.botctl("debug", what)
        doc = json.loads(d.botctl("--json", "debug", what).stdout)
        assert isinstance(doc[what], list), doc
    assert "observe" in d.botctl("debug", "timers").stdout
    assert "control" in d.botctl("debug", "streams").stdout
    pids = [w["pid"] for w in json.loads(d.botctl("--json", "debug", "workers").stdout)["workers"]]
    assert pids and all(os.path.exists("/proc/%d" % pid) for pid in pids)


# ---- acting ----

def test_enqueue_from_everywhere(r):
    d = daemon(r)
    last = os.path.join(r.dir, "handler.sh.last")

    def arrived(body):
        def same():
            try:
                with open(last, "rb") as f:
                    return f.read() == body
            except OSError:
                return False
        wait_for("the handler to get %r" % body[:40], same)

    p = d.botctl("enqueue", "jobs", "--body", "from the command line")
    assert p.stdout.strip(), "no id"
    arrived(b"from the command line")
    d.botctl("enqueue", "jobs", stdin="from a pipe")
    arrived(b"from a pipe")
    d.botctl("enqueue", "jobs", "-", stdin=b"a\xff\x00b not text")
    arrived(b"a\xff\x00b not text")
    d.botctl("enqueue", "jobs", r.write("letter", "from a file"), "--attribute", "colour=blue", "--attribute", "n=1")
    arrived(b"from a file")
    with open(os.path.join(r.dir, "handler.sh.colour")) as f:
        colour = f.read()
    assert colour == "blue", colour
    d.wait_queue("jobs", done=4)
    p = d.botctl("enqueue", "jobs", check=False, stdin=b"x" * 300000)
    assert p.returncode == 1 and b"MaxBytes" in p.stderr, p
    p = d.botctl("enqueue", "jobs", check=False, stdin=b"\xff" * 3000000)
    assert p.returncode == 1 and b"too big" in p.stderr, p
    p = d.botctl("enqueue", "jbos", "--body", "x", check=False)
    assert p.returncode == 1 and 'did you mean "jobs"' in p.stderr, p
    assert d.queue("jobs")["received"] == 4


def test_pause_and_resume(r):
    d = daemon(r)
    assert d.botctl("pause", "jobs").stdout == "paused: jobs\n"
    q = d.queue("jobs")
    assert q["paused"] is True and q["paused_by"] == ["operator"], q
    d.botctl("enqueue", "jobs", "--body", "later")
    d.wait_queue("jobs", backlog=1, done=0)
    doc = d.status()
    assert doc["status"] == "ok", doc
    assert [c["detail"] for c in doc["checks"] if c["name"] == "queue:jobs"] == ["paused by operator"]
    assert "paused by operator" in d.botctl("status").stdout
    assert d.botctl("resume", "--all").stdout == "resumed: jobs\n"
    d.wait_queue("jobs", done=1, paused=False)
    assert "paused, asked for by uid %d" % os.getuid() in d.log()


def test_scale(r):
    d = daemon(r)
    d.botctl("scale", "work", "3-4")
    wait_for("three workers", lambda: d.status()["pools"]["work"]["workers"] >= 3)
    pool = d.status()["pools"]["work"]
    assert (pool["min"], pool["max"]) == (3, 4), pool
    p = d.botctl("scale", "work", "2-99999", check=False)
    assert p.returncode == 1 and "max" in p.stderr, p
    p = d.botctl("scale", "wrk", "2", check=False)
    assert p.returncode == 1 and "no pool" in p.stderr, p


def test_reload_with_a_mistake_changes_nothing(r):
    d = daemon(r)
    good = open(d.conf).read()
    with open(d.conf, "a") as f:
        f.write("Wieght=3\n")
    r.expect_log("problem|Wieght")
    p = d.botctl("reload", check=False)
    assert p.returncode == 1 and "Wieght" in p.stderr and "stays" in p.stderr, p
    p = d.botctl("check-config", check=False)
    assert p.returncode == 1 and "test.conf:" in p.stderr and "Wieght" in p.stderr and "Weight" in p.stderr, p
    doc = json.loads(d.botctl("check-config", "--json", check=False).stdout)
    assert doc["ok"] is False and len(doc["problems"]) == 1, doc
    # The broken file does not keep anybody from looking.
    p = d.botctl("status")
    assert "test: ok" in p.stdout and "Wieght" in p.stderr, p
    with open(d.conf, "w") as f:
        f.write(good.replace("MaxAttempts=3", "MaxAttempts=4"))
    assert d.botctl("check-config").stdout == d.conf + ": ok\n"
    assert "1 section changed" in d.botctl("reload").stdout
    assert "MaxAttempts=4" in d.botctl("show-config").stdout


def test_drain_ends_the_operator(r):
    d = daemon(r)
    assert "draining" in d.botctl("drain").stdout
    assert d.wait() == 0
    assert not os.path.exists(d.control)
    assert d.botctl("status", check=False).returncode == 3


# ---- dead letters ----

def test_dead_list_and_show(r):
    d = daemon(r)
    assert "no dead letters" in d.botctl("dead", "list", "jobs").stdout
    make_dead(d, 5)
    ids = dead_ids(d)
    assert len(set(ids)) == 5, ids
    text = d.botctl("dead", "list", "jobs").stdout
    assert all(i in text for i in ids) and "no such customer" in text, text
    assert "more:" not in text
    text = d.botctl("dead", "list", "jobs", "--limit", "2").stdout
    assert ids[1] in text and ids[2] not in text and "--after " + ids[1] in text, text
    assert dead_ids(d, "--after", ids[1], "--limit", "2") == ids[2:4]
    assert dead_ids(d, "--after", ids[4]) == []
    p = d.botctl("dead", "list", "jobs", "--after", "never-was", check=False)
    assert p.returncode == 1, p
    text = d.botctl("dead", "show", "jobs", ids[3]).stdout
    assert text.endswith("\n\ndead 3\n") and "no such customer" in text, text
    p = d.botctl("dead", "show", "jobs", "never-was", check=False)
    assert p.returncode == 1 and "no such dead letter" in p.stderr, p


def test_dead_redrive_and_purge(r):
    d = daemon(r)
    make_dead(d, 6)
    ids = dead_ids(d)
    p = d.botctl("dead", "purge", "jobs", "--all", "--dry-run")
    assert p.stdout.count("would be purged") == 6 and dead_ids(d) == ids, p.stdout
    p = d.botctl("dead", "purge", "jobs", ids[4], "never-was", check=False)
    assert p.returncode == 1 and "never-was" in p.stderr and "1 purged" in p.stdout, p
    d.botctl("dead", "purge", "jobs", "--all", "--limit", "2")
    assert dead_ids(d) == [ids[2], ids[3], ids[5]]
    # Now the handler likes them.
    r.write("handler.sh", HANDLER.replace("exit 100", "exit 0"), 0o755)
    assert "1 redriven, 0 failed" in d.botctl("dead", "redrive", "jobs", ids[3]).stdout
    d.wait_queue("jobs", done=1)
    p = d.botctl("dead", "redrive", "jobs", "--all")
    assert "2 redriven, 0 failed" in p.stdout, p.stdout
    d.wait_queue("jobs", done=3, dead_backlog=0)
    assert dead_ids(d) == []


def test_redriven_messages_that_die_again_end_the_walk(r):
    d = daemon(r)
    make_dead(d, 3)
    # Slower than the handler: they are dead again before the walk is over.
    p = d.botctl("dead", "redrive", "jobs", "--all", "--rate", "2/s")
    assert "3 redriven, 0 failed" in p.stdout, p.stdout
    d.wait_queue("jobs", dead=6, dead_backlog=3)


def test_a_rate_is_kept(r):
    d = daemon(r)
    make_dead(d, 4)
    begin = time.monotonic()
    d.botctl("dead", "purge", "jobs", "--all", "--rate", "10/s")
    assert time.monotonic() - begin >= 0.3
    assert dead_ids(d) == []


def test_a_client_that_goes_away_ends_its_walk(r):
    d = daemon(r)
    make_dead(d, 5)
    p = subprocess.Popen([BOTCTL, "--config", d.conf, "dead", "purge", "jobs", "--all", "--rate", "30/min"],
                         stdout=subprocess.PIPE, universal_newlines=True)
    assert "purged" in p.stdout.readline()
    p.kill()
    p.wait()
    p.stdout.close()
    wait_for("the walk's timer to go",
             lambda: "control: dead letters" not in d.botctl("debug", "timers").stdout)
    assert len(dead_ids(d)) == 4
    assert d.stop() == 0


def test_drain_and_reload_in_the_middle_of_a_walk(r):
    d = daemon(r)
    make_dead(d, 5)
    c = Control(d)
    c.send({"command": "dead-purge", "queue": "jobs", "all": True, "rate": 2})
    assert "item" in c.line()
    # The queue is made anew under the walk.
    d.write(CONFIG.replace("{dir}/spool", "{dir}/other") % os.path.join(r.dir, "handler.sh"))
    d.botctl("reload")
    last = c.line()
    while "ok" not in last:
        last = c.line()
    assert last["ok"] is False and "stopping" in last["error"], last
    c.close()
    c = Control(d)
    make_dead(d, 3)
    c.send({"command": "dead-purge", "queue": "jobs", "all": True, "rate": 1})
    assert "item" in c.line()
    d.signal(signal.SIGTERM)
    assert d.wait() == 0
    c.close()


# ---- the socket itself ----

def test_malformed_requests_are_answered(r):
    d = daemon(r)
    c = Control(d)
    for request, say in ((b"this is not json\n", "not JSON"), (b"[1]\n", "object"), (b"{}\n", "missing"),
                         (b'{"command":7}\n', "missing"), (b'{"command":"fly"}\n', "no command"),
                         (b'{"command":"status","verbose":true}\n', "verbose"),
                         (b'{"command":"status","command":"drain"}\n', "not JSON"),
                         (b'{"command":"pause"}\n', "queue"),
                         (b'{"command":"enqueue","queue":"jobs"}\n', "body"),
                         (b'{"command":"enqueue","queue":"jobs","body":"x","body_base64":""}\n', "body"),
                         (b'{"command":"enqueue","queue":"jobs","body_base64":"!"}\n', "base64"),
                         (b'{"command":"enqueue","queue":"jobs","body":"x","attributes":[]}\n', "attributes"),
                         (b'{"command":"scale","pool":"work","min":3,"max":2}\n', "max"),
                         (b'{"command":"scale","pool":"work","min":"1","max":2}\n', "max"),
                         (b'{"command":"dead-list","queue":"jobs","limit":-1}\n', "limit"),
                         (b'{"command":"dead-show","queue":"jobs"}\n', "id"),
                         (b'{"command":"dead-purge","queue":"jobs"}\n', "ids"),
                         (b'{"command":"dead-purge","queue":"jobs","ids":["a"],"all":true}\n', "ids"),
                         (b'{"command":"dead-purge","queue":"jobs","ids":[1]}\n', "string"),
                         (b'{"command":"dead-purge","queue":"jobs","all":true,"rate":0}\n', "rate"),
                         (b'{"command":"debug"}\n', "timers"), (b"[" * 5000 + b"\n", "not JSON"),
                         (b'{"command":"status\xff"}\n', "not JSON")):
        c.send(request)
        answer = c.line()
        assert answer["ok"] is False and say in answer["error"], (request[:60], answer)
    # All of it cost the connection nothing.
    assert c.ask(command="status")["ok"] is True
    assert d.queue("jobs")["received"] == 0
    c.close()


def test_requests_in_pieces_and_in_heaps(r):
    d = daemon(r)
    c = Control(d)
    for byte in b'{"command":"status"}\n':
        c.send(bytes([byte]))
    assert c.line()["ok"] is True
    c.send(b"\n\r\n" + b'{"command":"dead-list","queue":"jobs"}\n{"command":"status"}\r\n' * 50)
    for _ in range(50):
        assert c.line() == {"ok": True, "listed": 0, "more": False}
        assert "status" in c.line()
    # More answers than a socket holds, and nobody reads for a while.
    n = 2000
    c.send(b'{"command":"status"}\n' * n)
    assert d.botctl("status").returncode == 0
    for _ in range(n):
        assert c.line()["ok"] is True
    # A client that stops sending still gets its answer.
    c.send({"command": "status"})
    c.s.shutdown(socket.SHUT_WR)
    assert c.line()["ok"] is True and c.line() is None
    c.close()


def test_limits(r):
    d = daemon(r)
    c = Control(d)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        c.send(b"x" * 3000000)
    with contextlib.suppress(ConnectionResetError):
        answer = c.line()
        assert answer is None or "at most" in answer["error"], answer
    c.close()
    open_ = [Control(d) for _ in range(16)]
    assert all(k.ask(command="status")["ok"] for k in open_)
    r.expect_log("16 connections are open")
    p = d.botctl("status", check=False)
    assert p.returncode in (1, 3) and "too many control connections" in p.stderr, p
    open_.pop().close()
    wait_for("a place", lambda: d.botctl("status", check=False).returncode == 0)
    for k in open_:
        k.close()


def test_only_root_the_user_and_the_group_may(r):
    if os.getuid() != 0:
        raise rig.Skip("needs root to become somebody else")
    d = daemon(r)
    mode = os.stat(d.control)
    assert stat.S_IMODE(mode.st_mode) == 0o660, oct(mode.st_mode)
    os.chmod(r.dir, 0o755)
    group = next(g for g in range(61000, 61999) if not any(e.gr_gid == g for e in grp.getgrall()))
    code = ("import os, socket, sys\n"
            "os.setgroups([int(g) for g in sys.argv[2:]]); os.setgid(65534); os.setuid(65534)\n"
            "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
            "s.sendall(b'{\"command\":\"status\"}\\n'); print(s.makefile().readline()[:60])\n")

    def as_nobody(*groups):
        return subprocess.run([sys.executable, "-c", code, d.control] + [str(g) for g in groups],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    # The file's mode guards.
    p = as_nobody()
    assert p.returncode != 0 and "PermissionError" in p.stderr, p
    # Members of its group come in.
    os.chown(d.control, 0, group)
    p = as_nobody(group)
    assert p.returncode == 0 and '"ok":true' in p.stdout, p
    # And if the mode does not guard, the credentials do.
    os.chmod(d.control, 0o666)
    r.expect_log("uid:65534")
    p = as_nobody(group + 1)
    assert "not allowed" in p.stdout or "ConnectionReset" in p.stderr or "BrokenPipe" in p.stderr, p
    assert '"ok":true' not in p.stdout
    wait_for("the refusal in the log", lambda: '<4>event=auth_failed src_ip=- user="uid:65534" sender="" '
             'queue="" reason="control socket: gid 65534, pid ' in d.log())


def test_the_sample_is_valid_with_and_without_its_comments(r):
    """Also what stands there to be uncommented; one of the two ways to Slack at a time."""
    with open(os.path.join(rig.SOURCE, "conf", "bot-operator.conf")) as f:
        sample = f.read()
    everything = re.sub(r"(?m)^#(?=\[|[A-Z]\w*=)", "", sample)
    r.write("spool-keys", "a key of a sender\n")
    for ways in (sample, re.sub(r"(?m)^\w*WebhookFile=.*\n", "", everything),
                 re.sub(r"(?m)^(TokenFile|\w+Channel)=.*\n", "", everything)):
        conf = r.write("sample.conf", ways)
        p = subprocess.run([os.path.join(rig.BUILD, "botctl"), "check-config", conf], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, universal_newlines=True,
                           env=dict(os.environ, CREDENTIALS_DIRECTORY=r.dir))
        assert p.returncode == 0, (ways, p.stdout)
    assert everything.count("[Alert ") == 4 and "[Slack]" in everything and everything.count("[Kuma ") == 2, everything


if __name__ == "__main__":
    rig.main(globals())
