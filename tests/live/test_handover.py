"""Sockets that systemd opened (LISTEN_FDS): used, and a mistake is named."""
import contextlib
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402

WORK = """
[Operator]
Control={dir}/test.sock
%s
[Pool work]
Command=/bin/true
[Queue jobs]
Type=spool
Path={dir}/spool
"""

# What systemd does between fork and exec: the sockets from 3 on, and the
# variables, of which LISTEN_PID is the process that becomes the daemon.
LAUNCHER = """
import os, sys
names, fds = sys.argv[1], [int(x) for x in sys.argv[2].split(",")]
held = [os.dup(fd) for fd in fds]
high = [os.dup2(fd, 100 + i) for i, fd in enumerate(held)]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=names)
os.execv(sys.argv[3], sys.argv[3:])
"""


def launcher(names, sockets):
    return [sys.executable, "-c", LAUNCHER, names, ",".join(str(s.fileno()) for s in sockets)]


@contextlib.contextmanager
def listening(family=socket.AF_INET, address=("127.0.0.1", 0)):
    with socket.socket(family) as s:
        s.bind(address)
        s.listen()
        yield s


def port_of(s):
    return s.getsockname()[1]


def start(r, text, names, *sockets, **kw):
    return r.daemon(text, launcher=launcher(names, sockets), pass_fds=[s.fileno() for s in sockets], **kw)


def refused(r, names, *sockets):
    d = start(r, WORK % "", names, *sockets, wait=None)
    assert d.wait() == 1, d.log()
    r.expect_log("cannot start: .*systemd passed")
    return d.log()


def test_both_sockets_are_used(r):
    with listening() as status, listening(socket.AF_UNIX, r.path("test.sock")) as control:
        d = start(r, WORK % ("Status=127.0.0.1:%d" % port_of(status)), "status:control", status, control)
        assert d.base.endswith(":%d" % port_of(status)), d.base
        assert "jobs" in d.botctl("status").stdout
        # Workers know nothing of them.
        assert "systemd passed" not in d.log()
        before = os.stat(r.path("test.sock")).st_ino
        assert d.stop() == 0
        # It is systemd's file: the next start is served by the same socket.
        assert os.stat(r.path("test.sock")).st_ino == before
        d = start(r, WORK % "", "status:control", status, control)
        assert d.get("/healthz")[0] == 200


def test_connections_wait_while_there_is_no_daemon(r):
    with listening() as status, socket.create_connection(("127.0.0.1", port_of(status))) as early:
        early.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        early.settimeout(60)
        start(r, WORK % "", "status", status)
        assert early.recv(100).startswith(b"HTTP/1.1 200"), "asked before the start"


def test_what_is_not_passed_is_opened(r):
    with listening(socket.AF_UNIX, r.path("test.sock")) as control:
        d = start(r, WORK % "Status=127.0.0.1:0", "control", control)
        assert d.get("/readyz")[0] == 200
    with listening() as status:
        d = start(r, (WORK % "").replace("test.sock", "own.sock").replace("/spool", "/spool2"), "status", status,
                  name="own")
        assert "jobs" in d.botctl("status").stdout


def test_another_address_than_configured_is_said(r):
    r.expect_log("make ListenStream=")
    with listening() as status, listening(socket.AF_UNIX, r.path("other.sock")) as control:
        d = start(r, WORK % "Status=127.0.0.1:1", "status:control", status, control)
        assert "Status=127.0.0.1:1, but systemd passed a socket that listens on 127.0.0.1:%d" % port_of(status) \
            in d.log(), d.log()
        assert "Control=%s, but systemd passed a socket that listens on %s" % (r.path("test.sock"),
                                                                             r.path("other.sock")) in d.log(), d.log()
        assert d.get("/healthz")[0] == 200


def test_port_0_and_localhost_fit(r):
    for i, text in enumerate(("127.0.0.1:0", "localhost:%d")):
        with listening() as status:
            d = start(r, (WORK % ("Status=" + text.replace("%d", str(port_of(status))))).replace("/spool", "/s%d" % i),
                      "status", status, name="n%d" % i)
            assert d.get("/healthz")[0] == 200
            d.stop()


def test_mistakes_are_named(r):
    with listening() as one, listening() as two, listening(socket.AF_UNIX, r.path("x.sock")) as unix:
        assert "named \"bot-operator.socket\"" in refused(r, "bot-operator.socket", one)
        assert "FileDescriptorName=status" in refused(r, "stauts", one)
        assert "two sockets named \"status\"" in refused(r, "status:status", one, two)
        assert "no listening Unix stream socket" in refused(r, "control", one)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            assert "no listening stream socket" in refused(r, "status", udp)
        assert "named \"extra\"" in refused(r, "control:extra", unix, one)


def test_variables_of_another_process_mean_nothing(r):
    d = r.daemon(WORK % "Status=127.0.0.1:0", env={"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "junk"})
    assert d.get("/healthz")[0] == 200


def test_workers_see_neither_sockets_nor_variables(r):
    handler = r.write("handler.sh", "#!/bin/sh\n(env; ls -l /proc/self/fd) >%s.tmp\nmv %s.tmp %s\n" %
                      ((r.path("seen"),) * 3), 0o755)
    with listening() as status, listening(socket.AF_UNIX, r.path("test.sock")) as control:
        d = start(r, (WORK % "").replace("/bin/true", handler), "status:control", status, control)
        d.botctl("enqueue", "jobs", "--body", "x")
        rig.wait_for("the handler", lambda: os.path.exists(r.path("seen")))
        with open(r.path("seen")) as f:
            seen = f.read()
        assert "LISTEN_" not in seen, seen
        inodes = ["socket:[%d]" % os.fstat(s.fileno()).st_ino for s in (status, control)]
        assert not any(i in seen for i in inodes), seen


if __name__ == "__main__":
    rig.main(globals())
