"""The units in a booted machine: what systemd does when things go wrong."""
import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
from packages import Machine  # noqa: E402

UNIT = "bot-operator.service"
SCORE = 2.0                     # of "systemd-analyze security", 10 is worst


def test_systemd_finds_nothing_wrong_and_the_walls_are_high():
    with Machine("verify") as b:
        b.install()
        units = b.run("cd /lib/systemd/system; ls bot-operator*").stdout.split()
        names = [u.replace("@.", "@x.") for u in units]
        assert "bot-operator-report-weekly@x.timer" in names, names
        said = b.run(["systemd-analyze", "verify", "--man=no", *names]).stdout
        assert not said, said
        for unit in UNIT, "bot-operator@x.service", "bot-operator-backup@x.service":
            out = b.run(["systemd-analyze", "security", "--no-pager", unit]).stdout
            score = float(re.search(r"exposure level for \S+: ([0-9.]+)", out).group(1))
            print("# %s: %.1f" % (unit, score))
            assert score <= SCORE, out
        assert b.run("systemd-tmpfiles --create bot-operator.conf; systemd-sysusers bot-operator.conf; "
                     "systemctl preset --dry-run bot-operator.service 2>&1; "
                     "systemctl is-enabled bot-operator-status.socket", check=False).stdout.endswith("disabled\n")
        # What the lines mean for workers.
        b.write("/srv/look.sh", """#!/bin/sh
{
	id -un
	touch /etc/x || echo no-etc
	touch /usr/x || echo no-usr
	ls /home && echo home
	touch /tmp/mine && echo tmp
	ls /dev/kmsg /dev/sda || echo no-devices
	touch "$STATE/x" && echo state
	unshare -U true || echo no-namespaces
	grep -E '^(NoNewPrivs|Seccomp|CapEff):' /proc/self/status
} 2>/dev/null
""", 0o755)
        b.write("/etc/bot-operator/bot-operator.conf.d/look.conf",
                "[Pool look]\nCommand=/srv/look.sh\nEnvironment=STATE=/var/lib/bot-operator\n"
                "[Queue look]\nType=spool\nPath=/var/spool/bot-operator/look\nPool=look\n")
        b.run("systemctl reload bot-operator")
        b.botctl("enqueue", "look", "--body", "x")
        b.wait_for("the look", lambda: "CapEff" in b.journal())
        lines = set(b.journal().splitlines())
        want = {"bot-operator", "no-etc", "no-usr", "tmp", "no-devices", "state", "no-namespaces", "NoNewPrivs:\t1",
                "Seccomp:\t2", "CapEff:\t0000000000000000"}
        assert want <= lines and "home" not in lines, want - lines


def test_a_reload_takes_what_is_good_and_refuses_what_is_broken():
    with Machine("reload") as b:
        b.install()
        pid = b.main_pid()
        b.jobs(restart=False)
        b.run("systemctl reload bot-operator")
        b.add(range(50))
        b.all_done(range(50))
        b.write("/etc/bot-operator/bot-operator.conf.d/20-bad.conf", "[Queue jobs]\nMaxAtempts=3\n")
        p = b.run("systemctl reload bot-operator", check=False)
        assert p.returncode != 0, "systemctl says nothing of a refused configuration"
        assert b.active("bot-operator") and b.main_pid() == pid
        b.wait_for("the journal", lambda: 'did you mean "MaxAttempts"?' in b.journal())
        explained = b.run("journalctl -q -x -u bot-operator --no-pager").stdout
        assert "Mend the file" in explained, "the catalog is not installed"
        b.add(range(50, 60))
        b.all_done(range(60))
        # It does not start with it either, and systemd does not try for ever.
        b.run("systemctl restart bot-operator", check=False)
        b.wait_for("it to give up", lambda: b.show(UNIT, "ActiveState") == "failed")
        assert b.show(UNIT, "ExecMainStatus", "NRestarts") == {"ExecMainStatus": "78", "NRestarts": "0"}
        b.run("rm /etc/bot-operator/bot-operator.conf.d/20-bad.conf; systemctl restart bot-operator")
        assert b.main_pid() != pid


def test_a_loop_that_stands_still_is_started_again():
    with Machine("watchdog") as b:
        b.install()
        b.write("/etc/systemd/system/bot-operator.service.d/test.conf", "[Service]\nWatchdogSec=2s\n")
        b.run("systemctl daemon-reload")
        b.jobs()
        numbers = range(500)
        b.add(numbers)
        b.wait_for("some work", lambda: len(b.done()) > 20)
        pid = b.main_pid()
        b.run("kill -STOP %d" % pid)
        b.wait_for("another", lambda: b.main_pid() not in (0, pid) and b.active(UNIT))
        assert int(b.show(UNIT, "NRestarts")) >= 1
        assert "Watchdog timeout" in b.journal()
        b.all_done(numbers)


def test_kill_9_loses_nothing():
    with Machine("killed") as b:
        b.install()
        b.jobs()
        numbers = range(3000)
        b.add(numbers)
        for most in 200, 800, 1500:
            b.wait_for("some work", lambda: len(b.done()) > most)
            pid = b.main_pid()
            b.run("kill -KILL %d" % pid)
            b.wait_for("another", lambda: b.main_pid() not in (0, pid) and b.active(UNIT))
        b.all_done(numbers)
        assert b.show(UNIT, "NRestarts") == "3"
        assert len(b.done()) >= len(numbers)


def test_a_stop_under_load_loses_nothing_and_runs_nothing_twice():
    with Machine("stopped") as b:
        b.install()
        b.jobs()
        with b.producing("bot-operator") as numbers:
            for most in 100, 400, 800:
                b.wait_for("some work", lambda: len(b.done()) > most)
                b.run("systemctl stop bot-operator")
                assert b.show(UNIT, "Result") == "success"
                b.run("pgrep -u bot-operator; test $? = 1")
                b.run("systemctl start bot-operator")
        b.all_done(numbers)
        assert len(b.done()) == len(numbers), "run twice"


def test_people_are_told_of_a_failure():
    with Machine("failure") as b:
        b.install()
        b.jobs("shop")
        b.write("/etc/systemd/system/bot-operator@shop.service.d/test.conf", "[Unit]\nStartLimitBurst=2\n")
        b.run("systemctl daemon-reload")
        failure = "bot-operator-failure@shop.service"
        unit, kills = "bot-operator@shop.service", 0
        while b.show(unit, "ActiveState") != "failed":
            b.wait_for("it to run", lambda: b.status("shop").get("status") == "ok")
            assert b.show(failure, "ExecMainStartTimestampMonotonic") == "0", "too early"
            assert kills < 5, "it is started for ever"
            kills += 1
            pid = b.main_pid(unit)
            b.run("kill -KILL %d" % pid)
            b.wait_for("what comes then", lambda: b.show(unit, "ActiveState") == "failed" or
                       b.main_pid(unit) not in (0, pid))
        assert kills > 1, "it was not started again"
        b.wait_for("the failure unit", lambda: b.show(failure, "ExecMainExitTimestampMonotonic") != "0")
        said = b.journal(failure)
        assert "[Slack]" in said, said
        assert b.active("bot-operator"), "one client does not touch the others"


def test_a_reboot_brings_everything_back():
    with Machine("reboot") as b:
        b.install()
        b.run("systemctl enable redis-server; echo 'appendonly yes' >> /etc/redis/redis.conf")
        b.jobs(pause=0.01)
        b.jobs("shop", pause=0.01)
        b.run("systemctl enable bot-operator@shop bot-operator-report-daily@shop.timer")
        b.jobs("left", restart=False)
        numbers = range(1500)
        for instance in "bot-operator", "shop":
            b.add(numbers, instance)
            b.wait_for("some work", lambda: len(b.done(instance)) > 50)
        b.reboot()
        seen = len(b.done())
        for unit in UNIT, "bot-operator@shop.service", "redis-server.service", "bot-operator-report-daily@shop.timer":
            assert b.active(unit), unit
        assert not b.active("bot-operator@left.service")
        for instance in "bot-operator", "shop":
            b.all_done(numbers, instance)
            # Redis was stopped after us: what ran was settled.
            assert len(b.done(instance)) == len(numbers), "run twice"
        assert seen < len(numbers), "the load was over too early"


def test_all_stop_and_start_by_their_target():
    with Machine("target") as b:
        b.install()
        b.jobs("shop")
        b.run("systemctl enable bot-operator@shop")
        b.run("systemctl start bot-operator.target")
        b.run("systemctl stop bot-operator.target")
        for unit in UNIT, "bot-operator@shop.service":
            b.wait_for(unit, lambda: not b.active(unit))
        b.run("systemctl start bot-operator.target")
        for unit in UNIT, "bot-operator@shop.service":
            b.wait_for(unit, lambda: b.active(unit))


def test_a_client_has_credentials_and_a_state_of_its_own():
    with Machine("client") as b:
        b.install()
        b.jobs("shop", restart=False)
        b.write("/etc/redis/redis.conf", b.read("/etc/redis/redis.conf") + "\nrequirepass pa55w0rd\n")
        b.run("systemctl restart redis-server")
        b.write("/etc/bot-operator/credentials/shop-redis", "pa55w0rd\n", 0o600)
        b.write("/etc/bot-operator/shop.conf.d/password.conf", "[Queue jobs]\nPasswordFile=%d/redis\n")
        b.write("/etc/systemd/system/bot-operator@shop.service.d/redis.conf",
                "[Service]\nLoadCredential=redis:/etc/bot-operator/credentials/shop-redis\n")
        b.run("systemctl daemon-reload; systemctl start bot-operator@shop")
        b.run("redis-cli --no-auth-warning -a pa55w0rd --pipe", stdin="XADD jobs-shop * body 7\n")
        b.all_done([7], "shop")
        assert os.path.isdir(b.path("/var/lib/bot-operator/shop"))
        assert "pa55w0rd" not in b.run("journalctl -q -o json --no-pager").stdout
        # The sample for clients is good as it is.
        b.run("sed s,/var/spool/bot-operator/%i,/var/spool/bot-operator/sample, "
              "/usr/share/doc/bot-operator/examples/client-sample.conf > /etc/bot-operator/sample.conf")
        b.botctl("check-config", "/etc/bot-operator/sample.conf")
        b.run("systemctl start bot-operator@sample")
        b.botctl("enqueue", "orders", "--body", "one", instance="sample")
        b.wait_for("the sample's message", lambda: b.status("sample")["queues"]["orders"]["done"] == 1)


def test_a_client_may_have_a_user_of_its_own():
    with Machine("user") as b:
        b.install()
        b.run("useradd -r shop")
        # As the unit itself says.
        text = b.read("/lib/systemd/system/bot-operator@.service")
        lines = re.search(r"#\t\[Service\]\n(?:#\t.*\n)+", text).group(0).replace("#\t", "")
        b.write("/etc/systemd/system/bot-operator@shop.service.d/user.conf", lines)
        b.run("systemctl daemon-reload")
        b.jobs("shop")
        b.add(range(10), "shop")
        out = b.path("/var/lib/bot-operator-shop/jobs.out")
        b.wait_for("its messages", lambda: os.path.exists(out) and len(b.read(
            "/var/lib/bot-operator-shop/jobs.out").split()) == 10)
        assert b.run("stat -c %U /var/lib/bot-operator-shop/jobs.out").stdout == "shop\n"
        b.run("botctl --socket /run/bot-operator-shop/shop.sock status")
        assert b.run("su shop -s /bin/sh -c 'ls /var/lib/bot-operator'", check=False).returncode != 0
        b.botctl("status")


def test_an_operator_that_is_root_has_pools_with_users():
    with Machine("users") as b:
        b.install()
        b.run("useradd -r shop")
        # As the unit itself says.
        text = b.read("/lib/systemd/system/bot-operator.service")
        lines = re.search(r"#   User=root\n(?:#   .*\n)+", text).group(0).replace("#   ", "")
        b.write("/etc/systemd/system/bot-operator.service.d/root.conf", "[Service]\n" + lines)
        b.write("/etc/bot-operator/bot-operator.conf.d/users.conf",
                "[Pool users]\nCommand=/usr/bin/id -un\nUser=shop\n"
                "[Queue users]\nType=spool\nPath=/var/spool/bot-operator/users\nPool=users\n")
        b.run("systemctl daemon-reload; systemctl restart bot-operator")
        b.botctl("enqueue", "users", "--body", "x")
        b.wait_for("the message", lambda: b.status()["queues"]["users"]["done"] == 1)
        b.wait_for("its user", lambda: "shop" in b.journal().splitlines())
        b.botctl("enqueue", "spool", "--body", "x")
        b.wait_for("the other", lambda: b.status()["queues"]["spool"]["done"] == 1)
        b.run("systemctl stop bot-operator")
        assert b.show(UNIT, "Result") == "success"
        assert not b.warnings(), b.warnings()


def test_who_was_asked_to_drain_stays_away():
    with Machine("asked") as b:
        b.install()
        b.botctl("drain")
        b.wait_for("the end", lambda: b.show(UNIT, "ActiveState") == "inactive")
        assert b.show(UNIT, "Result", "NRestarts") == {"Result": "success", "NRestarts": "0"}


def test_a_long_drain_is_not_cut_short():
    with Machine("drain") as b:
        b.install()
        b.write("/etc/systemd/system/bot-operator.service.d/test.conf", "[Service]\nTimeoutStopSec=2s\n")
        b.run("systemctl daemon-reload")
        b.jobs(pause=8)
        b.add([1])
        b.wait_for("it to run", lambda: b.status()["pools"]["jobs"]["busy"] == 1)
        b.run("systemctl stop bot-operator")
        assert b.show(UNIT, "Result") == "success"
        assert b.done() == [1]


def later(b, what):
    """Skips when this build cannot do it yet."""
    if what not in b.run("bot-operatord --help; botctl --help").stdout:
        raise rig.Skip("this build does not know %s" % what)


# Ends with a traceback when nobody listens.
ASK = """import sys, time, urllib.request
for i in range(int(sys.argv[1])):
    assert urllib.request.urlopen("http://127.0.0.1:8080/healthz", timeout=30).status == 200
    time.sleep(0.02)
print(i + 1, "answers")
"""


def test_sockets_of_systemd_answer_over_a_restart():
    with Machine("sockets") as b:
        b.install()
        later(b, "--standby")
        b.run("systemctl stop bot-operator; systemctl start bot-operator-status.socket bot-operator-control.socket")
        assert not b.active(UNIT)
        assert b.botctl("--json", "status").stdout, "the first to ask starts it"
        # It answers before it says READY=1.
        b.wait_for("it to be ready", lambda: b.active(UNIT))
        b.run("systemctl stop bot-operator")
        b.write("/srv/ask.py", ASK)
        assert b.run("python3 /srv/ask.py 1").stdout == "1 answers\n", "the first to ask starts it"
        assert b.active(UNIT)
        p = b.popen(["python3", "/srv/ask.py", "60"], stdout=subprocess.PIPE)
        for _ in range(3):
            pid = b.main_pid()
            b.run("systemctl restart bot-operator")
            assert b.main_pid() not in (0, pid)
        assert p.communicate(timeout=60)[0] == b"60 answers\n"
        assert not b.warnings(), b.warnings()


def test_a_standby_takes_over():
    with Machine("standby") as b:
        b.install()
        later(b, "--standby")
        b.jobs("shop")
        b.run("systemctl start bot-operator-backup@shop")
        backup = ["botctl", "--backup", "shop"]
        assert json.loads(b.run(backup + ["--json", "status"]).stdout)["status"] == "standby"
        b.run("systemctl stop bot-operator@shop")
        b.add(range(100), "shop")
        b.run(backup + ["promote"])
        out = "/var/lib/bot-operator/backup/shop/jobs.out"
        b.wait_for("all of them", lambda: os.path.exists(b.path(out)) and len(b.read(out).split()) == 100)
        # What was promoted stays so over a restart.
        b.run("systemctl restart bot-operator-backup@shop")
        b.add(range(100, 120), "shop")
        b.wait_for("the others", lambda: len(set(b.read(out).split())) == 120)
        # And who was stopped asks again.
        b.run("systemctl stop bot-operator-backup@shop; systemctl start bot-operator-backup@shop")
        b.run(backup + ["wait", "standby", "--timeout", "0s"])


def test_reports_come_by_their_timers():
    with Machine("reports") as b:
        b.install()
        later(b, "report")
        for period in "daily", "weekly", "monthly":
            name = "bot-operator-report-%s@bot-operator" % period
            b.run("systemctl enable --now %s.timer" % name)
            assert "bot-operator-report" in b.run("systemctl list-timers --no-pager").stdout
            b.run("systemctl start %s.service" % name)
            assert b.show(name + ".service", "Result") == "success"
            assert b.journal(name + ".service"), "it says nothing"


if __name__ == "__main__":
    rig.main(globals(), jobs=2)
