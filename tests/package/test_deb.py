"""The Debian package in a booted machine: install, upgrade, remove, purge."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import packages  # noqa: E402
import rig  # noqa: E402
from packages import Machine  # noqa: E402

CONF = "/etc/bot-operator/bot-operator.conf"


def newer(r, version):
    """Our package as of a later version."""
    deb, = packages.files("deb", "bot-operator_*.deb")
    out = r.path("bot-operator_%s.deb" % version)
    packages.raised(deb, out, version)
    return out


def everything(b):
    """All files of the machine but those that live on their own."""
    out = b.run("find / -xdev -not -type d -o -name 'bot-*' -not -path '/proc/*'").stdout.splitlines()
    own = re.compile("/(proc|sys|dev|run/(?!bot)|tmp/|srv/|var/(log|tmp|cache|lib/(apt|dpkg|systemd))/|"
                     "etc/(ld.so.cache|passwd-|group-|shadow-|gshadow-|subuid-|subgid-|apt/)|root/)")
    return {x for x in out if not own.match(x)}


def test_a_fresh_install_is_enabled_and_runs():
    with Machine("fresh") as b:
        b.install()
        assert b.run("systemctl is-enabled bot-operator").stdout == "enabled\n"
        assert b.active("bot-operator")
        unit = b.show("bot-operator", "StatusText", "NRestarts", "User")
        assert unit["StatusText"] and unit["NRestarts"] == "0" and unit["User"] == "bot-operator", unit
        assert b.run("ps -o uid= -p %d; id -u bot-operator" % b.main_pid()).stdout.split() == [
            b.run("id -u bot-operator").stdout.strip()] * 2
        # The shipped configuration takes messages.
        b.botctl("enqueue", "spool", "--body", "hello\n")
        b.wait_for("the message", lambda: b.status()["queues"]["spool"]["done"] == 1)
        b.wait_for("what the handler said", lambda: "hello" in b.journal())
        # A member of the group is served, others are not.
        b.run("useradd -G bot-operator member; useradd stranger")
        b.run("su member -c 'botctl status && umask 027 && echo hi > /var/spool/bot-operator/tmp/m && "
              "mv /var/spool/bot-operator/tmp/m /var/spool/bot-operator/new/'")
        b.wait_for("the member's message", lambda: b.status()["queues"]["spool"]["done"] == 2)
        assert b.run("su stranger -c 'botctl status'", check=False).returncode != 0
        assert b.run("su stranger -c 'touch /var/spool/bot-operator/new/x'", check=False).returncode != 0
        assert not b.warnings(), b.warnings()


def test_remove_keeps_the_configuration_and_purge_leaves_nothing():
    with Machine("purge") as b:
        b.run("systemctl daemon-reload")
        before = everything(b)
        b.install()
        libraries = everything(b)
        b.botctl("enqueue", "spool", "--body", "hello\n")
        b.write("/etc/bot-operator/shop.conf", b.read(CONF).replace(":8080", ":8081").replace(
            "/var/spool/bot-operator", "/var/spool/bot-operator/shop"))
        b.run("systemctl enable bot-operator-control@shop.socket && "
              "systemctl enable --now bot-operator@shop bot-operator-report-daily@shop.timer")
        b.wait_for("the client", lambda: b.status("shop").get("status") == "ok")
        pids = b.main_pid(), b.main_pid("bot-operator@shop")
        b.apt("remove", "bot-operator")
        for pid in pids:
            assert not os.path.exists(b.path("/proc/%d" % pid)), "still running"
        assert b.run("systemctl list-units --plain --no-legend --state=active 'bot-operator*'").stdout == ""
        assert b.read(CONF) and b.read("/etc/bot-operator/shop.conf"), "the configuration is kept"
        assert os.path.exists(b.path("/var/spool/bot-operator")), "messages are kept"
        b.apt("purge", "bot-operator", "bot-operator-doc")
        left = everything(b) - before
        ours = {x for x in left if x not in libraries or "bot" in x}
        assert not ours, ours
        assert b.run("getent passwd bot-operator; getent group bot-operator", check=False).stdout == ""
        assert b.run("find / -xdev -nouser -not -path '/proc/*' -not -path '/var/log/journal/*'").stdout == ""
        b.run("systemctl daemon-reload")
        assert not b.run("systemctl list-units --all --plain --no-legend 'bot-operator*'").stdout
        assert b.run("systemctl is-system-running", check=False).stdout == "running\n"
        # And comes again.
        b.apt("install", "bot-operator")
        b.wait_for("it to run", lambda: b.status().get("status") == "ok")


def test_an_upgrade_under_load_loses_nothing_and_keeps_what_was_edited():
    r = rig.Rig("deb")
    try:
        with Machine("upgrade") as b:
            b.install()
            b.write(CONF, b.read(CONF) + "\n# edited here\n")
            b.jobs()
            b.jobs("shop")
            for instance in "bot-operator", "shop":
                b.wait_for(instance, lambda: b.status(instance).get("status") == "ok")
            pids = b.main_pid(), b.main_pid("bot-operator@shop")
            b.publish(newer(r, "0.1.0-2"))
            with b.producing("bot-operator", "shop") as numbers:
                for instance in "bot-operator", "shop":
                    b.wait_for("some work", lambda: len(b.done(instance)) > 100)
                b.apt("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold", "upgrade")
            assert b.run("dpkg-query -W -f '${Version}' bot-operator").stdout == "0.1.0-2"
            now = b.main_pid(), b.main_pid("bot-operator@shop")
            assert all(now) and now[0] != pids[0] and now[1] != pids[1], (pids, now)
            assert "edited here" in b.read(CONF) and "This is version 0.1.0-2" in b.read(CONF + ".dpkg-dist")
            for instance in "bot-operator", "shop":
                b.all_done(numbers, instance)
                extra = len(b.done(instance)) - len(numbers)
                assert extra == 0, "%d were run twice, though the stop was in order" % extra
            for unit in "bot-operator.service", "bot-operator@shop.service":
                assert b.show(unit, "NRestarts") == "0"
                assert not b.warnings(unit), b.warnings(unit)
    finally:
        r.close(False)


def test_the_same_input_makes_the_same_packages():
    folder = packages.folder()
    n = 0
    for kind in packages.KINDS:
        for name in sorted(os.listdir(os.path.join(folder, kind))):
            if name.endswith((".deb", ".rpm", ".dsc", ".tar.xz")):
                n += 1
                assert packages.digest(os.path.join(folder, kind, name)) == packages.digest(
                    os.path.join(folder, "again-" + kind, name)), name
    assert n >= 8, n


def test_lintian_finds_no_error():
    changes, = packages.files("deb", "*.changes")
    try:
        p = subprocess.run(["lintian", "--allow-root", "--fail-on", "error,warning", changes], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=120)
    except FileNotFoundError:
        raise rig.Skip("lintian is not installed")
    assert p.returncode == 0, p.stdout


if __name__ == "__main__":
    rig.main(globals(), jobs=2)
