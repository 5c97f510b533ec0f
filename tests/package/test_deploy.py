"""deploy, rollback and failover in a booted machine, under load."""
import os
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import packages  # noqa: E402
import rig  # noqa: E402
import test_rpm  # noqa: E402
from packages import Machine  # noqa: E402

WHERE = "/usr/libexec/bot-operator/"
UNIT = "bot-operator.service"
SCRIPTS = "deploy", "rollback", "failover"

# What comes to Slack, one JSON document a line. Nothing gets out of the machine.
SINK = """import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open("/srv/slack.out", "ab") as f:
            f.write(body + b"\\n")
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 9999), H).serve_forever()
"""
SLACK = """
[Slack]
WebhookFile=/etc/bot-operator/hook
"""

# A version that never gets ready: the daemon starts, and its work does not.
BAD = "#!/bin/sh\nexec sleep 1d\n"
# One that refuses the configuration: systemd does not try again.
REFUSES = "#!/bin/sh\nexit 78\n"
# And one that falls after it was ready.
FALLS = """#!/bin/sh
/usr/sbin/bot-operatord.real "$@" & pid=$!
trap 'kill $pid; wait $pid' TERM
sleep 4
kill -9 $pid
exit 1
"""


class World:
    """A machine with version 1 installed and a producer that goes on."""

    def __init__(self, name):
        self.r = rig.Rig(name)
        self.b = Machine(name)

    def __enter__(self):
        self.b.__enter__()
        b = self.b
        self.files = {v: self.version(v) for v in ("1", "2")}
        b.publish(self.files["1"])
        b.apt("install", "bot-operator")
        b.write("/srv/sink.py", SINK)
        b.write("/etc/bot-operator/hook", "http://127.0.0.1:9999/services/x\n", 0o644)
        b.write("/etc/bot-operator/bot-operator.conf.d/20-slack.conf", SLACK)
        b.run("systemd-run -q --unit=sink python3 /srv/sink.py")
        return self

    def __exit__(self, *exc):
        try:
            self.b.__exit__(*exc)
        finally:
            self.r.close(bool(exc[0]))

    def version(self, v, sbin=None):
        deb, = packages.files("deb", "bot-operator_*.deb")
        out = self.r.path("bot-operator_0.1.0-%s_amd64.deb" % v)
        packages.raised(deb, out, "0.1.0-%s" % v)
        if sbin:
            work = out + ".d"
            subprocess.run(["dpkg-deb", "-R", out, work], check=True)
            daemon = os.path.join(work, "usr/sbin/bot-operatord")
            os.rename(daemon, daemon + ".real")
            with open(daemon, "w") as f:
                f.write(sbin)
            os.chmod(daemon, 0o755)
            subprocess.run(["dpkg-deb", "--root-owner-group", "-b", work, out], check=True, stdout=subprocess.DEVNULL)
        return out

    def publish(self, *debs):
        # apt tells one list from another by the second.
        time.sleep(1.1)
        self.b.publish(*debs)

    def withdraw(self, version):
        """The repository does not have it any more."""
        name = "bot-operator_0.1.0-%s_amd64.deb" % version
        os.remove(os.path.join(self.b.dir, "debs", name))
        os.remove(self.b.path("/srv/debs/" + name))
        self.publish()

    def script(self, name, *args, **kw):
        return self.b.run([WHERE + name, *args], timeout=300, **kw)

    def installed(self):
        return self.b.run("dpkg-query -W -f '${Version}' bot-operator").stdout

    def posts(self):
        try:
            return self.b.read("/srv/slack.out")
        except OSError:
            return ""

    def load(self, instance="bot-operator"):
        return Load(self.b, instance)

    def snapshot(self):
        """What a dry run must not change."""
        return self.b.run("dpkg-query -W bot-operator; systemctl show 'bot-operator*.service' -p MainPID,ActiveState,"
                          "UnitFileState; ls -lR /var/lib/bot-operator-deploy /etc/systemd/system", check=False).stdout


class Load:
    """A few messages now and then, until the end."""

    def __init__(self, b, instance):
        self.b, self.instance, self.n, self.go = b, instance, 0, True
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while self.go:
            self.b.add(range(self.n, self.n + 50), self.instance)
            self.n += 50
            time.sleep(0.1)

    def __enter__(self):
        self.thread.start()
        self.b.wait_for("some work", lambda: len(self.b.done(self.instance)) > 20)
        return self

    def __exit__(self, *exc):
        self.go = False
        self.thread.join()


def all_once(b, load, instance="bot-operator", also=None):
    """Each message was handled, none twice: every stop was in order."""
    want = set(range(load.n))

    def done():
        return b.done(instance) + (b.done(also) if also else [])
    b.wait_for("all of %d messages" % load.n, lambda: set(done()) >= want, 120)
    assert sorted(done()) == sorted(want), "%d too many" % (len(done()) - len(want))


def test_deploy_under_load_and_back():
    with World("deploy") as w:
        b = w.b
        b.jobs()
        b.wait_for("ok", lambda: b.status().get("status") == "ok")
        pid = b.main_pid()
        p = w.script("deploy", "0.1.0-7", check=False)
        assert p.returncode == 3 and "there is no version 0.1.0-7; there are: 0.1.0-1" in p.stdout, p.stdout
        w.publish(w.files["2"])
        before = w.snapshot()
        p = w.script("deploy", "--dry-run", "0.1.0-2")
        assert "would run: apt-get" in p.stdout and "bot-operator=0.1.0-2" in p.stdout, p.stdout
        assert w.snapshot() == before and b.main_pid() == pid, "a dry run changed something"
        with w.load() as load:
            p = w.script("deploy", "--settle", "3", "0.1.0-2")
            assert w.installed() == "0.1.0-2" and b.main_pid() != pid, p.stdout
            b.wait_for("the post", lambda: "bot-operator 0.1.0-2 is deployed" in w.posts())
            assert "INFO" in w.posts()
            pid = b.main_pid()
            # Once more: it is there already.
            p = w.script("deploy", "0.1.0-2")
            assert "installed already" in p.stdout and b.main_pid() == pid
            before = w.snapshot()
            p = w.script("rollback", "--dry-run", "--reason", "just looking")
            assert "bot-operator=0.1.0-1" in p.stdout and w.snapshot() == before, p.stdout
            p = w.script("rollback", "--reason", "slower than before")
            assert w.installed() == "0.1.0-1" and b.main_pid() != pid, p.stdout
            b.wait_for("the post", lambda: "rolled back from 0.1.0-2 to 0.1.0-1: slower than before" in w.posts())
            assert "CRITICAL" in w.posts()
            pid = b.main_pid()
            p = w.script("rollback")
            assert "rolled back already" in p.stdout and b.main_pid() == pid, p.stdout
        all_once(b, load)
        assert b.show(UNIT, "NRestarts") == "0"


def test_a_version_that_does_not_work_is_taken_back():
    with World("bad") as w:
        b = w.b
        b.jobs()
        b.wait_for("ok", lambda: b.status().get("status") == "ok")
        b.write("/etc/systemd/system/bot-operator.service.d/x.conf", "[Service]\nTimeoutStartSec=5s\n")
        b.run("systemctl daemon-reload")
        # The repository has the newest only: the old one was kept.
        w.publish(w.version("3", BAD), w.version("4", FALLS), w.version("5", REFUSES))
        w.withdraw("1")
        b.put(w.files["1"], "/var/cache/apt/archives/bot-operator_0.1.0-1_amd64.deb")
        with w.load() as load:
            p = w.script("deploy", "--timeout", "8", "0.1.0-3", check=False)
            assert p.returncode == 4, p.stdout
            assert w.installed() == "0.1.0-1" and b.status()["status"] == "ok", p.stdout
            b.wait_for("the post", lambda: "deploy of bot-operator 0.1.0-3" in w.posts())
            assert "0.1.0-1 is back and works" in w.posts() and "CRITICAL" in w.posts(), w.posts()
            p = w.script("deploy", "--timeout", "20", "--settle", "15", "0.1.0-4", check=False)
            assert p.returncode == 4 and w.installed() == "0.1.0-1", p.stdout
            # What has failed for good is not waited for.
            begin = time.monotonic()
            p = w.script("deploy", "--timeout", "290", "0.1.0-5", check=False)
            assert p.returncode == 4 and w.installed() == "0.1.0-1", p.stdout
            assert "bot-operator.service has failed: exit-code" in w.posts(), w.posts()
            assert time.monotonic() - begin < 200
            p = w.script("rollback")
            assert "rolled back already" in p.stdout, p.stdout
        b.wait_for("all", lambda: set(b.done()) >= set(range(load.n)), 120)
        # Version 4 was killed in the middle: some came twice, none was lost.
        assert set(b.done()) == set(range(load.n))


def test_no_way_back_no_deploy():
    with World("noway") as w:
        b = w.b
        w.publish(w.files["2"])
        w.withdraw("1")
        p = w.script("deploy", "0.1.0-2", check=False)
        assert p.returncode == 1 and "no way back" in p.stdout and w.installed() == "0.1.0-1", p.stdout
        p = w.script("deploy", "--no-rollback", "--settle", "1", "0.1.0-2")
        assert w.installed() == "0.1.0-2", p.stdout
        p = w.script("rollback", check=False)
        assert p.returncode == 3 and "cannot be had" in p.stdout, p.stdout


def backup_status(b, client):
    return b.run("botctl --backup %s --json wait ready --timeout 0s" % client, check=False)


def test_failover_under_load_loses_nothing():
    with World("failover") as w:
        b = w.b
        b.jobs("shop", restart=False)
        text = b.read("/etc/bot-operator/shop.conf").replace("%S/jobs.out", "/var/spool/bot-operator/jobs.out")
        b.write("/etc/bot-operator/shop.conf", "[Operator]\nStatus=127.0.0.1:8081\n" + SLACK + text)
        b.done = lambda instance="shop": [int(x) for x in b.run(
            "cat /var/spool/bot-operator/jobs.out", check=False).stdout.split() if x.isdigit()]
        b.run("systemctl enable --now bot-operator@shop")
        b.wait_for("ok", lambda: b.status("shop").get("status") == "ok")
        before = w.snapshot()
        p = w.script("failover", "--dry-run", "shop")
        assert "would run: systemctl start bot-operator-backup@shop" in p.stdout, p.stdout
        assert w.snapshot() == before
        p = w.script("failover", "nobody", check=False)
        assert p.returncode == 1 and "no /etc/bot-operator/nobody.conf" in p.stdout, p.stdout
        with w.load("shop") as load:
            p = w.script("failover", "--reason", "planned work", "shop")
            assert not b.active("bot-operator@shop") and b.active("bot-operator-backup@shop"), p.stdout
            assert b.run("systemctl is-enabled bot-operator@shop", check=False).stdout == "disabled\n"
            assert backup_status(b, "shop").returncode == 0
            b.wait_for("the post", lambda: "failover of shop from failover to failover" in w.posts())
            assert "planned work" in w.posts()
            pid = b.main_pid("bot-operator-backup@shop")
            p = w.script("failover", "shop")
            assert "makes progress already" in p.stdout and b.main_pid("bot-operator-backup@shop") == pid
            # An upgrade of the package leaves the promoted one promoted.
            b.run("systemctl restart bot-operator-backup@shop")
            b.run("botctl --backup shop wait progress --timeout 60s")
            n = len(b.done())
            b.wait_for("more work", lambda: len(b.done()) > n)
        all_once(b, load, "shop")
        # And it serves the status address now.
        assert b.run("python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:8081/readyz\").status)'"
                     ).stdout == "200\n"
        # Back: a stop forgets the promotion.
        b.run("systemctl stop bot-operator-backup@shop; systemctl enable --now bot-operator@shop")
        b.wait_for("ok", lambda: b.status("shop").get("status") == "ok")
        b.run("systemctl start bot-operator-backup@shop; botctl --backup shop wait standby")


def test_failover_by_ssh_and_what_keeps_it():
    with World("ssh") as w:
        b = w.b
        b.jobs("shop", restart=False)
        b.write("/etc/bot-operator/shop.conf", SLACK + b.read("/etc/bot-operator/shop.conf"))
        b.run("systemctl enable --now bot-operator@shop")
        b.wait_for("ok", lambda: b.status("shop").get("status") == "ok")
        # ssh that cannot get in, and one that does.
        b.write("/srv/no-ssh", "#!/bin/sh\necho 'no route to host' >&2\nexit 255\n", 0o755)
        b.write("/srv/ssh", "#!/bin/sh\necho \"$@\" >>/srv/ssh.out\nshift\nexec \"$@\"\n", 0o755)
        p = w.script("failover", "--primary", "elsewhere", "shop", check=False, env={"BOT_SSH": "/srv/no-ssh"})
        assert p.returncode == 1 and "--force" in p.stdout, p.stdout
        assert not b.active("bot-operator-backup@shop")
        # A standby that cannot start: the operator is left alone.
        b.write("/etc/systemd/system/bot-operator-backup@shop.service.d/x.conf", "[Service]\nExecStartPre=/bin/false\n")
        b.run("systemctl daemon-reload")
        p = w.script("failover", "--primary", "elsewhere", "shop", check=False, env={"BOT_SSH": "/srv/ssh"})
        assert p.returncode == 1 and "was not touched" in p.stdout and b.active("bot-operator@shop"), p.stdout
        b.run("rm -r /etc/systemd/system/bot-operator-backup@shop.service.d; systemctl daemon-reload; "
              "systemctl stop bot-operator-backup@shop; systemctl reset-failed")
        # The operator stands still: the standby is promoted, and cannot work.
        b.run("systemctl stop redis-server")
        p = w.script("failover", "--primary", "elsewhere", "--timeout", "5", "shop", check=False,
                     env={"BOT_SSH": "/srv/ssh"})
        assert p.returncode == 4 and "does not make progress" in p.stdout, p.stdout
        assert "elsewhere systemctl disable --now --quiet bot-operator@shop.service" in b.read("/srv/ssh.out")
        b.run("systemctl start redis-server")
        p = w.script("failover", "--primary", "elsewhere", "shop", env={"BOT_SSH": "/srv/ssh"})
        assert b.active("bot-operator-backup@shop"), p.stdout


def test_by_dnf():
    """The same by dnf, on a Debian userland: see test_rpm.py."""
    r = rig.Rig("dnf")
    try:
        ours = [x for x in packages.files("rpm") if not x.endswith(".src.rpm")]
        with test_rpm.RpmMachine("dnf") as b:
            b.publish()
            b.apt("install", *packages.libraries())
            b.serve(test_rpm.stub(r), *ours)
            b.dnf("install", "bot-operator")
            b.run("printf '[main]\\nclean_requirements_on_remove=False\\n' >/etc/dnf/dnf.conf; systemctl start bot-operator")
            b.jobs()
            b.wait_for("ok", lambda: b.status().get("status") == "ok")
            b.serve(test_rpm.later_version(r))

            def script(name, *args, **kw):
                return b.run([WHERE + name, *args], timeout=300, **kw)

            def installed():
                return b.run("rpm -q --qf %{VERSION}-%{RELEASE} bot-operator").stdout
            p = script("deploy", "0.1.0-7", check=False)
            assert p.returncode == 3 and "0.1.0-2 0.1.0-1" in p.stdout, p.stdout
            p = script("deploy", "--dry-run", "0.1.0-2")
            assert "would run: dnf" in p.stdout and installed() == "0.1.0-1", p.stdout
            with Load(b, "bot-operator") as load:
                p = script("deploy", "--settle", "1", "0.1.0-2")
                assert installed() == "0.1.0-2", p.stdout
                assert "nobody was told" in p.stdout, "there is no [Slack] here"
                p = script("rollback", "--reason", "just so")
                assert installed() == "0.1.0-1", p.stdout
                p = script("rollback")
                assert "rolled back already" in p.stdout, p.stdout
            all_once(b, load)
    finally:
        r.close(False)


def test_bad_use():
    with World("use") as w:
        for name in SCRIPTS:
            assert "Exit status:" in w.script(name, "--help").stdout
            assert w.script(name, "--bogus", check=False).returncode == 2
        for args in ((), ("a b",), ("1", "2"), ("--timeout", "soon", "1"), ("--timeout",)):
            assert w.script("deploy", *args, check=False).returncode == 2, args
        for args in ((), ("../x",), ("--primary", "-oProxyCommand=x", "shop")):
            assert w.script("failover", *args, check=False).returncode == 2, args
        assert w.b.run("setpriv --reuid nobody %sdeploy 1" % WHERE, check=False).returncode == 1
        p = w.b.popen("exec 9>/run/lock/bot-operator-ops; flock 9; echo held; cat", stdin=subprocess.PIPE,
                      stdout=subprocess.PIPE)
        assert p.stdout.readline() == b"held\n"
        q = w.script("deploy", "0.1.0-2", check=False)
        assert q.returncode == 1 and "another deploy" in q.stdout, q.stdout
        p.stdin.close()
        p.wait()


if __name__ == "__main__":
    rig.main(globals(), jobs=2)
