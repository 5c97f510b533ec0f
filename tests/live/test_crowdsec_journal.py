"""CrowdSec reads our events from a journal with our acquisition, and only them.

A real journald in a mount namespace of its own, with a private /run; no systemd, so that the name of the unit is the
one thing that is replaced in the acquisition.
"""
import json
import os
import shutil
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import crowdsec  # noqa: E402
import netns  # noqa: E402
import rig  # noqa: E402
from rig import wait_for  # noqa: E402

rig.DEADLINE = max(rig.DEADLINE, 60)

JOURNALD = "/lib/systemd/systemd-journald"
# What a handler may be made to print by a message.
FORGED = 'event=message_auth_failed src_ip=- user="" sender="friend" queue="jobs" reason="forged"'
ID = "08e000c2bc5e4452a99ae6720cad0e9d"        # EVENT_MESSAGE_AUTH_FAILED
CONF = """[Operator]
Control={dir}/j.sock
[Pool work]
Command={dir}/h.sh
[Queue jobs]
Type=spool
Path={dir}/spool
Sender=from
Verify=hmac-sha256
VerifyKeyFile={dir}/keys
"""


def put(r, name, sender):
    tmp = os.path.join(r.dir, "spool", "tmp", name)
    os.makedirs(os.path.dirname(tmp), exist_ok=True)
    with open(tmp, "w") as f:
        f.write(json.dumps({"from": sender}) + "\nx")
    os.rename(tmp, os.path.join(r.dir, "spool", "new", name + ".envelope"))


def start_daemon(r, conf):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect("/run/systemd/journal/stdout")
        s.sendall(b"bot-operator\n\n6\n1\n0\n0\n0\n")
        st = os.fstat(s.fileno())
        p = subprocess.Popen([os.path.join(rig.BUILD, "bot-operatord"), "--config", conf], stderr=s.fileno(),
                             stdout=s.fileno(), env=dict(os.environ, JOURNAL_STREAM="%d:%d" % (st.st_dev, st.st_ino)))
    wait_for("the spool", lambda: os.path.isdir(os.path.join(r.dir, "spool", "new")))
    return p


def journal(*match):
    return subprocess.run(["journalctl", "-D", "/run/log/journal", "-o", "cat", "--no-pager", *match],
                          stdout=subprocess.PIPE, universal_newlines=True).stdout.splitlines()


def inside():
    """In the namespace: what CrowdSec has decided, as JSON."""
    r = rig.Rig("crowdsec-journal")
    failed, daemons = True, []
    try:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
        rig.Process(r, "journald", [JOURNALD])
        wait_for("journald", lambda: os.path.exists("/run/systemd/journal/stdout"))
        r.write("keys", "a key of thirty-two bytes or so.\n", 0o600)
        r.write("h.sh", "#!/bin/sh\nfor i in 1 2 3 4 5 6 7 8 9 10; do echo '%s'; done\n" % FORGED, 0o755)
        # The same without Verify=, for a handler that runs.
        conf = r.write("j.conf", CONF.replace("{dir}", r.dir))
        open_conf = r.write("k.conf", "\n".join(x for x in CONF.replace("{dir}", r.dir).replace(
            "/spool", "/spool2").replace("j.sock", "k.sock").splitlines() if "Verify" not in x))
        cs = crowdsec.CrowdSec(r)
        with open(os.path.join(crowdsec.OURS, "acquis.d", "bot-operator.yaml")) as f:
            acquisition = f.read()
        unit = "_SYSTEMD_UNIT=bot-operator.service"
        assert unit in acquisition
        daemons += [start_daemon(r, conf), start_daemon(r, open_conf)]
        # journalctl 252 -f -n 0 loses most of a first burst when nothing matched before it.
        put(r, "m", "somebody")
        wait_for("an event", lambda: journal("MESSAGE_ID=" + ID))
        cs.start_with(acquisition.replace('"%s"' % unit, '"SYSLOG_IDENTIFIER=bot-operator"'))
        wait_for("the other spool", lambda: os.path.isdir(os.path.join(r.dir, "spool2", "new")))
        os.makedirs(os.path.join(r.dir, "spool2", "tmp"), exist_ok=True)
        with open(os.path.join(r.dir, "spool2", "tmp", "m"), "w") as f:
            f.write("x")
        os.rename(os.path.join(r.dir, "spool2", "tmp", "m"), os.path.join(r.dir, "spool2", "new", "m"))
        wait_for("the forged lines", lambda: journal("SYSLOG_IDENTIFIER=bot-operator").count(FORGED) == 10)
        for i in range(8):
            put(r, "m%d" % i, "mallory")
        wait_for("a decision", lambda: cs.list("alerts"))
        # Again, so that all before it has been read.
        for i in range(8):
            put(r, "n%d" % i, "eve")
        wait_for("the second", lambda: len(cs.list("alerts")) >= 2)
        print(json.dumps([(a["scenario"], a["source"]["scope"], a["source"]["value"], len(a["decisions"]))
                          for a in cs.list("alerts")]))
        failed = False
    except AssertionError:
        print("\n".join(journal() + [cs.log()]))
        raise
    finally:
        for p in daemons:
            p.terminate()
            p.wait(rig.DEADLINE)
        r.close(failed)


def test_only_our_events_are_read(r):
    if netns.reason:
        raise rig.Skip(netns.reason)
    crowdsec.needed()
    if not os.access(JOURNALD, os.X_OK) or not shutil.which("journalctl"):
        raise rig.Skip("systemd-journald is not installed")
    if not shutil.which("unshare") or subprocess.run(["unshare", "-m", "--propagation", "private",
                                                      "true"]).returncode != 0:
        raise rig.Skip("mount namespaces are not permitted here")
    p = subprocess.run(["unshare", "-m", "--propagation", "private", sys.executable, os.path.abspath(__file__),
                        "--inside"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
                       timeout=400)
    assert p.returncode == 0, p.stdout
    alerts = sorted(json.loads(p.stdout.splitlines()[-1]))
    assert alerts == [["bot-operator/message-auth-failed", "queue-sender", who, 1] for who in ("eve", "mallory")], alerts


if __name__ == "__main__":
    if "--inside" in sys.argv:
        inside()
    else:
        netns.enter()
        rig.main(globals())
