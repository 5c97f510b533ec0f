"""Workers in control groups of their own, under a real systemd that delegates."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import booted  # noqa: E402
import rig  # noqa: E402

UNIT = """[Service]
Type=notify
NotifyAccess=main
ExecStart=/usr/local/sbin/bot-operatord --config /etc/bot.conf
RuntimeDirectory=bot-operator
StateDirectory=bot-operator
%s
"""

CONF = """[Operator]
Control=/run/bot-operator/bot.sock
[Pool command]
Command=/srv/command
Workers=1
MemoryMax=64M
TasksMax=20
CPUQuota=150%
Timeout=60s
[Pool exec]
Exec=/srv/exec
Workers=1
MemoryMax=64M
Timeout=60s
[Queue commands]
Type=spool
Path=/srv/q/commands
Pool=command
MaxAttempts=1
[Queue execs]
Type=spool
Path=/srv/q/execs
Pool=exec
MaxAttempts=1
"""

# tail keeps what has no end of a line.
EAT = "head -c 300M /dev/zero | tail >/dev/null"

COMMAND = """#!/bin/sh
case $(cat) in
eat) %s || exit 75;;
where) cat /proc/self/cgroup >/srv/where;;
fork) exec 2>/srv/fork; i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i + 1)); done;;
esac
""" % EAT

EXEC = """#!/bin/sh
read hello <&3
echo READY 1 >&3
read msg <&3
%s || exit 1
""" % EAT


def status(b):
    return json.loads(b.run("botctl --json -s /run/bot-operator/bot.sock status").stdout)


def start(b, how):
    b.install_build()
    b.run("chmod 755 /")
    b.write("/etc/bot.conf", CONF)
    b.write("/srv/command", COMMAND, 0o755)
    b.write("/srv/exec", EXEC, 0o755)
    b.write("/etc/systemd/system/bot.service", UNIT % how)
    b.run("systemctl daemon-reload && systemctl start bot")


def enqueue(b, queue, body):
    b.run("botctl -s /run/bot-operator/bot.sock enqueue %s --body %s" % (queue, body))


def dead_type(b, queue):
    b.wait_for("a dead letter", lambda: status(b)["queues"][queue]["dead"] == 1)
    return status(b)["queues"][queue]["errors"]


def test_delegated():
    with booted.Booted("cgroup") as b:
        start(b, "Delegate=yes")
        s = status(b)
        assert s["pools"]["command"]["cgroups"] in ("v1", "v2"), s["pools"]
        assert s["pools"]["command"]["cgroups_missing"] is None
        print("# cgroup " + s["pools"]["command"]["cgroups"])
        enqueue(b, "commands", "where")
        b.wait_for("where", lambda: "worker-command-" in b.run("cat /srv/where", check=False).stdout)
        enqueue(b, "execs", "eat")
        assert dead_type(b, "execs") == {"out_of_memory": 1}, status(b)["queues"]
        enqueue(b, "commands", "eat")
        assert dead_type(b, "commands") == {"out_of_memory": 1}, status(b)["queues"]
        enqueue(b, "commands", "fork")
        b.wait_for("the shell that cannot fork", lambda: status(b)["queues"]["commands"]["dead"] == 2)
        assert "fork" in b.read("/srv/fork").lower(), b.read("/srv/fork")
        # The operator itself was never in danger, and no group is left over.
        assert b.show("bot", "NRestarts") == "0"
        pids = [w["pid"] for w in json.loads(
            b.run("botctl --json -s /run/bot-operator/bot.sock debug workers").stdout)["workers"]]
        assert len(pids) == 2
        groups = b.run("find /sys/fs/cgroup -name 'worker-*' | sed 's,.*/,,' | sort -u").stdout.split()
        assert len(groups) == 2, groups
        b.run("systemctl stop bot")
        assert b.show("bot", "Result") == "success"
        assert not b.run("find /sys/fs/cgroup -name 'worker-*'").stdout


def test_not_delegated():
    with booted.Booted("nocgroup") as b:
        start(b, "")
        s = status(b)["pools"]["command"]
        assert s["cgroups"] == "none" and "Delegate=yes" in s["cgroups_missing"], s
        log = b.run("journalctl -u bot -o cat").stdout
        assert "TasksMax= has no effect: not delegated" in log, log
        assert not b.run("find /sys/fs/cgroup -name 'worker-*'").stdout


def test_another_user():
    """systemd delegates v1 controllers to root only; then the old limits hold."""
    with booted.Booted("cguser") as b:
        b.run("useradd -r -M bot; mkdir -p /srv/q; chown bot /srv/q")
        start(b, "Delegate=yes\nUser=bot")
        s = status(b)["pools"]["command"]
        if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            assert s["cgroups"] == "v2", s
        else:
            assert s["cgroups"] == "none" and "root only" in s["cgroups_missing"], s
        enqueue(b, "commands", "eat")
        b.wait_for("a dead letter", lambda: status(b)["queues"]["commands"]["dead"] == 1)
        assert b.show("bot", "NRestarts") == "0"


if __name__ == "__main__":
    rig.main(globals())
