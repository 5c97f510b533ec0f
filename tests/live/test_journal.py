"""What journalctl shows: one line an event, with fields to search by.

A real journald in a mount namespace of its own, with a private /run; no
systemd is needed as PID 1.
"""
import json
import os
import shutil
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
from rig import wait_for  # noqa: E402

JOURNALD = "/lib/systemd/systemd-journald"


def inside(folder):
    """In the namespace: prints the daemon's entries as JSON lines."""
    r = rig.Rig("journal")
    failed = True
    try:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
        rig.Process(r, "journald", [JOURNALD])
        wait_for("journald", lambda: os.path.exists("/run/systemd/journal/stdout"))
        conf = r.write("j.conf", "[Operator]\nControl=%s/j.sock\n[Pool work]\nCommand=%s\n[Queue jobs]\nType=spool\n"
                       "Path=%s/spool\nMaxAttempts=1\n" % (r.dir, r.write("h.sh", "#!/bin/sh\necho sorry >&2\nexit 69\n",
                                                                         0o755), r.dir))
        with socket.socket(socket.AF_UNIX) as s:
            s.connect("/run/systemd/journal/stdout")
            s.sendall(b"bot-operator\n\n6\n1\n0\n0\n0\n")
            st = os.fstat(s.fileno())
            p = subprocess.Popen([os.path.join(rig.BUILD, "bot-operatord"), "--config", conf], stderr=s.fileno(),
                                 stdout=s.fileno(), env=dict(os.environ, JOURNAL_STREAM="%d:%d" % (st.st_dev, st.st_ino)))
            wait_for("the spool", lambda: os.path.isdir(os.path.join(r.dir, "spool", "new")))
            os.makedirs(os.path.join(r.dir, "spool", "tmp"), exist_ok=True)
            with open(os.path.join(r.dir, "spool", "tmp", "first"), "w") as f:
                f.write("secret body")
            os.rename(os.path.join(r.dir, "spool", "tmp", "first"), os.path.join(r.dir, "spool", "new", "first"))
            wait_for("the dead letter", lambda: os.path.exists(os.path.join(r.dir, "spool", "dead", "first")))
            p.terminate()
            p.wait(rig.DEADLINE)

        def entries():
            out = subprocess.run(["journalctl", "-D", "/run/log/journal", "-o", "json", "--no-pager",
                                  "SYSLOG_IDENTIFIER=bot-operator"], stdout=subprocess.PIPE).stdout.decode()
            return out if "drained" in out else None
        with open(os.path.join(folder, "entries"), "w") as f:
            f.write(wait_for("the last entry", entries))
        failed = False
    finally:
        r.close(failed)


def test_journal_fields(r):
    if os.geteuid() != 0 or not shutil.which("unshare"):
        raise rig.Skip("needs root and unshare(1) for a private /run")
    if not os.access(JOURNALD, os.X_OK) or not shutil.which("journalctl"):
        raise rig.Skip("systemd-journald is not installed")
    if subprocess.run(["unshare", "-m", "--propagation", "private", "true"]).returncode != 0:
        raise rig.Skip("mount namespaces are not permitted here")
    p = subprocess.run(["unshare", "-m", "--propagation", "private", sys.executable, os.path.abspath(__file__),
                        "--inside", r.dir], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
                       timeout=120)
    assert p.returncode == 0, p.stdout
    with open(os.path.join(r.dir, "entries")) as f:
        entries = [json.loads(line) for line in f]
    dead = [e for e in entries if "dead letters" in e["MESSAGE"]]
    assert len(dead) == 1, [e["MESSAGE"] for e in entries]
    e = dead[0]
    assert e["BOT_QUEUE"] == "jobs" and e["BOT_MESSAGE"] == "first" and e["BOT_ATTEMPT"] == "1", e
    assert e["BOT_ERROR_TYPE"] == "external_api" and e["PRIORITY"] == "4", e
    assert e["CODE_FILE"].endswith("retry.c") and e["CODE_FUNC"] and int(e["CODE_LINE"]) > 0, e
    said = [e for e in entries if e["MESSAGE"] == "sorry"]
    assert len(said) == 1, [e["MESSAGE"] for e in entries]
    assert said[0]["BOT_POOL"] == "work" and said[0]["BOT_MESSAGE"] == "first" and int(said[0]["BOT_WORKER"]) > 1
    assert not [e for e in entries if "secret body" in str(e)], "a body in the log"
    assert not [e for e in entries if e["MESSAGE"].startswith("<")], "a prefix that journald should not see"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2])
    else:
        rig.main(globals())
