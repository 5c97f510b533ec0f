"""The whole way with CrowdSec itself: the daemon's log in, an alert and a decision, the ban back in the daemon."""
import contextlib
import hashlib
import hmac
import json
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import crowdsec  # noqa: E402
import netns  # noqa: E402
import rig  # noqa: E402
from rig import wait_for  # noqa: E402

rig.DEADLINE = max(rig.DEADLINE, 60)

SIGNING = "a key of thirty-two bytes or so."
TOKEN = "s3cr3tstatustoken"
WORLD = """
[Operator]
Status=0.0.0.0:0
Control={dir}/test.sock
StatusTokenFile={dir}/token
[Pool work]
Command={dir}/handler.sh
Workers=1
[Queue jobs]
Type=spool
Path={dir}/spool
BacklogInterval=100ms
Sender=from
Verify=hmac-sha256
VerifyKeyFile={dir}/signing
VerifyWith=from
[Screen words]
Pattern=DROP TABLE
Action=dead-letter
[CrowdSec]
Url=%s
Interval=1s
"""


def world(r, section, **kw):
    """CrowdSec, not started, and a daemon that asks it."""
    if netns.reason:
        raise rig.Skip(netns.reason)
    cs = crowdsec.CrowdSec(r)
    r.expect_log("crowdsec|event=|is banned|more events")
    r.write("key", cs.bouncer("operator") + "\n", 0o600)
    r.write("token", TOKEN + "\n", 0o600)
    r.write("signing", SIGNING + "\n", 0o600)
    r.write("handler.sh", '#!/bin/sh\necho "$BOT_MESSAGE_ID" >> %s/runs\n' % r.dir, 0o755)
    d = r.daemon(WORLD % cs.base + section, wait=False)
    base = wait_for("the status address", d._find_base)
    d.base = base.replace("0.0.0.0", "127.0.0.1")
    d.port = int(base.rpartition(":")[2])
    d.status = lambda: json.loads(d.botctl("status", "--json").stdout)
    wait_for("the daemon", lambda: d.get("/healthz")[0] == 200)
    return cs, d


def ask(source, port, token="wrong"):
    with contextlib.closing(netns.connect(source, port)) as s:
        try:
            s.sendall(("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"
                       "Connection: close\r\n\r\n" % token).encode())
            return s.makefile("rb").readline().decode()[9:12]
        except (ConnectionResetError, BrokenPipeError):
            return ""


def put(r, name, sender, body="x", good=True):
    key = SIGNING if good else "another key of thirty-two bytes."
    sig = hmac.new(key.encode(), ("from=%s\n%s" % (sender, body)).encode(), hashlib.sha256).hexdigest()
    tmp = r.path("spool", "tmp", name)
    with open(tmp, "w") as f:
        f.write(json.dumps({"from": sender, "signature": sig}) + "\n" + body)
    os.rename(tmp, r.path("spool", "new", name + ".envelope"))


def runs(r):
    try:
        with open(os.path.join(r.dir, "runs")) as f:
            return f.read().split("\n")[:-1]
    except OSError:
        return []


def wait_decisions(d, **want):
    want = {k.replace("_", "-"): v for k, v in want.items()}

    def check():
        c = d.status()["sinks"]["crowdsec"]
        return c["connected"] and all(c["decisions"][k] == v for k, v in want.items())
    wait_for("decisions %s: %s" % (want, d.status()["sinks"]["crowdsec"]), check)



# ---- the whole way ----

def test_an_address_is_banned_and_let_in_again(r):
    cs, d = world(r, "ApiKeyFile={dir}/key\n")
    # It comes later than we do.
    wait_for("a failure", lambda: d.status()["sinks"]["crowdsec"]["error"])
    cs.start([(d.log_path, "bot-operator")])
    wait_decisions(d, ip=0)
    for i in range(8):
        assert ask("192.0.2.10", d.port) == "401"
    wait_decisions(d, ip=1)
    assert ask("192.0.2.10", d.port) == ""
    assert ask("198.51.100.10", d.port, TOKEN) == "200"
    alert, = cs.list("alerts")
    assert alert["scenario"] == "bot-operator/auth-failed" and alert["source"]["value"] == "192.0.2.10", alert
    decision, = alert["decisions"]
    assert decision["type"] == "ban" and decision["scope"] == "Ip", decision
    # By hand: a network, and an end to the ban.
    cs.cscli("decisions", "add", "--range", "198.51.100.0/24", "--duration", "1h")
    wait_decisions(d, range=1)
    assert ask("198.51.100.10", d.port, TOKEN) == ""
    cs.cscli("decisions", "delete", "--ip", "192.0.2.10")
    wait_decisions(d, ip=0)
    assert ask("192.0.2.10", d.port, TOKEN) == "200"
    # CrowdSec ends and comes again; meanwhile all stays as it is.
    cs.stop()
    wait_for("a failure", lambda: d.status()["sinks"]["crowdsec"]["error"])
    assert ask("198.51.100.10", d.port, TOKEN) == ""
    cs.cscli("decisions", "delete", "--range", "198.51.100.0/24", check=False)
    cs.start([(d.log_path, "bot-operator")])
    cs.cscli("decisions", "delete", "--all")
    wait_decisions(d, range=0)
    assert ask("198.51.100.10", d.port, TOKEN) == "200"


def test_decisions_about_the_same(r):
    """Two decisions about one address, and the longer one is deleted."""
    cs, d = world(r, "ApiKeyFile={dir}/key\n")
    cs.start([(d.log_path, "bot-operator")])
    cs.cscli("decisions", "add", "--ip", "192.0.2.10", "--duration", "1h")
    cs.cscli("decisions", "add", "--ip", "192.0.2.10", "--duration", "2h")
    wait_decisions(d, ip=2)
    longer = max(cs.list("alerts"), key=lambda a: a["id"])["decisions"][0]["id"]
    cs.cscli("decisions", "delete", "--id", str(longer))
    wait_decisions(d, ip=1)
    assert ask("192.0.2.10", d.port) == ""
    cs.cscli("decisions", "delete", "--all")
    wait_decisions(d, ip=0)
    assert ask("192.0.2.10", d.port, TOKEN) == "200"


def test_a_sender_is_banned(r):
    cs, d = world(r, "ApiKeyFile={dir}/key\n")
    cs.start([(d.log_path, "bot-operator")])
    wait_decisions(d, queue_sender=0)
    put(r, "m0", "mallory")
    wait_for("a good message", lambda: len(runs(r)) == 1)
    for i in range(8):
        put(r, "bad%d" % i, "mallory", good=False)
    for i in range(8):
        put(r, "words%d" % i, "eve", body="'; DROP TABLE x")
    wait_decisions(d, queue_sender=2)
    # However good they are.
    put(r, "m1", "mallory")
    put(r, "m2", "eve")
    put(r, "m3", "shop")
    q = d.wait_queue("jobs", dead=18, done=2)
    assert len(runs(r)) == 2
    assert q["errors"] == {"unauthenticated": 8, "suspicious": 8, "banned": 2}, q["errors"]
    alerts = {a["source"]["value"]: a for a in cs.list("alerts")}
    assert alerts["mallory"]["scenario"] == "bot-operator/message-auth-failed", alerts
    assert alerts["eve"]["scenario"] == "bot-operator/message-suspicious", alerts
    assert all(a["source"]["scope"] == a["decisions"][0]["scope"] == "queue-sender" for a in alerts.values()), alerts
    cs.cscli("decisions", "delete", "--value", "mallory")
    wait_decisions(d, queue_sender=1)
    put(r, "m4", "mallory")
    wait_for("mallory's", lambda: len(runs(r)) == 3)


def test_alerts_of_a_machine(r):
    """CrowdSec reads no log of ours: the daemon tells it."""
    cs, d = world(r, "ApiKeyFile={dir}/key\nReport=yes\nMachineId=operator\nMachinePasswordFile={dir}/password\n")
    cs.cscli("machines", "add", "operator", "--password", "s3cr3t machine", "--force", "-f", cs.path("operator.yaml"))
    r.write("password", "s3cr3t machine", 0o600)
    r.write("empty.log", "")
    cs.start([(r.path("empty.log"), "bot-operator")])
    wait_decisions(d, ip=0)
    for i in range(5):
        assert ask("192.0.2.10", d.port) == "401"
        put(r, "bad%d" % i, "mallory", good=False)
    wait_decisions(d, ip=1, queue_sender=1)
    assert ask("192.0.2.10", d.port) == ""
    alerts = {a["source"]["value"]: a for a in cs.list("alerts")}
    assert sorted(alerts) == ["192.0.2.10", "mallory"], alerts
    a = alerts["192.0.2.10"]
    assert a["scenario"] == "bot-operator/auth-failed" and a["events_count"] == 5, a
    assert a["machine_id"] == "operator" and a["decisions"][0]["type"] == "ban", a
    shown = cs.cscli("alerts", "inspect", str(a["id"]), "-d")
    assert "192.0.2.10" in shown and "auth_failed" in shown, shown
    assert alerts["mallory"]["source"]["scope"] == "queue-sender", alerts["mallory"]


if __name__ == "__main__":
    netns.enter()
    socket.setdefaulttimeout(60)
    rig.main(globals(), jobs=2)
