"""The rig itself: a machine boots, keeps its files over a reboot, and goes."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import booted  # noqa: E402
import rig  # noqa: E402


def test_a_machine_boots_and_reboots():
    with booted.Booted("boot") as b:
        assert b.run("systemctl is-system-running").stdout == "running\n"
        assert b.run("hostname").stdout == "boot\n"
        b.write("/srv/kept", "yes")
        b.write("/etc/systemd/system/hello.service", "[Service]\nExecStart=/bin/sleep 1d\n"
                                                     "[Install]\nWantedBy=multi-user.target\n")
        b.run("systemctl enable --now hello")
        pid = b.show("hello", "MainPID", "ActiveState")
        assert pid["ActiveState"] == "active"
        b.reboot()
        assert b.read("/srv/kept") == "yes"
        assert b.show("hello", "ActiveState") == "active"
        assert b.run("false", check=False).returncode == 1
        folder, groups = b.dir, list(b.cgroups)
        assert groups
    assert not os.path.exists(folder) and not any(map(os.path.exists, groups))
    with booted.Booted("boot") as b:
        assert not os.path.exists(b.path("/srv/kept")), "it starts pristine"


def test_a_build_is_installed_and_runs():
    with booted.Booted("build") as b:
        b.install_build()
        said = b.run("bot-operatord --version; botctl --version").stdout
        assert said.startswith("bot-operator ") and "\nbotctl " in said, said


if __name__ == "__main__":
    rig.main(globals())
